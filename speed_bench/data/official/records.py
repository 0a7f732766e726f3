"""Records of the sources for the rows that name them: each file read once, each index made once."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, Final, NoReturn, TypeVar

import orjson

from speed_bench.data.sources import SOURCES, HubDataset
from speed_bench.data.sources.library import Library, Record
from speed_bench.errors import DataError

ROLES: Final = "profiles-eng/desc.json"
"""The one file that is an object, not a list: what RoleBench says of each role."""
_Content = TypeVar("_Content")


class Records:
    """What a library holds, found by number or by id. Every DataError names the source, the file and the record.

    A file that the library cannot give is asked for once: many rows need it, and each attempt may take minutes.
    """

    def __init__(self, library: Library) -> None:
        self.library = library
        self._by_id: dict[tuple[str, ...], dict[Any, Record]] = {}
        self._objects: dict[tuple[str, str], Mapping[str, Any]] = {}
        self._joined: dict[tuple[str, ...], list[Record]] = {}
        self._parts_of: dict[tuple[str, ...], list[str]] = {}
        self._read: set[str] = set()
        self._failed: dict[tuple[str, str], str] = {}

    def forget(self) -> None:
        """Begin anew to remember which files are read."""
        self._read.clear()

    def hashes(self, source: str) -> dict[str, str]:
        """The sha256 of the files of a source that were read since `forget`."""
        facts = self.library.facts(SOURCES[source].folder)["files"]
        return {name: facts[name]["sha256"] for name in sorted(self._read)}

    def same(self, source: str, hashes: Mapping[str, str]) -> bool:
        """Whether these files of a source, name -> sha256, are what is here; they are read for it."""
        there = self.library.files(SOURCES[source].folder)
        for name in hashes:
            if name not in there:
                return False
            if name not in self.library.facts(SOURCES[source].folder)["files"]:
                self.object(source, name) if name == ROLES else self._given(self.library.records, source, name)
        facts = self.library.facts(SOURCES[source].folder)["files"]
        return all(facts[name]["sha256"] == sha256 for name, sha256 in hashes.items())

    def named(self, source: str) -> tuple[str, ...]:
        """Those of the files that a source is known to have that are here."""
        return tuple(name for name in SOURCES[source].names if self._parts(source, name))

    def of(self, source: str, *names: str) -> Sequence[Record]:
        """The records of these files, one after the other. Raises DataError where one is missing."""
        if (key := (source, *names)) not in self._joined:
            parts = [part for name in names for part in self._parts(source, name) or (self._missing(source, name),)]
            self._joined[key] = [record for part in parts for record in self._given(self.library.records, source, part)]
            self._parts_of[key] = parts
        self._read.update(self._parts_of[key])
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
            text = self._given(self.library.text, source, name)
            try:
                found = orjson.loads(text)
            except orjson.JSONDecodeError as error:
                raise DataError(f"{name} of {SOURCES[source].name} is not JSON: {error}") from error
            if not isinstance(found, dict):
                raise DataError(f"{name} of {SOURCES[source].name} is not a JSON object")
            self._objects[source, name] = found
        return self._objects[source, name]

    def _given(self, ask: Callable[[str, str], _Content], source: str, file: str) -> _Content:
        """What the library gives. Raises again, at once, what it raised for the file before."""
        key = (SOURCES[source].folder, file)
        if key in self._failed:
            raise DataError(self._failed[key])
        try:
            return ask(*key)
        except DataError as error:
            self._failed[key] = str(error)
            raise

    def _parts(self, source: str, name: str) -> tuple[str, ...]:
        """A file as the library has it: under its name, or a split of a Hub dataset in the files it is published in."""
        there = self.library.files(SOURCES[source].folder)
        if name in there:
            return (name,)
        if not isinstance(SOURCES[source].origin, HubDataset) or name not in SOURCES[source].names:
            return ()
        config, _, split = name.rpartition("/")
        of_split = [path for path in map(PurePosixPath, there) if re.fullmatch(rf"{split}([-.].*)?", path.name)]
        return tuple(sorted(str(path) for path in of_split if config in ("default", *path.parts[:-1])))

    def _missing(self, source: str, name: str) -> NoReturn:
        known = SOURCES[source]
        raise DataError(f"{known.name} has no {name} here; {known.access or f'it is published at {known.url}'}")


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
