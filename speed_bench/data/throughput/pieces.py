"""Pieces of a prompt: what one record brings, whole or cut to a number of tokens, so that token counts add up.

Every part begins with a heading that is printed ASCII and no slash, and ends with line feeds: it stands between seams
(`speed_bench.data.lengths`), and the tokens of a prompt are the sum of those of its parts.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, NamedTuple

from speed_bench.data.lengths import cut, exactly
from speed_bench.data.o200k import count, counts
from speed_bench.errors import DataError

LEAST_PART: Final = 24
"""Tokens of a part below which it would say nothing: then the piece is cut as one text."""
LEAST_PIECE: Final = 32
"""Tokens of room below which no piece is begun: padding takes them."""
SMALL: Final = 1024
"""Tokens of a piece up to which it is better replaced by one that fits than cut."""
LOOK_AHEAD: Final = 64
"""How many further pieces are tried for such a room."""
_CUT: Final = " ...\n\n"
"""Ends a part that was cut."""


class Part(NamedTuple):
    """A heading, and what the record says under it."""

    heading: str
    body: str

    @property
    def text(self) -> str:
        """As it stands in a prompt."""
        return f"{self.heading}\n{self.body}\n\n"


class Draft(NamedTuple):
    """What a piece is made of, not yet measured."""

    record: str
    parts: tuple[Part, ...]
    key: str
    """Pieces of one key say the same, in other words or order: a prompt has one of them at most."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What one record brings to a prompt."""

    record: str
    """As `src_id` names it."""
    parts: tuple[Part, ...]
    sizes: tuple[int, ...]
    """Tokens of each part."""
    key: str

    @property
    def num_tokens(self) -> int:
        """Tokens of the whole piece."""
        return sum(self.sizes)

    @property
    def text(self) -> str:
        """The whole piece."""
        return "".join(part.text for part in self.parts)

    def beginning(self, num_tokens: int) -> str:
        """The piece cut to exactly so many tokens: its longest parts alike, so that each is still there."""
        budgets = shares(self.sizes, num_tokens)
        if any(budget < min(size, LEAST_PART) for budget, size in zip(budgets, self.sizes, strict=True)):
            return cut(self.text, num_tokens, _CUT)
        return "".join(
            part.text if budget == size else cut(part.text, budget, _CUT)
            for part, budget, size in zip(self.parts, budgets, self.sizes, strict=True)
        )

    def from_later(self, times: int) -> "Piece":
        """The piece begun in the middle, at two thirds, …: what a row has that uses its record for the second time."""
        parts = tuple(Part(part.heading, _later(part.body, times)) for part in self.parts)
        return Piece(self.record, parts, tuple(count(part.text) for part in parts), self.key)


class Prompt(NamedTuple):
    """A finished text, and what went into it."""

    text: str
    records: tuple[str, ...]
    """In the order in which they stand there."""
    num_padding: int
    """Tokens of it that say nothing."""


def measured(drafts: Iterable[Draft]) -> tuple[Piece, ...]:
    """Pieces with their token counts, one per key: the longest."""
    kept: dict[str, Draft] = {}
    for each in drafts:
        known = kept.get(each.key)
        if known is None or sum(len(part.body) for part in known.parts) < sum(len(part.body) for part in each.parts):
            kept[each.key] = each
    sizes = iter(counts([part.text for each in kept.values() for part in each.parts]))
    return tuple(
        Piece(each.record, each.parts, tuple(islice(sizes, len(each.parts))), each.key) for each in kept.values()
    )


def part(heading: str, body: str) -> Part:
    """A part; blank lines around what the record says are taken away, indentation is not."""
    return Part(heading, body.rstrip().lstrip("\n"))


def composed(head: str, pieces: Iterable[Piece], final: str, num_tokens: int) -> Prompt:
    """A prompt of exactly `num_tokens`: the head, as much of the pieces as there is room for, and the final request.

    The request is never cut. `head` ends with a line feed, and `final` begins as a heading does.
    """
    num_final = count(final)
    if (room := num_tokens - count(head) - num_final) < 0:
        raise DataError(f"a request of {num_final} tokens does not fit into a prompt of {num_tokens}")
    texts, records, room = _chosen(pieces, room)
    if room:
        final = exactly(final, num_final + room)
    return Prompt("".join((head, *texts, final)), tuple(records), room)


def _chosen(pieces: Iterable[Piece], room: int) -> tuple[list[str], list[str], int]:
    """Texts and records of the pieces that fill the room in order, the last one cut, and the room that is left."""
    texts: list[str] = []
    records: list[str] = []
    following = iter(pieces)
    for piece in following:
        if piece.num_tokens > room:
            if texts and piece.num_tokens <= SMALL:
                for other in _fitting(islice(following, LOOK_AHEAD), room):
                    texts.append(other.text)
                    records.append(other.record)
                    room -= other.num_tokens
            if room >= LEAST_PIECE:
                texts.append(piece.beginning(room))
                records.append(piece.record)
                room = 0
            break
        texts.append(piece.text)
        records.append(piece.record)
        room -= piece.num_tokens
    return texts, records, room


def _fitting(pieces: Iterable[Piece], room: int) -> Iterator[Piece]:
    for piece in pieces:
        if piece.num_tokens <= room:
            room -= piece.num_tokens
            yield piece


def shares(sizes: Sequence[int], room: int) -> list[int]:
    """How a room is shared by parts: what is small whole, what is large alike.

    >>> shares([10, 500, 400], 300)
    [10, 145, 145]
    """
    budgets = [0] * len(sizes)
    smallest_first = sorted(range(len(sizes)), key=sizes.__getitem__)
    for rank, index in enumerate(smallest_first):
        budgets[index] = min(sizes[index], room // (len(sizes) - rank))
        room -= budgets[index]
    return budgets


def _later(body: str, times: int) -> str:
    """The body from the first line, or else word, behind its middle (two thirds, …)."""
    at = len(body) * times // (times + 1)
    line, word = body.find("\n", at), body.find(" ", at)
    start = line if 0 <= line < at + len(body) // 4 else word
    return body[start:].lstrip() if start >= 0 else body
