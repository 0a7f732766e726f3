"""What users already have becomes an edition."""

from dataclasses import asdict
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner
from hard_rows import MIXED, row
from shared_data import MIRROR, needs_mirror

from speed_bench.cli import cli
from speed_bench.data.editions import load
from speed_bench.data.exchange import imports
from speed_bench.data.exchange.exports import export, num_restricted, target
from speed_bench.data.exchange.imports import facts_of, files_in, read, write
from speed_bench.data.exchange.records import read_file
from speed_bench.data.sources import SOURCES
from speed_bench.data.tables import write_rows
from speed_bench.errors import ConfigError, DataError

QUESTIONS = [
    {"question_id": 81, "category": "writing", "turns": ["Describe a lighthouse.", "Now in one line."]},
    {"question_id": 160, "category": "math", "turns": ["What is 7 × 8?"], "reference": ["56"]},
]


def lines(path: Path, *records: object) -> Path:
    """A file of JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(orjson.dumps(record) + b"\n" for record in records))
    return path


def as_edition(folder: Path, *files: Path, **facts: object) -> dict:
    """The manifest of an edition made of files."""
    found = [read(path) for path in files]
    return write(folder, facts_of(found, **facts), found, force=False)  # type: ignore[arg-type]


@pytest.mark.parametrize("form", ["jsonl", "parquet", "nemo-skills"])
def test_what_is_exported_comes_back_as_the_same_rows(tmp_path: Path, form: str) -> None:
    to = target(form)
    path = tmp_path / f"mine{to.suffixes[0]}"
    export(MIXED, "mine", to, path, turns=None, force=False)
    as_edition(tmp_path / "edition", path, edition="mine")
    dataset = load(str(tmp_path / "edition"), "mine")
    assert dataset.rows == MIXED
    assert dataset.edition == "mine"


def test_the_output_of_model_optimizer_is_told_by_its_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "require_whole", lambda *_: None)
    path = tmp_path / "speed" / "qualitative" / "test.parquet"
    path.parent.mkdir(parents=True)
    write_rows(MIXED, path)
    manifest = as_edition(tmp_path / "edition", *files_in([tmp_path / "speed"]))
    assert (manifest["edition"], manifest["version"]) == ("official", "model-optimizer")
    assert manifest["builder"]["followed"] == "NVIDIA Model-Optimizer"
    assert (manifest["licence"], manifest["redistributable"]) == ("unknown", False)
    about = manifest["configs"]["qualitative"]["about"]
    assert about["format"] == "model-optimizer"
    assert len(about["file"]["sha256"]) == 64
    assert load(str(tmp_path / "edition"), "qualitative").rows == MIXED


def test_the_two_official_builders_cannot_be_one_edition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "require_whole", lambda *_: None)
    export(MIXED, "x", target("nemo-skills"), tmp_path / "throughput_1k.jsonl", turns=None, force=False)
    (tmp_path / "qualitative").mkdir()
    write_rows(MIXED, tmp_path / "qualitative" / "test.parquet")
    with pytest.raises(ConfigError, match="model-optimizer and nemo-skills give different bytes"):
        as_edition(tmp_path / "edition", *files_in([tmp_path]))


def test_only_a_published_name_makes_an_export_the_output_of_an_official_builder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "require_whole", lambda *_: None)
    for name, shape, edition in (("mine", "conversations", "imported"), ("throughput_1k", "nemo-skills", "official")):
        path = tmp_path / f"{name}.jsonl"
        export(MIXED, name, target("nemo-skills"), path, turns=None, force=False)
        assert read(path).shape.name == shape
        said = CliRunner().invoke(cli, ["data", "import", str(path), "--out", str(tmp_path / name)]).output
        assert f"{tmp_path / name}: edition {edition}, version {'1' if edition == 'imported' else shape}, " in said
        assert ("rows as NeMo-Skills makes them" in said) == (edition == "official")
        assert load(str(tmp_path / name), name).rows == MIXED


def test_what_is_exported_as_a_folder_is_imported_as_a_folder(tmp_path: Path) -> None:
    for config in ("mine", "other"):
        export(MIXED, config, target("llama-cpp"), tmp_path / "out", turns=None, force=False)
    inside = tmp_path / "out" / "nvidia" / "SPEED-Bench"
    assert files_in([tmp_path / "out"]) == files_in([inside])
    assert [read(path).config for path in files_in([inside])] == ["mine", "other"]
    assert as_edition(tmp_path / "edition", *files_in([inside]))["edition"] == "imported"


def test_an_edition_needs_no_import_and_a_folder_without_rows_has_none(tmp_path: Path) -> None:
    as_edition(tmp_path / "my edition", lines(tmp_path / "chats.jsonl", {"turns": ["a"]}))
    with pytest.raises(ConfigError, match=r"is an edition already; speed-bench run --edition '.*my edition' takes it"):
        files_in([tmp_path / "my edition"])
    with pytest.raises(DataError, match=r"has neither <config>/\*\.parquet nor <config>\.jsonl"):
        files_in([tmp_path / "my edition" / "chats"])


def test_a_published_name_needs_all_its_rows(tmp_path: Path) -> None:
    export(MIXED, "x", target("nemo-skills"), tmp_path / "qualitative.jsonl", turns=None, force=False)
    with pytest.raises(DataError, match="has 10 rows of qualitative, which is never fewer than 880"):
        read(tmp_path / "qualitative.jsonl")
    assert read(tmp_path / "qualitative.jsonl", config="some").config == "some"


def test_multiturn_follows_the_turns_where_an_official_builder_left_it_as_published(tmp_path: Path) -> None:
    record = {**{name: getattr(MIXED[8], name) for name in MIXED[8].__dataclass_fields__}, "multiturn": False}
    messages = [{"role": "user", "content": turn} for turn in record.pop("turns")]
    found = read(lines(tmp_path / "some.jsonl", {**record, "messages": messages}), shape="nemo-skills")
    assert found.rows[0].multiturn
    assert found.about["multiturn_mended"] == 1


def test_questions_of_spec_bench_and_mt_bench_keep_their_categories(tmp_path: Path) -> None:
    mt_bench = read(lines(tmp_path / "a" / "question.jsonl", *QUESTIONS))
    more = {"question_id": 161, "category": "translation", "turns": ["Translate: Guten Tag."]}
    spec_bench = read(lines(tmp_path / "b" / "question.jsonl", *QUESTIONS, more))
    assert (mt_bench.config, spec_bench.config) == ("mt_bench", "spec_bench")
    assert [each.category for each in spec_bench.rows] == ["writing", "math", "translation"]
    assert [each.src_id for each in spec_bench.rows] == ["81", "160", "161"]
    assert [each.source for each in mt_bench.rows] == ["MT-Bench"] * 2
    assert mt_bench.about["columns_left_out"] == {"reference": 1}
    assert mt_bench.rows[0].question_id != spec_bench.rows[0].question_id


def test_an_id_is_kept_if_it_is_one_and_else_the_same_in_every_import(tmp_path: Path) -> None:
    kept = "0123456789abcdef" * 2
    path = lines(tmp_path / "chats.jsonl", {"id": kept, "turns": ["a"]}, {"id": "q7", "turns": ["b"]}, {"turns": ["c"]})
    first, second = read(path), read(path)
    assert first.rows == second.rows
    assert first.rows[0].question_id == kept
    assert [each.src_id for each in first.rows] == [kept, "q7", "row_2"]
    assert first.rows[1].question_id == "dbc680374df5b3134090bbc02f9e219d"


def test_of_messages_the_users_are_turns_and_the_answers_are_counted(tmp_path: Path) -> None:
    messages = [
        {"role": "user", "content": "Why is the sea salty?"},
        {"role": "assistant", "content": "Rivers carry salts."},
        {"role": "user", "content": "And lakes?"},
    ]
    found = read(lines(tmp_path / "chats.jsonl", {"messages": messages, "model": "m"}), category="sea")
    assert found.rows[0].turns == ("Why is the sea salty?", "And lakes?")
    assert (found.rows[0].category, found.rows[0].source, found.config) == ("sea", "chats.jsonl", "chats")
    assert found.about["answers_left_out"] == 1
    assert found.about["columns_left_out"] == {"model": 1}


def test_a_byte_order_mark_blank_lines_and_windows_line_ends_are_no_matter(tmp_path: Path) -> None:
    path = tmp_path / "chats.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"turns": ["a"]}\r\n\r\n{"turns": ["b"]}\r\n')
    assert [each.turns for each in read(path).rows] == [("a",), ("b",)]


def test_a_licence_is_what_is_given_and_passing_on_needs_one(tmp_path: Path) -> None:
    path = lines(tmp_path / "chats.jsonl", {"turns": ["a"]})
    with pytest.raises(ConfigError, match="--redistributable needs --licence"):
        as_edition(tmp_path / "edition", path, redistributable=True)
    manifest = as_edition(tmp_path / "edition", path, licence="CC0-1.0", redistributable=True)
    assert (manifest["licence"], manifest["redistributable"]) == ("CC0-1.0", True)


def test_questions_of_a_benchmark_have_its_source_and_what_is_known_of_it(tmp_path: Path) -> None:
    path = lines(tmp_path / "question.jsonl", *QUESTIONS)
    others = lines(tmp_path / "chats.jsonl", {"turns": ["a"]})
    manifest = as_edition(tmp_path / "edition", path, others, licence="Apache-2.0", redistributable=True)
    said = manifest["sources"]["mt_bench"]
    assert (said["licence"], said["redistributable"], said["revision"]) == ("Apache-2.0", True, None)
    assert list(said["files"]) == ["question.jsonl"]
    rows = {name: list(each["rows"].values()) for name, each in manifest["configs"].items()}
    assert [each["source_id"] for each in rows["mt_bench"]] == ["mt_bench"] * 2
    assert "source_id" not in rows["chats"][0]
    for config in ("mt_bench", "chats"):
        assert num_restricted(manifest, config, load(str(tmp_path / "edition"), config).rows) == 0


SPEC_BENCH = {"question_id": 161, "category": "translation", "turns": ["Translate: Guten Tag."]}


def test_what_is_no_users_to_give_away_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = lines(tmp_path / "question.jsonl", *QUESTIONS, SPEC_BENCH)
    for shape, sentence in (
        (None, "spec_bench holds rows of Spec-Bench, which may not .* leave out --redistributable; .* --format conv"),
        ("conversations", "of question is from 'question.jsonl', which names Spec-Bench: .* another name"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            facts_of([read(path, shape=shape)], licence="Apache-2.0", redistributable=True)
    named = lines(tmp_path / "mine.jsonl", {"turns": ["a"]}, {"turns": ["b"], "source": "cais/hle"})
    with pytest.raises(ConfigError, match="from 'cais/hle', which names Humanity's Last Exam"):
        facts_of([read(named)], licence="MIT", redistributable=True)
    own = lines(tmp_path / "own.jsonl", *QUESTIONS, SPEC_BENCH)
    assert facts_of([read(own, shape="conversations")], licence="MIT", redistributable=True).redistributable
    record = {key: each for key, each in asdict(row(5, "a")).items() if key != "turns"}
    official = lines(tmp_path / "skills.jsonl", {**record, "messages": [{"role": "user", "content": "a"}]})
    with pytest.raises(ConfigError, match="rows of nvidia/SPEED-Bench, which may not be passed on"):
        facts_of([read(official, shape="nemo-skills")], licence="MIT", redistributable=True)


def test_without_leave_they_are_imported_and_stay(tmp_path: Path) -> None:
    manifest = as_edition(tmp_path / "edition", lines(tmp_path / "q.jsonl", *QUESTIONS, SPEC_BENCH))
    assert manifest["sources"]["spec_bench"]["redistributable"] is False
    freed = {**manifest, "redistributable": True, "sources": {"spec_bench": {"redistributable": True}}}
    for said in (manifest, freed):
        assert num_restricted(said, "spec_bench", load(str(tmp_path / "edition"), "spec_bench").rows) == 3


def test_a_file_is_known_by_its_bytes_whatever_it_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = lines(tmp_path / "own.jsonl", {"turns": ["a"]})
    monkeypatch.setitem(imports._PINNED, read_file(path).sha256, "spec_bench")
    with pytest.raises(ConfigError, match=r"own holds rows of Spec-Bench, which may not be passed on; .*ble$"):
        facts_of([read(path)], licence="MIT", redistributable=True)
    assert as_edition(tmp_path / "edition", path)["sources"]["spec_bench"]["revision"] == SOURCES["spec_bench"].revision


def test_nothing_that_is_there_is_replaced_unasked(tmp_path: Path) -> None:
    path = lines(tmp_path / "chats.jsonl", {"turns": ["a"]})
    as_edition(tmp_path / "edition", path)
    with pytest.raises(ConfigError, match="--force"):
        as_edition(tmp_path / "edition", path)
    other = lines(tmp_path / "more.jsonl", {"turns": ["b"]})
    with pytest.raises(DataError, match="holds the edition imported 1, not imported 2"):
        as_edition(tmp_path / "edition", other, version="2")


def test_the_bundled_edition_has_its_name_for_itself(tmp_path: Path) -> None:
    path = lines(tmp_path / "chats.jsonl", {"turns": ["a"]})
    with pytest.raises(ConfigError, match="the edition 'open' comes with speed-bench"):
        as_edition(tmp_path / "edition", path, edition="open")


def test_rows_of_two_files_with_one_name_are_refused(tmp_path: Path) -> None:
    paths = [lines(tmp_path / folder / "chats.jsonl", {"turns": ["a"]}) for folder in "ab"]
    with pytest.raises(ConfigError, match="two of the files are the same config"):
        as_edition(tmp_path / "edition", *paths)


@needs_mirror
def test_the_real_question_files_are_known_and_whole() -> None:
    spec_bench = read(MIRROR / "spec_bench" / "question.jsonl")
    mt_bench = read(MIRROR / "mt_bench" / "question.jsonl")
    assert (len(spec_bench.rows), len({each.category for each in spec_bench.rows})) == (480, 13)
    assert (len(mt_bench.rows), len({each.category for each in mt_bench.rows})) == (80, 8)
    assert sum(each.multiturn for each in mt_bench.rows) == 80
    for name in ("spec_bench", "mt_bench"):
        assert read(MIRROR / name / "question.jsonl", shape="conversations").source == name


def test_a_row_is_what_it_was_however_often_it_goes_round(tmp_path: Path) -> None:
    rows = (row(5, "Once.", "Twice."),)
    for number, form in enumerate(("nemo-skills", "jsonl", "parquet", "nemo-skills")):
        to = target(form)
        path = tmp_path / str(number) / f"mine{to.suffixes[0]}"
        export(rows, "mine", to, path, turns=None, force=False)
        assert read(path).rows == rows


def test_the_verb_says_what_the_rows_do_not_hold_and_how_to_use_them(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    path = lines(tmp_path / "chats.jsonl", {"messages": messages, "model": "m"})
    edition = tmp_path / "my edition"
    done = CliRunner().invoke(cli, ["data", "import", str(path), "--out", str(edition)])
    assert done.exit_code == 0
    assert done.output.splitlines() == [
        f"{path}: 1 row, conversations",
        "  left out: column model of 1 row",
        "  left out: 1 message of an assistant; later turns carry the model's own answers",
        f"{edition / 'chats'}: 1 row, 1 turn, 1 o200k_base token",
        f"{edition}: edition imported, version 1, licence unknown",
        f"use: speed-bench run --edition '{edition}' --config chats",
    ]
    made = orjson.loads((edition / "manifest.json").read_bytes())
    assert made["builder"]["name"] == "speed-bench data import"
    two = CliRunner().invoke(cli, ["data", "import", str(path), str(path), "--config", "x", "--out", "d"])
    assert "import the files one by one" in two.output
