"""Editions: what ships, and what is refused."""

from collections import Counter
from pathlib import Path

import orjson
import pytest

from speed_bench.data.editions import BUNDLED, load, select
from speed_bench.data.manifest import describe_rows
from speed_bench.data.schema import CATEGORIES, COLUMNS, PLACEHOLDER, conversation
from speed_bench.errors import ConfigError, DataError

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


def edition(folder: Path, *rows: dict, described: list[dict] | None = None) -> str:
    """A folder that is an edition of these rows."""
    entries = describe_rows(dict.fromkeys(conversation(row, "rows") for row in (described or rows)), len)
    manifest = {"edition": "mine", "version": "1", "configs": {"starter": {"rows": entries}}}
    (folder / "manifest.json").write_bytes(orjson.dumps(manifest))
    (folder / "starter.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return str(folder)


def test_starter_holds_eight_conversations_of_each_category() -> None:
    dataset = load("open", "starter")
    assert Counter(row.category for row in dataset.rows) == dict.fromkeys(CATEGORIES, 8)
    assert len({row.question_id for row in dataset.rows}) == len({row.turns for row in dataset.rows}) == 88
    multiturn = [row for row in dataset.rows if row.multiturn]
    assert len(multiturn) >= 0.2 * 88
    assert {len(row.turns) for row in multiturn} <= {2, 3, 4}
    assert all(row.sub_category for row in dataset.rows)
    graded = {row.category for row in dataset.rows if row.difficulty}
    assert graded == {"coding", "humanities", "math", "stem"}


def test_no_two_prompts_of_a_category_open_alike() -> None:
    openings = [(row.category, *row.turns[0].split()[:3]) for row in load("open", "starter").rows]
    assert [opening for opening, count in Counter(openings).items() if count > 1] == []


def test_the_published_columns_are_all_there_in_the_file() -> None:
    for line in (BUNDLED["open"] / "starter.jsonl").read_bytes().splitlines():
        assert tuple(orjson.loads(line)) == COLUMNS


def test_a_selection_keeps_the_order_and_the_first_of_each_category() -> None:
    rows = load("open", "starter").rows
    chosen = select(rows, ("math", "coding"), 2)
    assert [row.category for row in chosen] == ["coding", "coding", "math", "math"]
    assert chosen == tuple(row for row in rows if row in chosen)
    assert chosen[0] == rows[0]
    assert select(rows, None, None) == rows


def test_a_category_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match="unknown category 'maths'; did you mean 'math'"):
        select(load("open", "starter").rows, ("maths",), None)
    with pytest.raises(DataError, match="no prompts are left"):
        select((), None, 1)


def test_an_edition_of_ones_own_is_a_folder(tmp_path: Path) -> None:
    dataset = load(edition(tmp_path, ROW), "starter")
    assert (dataset.edition, dataset.version, len(dataset.rows)) == ("mine", "1", 1)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"turns": [PLACEHOLDER + "\n\n{article}"]}, "holds a placeholder"),
        ({"turns": []}, "has no turns"),
        ({"turns": "Why?"}, "turns must be a list"),
        ({"turns": ["a", "b"]}, "says multiturn=False but has 2"),
        ({"question_id": "xyz"}, "is not 32 hex"),
        ({"answer": "Rayleigh"}, "has unknown answer; its columns must be"),
    ],
)
def test_a_row_that_cannot_be_used_stops_with_its_name(tmp_path: Path, change: dict, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        load(edition(tmp_path, {**ROW, **change}, described=[ROW]), "starter")


def test_a_text_that_is_not_the_one_described_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not the text that its manifest describes"):
        load(edition(tmp_path, {**ROW, "turns": ["Why is the sky blue? "]}, described=[ROW]), "starter")
    with pytest.raises(DataError, match="is missing"):
        load(edition(tmp_path, described=[ROW]), "starter")
    with pytest.raises(DataError, match="stands there twice"):
        load(edition(tmp_path, ROW, ROW), "starter")


@pytest.mark.parametrize(
    ("name", "config", "sentence"),
    [
        ("opne", "starter", "unknown edition 'opne'; did you mean 'open'"),
        ("open", "startr", r"unknown config 'startr'; did you mean 'starter'\? configs: starter \(edition open\)"),
        ("open", "qualitative", "unknown config 'qualitative'"),
    ],
)
def test_an_unknown_edition_or_config_is_named(name: str, config: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        load(name, config)


def test_a_folder_without_a_manifest_or_with_a_spoilt_one_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"manifest\.json cannot be read"):
        load(str(tmp_path), "starter")
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(DataError, match="is not JSON"):
        load(str(tmp_path), "starter")
    edition(tmp_path, ROW)
    (tmp_path / "starter.jsonl").write_text("[1]\n")
    with pytest.raises(DataError, match=r"starter\.jsonl:1 is not a row"):
        load(str(tmp_path), "starter")
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(DataError, match="is not a manifest"):
        load(str(tmp_path), "starter")
