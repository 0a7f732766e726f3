"""Editions: whole sets of prompts, each told apart by its manifest.

An edition is a folder with a `manifest.json` and, of each config, `<config>/*.parquet` or `<config>.jsonl`. `open`
ships with the package, `random:<tokens>` is made up on the spot; any other is given by its path.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from speed_bench.data.manifest import config_sha256, describe_rows, verify
from speed_bench.data.schema import conversation, require_name
from speed_bench.data.tables import read_rows
from speed_bench.errors import ConfigError, DataError, unknown
from speed_bench.types import Conversation

BUNDLED = {"open": Path(__file__).parent / "open"}
RANDOM = "random:"
"""What the names of editions of random tokens begin with; their length follows."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """The rows of one config of an edition."""

    edition: str
    """Its own name, from the manifest; a path never enters a result."""
    version: str
    config: str
    manifest_sha256: str
    """Of what its manifest says of this config: `manifest.config_sha256`."""
    rows: tuple[Conversation, ...]


def load(edition: str, config: str) -> Dataset:
    """Read and verify one config of an edition: a bundled name, or a folder. Random tokens are made.

    >>> len(load("open", "starter").rows)
    88
    """
    if edition.startswith(RANDOM):
        return _random(edition, config)
    folder = folder_of(edition)
    manifest = read_manifest(folder)
    entries = config_entries(manifest, config, folder)
    rows = tuple(read_config(folder, config))
    verify(rows, entries, f"{config} in {folder}")
    name, version = manifest["edition"], manifest["version"]
    return Dataset(name, version, config, config_sha256(name, version, config, entries), rows)


def _random(edition: str, config: str) -> Dataset:
    from speed_bench.data.random_tokens import CONFIG, rows, tokens_of

    isl = tokens_of(edition)
    if config != CONFIG:
        raise ConfigError(f"edition {edition} has one config, '{CONFIG}', and no '{config}'; leave out --config")
    made = rows(isl)
    entries = describe_rows(made, lambda _: isl)
    return Dataset(edition, "1", config, config_sha256(edition, "1", config, entries), tuple(made))


def folder_of(edition: str) -> Path:
    """Where an edition is: a bundled name, or a path. Raises ConfigError for one that is not there."""
    if edition.startswith(RANDOM):
        raise ConfigError(
            f"edition {edition} is made up on the spot and is no folder; speed-bench run --edition takes it"
        )
    folder = BUNDLED.get(edition) or Path(edition)
    if not folder.is_dir():
        raise ConfigError(unknown("edition", edition, BUNDLED) + ", or the path of a folder with a manifest.json")
    return folder


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of an edition's folder, or a file that is one. Raises DataError if it cannot be read or is none,
    ConfigError for a name of a config that would lead elsewhere.
    """
    path = _manifest_path(folder)
    manifest: Any = _json(_read(path), path)
    named = isinstance(manifest, dict) and all(isinstance(manifest.get(key), str) for key in ("edition", "version"))
    if not named or not isinstance(manifest.get("configs"), dict):
        raise DataError(f"{path} is not a manifest: it lacks edition, version or configs")
    for name in manifest["configs"]:
        require_name(name)
    return dict(manifest)


def config_entries(manifest: dict[str, Any], config: str, folder: Path) -> dict[str, dict[str, Any]]:
    """What a manifest says of each row of a config, by question_id, in order."""
    configs = manifest["configs"]
    if config not in configs:
        made = config == "qualitative" or config.startswith("throughput_")
        hint = "; editions that have it are made by: speed-bench data curate" if made else ""
        raise ConfigError(unknown("config", config, configs) + f" (edition {manifest['edition']}){hint}")
    entries = configs[config].get("rows") if isinstance(configs[config], dict) else None
    if not isinstance(entries, dict) or not all(
        isinstance(entry, dict) and isinstance(entry.get("turns_sha256"), str) for entry in entries.values()
    ):
        raise DataError(f"{_manifest_path(folder)} is not a manifest: config {config} has no rows with turns_sha256")
    if not entries:
        raise DataError(f"{_manifest_path(folder)} lists no row of config {config}, and no config is without rows")
    return entries


def read_config(folder: Path, config: str) -> list[Conversation]:
    """The rows of a config as they are in its files, not verified. Raises DataError for a row that is none."""
    if files := sorted((folder / config).glob("*.parquet")):
        return [row for file in files for row in read_rows(file)]
    file = folder / f"{config}.jsonl"
    if not file.exists():
        raise DataError(f"{folder} has no rows of {config}: neither {config}/*.parquet nor {config}.jsonl is there")
    lines = enumerate(_read(file).splitlines(), 1)
    return [conversation(_json(line, f"{file}:{n}"), f"{file.name}:{n}") for n, line in lines]


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


def _manifest_path(folder: Path) -> Path:
    return folder if folder.is_file() else folder / "manifest.json"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error


def _json(text: bytes, where: object) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise DataError(f"{where} is not JSON: {error.msg}") from error
