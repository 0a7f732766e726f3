"""Where the records of the sources come from: a mirror directory here, the Hub and the web in `upstream`.

A mirror holds `<source>/<upstream path>` (`.gz` may be appended) and a `MANIFEST.json` that lists every file with its
sha256. Every file is checked against it, read once, and kept parsed. What it lists may be anybody's: nothing outside
the folder is read, and no archive fills the memory.
"""

import gzip
import hashlib
import os.path
import zlib
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import orjson

from speed_bench.data.sources.table import SOURCES
from speed_bench.data.tables import read_records
from speed_bench.errors import DataError

MANIFEST: Final = "MANIFEST.json"
MAX_UNPACKED: Final = 1 << 30
"""Bytes that a `.gz` of a mirror may have when unpacked."""
_BLOCK: Final = 1 << 20


class Record(NamedTuple):
    """One record of a source, as published."""

    source: str
    """Key of the source in `SOURCES`."""
    file: str
    """Its upstream path."""
    row: int
    """Its place in that file, from 0."""
    fields: Mapping[str, Any]


class Library(Protocol):
    """What candidates and rows are made from: records by source and upstream file, pinned and checked."""

    def files(self, source: str) -> tuple[str, ...]:
        """Upstream paths of what is there of a source; empty where nothing is.

        Those that `SOURCES` names come first, in its order, then the others by name: what is made of a library depends
        on the order, and is the same whichever library has the files.
        """
        ...

    def records(self, source: str, file: str) -> Sequence[Record]:
        """The records of a file, in its order. Raises DataError where it is missing or not what was pinned."""
        ...

    def text(self, source: str, file: str) -> str:
        """A file that is plain text."""
        ...

    def facts(self, source: str) -> dict[str, Any]:
        """For the manifest: where the source is from, its revision, and the sha256 of each file that was read."""
        ...

    def check_access(self, sources: Iterable[str]) -> None:
        """Raise DataError, before any work starts, if one of these sources (by id) is gated and not open to us here."""
        ...


class Mirror:
    """A directory that stands in for the Hub and the web."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._entries = _entries(folder)
        self._records: dict[tuple[str, str], tuple[Record, ...]] = {}
        self._read: dict[str, dict[str, str]] = {}

    def folders(self) -> tuple[str, ...]:
        """Folders of the sources of which the mirror has something."""
        return tuple(self._entries)

    def check(self) -> int:
        """Read every file that is listed; how many there are. Raises DataError for one that is not what is listed."""
        listed = [(source, file) for source, files in self._entries.items() for file in files]
        for source, file in listed:
            self._content(source, file)
        return len(listed)

    def files(self, source: str) -> tuple[str, ...]:
        """Upstream paths of what the mirror has of a source, in the order of every library."""
        return tuple(self._entries.get(source, ()))

    def records(self, source: str, file: str) -> tuple[Record, ...]:
        """The records of a file, parsed once."""
        key = (source, file)
        if key not in self._records:
            path, content = self._content(source, file)
            rows = parse_records(path, file, content)
            self._records[key] = tuple(Record(source, file, number, row) for number, row in enumerate(rows))
        return self._records[key]

    def text(self, source: str, file: str) -> str:
        """A file that is plain text; a byte order mark and carriage returns are taken away."""
        path, content = self._content(source, file)
        try:
            return content.decode("utf-8-sig").replace("\r\n", "\n")
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is not UTF-8: {error}") from error

    def facts(self, source: str) -> dict[str, Any]:
        """What MANIFEST.json says of the source's origin and licence, with the sha256 of each file that was read."""
        entries = self._entries.get(source, {})
        read = self._read.get(source, {})
        return {
            "from": "mirror",
            "files": {
                file: {
                    "sha256": sha256,
                    **{key: entries[file][key] for key in ("origin", "licence", "transform") if key in entries[file]},
                }
                for file, sha256 in sorted(read.items())
            },
        }

    def check_access(self, sources: Iterable[str]) -> None:
        """Nothing: who has a mirror has the files."""

    def _content(self, source: str, file: str) -> tuple[Path, bytes]:
        entry = self._entries.get(source, {}).get(file)
        if entry is None:
            raise DataError(f"the mirror {self.folder} has no {source}/{file}; {MANIFEST} lists what it has")
        path = self.folder / source / entry["stored"]
        if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self.folder)):
            raise DataError(f"{path} leads out of the mirror, and is not read; put the file itself there")
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}; {self.folder / MANIFEST} lists it") from error
        sha256 = hashlib.sha256(content).hexdigest()
        if sha256 != entry["sha256"]:
            raise DataError(f"{path} is not the file that {MANIFEST} describes: its sha256 is {sha256}")
        self._read.setdefault(source, {})[file] = sha256
        return path, _unpacked(path, content)


def parse_records(path: Path, name: str, content: bytes) -> list[Mapping[str, Any]]:
    """The records of a published file: Parquet, JSON lines, a JSON list, or a JSON object of records by key.

    The key of the latter becomes the field `key`; what is no object itself, the field `value`. Raises DataError, with
    the line, for anything else.
    """
    if name.endswith(".parquet"):
        return list(read_records(path))
    if name.endswith(".jsonl"):
        lines = content.split(b"\n")
        rows = [_json(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip()]
    elif name.endswith(".json"):
        whole = _json(content, str(path))
        rows = (
            [{"key": key, **(value if isinstance(value, dict) else {"value": value})} for key, value in whole.items()]
            if isinstance(whole, dict)
            else whole
        )
    else:
        raise DataError(f"{path} is no file of records: .jsonl, .json or .parquet is expected")
    if not isinstance(rows, list):
        raise DataError(f"{path} is no list of records")
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise DataError(f"record {number} of {path} is no object")
    return rows


def _entries(folder: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """source -> upstream path -> what MANIFEST.json says of the file."""
    path = folder / MANIFEST
    try:
        listed = _json(path.read_bytes(), str(path))["files"]
        entries: dict[str, dict[str, dict[str, Any]]] = {}
        for entry in listed:
            if not _is_inside(entry["path"]):
                raise DataError(
                    f"{path} lists {entry['path']!r:.200}: a path inside the mirror is <source>/<upstream path>"
                )
            source, _, stored = entry["path"].partition("/")
            of_source, name = entries.setdefault(source, {}), stored.removesuffix(".gz")
            if name in of_source:
                raise DataError(f"{path} lists {source}/{name} twice")
            of_source[name] = {**entry, "stored": stored}
            _ = entry["sha256"]
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; --mirror takes a folder with that file") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is no manifest of a mirror: {error!r}") from error
    return {source: _in_order(source, files) for source, files in sorted(entries.items())}


def _is_inside(listed: str) -> bool:
    """Whether a path names a file of a source, as `Path` reads it on any system.

    >>> [_is_inside(path) for path in ("gsm8k/test.jsonl", "gsm8k//etc/passwd", "./x/y", "gsm8k/../x", "x", "x/a\\\\b")]
    [True, False, False, False, False, False]
    """
    parts = listed.split("/")
    return len(parts) > 1 and not any(part in ("", ".", "..") or "\0" in part or "\\" in part for part in parts)


def _in_order(source: str, files: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    named = [name for each in SOURCES.values() if each.folder == source for name in each.names]
    place = {name: number for number, name in enumerate(named)}
    return dict(sorted(files.items(), key=lambda file: (place.get(file[0], len(place)), file[0])))


def _unpacked(path: Path, content: bytes) -> bytes:
    if path.suffix != ".gz":
        return content
    unpacked = BytesIO()
    try:
        with gzip.GzipFile(fileobj=BytesIO(content)) as file:
            while block := file.read(_BLOCK):
                if unpacked.tell() + len(block) > MAX_UNPACKED:
                    raise DataError(f"{path} has more than {MAX_UNPACKED:,} bytes when unpacked; put it there unpacked")
                unpacked.write(block)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be unpacked: {error}") from error
    return unpacked.getvalue()


def _json(text: bytes, where: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise DataError(f"{where} is not JSON: {error}") from error
