"""An edition's folder, written so that nothing half-written is ever loaded.

    DIR/manifest.json   DIR/README.md   DIR/<config>/test-00000-of-00001.parquet

A config is written beside its place, renamed into it, and then named in the manifest, which is replaced whole. Killed
anywhere in between, the folder holds what it held, or a config that its manifest does not vouch for, which is refused.
"""

import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from speed_bench.data.card import card
from speed_bench.data.manifest import describe_config
from speed_bench.data.o200k import NAME, counts
from speed_bench.data.tables import write_rows
from speed_bench.errors import ConfigError, DataError, cause
from speed_bench.types import Conversation

PARQUET: Final = "test-00000-of-00001.parquet"
_ASIDE: Final = ".part-"
_OLD: Final = ".old"
"""What a folder is called for the moment between two renames."""


@dataclass(frozen=True, slots=True)
class EditionFacts:
    """What a manifest says of the whole edition."""

    edition: str
    version: str
    licence: str
    redistributable: bool
    """Whether every text of it may be passed on."""
    source: str
    """In words."""
    builder: Mapping[str, Any]
    """Which program made it, with which settings: what one needs to make the same bytes again."""
    sources: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By id: name, url, revision, licence, redistributable, files with their sha256."""


def require_new(folder: Path, configs: Sequence[str], *, force: bool, edition: tuple[str, str] | None = None) -> None:
    """Refuse before any work starts what could not be written: no folder, no rights, another edition (name, version).

    A config that is there is replaced only if forced.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise ConfigError(f"{there} is a file; --out takes a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ConfigError(f"{there} cannot be written; choose another --out")
    if edition is not None:
        _before(folder, edition)
    for config in configs:
        if not force and (folder / config).exists():
            raise ConfigError(f"{folder / config} exists; choose another --out, or --force to replace it")


def write_config(
    folder: Path,
    facts: EditionFacts,
    config: str,
    rows: Sequence[Conversation],
    *,
    source_of: Callable[[Conversation], str | None] = lambda _: None,
    about: Mapping[str, Any] | None = None,
    files: Mapping[str, bytes] | None = None,
) -> dict[str, Any]:
    """Add a config to an edition's folder, or replace it, and give the new manifest.

    `about` is what the builder says of this config (how it was selected, what was measured), `files` go beside its
    rows. Raises DataError if the folder holds another edition or cannot be written.
    """
    turns = list(dict.fromkeys(turn for row in rows for turn in row.turns))
    described = describe_config(rows, dict(zip(turns, counts(turns), strict=True)).__getitem__, source_of)
    if about:
        described = {"about": dict(about), **described}
    with _sentences(folder):
        folder.mkdir(parents=True, exist_ok=True)
        manifest = _merged(folder, facts, config, described)
        with staged(folder / config) as place:
            write_rows(rows, place / PARQUET)
            for name, content in (files or {}).items():
                (place / name).write_bytes(content)
        replace(folder / "README.md", card(manifest).encode())
        replace(folder / "manifest.json", orjson.dumps(manifest, option=orjson.OPT_INDENT_2) + b"\n")
    return manifest


@contextmanager
def staged(place: Path) -> Iterator[Path]:
    """A new folder beside `place` that takes its place when the block ends well, and is removed when it does not."""
    _clear(place)
    aside = place.parent / f"{_ASIDE}{place.name}-{uuid.uuid4().hex}"
    aside.mkdir(parents=True)
    try:
        yield aside
        for path in aside.rglob("*"):
            if path.is_file():
                _sync(path)
        if place.exists():
            place.rename(aside.with_name(aside.name + _OLD))
        aside.rename(place)
    finally:
        _clear(place)


def _clear(place: Path) -> None:
    """Remove what a writer left that failed or was killed; if it took the old folder away, put that back first."""
    left = sorted(place.parent.glob(f"{_ASIDE}{place.name}-*"))
    for old in left:
        if old.name.endswith(_OLD) and not place.exists():
            old.rename(place)
    for each in left:
        shutil.rmtree(each, ignore_errors=True)


def replace(path: Path, content: bytes) -> None:
    """Write a file whole, or leave the one that is there."""
    aside = path.with_name(f"{_ASIDE}{path.name}-{uuid.uuid4().hex}")
    try:
        aside.write_bytes(content)
        _sync(aside)
        aside.rename(path)
    finally:
        aside.unlink(missing_ok=True)


def _merged(folder: Path, facts: EditionFacts, config: str, described: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest with this config in it. The other configs of the folder stay, if they are of the same edition."""
    before = _before(folder, (facts.edition, facts.version))
    configs = {**before.get("configs", {}), config: dict(described)}
    return {
        "edition": facts.edition,
        "version": facts.version,
        "licence": facts.licence,
        "redistributable": facts.redistributable and before.get("redistributable", True) is True,
        "source": facts.source,
        "tokenizer": NAME,
        "builder": dict(facts.builder),
        "sources": _sources(before.get("sources", {}), facts.sources),
        "configs": dict(sorted(configs.items())),
    }


def _before(folder: Path, edition: tuple[str, str]) -> dict[str, Any]:
    """The manifest that a folder has; none is as good as an empty one. Raises DataError for that of another edition."""
    from speed_bench.data.editions import read_manifest

    if not (folder / "manifest.json").exists():
        return {}
    before = read_manifest(folder)
    if (before["edition"], before["version"]) != edition:
        raise DataError(
            f"{folder} holds the edition {before['edition']} {before['version']}, not {' '.join(edition)}; "
            "choose another --out"
        )
    return before


def _sources(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """The sources of all configs; of each the files that any of them was made from."""
    merged: dict[str, Any] = {}
    for name in sorted({*before, *now}):
        earlier, later = before.get(name, {}), now.get(name, {})
        files = {**earlier.get("files", {}), **later.get("files", {})}
        merged[name] = {**earlier, **later, **({"files": files} if files else {})}
    return merged


@contextmanager
def _sentences(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"{folder} cannot be written: {cause(error)}; what it held before is untouched") from error


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
