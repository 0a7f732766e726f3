"""Masked rows, made here, of the sources whose real files are at hand, held against the plain recipe on those files."""

import importlib.util
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from official import OBJECTS, RECORDS, builder, config, masked
from official_plainly import plainly
from shared_data import MIRROR, needs_mirror, needs_o200k

from speed_bench.data import o200k
from speed_bench.data.official import prepare
from speed_bench.data.official.partial import Partial
from speed_bench.data.official.records import ROLES, Records
from speed_bench.data.official.rows import parse
from speed_bench.data.sources import SOURCES
from speed_bench.data.sources.library import Mirror, Record
from speed_bench.types import Conversation

pytestmark = [
    needs_mirror,
    needs_o200k,
    pytest.mark.skipif(importlib.util.find_spec("datasets") is None, reason="needs the data extra"),
]
SCENES = ("test/test_set.json", "test/example_test_set.json")
CONFIG = "rolebench-eng/instruction-generalization/role_specific/test.jsonl"
STACK = "data/stackselect_1k.json"
TALKS = "https://github.com/RUCAIBox/BAMBOO/blob/main/datasets"


class Real(Mirror):
    """The mirror, with the example scenes of CoSER in place of its test set, and roles with an invented description."""

    def files(self, source: str) -> tuple[str, ...]:
        more = {"coser": SCENES[:1], "rolebench": (ROLES,)}.get(source, ())
        return (*more, *super().files(source))

    def records(self, source: str, file: str) -> tuple[Record, ...]:
        return super().records(source, SCENES[1] if file == SCENES[0] else file)

    def text(self, source: str, file: str) -> str:
        import orjson

        return orjson.dumps(OBJECTS[source, file]).decode() if file == ROLES else super().text(source, file)

    def facts(self, source: str) -> dict[str, Any]:
        said = super().facts(source)
        invented = {ROLES: {"sha256": "00"}, SCENES[0]: {"sha256": "00"}}
        return {**said, "files": {**said["files"], **invented}}


@pytest.fixture(scope="module")
def mirror() -> Iterable[Real]:
    """The mirror; the plain recipe reads the same records."""
    real = Real(MIRROR)
    files = {
        **{("bamboo", f"datasets/{name}.jsonl"): None for name in ("showspred_4k", "showspred_16k", "meetingpred_4k")},
        **dict.fromkeys([("livecodebench", "test.jsonl"), ("mtbench101", "data/subjective/mtbench101.jsonl")]),
        ("mmlu_pro", "default/test"): "data/test.jsonl",
        ("coser", SCENES[0]): None,
        ("adaleval", STACK): None,
        ("rolebench", CONFIG): None,
    }
    with pytest.MonkeyPatch.context() as patch:
        for (source, name), stored in files.items():
            rows = [dict(each.fields) for each in real.records(source, stored or name)]
            patch.setitem(RECORDS, (source, name), rows)
        roles = {each["role"]: f"{each['role']} is invented here." for each in RECORDS["rolebench", CONFIG]}
        patch.setitem(OBJECTS, ("rolebench", ROLES), roles)
        yield real


def resolved(name: str, rows: Sequence[dict[str, Any]], mirror: Real, folder: Path) -> tuple[Conversation, ...]:
    with Partial(folder / "partial", "builder") as partial:
        made = prepare.resolve(config(name, rows), builder(), Records(mirror), partial, lambda *_: None)
    num_tokens, state = prepare.num_tokens_of(name), {}
    for row, result in zip(rows, made.rows, strict=True):
        assert list(result.turns) == plainly(parse(row, "-"), num_tokens, state), row["src_id"]
    return made.rows


def test_dialogues_have_exactly_2000_tokens_and_joined_ones_exactly_32000(mirror: Real, tmp_path: Path) -> None:
    rows = [
        masked(f"{TALKS}/{name}.jsonl", f"bamboo_{i}") for name in ("showspred_4k", "meetingpred_4k") for i in (0, 50)
    ]
    short = resolved("throughput_2k", rows, mirror, tmp_path)
    nine = masked(f"{TALKS}/showspred_16k.jsonl", "bamboo" + "".join(f"_{i}" for i in range(20, 29)))
    long = resolved("throughput_32k", [nine], mirror, tmp_path)
    assert [o200k.count(row.turns[0]) for row in (*short, *long)] == [2000] * 4 + [32_000]


def test_answers_to_choose_from_have_exactly_1000_tokens(mirror: Real, tmp_path: Path) -> None:
    address = "http://opencompass.openxlab.space/utils/AdaLEval/stackselect_1k.json"
    rows = [masked(address, each["question_id"]) for each in RECORDS["adaleval", STACK][::25]]
    made = resolved("throughput_1k", rows, mirror, tmp_path)
    assert {o200k.count(row.turns[0]) for row in made} == {1000}


def test_code_dialogues_choices_roles_and_scenes_are_those_of_their_records(mirror: Real, tmp_path: Path) -> None:
    rows = [
        *(
            masked(SOURCES["livecodebench"].url, each["question_id"], template="{question}\n{starter_code}")
            for each in RECORDS["livecodebench", "test.jsonl"][::100]
        ),
        *(masked(SOURCES["mtbench101"].url, f"mtbench_101_{i}") for i in range(0, 1388, 99)),
        *(
            masked(
                SOURCES["mmlu_pro"].url,
                f"mmlu_pro_({i}, '{RECORDS['mmlu_pro', 'default/test'][i]['category']}')",
                1 + i % 5,
                sub_category="any",
            )
            for i in range(0, 12_000, 997)
        ),
        *(
            masked(
                SOURCES["rolebench"].url,
                f"rolebench_instruction-generalization_{i}_{i + 1}_{i + 2}",
                1 + i % 3,
                "{role_name}: {role_description_and_catchphrases}",
            )
            for i in range(0, 4700, 499)
        ),
        *(masked(SOURCES["coser"].url, f"coser_{i}") for i in range(3)),
    ]
    made = resolved("qualitative", rows, mirror, tmp_path)
    assert max(len(row.turns) for row in made) == 5
    assert 3 in {len(row.turns) for row in made if row.src_id.startswith("mtbench")}


def test_a_copy_in_another_order_than_the_published_one_is_found_out(mirror: Real, tmp_path: Path) -> None:
    row = masked(SOURCES["mmlu_pro"].url, "mmlu_pro_(2457, 'history')", 1, sub_category="history")
    with pytest.raises(prepare.DataError, match="is of the category 'psychology', not 'history'"):
        resolved("qualitative", [row], mirror, tmp_path)
