"""Texts to work on: documents to answer from, and articles, transcripts, chapters and documents to sum up."""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from speed_bench.data.candidates.candidate import Candidate, candidate, dealt, framed, malformed, objects, row_id, text
from speed_bench.data.sources.library import Record

MAX_TURNS: Final = 5
"""As published."""
CNN_EVERY: Final = 12
"""One of so many articles is a candidate: about 960 of 11,490."""
WORDS: Final = (170, 270, 370, 470, 600)
"""Lengths that passages are cut to in turn, each at the end of the paragraph in which it is reached. Their mean gives
about 581 o200k_base tokens, the published mean of `summarization`."""
MIN_WORDS: Final = 100
NUM_PASSAGES: Final = 2
"""From the beginning of a transcript or chapter."""

_SUM_UP: Final = (
    ("Summarise the following {what} in three or four sentences.", ""),
    ("", "What are the main points of the {what} above? Keep it to one short paragraph."),
    ("I have no time to read this {what}. Tell me what matters in it, in about 80 words.", ""),
    ("", "Give me a summary of that, first in one sentence and then as a short list."),
    ("Read this {what} and write an abstract of it for somebody who has not.", ""),
)
_ANSWER: Final = (
    ("Use only these texts to answer the question below them.", ""),
    ("Here is what a search found:", "Going by that, and nothing else:"),
    ("", "Answer from the passages above, and say so if they are not enough:"),
)
_HEADING: Final = re.compile(
    r"(?:^|\n)\n(?:(?:CHAPTER|Chapter|LETTER|Letter|ADVENTURE) (?:\d+|[IVXLC]+)\b[^\n]*|[IVXLC]+\.(?: [^\n]*)?)"
    r"(?=\n\s*\n)"
)


def clapnq(records: Sequence[Record]) -> Iterator[Candidate]:
    """Of every five records three give their documents to answer from, one its question alone, one its document to sum
    up; so no text stands in two categories.

    Three documents stand together and are asked about one, two or three times, in turn: what a search would bring, of
    which not all is to the point.
    """
    together: list[Record] = []
    num_groups = 0
    for record in records:
        if record.row % 5 < 3:
            together.append(record)
            if len(together) == 3:
                yield _answered_from(together, num_groups % 3 + 1)
                together, num_groups = [], num_groups + 1
        elif record.row % 5 == 3:
            yield candidate("qa", "clapnq", _clapnq_id(record), (text(record, "input").strip(),))
        else:
            yield _to_sum_up("clapnq", _clapnq_id(record), _document(record), "text")


def _answered_from(records: Sequence[Record], num_turns: int) -> Candidate:
    src_id = "_".join((_clapnq_id(records[0]), *(text(record, "id") for record in records[1:])))
    question_id = row_id("rag", "clapnq", src_id)
    documents = [_document(record) for record in records]
    # whose question comes first goes by the row's id: the answer is not always in the first document
    first = (int(question_id, 16) >> 16) % len(records)
    asked = [text(records[(first + turn) % len(records)], "input").strip() for turn in range(num_turns)]
    before, after = dealt(_ANSWER, question_id)
    opening = framed((before, ""), *documents, after, asked[0])
    texts = ("\n".join((*documents, asked[0])), *asked[1:])
    return candidate("rag", "clapnq", src_id, (opening, *asked[1:]), texts=texts, sub_category="rag")


def _clapnq_id(record: Record) -> str:
    return f"clapnq_{text(record, 'id')}"


def _document(record: Record) -> str:
    return "\n\n".join(each["text"].strip() for each in objects(record, "passages", "text"))


def chatrag(records: Sequence[Record]) -> Iterator[Candidate]:
    """Conversations over tables and text, numbered as HybriDial followed by SQA.

    The source has a record per turn of a dialogue: the longest of at most five turns stays.
    """
    ordered = [record for part in ("hybridial", "sqa") for record in records if part in record.file.split("/")]
    said = [_user_turns(record) for record in ordered] + [()]
    for row, (record, asked) in enumerate(zip(ordered, said, strict=False)):
        continued = said[row + 1]
        if len(asked) > MAX_TURNS or (len(asked) < len(continued) <= MAX_TURNS and continued[: len(asked)] == asked):
            continue
        documents = "\n\n".join(each["text"] for each in objects(record, "ctxs", "text"))
        first = f"{documents}\n\n{asked[0]}"
        yield candidate(
            "rag",
            "chatrag_bench",
            f"chatrag_bench_{row}",
            (first, *asked[1:]),
            sub_category="table_and_text_extraction",
        )


def _user_turns(record: Record) -> tuple[str, ...]:
    messages = objects(record, "messages", "role", "content")
    asked = tuple(message["content"] for message in messages if message["role"] == "user")
    if not all(turn.strip() for turn in asked) or not asked:
        raise malformed(record, "messages must hold what the user says, and none of it empty")
    return asked


def cnn_dailymail(records: Sequence[Record]) -> Iterator[Candidate]:
    """Every twelfth article under a request to sum it up."""
    for record in records:
        if record.row % CNN_EVERY == 0:
            yield _to_sum_up("cnn_dailymail", text(record, "id"), text(record, "article"), "article")


def bamboo(records: Sequence[Record]) -> Iterator[Candidate]:
    """The beginnings of transcripts; the last line, which asks who speaks, is not among them."""
    for record in records:
        name = record.file.rpartition("/")[2].removesuffix(".jsonl")
        what = "transcript" if name.startswith("meeting") else "dialogue"
        lines = text(record, "content").split("\n")[:-1]
        for part, passage in enumerate(passages(lines, "\n", record.row)[:NUM_PASSAGES]):
            yield _to_sum_up("bamboo", f"bamboo_{name}_{record.row}_{part}", passage, what)


def gutenberg(records: Sequence[Record]) -> Iterator[Candidate]:
    """The beginnings of chapters."""
    for record in records:
        name = record.file.rpartition("/")[2].removesuffix(".txt")
        for chapter, content in enumerate(chapters(text(record, "text")), 1):
            for part, passage in enumerate(passages(content.split("\n\n"), "\n\n", chapter)[:NUM_PASSAGES]):
                yield _to_sum_up("gutenberg", f"gutenberg_{name}_{chapter}_{part}", passage, "passage")


def chapters(book: str) -> list[str]:
    """What stands under the headings of a book, without the publisher's preface and licence; tables of contents, which
    have nothing under theirs, fall away.
    """
    start = re.search(r"\*\*\* ?START OF[^\n]*\n", book)
    end = re.search(r"\*\*\* ?END OF", book)
    text = book[start.end() if start else 0 : end.start() if end else len(book)]
    parts = _HEADING.split(text)[1:]
    return [part.strip("\n") for part in parts if len(part.split()) >= MIN_WORDS]


def passages(paragraphs: Sequence[str], joint: str, row: int) -> list[str]:
    """Consecutive passages that end where a paragraph ends, of lengths that go round `WORDS` from a row's place on.

    >>> [len(each.split()) for each in passages(["seven words make up this whole paragraph"] * 80, " ", 0)]
    [175, 273, 112]
    """
    found: list[str] = []
    taken: list[str] = []
    num_words = 0
    for paragraph in paragraphs:
        taken.append(paragraph)
        num_words += len(paragraph.split())
        if num_words >= WORDS[(row + len(found)) % len(WORDS)]:
            found.append(joint.join(taken).strip("\n"))
            taken, num_words = [], 0
    if num_words >= MIN_WORDS:
        found.append(joint.join(taken).strip("\n"))
    return found


def _to_sum_up(source: str, src_id: str, passage: str, what: str) -> Candidate:
    frame = dealt(_SUM_UP, row_id("summarization", source, src_id))
    turn = framed(frame, passage, what=what)
    return candidate("summarization", source, src_id, (turn,), texts=(passage,))
