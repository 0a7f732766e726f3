"""The files that users have, and how a record of each becomes a row.

Which one a file is shows in its records, not in its name. Rows hold user turns only: the answers in between are the
model's own when it is measured.
"""

import hashlib
import string
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from speed_bench.data.configs import NUM_ROWS
from speed_bench.data.exchange.records import Place, RecordFile, kind_of
from speed_bench.data.schema import COLUMNS, conversation
from speed_bench.errors import DataError, unknown
from speed_bench.types import Conversation

_MT_BENCH: Final = frozenset(("writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities"))
_SPEC_BENCH: Final = _MT_BENCH | {"translation", "summarization", "qa", "math_reasoning", "rag"}
_BESIDE: Final = frozenset(COLUMNS) - {"turns"}


@dataclass(slots=True)
class Losses:
    """What a file held that rows do not, counted while it is read."""

    columns: Counter[str] = field(default_factory=Counter)
    """Records that had such a column."""
    answers: int = 0
    """Messages of an assistant."""
    mended: int = 0
    """Rows whose `multiturn` did not say how many turns they have."""


@dataclass(frozen=True, slots=True)
class Shape:
    """One kind of file."""

    name: str
    about: str
    convert: Callable[[Place, "Defaults", Losses], Conversation]
    source: str | None = None
    """Id in `SOURCES` of what such a file holds; None where it can be anybody's."""


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a row gets where its record does not say."""

    category: str = "imported"
    source: str = "imported"


def detect(file: RecordFile) -> Shape:
    """The shape of a file, from its records, and of an official builder's output from its name, too.

    Raises DataError for a file that has none of them, with its columns, and for one that has seven of the eight
    columns, with the one that it lacks.
    """
    keys = {key for place in file.places[:100] for key in place.record}
    if keys >= _BESIDE and "turns" in keys:
        official = file.parquet and file.path.name == "test.parquet" and file.path.parent.name in NUM_ROWS
        return SHAPES["model-optimizer" if official else "rows"]
    if keys >= _BESIDE and "messages" in keys:
        official = not file.parquet and file.path.suffix == ".jsonl" and file.path.stem in NUM_ROWS
        return SHAPES["nemo-skills" if official else "conversations"]
    if keys >= {"question_id", "category", "turns"} and keys <= {"question_id", "category", "turns", "reference"}:
        categories = {place.record.get("category") for place in file.places if _is_text(place.record.get("category"))}
        if categories <= _SPEC_BENCH:
            return SHAPES["mt-bench" if categories <= _MT_BENCH else "spec-bench"]
    lacking = set(COLUMNS) - {"turns" if key == "messages" else key for key in keys}
    if len(lacking) == 1:
        raise DataError(
            f"{file.path} lacks {lacking.pop()}, and has the other seven of the eight columns of a row; add it, or "
            "import the file as any conversations: --format conversations"
        )
    if keys & {"turns", "messages"}:
        return SHAPES["conversations"]
    raise DataError(
        f"{file.path} has neither turns nor messages (its columns: {', '.join(sorted(keys))[:200]}); what can be "
        f"imported: {', '.join(SHAPES)}"
    )


def shape_of(file: RecordFile, name: str | None) -> Shape:
    """The shape that is asked for, or the one that the file shows."""
    if name is None:
        return detect(file)
    if name not in SHAPES:
        raise DataError(unknown("format", name, SHAPES))
    return SHAPES[name]


def rows_of(file: RecordFile, shape: Shape, defaults: Defaults, losses: Losses) -> tuple[Conversation, ...]:
    """All rows of a file. Raises DataError for the first record that is none, and for an id that stands there twice."""
    rows: dict[str, Conversation] = {}
    where: dict[str, str] = {}
    for place in file.places:
        row = shape.convert(place, defaults, losses)
        if row.question_id in rows:
            raise DataError(
                f"row {_named(place)} of {place.where} stands at {where[row.question_id]} already; ids must differ"
            )
        rows[row.question_id], where[row.question_id] = row, place.where
    return tuple(rows.values())


def _published(place: Place, _: Defaults, losses: Losses) -> Conversation:
    """The eight columns. `multiturn` is published before the turns are fetched, which can be more than were counted."""
    record = dict(place.record)
    turns, flag = record.get("turns"), record.get("multiturn")
    if isinstance(turns, list) and isinstance(flag, bool) and flag != (len(turns) > 1):
        record["multiturn"] = not flag
        losses.mended += 1
    return conversation(record, place.where)


def _exact(place: Place, _: Defaults, __: Losses) -> Conversation:
    return conversation(place.record, place.where)


def _skills(place: Place, defaults: Defaults, losses: Losses) -> Conversation:
    record = dict(place.record)
    record["turns"] = list(_user_turns(place, record.pop("messages", None), losses))
    return _published(Place(place.where, place.number, record), defaults, losses)


def _question(name: str, source: str) -> Callable[[Place, Defaults, Losses], Conversation]:
    """A `question.jsonl` of Spec-Bench or MT-Bench: the categories stay as they are named there."""

    def convert(place: Place, defaults: Defaults, losses: Losses) -> Conversation:
        if place.record.get("question_id") is None or not _is_text(place.record.get("category")):
            raise DataError(f"row {_named(place)} of {place.where} lacks question_id or category, which {name} has")
        return _conversation(place, Defaults(defaults.category, source), losses, name)

    return convert


def _any(place: Place, defaults: Defaults, losses: Losses) -> Conversation:
    return _conversation(place, defaults, losses, "conversations")


def _conversation(place: Place, defaults: Defaults, losses: Losses, shape: str) -> Conversation:
    """A record with `turns` or `messages`; what else it has of the eight columns is kept, the rest is counted."""
    record = place.record
    turns = record.get("turns")
    if ("turns" in record) == ("messages" in record):
        raise DataError(f"row {_named(place)} of {place.where} must have either turns or messages")
    given = _user_turns(place, record["messages"], losses) if "messages" in record else turns
    if not isinstance(given, list | tuple):
        raise DataError(f"row {_named(place)} of {place.where}: turns must be a list of texts")
    if not given:
        raise DataError(f"row {_named(place)} of {place.where} has no turns")
    for number, turn in enumerate(given, 1):
        if not isinstance(turn, str) or not turn.strip():
            what = "empty" if isinstance(turn, str) else f"{kind_of(turn)}, and a text is expected"
            raise DataError(f"row {_named(place)} of {place.where}: turn {number} is {what}")
    losses.columns.update(sorted(set(record) - _BESIDE - {"turns", "messages", "id"}))
    original = _original_id(place)
    row = {
        "question_id": _question_id(shape, original or f"row_{place.number}"),
        "category": record.get("category") or defaults.category,
        "sub_category": record.get("sub_category"),
        "turns": list(given),
        "source": record.get("source") or defaults.source,
        "src_id": record.get("src_id") or original or f"row_{place.number}",
        "difficulty": record.get("difficulty"),
        "multiturn": len(given) > 1,
    }
    return conversation(row, place.where)


def _user_turns(place: Place, messages: Any, losses: Losses) -> tuple[str, ...]:
    if not isinstance(messages, list) or not messages:
        raise DataError(f"row {_named(place)} of {place.where}: messages must be a list of objects, and not empty")
    turns: list[str] = []
    for message in messages:
        role, content = (message.get("role"), message.get("content")) if isinstance(message, Mapping) else (None, None)
        if role == "assistant":
            losses.answers += 1
            continue
        if role != "user":
            what = f"a message of role {role!r:.40}" if role is not None else "a message without a role"
            raise DataError(
                f"row {_named(place)} of {place.where} has {what}, but rows hold user turns only; take it out, or put "
                "its text into the first turn"
            )
        if not isinstance(content, str):
            raise DataError(f"row {_named(place)} of {place.where}: the content of a message must be text")
        turns.append(content)
    return tuple(turns)


def _question_id(shape: str, original: str) -> str:
    """The id if it is 32 hex digits, else a hash of the format and the id: the same in every import."""
    if len(original) == 32 and not set(original) - set(string.digits + "abcdef"):
        return original
    return hashlib.sha256(f"{shape}/{original}".encode()).hexdigest()[:32]


def _original_id(place: Place) -> str | None:
    given = place.record.get("question_id", place.record.get("id"))
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int | str) or given == "":
        raise DataError(f"row {place.number + 1} of {place.where}: its id must be text or a whole number")
    return str(given)


def _named(place: Place) -> str:
    """The record's own id as far as a terminal may show it, or its number."""
    given = place.record.get("question_id", place.record.get("id"))
    shown = "".join(each for each in str(given)[:80] if each.isprintable()) if given is not None else ""
    return shown or str(place.number + 1)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _shapes(shapes: Iterable[Shape]) -> Mapping[str, Shape]:
    return MappingProxyType({shape.name: shape for shape in shapes})


SHAPES: Final = _shapes(
    [
        Shape(
            "model-optimizer",
            "<config>/test.parquet of the builder of NVIDIA Model-Optimizer",
            _published,
        ),
        Shape("nemo-skills", "<config>.jsonl of the builder of NeMo-Skills, with messages", _skills),
        Shape("rows", "the eight columns, as Parquet or JSON lines", _exact),
        Shape(
            "spec-bench",
            "question.jsonl of Spec-Bench, 13 categories",
            _question("spec-bench", "Spec-Bench"),
            "spec_bench",
        ),
        Shape("mt-bench", "question.jsonl of MT-Bench, 8 categories", _question("mt-bench", "MT-Bench"), "mt_bench"),
        Shape("conversations", "any records with turns or messages", _any),
    ]
)
OFFICIAL: Final = MappingProxyType({"model-optimizer": "NVIDIA Model-Optimizer", "nemo-skills": "NeMo-Skills"})
"""Shapes that are output of a builder of nvidia/SPEED-Bench, with the builder."""
