"""A prompt that may be picked, and what is needed to make one from the records of a source."""

import hashlib
import re
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

from speed_bench.data.sources import SOURCES
from speed_bench.data.sources.library import Record
from speed_bench.errors import DataError
from speed_bench.types import Conversation

T = TypeVar("T")


class Candidate(NamedTuple):
    """A row that a category may take, with what it is compared by."""

    row: Conversation
    source: str
    """Key in `SOURCES`; `row.source` is its address."""
    texts: tuple[str, ...]
    """What the turns hold of the source, a text per turn, without the frame around it. Duplicates are told by these:
    two questions are not alike because the same request stands around them."""


def row_id(category: str, source: str, src_id: str) -> str:
    """The question_id of a curated row: it depends on where the row is from, never on which others are picked.

    >>> row_id("math", "gsm8k", "gsm8k_0")
    '529e0a3dd5f24abfe661b9b181258a88'
    """
    return hashlib.sha256(f"curated/{category}/{source}/{src_id}".encode()).hexdigest()[:32]


def dealt(wordings: Sequence[T], question_id: str) -> T:
    """One of several wordings, by the row's id alone, so that the rows of a category do not all begin alike."""
    return wordings[int(question_id, 16) % len(wordings)]


def filled(wording: str, **values: str) -> str:
    """A wording of ours with values for its `{names}`, all at once: braces in a value are text like any other.

    >>> filled("Play {role}.", role="{book}", book="Ulysses")
    'Play {book}.'
    """
    return re.sub(r"\{(\w+)\}", lambda name: values[name[1]], wording)


def framed(frame: tuple[str, str], *parts: str, **values: str) -> str:
    """Parts of a prompt as paragraphs, with what a wording of ours says before and after them."""
    before, after = (filled(wording, **values) for wording in frame)
    return "\n\n".join(part for part in (before, *parts, after) if part)


def candidate(
    category: str,
    source: str,
    src_id: str,
    turns: Sequence[str],
    *,
    texts: Sequence[str] | None = None,
    sub_category: str | None = None,
    difficulty: str | None = None,
    question_id: str | None = None,
) -> Candidate:
    """A candidate of a category. `texts` are the turns where nothing stands around what the source says."""
    row = Conversation(
        question_id=question_id or row_id(category, source, src_id),
        category=category,
        sub_category=sub_category,
        turns=tuple(turns),
        source=SOURCES[source].url,
        src_id=src_id,
        difficulty=difficulty,
        multiturn=len(turns) > 1,
    )
    return Candidate(row, source, tuple(turns if texts is None else texts))


def has(record: Record, name: str) -> bool:
    """Whether a record says anything under a name: versions of a source differ in their fields."""
    return record.fields.get(name) not in (None, "", [], {})


def text(record: Record, name: str) -> str:
    """A field that must hold text, as published. Raises DataError, which names the record."""
    value = record.fields.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        raise malformed(record, f"{name} must be a text")
    return value


def number(record: Record, name: str) -> int:
    """A field that must hold a whole number."""
    value = record.fields.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise malformed(record, f"{name} must be a whole number")
    return value


def texts(record: Record, name: str) -> tuple[str, ...]:
    """A field that must hold a list of texts, at least one."""
    value = record.fields.get(name)
    if not isinstance(value, list) or not value or not all(isinstance(each, str) and each.strip() for each in value):
        raise malformed(record, f"{name} must be a list of texts")
    return tuple(value)


def objects(record: Record, name: str, *keys: str) -> tuple[dict[str, Any], ...]:
    """A field that must hold a list of objects, each with a text under every key."""
    value = record.fields.get(name)
    if not isinstance(value, list) or not value:
        raise malformed(record, f"{name} must be a list of objects")
    for each in value:
        if not isinstance(each, dict) or not all(isinstance(each.get(key), str) for key in keys):
            raise malformed(record, f"every entry of {name} must have {' and '.join(keys)}, as text")
    return tuple(value)


def malformed(record: Record, what: str) -> DataError:
    """What to raise for a record that is not as its source publishes them."""
    return DataError(f"record {record.row} of {record.source}/{record.file}: {what}")
