"""What users already have, made an edition: read and checked whole before anything is written."""

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from speed_bench.data.configs import NUM_ROWS, require_whole
from speed_bench.data.editions import BUNDLED
from speed_bench.data.exchange.exports import HUB_NAME
from speed_bench.data.exchange.records import RecordFile, read_file
from speed_bench.data.exchange.shapes import OFFICIAL, Defaults, Losses, Shape, rows_of, shape_of
from speed_bench.data.folders import EditionFacts, require_new, write_config
from speed_bench.data.rights import IMPORT, closed_source
from speed_bench.data.schema import require_name
from speed_bench.data.sources import SOURCES, File, HubDataset
from speed_bench.errors import ConfigError, DataError
from speed_bench.types import Conversation

UNKNOWN: Final = "unknown"
_SPLIT: Final = re.compile(r"test(-\d{5}-of-\d{5})?")
"""What a Parquet file of a config is called that has a folder to itself."""
_UNSELECTABLE: Final = "cannot be selected with --categories A,B: it is empty, has a comma, or a blank at an end"
_PINNED: Final = {
    file.sha256: source.id
    for source in SOURCES.values()
    if not isinstance(source.origin, HubDataset)
    for file in source.origin
    if isinstance(file, File) and file.sha256
}
"""sha256 of a file that is known -> id of the source."""


@dataclass(frozen=True, slots=True)
class Imported:
    """A file as rows of a config, not written yet."""

    config: str
    shape: Shape
    rows: tuple[Conversation, ...]
    about: Mapping[str, Any]
    """Which file it was, and what of it the rows do not hold: goes into the manifest."""
    source: str | None = None
    """Id in `SOURCES` of what the file holds, by its sha256 or its shape; None where it is none of them."""


def files_in(paths: Sequence[Path]) -> tuple[Path, ...]:
    """The files themselves; a folder stands for its `<config>/*.parquet` and `<config>.jsonl`, as builders write.

    Raises ConfigError for an edition, which needs no import, DataError for a folder that has no such file.
    """
    found: list[Path] = []
    for path in paths:
        found += _inside(path) if path.is_dir() else [path]
    return tuple(found)


def _inside(folder: Path) -> list[Path]:
    if (folder / "manifest.json").exists():
        raise ConfigError(
            f"{folder} is an edition already; speed-bench run --edition {shlex.quote(str(folder))} takes it"
        )
    exported = folder / HUB_NAME  # by `data export --to llama-cpp`
    within = exported if exported.is_dir() else folder
    if files := sorted([*within.glob("[!.]*/*.parquet"), *within.glob("*.jsonl")]):
        return files
    raise DataError(f"{folder} has neither <config>/*.parquet nor <config>.jsonl; name the files themselves")


def read(path: Path, *, config: str | None = None, shape: str | None = None, category: str | None = None) -> Imported:
    """Read a file as a config. Raises DataError, with file and line or with the row's id, for what cannot be used."""
    if category is not None and not _selectable(category):
        raise ConfigError(f"--category {category[:80]!r} {_UNSELECTABLE}")
    file = read_file(path)
    found = shape_of(file, shape)
    losses = Losses()
    defaults = Defaults(category or Defaults().category, path.name)
    rows = rows_of(file, found, defaults, losses)
    for row in rows:
        if not _selectable(row.category):
            raise DataError(f"row {row.question_id} of {path}: category {row.category[:80]!r} {_UNSELECTABLE}")
    name = config or _config_of(file, found)
    require_name(name, advice="give --config NAME")
    require_whole(name, len(rows), str(path))
    about: dict[str, Any] = {"format": found.name, "file": {"name": path.name, "sha256": file.sha256}}
    if losses.columns:
        about["columns_left_out"] = dict(sorted(losses.columns.items()))
    if losses.answers:
        about["answers_left_out"] = losses.answers
    if losses.mended:
        about["multiturn_mended"] = losses.mended
    return Imported(name, found, rows, about, _PINNED.get(file.sha256, found.source))


def facts_of(
    imported: Sequence[Imported],
    *,
    edition: str | None = None,
    version: str | None = None,
    licence: str | None = None,
    redistributable: bool = False,
) -> EditionFacts:
    """What the manifest says of an edition made of these. Raises ConfigError where that cannot be one edition."""
    from importlib.metadata import version as installed

    builders = {each.shape.name for each in imported} & set(OFFICIAL)
    if len(builders) > 1:
        raise ConfigError(
            f"{' and '.join(sorted(builders))} give different bytes for the same rows, so they cannot be one edition; "
            "import them one by one, with an --out each"
        )
    if redistributable and not licence:
        raise ConfigError("--redistributable needs --licence: what lets others pass these texts on")
    if len({each.config for each in imported}) < len(imported):
        raise ConfigError("two of the files are the same config; import them one by one, with --config NAME")
    if redistributable:
        for each in imported:
            _require_open(each)
    builder = next(iter(builders), None)
    name = edition or ("official" if builder else "imported")
    require_name(name, "an edition", advice="give --edition NAME")
    if name in BUNDLED:
        raise ConfigError(f"the edition '{name}' comes with speed-bench; give yours another name with --edition")
    made_by = {"name": IMPORT, "version": installed("speed-bench")}
    return EditionFacts(
        edition=name,
        version=version or builder or "1",
        licence=licence or UNKNOWN,
        redistributable=redistributable,
        source=f"imported from the output of {OFFICIAL[builder]}" if builder else "imported",
        builder={**made_by, "followed": OFFICIAL[builder]} if builder else made_by,
        sources=_sources(imported),
    )


def write(folder: Path, facts: EditionFacts, imported: Sequence[Imported], *, force: bool) -> dict[str, Any]:
    """Write all of them into an edition's folder, and give its manifest."""
    require_new(folder, [each.config for each in imported], force=force)
    manifest: dict[str, Any] = {}
    for each in imported:
        of = _constant(each.source)
        manifest = write_config(folder, facts, each.config, each.rows, source_of=of, about=each.about)
    return manifest


def _require_open(each: Imported) -> None:
    """Refuse to call redistributable what we know not to be. Raises ConfigError that names the config or the row."""
    leave = "may not be passed on; leave out --redistributable"
    if each.shape.name in OFFICIAL:
        raise ConfigError(f"{each.config} holds rows of nvidia/SPEED-Bench, which {leave}")
    known = SOURCES[each.source] if each.source else None
    if known and not known.redistributable:
        own = "" if each.about["file"]["sha256"] in _PINNED else "; if the texts are yours, say --format conversations"
        raise ConfigError(f"{each.config} holds rows of {known.name}, which {leave}{own}")
    for row in each.rows:
        if named := closed_source(row.source):
            raise ConfigError(
                f"row {row.question_id} of {each.config} is from {row.source[:80]!r}, which names {named}: it {leave}; "
                "if the text is yours, give the file or the row's `source` another name"
            )


def _sources(imported: Sequence[Imported]) -> dict[str, dict[str, Any]]:
    """The sources of ours that files are from. Of a file that was not seen before the revision is not known."""
    found: dict[str, dict[str, Any]] = {}
    for each in imported:
        if each.source:
            file = each.about["file"]
            facts = found.setdefault(each.source, {**SOURCES[each.source].facts, "revision": None, "files": {}})
            facts["files"][file["name"]] = {"sha256": file["sha256"]}
            if file["sha256"] in _PINNED:
                facts["revision"] = SOURCES[each.source].revision
    return found


def _constant(source: str | None) -> Callable[[Conversation], str | None]:
    """The same source for every row."""
    return lambda _: source


def _config_of(file: RecordFile, shape: Shape) -> str:
    if shape.name in ("spec-bench", "mt-bench"):
        return shape.name.replace("-", "_")
    parent, stem = file.path.resolve().parent.name, file.path.stem
    inside = file.parquet and (parent in NUM_ROWS or _SPLIT.fullmatch(stem))
    return parent if inside else stem


def _selectable(category: str) -> bool:
    return "," not in category and category == category.strip() != ""
