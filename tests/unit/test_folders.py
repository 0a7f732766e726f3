"""An edition's folder: whole or as it was, whatever happens while it is written."""

from pathlib import Path

import orjson
import pytest
from rows import row, rows

from speed_bench.data import folders
from speed_bench.data.editions import load, read_manifest
from speed_bench.data.folders import EditionFacts, require_new, staged, write_config
from speed_bench.errors import ConfigError, DataError


def facts(edition: str = "mine", **changes: object) -> EditionFacts:
    fields = {
        "edition": edition,
        "version": "1",
        "licence": "CC0-1.0",
        "redistributable": True,
        "source": "tests",
        "builder": {"name": "tests"},
        "sources": {"tests": {"name": "tests", "redistributable": True, "files": {"a.jsonl": {"sha256": "00"}}}},
    }
    return EditionFacts(**{**fields, **changes})  # type: ignore[arg-type]


def test_what_is_written_is_what_a_run_loads(tmp_path: Path) -> None:
    written = [row(1), row(2, "Räum auf!\n", "¿Y después?")]
    write_config(tmp_path, facts(), "chat", written, about={"note": "by hand"}, source_of=lambda _: "tests")
    dataset = load(str(tmp_path), "chat")
    assert dataset.rows == tuple(written)
    entry = read_manifest(tmp_path)["configs"]["chat"]
    assert entry["about"] == {"note": "by hand"}
    assert (entry["num_rows"], entry["num_turns"]) == (2, 3)
    assert entry["rows"][written[1].question_id]["source_id"] == "tests"
    assert len(entry["rows"][written[1].question_id]["num_tokens_o200k"]) == 2


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "other"):
        write_config(tmp_path / name, facts(), "chat", rows(5))
    for file in ("manifest.json", "README.md", f"chat/{folders.PARQUET}"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes()


def test_the_name_of_a_config_does_not_depend_on_the_others(tmp_path: Path) -> None:
    write_config(tmp_path, facts(), "chat", rows(3))
    before = load(str(tmp_path), "chat").manifest_sha256
    write_config(tmp_path, facts(), "more", rows(4))
    assert load(str(tmp_path), "chat").manifest_sha256 == before
    assert load(str(tmp_path), "more").manifest_sha256 != before
    write_config(tmp_path, facts(), "chat", [*rows(3)[::-1]])
    assert load(str(tmp_path), "chat").manifest_sha256 != before, "order is part of what is measured"


def test_configs_join_in_one_manifest_which_vouches_for_the_strictest(tmp_path: Path) -> None:
    write_config(tmp_path, facts(), "chat", rows(3))
    other = {"tests": {"files": {"b.jsonl": {"sha256": "11"}}}, "more": {"redistributable": False}}
    write_config(tmp_path, facts(redistributable=False, sources=other), "more", rows(2))
    write_config(tmp_path, facts(), "last", rows(1))
    manifest = read_manifest(tmp_path)
    assert list(manifest["configs"]) == ["chat", "last", "more"]
    assert set(manifest["sources"]["tests"]["files"]) == {"a.jsonl", "b.jsonl"}
    assert manifest["redistributable"] is False


def test_another_edition_does_not_move_in(tmp_path: Path) -> None:
    write_config(tmp_path, facts(), "chat", rows(3))
    with pytest.raises(DataError, match="holds the edition mine 1, not yours 1; choose another --out"):
        write_config(tmp_path, facts("yours"), "more", rows(3))
    assert list(read_manifest(tmp_path)["configs"]) == ["chat"]


def test_nothing_is_replaced_unasked(tmp_path: Path) -> None:
    require_new(tmp_path, ["chat"], force=False)
    write_config(tmp_path, facts(), "chat", rows(3))
    with pytest.raises(ConfigError, match="chat exists; choose another --out, or --force"):
        require_new(tmp_path, ["chat"], force=False)
    require_new(tmp_path, ["chat"], force=True)


def test_a_failure_while_writing_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_config(tmp_path, facts(), "chat", rows(3))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folders, "_sync", full)
    with pytest.raises(DataError, match="cannot be written: there is no room left"):
        write_config(tmp_path, facts(), "chat", rows(9))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_config_that_its_manifest_does_not_vouch_for_is_refused(tmp_path: Path) -> None:
    """What is on disk if the process dies between the two renames."""
    write_config(tmp_path, facts(), "chat", rows(3))
    manifest = (tmp_path / "manifest.json").read_bytes()
    write_config(tmp_path, facts(), "chat", [row(1), row(2), row(7)])
    (tmp_path / "manifest.json").write_bytes(manifest)
    with pytest.raises(DataError, match=r"row \w{32} of chat .* is not in its manifest, and 1 more row"):
        load(str(tmp_path), "chat")


def test_other_columns_are_noticed_too(tmp_path: Path) -> None:
    write_config(tmp_path, facts(), "chat", [row(1)])
    manifest = (tmp_path / "manifest.json").read_bytes()
    write_config(tmp_path, facts(), "chat", [row(1, difficulty="hard")])
    (tmp_path / "manifest.json").write_bytes(manifest)
    with pytest.raises(DataError, match="has the text that its manifest describes, but other columns"):
        load(str(tmp_path), "chat")


def test_what_a_killed_writer_left_is_cleared_by_the_next(tmp_path: Path) -> None:
    left = tmp_path / ".part-chat-0123"
    left.mkdir()
    (left / "half").write_bytes(b"x")
    with staged(tmp_path / "chat") as place:
        (place / "whole").write_bytes(b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["chat"]
    with pytest.raises(KeyboardInterrupt), staged(tmp_path / "chat"):
        raise KeyboardInterrupt
    assert [path.name for path in (tmp_path / "chat").iterdir()] == ["whole"]


def test_a_spoilt_parquet_file_is_named(tmp_path: Path) -> None:
    write_config(tmp_path, facts(), "chat", rows(3))
    file = tmp_path / "chat" / folders.PARQUET
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"test-00000-of-00001\.parquet is not a Parquet file that can be read"):
        load(str(tmp_path), "chat")


def test_a_row_twice_is_refused_when_it_is_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"row {row(1).question_id} stands there twice"):
        write_config(tmp_path, facts(), "chat", [row(1), row(1)])
    assert not (tmp_path / "manifest.json").exists()


def test_a_manifest_without_rows_is_none(tmp_path: Path) -> None:
    write_config(tmp_path, facts(), "chat", rows(3))
    manifest = read_manifest(tmp_path)
    manifest["configs"]["chat"]["rows"] = [1]
    (tmp_path / "manifest.json").write_bytes(orjson.dumps(manifest))
    with pytest.raises(DataError, match="config chat has no rows with turns_sha256"):
        load(str(tmp_path), "chat")


def test_a_killed_writer_that_took_the_old_folder_away_loses_nothing(tmp_path: Path) -> None:
    write_config(tmp_path, facts(), "chat", rows(3))
    (tmp_path / "chat").rename(tmp_path / ".part-chat-0123.old")
    with pytest.raises(ValueError, match="later"), staged(tmp_path / "chat"):
        raise ValueError("later")
    assert len(load(str(tmp_path), "chat").rows) == 3


def test_a_rename_that_fails_puts_the_old_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_config(tmp_path, facts(), "chat", rows(3))
    rename = Path.rename

    def fails_into_place(self: Path, target: Path) -> Path:
        if target == tmp_path / "chat" and not self.name.endswith(".old"):
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fails_into_place)
    with pytest.raises(DataError, match="what it held before is untouched"):
        write_config(tmp_path, facts(), "chat", rows(9))
    assert len(load(str(tmp_path), "chat").rows) == 3
    assert not list(tmp_path.glob(".part-*"))


def test_an_out_that_cannot_be_used_is_refused_before_any_work(tmp_path: Path) -> None:
    write_config(tmp_path / "theirs", facts("theirs"), "chat", rows(3))
    with pytest.raises(DataError, match="holds the edition theirs 1, not mine 1; choose another --out"):
        require_new(tmp_path / "theirs", ["more"], force=True, edition=("mine", "1"))
    require_new(tmp_path / "theirs", ["more"], force=False, edition=("theirs", "1"))
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match="file is a file; --out takes a folder"):
        require_new(tmp_path / "file", ["chat"], force=True)
    with pytest.raises(ConfigError, match="file is a file"):
        require_new(tmp_path / "file" / "deep", ["chat"], force=True)


def test_a_config_whose_folder_is_gone_is_named(tmp_path: Path) -> None:
    write_config(tmp_path, facts(), "chat", rows(3))
    (tmp_path / "chat" / folders.PARQUET).unlink()
    with pytest.raises(DataError, match=r"has no rows of chat: neither chat/\*\.parquet nor chat\.jsonl is there"):
        load(str(tmp_path), "chat")


def test_a_config_whose_name_leads_elsewhere_is_no_config(tmp_path: Path) -> None:
    write_config(tmp_path, facts(), "chat", rows(3))
    manifest = read_manifest(tmp_path)
    manifest["configs"]["../chat"] = manifest["configs"]["chat"]
    (tmp_path / "manifest.json").write_bytes(orjson.dumps(manifest))
    with pytest.raises(ConfigError, match=r"'\.\./chat' cannot be the name of a config"):
        load(str(tmp_path), "chat")
