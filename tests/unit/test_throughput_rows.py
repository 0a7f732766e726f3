"""The throughput configs of the curated edition, from records invented here and from the real ones."""

import hashlib
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson
import pytest
from shared_data import MIRROR, needs_mirror, needs_o200k
from source_records import write_mirror

from speed_bench.data.configs import BUCKETS, ROWS_PER_TIER, TIERS
from speed_bench.data.o200k import count
from speed_bench.data.sources import SOURCES
from speed_bench.data.sources.library import Mirror, Record
from speed_bench.data.throughput import RECIPES, Bucket, throughput_rows, tokens_of
from speed_bench.data.throughput.families import MOST_PADDING, Family, permutation
from speed_bench.data.throughput.pieces import Draft, composed, measured, part
from speed_bench.data.throughput.stock import Stock
from speed_bench.errors import ConfigError, DataError

WORDS = (
    *("the", "harbour", "office", "keeps", "every", "letter", "that", "was", "never", "sent"),
    *("while", "rain", "moves", "slowly", "over", "old", "tin", "roofs", "and"),
)
NUM_RECORDS = 24
HOSTILE = "{x.__class__} {0} %s \\1 <|endoftext|> ../../etc"


def prose(seed: int, num_words: int) -> str:
    """Words in an order that differs from seed to seed, a sentence a line."""
    words = [WORDS[(seed * 7 + place * (seed % 5 + 1) + place // 11) % len(WORDS)] for place in range(num_words)]
    lines = [" ".join(words[at : at + 9]).capitalize() + f" {seed}." for at in range(0, num_words, 9)]
    return "\n".join(lines)


class Shelf:
    """A library of invented records, in the published schemas."""

    def __init__(self, files: dict[str, dict[str, list[dict[str, Any]]]], texts: dict[str, str]) -> None:
        self._files = files
        self._texts = texts

    def files(self, source: str) -> tuple[str, ...]:
        return (*self._files.get(source, ()), *(self._texts if source == "gutenberg" else ()))

    def records(self, source: str, file: str) -> tuple[Record, ...]:
        return tuple(Record(source, file, row, fields) for row, fields in enumerate(self._files[source][file]))

    def text(self, source: str, file: str) -> str:
        return self._texts[file]

    def facts(self, source: str) -> dict[str, Any]:
        return {"from": "invented"}

    def check_access(self, sources: Iterable[str]) -> None:
        pass


def invented(num_records: int = NUM_RECORDS) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Records of every source that a tier may draw from, `num_records` of each."""
    rows = range(num_records)
    return {
        "humanevalpack": {
            f"data/{name.lower()}/data/humanevalpack.jsonl": [
                {
                    "task_id": f"{name}/{row}",
                    "prompt": f"def {name.lower()}_{row}(x):\n    # {prose(row, 30)[:90]}\n",
                    "canonical_solution": f"    return x + {row}\n",
                    "test": f"assert {name.lower()}_{row}(1) == {row + 1}  # {prose(row + 7, 20)[:60]}",
                }
                for row in rows
            ]
            for name in ("Python", "Go")
        },
        "bamboo": {
            "datasets/private_eval_16k.jsonl": [
                {
                    "prompt": "# [start]\n# Notes:"
                    + "\n".join(f"# # call_{n}(x): {prose(n, 18)[:80]}" for n in range(40))
                    + f"\n\n# [end]\nimport lib\n\n# task {row}\nout = ",
                    "canonical_solution": [f" lib.call_{row}(1)"],
                }
                for row in rows
            ],
            "datasets/showssort_4k.jsonl": [
                {"content": [prose(100 + row * 5 + scene, 90) for scene in range(4)], "answer": [0, 1, 2, 3]}
                for row in rows
            ],
            "datasets/showspred_4k.jsonl": [
                {"content": f"{prose(300 + row, 900)}\n" + '"And then–" said by ', "answer": "Ida"} for row in rows
            ],
            "datasets/meetingpred_4k.jsonl": [
                {"content": prose(400 + row, 300 + row) + HOSTILE, "answer": "the Chair"} for row in rows
            ],
        },
        "adaleval": {
            "data/stackselect_1k.json": [
                {
                    "question_id": str(row),
                    "question": f"{prose(500 + row, 40)}?",
                    "all_answers": [prose(600 + row * 3 + answer, 60) for answer in range(3)],
                    "answer": "A2",
                }
                for row in rows
            ],
            "data/textsort_1k.json": [{"prompt": prose(700 + row, 200)} for row in rows],
        },
        "mmlu_pro": {
            "data/test.jsonl": [
                {
                    "question": f"{prose(800 + row, 20)}?",
                    "options": [f"option {row} {letter}" for letter in "wxyz"],
                    "answer": "B",
                    "cot_content": "",
                    "category": ("history", "physics")[row % 2],
                }
                for row in range(4 * num_records)
            ]
        },
        "hle": {
            "default/test": [
                {
                    "id": f"h{row}",
                    "question": f"{prose(900 + row, 25)}?",
                    "image": "data:" if row % 4 == 0 else "",
                    "rationale": prose(950 + row, 40),
                    "category": "Math",
                }
                for row in rows
            ]
        },
        "writingbench": {
            "benchmark_query/benchmark_all.jsonl": [
                {"index": row, "query": "请写一篇文章" * 30 if row % 5 == 0 else prose(40 + row, 150)} for row in rows
            ]
        },
        "repobench": {
            "python/cross_file_first": [
                {
                    "context": [{"identifier": "f", "path": f"a/{row}.py", "snippet": prose(20 + row, 60)}],
                    "import_statement": "import a",
                    "cropped_code": f"def later_{row}():\n    {prose(30 + row, 30)[:100]}",
                    "next_line": f"    return {row}",
                }
                for row in rows
            ]
        },
        "long_code_arena": {
            "medium/test": [
                {
                    "repo_snapshot": {"filename": ["x.py", "y.md"], "content": [prose(60 + row, 200), ""]},
                    "completion_file": {"filename": "z.py", "content": prose(70 + row, 120)},
                }
                for row in rows
            ]
        },
    }


BOOK = (
    "A preface nobody reads.\n\n*** START OF THIS BOOK ***\n\n"
    + "\n\n".join(prose(1000 + paragraph, 60) for paragraph in range(200))
    + "\n\n*** END OF THIS BOOK ***\n\nA licence."
)


def made(without: Iterable[str] = (), rows_per_tier: int = 48, config: str = "throughput_1k", **shelf: Any) -> Bucket:
    library = Shelf(invented(**shelf), {"old_harbour.txt": BOOK})
    return throughput_rows(library, config, without=frozenset(without), rows_per_tier=rows_per_tier)


def rows_of_tasks(bucket: Bucket) -> dict[str, dict[str, int]]:
    return {
        tier: {task: each["num_rows"] for task, each in about["tasks"].items()}
        for tier, about in bucket.about["tiers"].items()
    }


@pytest.fixture(scope="module")
def bucket() -> Bucket:
    return made()


def test_every_row_has_exactly_the_tokens_of_its_bucket(bucket: Bucket) -> None:
    assert {count(row.turns[0]) for row in bucket.rows} == {1000}
    assert {count(row.turns[0]) for row in made(rows_per_tier=6, config="throughput_2k").rows} == {2000}


def test_a_row_has_the_published_columns(bucket: Bucket) -> None:
    assert [row.category for row in bucket.rows] == [tier for tier in TIERS for _ in range(48)]
    assert len({row.question_id for row in bucket.rows}) == len(bucket.rows)
    for row in bucket.rows:
        assert (len(row.turns), row.multiturn, row.difficulty) == (1, False, None)
        assert row.source in {source.url for source in SOURCES.values()}
        assert row.src_id
        assert "\ufffd" not in row.turns[0]
    named = hashlib.sha256(b"curated/throughput_1k/mixed/5").hexdigest()[:32]
    assert bucket.rows[48 + 5].question_id == named


@needs_o200k
def test_every_task_has_its_share_and_its_request_survives(bucket: Bucket) -> None:
    assert rows_of_tasks(bucket) == {
        "low_entropy": {"code_completion": 24, "sorting": 24},
        "mixed": {"answer_ranking": 24, "few_shot_questions": 24},
        "high_entropy": {"book": 16, "creative_writing": 16, "dialogue": 16},
    }
    requests = {
        "code_completion": "Finish the code",
        "sorting": "put its scenes into the order",
        "answer_ranking": "rank its answers",
        "few_shot_questions": "Solve the last question",
        "dialogue": "breaks off. Go on with it",
        "book": "breaks off. Write what follows",
        "creative_writing": "Carry out the first assignment",
    }
    for row in bucket.rows:
        assert requests[str(row.sub_category)] in row.turns[0][-700:]


def test_no_two_rows_are_the_same_or_begin_alike(bucket: Bucket) -> None:
    assert len({row.turns[0] for row in bucket.rows}) == len(bucket.rows)
    by_source = [row for row in bucket.rows if row.sub_category in ("book", "answer_ranking", "creative_writing")]
    assert len({(row.source, *row.src_id.split(",")[:2]) for row in by_source}) == len(by_source)


def test_a_row_depends_on_its_own_number_alone(bucket: Bucket) -> None:
    few = made(rows_per_tier=12)
    assert few.rows == tuple(row for row in bucket.rows if row in set(few.rows))
    assert [row.turns for row in few.rows[:12]] == [row.turns for row in bucket.rows[:12]]


@needs_o200k
def test_every_source_is_drawn_from_and_counted(bucket: Bucket) -> None:
    families = {name for tier in bucket.about["tiers"].values() for name in tier["families"]}
    assert families == {
        *("humanevalpack/Python", "humanevalpack/Go", "bamboo/private_eval", "repobench/python/cross_file_first"),
        *("long_code_arena", "bamboo/showssort", "adaleval/textsort", "adaleval/stackselect"),
        *("mmlu_pro/history", "mmlu_pro/physics", "hle/Math", "bamboo/showspred", "bamboo/meetingpred"),
        *("gutenberg", "writingbench"),
    }
    assert bucket.about["left_out"] == {}
    for tier in bucket.about["tiers"].values():
        assert tier["max_padding_share"] <= MOST_PADDING
        assert all(each["rows_per_record"] >= 1 for each in (tier, *tier["tasks"].values()))
        assert sum(tier["families"].values()) == tier["num_rows"] == 48
    assert orjson.loads(orjson.dumps(bucket.about)) == bucket.about


def test_an_answer_is_never_shown_with_its_question(bucket: Bucket) -> None:
    for row in bucket.rows:
        if row.source == SOURCES["mmlu_pro"].url:
            asked = row.turns[0].rpartition("=== Question ===\n")[2].partition("\nA. ")[0]
            assert row.turns[0].count(asked) == 1
        if row.source == SOURCES["humanevalpack"].url:
            *shown, target = (name.partition("/")[2] for name in row.src_id.split(","))
            assert target not in shown
        if row.source == SOURCES["hle"].url:
            assert int(row.src_id.rpartition("h")[2]) % 4 != 0, "a question with a picture is no text"


def test_only_english_requests_are_for_writing(bucket: Bucket) -> None:
    assert all("请" not in row.turns[0] for row in bucket.rows)


def test_a_book_is_without_preface_and_licence(bucket: Bucket) -> None:
    books = [row.turns[0] for row in bucket.rows if row.sub_category == "book"]
    assert all("nobody reads" not in text and "A licence" not in text for text in books)


@needs_o200k
def test_what_looks_like_a_template_in_a_record_is_text(bucket: Bucket) -> None:
    assert any(HOSTILE in row.turns[0] for row in made(rows_per_tier=96, config="throughput_2k").rows)


def test_a_source_that_is_missing_or_not_wanted_is_named_and_the_others_take_its_rows() -> None:
    some = made(without=["hle", "adaleval_stackselect"], rows_per_tier=6)
    assert some.about["left_out"] == dict.fromkeys(("adaleval_stackselect", "hle"), "left out on request")
    assert rows_of_tasks(some)["mixed"] == {"few_shot_questions": 6}


@needs_o200k
def test_a_family_that_would_repeat_itself_is_left_out_of_a_bucket() -> None:
    some = made(rows_per_tier=6, config="throughput_8k", num_records=40)
    assert "tokens in all, a prompt has 8000" in some.about["left_out"]["hle/Math"]
    assert {count(row.turns[0]) for row in some.rows} == {8000}


def test_a_tier_without_any_source_is_refused() -> None:
    with pytest.raises(DataError, match=r"the tier mixed of throughput_1k has no source; not there: .*hle \(left out"):
        made(without=["hle", "adaleval_stackselect", "mmlu_pro"], rows_per_tier=2)


def test_a_record_that_is_not_as_published_is_named() -> None:
    files = invented()
    files["mmlu_pro"]["data/test.jsonl"][3]["options"] = "A, B"
    with pytest.raises(DataError, match=r"record 3 of mmlu_pro/data/test.jsonl: options"):
        throughput_rows(Shelf(files, {"old_harbour.txt": BOOK}), "throughput_1k", rows_per_tier=2)


class Closed(Shelf):
    """A library of which one source is gated; it must not be read before it is asked about."""

    def __init__(self) -> None:
        super().__init__(invented(), {"old_harbour.txt": BOOK})
        self.asked: list[str] = []

    def check_access(self, sources: Iterable[str]) -> None:
        self.asked = sorted(sources)
        if "hle" in self.asked:
            raise DataError("Humanity's Last Exam is gated")

    def files(self, source: str) -> tuple[str, ...]:
        assert self.asked
        return super().files(source)


def test_access_to_gated_sources_is_asked_for_before_anything_is_read() -> None:
    library = Closed()
    with pytest.raises(DataError, match="is gated"):
        throughput_rows(library, "throughput_1k", rows_per_tier=2)
    assert throughput_rows(library, "throughput_1k", without=["hle", "repobench"], rows_per_tier=2).rows
    assert library.asked == [
        *("adaleval_stackselect", "adaleval_textsort", "bamboo", "gutenberg", "humanevalpack", "long_code_arena"),
        *("mmlu_pro", "writingbench"),
    ]


@needs_o200k  # a record has more bytes than the bucket has tokens
def test_families_draw_from_the_source_that_access_is_asked_for() -> None:
    stock = Stock(Shelf(invented(), {"old_harbour.txt": BOOK}), 1000)
    for recipe in (recipe for tasks in RECIPES.values() for recipes in tasks.values() for recipe in recipes):
        assert {family.source for family in recipe.families(stock)} == {recipe.source}


def test_rows_do_not_depend_on_the_order_in_which_a_mirror_lists_its_files(tmp_path: Path) -> None:
    files: dict[str, Any] = {
        f"{source}/{file}": rows for source, each in invented().items() for file, rows in each.items()
    }
    files = {f"{name}{'' if name.endswith(('.json', '.jsonl')) else '.jsonl'}": rows for name, rows in files.items()}
    files |= {f"gutenberg/{name}.txt": BOOK.replace("every", name) for name in ("quay", "mole", "pier")}
    first = throughput_rows(Mirror(write_mirror(tmp_path / "a", files)), "throughput_1k", rows_per_tier=12)
    for seed in range(2):
        names = list(files)
        random.Random(seed).shuffle(names)
        folder = write_mirror(tmp_path / f"b{seed}", {name: files[name] for name in names})
        assert throughput_rows(Mirror(folder), "throughput_1k", rows_per_tier=12) == first


def test_only_the_published_buckets_are_made() -> None:
    assert [tokens_of(f"throughput_{k}k") for k in BUCKETS] == [1000 * k for k in BUCKETS]
    with pytest.raises(ConfigError, match="did you mean 'throughput_32k'"):
        tokens_of("throughput_3k")


def test_a_prompt_is_never_more_than_a_quarter_padding() -> None:
    pool = measured([Draft("a", (part("=== A ===", prose(1, 30)),), "a")])
    family = Family("tiny", "bamboo", "Read this.\n\n", "=== What to do ===\nGo on.", pool, material=10_000)
    with pytest.raises(DataError, match=r"from tiny would be \d\d% padding"):
        family.prompt("label", 0, 1000)


def test_a_request_that_does_not_fit_is_refused() -> None:
    with pytest.raises(DataError, match="does not fit into a prompt of 10"):
        composed("Read this.\n\n", [], prose(1, 50), 10)


@needs_o200k
def test_a_piece_is_cut_so_that_all_its_parts_are_still_there() -> None:
    parts = (part("Scene 1:", prose(1, 200)), part("Scene 2:", prose(2, 20)), part("Scene 3:", prose(3, 300)))
    [piece] = measured([Draft("a", parts, "a")])
    shown = piece.beginning(300)
    assert count(shown) == 300
    assert parts[1].text in shown
    assert shown.count(" ...\n\n") == 2
    assert count(piece.beginning(40)) == 40


def test_a_record_that_comes_first_again_is_begun_further_in() -> None:
    [piece] = measured([Draft("a", (part("=== A ===", prose(1, 300)),), "a")])
    assert piece.parts[0].body.endswith(piece.from_later(1).parts[0].body)
    assert piece.from_later(2).num_tokens < piece.from_later(1).num_tokens < 0.6 * piece.num_tokens


def test_a_permutation_is_one() -> None:
    assert sorted(permutation("any", 500)) == list(range(500))
    assert permutation("any", 500) != permutation("other", 500)


@needs_mirror
@needs_o200k
@pytest.mark.long
@pytest.mark.parametrize("bucket", BUCKETS)
def test_the_real_sources_fill_every_bucket(bucket: int) -> None:
    whole = throughput_rows(Mirror(MIRROR), f"throughput_{bucket}k")
    assert {count(row.turns[0]) for row in whole.rows} == {1000 * bucket}
    assert [row.category for row in whole.rows] == [tier for tier in TIERS for _ in range(ROWS_PER_TIER)]
    assert len({(row.category, row.turns[0][:800]) for row in whole.rows}) > 1500
    for tier in whole.about["tiers"].values():
        assert tier["max_padding_share"] < 0.05
