"""Exported prompts through AIPerf's own loaders."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hard_rows import MIXED

from speed_bench.data.exchange.exports import export, target
from speed_bench.types import Conversation

pytestmark = pytest.mark.export


def turns(rows: Sequence[Conversation], role: str | None) -> list[Any]:
    """What AIPerf should hold of rows."""
    return [[row.question_id, [[role, turn] for turn in row.turns]] for row in rows]


@pytest.fixture(scope="module")
def read(drive: Callable, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What AIPerf makes of our two files, and of one of them by category."""
    folder = tmp_path_factory.mktemp("exported")
    own, skills = folder / "prompts.jsonl", folder / "qualitative.jsonl"
    export(MIXED, "qualitative", target("aiperf"), own, turns=None, force=False)
    export(MIXED, "qualitative", target("nemo-skills"), skills, turns=None, force=False)
    asked = [
        {"path": str(own)},
        {"path": str(skills), "kind": "speed_bench_qualitative"},
        {"path": str(skills), "kind": "speed_bench_coding"},
    ]
    return drive(".venv-aiperf", "read_aiperf.py", asked)


def test_it_takes_the_file_for_conversations_and_holds_every_turn_as_it_is(read: list[dict[str, Any]]) -> None:
    assert read[0] == {"kind": "multi_turn", "conversations": turns(MIXED, None)}


def test_the_layout_of_nemo_skills_holds_every_turn_too(read: list[dict[str, Any]]) -> None:
    assert read[1]["conversations"] == turns(MIXED, "user")


def test_it_knows_the_categories_of_that_layout(read: list[dict[str, Any]]) -> None:
    assert read[2]["conversations"] == turns([row for row in MIXED if row.category == "coding"], "user")
