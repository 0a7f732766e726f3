"""What a manifest says of the edition `curated`: who made it, from which files of which sources."""

from collections.abc import Iterable
from importlib import metadata
from typing import Any, Final

from speed_bench.data.folders import EditionFacts
from speed_bench.data.sources import SOURCES
from speed_bench.data.sources.library import Library
from speed_bench.errors import DataError
from speed_bench.types import Conversation

EDITION: Final = "curated"
RECIPE: Final = "1"
"""Version of the edition: of the candidates, quotas and tiers that the package makes. Other rows, other version."""


def source_of(row: Conversation) -> str:
    """The id of the source that a curated row is from, by its `source` column. Raises DataError where there is none."""
    for each in SOURCES.values():
        if each.url == row.source:
            return each.id
    raise DataError(f"row {row.question_id} is from '{row.source[:100]}', which is none of our sources")


def curated_facts(library: Library, rows: Iterable[Conversation]) -> EditionFacts:
    """The facts of an edition that holds these rows, read from this library."""
    used = sorted({source_of(row) for row in rows})
    return EditionFacts(
        edition=EDITION,
        version=RECIPE,
        licence="each row under the licence of its source",
        redistributable=all(SOURCES[name].redistributable for name in used),
        source="chosen from the sources of the published benchmark, and three more",
        builder={"name": "speed-bench data curate", "version": metadata.version("speed-bench")},
        sources={name: source_facts(name, library) for name in used},
    )


def source_facts(name: str, library: Library) -> dict[str, Any]:
    """What a manifest says of a source: what is known beforehand, and the files that were read."""
    return {**SOURCES[name].facts, **library.facts(SOURCES[name].folder)}
