"""Records of the sources for the rows that name them: each file read once, each index made once."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import orjson

from speed_bench.data.sources import SOURCES, HubDataset
from speed_bench.data.sources.library import Library, Record
from speed_bench.errors import DataError

ROLES: Final = "profiles-eng/desc.json"
"""The one file that is an object, not a list: what RoleBench says of each role."""


class Records:
    """What a library holds, found by number or by id. Every DataError names the source, the file and the record."""

    def __init__(self, library: Library) -> None:
        self.library = library
        self._by_id: dict[tuple[str, ...], dict[Any, Record]] = {}
        self._objects: dict[tuple[str, str], Mapping[str, Any]] = {}
        self._joined: dict[tuple[str, ...], list[Record]] = {}
        self._read: set[str] = set()

    def forget(self) -> None:
        """Begin anew to remember which files are read."""
        self._read.clear()

    def hashes(self, source: str, names: Iterable[str] | None = None) -> dict[str, str]:
        """The sha256 of these files of a source, which are read for it; or of those read since `forget`."""
        for name in names or ():
            if name == ROLES:
                self.object(source, name)
            else:
                self.of(source, name)
        facts = self.library.facts(SOURCES[source].folder)["files"]
        return {name: facts[name]["sha256"] for name in sorted(self._read if names is None else names)}

    def files(self, source: str, names: Sequence[str] | None = None) -> tuple[str, ...]:
        """Those of these files, or of all that the source is known to have, that the library has."""
        there = self.library.files(SOURCES[source].folder)
        return tuple(name for name in names or SOURCES[source].names if name in there) or self._only(source, there)

    def of(self, source: str, *names: str) -> Sequence[Record]:
        """The records of these files, one after the other. Raises DataError where one is missing."""
        found = self.files(source, names)
        if len(found) != len(names):
            missing = next((name for name in names if name not in found), "files")
            raise DataError(f"{SOURCES[source].name} has no {missing} here; its licence and address: {_where(source)}")
        folder = SOURCES[source].folder
        self._read.update(found)
        parts = [self.library.records(folder, name) for name in found]
        if len(parts) == 1:
            return parts[0]
        key = (source, *found)
        if key not in self._joined:
            self._joined[key] = [record for part in parts for record in part]
        return self._joined[key]

    def numbered(self, source: str, number: int, *names: str) -> Record:
        """The record of a number, from 0, in these files one after the other."""
        records = self.of(source, *names)
        if number >= len(records):
            raise DataError(
                f"{', '.join(names)} of {SOURCES[source].name} has {len(records)} records, none is {number}"
            )
        return records[number]

    def identified(self, source: str, field: str, value: str, *names: str) -> Record:
        """The first record whose field is this."""
        key, records = (source, field, *names), self.of(source, *names)
        if key not in self._by_id:
            index: dict[Any, Record] = {}
            for record in records:
                index.setdefault(record.fields.get(field), record)
            self._by_id[key] = index
        if value not in self._by_id[key]:
            raise DataError(f"{SOURCES[source].name} has no record with {field} {value!r:.80} in {', '.join(names)}")
        return self._by_id[key][value]

    def object(self, source: str, name: str) -> Mapping[str, Any]:
        """A file that is one JSON object."""
        self._read.add(name)
        if (source, name) not in self._objects:
            text = self.library.text(SOURCES[source].folder, name)
            try:
                found = orjson.loads(text)
            except orjson.JSONDecodeError as error:
                raise DataError(f"{name} of {SOURCES[source].name} is not JSON: {error}") from error
            if not isinstance(found, dict):
                raise DataError(f"{name} of {SOURCES[source].name} is not a JSON object")
            self._objects[source, name] = found
        return self._objects[source, name]

    def _only(self, source: str, there: Sequence[str]) -> tuple[str, ...]:
        """A mirror may hold a dataset of one split as the one file that it is published in."""
        origin = SOURCES[source].origin
        one_split = isinstance(origin, HubDataset) and len(origin.configs) == 1
        return tuple(there) if one_split and len(there) == 1 else ()


def text(record: Record, field: str) -> str:
    """A field that is text. Raises DataError where it is not."""
    value = record.fields.get(field)
    if not isinstance(value, str):
        raise _lacks(record, field, "text")
    return value


def texts(record: Record, field: str) -> list[str]:
    """A field that is a list of texts."""
    value = record.fields.get(field)
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise _lacks(record, field, "list of texts")
    return value


def objects(record: Record, field: str, *keys: str) -> list[Mapping[str, Any]]:
    """A field that is a list of objects with texts under these keys."""
    value = record.fields.get(field)
    if not isinstance(value, list) or not value or not all(_has(each, keys) for each in value):
        raise _lacks(record, field, f"list of objects with {', '.join(keys)}")
    return value


def mapping(record: Record, field: str) -> Mapping[str, Any]:
    """A field that is an object."""
    value = record.fields.get(field)
    if not isinstance(value, dict):
        raise _lacks(record, field, "object")
    return value


def _has(value: Any, keys: Sequence[str]) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(key), str) for key in keys)


def _lacks(record: Record, field: str, kind: str) -> DataError:
    return DataError(f"record {record.row} of {record.source}/{record.file} has no {kind} in '{field}'")


def _where(source: str) -> str:
    known = SOURCES[source]
    return known.access or known.url
