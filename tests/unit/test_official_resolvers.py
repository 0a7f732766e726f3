"""Masked rows of all thirteen kinds get the prompts of the recipe, and rows that are not to be trusted get none."""

import hashlib
import importlib.util
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest
from official import (
    OBJECTS,
    QUALITATIVE,
    RECORDS,
    Memory,
    asked,
    builder,
    config,
    masked,
    plain,
    replies,
    throughput,
)
from official_plainly import plainly
from shared_data import needs_o200k

from speed_bench.data import o200k
from speed_bench.data.official import prepare, recipe, resolvers
from speed_bench.data.official.partial import Partial
from speed_bench.data.official.prepare import Resolved
from speed_bench.data.official.records import Records
from speed_bench.data.official.resolvers import KINDS, kind_of
from speed_bench.data.official.rows import parse
from speed_bench.data.sources import SOURCES
from speed_bench.data.sources.library import Record
from speed_bench.errors import DataError

pytestmark = pytest.mark.skipif(importlib.util.find_spec("datasets") is None, reason="needs the data extra")


def resolved(
    name: str, rows: list[dict[str, Any]], folder: Path, library: Memory | None = None, partial: str = "p"
) -> Resolved:
    with Partial(folder / partial, "builder") as waiting:
        return prepare.resolve(config(name, rows), builder(), Records(library or Memory()), waiting, lambda *_: None)


def problem(row: dict[str, Any], folder: Path, library: Memory | None = None, name: str = "qualitative") -> str:
    """Why one row cannot be resolved."""
    with pytest.raises(DataError) as error:
        resolved(name, [row], folder, library)
    assert row["question_id"] in str(error.value)
    return str(error.value)


def test_a_qualitative_row_of_every_kind_is_what_the_plain_recipe_gives(tmp_path: Path) -> None:
    made = resolved("qualitative", QUALITATIVE, tmp_path)
    for row, result in zip(QUALITATIVE, made.rows, strict=True):
        assert list(result.turns) == plainly(parse(row, "-"), None, {}), row["src_id"]


def test_a_throughput_row_of_every_kind_is_what_the_plain_recipe_gives(tmp_path: Path) -> None:
    rows, state = throughput(), {}
    made = resolved("throughput_1k", rows, tmp_path)
    for row, result in zip(rows, made.rows, strict=True):
        assert list(result.turns) == plainly(parse(row, "-"), 1000, state), row["src_id"]


@needs_o200k
def test_other_prompts_need_another_version_of_the_resolvers(tmp_path: Path) -> None:
    made = resolved("qualitative", QUALITATIVE, tmp_path), resolved("throughput_1k", throughput(), tmp_path)
    turns = orjson.dumps([row.turns for config in made for row in config.rows])
    assert (resolvers.VERSION, hashlib.sha256(turns).hexdigest()[:16]) == (1, "608414744ad1cc42")


def test_a_file_that_cannot_be_had_is_asked_for_once_and_every_row_of_it_is_counted(tmp_path: Path) -> None:
    class Cut(Memory):
        def __init__(self) -> None:
            super().__init__()
            self.asked: list[tuple[str, str]] = []

        def records(self, source: str, file: str) -> tuple[Record, ...]:
            self.asked.append((source, file))
            if source == "cnn_dailymail":
                raise DataError("the server answered 503")
            return super().records(source, file)

        def text(self, source: str, file: str) -> str:
            self.asked.append((source, file))
            raise DataError("the server answered 429")

    library = Cut()
    played = next(row for row in QUALITATIVE if row["src_id"].startswith("rolebench"))
    rows = [*QUALITATIVE, *({**played, "question_id": f"{number:032x}"} for number in range(3))]
    with pytest.raises(DataError, match="the server answered 503; nor can 6 more: "):
        resolved("qualitative", rows, tmp_path, library)
    assert set(Counter(library.asked).values()) == {1}
    assert {("cnn_dailymail", "3.0.0/test"), ("rolebench", "profiles-eng/desc.json")} <= set(library.asked)
    assert len((tmp_path / "p").read_bytes().splitlines()) == len(QUALITATIVE) - 4


def test_every_kind_is_among_the_rows_of_these_tests() -> None:
    seen = Counter(kind_of(parse(row, "-")).source for row in (*QUALITATIVE, *throughput()))
    assert set(seen) == {kind.source for kind in KINDS}
    assert len(KINDS) == 13


def test_rows_that_hold_their_prompt_stay_as_they_are_and_in_order(tmp_path: Path) -> None:
    rows = [plain(1), QUALITATIVE[0], plain(2)]
    made = resolved("qualitative", rows, tmp_path)
    assert [row.question_id for row in made.rows] == [row["question_id"] for row in rows]
    assert made.rows[0].turns == tuple(rows[0]["turns"])


def test_prompts_of_a_length_have_it_whether_cut_or_padded(tmp_path: Path) -> None:
    rows = [row for row in throughput() if "cais/hle" not in row["source"]]
    for row in resolved("throughput_1k", rows, tmp_path).rows:
        assert o200k.count(row.turns[0]) == pytest.approx(1000, abs=3), row.src_id


def test_what_is_drawn_for_an_expert_row_depends_on_the_rows_before_it_and_on_no_other_config(tmp_path: Path) -> None:
    rows = [masked(SOURCES["hle"].url, name) for name in asked()[:4]]
    both = resolved("throughput_1k", rows, tmp_path).rows
    assert resolved("throughput_1k", rows, tmp_path).rows == both
    assert resolved("throughput_1k", rows[1:], tmp_path).rows[0] != both[1]


def test_the_exam_is_halved_as_datasets_3_4_and_5_all_do() -> None:
    halves = orjson.dumps(recipe._halves(2500))
    assert hashlib.sha256(halves).hexdigest() == HALVES


def test_each_file_of_a_source_is_read_once_for_all_rows(tmp_path: Path) -> None:
    library = Memory()
    resolved("qualitative", QUALITATIVE, tmp_path, library)
    assert max(Counter(library.parsed).values()) == 1


def test_a_right_answer_beyond_those_that_fit_stands_in_front_of_each_of_them(tmp_path: Path) -> None:
    library = Memory({**RECORDS, ("adaleval", "data/stackselect_1k.json"): [replies(7, 3, (5, 6000, 8))]})
    row = masked("http://opencompass.openxlab.space/utils/AdaLEval/stackselect_1k.json", "q7")
    [prompt] = resolved("throughput_1k", [row], tmp_path, library).rows[0].turns
    first, _, right = replies(7, 3, (5, 6000, 8))["all_answers"]
    assert f"A1 = {right}{first}\n" in prompt


def test_a_reference_translation_in_a_prompt_is_told(tmp_path: Path) -> None:
    rows = [row for row in QUALITATIVE if "opus" in row["source"]]
    about = resolved("qualitative", rows, tmp_path).about
    assert about["reference_translation_in_prompt"] == [rows[1]["question_id"]]
    assert "none" in resolved("qualitative", rows[:1], tmp_path).about["reference_translation_in_prompt"]


def test_multiturn_says_what_the_prompts_are_and_a_row_that_said_otherwise_is_listed(tmp_path: Path) -> None:
    row = masked(SOURCES["mtbench101"].url, "mtbench_101_2", multiturn=False)
    made = resolved("qualitative", [row], tmp_path)
    assert (len(made.rows[0].turns), made.rows[0].multiturn) == (3, True)
    assert made.about["multiturn_set_from_turns"] == [row["question_id"]]


@pytest.mark.parametrize(
    "template",
    [
        "{article.__class__}",
        "{article.__class__.__mro__}",
        "{article!r}",
        "{article:>99999999}",
        "{article[0]}",
        "{0}",
        "{}",
        "{self}",
        "{question}",
        "{article[a][b]}",
        "{article",
        "article}",
        "{article:{article}}",
    ],
)
def test_a_template_that_is_more_than_names_is_refused_with_the_row_s_id(template: str, tmp_path: Path) -> None:
    said = problem(masked(SOURCES["cnn_dailymail"].url, "c0", template=template), tmp_path)
    assert "template" in said


def test_a_key_that_the_record_does_not_have_is_refused(tmp_path: Path) -> None:
    row = masked(SOURCES["opus100"].url, "opus100_de-en_1", template="{question[__class__]}")
    assert "which its record does not have" in problem(row, tmp_path)


def test_braces_in_a_record_are_text(tmp_path: Path) -> None:
    record = {"id": "c9", "article": "{article.__class__} {{}} {0}"}
    library = Memory({**RECORDS, ("cnn_dailymail", "3.0.0/test"): [record]})
    row = masked(SOURCES["cnn_dailymail"].url, "c9", template="Sum: {article}")
    assert resolved("qualitative", [row], tmp_path, library).rows[0].turns == (f"Sum: {record['article']}",)


HALVES = "7ed552ecc0ebf4b2f9714c1283ee599c499b5b73b004b9e037f08ad50ffbc850"
HLE, TALKS = SOURCES["hle"].url, "https://github.com/RUCAIBox/BAMBOO/blob/main/datasets"


@pytest.mark.parametrize(
    ("source", "src_id", "reason"),
    [
        ("https://huggingface.co/datasets/../../etc/cais/hle", "h000", "no address"),
        ("file:///etc/passwd#cais/hle", "h000", "no address"),
        ("https://evil.example/cais/hle", "h000", "no address"),
        ("https://huggingface.co@evil.example/cais/hle", "h000", "no address"),
        ("/etc/cais/hle", "h000", "no address"),
        ("https://huggingface.co/datasets/nobody/nothing", "h000", "none that masked rows"),
        (f"{TALKS}/showspred_4k.jsonl.bak", "bamboo_1", "no file of BAMBOO"),
        (f"{TALKS}/private_eval_16k.jsonl", "bamboo_1", "no file of BAMBOO"),
        (f"{TALKS}/showspred_4k.jsonl", "../bamboo_1", "names no record"),
        (f"{TALKS}/showspred_4k.jsonl", "bamboo", "names no record"),
        (f"{TALKS}/showspred_4k.jsonl", "bamboo_99", "12 records"),
        (f"{TALKS}/showspred_4k.jsonl", "bamboo_" + "9" * 5000, "names no record"),
        (SOURCES["mtbench101"].url.replace("61bc4faa", "0badc0de"), "mtbench_101_1", "is pinned here"),
        (SOURCES["mtbench101"].url, "mtbench_101_-1", "names no record"),
        (SOURCES["mtbench101"].url, "mtbench_101_٣", "names no record"),
        (SOURCES["opus100"].url, "opus100_../../x_1", "names no record"),
        (SOURCES["opus100"].url, "opus100_fr-en_1", "no fr-en/test"),
        (SOURCES["mmlu_pro"].url, "mmlu_pro_(4, 'tides', x)", "names no record"),
        (SOURCES["mmlu_pro"].url, "mmlu_pro_(5, 'tides')", "5 records"),
        (SOURCES["mmlu_pro"].url, "mmlu_pro_(1, 'clocks')", "not in the published order"),
        (SOURCES["rolebench"].url, "rolebench_../x_1", "names no record"),
        (SOURCES["rolebench"].url, "rolebench_instruction-generalization_1", "has no rolebench-eng"),
        (SOURCES["coser"].url, "coser_2", "2 records"),
        (HLE, "h999", "no record with id"),
    ],
)
def test_an_address_or_number_that_leads_nowhere_is_refused_with_the_row_s_id(
    source: str, src_id: str, reason: str, tmp_path: Path
) -> None:
    name = "throughput_1k" if "BAMBOO" in source else "qualitative"
    assert reason in problem(masked(source, src_id, template="{question}"), tmp_path, name=name)


SCENE = ("coser", "test/test_set.json")
PAIR = masked(SOURCES["opus100"].url, "opus100_de-en_0", template="{question}")


def of(source: str) -> dict[str, Any]:
    """The first qualitative row of a source."""
    return next(row for row in QUALITATIVE if kind_of(parse(row, "-")).source == source)


@pytest.mark.parametrize(
    ("key", "record", "row", "reason"),
    [
        (("cnn_dailymail", "3.0.0/test"), {"id": "c0", "article": None}, of("cnn_dailymail"), "no text in 'article'"),
        (("hle", "default/test"), {"id": "h000"}, of("hle"), "no text in 'question'"),
        (("mtbench101", "data/subjective/mtbench101.jsonl"), {"history": [{}]}, of("mtbench101"), "in 'history'"),
        (("opus100", "de-en/test"), {"translation": "Satz"}, PAIR, "no object in 'translation'"),
        (("chatrag_bench", "hybridial/test"), {"ctxs": [{"text": 1}], "messages": []}, of("chatrag_bench"), "'ctxs'"),
        (("mmlu_pro", "default/test"), {"category": "tides", "options": "AB"}, of("mmlu_pro"), "no list of texts"),
        (SCENE, {**RECORDS[SCENE][0], "major_characters": []}, of("coser"), "has no major_characters"),
        (SCENE, {**RECORDS[SCENE][0], "character_profiles": {}}, of("coser"), "has no profile of"),
    ],
)
def test_a_record_of_another_schema_is_refused_with_the_row_s_id(
    key: tuple[str, str], record: dict[str, Any], row: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    assert reason in problem(row, tmp_path, Memory({**RECORDS, key: [record]}))


def test_newer_copies_of_coser_which_lack_the_motivation_are_refused(tmp_path: Path) -> None:
    record = RECORDS["coser", "test/test_set.json"][0]
    newer = {**record, "key_characters": [{"name": name, "thought": "-"} for name in record["major_characters"]]}
    said = problem(QUALITATIVE[-2], tmp_path, Memory({**RECORDS, ("coser", "test/test_set.json"): [newer]}))
    assert "no 'motivation'" in said


def test_a_role_without_description_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OBJECTS, ("rolebench", "profiles-eng/desc.json"), {"Other": "-"})
    [row] = [row for row in QUALITATIVE if "RoleBench" in row["source"]]
    assert "describes no 'Harbour Master'" in problem(row, tmp_path)


def test_a_source_that_is_made_to_a_length_has_none_in_qualitative(tmp_path: Path) -> None:
    assert "this config has none" in problem(throughput()[0], tmp_path)


def test_a_bare_placeholder_where_a_template_belongs_is_no_prompt(tmp_path: Path) -> None:
    assert "still a placeholder" in problem(masked(SOURCES["cnn_dailymail"].url, "c0"), tmp_path)


def test_the_first_row_that_cannot_be_resolved_is_told_with_how_many_more(tmp_path: Path) -> None:
    rows = [QUALITATIVE[0], *(masked(HLE, f"h9{i:02}") for i in range(8)), plain(1)]
    with pytest.raises(
        DataError, match=f"row {rows[1]['question_id']} of qualitative .* nor can 7 more: .*, …; nothing"
    ):
        resolved("qualitative", rows, tmp_path)
