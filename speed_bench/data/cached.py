"""One config in the form in which datasets 3, 4 and 5 keep a prepared dataset in their cache.

    <folder>/dataset_info.json   <folder>/speed-bench-test.arrow

Written by hand, with pyarrow alone: what datasets ≥ 4 writes says `List`, which 3 does not know, while all three read
`Sequence`; and importing datasets takes seconds. `dataset_info.json` has one key more than theirs, `speed_bench`,
which they ignore: what the folder was made from, so that it can be told from what another program left there.
"""

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from speed_bench.data.editions import Dataset
from speed_bench.data.schema import COLUMNS
from speed_bench.data.tables import schema, table
from speed_bench.errors import ConfigError

NAME: Final = "speed-bench"
SPLIT: Final = "test"
INFO_FILE: Final = "dataset_info.json"
ARROW_FILE: Final = f"{NAME}-{SPLIT}.arrow"

_BATCH: Final = 100
"""Rows that are read at once: of the longest prompts, 16 MB."""

CITATION: Final = """\
@article{abramovich2026speedbench,
  title = {{SPEED-Bench}: A Unified and Diverse Benchmark for Speculative Decoding},
  author = {Abramovich, Talor and Ashkenazi, Maor and Putterman, Izzy and Chislett, Benjamin and Mitra, Tiyasa and
    Darvish Rouhani, Bita and Zilberstein, Ran and Geifman, Yonatan},
  journal = {arXiv preprint arXiv:2604.09557},
  year = {2026}
}
"""


@dataclass(frozen=True, slots=True)
class Contents:
    """What a folder was made from."""

    edition: str
    version: str
    config: str
    manifest_sha256: str
    """Of what the edition's manifest says of this config: `manifest.config_sha256`."""
    num_rows: int
    arrow_sha256: str
    """Of the bytes of the rows' file, so that a change of it is seen."""


def write(dataset: Dataset, manifest: Mapping[str, Any], folder: Path) -> None:
    """Write a verified config into an empty folder. Raises ConfigError without pyarrow, OSError as the system does."""
    pa = _pyarrow()
    arrow, num_bytes = folder / ARROW_FILE, 0
    with arrow.open("wb") as file:
        with pa.ipc.new_stream(file, schema()) as stream:
            for first in range(0, len(dataset.rows), _BATCH):
                part = table(dataset.rows[first : first + _BATCH])
                stream.write_table(part)
                num_bytes += part.nbytes
        file.flush()
        os.fsync(file.fileno())
    (folder / INFO_FILE).write_bytes(orjson.dumps(_info(dataset, manifest, arrow, num_bytes)))


def read(folder: Path) -> Contents | None:
    """What a folder says it was made from; None if we did not make it, or if it cannot be read."""
    try:
        contents = Contents(**orjson.loads((folder / INFO_FILE).read_bytes())["speed_bench"])
    except (OSError, ValueError, TypeError, KeyError):
        return None
    kinds = {key: int if key == "num_rows" else str for key in Contents.__annotations__}
    return contents if all(isinstance(getattr(contents, key), kind) for key, kind in kinds.items()) else None


def intact(folder: Path, contents: Contents) -> bool:
    """Whether the rows' file is the one that was written."""
    try:
        with (folder / ARROW_FILE).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == contents.arrow_sha256
    except OSError:
        return False


def describe(manifest: Mapping[str, Any], config: str, manifest_sha256: str) -> dict[str, str]:
    """What `dataset.info` says of a config in words: description, licence, citation."""
    edition = f"{manifest['edition']} {manifest['version']}"
    return {
        "description": f"SPEED-Bench, config {config} of the edition {edition}. Manifest sha256: {manifest_sha256}.",
        "license": str(manifest.get("licence", "")),
        "citation": CITATION,
    }


def version_of(version: str) -> str:
    """The three numbers that datasets takes for a version: those an edition's version begins with.

    >>> version_of("1.2.3"), version_of("v1.1"), version_of("4-beta"), version_of("draft")
    ('1.2.3', '1.1.0', '4.0.0', '0.0.0')
    """
    found = re.match(r"v?(\d{1,9})(?:\.(\d{1,9}))?(?:\.(\d{1,9}))?", version, re.ASCII)
    return ".".join(str(int(number or 0)) for number in found.groups()) if found else "0.0.0"


def _info(dataset: Dataset, manifest: Mapping[str, Any], arrow: Path, num_bytes: int) -> dict[str, Any]:
    with arrow.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    num_rows = len(dataset.rows)
    contents = Contents(
        dataset.edition, dataset.version, dataset.config, dataset.manifest_sha256, num_rows, arrow_sha256=sha256
    )
    version = version_of(dataset.version)
    numbers = dict(zip(("major", "minor", "patch"), map(int, version.split(".")), strict=True))
    return {
        **describe(manifest, dataset.config, dataset.manifest_sha256),
        "homepage": "",
        "features": features(),
        "builder_name": "speed_bench_dataset",
        "dataset_name": NAME,
        "config_name": dataset.config,
        "version": {"version_str": version, **numbers},
        "splits": {
            SPLIT: {"name": SPLIT, "num_bytes": num_bytes, "num_examples": num_rows, "dataset_name": NAME},
        },
        "download_size": 0,
        "dataset_size": num_bytes,
        "size_in_bytes": num_bytes,
        "speed_bench": asdict(contents),
    }


def features() -> dict[str, Any]:
    """The eight columns, as `Features.from_dict` of every version reads them."""
    text = {"dtype": "string", "_type": "Value"}
    kinds = {"turns": {"feature": text, "_type": "Sequence"}, "multiturn": {"dtype": "bool", "_type": "Value"}}
    return {name: kinds.get(name, text) for name in COLUMNS}


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.ipc
    except ModuleNotFoundError as error:
        raise ConfigError(
            "the rows are written as Arrow, which needs pyarrow; pip install datasets, which reads them, brings it"
        ) from error
    return pyarrow
