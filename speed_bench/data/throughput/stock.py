"""What a library has for one bucket, and what it lacks, by name."""

import re
from collections.abc import Collection, Iterable
from typing import Final

from speed_bench.data.o200k import counts
from speed_bench.data.sources import SOURCES
from speed_bench.data.sources.library import Library, Record
from speed_bench.data.throughput.families import Family, Target
from speed_bench.data.throughput.pieces import Piece

MOST_OF_TARGET: Final = 0.5
"""Share of a prompt that what is asked about may take."""


class Stock:
    """A library, seen from one bucket; `left_out` tells why a source or a part of it is not used."""

    def __init__(self, library: Library, num_tokens: int, without: Collection[str] = ()) -> None:
        self.library = library
        self.num_tokens = num_tokens
        self.left_out: dict[str, str] = {}
        self._without = without

    def files(self, source: str, pattern: str = "") -> list[str]:
        """Names of a source's files that match; a source that has none is left out."""
        if source in self._without:
            self.left_out[source] = "left out on request"
            return []
        found = [file for file in self.library.files(SOURCES[source].folder) if re.search(pattern, file)]
        if not found:
            self.left_out.setdefault(source, "not in this library")
        return found

    def records(self, source: str, pattern: str = "") -> list[Record]:
        """The records of a source's files that match."""
        folder = SOURCES[source].folder
        files = self.files(source, pattern)
        return [record for file in files for record in self.library.records(folder, file)]

    def enough(self, families: Iterable[Family]) -> list[Family]:
        """The families that can fill a prompt without saying anything twice."""
        kept = []
        for family in families:
            if family.material >= self.num_tokens:
                kept.append(family)
            else:
                self.left_out[family.name] = f"{family.material} tokens in all, a prompt has {self.num_tokens}"
        return kept

    def targets(self, every: Iterable[Target]) -> tuple[Target, ...]:
        """Those that leave room for something before them."""
        listed = list(every)
        most = MOST_OF_TARGET * self.num_tokens
        sizes = counts([target.text for target in listed])
        return tuple(target for target, size in zip(listed, sizes, strict=True) if size <= most)


def material(pool: Iterable[Piece]) -> int:
    """Tokens of all pieces."""
    return sum(piece.num_tokens for piece in pool)
