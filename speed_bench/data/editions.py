"""Editions: whole sets of prompts, each told apart by the hash of its manifest.

An edition is a folder with `<config>.jsonl` files and a `manifest.json`. `open` ships with
the package; any other is given by its path.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from speed_bench.data.manifest import verify
from speed_bench.data.schema import conversation
from speed_bench.errors import ConfigError, DataError, unknown
from speed_bench.types import Conversation

BUNDLED = {"open": Path(__file__).parent / "open"}


@dataclass(frozen=True, slots=True)
class Dataset:
    """The rows of one config of an edition."""

    edition: str
    """Its own name, from the manifest; a path never enters a result."""
    version: str
    config: str
    manifest_sha256: str
    rows: tuple[Conversation, ...]


def load(edition: str, config: str) -> Dataset:
    """Read and verify one config of an edition: a bundled name, or a folder.

    >>> len(load("open", "starter").rows)
    88
    """
    folder = BUNDLED.get(edition) or Path(edition)
    if not folder.is_dir():
        raise ConfigError(unknown("edition", edition, BUNDLED) + ", or the path of a folder with a manifest.json")
    manifest_bytes = _read(folder / "manifest.json")
    manifest = _json(manifest_bytes, folder / "manifest.json")
    try:
        configs = manifest["configs"]
        if config not in configs:
            raise ConfigError(unknown("config", config, configs) + f" (edition {manifest['edition']})")
        file = folder / f"{config}.jsonl"
        lines = _read(file).splitlines()
        rows = tuple(conversation(_json(line, file), f"{file.name}:{n}") for n, line in enumerate(lines, 1))
        verify(rows, configs[config]["rows"], file.name)
        return Dataset(
            manifest["edition"], manifest["version"], config, hashlib.sha256(manifest_bytes).hexdigest(), rows
        )
    except (KeyError, TypeError) as error:
        raise DataError(f"{folder / 'manifest.json'} is not a manifest: {error!r}") from error


def select(
    rows: Sequence[Conversation], categories: Sequence[str] | None, limit_per_category: int | None
) -> tuple[Conversation, ...]:
    """The rows of these categories, the first so many of each, in the order of the file."""
    known = dict.fromkeys(row.category for row in rows)
    for category in categories or ():
        if category not in known:
            raise ConfigError(unknown("category", category, known, plural="categories"))
    taken: Counter[str] = Counter()
    kept: list[Conversation] = []
    for row in rows:
        if categories and row.category not in categories:
            continue
        if limit_per_category is None or taken[row.category] < limit_per_category:
            taken[row.category] += 1
            kept.append(row)
    if not kept:
        raise DataError("no prompts are left after --categories and --limit-per-category")
    return tuple(kept)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error


def _json(text: bytes, path: Path) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise DataError(f"{path} is not JSON: {error}") from error
