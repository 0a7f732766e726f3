"""The tier `high_entropy`: dialogues and books to go on with, texts to write. Little of what comes next is there."""

import re
from collections.abc import Iterator, Sequence
from typing import Final, overload

from speed_bench.data.candidates.candidate import number, text
from speed_bench.data.o200k import count
from speed_bench.data.throughput.families import Family
from speed_bench.data.throughput.pieces import Draft, Piece, measured, part
from speed_bench.data.throughput.stock import Stock, material

_DIALOGUE_HEAD: Final = "Below is what people said to each other, as it was taken down.\n\n"
_DIALOGUE: Final = (
    "=== What to do ===\nThe last transcript above breaks off. Go on with it for as long as it holds together, in the "
    "same form, and let every speaker stay who they are; bring it to an end of your own."
)
_BOOK_HEAD: Final = "Below is a passage of a novel.\n\n"
_BOOK: Final = (
    "=== What to do ===\nThe passage above breaks off. Write what follows in your own words, as a new chapter that "
    "keeps its narrator, its people and its tone."
)
_WRITE_HEAD: Final = "Below are assignments that came to a writer's desk.\n\n"
_WRITE: Final = (
    "=== What to do ===\nCarry out the first assignment above, and write the whole text that it asks for. The others "
    "show what else the client wants written, and are not for now."
)
_CHARS_PER_TOKEN: Final = 6
"""Characters of a book that surely hold a token: a passage is begun where the book goes on for long enough."""
_LEAST_PARAGRAPH: Final = 80
"""Characters of a paragraph that a passage may begin with: no headings."""
_FOREIGN: Final = re.compile(r"[\u2000-\U0010ffff]")
_MOST_FOREIGN: Final = 0.03
"""Share of such characters from which on a request is not English, but Chinese."""
_SAME_BEGINNING: Final = 200
"""Characters by which two transcripts are told apart: shorter versions of longer ones begin alike."""


def dialogues(stock: Stock) -> list[Family]:
    """BAMBOO's transcripts of shows and of meetings, each kind for itself."""
    families = []
    for kind in ("showspred", "meetingpred"):
        drafts = []
        for record in stock.records("bamboo", rf"{kind}_\d+k"):
            content = text(record, "content")
            src_id = f"bamboo_{record.file.rpartition('/')[2].partition('.')[0]}_{record.row}"
            drafts.append(Draft(src_id, (part("=== Transcript ===", content),), content[:_SAME_BEGINNING]))
        pool = measured(drafts)
        if pool:
            families.append(
                Family(
                    name=f"bamboo/{kind}",
                    source="bamboo",
                    head=_DIALOGUE_HEAD,
                    request=_DIALOGUE,
                    pool=pool,
                    material=material(pool),
                    breakable=True,
                )
            )
    return stock.enough(families)


def books(stock: Stock) -> list[Family]:
    """Passages of the books of Project Gutenberg, each begun at a paragraph of its own."""
    files = stock.files("gutenberg", r"\.txt$")
    bodies = [(file, _body(stock.library.text("gutenberg", file))) for file in files]
    passages = Passages(bodies, _CHARS_PER_TOKEN * stock.num_tokens)
    if not passages:
        return []
    return stock.enough(
        [
            Family(
                name="gutenberg",
                source="gutenberg",
                head=_BOOK_HEAD,
                request=_BOOK,
                pool=passages,
                material=sum(count(body) for _, body in bodies),
            )
        ]
    )


def writingbench(stock: Stock) -> list[Family]:
    """English requests of WritingBench; the first one is whole, and it is the one to carry out."""
    drafts = []
    for record in stock.records("writingbench"):
        query = text(record, "query")
        if len(_FOREIGN.findall(query)) < _MOST_FOREIGN * len(query):
            src_id = f"writing_bench_{number(record, 'index')}"
            drafts.append(Draft(src_id, (part("=== Assignment ===", query),), query))
    pool = measured(drafts)
    most = stock.num_tokens - count(_WRITE_HEAD) - count(_WRITE)
    starters = tuple(place for place, piece in enumerate(pool) if piece.num_tokens <= most)
    if not starters:
        return []
    return stock.enough(
        [
            Family(
                name="writingbench",
                source="writingbench",
                head=_WRITE_HEAD,
                request=_WRITE,
                pool=pool,
                material=material(pool),
                starters=starters,
            )
        ]
    )


class Passages(Sequence[Piece]):
    """Passages of books from each of their paragraphs on, made when they are asked for: together they are vast."""

    def __init__(self, bodies: Sequence[tuple[str, str]], num_chars: int) -> None:
        self._bodies = bodies
        self._num_chars = num_chars
        self._starts = [(book, at) for book, (_, body) in enumerate(bodies) for at in self._paragraphs(body)]

    def _paragraphs(self, body: str) -> Iterator[int]:
        for paragraph in re.finditer(r"(?<=\n\n)\S[^\n]*(?:\n[^\n]+)*", body):
            long_enough = len(body) - paragraph.start() >= self._num_chars
            if long_enough and len(paragraph[0]) >= _LEAST_PARAGRAPH:
                yield paragraph.start()

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> Piece: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Piece]: ...
    def __getitem__(self, index: int | slice) -> Piece | Sequence[Piece]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        book, at = self._starts[index]
        file, body = self._bodies[book]
        passage = part("=== Passage ===", body[at : at + self._num_chars])
        src_id = f"gutenberg_{file.rpartition('/')[2].removesuffix('.txt')}_{at}"
        return Piece(src_id, (passage,), (count(passage.text),), src_id)


def _body(book: str) -> str:
    """A book without the publisher's preface and licence."""
    start = re.search(r"\*\*\* ?START OF[^\n]*\n", book)
    end = re.search(r"\*\*\* ?END OF", book)
    return book[start.end() if start else 0 : end.start() if end else len(book)]
