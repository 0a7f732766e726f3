"""Any copy of an edition against a manifest: which rows are not the ones that it describes.

A copy is a folder of an edition, the output of an official builder, or one file of any shape that can be imported; a
manifest needs no text, so that one can compare what may not be passed on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speed_bench.data.editions import BUNDLED, config_entries, read_manifest
from speed_bench.data.exchange.records import RecordFile, read_file
from speed_bench.data.exchange.shapes import Defaults, Losses, Shape, shape_of
from speed_bench.data.manifest import Entry, config_sha256, differences
from speed_bench.data.o200k import count
from speed_bench.errors import ConfigError, DataError, unknown
from speed_bench.types import Conversation

Differences = list[tuple[str, str]]
"""(question_id, in what it differs)."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A config of a copy, compared."""

    config: str
    num_rows: int
    """In the copy."""
    sha256: str
    """What results name the manifest's rows by."""
    differences: tuple[tuple[str, str], ...]
    """(question_id, in what it differs), in the order of the copy; missing rows at the end."""
    same_order: bool

    @property
    def ok(self) -> bool:
        """Whether every row is the one described."""
        return not self.differences


def verify_copy(
    copy: Path | str, *, config: str | None = None, against: Path | str | None = None, tokens: bool = False
) -> list[Checked]:
    """Compare every config that both have, or the one named. Raises DataError or ConfigError if it cannot be read.

    Without `against` the copy's own manifest is meant, and every config in it must be there.
    """
    place = _place(copy)
    folder = _place(against) if against is not None else place
    manifest, where = _manifest(folder)
    known = manifest["configs"]
    if config is not None and config not in known:
        raise ConfigError(unknown("config", config, known) + f" (manifest of {manifest['edition']})")
    if place.is_file():
        name = config or _only(place, known)
        return [_check(name, [place], manifest, where, tokens)]
    names = [config] if config else list(known)
    files = {name: _files(place, name) for name in names}
    if against is not None and config is None:
        files = {name: each for name, each in files.items() if each}
        if not files:
            raise DataError(f"{place} has none of the configs of {where}: {', '.join(known)}")
    return [_check(name, each, manifest, where, tokens) for name, each in files.items()]


def _check(name: str, files: Sequence[Path], manifest: dict[str, Any], where: Path, tokens: bool) -> Checked:
    entries = config_entries(manifest, name, where)
    rows: list[Conversation] = []
    spoilt: Differences = []
    num = 0
    for path in files:
        file = read_file(path)
        num += len(file.places)
        for row in _rows(file, shape_of(file, None)):
            if isinstance(row, Conversation):
                rows.append(row)
            else:
                spoilt.append(row)
    ids = [row.question_id for row in rows]
    told = {question_id for question_id, _ in spoilt} - set(ids)
    found = differences(rows, {name: entry for name, entry in entries.items() if name not in told})
    found = [*spoilt, *found, *(_recounted(rows, entries) if tokens else [])]
    return Checked(
        name,
        num,
        config_sha256(manifest["edition"], manifest["version"], name, entries),
        tuple(found),
        ids == list(entries),
    )


def _rows(file: RecordFile, shape: Shape) -> list[Conversation | tuple[str, str]]:
    """Every record as a row, or as its id and why it is none."""
    read: list[Conversation | tuple[str, str]] = []
    for place in file.places:
        try:
            read.append(shape.convert(place, Defaults(source=file.path.name), Losses()))
        except DataError as error:
            given = place.record.get("question_id")
            read.append((given if isinstance(given, str) else place.where, f"is no row: {error}"))
    return read


def _recounted(rows: Sequence[Conversation], entries: Mapping[str, Entry]) -> Differences:
    """Rows whose recorded lengths are not those of their turns."""
    found: Differences = []
    for row in rows:
        recorded = entries.get(row.question_id, {}).get("num_tokens_o200k")
        counted = [count(turn) for turn in row.turns]
        if recorded is not None and recorded != counted:
            found.append((row.question_id, f"has {counted} o200k_base tokens, its manifest says {recorded}"))
    return found


def _manifest(place: Path) -> tuple[dict[str, Any], Path]:
    """The manifest of a folder, or the file itself."""
    if place.is_dir():
        if not (place / "manifest.json").exists():
            raise DataError(f"{place} has no manifest.json; name one to compare with: --against MANIFEST or EDITION")
        return read_manifest(place), place
    if place.suffix != ".json":
        raise DataError(f"{place} is no manifest; name one to compare with: --against MANIFEST or EDITION")
    return read_manifest(place), place


def _place(given: Path | str) -> Path:
    """Where a copy or a manifest is: the name of a bundled edition, or a path."""
    path = BUNDLED.get(str(given)) or Path(given)
    if not path.exists():
        raise ConfigError(unknown("edition", str(given), BUNDLED) + ", or the path of a folder or file")
    return path


def _files(folder: Path, config: str) -> list[Path]:
    """The files of a config, as editions, Model-Optimizer and NeMo-Skills lay them out."""
    if found := sorted((folder / config).glob("*.parquet")):
        return found
    line_file = folder / f"{config}.jsonl"
    return [line_file] if line_file.exists() else []


def _only(path: Path, known: Mapping[str, Any]) -> str:
    """Which config a single file is: by its name or its folder's, or the only one that there is."""
    for name in (path.parent.name, path.stem, path.stem.replace("-", "_")):
        if name in known:
            return name
    if len(known) == 1:
        return next(iter(known))
    raise ConfigError(f"{path.name} can be any of {', '.join(known)}; say which with --config")
