"""Exported prompts through GuideLLM's own deserializer, mapper and finalizer."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hard_rows import MIXED, SINGLE

from speed_bench.data.exchange.exports import export, target

pytestmark = pytest.mark.export


def test_every_turn_is_there_as_it_is_and_carries_the_whole_history(drive: Callable, tmp_path: Path) -> None:
    files = {"single.jsonl": SINGLE, "mixed.jsonl": MIXED}
    for name, rows in files.items():
        export(rows, "mine", target("guidellm"), tmp_path / name, turns=None, force=False)
    read = drive(".venv-guidellm", "read_guidellm.py", [str(tmp_path / name) for name in files])
    for rows, conversations in zip(files.values(), read, strict=True):
        assert conversations == [[[[turn] for turn in row.turns], ["full"] * (len(row.turns) - 1)] for row in rows]
