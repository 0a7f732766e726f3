"""Sources from where they are published: the Hub and the web, at pinned revisions, kept on disk.

Same files under the same names as a mirror has them, so that what is made of one can be made of the other. Files of the
web and rows of Hub datasets are kept on a shelf of ours, plain files of the Hub in the cache of huggingface_hub.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson

from speed_bench.data.caches import cache_folder
from speed_bench.data.sources import hub
from speed_bench.data.sources.library import Library, Mirror, Record, parse_records
from speed_bench.data.sources.shelf import Shelf
from speed_bench.data.sources.source import File, HubDataset, HubFile, Source
from speed_bench.data.sources.table import SOURCES
from speed_bench.data.sources.web import Progress, Web
from speed_bench.errors import DataError, unknown
from speed_bench.models import sha256_of

_EVERY: int = 1000
"""Rows between two reports of progress."""


def open_library(mirror: Path | None, progress: Callable[[Progress], None] = lambda _: None) -> Library:
    """The mirror if one is given, else the Hub and the web."""
    return Upstream(web=Web(progress=progress)) if mirror is None else Mirror(mirror)


class Upstream:
    """The Hub and the web as a library. Nothing is fetched before it is asked for, and nothing twice."""

    def __init__(
        self, folder: Path | None = None, sources: Iterable[Source] = tuple(SOURCES.values()), web: Web | None = None
    ) -> None:
        self._shelf = Shelf(folder or cache_folder("sources"))
        self._web = web or Web()
        self._sources: dict[str, list[Source]] = {}
        for source in sources:
            self._sources.setdefault(source.folder, []).append(source)
        self._records: dict[tuple[str, str], tuple[Record, ...]] = {}
        self._facts: dict[str, dict[str, dict[str, Any]]] = {}

    def files(self, source: str) -> tuple[str, ...]:
        """Names of what is published of a source, whether it was fetched already or not, in the order of the table."""
        return tuple(name for each in self._sources.get(source, ()) for name in each.names)

    def records(self, source: str, file: str) -> tuple[Record, ...]:
        """The records of a file, fetched and parsed once."""
        key = (source, file)
        if key not in self._records:
            path, name = self._fetched(source, file)
            rows = parse_records(path, name, b"" if name.endswith(".parquet") else path.read_bytes())
            self._records[key] = tuple(Record(source, file, number, row) for number, row in enumerate(rows))
        return self._records[key]

    def text(self, source: str, file: str) -> str:
        """A file that is plain text; a byte order mark and carriage returns are taken away."""
        path, _ = self._fetched(source, file)
        try:
            return path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
        except UnicodeDecodeError as error:
            raise DataError(f"{file} of {source} is not UTF-8: {error}") from error

    def facts(self, source: str) -> dict[str, Any]:
        """Where the source is published, its revision, and the address and sha256 of each file that was read.

        Of a dataset of the Hub the sha256 is that of its rows as JSON lines, without the columns that were dropped.
        """
        return {
            "from": "upstream",
            "revision": next((each.revision for each in self._sources.get(source, ())), None),
            "files": dict(sorted(self._facts.get(source, {}).items())),
        }

    def check_access(self, sources: Iterable[str]) -> None:
        """Raise DataError, before any work starts, for the first of these gated sources that cannot be read here.

        Takes ids of `SOURCES`. A source that is kept already is not asked about.
        """
        wanted = set(sources)
        for source in (each for group in self._sources.values() for each in group):
            if source.id in wanted and source.gated and not self._has(source):
                hub.require_access(source)

    def _has(self, source: Source) -> bool:
        if isinstance(source.origin, HubDataset):
            origin = source.origin
            return all(self._shelf.has(_shelved(_address(origin, config), origin.drop)) for config in origin.configs)
        return False

    def _fetched(self, source: str, file: str) -> tuple[Path, str]:
        """Where a file is on this machine, and a name that tells how to parse it."""
        origin = self._origin(source, file)
        if isinstance(origin, HubDataset):
            config = file.rpartition("/")[0]
            address = _address(origin, config)
            kept = self._shelf.get(_shelved(address, origin.drop), lambda path: self._write_rows(origin, config, path))
            path, sha256, name, more = kept.path, kept.sha256, "rows.jsonl", _dropped(origin.drop)
        elif isinstance(origin, File):
            address = origin.url
            kept = self._shelf.get(address, lambda path: self._write_file(origin, path))
            path, sha256, name, more = kept.path, kept.sha256, file, {}
        elif origin.drop:
            address = f"hf://datasets/{origin.repo}@{origin.revision}/{origin.name}"
            kept = self._shelf.get(
                _shelved(address, origin.drop), lambda path: _write_lines(origin, path, self._web.limits.max_bytes)
            )
            path, sha256, name = kept.path, kept.sha256, file
            more = {"upstream_sha256": kept.about["upstream_sha256"], **_dropped(origin.drop)}
        else:
            address = f"hf://datasets/{origin.repo}@{origin.revision}/{origin.name}"
            path = hub.download(origin, self._web.limits.max_bytes)
            sha256, name, more = sha256_of(path), file, {}
        self._facts.setdefault(source, {})[file] = {"sha256": sha256, "origin": address, **more}
        return path, name

    def _origin(self, folder: str, file: str) -> HubDataset | File | HubFile:
        if folder not in self._sources:
            raise DataError(unknown("source", folder, self._sources))
        for source in self._sources[folder]:
            if isinstance(source.origin, HubDataset):
                if file in source.names:
                    return source.origin
            elif found := [each for each in source.origin if each.name == file]:
                return found[0]
        if not self.files(folder):
            name = self._sources[folder][0].name
            raise DataError(
                f"{name} cannot be fetched, because no revision of it is known; give a mirror that holds "
                f"{folder}/{file} with --mirror"
            )
        raise DataError(unknown("file", file, self.files(folder)))

    def _write_file(self, file: File, path: Path) -> Mapping[str, Any]:
        self._web.fetch(file.url, path)
        if file.sha256 is not None and (found := sha256_of(path)) != file.sha256:
            raise DataError(f"{file.url} is not the file it was: its sha256 is {found}, not {file.sha256}")
        return {}

    def _write_rows(self, dataset: HubDataset, config: str, path: Path) -> Mapping[str, Any]:
        what, number = f"{dataset.repo} {config}/{dataset.split}", 0
        with path.open("wb") as lines, TemporaryDirectory(dir=path.parent) as scratch:
            for number, row in enumerate(hub.rows(dataset, config, Path(scratch), self._web.limits.max_bytes), 1):
                lines.write(_line(row, f"row {number - 1} of {what}"))
                if number % _EVERY == 0:
                    self._web.progress(Progress(what, number, None, "records"))
        self._web.progress(Progress(what, number, number, "records"))
        return {"num_rows": number}


def _write_lines(file: HubFile, path: Path, max_bytes: int) -> Mapping[str, Any]:
    """A JSON lines file of the Hub without the fields to drop; a line at a time, as some are larger than the memory."""
    upstream = hub.download(file, max_bytes)
    with upstream.open("rb") as lines, path.open("wb") as kept:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = orjson.loads(line)
                kept.write(_line({key: row[key] for key in row if key not in file.drop}, f"{file.name}:{number}"))
            except (ValueError, TypeError) as error:
                raise DataError(f"line {number} of {file.name} of {file.repo} is no record: {error}") from error
    return {"upstream_sha256": sha256_of(upstream)}


def _line(row: Mapping[str, Any], where: str) -> bytes:
    try:
        return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError as error:
        raise DataError(f"{where} holds what JSON cannot: {error}") from error


def _address(dataset: HubDataset, config: str) -> str:
    """Names the rows of a split in manifests."""
    return f"hf://datasets/{dataset.repo}@{dataset.revision}/{config}/{dataset.split}"


def _shelved(address: str, drop: Sequence[str]) -> str:
    """The address on the shelf, where what lacks a column must not stand for what has it.

    >>> _shelved("hf://datasets/cais/hle@021a3d71/default/test", ("rationale_image", "image_preview"))
    'hf://datasets/cais/hle@021a3d71/default/test?without=image_preview,rationale_image'
    """
    return f"{address}?without={','.join(sorted(drop))}" if drop else address


def _dropped(drop: Sequence[str]) -> dict[str, Any]:
    return {"dropped": list(drop)} if drop else {}
