"""The records of a file that somebody gives us: Parquet or JSON lines, told apart by their first bytes."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import orjson

from speed_bench.data.tables import read_records
from speed_bench.errors import DataError

MAX_LINE_BYTES: Final = 64 * 2**20
"""A row of 32,000 tokens has about 0.2 MB: a longer line is no row."""
_PARQUET: Final = b"PAR1"
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Place:
    """A record, and where it stands: `file:line`, or `file, row n` counted from 1."""

    where: str
    number: int
    """Its place among the records of its file, from 0."""
    record: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RecordFile:
    """A file of records, read once."""

    path: Path
    sha256: str
    places: tuple[Place, ...]
    parquet: bool


def read_file(path: Path) -> RecordFile:
    """Read a file. Raises DataError, with the line, for what is neither Parquet nor JSON lines of objects."""
    if path.is_dir():
        raise DataError(f"{path} is a folder; a Parquet file or JSON lines are expected")
    try:
        with path.open("rb") as file:
            parquet = file.peek(len(_PARQUET)).startswith(_PARQUET) or path.suffix == ".parquet"
            if parquet:
                places, sha256 = _rows(path), hashlib.file_digest(file, "sha256").hexdigest()
            else:
                places, sha256 = _lines(path, file)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    if not places:
        raise DataError(f"{path} holds no rows")
    return RecordFile(path, sha256, places, parquet)


def _rows(path: Path) -> tuple[Place, ...]:
    return tuple(Place(f"{path}, row {number + 1}", number, record) for number, record in enumerate(read_records(path)))


def _lines(path: Path, file: BinaryIO) -> tuple[tuple[Place, ...], str]:
    """The records of JSON lines, and the sha256 of all that was read."""
    places: list[Place] = []
    digest = hashlib.sha256()
    for number, line in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES + 1), b""), 1):
        digest.update(line)
        where = f"{path}:{number}"
        if len(line) > MAX_LINE_BYTES:
            raise DataError(f"{where} has more than {MAX_LINE_BYTES / 2**20:.0f} MiB, which no row has")
        text = line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line
        if text.strip():
            places.append(Place(where, len(places), _record(text, where)))
    return tuple(places), digest.hexdigest()


def _record(line: bytes, where: str) -> Mapping[str, Any]:
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise DataError(f"{where} is not JSON: {error}") from error
    if not isinstance(record, dict):
        raise DataError(f"{where} is {kind_of(record)}; every line of JSON lines is an object, a row")
    return record


def kind_of(value: Any) -> str:
    """What a value of JSON is, in words."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
