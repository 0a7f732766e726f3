"""What users already have, made an edition: read and checked whole before anything is written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from speed_bench.data.configs import NUM_ROWS, require_whole
from speed_bench.data.editions import BUNDLED
from speed_bench.data.exchange.records import RecordFile, checked_name, read_file
from speed_bench.data.exchange.shapes import OFFICIAL, Defaults, Losses, Shape, rows_of, shape_of
from speed_bench.data.folders import EditionFacts, require_new, write_config
from speed_bench.errors import ConfigError, DataError
from speed_bench.types import Conversation

UNKNOWN: Final = "unknown"


@dataclass(frozen=True, slots=True)
class Imported:
    """A file as rows of a config, not written yet."""

    config: str
    shape: Shape
    rows: tuple[Conversation, ...]
    about: Mapping[str, Any]
    """Which file it was, and what of it the rows do not hold: goes into the manifest."""


def files_in(paths: Sequence[Path]) -> tuple[Path, ...]:
    """The files themselves; a folder stands for its `<config>/test.parquet` and `<config>.jsonl`, as builders write."""
    found: list[Path] = []
    for path in paths:
        inside = sorted([*path.glob("*/test.parquet"), *path.glob("*.jsonl")]) if path.is_dir() else [path]
        if not inside:
            raise DataError(f"{path} has neither <config>/test.parquet nor <config>.jsonl; name the files themselves")
        found += inside
    return tuple(found)


def read(path: Path, *, config: str | None = None, shape: str | None = None, category: str | None = None) -> Imported:
    """Read a file as a config. Raises DataError, with file and line or with the row's id, for what cannot be used."""
    file = read_file(path)
    found = shape_of(file, shape)
    losses = Losses()
    defaults = Defaults(category or Defaults().category, path.name)
    rows = rows_of(file, found, defaults, losses)
    name = checked_name(config or _config_of(file, found), "a config", "give --config NAME")
    require_whole(name, len(rows), str(path))
    about: dict[str, Any] = {"format": found.name, "file": {"name": path.name, "sha256": file.sha256}}
    if losses.columns:
        about["columns_left_out"] = dict(sorted(losses.columns.items()))
    if losses.answers:
        about["answers_left_out"] = losses.answers
    if losses.mended:
        about["multiturn_mended"] = losses.mended
    return Imported(name, found, rows, about)


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
    builder = next(iter(builders), None)
    name = checked_name(edition or ("official" if builder else "imported"), "an edition", "give --edition NAME")
    if name in BUNDLED:
        raise ConfigError(f"the edition '{name}' comes with speed-bench; give yours another name with --edition")
    made_by = {"program": "speed-bench data import", "version": installed("speed-bench")}
    return EditionFacts(
        edition=name,
        version=version or builder or "1",
        licence=licence or UNKNOWN,
        redistributable=redistributable,
        source=f"imported from the output of {OFFICIAL[builder]}" if builder else "imported",
        builder={**made_by, "followed": OFFICIAL[builder]} if builder else made_by,
    )


def write(folder: Path, facts: EditionFacts, imported: Sequence[Imported], *, force: bool) -> dict[str, Any]:
    """Write all of them into an edition's folder, and give its manifest."""
    require_new(folder, [each.config for each in imported], force=force)
    manifest: dict[str, Any] = {}
    for each in imported:
        manifest = write_config(folder, facts, each.config, each.rows, about=each.about)
    return manifest


def _config_of(file: RecordFile, shape: Shape) -> str:
    if shape.name in ("spec-bench", "mt-bench"):
        return shape.name.replace("-", "_")
    parent = file.path.resolve().parent.name
    return parent if parent in NUM_ROWS and file.parquet else file.path.stem
