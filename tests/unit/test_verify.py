"""Any copy against a manifest."""

import shutil
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner
from hard_rows import MIXED, row

from speed_bench.cli import cli
from speed_bench.data.configs import choose
from speed_bench.data.exchange.copies import verify_copy
from speed_bench.data.exchange.exports import export, target
from speed_bench.data.exchange.imports import facts_of, read, write
from speed_bench.data.schema import PLACEHOLDER
from speed_bench.errors import ConfigError, DataError


@pytest.fixture
def edition(tmp_path: Path) -> Path:
    """An edition with one config, `mine`."""
    export(MIXED, "mine", target("jsonl"), tmp_path / "mine.jsonl", turns=None, force=False)
    found = [read(tmp_path / "mine.jsonl")]
    write(tmp_path / "edition", facts_of(found), found, force=False)
    return tmp_path / "edition"


def copy_of(folder: Path, *rows: object, form: str = "jsonl") -> Path:
    """A copy of rows, by another road."""
    to = target(form)
    path = folder / "copy" / f"mine{to.suffixes[0]}"
    export(rows, "mine", to, path, turns=None, force=True)  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize("form", ["jsonl", "parquet", "nemo-skills"])
def test_a_copy_by_any_road_is_the_same(edition: Path, tmp_path: Path, form: str) -> None:
    [checked] = verify_copy(copy_of(tmp_path, *MIXED, form=form), against=edition / "manifest.json", tokens=True)
    assert (checked.ok, checked.same_order, checked.num_rows, checked.config) == (True, True, 10, "mine")


def test_an_edition_is_checked_against_its_own_manifest(edition: Path) -> None:
    [checked] = verify_copy(edition)
    assert checked.ok
    assert verify_copy("open")[0].ok


@pytest.mark.parametrize("layout", ["mine/test.parquet", "mine.jsonl"])
def test_a_folder_may_be_laid_out_as_either_official_builder_does(edition: Path, tmp_path: Path, layout: str) -> None:
    form = target("parquet" if layout.endswith(".parquet") else "nemo-skills")
    export(MIXED, "mine", form, tmp_path / "out" / layout, turns=None, force=False)
    assert [(each.config, each.ok) for each in verify_copy(tmp_path / "out", against=edition)] == [("mine", True)]


def test_a_manifest_alone_is_enough_and_may_have_any_name(edition: Path, tmp_path: Path) -> None:
    published = shutil.copy(edition / "manifest.json", tmp_path / "published-1.json")
    assert verify_copy(copy_of(tmp_path, *MIXED), against=published)[0].ok


def test_every_row_that_differs_is_listed_with_what_differs(edition: Path, tmp_path: Path) -> None:
    rows = list(MIXED[1:])
    rows[0] = replace(rows[0], turns=(rows[0].turns[0].strip(),))
    rows[1] = replace(rows[1], difficulty="hard")
    path = copy_of(tmp_path, *rows, row(77, "One more."))
    path.write_bytes(path.read_bytes() + path.read_bytes().splitlines()[4] + b"\n")
    [checked] = verify_copy(path, against=edition)
    assert dict(checked.differences) == {
        rows[0].question_id: "is not the text that its manifest describes",
        rows[1].question_id: "has the text that its manifest describes, but other columns",
        f"{77:032x}": "is not in its manifest",
        rows[4].question_id: "stands there twice",
        MIXED[0].question_id: "is missing",
    }


def test_a_row_that_is_still_masked_is_listed_once(edition: Path, tmp_path: Path) -> None:
    path = copy_of(tmp_path, *MIXED)
    masked = {**orjson.loads(path.read_bytes().splitlines()[0]), "turns": [PLACEHOLDER]}
    path.write_bytes(b"\n".join([orjson.dumps(masked), *path.read_bytes().splitlines()[1:]]))
    [checked] = verify_copy(path, against=edition)
    assert [name for name, _ in checked.differences] == [MIXED[0].question_id]
    assert "holds a placeholder" in checked.differences[0][1]


def test_another_order_is_told_and_is_no_difference(edition: Path, tmp_path: Path) -> None:
    [checked] = verify_copy(copy_of(tmp_path, *MIXED[::-1]), against=edition)
    assert (checked.ok, checked.same_order) == (True, False)


def test_lengths_are_counted_again_if_asked(edition: Path) -> None:
    manifest = orjson.loads((edition / "manifest.json").read_bytes())
    manifest["configs"]["mine"]["rows"][MIXED[5].question_id]["num_tokens_o200k"] = [9]
    (edition / "manifest.json").write_bytes(orjson.dumps(manifest))
    assert verify_copy(edition)[0].ok
    [(name, what)] = verify_copy(edition, tokens=True)[0].differences
    assert name == MIXED[5].question_id
    assert what.endswith("o200k_base tokens, its manifest says [9]")


def test_configs_that_a_copy_never_had_are_no_difference_unless_the_manifest_is_its_own(
    edition: Path, tmp_path: Path
) -> None:
    manifest = orjson.loads((edition / "manifest.json").read_bytes())
    manifest["configs"]["more"] = {"rows": {"0" * 32: {"turns_sha256": "00"}}}
    (tmp_path / "published.json").write_bytes(orjson.dumps(manifest))
    assert [each.config for each in verify_copy(edition, against=tmp_path / "published.json")] == ["mine"]
    (edition / "manifest.json").write_bytes(orjson.dumps(manifest))
    assert {each.config: each.ok for each in verify_copy(edition)} == {"mine": True, "more": False}


def test_what_cannot_be_compared_is_named(edition: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown edition 'opne'; did you mean 'open'"):
        verify_copy("opne")
    with pytest.raises(ConfigError, match="unknown edition '/nope'; editions: open, or the path"):
        verify_copy("/nope")
    with pytest.raises(ConfigError, match="unknown config 'min'; did you mean 'mine'"):
        verify_copy(edition, config="min")
    with pytest.raises(DataError, match="is no manifest; name one to compare with"):
        verify_copy(tmp_path / "mine.jsonl")
    with pytest.raises(DataError, match="has none of the configs of"):
        verify_copy(tmp_path / "edition" / "mine", against=edition)
    (tmp_path / "spoilt.json").write_text("{}")
    with pytest.raises(DataError, match="is not a manifest"):
        verify_copy(edition, against=tmp_path / "spoilt.json")


def test_a_config_without_rows_is_no_config(edition: Path) -> None:
    manifest = orjson.loads((edition / "manifest.json").read_bytes())
    manifest["configs"]["empty"] = {"rows": {}}
    (edition / "manifest.json").write_bytes(orjson.dumps(manifest))
    done = CliRunner().invoke(cli, ["data", "verify", str(edition)])
    assert isinstance(done.exception, DataError)
    for check in (verify_copy, choose):
        with pytest.raises(DataError, match=r"manifest\.json lists no row of config empty"):
            check(str(edition))


def test_the_exit_code_tells_same_from_different_and_json_lists_all(edition: Path, tmp_path: Path) -> None:
    same = CliRunner().invoke(cli, ["data", "verify", str(edition)])
    assert (same.exit_code, same.output.splitlines()[0].startswith("mine: 10 rows, ")) == (0, True)
    path = copy_of(tmp_path, *MIXED[2:])
    asked = ["data", "verify", str(path), "--against", str(edition)]
    assert CliRunner().invoke(cli, asked).exit_code == 1
    assert "2 rows differ" in CliRunner().invoke(cli, asked).output
    one = ["data", "verify", str(copy_of(tmp_path, *MIXED[1:])), "--against", str(edition)]
    assert "9 rows, " in CliRunner().invoke(cli, one).output
    assert ", 1 row differs" in CliRunner().invoke(cli, one).output
    copy_of(tmp_path, *MIXED[2:])
    told = orjson.loads(CliRunner().invoke(cli, [*asked, "--json"]).output)
    assert [each["what"] for each in told[0]["differences"]] == ["is missing", "is missing"]
