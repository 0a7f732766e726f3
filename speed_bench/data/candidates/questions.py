"""Questions with an answer to find: MMLU-Pro, HLE, GSM8K, MMATH, Stack Overflow."""

import string
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final

from speed_bench.data.candidates.candidate import Candidate, candidate, dealt, malformed, number, row_id, text, texts
from speed_bench.data.sources.library import Record

FIELDS: Final = {
    "math": "math",
    **dict.fromkeys(("physics", "chemistry", "biology", "engineering", "computer science", "health"), "stem"),
    **dict.fromkeys(("history", "law", "philosophy", "psychology", "economics"), "humanities"),
}
"""Category of MMLU-Pro -> ours. The others, `business` and `other`, give conversations for `reasoning` only."""
HLE_FIELDS: Final = {
    "Math": "math",
    **dict.fromkeys(("Physics", "Chemistry", "Biology/Medicine", "Computer Science/AI", "Engineering"), "stem"),
    "Humanities/Social Science": "humanities",
}
"""Category of HLE -> ours. Its `Other` is left out."""
LANGUAGES: Final = ("ar", "es", "fr", "ja", "ko", "pt", "th", "vi", "zh")
"""Of MMATH for `multilingual`; its English problems go to `math`."""
NUM_SINGLES: Final = 8
"""Questions of MMLU-Pro that stand alone after each conversation of 1 to 5."""
MAX_QUESTION_CHARS: Final = 200
"""Of a Stack Overflow question for `qa`, whose prompts are short."""

_CHOOSE: Final = (
    "Which answer is right? Give your reasons, then the letter.",
    "Pick one of the options and explain your choice in a few sentences.",
    "Work out the answer step by step and end with the letter of the option.",
)
_CHOOSE_EACH: Final = (
    "I will ask you several questions in a row. Reason about each one, then name the letter of the right option.",
    "Let us go through some exam questions together, one at a time. Explain how you come to each answer.",
)


def mmlu_pro(records: Sequence[Record]) -> Iterator[Candidate]:
    """In the order of the file and category by category: a conversation of 1 to 5 consecutive questions for
    `reasoning`, then 8 single questions for the category's field, and so on. No question is used twice.

    Fewer than three options are no choice, and are left out.
    """
    chosen = [record for record in records if len(texts(record, "options")) >= 3]
    # rows of a conversation follow each other, for src_id names the first of them only
    runs = groupby(enumerate(chosen), lambda each: (text(each[1], "category"), each[1].row - each[0]))
    for (subject, _), run in runs:
        rows, block = [record for _, record in run], 0
        while rows:
            size = block % 5 + 1
            yield _mmlu_pro(rows[:size], subject, "reasoning")
            rows, block = rows[size:], block + 1
            if subject in FIELDS:
                yield from (_mmlu_pro([row], subject, FIELDS[subject]) for row in rows[:NUM_SINGLES])
                rows = rows[NUM_SINGLES:]


def _mmlu_pro(rows: Sequence[Record], subject: str, category: str) -> Candidate:
    src_id = f"mmlu_pro_({rows[0].row}, '{subject}')"
    question_id = row_id(category, "mmlu_pro", src_id)
    asked = [_with_options(row) for row in rows]
    turns = list(asked)
    if len(rows) == 1:
        turns[0] += "\n\n" + dealt(_CHOOSE, question_id)
    else:
        turns[0] = dealt(_CHOOSE_EACH, question_id) + "\n\n" + turns[0]
    difficulty = None if category == "reasoning" else "medium"
    return candidate(category, "mmlu_pro", src_id, turns, texts=asked, sub_category=subject, difficulty=difficulty)


def _with_options(record: Record) -> str:
    options = texts(record, "options")
    if len(options) > len(string.ascii_uppercase):
        raise malformed(record, f"{len(options)} options, more than there are letters")
    lines = [f"{letter}. {option.strip()}" for letter, option in zip(string.ascii_uppercase, options, strict=False)]
    return "\n".join((text(record, "question").strip(), *lines))


def hle(records: Sequence[Record]) -> Iterator[Candidate]:
    """Questions as published; those that need a picture are left out."""
    for record in records:
        category = HLE_FIELDS.get(text(record, "category"))
        if category is None or record.fields.get("image"):
            continue
        yield candidate(
            category,
            "hle",
            text(record, "id"),
            (text(record, "question"),),
            sub_category=text(record, "raw_subject"),
            difficulty="hard",
        )


def gsm8k(records: Sequence[Record]) -> Iterator[Candidate]:
    """Of every three problems the first alone, the other two as a conversation of two turns."""
    rest: list[Record] = []
    for record in records:
        if record.row % 3 == 0:
            yield _gsm8k([record])
        elif record.row % 3 == 1:
            rest = [record]
        elif rest:
            yield _gsm8k([*rest, record])
            rest = []
    if rest:
        yield _gsm8k(rest)


def _gsm8k(rows: Sequence[Record]) -> Candidate:
    src_id = "gsm8k_" + "_".join(str(row.row) for row in rows)
    return candidate("math", "gsm8k", src_id, [text(row, "question") for row in rows], difficulty="easy")


def mmath(records: Sequence[Record]) -> Iterator[Candidate]:
    """Every problem in one language only, by its number: an embedder does not see that two prompts are translations.

    A quarter goes to `math` in English, the rest round the nine other languages.
    """
    for record in records:
        gid, language = number(record, "gid"), text(record, "lang")
        turns = (text(record, "question"),)
        src_id = f"mmath_{gid}"
        if language == "en" and gid % 4 == 0:
            difficulty = "medium" if text(record, "data_source").startswith("MATH500") else "hard"
            yield candidate("math", "mmath", src_id, turns, sub_category="en_math", difficulty=difficulty)
        elif gid % 4 and language == LANGUAGES[(gid // 4 * 3 + gid % 4 - 1) % len(LANGUAGES)]:
            yield candidate("multilingual", "mmath", src_id, turns, sub_category=f"{language}_math")


def stackselect(records: Sequence[Record]) -> Iterator[Candidate]:
    """The short questions, without their answers."""
    for record in records:
        question = text(record, "question").strip()
        if len(question) <= MAX_QUESTION_CHARS:
            yield candidate("qa", "adaleval_stackselect", text(record, "question_id"), (question,))
