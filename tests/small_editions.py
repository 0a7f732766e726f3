"""Editions of invented rows with the published names and sizes, made on the spot."""

import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from rows import row

from speed_bench.data import folders
from speed_bench.data.configs import NUM_ROWS, QUALITATIVE, TIERS
from speed_bench.data.schema import CATEGORIES
from speed_bench.types import Conversation


def _rows(config: str, num_rows: int, edition: str) -> Iterator[Conversation]:
    """Rows in order, of several scripts; every fifth has two turns, every third a sub-category."""
    categories = CATEGORIES if config == QUALITATIVE else TIERS
    for number in range(num_rows):
        turns = (f"{edition} {number}: «Maß», القمر, 日本語 or 🙂?\n\tAnd why?", "And without the first?")
        yield row(
            number,
            *turns[: 2 if number % 5 == 0 else 1],
            category=categories[number * len(categories) // num_rows],
            sub_category="odd" if number % 3 == 0 else None,
        )


def write_edition(
    folder: Path,
    configs: Sequence[str] = (QUALITATIVE, "throughput_1k"),
    *,
    edition: str = "invented",
    version: str = "1.2",
    num_rows: int | None = None,
) -> Path:
    """Write an edition of these configs, each of its published size or of `num_rows`."""
    facts = folders.EditionFacts(
        edition=edition,
        version=version,
        licence="CC0-1.0",
        redistributable=True,
        source="made up for a test",
        builder={"name": "tests/small_editions.py"},
    )
    with pytest.MonkeyPatch.context() as patch:
        if importlib.util.find_spec("tiktoken") is None:  # lengths play no part in what the editions are for
            patch.setattr(folders, "counts", lambda texts: [len(text.split()) for text in texts])
        for config in configs:
            folders.write_config(folder, facts, config, list(_rows(config, num_rows or NUM_ROWS[config], edition)))
    return folder
