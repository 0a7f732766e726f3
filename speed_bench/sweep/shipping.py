"""A run folder that grows on one machine, copied to another as it grows.

The machine that keeps the copy says what it holds; the other one answers with what is missing, and nothing is
remembered in between: an answer that is lost is asked for again. Of a journal only whole lines are sent.
"""

import errno
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, NamedTuple

from speed_bench.errors import RunFolderError, unwritable

NAMES = re.compile(
    r"(interrupted-[0-9]{1,3}/)?"
    r"(run\.json|scores\.json|segments\.jsonl|turns-[0-9]{1,4}\.jsonl|engine-[0-9]{1,6}\.log|trtllm-serve\.yaml)"
)
"""What a run folder may hold, relative to it. No other file is sent, and none is taken."""
TURNS = re.compile(r"turns-[0-9]{1,4}\.jsonl")
GROWING = re.compile(r"turns-.*|engine-.*")
"""Those that may become large; what was set aside, and all others, are sent whole."""
CHUNK_BYTES = 4 << 20
"""Of one file at a time, but for a line that is longer."""
ENDING_BYTES = 4096


class Held(NamedTuple):
    """How much of a file the copy has."""

    num_bytes: int
    ending: int
    """CRC-32 by which one that was begun anew is told from one that grew: of turns and logs, which may be large, of the
    last `ENDING_BYTES`; of any other of all."""


class Parcel(NamedTuple):
    """What is missing in a file of the copy."""

    name: str
    at: int
    """Where it goes: at the end of what is there, or at 0, instead of it."""
    data: bytes | None
    """None: the file is gone."""


def news(folder: Path, held: Mapping[str, Held]) -> list[Parcel]:
    """What a copy that holds so much lacks, in the order in which it must be written.

    A copy that stops being written at any parcel is a run folder as it could have been left here: no turn is in it
    before its segment, and nothing is replaced or removed before what was set aside is there. Nothing where the copy
    has all, but for a line that is not whole.
    """
    here = list(_names(folder))
    found: dict[str, Parcel] = {}
    for name in sorted(here, key=_rank, reverse=True):  # a turn is read before its segment, so that is there
        if parcel := _missing(folder, name, held.get(name)):
            found[name] = parcel
    gone = [Parcel(name, 0, None) for name in held if name not in here]
    return [found[name] for name in sorted(found, key=_rank)] + gone


def _rank(name: str) -> tuple[int, str]:
    """Place in the order of writing."""
    first = ("interrupted-", "run.json", "segments.jsonl", "turns-")
    return next((rank for rank, start in enumerate(first) if name.startswith(start)), len(first)), name


def _names(folder: Path) -> Iterator[str]:
    """The files that are sent. The folder itself is read first: what is set aside meanwhile is then found there."""
    for pattern in ("*", "interrupted-*/*"):
        for path in list(folder.glob(pattern)):
            name = path.relative_to(folder).as_posix()
            if NAMES.fullmatch(name) and path.is_file():
                yield name


def _missing(folder: Path, name: str, held: Held | None) -> Parcel | None:
    try:
        with (folder / name).open("rb") as file:
            known = held is not None and held_of(file, name, held.num_bytes) == held
            at = held.num_bytes if held and known else 0
            file.seek(at)
            data = file.read(CHUNK_BYTES if GROWING.fullmatch(name) else -1)
            if name.endswith(".jsonl"):
                if b"\n" not in data and len(data) == CHUNK_BYTES:
                    data += file.read()
                data = data[: data.rfind(b"\n") + 1]
    except FileNotFoundError:
        return None  # it was set aside just now, and is found there the next time
    return Parcel(name, at, data) if data or (held is not None and not known) else None


def held_of(file: IO[bytes], name: str, num_bytes: int) -> Held:
    """The first bytes of a file as a copy that has no more would say it; fewer where it is shorter."""
    start = max(0, num_bytes - ENDING_BYTES) if GROWING.search(name) else 0
    file.seek(start)
    ending = file.read(num_bytes - start)
    return Held(start + len(ending), zlib.crc32(ending))


class Copy:
    """A run folder that is written with what another machine sends."""

    def __init__(self, folder: Path, *, only: str | None = None) -> None:
        """Take up what is there, or `only` one file of it: a torn last line of a journal is cut off.

        Raises RunFolderError.
        """
        self.folder = folder
        self._only = only
        self._held: dict[str, Held] = {}
        self._counts: dict[str, tuple[int, int]] = {}
        for name in _names(folder):
            if only not in (None, name):
                continue
            path = folder / name
            try:
                with path.open("rb+") as file:
                    data = file.read()
                    if name.endswith(".jsonl"):
                        data = data[: data.rfind(b"\n") + 1]
                        file.truncate(len(data))
                    self._held[name] = held_of(file, name, len(data))
            except OSError as error:
                raise unwritable(path, error) from error
            self._count(name, data)

    @property
    def held(self) -> dict[str, Held]:
        """How much of each file is here."""
        return dict(self._held)

    @property
    def num_outcomes(self) -> int:
        """Turns that are here, finished or failed; not those that were set aside."""
        return sum(outcomes for outcomes, _ in self._counts.values())

    @property
    def num_failures(self) -> int:
        """Those of them that failed."""
        return sum(failures for _, failures in self._counts.values())

    def parcels(self) -> list[Parcel]:
        """All that is here, for the machine that is to go on with it."""
        return [Parcel(name, 0, (self.folder / name).read_bytes()) for name in sorted(self._held, key=_rank)]

    def take(self, parcels: Iterable[Parcel]) -> None:
        """Write what was sent. Raises RunFolderError if it cannot be, or is nothing that a run folder has."""
        for name, at, data in parcels:
            if not NAMES.fullmatch(name) or self._only not in (None, name):
                raise RunFolderError(f"a file is sent for {self.folder} that no run has: {name[:80]!r}")
            path = self.folder / name
            try:
                if data is None:
                    path.unlink(missing_ok=True)
                    self._held.pop(name, None)
                    self._counts.pop(name, None)
                else:
                    self._write(path, name, at, data)
            except OSError as error:
                raise unwritable(path, error) from error

    def _write(self, path: Path, name: str, at: int, data: bytes) -> None:
        had = self._held.get(name, Held(0, 0)).num_bytes
        if at == 0 and (had or not path.exists()):
            self._replace(path, data)
            self._counts.pop(name, None)
        else:
            self._append(path, at, data, had)
        with path.open("rb") as file:
            self._held[name] = held_of(file, name, at + len(data))
        self._count(name, data)

    def _replace(self, path: Path, data: bytes) -> None:
        """So that it is there whole, or as it was before."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        try:
            part.write_bytes(data)
            part.replace(path)
        except OSError:
            part.unlink(missing_ok=True)
            raise

    def _append(self, path: Path, at: int, data: bytes, had: int) -> None:
        """So that it is all there, or nothing of it."""
        with path.open("ab", buffering=0) as file:
            if at != had or at != file.tell():
                raise RunFolderError(f"{path} is not as it was left here: something else has changed it")
            try:
                if file.write(data) != len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                file.truncate(at)
                raise

    def _count(self, name: str, lines: bytes) -> None:
        if TURNS.fullmatch(name):
            outcomes, failures = self._counts.get(name, (0, 0))
            failed = lines.startswith(b'{"failure"') + lines.count(b'\n{"failure"')
            self._counts[name] = (outcomes + lines.count(b"\n"), failures + failed)
