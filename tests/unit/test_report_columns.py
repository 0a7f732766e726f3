"""Tables that are wider than a terminal."""

import io
import re

import pytest
from rich.console import Console

from speed_bench.report.columns import Column, print_columns, split

KEYS = [Column("C\n", ["1", "16*"]), Column("arm\n", ["draft of\\[3] tokens", "none"], justify="left", folds=True)]
NUMBERS = [Column(f"head{number}\nms p50", [f"{number}2345", f"{number}.25"]) for number in range(7)]


def shown(columns: list[Column], width: int, *, num_keys: int = 2, terminal: int = 200, **options) -> str:
    text = io.StringIO()
    console = Console(file=text, width=terminal, force_terminal=True, color_system=None)
    print_columns(columns, console, num_keys=num_keys, width=width, **options)
    return text.getvalue()


def words(text: str, pattern: str) -> list[str]:
    return re.findall(pattern, text)


@pytest.mark.parametrize("width", [100, 80, 60, 40, 30, 20])
def test_every_heading_and_value_is_whole_and_there_once_at_any_width(width: int) -> None:
    text = shown([*KEYS, *NUMBERS], width)
    assert words(text, r"head\d") == [f"head{number}" for number in range(7)]
    assert words(text, r"\d2345") == [f"{number}2345" for number in range(7)]
    assert words(text, r"\d\.25") == [f"{number}.25" for number in range(7)]
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= max(width, 27)  # one column beside keys that are folded as far as can be


def test_one_table_where_it_fits_and_the_fewest_where_it_does_not() -> None:
    assert words(shown([*KEYS, *NUMBERS], 100), "arm") == ["arm"]
    text = shown([*KEYS, *NUMBERS], 75)
    assert [len(words(each, r"head\d")) for each in text.split("arm")[1:]] == [4, 3]  # not 5 and 2
    assert words(text, r"16\*") == ["16*", "16*"]


def test_columns_that_belong_together_stay_so() -> None:
    pairs = [
        Column(f"{name}\n{percentile}", ["1.00", "2.00"], with_previous=percentile == "p99")
        for name in ("TTFT", "ITL", "E2E")
        for percentile in ("p50", "p99")
    ]
    console = Console(file=io.StringIO(), width=80)
    for room in range(24, 70):
        for part in split([*KEYS, *pairs], console, num_keys=2, room=room):
            assert [column.heading.partition("\n")[2] for column in part] == ["p50", "p99"] * (len(part) // 2)


def test_keys_that_leave_no_room_are_folded_between_words_and_in_words_only_where_that_is_not_enough() -> None:
    long = [Column("model\n", ["of the many words that there are", "none"], justify="left", folds=True), *NUMBERS]
    assert "of the many" in shown(long, 30, num_keys=1)
    assert max(map(len, shown(long, 30, num_keys=1).splitlines())) <= 30
    path = [Column("model\n", ["meta-llama/Llama-3.3-70B-Instruct", "none"], justify="left", folds=True), *NUMBERS]
    text = shown(path, 30, num_keys=1)
    assert max(map(len, text.splitlines())) <= 30
    assert "meta-llama/Llama-3.3-70B-Instruct" in shown(path, 100, num_keys=1)


def test_what_does_not_fit_at_all_is_wider_and_not_cut() -> None:
    text = shown([*KEYS, Column("interval\n", ["1234 [1200, 1300]", "–"])], 10, terminal=10)
    assert "1234 [1200, 1300]" in text


def test_only_the_first_table_has_the_title_and_none_needs_keys_or_rows() -> None:
    assert shown([*KEYS, *NUMBERS], 40, title="best by TPOT").count("best by TPOT") == 1
    assert words(shown(NUMBERS, 30, num_keys=0), r"head\d") == [f"head{number}" for number in range(7)]
    assert "head0" in shown([Column("head0\n", [])], 30, num_keys=0)
    assert "C" in shown(KEYS, 30)
