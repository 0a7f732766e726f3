"""Families: records of one kind that prompts are joined from, and in which order each row draws them.

The order is a function of config, tier, family and the row's number alone, by a hash: no row knows of another one, and
still no two begin alike. Row `n` of `N` records begins with the `n`-th of a permutation that all rows share and goes on
with the one after it; the second time round it goes on with the one after that, and so forth. What follows is the
row's own permutation.
"""

import functools
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from speed_bench.data.throughput.pieces import Piece, Prompt, composed
from speed_bench.errors import DataError

MOST_PADDING: Final = 0.25
"""The share of a prompt's tokens that may be padding."""


class Target(NamedTuple):
    """A record that the final request is about."""

    record: str
    text: str
    """Stands before the request."""
    key: str
    """No other piece of this key may stand in the prompt: it would give the answer away."""
    own: Piece | None = None
    """What belongs to it and comes first of all, such as the other files of its repository."""


@dataclass(frozen=True, slots=True)
class Family:
    """Records of one kind, and the words around them."""

    name: str
    source: str
    """Key in `SOURCES`."""
    head: str
    """What the prompt begins with; ends with an empty line."""
    request: str
    """What it ends with."""
    pool: Sequence[Piece]
    material: int
    """Tokens of the whole pool, without what is in it twice."""
    targets: tuple[Target, ...] = ()
    """What the requests are about, in turn; without any they are about the pieces themselves."""
    breakable: bool = False
    """Whether a record may be begun in its middle, as it is when it comes first for the second time."""
    starters: tuple[int, ...] = ()
    """Places in the pool of what may come first; all of them if not given."""

    def prompt(self, label: str, number: int, num_tokens: int) -> Prompt:
        """The prompt of the family's row of this number. Raises DataError where too much of it would be padding."""
        pieces = self._order(label, number)
        first = next(pieces)
        second = next(pieces, None)
        opening = [first] if second is None else [first, second]
        target = self._target(label, number, {piece.key for piece in opening})
        final, records = self.request, tuple[str, ...]()
        if target is not None:
            final, records = f"{target.text}{self.request}", (target.record,)
            opening = [target.own, *opening] if target.own else opening
        made = composed(self.head, self._distinct(opening, pieces, target), final, num_tokens)
        if made.num_padding > MOST_PADDING * num_tokens:
            raise DataError(
                f"a prompt of {num_tokens} tokens from {self.name} would be {made.num_padding / num_tokens:.0%} "
                f"padding; {MOST_PADDING:.0%} is the most"
            )
        return made._replace(records=(*made.records, *records))

    def _order(self, label: str, number: int) -> Iterator[Piece]:
        """The pieces in the order of a row."""
        starters = self.starters or range(len(self.pool))
        shared = permutation(label, len(starters))
        times, place = divmod(number, len(starters))
        first = starters[shared[place]]
        second = starters[shared[(place + 1 + times) % len(starters)]]
        yield self.pool[first].from_later(times) if times and self.breakable else self.pool[first]
        if second != first:
            yield self.pool[second]
        for index in _permutation(f"{label}/{number}", len(self.pool)):
            if index not in (first, second):
                yield self.pool[index]

    def _target(self, label: str, number: int, shown: set[str]) -> Target | None:
        if not self.targets:
            return None
        order = permutation(f"{label}/targets", len(self.targets))
        turn = (self.targets[order[(number + further) % len(order)]] for further in range(len(order)))
        for target in turn:
            if target.key not in shown:
                return target
        raise DataError(f"{self.name} has too few records: every one that could be asked about stands in the prompt")

    def _distinct(self, opening: list[Piece], pieces: Iterator[Piece], target: Target | None) -> Iterator[Piece]:
        seen = {target.key} if target else set()
        yield from opening
        seen.update(piece.key for piece in opening)
        for piece in pieces:
            if piece.key not in seen:
                seen.add(piece.key)
                yield piece


@functools.lru_cache(maxsize=256)
def permutation(label: str, size: int) -> tuple[int, ...]:
    """A permutation of 0 … size − 1 that depends on the label alone.

    >>> permutation("a", 5), permutation("b", 5)
    ((4, 1, 3, 2, 0), (2, 0, 3, 4, 1))
    """
    return _permutation(label, size)


def _permutation(label: str, size: int) -> tuple[int, ...]:
    keys = np.frombuffer(hashlib.shake_256(label.encode()).digest(8 * size), "<u8")
    return tuple(np.argsort(keys, kind="stable").tolist())
