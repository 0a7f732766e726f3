"""Bad input to `speed-bench data import` is one sentence with the place, and leaves nothing behind."""

import os
from pathlib import Path

import orjson
import pytest
from command import speed_bench
from hard_rows import SINGLE

from speed_bench.data.exchange import records
from speed_bench.data.exchange.imports import facts_of, read, write
from speed_bench.data.schema import PLACEHOLDER
from speed_bench.data.tables import write_rows
from speed_bench.errors import ConfigError, DataError

GOOD = {"turns": ["Why?"]}
ROW = {
    "question_id": "0" * 32,
    "category": "qa",
    "sub_category": None,
    "turns": ["Why is the sky blue?"],
    "source": "tests",
    "src_id": "tests_0",
    "difficulty": None,
    "multiturn": False,
}


def lines(path: Path, *records: object) -> Path:
    """A file of JSON lines."""
    path.write_bytes(b"".join(orjson.dumps(record) + b"\n" for record in records))
    return path


def user(content: object, role: str = "user") -> dict:
    """A message."""
    return {"role": role, "content": content}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "holds no rows"),
        (b"\n \n", "holds no rows"),
        (b'{"turns": ["a"]}\n{"turns": ["b"', r"mine\.jsonl:2 is not JSON"),
        (b'{"turns": ["a"]}\n["b"]\n', r"mine\.jsonl:2 is a list; every line"),
        (b'"text"\n', r"mine\.jsonl:1 is a text"),
        (b"\xff\xfe{\x00}\x00", r"mine\.jsonl:1 is not JSON"),
        (b'{"turns": ["\\ud800"]}\n', r"mine\.jsonl:1 is not JSON"),
        (b'{"turns": ["' + b"\xc3\x28" + b'"]}\n', r"mine\.jsonl:1 is not JSON"),
        (b'{"turns": ' + b"[" * 5000 + b"]" * 5000 + b"}\n", r"mine\.jsonl:1 is not JSON: depth limit exceeded"),
        (b"PAR1 and no more", "is not a Parquet file that can be read"),
    ],
)
def test_what_is_no_file_of_records_is_named_with_its_line(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=sentence):
        read(path)


@pytest.mark.parametrize(
    ("record", "sentence"),
    [
        ({"prompt": "a"}, r"has neither turns nor messages \(its columns: prompt\)"),
        ({"turns": ["a"], "messages": [user("a")]}, "row 2 of .*:2 must have either turns or messages"),
        ({"id": "q", "turns": []}, r"^row q of \S*:2 has no turns$"),
        ({"id": "q", "turns": ["  \n"]}, r"^row q of \S*:2: turn 1 is empty$"),
        ({"id": "q", "turns": "a"}, "row q of .*:2: turns must be a list"),
        ({"id": "q", "turns": [["a"]]}, "row q of .*:2: turn 1 is a list, and a text is expected"),
        (
            {"type": "multi_turn", "turns": [{"text": "a"}]},
            "row 2 of .*:2: turn 1 is an object, and a text is",
        ),
        ({"id": "q", "turns": ["a", 3]}, "turn 2 is a number, and a text is expected"),
        ({"id": "q", "turns": [PLACEHOLDER + "\n\n{x.__class__}"]}, "holds a placeholder"),
        ({"id": 1.5, "turns": ["a"]}, "row 2 of .*:2: its id must be text or a whole number"),
        ({"id": True, "turns": ["a"]}, "its id must be text or a whole number"),
        ({"id": "q", "turns": ["a"], "category": 7}, "category must be text, it is 7"),
        ({"id": "q", "turns": ["a"], "category": "a,b"}, "category 'a,b' cannot be selected with --categories"),
        ({"id": "q", "turns": ["a"], "category": "qa "}, "category 'qa ' cannot be selected with --categories"),
        ({"id": "q", "turns": ["a"], "difficulty": {}}, "difficulty must be text or null"),
        ({"id": "q", "messages": []}, "row q of .*:2: messages must be a list of objects, and not empty"),
        ({"id": "q", "messages": [user("a", "assistant")]}, "has no turns"),
        ({"id": "q", "messages": [user("Be kind.", "system"), user("a")]}, "row q of .*:2 has a message of role 'sys"),
        ({"id": "q", "messages": [user("a", "tool")]}, "has a message of role 'tool', but rows hold user turns only"),
        ({"id": "q", "messages": ["a"]}, "has a message without a role"),
        ({"id": "q", "messages": [user([{"type": "text"}])]}, "row q of .*:2: the content of a message must be text"),
        ({"id": "q", "messages": [user(None)]}, "the content of a message must be text"),
    ],
)
def test_a_record_that_is_no_row_is_named_with_its_line(tmp_path: Path, record: dict, sentence: str) -> None:
    first = () if "prompt" in record else (GOOD,)
    with pytest.raises(DataError, match=sentence):
        read(lines(tmp_path / "mine.jsonl", *first, record))


def test_an_id_that_stands_there_twice_is_named_with_both_lines(tmp_path: Path) -> None:
    path = lines(tmp_path / "mine.jsonl", {"id": 7, "turns": ["a"]}, {"id": "7", "turns": ["b"]})
    with pytest.raises(DataError, match=r"row 7 of .*mine\.jsonl:2 stands at .*mine\.jsonl:1 already"):
        read(path)


@pytest.mark.parametrize("category", ["a,b", " ", "", "a "])
def test_a_category_that_could_never_be_selected_is_not_given(tmp_path: Path, category: str) -> None:
    with pytest.raises(ConfigError, match=f"--category '{category}' cannot be selected with --categories A,B"):
        read(lines(tmp_path / "mine.jsonl", GOOD), category=category)


@pytest.mark.parametrize("column", sorted(ROW))
def test_a_file_with_seven_of_the_eight_columns_is_told_which_it_lacks(tmp_path: Path, column: str) -> None:
    seven = {name: value for name, value in ROW.items() if name != column}
    path = lines(tmp_path / "mine.jsonl", seven)
    with pytest.raises(DataError, match=rf"mine\.jsonl lacks {column}, and has the other seven .*--format conv"):
        read(path)
    if column != "turns":
        assert len(read(path, shape="conversations").rows) == 1


def test_a_row_without_turns_is_named_once(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"^\S*mine\.jsonl:1: row {'0' * 32} has no turns, or an empty one$"):
        read(lines(tmp_path / "mine.jsonl", {**ROW, "turns": [" "]}))


def test_a_line_that_is_too_long_for_a_row_is_not_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_LINE_BYTES", 1000)
    with pytest.raises(DataError, match=r"mine\.jsonl:2 has more than 0 MiB, which no row has"):
        read(lines(tmp_path / "mine.jsonl", GOOD, {"turns": ["a" * 1000]}))


def test_a_masked_official_file_is_refused_with_the_row_and_says_what_to_do(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path / "qualitative"
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist([ROW, {**ROW, "question_id": "1" * 32, "turns": [PLACEHOLDER]}]), folder / "t")
    (folder / "t").rename(folder / "test.parquet")
    with pytest.raises(DataError, match=f"row {'1' * 32} of .*test.parquet, row 2 holds a placeholder.*fetch the text"):
        read(folder / "test.parquet")


@pytest.mark.parametrize("cut", [4, 100, -9])
def test_a_parquet_file_that_is_cut_is_refused(tmp_path: Path, cut: int) -> None:
    write_rows(SINGLE, tmp_path / "whole.parquet")
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "whole.parquet").read_bytes()[:cut])
    with pytest.raises(DataError, match="is not a Parquet file that can be read"):
        read(tmp_path / "cut.parquet")


def test_parquet_of_another_schema_is_refused(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(
        pa.table({**{name: [value] for name, value in ROW.items()}, "turns": [[1, 2]]}), tmp_path / "a.parquet"
    )
    with pytest.raises(DataError, match="has no turns, or an empty one"):
        read(tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "b.parquet")
    with pytest.raises(DataError, match="has neither turns nor messages"):
        read(tmp_path / "b.parquet")


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", "", "x" * 101, "a\nb", "c:d"])
def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    path = lines(tmp_path / "mine.jsonl", GOOD)
    with pytest.raises(ConfigError, match=r"cannot be the name of a config; .*; give --config NAME"):
        read(path, config=name or " ")
    with pytest.raises(ConfigError, match=r"cannot be the name of an edition; .*; give --edition NAME"):
        facts_of([read(path)], edition=name or " ")


def test_a_template_in_a_row_stays_text(tmp_path: Path) -> None:
    turn = "{x.__class__} {0} %(a)s"
    path = lines(tmp_path / "mine.jsonl", {**ROW, "turns": [turn], "src_id": "{0.__globals__}", "category": "../qa"})
    found = read(path)
    assert found.rows[0].turns == (turn,)
    write(tmp_path / "edition", facts_of([found]), [found], force=False)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["edition", "mine.jsonl"]


def test_an_id_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    path = lines(tmp_path / "mine.jsonl", GOOD, {"id": "\x1b[2J\nq", "messages": []})
    with pytest.raises(DataError) as caught:
        read(path)
    assert str(caught.value).isprintable()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write anywhere")
def test_what_may_not_be_read_or_written_is_a_sentence(tmp_path: Path) -> None:
    path = lines(tmp_path / "mine.jsonl", GOOD)
    path.chmod(0)
    with pytest.raises(DataError, match="cannot be read"):
        read(path)


def test_a_bad_file_among_good_ones_leaves_nothing_behind_and_is_one_line(tmp_path: Path) -> None:
    good, bad = lines(tmp_path / "good.jsonl", GOOD), lines(tmp_path / "bad.jsonl", {"turns": [""]})
    done = speed_bench("data", "import", good, bad, "--out", tmp_path / "edition", check=False)
    assert done.returncode == 2
    [sentence] = done.stderr.strip().splitlines()
    assert sentence.startswith("error: row ")
    assert not (tmp_path / "edition").exists()
