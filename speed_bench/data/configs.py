"""The six configs that are published, how many rows each has, and which of them an edition has.

What has fewer rows has another name.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from speed_bench.data.editions import config_entries, folder_of, read_manifest
from speed_bench.data.manifest import config_sha256
from speed_bench.data.schema import CATEGORIES
from speed_bench.errors import ConfigError, DataError, unknown

QUALITATIVE: Final = "qualitative"
ROWS_PER_CATEGORY: Final = 80
TIERS: Final = ("low_entropy", "mixed", "high_entropy")
"""The categories of every `throughput_…` config."""
ROWS_PER_TIER: Final = 512
BUCKETS: Final = (1, 2, 8, 16, 32)
"""Lengths of the throughput configs, in thousands of o200k_base tokens."""

NUM_ROWS: Final = {
    QUALITATIVE: len(CATEGORIES) * ROWS_PER_CATEGORY,
    **{f"throughput_{k}k": len(TIERS) * ROWS_PER_TIER for k in BUCKETS},
}
"""The fewest rows that a config of each published name has."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Some configs of an edition's folder, by its manifest alone."""

    folder: Path
    manifest: Mapping[str, Any]
    configs: Mapping[str, str]
    """The `manifest.config_sha256` of each."""
    sha256: str
    """Of everything that the manifest vouches for, the configs that were not chosen included."""

    @property
    def name(self) -> str:
        """Its own name, from the manifest."""
        return str(self.manifest["edition"])

    @property
    def version(self) -> str:
        """Its own version, from the manifest."""
        return str(self.manifest["version"])


def choose(edition: str, configs: Sequence[str] = ()) -> Chosen:
    """These configs of an edition, or those of the six published ones that it has; which are whole.

    Raises ConfigError for an edition or a config that is not there or cannot be named so, DataError for too few rows.
    """
    folder = folder_of(edition)
    manifest = read_manifest(folder)
    name, version, known = manifest["edition"], manifest["version"], manifest["configs"]
    hashes = {each: config_sha256(name, version, each, config_entries(manifest, each, folder)) for each in known}
    for config in configs:
        if config not in known:
            raise ConfigError(unknown("config", config, known) + f" (edition {name})")
    chosen = tuple(dict.fromkeys(configs)) or tuple(config for config in NUM_ROWS if config in known)
    if not chosen:
        raise DataError(
            f"edition {name} {version} has none of the configs {', '.join(NUM_ROWS)}; it has "
            f"{', '.join(sorted(known))}, which can be chosen by name"
        )
    for config in chosen:
        require_whole(config, len(known[config]["rows"]), f"edition {name} {version}")
    sha256 = hashlib.sha256(orjson.dumps([name, version, sorted(hashes.items())])).hexdigest()
    return Chosen(folder, manifest, {config: hashes[config] for config in chosen}, sha256)


def require_whole(config: str, num_rows: int, where: str) -> None:
    """Refuse a config that has a published name and fewer rows than that name promises.

    >>> require_whole("qualitative", 88, "edition open")
    Traceback (most recent call last):
    speed_bench.errors.DataError: edition open has 88 rows of qualitative, which is never fewer than 880; ...
    """
    if num_rows < NUM_ROWS.get(config, 1):
        raise DataError(
            f"{where} has {num_rows} rows of {config}, which is never fewer than {NUM_ROWS.get(config, 1)}; "
            "give the missing rows, or the config another name"
        )
