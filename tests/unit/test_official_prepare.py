"""`speed-bench data prepare`: a whole config or nothing, and what was resolved is kept for the next try."""

import importlib.util
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result
from official import BUILDER, QUALITATIVE, RECORDS, SHA256, Memory, masked, plain, throughput, write_mirror

from speed_bench.cli import cli
from speed_bench.data import editions
from speed_bench.data.manifest import turns_sha256
from speed_bench.data.official import builder_file, prepare, resolvers, rows
from speed_bench.data.sources import SOURCES
from speed_bench.errors import ConfigError, DataError

pytestmark = pytest.mark.skipif(importlib.util.find_spec("datasets") is None, reason="needs the data extra")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a mirror, a builder file and 880 published rows."""
    monkeypatch.setattr(builder_file, "SHA256", SHA256)
    (tmp_path / "speed.py").write_text(BUILDER)
    write_mirror(tmp_path / "mirror")
    write_rows(tmp_path, "qualitative", QUALITATIVE, 880)
    return tmp_path


def write_rows(folder: Path, config: str, first: list[dict[str, Any]], count: int) -> None:
    every = [*first, *(plain(number) for number in range(count - len(first)))]
    (folder / "rows").mkdir(exist_ok=True)
    (folder / "rows" / f"{config}.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in every))


def run(place: Path, *more: str, config: str = "qualitative") -> Result:
    given = ("--rows", place / "rows", "--builder-file", place / "speed.py", "--mirror", place / "mirror")
    arguments = ["data", "prepare", "--config", config, "--out", place / "official", *given, *more]
    return CliRunner().invoke(cli, [str(each) for each in arguments])


def manifest(place: Path) -> dict[str, Any]:
    return orjson.loads((place / "official" / "manifest.json").read_bytes())


def waiting(place: Path) -> Path:
    return prepare.partial_path(place / "official", "qualitative", "1.1")


def test_a_prepared_config_is_an_edition_that_says_what_it_was_made_of(place: Path) -> None:
    done = run(place)
    assert done.exit_code == 0, done.output
    dataset = editions.load(str(place / "official"), "qualitative")
    assert (dataset.edition, dataset.version, len(dataset.rows)) == ("official", "1.1", 880)
    said = manifest(place)
    assert said["redistributable"] is False
    assert not any(source["redistributable"] for source in said["sources"].values())
    assert said["builder"]["followed"] == "Model-Optimizer"
    assert said["builder"]["file_sha256"] == SHA256
    assert rows.REVISIONS["1.1"] in said["source"]
    about = said["configs"]["qualitative"]["about"]
    assert about["num_placeholders"] == len(QUALITATIVE)
    assert about["published_files"].keys() == {"qualitative.jsonl"}
    files = said["sources"]["chatrag_bench"]["files"]
    assert files.keys() == {"hybridial/test-00000-of-00001.jsonl", "sqa/test-00000-of-00001.jsonl"}
    assert all(len(file["sha256"]) == 64 for file in files.values())
    entry = said["configs"]["qualitative"]["rows"][dataset.rows[0].question_id]
    assert entry["turns_sha256"] == turns_sha256(dataset.rows[0].turns)
    assert entry["source_id"] == "cnn_dailymail"
    assert not waiting(place).exists()
    assert "does not let resolved text be passed on" in done.stderr


@pytest.mark.long
def test_configs_of_both_kinds_share_a_folder_and_all_makes_each(place: Path) -> None:
    for bucket in (1, 2, 8, 16, 32):
        write_rows(place, f"throughput_{bucket}k", throughput() if bucket == 1 else [], 1536)
    done = run(place, config="all")
    assert done.exit_code == 0, done.output
    assert len(manifest(place)["configs"]) == 6
    assert len(editions.load(str(place / "official"), "throughput_1k").rows) == 1536


def test_the_same_command_gives_the_same_bytes(place: Path) -> None:
    run(place)
    first = {path: path.read_bytes() for path in (place / "official").rglob("*") if path.is_file()}
    assert run(place, "--force").exit_code == 0
    assert {path: path.read_bytes() for path in (place / "official").rglob("*") if path.is_file()} == first


def test_one_row_that_cannot_be_resolved_leaves_nothing_in_the_folder_and_keeps_the_others(place: Path) -> None:
    bad = masked(SOURCES["hle"].url, "h999")
    write_rows(place, "qualitative", [*QUALITATIVE, bad], 880)
    done = run(place)
    assert isinstance(done.exception, DataError)
    assert bad["question_id"] in str(done.exception)
    assert not (place / "official").exists()
    kept = waiting(place).read_bytes().splitlines()
    assert len(kept) == len(QUALITATIVE)
    assert str(waiting(place)) in str(done.exception)


def test_a_second_try_goes_on_and_gives_the_bytes_of_an_uninterrupted_one(place: Path) -> None:
    assert run(place).exit_code == 0
    whole = (place / "official" / "qualitative" / "test-00000-of-00001.parquet").read_bytes()
    bad = masked(SOURCES["hle"].url, "h999")
    write_rows(place, "qualitative", [*QUALITATIVE, bad], 880)
    assert isinstance(run(place, "--force").exception, DataError)
    with waiting(place).open("ab") as file:
        file.write(b'{"question_id": "torn')
    write_rows(place, "qualitative", QUALITATIVE, 880)
    assert run(place, "--force").exit_code == 0
    assert (place / "official" / "qualitative" / "test-00000-of-00001.parquet").read_bytes() == whole


def test_what_was_kept_is_used_for_the_same_row_builder_and_files_only(place: Path) -> None:
    bad = masked(SOURCES["hle"].url, "h999")
    write_rows(place, "qualitative", [*QUALITATIVE, bad], 880)
    run(place)
    lines = [orjson.loads(line) for line in waiting(place).read_bytes().splitlines()]
    marked = [{**line, "turns": ["kept"] * len(line["turns"])} for line in lines]
    assert [len(line["made_from"]) for line in lines] == [4] * len(QUALITATIVE)
    for key in range(4):  # the package, the resolvers, the builder, the row
        marked[key]["made_from"] = [*lines[key]["made_from"][:key], "other", *lines[key]["made_from"][key + 1 :]]
    waiting(place).write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in marked))
    changed = {**RECORDS, ("opus100", "de-en/test"): [{"translation": {"de": "Neu.", "en": "New."}}] * 3}
    write_mirror(place / "mirror", changed)
    write_rows(place, "qualitative", QUALITATIVE, 880)
    assert run(place).exit_code == 0
    made = editions.load(str(place / "official"), "qualitative").rows
    kept = [row.turns == ("kept",) * len(row.turns) for row in made[: len(QUALITATIVE)]]
    again = [i for i, row in enumerate(QUALITATIVE) if "opus" in row["source"] or i < 4]
    assert [i for i, same in enumerate(kept) if not same] == again


def test_another_version_of_the_resolvers_makes_all_rows_anew(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = masked(SOURCES["hle"].url, "h999")
    write_rows(place, "qualitative", [*QUALITATIVE, bad], 880)
    run(place)
    first = waiting(place).read_bytes().splitlines()
    run(place)
    assert waiting(place).read_bytes().splitlines() == first
    monkeypatch.setattr(resolvers, "VERSION", resolvers.VERSION + 1)
    run(place)
    again = [orjson.loads(line) for line in waiting(place).read_bytes().splitlines()[len(first) :]]
    assert [line["turns"] for line in again] == [orjson.loads(line)["turns"] for line in first]


def test_a_damaged_file_of_kept_rows_is_refused(place: Path) -> None:
    waiting(place).write_bytes(b"[]\n")
    assert "is damaged; delete the file" in str(run(place).exception)


def test_expert_rows_of_a_length_are_never_kept(place: Path) -> None:
    bad = masked(SOURCES["hle"].url, "h999")
    write_rows(place, "throughput_1k", [*throughput(), bad], 1536)
    assert isinstance(run(place, config="throughput_1k").exception, DataError)
    path = prepare.partial_path(place / "official", "throughput_1k", "1.1")
    ids = {orjson.loads(line)["question_id"] for line in path.read_bytes().splitlines()}
    assert ids == {row["question_id"] for row in throughput() if "cais/hle" not in row["source"]}


def test_ctrl_c_keeps_what_was_resolved_and_says_where(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> list[str]:
        raise KeyboardInterrupt

    kinds = tuple(
        prepare.Kind(each.source, each.mark, interrupt if each.source == "coser" else each.resolve)
        for each in prepare.KINDS
    )
    monkeypatch.setattr("speed_bench.data.official.resolvers.KINDS", kinds)
    assert run(place).exit_code != 0
    assert len(waiting(place).read_bytes().splitlines()) == len(QUALITATIVE) - 2
    assert not (place / "official").exists()


def test_a_config_that_is_there_is_replaced_with_force_only(place: Path) -> None:
    run(place)
    assert isinstance(run(place).exception, ConfigError)
    assert run(place, "--force").exit_code == 0


def test_rows_of_another_revision_do_not_go_into_the_same_folder(place: Path) -> None:
    run(place)
    assert "holds the edition official 1.1" in str(run(place, "--revision", "v1.0", "--force").exception)


def test_fewer_rows_than_the_config_has_are_refused(place: Path) -> None:
    write_rows(place, "qualitative", QUALITATIVE, 100)
    assert "never fewer than 880" in str(run(place).exception)


def test_a_source_that_is_not_there_is_told_before_any_work(place: Path) -> None:
    write_mirror(place / "without", {key: each for key, each in RECORDS.items() if key[0] != "hle"})
    said = str(run(place, "--mirror", str(place / "without")).exception)
    assert "needs Humanity's Last Exam" in said
    assert "accept the terms on" in said
    assert not waiting(place).exists()


def test_access_to_gated_sources_is_asked_for_before_any_work() -> None:
    class Closed(Memory):
        def check_access(self, sources: Any) -> None:
            assert "hle" in list(sources)
            raise DataError("closed")

    every = [rows.PublishedConfig("qualitative", tuple(rows.parse(row, "-") for row in QUALITATIVE), {})]
    with pytest.raises(DataError, match="closed"):
        prepare.check(every, Closed())


def test_a_row_of_an_unknown_kind_is_told_before_any_work(place: Path) -> None:
    bad = masked("https://huggingface.co/datasets/no/body", "1")
    write_rows(place, "qualitative", [*QUALITATIVE, bad], 880)
    said = str(run(place).exception)
    assert f"row {bad['question_id']} of qualitative: its source" in said
    assert not waiting(place).exists()


def test_a_mirror_whose_file_was_changed_is_refused(place: Path) -> None:
    with (place / "mirror" / "cnn_dailymail" / "3.0.0" / "test-00000-of-00001.jsonl").open("ab") as file:
        file.write(b"\n")
    said = str(run(place).exception)
    assert QUALITATIVE[0]["question_id"] in said
    assert "is not the file that MANIFEST.json describes" in said


def test_unknown_configs_and_one_file_for_all_are_refused(place: Path) -> None:
    assert "did you mean 'throughput_1k'" in str(run(place, config="throughput_1").exception)
    one = place / "rows" / "qualitative.jsonl"
    assert "cannot hold all configs" in str(run(place, "--rows", str(one), config="all").exception)
