"""Prompts as files of other tools. That the tools read them is tested with the tools: tests/exchange, tests/engines."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner
from hard_rows import MIXED, SINGLE

from speed_bench.cli import cli
from speed_bench.cli.data.exchange import export as verb
from speed_bench.data.editions import load
from speed_bench.data.exchange.exports import export, num_restricted, target
from speed_bench.data.exchange.targets import TARGETS
from speed_bench.errors import ConfigError, DataError

ROOT = Path(__file__).parent.parent.parent


def written(folder: Path, form: str, turns: str | None = None, rows: tuple = MIXED) -> Path:
    """Rows as a file of that form."""
    to = target(form)
    path = folder / (f"prompts{to.suffixes[0]}" if to.suffixes else "folder")
    export(rows, "mine", to, path, turns=turns, force=False)  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize("form", [name for name, to in TARGETS.items() if not to.all_turns])
def test_a_form_of_one_turn_refuses_several_unless_they_are_given_up(tmp_path: Path, form: str) -> None:
    with pytest.raises(ConfigError, match=r"2 of the 10 rows of mine have more than one turn, and .* --turns first"):
        written(tmp_path, form)
    assert list(tmp_path.iterdir()) == []
    assert len(written(tmp_path, form, "first").read_bytes().splitlines()) == 10
    done = export(MIXED, "mine", target(form), tmp_path / "again.jsonl", turns="first", force=False)
    assert (done.num_rows, done.num_turns, done.num_turns_left_out) == (10, 10, 3)


@pytest.mark.parametrize("form", [name for name, to in TARGETS.items() if not to.all_turns])
def test_rows_of_one_turn_need_no_leave(tmp_path: Path, form: str) -> None:
    assert len(written(tmp_path, form, rows=SINGLE).read_bytes().splitlines()) == len(SINGLE)


@pytest.mark.parametrize("form", sorted(TARGETS))
def test_nothing_is_replaced_unasked_and_the_same_rows_give_the_same_bytes(tmp_path: Path, form: str) -> None:
    path = written(tmp_path, form, "first")
    with pytest.raises(ConfigError, match="--force to replace it"):
        written(tmp_path, form, "first")
    before = contents(path)
    export(MIXED, "mine", target(form), path, turns="first", force=True)
    assert contents(path) == before
    assert not [each for each in tmp_path.rglob("*") if each.name.startswith(".part-")]


@pytest.mark.parametrize("form", [name for name, to in TARGETS.items() if to.suffixes])
def test_a_name_that_the_reader_would_not_take_is_refused(tmp_path: Path, form: str) -> None:
    with pytest.raises(ConfigError, match="must end in"):
        export(MIXED, "mine", target(form), tmp_path / "prompts.txt", turns="first", force=False)


def test_a_form_that_is_none_is_named_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="unknown format 'vlm'; did you mean 'vllm'"):
        target("vlm")


def test_requests_to_sglang_hold_messages_and_nothing_that_a_server_would_get(tmp_path: Path) -> None:
    for line in written(tmp_path, "sglang-openai", "first").read_bytes().splitlines():
        assert set(orjson.loads(line)) == {"messages"}


def test_a_folder_takes_one_config_after_the_other(tmp_path: Path) -> None:
    for config in ("qualitative", "starter"):
        export(MIXED, config, target("llama-cpp"), tmp_path, turns=None, force=False)
    card = (tmp_path / "nvidia" / "SPEED-Bench" / "README.md").read_text("utf-8")
    assert card.count("config_name") == 2
    with pytest.raises(ConfigError, match="qualitative exists"):
        export(MIXED, "qualitative", target("llama-cpp"), tmp_path, turns=None, force=False)


def test_a_place_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        export(SINGLE, "mine", target("jsonl"), tmp_path / "file" / "prompts.jsonl", turns=None, force=False)


def test_texts_that_may_not_be_passed_on_are_counted_by_the_rule_that_publishing_has() -> None:
    rows = SINGLE[:3]
    said: tuple[dict[str, str], ...] = ({"source_id": "free"}, {"source_id": "kept"}, {})
    entries = {each.question_id: entry for each, entry in zip(rows, said, strict=True)}
    sources = {"free": {"redistributable": True}, "kept": {}}
    manifest = {"edition": "curated", "configs": {"mine": {"rows": entries}}, "sources": sources}
    assert num_restricted(manifest, "mine", rows) == 2
    assert num_restricted(manifest, "mine", rows[:1]) == 0
    whole = {"edition": "mine", "configs": {"mine": {"rows": {key: {} for key in entries}}}, "redistributable": True}
    assert num_restricted(whole, "mine", rows) == 0
    assert num_restricted(whole, "mine", [replace(rows[0], source="Spec-Bench"), *rows[1:]]) == 1


@pytest.mark.parametrize("sources", [["a"], {"a": "b"}, "a", 1, None])
@pytest.mark.parametrize("source_id", [["a"], {"a": 1}, "a", 1, None])
def test_an_odd_manifest_frees_no_text_and_is_no_accident(sources: Any, source_id: Any) -> None:
    rows = {SINGLE[0].question_id: {"source_id": source_id}}
    manifest = {"edition": "mine", "configs": {"mine": {"rows": rows}}, "sources": sources, "builder": "me"}
    assert num_restricted(manifest, "mine", SINGLE[:1]) == 1


def test_random_tokens_are_exported_though_no_manifest_describes_them(tmp_path: Path) -> None:
    arguments = ["--edition", "random:100", "--config", "random", "--to", "jsonl", "--out", str(tmp_path / "r.jsonl")]
    done = CliRunner().invoke(cli, ["data", "export", *arguments])
    assert done.exit_code == 0, done.output
    assert "512 rows" in done.output
    assert "may not be passed on" not in done.output


@pytest.mark.parametrize("categories", [",", "", " , "])
def test_categories_that_name_none_are_not_all_of_them(tmp_path: Path, categories: str) -> None:
    arguments = ["--categories", categories, "--to", "jsonl", "--out", str(tmp_path / "prompts.jsonl")]
    done = CliRunner().invoke(cli, ["data", "export", *arguments])
    assert isinstance(done.exception, ConfigError)
    assert str(done.exception) == "--categories names no category; leave it out for all of them"
    assert not list(tmp_path.iterdir())


def test_one_is_not_several(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="1 of the 1 rows of mine has more than one turn"):
        written(tmp_path, "vllm", rows=tuple(row for row in MIXED if row.multiturn)[:1])


def test_the_verb_says_what_was_left_out_and_how_to_use_the_file(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    said = CliRunner().invoke(cli, ["data", "export", "--to", "vllm", "--turns", "first", "--out", str(path)]).output
    assert "left out: 33 later turns" in said
    assert f"use: vllm bench serve --dataset-name custom --dataset-path {path}" in said
    assert "may not be passed on" not in said
    assert [orjson.loads(line)["prompt"] for line in path.read_bytes().splitlines()] == [
        row.turns[0] for row in load("open", "starter").rows
    ]


def test_help_and_the_page_list_every_form_and_how_many_turns_it_holds() -> None:
    text = (verb.help or "") + (ROOT / "docs" / "data" / "exchange.md").read_text("utf-8")
    for name, to in TARGETS.items():
        assert f"{name:<13}  {'all  ' if to.all_turns else 'first'}" in text
        assert f"| `{name}` |" in text


def contents(path: Path) -> dict[str, bytes]:
    """What a file or a folder holds."""
    files = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file())
    return {str(each): each.read_bytes() for each in files}
