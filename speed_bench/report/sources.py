"""The sources of prompts: for a terminal, and as the tables of the docs."""

from collections.abc import Iterator
from pathlib import Path

from rich.table import Table

from speed_bench.data.sources import SOURCES, HubDataset, HubFile, Source
from speed_bench.data.sources.library import Mirror

NOT_THERE = "–"
_SHORT = 8
"""Hex digits of a commit that tell it apart at a glance."""


def table(mirror: Mirror | None = None) -> Table:
    """Every source; with a mirror, how many files of each it has."""
    shown = Table()
    for name in ("id", "revision"):
        shown.add_column(name, no_wrap=True)
    for name in ("licence", "passed on", "feeds", *(["mirror"] if mirror else [])):
        shown.add_column(name)
    for source in SOURCES.values():
        licence = f"{source.licence}; gated" if source.gated else source.licence
        held = [_held(source, mirror)] if mirror else []
        shown.add_row(
            source.id, _revision(source), licence, _yes(source.redistributable), " ".join(source.feeds), *held
        )
    return shown


def unknown_folders(mirror: Mirror, folder: Path) -> list[str]:
    """Folders of a mirror that no source is read from, such as one that is misspelt."""
    known = {source.folder for source in SOURCES.values()}
    return [f"{folder / name} belongs to no source and is not read" for name in mirror.folders() if name not in known]


def markdown() -> Iterator[str]:
    """Two tables: whose each source is and where it is read from, and how its records become turns."""
    yield "| id | source | revision | licence | passed on | read from |"
    yield "|---|---|---|---|---|---|"
    for source in SOURCES.values():
        gated = " **Gated.**" if source.gated else ""
        yield (
            f"| `{source.id}` | [{source.name}]({source.url}) | {_revision(source)} | {source.licence} | "
            f"{_yes(source.redistributable)}: {source.terms} | {_origin(source)}{gated} |"
        )
    yield ""
    yield "| id | feeds | `src_id` | turns | note |"
    yield "|---|---|---|---|---|"
    for source in SOURCES.values():
        feeds = " ".join(f"`{each}`" for each in source.feeds)
        src_id, turns = (text.replace("<", "\\<") for text in (source.src_id, source.turns))
        yield f"| `{source.id}` | {feeds} | {src_id} | {turns} | {source.note} |"


def _held(source: Source, mirror: Mirror) -> str:
    """How many files of a source a mirror has; where two sources share a folder, those of its own names."""
    shared = [each for each in SOURCES.values() if each.folder == source.folder] != [source]
    files = [name for name in mirror.files(source.folder) if not shared or name in source.names]
    return str(len(files) or NOT_THERE)


def _origin(source: Source) -> str:
    """How the records are reached."""
    origin = source.origin
    if isinstance(origin, HubDataset):
        configs = f"{len(origin.configs)} configs" if len(origin.configs) > 2 else " and ".join(origin.configs)
        return f"`load_dataset`, {configs}, `{origin.split}`"
    if not origin:
        return "a mirror only"
    where = "the Hub" if isinstance(origin[0], HubFile) else origin[0].url.split("/")[2]
    return f"{len(origin)} file{'s' if len(origin) > 1 else ''} of {where}"


def _revision(source: Source) -> str:
    """Its beginning, where it is a commit."""
    if source.revision is None:
        return NOT_THERE
    return source.revision if " " in source.revision else source.revision[:_SHORT]


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"
