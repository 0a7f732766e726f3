"""Exported prompts through the two calls of `datasets` that llama.cpp's client makes, in each version of it."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
from hard_rows import MIXED, SINGLE

from speed_bench.data.exchange.exports import export, target

pytestmark = pytest.mark.export


@pytest.mark.parametrize("environment", [".venv", ".venv-datasets-3.6", ".venv-datasets-4.8"])
def test_the_name_in_the_client_loads_our_rows_from_the_folder(
    environment: str, drive: Callable, tmp_path: Path
) -> None:
    export(SINGLE, "starter", target("llama-cpp"), tmp_path, turns=None, force=False)
    export(MIXED, "qualitative", target("llama-cpp"), tmp_path, turns=None, force=False)
    read = drive(environment, "read_hub_name.py", {"folder": str(tmp_path), "config": "qualitative"})
    assert read["configs"] == ["qualitative", "starter"]
    assert read["rows"] == [{**asdict(row), "turns": list(row.turns)} for row in MIXED]
