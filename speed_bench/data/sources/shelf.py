"""Files that were fetched, kept on disk with the sha256 they had, and checked against it on every read.

    <folder>/<hash of the address>/content   <folder>/<hash of the address>/about.json

Both are written beside their place and renamed into it together, so that a file is there whole or not at all.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import orjson
from filelock import FileLock

from speed_bench.errors import DataError, cause
from speed_bench.models import sha256_of

_CONTENT: Final = "content"
_ABOUT: Final = "about.json"


@dataclass(frozen=True, slots=True)
class Kept:
    """A file on the shelf."""

    path: Path
    sha256: str
    about: Mapping[str, Any]
    """What was said of it when it was put there."""


class Shelf:
    """A folder of such files, by address. Several processes may use it at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, address: str, fill: Callable[[Path], Mapping[str, Any]]) -> Kept:
        """The file of an address; where it is not there, `fill` writes it to a path and says what to keep of it.

        Raises DataError for a file that is not what was put there, and where the folder cannot be written. A file
        that is not whole when `fill` raises is gone.
        """
        place = self._place(address)
        if not place.exists():
            with self._sentences():
                self.folder.mkdir(parents=True, exist_ok=True)
                with FileLock(place.with_suffix(".lock")):
                    if not place.exists():  # another process may have put it there meanwhile
                        self._put(place, address, fill)
        return self._checked(place, address)

    def has(self, address: str) -> bool:
        """Whether the file of an address is there."""
        return self._place(address).exists()

    def _place(self, address: str) -> Path:
        return self.folder / hashlib.sha256(address.encode()).hexdigest()[:32]

    def _put(self, place: Path, address: str, fill: Callable[[Path], Mapping[str, Any]]) -> None:
        for left in self.folder.glob(f"{place.name}.part-*"):  # of a process that was killed: we hold the lock
            shutil.rmtree(left, ignore_errors=True)
        aside = place.with_name(f"{place.name}.part-{uuid4().hex}")
        aside.mkdir()
        try:
            about = fill(aside / _CONTENT)
            said = {"address": address, **about, "sha256": sha256_of(aside / _CONTENT)}
            (aside / _ABOUT).write_bytes(orjson.dumps(said, option=orjson.OPT_INDENT_2))
            for path in (aside / _CONTENT, aside / _ABOUT):
                with path.open("rb") as file:
                    os.fsync(file.fileno())
            aside.rename(place)
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def _checked(self, place: Path, address: str) -> Kept:
        path = place / _CONTENT
        try:
            about = orjson.loads((place / _ABOUT).read_bytes())
            expected, sha256 = about["sha256"], sha256_of(path)
        except OSError as error:
            raise DataError(f"{place} cannot be read: {error.strerror}; delete it to have it fetched again") from error
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(f"{place / _ABOUT} is damaged; delete {place} to have it fetched again") from error
        if sha256 != expected or about["address"] != address:
            raise DataError(
                f"{path} is not what was fetched from {address}: its sha256 is {sha256}, not {expected}; delete "
                f"{place} to have it fetched again"
            )
        return Kept(path, sha256, about)

    @contextmanager
    def _sentences(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DataError(
                f"{self.folder} cannot be written: {cause(error)}; set XDG_CACHE_HOME to a place that can"
            ) from error
