"""From the records of the sources to the candidates of every category."""

import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from shared_data import MIRROR, needs_mirror
from source_records import RECORDS, paragraph, question, write_mirror

from speed_bench.data.candidates import RECIPES, Candidate, Pools, distinct, pools
from speed_bench.data.candidates.candidate import row_id
from speed_bench.data.candidates.passages import WORDS, chapters, passages
from speed_bench.data.candidates.questions import LANGUAGES
from speed_bench.data.schema import CATEGORIES
from speed_bench.data.sources import SOURCES
from speed_bench.data.sources.library import Mirror
from speed_bench.errors import ConfigError, DataError

PAGE = Path(__file__).parent.parent.parent / "docs" / "data" / "candidates.md"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Pools:
    return pools(Mirror(write_mirror(tmp_path_factory.mktemp("mirror"))))


@pytest.mark.parametrize("seed", range(3))
def test_candidates_do_not_depend_on_the_order_in_which_a_mirror_lists_its_files(
    tmp_path: Path, found: Pools, seed: int
) -> None:
    names = list(RECORDS)
    random.Random(seed).shuffle(names)
    again = pools(Mirror(write_mirror(tmp_path, {name: RECORDS[name] for name in names})))
    assert again == found
    assert distinct(again) == distinct(found)


def of(found: Pools, source: str, category: str | None = None) -> list[Candidate]:
    every = [each for pool in found.of.values() for each in pool if each.source == source]
    return [each for each in every if category in (None, each.row.category)]


def from_files(folder: Path, files: dict[str, Any]) -> Pools:
    return pools(Mirror(write_mirror(folder, files)))


def test_every_source_of_the_recipe_gives_candidates_and_every_category_has_some(found: Pools) -> None:
    assert set(found.sources) == set(RECIPES)
    assert tuple(found.of) == CATEGORIES
    assert all(found.of.values())
    assert dict(found.left_out) == {"mcif": "its published fields are not known"}


def test_a_row_says_where_it_is_from(found: Pools) -> None:
    every = [each for pool in found.of.values() for each in pool]
    assert len({each.row.question_id for each in every}) == len(every)
    for each in every:
        assert each.row.source == SOURCES[each.source].url
        assert each.row.category in SOURCES[each.source].feeds
        assert (each.row.difficulty is not None) <= (each.row.category in ("coding", "humanities", "math", "stem"))
        assert len(each.texts) == len(each.row.turns) or len(each.texts) == 1
        assert all(
            text.strip() in turn or each.source in {"rolebench", "clapnq"}
            for text, turn in zip(each.texts, each.row.turns, strict=False)
        )
    [row] = [each.row for each in of(found, "livecodebench") if each.row.src_id == "9"]
    assert row.question_id == row_id("coding", "livecodebench", "9")


def test_the_published_forms_of_src_id(found: Pools) -> None:
    names = {source: [each.row.src_id for each in of(found, source)] for source in RECIPES}
    assert names["humanevalpack"] == ["Go/0", "Go/1", "Go/2"]
    assert names["code_contests"] == ["12_C. Locks", "12_K. Dykes"]
    assert names["gsm8k"] == ["gsm8k_0", "gsm8k_1_2", "gsm8k_3", "gsm8k_4"]
    assert names["mtbench101"] == ["mtbench_101_0", "mtbench_101_1"]
    assert names["creative_writing_v3"] == ["creative_writing_v3_1"]
    assert names["writingbench"] == ["writing_bench_4"]
    assert names["opus100"] == ["opus100_de-en_0", "opus100_de-en_1"]
    assert names["coser"] == ["coser_0", "coser_1"]
    assert names["chatrag_bench"] == ["chatrag_bench_1", "chatrag_bench_3"]
    assert {"spec_bench_0", "401_402"} <= set(names["spec_bench"])
    assert "mmlu_pro_(1, 'history')" in names["mmlu_pro"]
    assert names["rolebench"][1] == "rolebench_role-generalization_1_rolebench_role-generalization_2"


def test_difficulty_is_that_of_the_source(found: Pools) -> None:
    graded = {(each.source, each.row.difficulty) for pool in found.of.values() for each in pool if each.row.difficulty}
    assert graded == {
        ("spec_bench", "medium"),
        ("spec_bench", "easy"),
        ("livecodebench", "easy"),
        ("livecodebench", "hard"),
        ("code_contests", "easy"),
        ("code_contests", "medium"),
        ("hle", "hard"),
        ("gsm8k", "easy"),
        ("mmath", "medium"),
        ("mmlu_pro", "medium"),
    }


def test_a_task_is_shown_bare_or_to_complete_or_to_repair(found: Pools) -> None:
    turns = {each.row.src_id: each.row.turns[0] for each in of(found, "humanevalpack")}
    prompt = RECORDS["humanevalpack/data/go/data/humanevalpack.jsonl"][2]["prompt"]  # type: ignore[index]
    assert turns["Go/2"] == prompt  # as published
    assert "return 0" in turns["Go/1"]
    assert "```go" in turns["Go/0"]
    assert "return 0" not in turns["Go/0"]
    assert "Go" in turns["Go/0"]


def test_the_other_schema_of_code_contests_gives_the_same_rows(tmp_path: Path, found: Pools) -> None:
    records = [
        {"prompt": f"'''\n{question(120)}\n\n'''\ndef solution(stdin: str):", "meta_data": {"task_name": "12_C. Locks"}}
    ]
    [row] = from_files(tmp_path, {"code_contests/zeroshot.jsonl": records}).rows["coding"]
    assert row == of(found, "code_contests")[0].row


def test_no_question_of_mmlu_pro_is_used_twice_and_conversations_are_of_consecutive_rows(found: Pools) -> None:
    every = [text for each in of(found, "mmlu_pro") for text in each.texts]
    assert len(every) == len(set(every)) == 42
    assert "Only one?" not in " ".join(every)
    business = of(found, "mmlu_pro", "reasoning")
    sizes = [len(each.row.turns) for each in business if each.row.sub_category == "business"]
    assert sizes == [1, 2, 3]
    assert {each.row.category for each in of(found, "mmlu_pro")} == {"humanities", "stem", "math", "reasoning"}


def test_a_problem_of_mmath_is_in_one_language_only(found: Pools) -> None:
    taken = Counter(each.row.src_id for each in of(found, "mmath"))
    assert taken == dict.fromkeys((f"mmath_{gid}" for gid in range(12)), 1)
    assert {each.row.sub_category for each in of(found, "mmath", "multilingual")} == {f"{it}_math" for it in LANGUAGES}


def test_a_translation_is_never_in_its_own_prompt(found: Pools) -> None:
    into_english, into_german = of(found, "opus100")
    both = RECORDS["opus100/de-en/test.jsonl"][0]["translation"]  # type: ignore[index]
    assert both["de"] in into_english.row.turns[0]
    assert both["en"] not in into_english.row.turns[0]
    assert both["en"] in into_german.row.turns[0]
    assert both["de"] not in into_german.row.turns[0]
    assert (into_english.row.sub_category, into_german.row.sub_category) == ("de-en", "en-de")


def test_a_role_is_asked_one_two_and_three_questions_and_described_where_that_is_known(found: Pools) -> None:
    pilot = [each.row for each in of(found, "rolebench") if "Pilot" in each.row.turns[0]]
    assert [len(row.turns) for row in pilot] == [1, 2, 3]
    assert all("never lost a ship" in row.turns[0] for row in pilot)
    smith = [each.row for each in of(found, "rolebench") if "Smith" in each.row.turns[0]]
    assert [len(row.turns) for row in smith] == [1, 1]


def test_a_scene_has_the_motive_under_either_name_and_no_empty_profile(found: Pools) -> None:
    for scene in of(found, "coser"):
        [turn] = scene.row.turns
        assert ("wants to sail" in turn) != ("wants to stay" in turn)
        assert ("Play Mate" in turn) == ("wants to sail" in turn)
        assert "Absent" not in turn
        assert "None" not in turn


def test_scenes_of_a_part_are_numbered_as_in_the_whole(tmp_path: Path) -> None:
    scenes = RECORDS["coser/test/test_set.json"]
    files = {"coser/test/test_set.part.json": scenes, "coser/test/test_set.row_index.json": {"rows": [4, 19]}}
    assert [row.src_id for row in from_files(tmp_path, files).rows["roleplay"]] == ["coser_4", "coser_19"]
    files["coser/test/test_set.row_index.json"] = {"rows": [4]}
    with pytest.raises(DataError, match="a row number for each of the 2 scenes"):
        from_files(tmp_path, files)


def test_of_a_dialogue_the_longest_of_at_most_five_turns_stays(found: Pools) -> None:
    assert [len(each.row.turns) for each in of(found, "chatrag_bench")] == [3, 2]
    assert all(
        paragraph(350 if n == 0 else 330) in each.row.turns[0] for n, each in enumerate(of(found, "chatrag_bench"))
    )


def test_documents_stand_in_one_category_only(found: Pools) -> None:
    answered = of(found, "clapnq", "rag")
    assert [len(each.row.turns) for each in answered] == [1, 2]
    assert Counter(each.row.category for each in of(found, "clapnq")) == {"rag": 2, "qa": 2, "summarization": 2}
    summed_up = [each.texts[0] for each in of(found, "clapnq", "summarization")]
    assert not any(document in each.row.turns[0] for document in summed_up for each in answered)


def test_passages_end_where_a_paragraph_ends_and_are_as_long_as_asked() -> None:
    paragraphs = [paragraph(n, 20) for n in range(200)]
    cut = passages(paragraphs, "\n\n", 2)
    for place, passage in enumerate(cut[:-1]):
        wanted = WORDS[(2 + place) % len(WORDS)]
        assert wanted <= len(passage.split()) < wanted + 40
        assert set(passage.split("\n\n")) <= set(paragraphs)


def test_a_book_is_its_chapters_without_contents_preface_and_licence() -> None:
    first, second = chapters(str(RECORDS["gutenberg/harbour_99.txt"]))
    assert first.startswith(paragraph(900))
    assert second.endswith(paragraph(969))


def test_what_looks_like_a_template_in_a_record_is_text(tmp_path: Path) -> None:
    nasty = "{x.__class__} {what} {0} {language} %s {{role}} \\1 \\g<0>"
    files = {
        "livecodebench/test.jsonl": [
            {"question_id": "1", "question_content": nasty, "starter_code": nasty, "difficulty": "easy"}
        ],
        "cnn_dailymail/3.0.0/test.jsonl": [{"id": "a", "article": nasty}],
        "rolebench/rolebench-eng/role-generalization/role_specific/test.jsonl": [
            {"role": "{what} \\1", "question": nasty}
        ],
        "opus100/de-en/test.jsonl": [{"translation": {"de": nasty * 3, "en": "no"}}],
    }
    rows = [row for pool in from_files(tmp_path, files).rows.values() for row in pool]
    assert len(rows) == 4
    assert all(nasty in row.turns[0] for row in rows)
    assert any("{what} \\1" in row.turns[0] for row in rows if row.category == "roleplay")


@pytest.mark.parametrize(
    ("file", "record", "sentence"),
    [
        ("gsm8k/test.jsonl", {"answer": "7"}, "record 1 of gsm8k/test.jsonl: question must be a text"),
        ("gsm8k/test.jsonl", {"question": "  "}, "record 1 of gsm8k/test.jsonl: question must be a text"),
        (
            "spec_bench/question.jsonl",
            {"category": "poetry", "turns": ["a"]},
            "category 'poetry' is not one of writing",
        ),
        ("spec_bench/question.jsonl", {"category": "qa", "turns": []}, "turns must be a list of texts"),
        ("humanevalpack/x.jsonl", {"task_id": "Ada/1", "prompt": "a"}, "task_id 'Ada/1' is not one of Python, Go"),
        ("code_contests/x.jsonl", {"prompt": "no docstring"}, "neither name and description, nor"),
        ("mtbench101/x.jsonl", {"task": "GR", "history": [{"bot": "b"}]}, "every entry of history must have user"),
        ("opus100/de-en/x.jsonl", {"translation": {"de": "x"}}, "translation has no text in 'en'"),
        ("clapnq/x.jsonl", {"id": "1", "input": "a", "passages": "b"}, "passages must be a list of objects"),
        ("writingbench/benchmark_all.jsonl", {"query": "a", "domain1": "b"}, "index must be a whole number"),
        ("coser/test/test_set.json", {"major_characters": ["A"]}, "character_profiles must be an object"),
    ],
)
def test_a_record_that_is_not_as_published_is_named(tmp_path: Path, file: str, record: dict, sentence: str) -> None:
    [first, *others] = next(content for name, content in RECORDS.items() if name.split("/")[0] == file.split("/")[0])
    with pytest.raises(DataError, match=sentence):
        from_files(tmp_path, {file: [first, record, *others]})


def test_two_records_of_one_id_are_refused_unless_they_are_the_same(tmp_path: Path) -> None:
    record = {"question_id": "1", "question_content": "a", "starter_code": "", "difficulty": "easy"}
    assert len(from_files(tmp_path, {"livecodebench/test.jsonl": [record, record]}).of["coding"]) == 1
    with pytest.raises(DataError, match="livecodebench has two different records that go by '1'"):
        from_files(tmp_path, {"livecodebench/test.jsonl": [record, {**record, "question_content": "b"}]})


def test_sources_that_are_not_there_or_not_wanted_are_told(tmp_path: Path) -> None:
    library = Mirror(write_mirror(tmp_path, {"gsm8k/test.jsonl": RECORDS["gsm8k/test.jsonl"]}))
    assert pools(library).left_out["hle"] == "not in this library"
    assert pools(library, without=["gsm8k"]).left_out["gsm8k"] == "left out on request"
    with pytest.raises(ConfigError, match="unknown source 'gsm8'; did you mean 'gsm8k'"):
        pools(library, without=["gsm8"])


def test_a_prompt_that_two_categories_could_have_stays_in_the_smaller_one(tmp_path: Path) -> None:
    article = paragraph(7, 80)
    spec = [{"question_id": n, "category": "qa", "turns": [question(n)]} for n in range(4)]
    files = {
        "spec_bench/question.jsonl": [*spec, {"question_id": 9, "category": "qa", "turns": [article]}],
        "cnn_dailymail/3.0.0/test.jsonl": [{"id": "a", "article": article.upper()}],
    }
    kept, removed = distinct(from_files(tmp_path, files))
    assert [each.row.src_id for each in kept.of["summarization"]] == ["a"]
    assert len(kept.of["qa"]) == 4
    [gone] = removed
    assert (gone.kept, gone.similarity) == (kept.rows["summarization"][0].question_id, 1.0)


def test_a_problem_is_found_where_it_is_half_of_a_conversation(tmp_path: Path) -> None:
    problem = paragraph(3, 40)
    files = {
        "spec_bench/question.jsonl": [
            {"question_id": n, "category": "math_reasoning", "turns": [text]}
            for n, text in enumerate([question(1), problem])
        ],
        "gsm8k/test.jsonl": [{"question": problem}],
    }
    kept, removed = distinct(from_files(tmp_path, files))
    assert [each.row.src_id for each in kept.of["math"]] == ["0_1"]
    assert len(removed) == 1


def test_the_page_names_every_source_with_the_categories_that_it_feeds(found: Pools) -> None:
    table = dict(re.findall(r"^\| `(\w+)` \| ([^|]*) \|", PAGE.read_text("utf-8"), re.MULTILINE))
    assert {source: set(feeds.split()) for source, feeds in table.items() if source in RECIPES} == {
        source: {each.row.category for each in of(found, source)} for source in RECIPES
    }


@needs_mirror
def test_the_whole_mirror_gives_candidates_for_every_category() -> None:
    whole = pools(Mirror(MIRROR))
    assert all(len(pool) >= 150 for pool in whole.of.values())
    assert set(whole.left_out) == {"mcif", "hle", "opus100", "chatrag_bench", "cnn_dailymail"}


@needs_mirror
@pytest.mark.long
def test_of_the_whole_mirror_every_category_keeps_enough_and_no_two_share_a_prompt() -> None:
    kept, removed = distinct(pools(Mirror(MIRROR)))
    assert all(len(pool) >= 150 for pool in kept.of.values())
    assert len(removed) > 500
    assert distinct(kept)[1] == []
