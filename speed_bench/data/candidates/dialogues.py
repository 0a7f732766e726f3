"""Prompts that their sources give as turns: Spec-Bench, MT-Bench-101, WritingBench, Creative Writing, OPUS-100."""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from speed_bench.data.candidates.candidate import (
    Candidate,
    candidate,
    dealt,
    framed,
    malformed,
    number,
    objects,
    row_id,
    text,
    texts,
)
from speed_bench.data.sources.library import Record

SPEC_BENCH: Final = {
    **{name: (name, None) for name in ("writing", "roleplay", "reasoning", "math", "coding", "stem", "humanities")},
    "extraction": ("rag", "extraction"),
    "translation": ("multilingual", "de-en"),
    "summarization": ("summarization", None),
    "qa": ("qa", None),
    "math_reasoning": ("math", None),
    "rag": ("rag", "rag"),
}
"""Category of Spec-Bench -> ours, sub_category."""
GRADED: Final = ("coding", "humanities", "math", "stem")
"""The categories whose rows have a difficulty; the questions of MT-Bench are medium there (arXiv 2604.09557)."""
TASKS: Final = {"GR": "general", "MR": "mathematical"}
"""Tasks of MT-Bench-101 that are reasoning -> sub_category."""
OPUS_LANGUAGES: Final = {
    "bn": "Bengali",
    "cs": "Czech",
    "de": "German",
    "el": "Greek",
    "fi": "Finnish",
    "he": "Hebrew",
    "hi": "Hindi",
    "id": "Indonesian",
    "it": "Italian",
    "nl": "Dutch",
    "pl": "Polish",
    "ru": "Russian",
    "tr": "Turkish",
    "uk": "Ukrainian",
    "en": "English",
}
"""With the nine of MMATH these are 23 languages besides English, as many as published."""
OPUS_ROWS: Final = 60
"""Candidates per language pair."""
OPUS_MIN_CHARS: Final = 60
"""Much of OPUS-100 is subtitles of a few words."""

_TRANSLATE: Final = (
    ("Translate this from {source} into {target}.", ""),
    ("", "Please put the text above into natural {target}."),
    ("How would you say the following in {target}?", ""),
)


def spec_bench(records: Sequence[Record]) -> Iterator[Candidate]:
    """Every row as published; its problems of GSM8K in pairs, each a conversation of two turns."""
    first: Record | None = None
    for record in records:
        name = text(record, "category")
        if name not in SPEC_BENCH:
            raise malformed(record, f"category '{name:.40}' is not one of {', '.join(SPEC_BENCH)}")
        category, sub_category = SPEC_BENCH[name]
        turns = texts(record, "turns")
        src_id = f"spec_bench_{record.row}"
        difficulty = "medium" if category in GRADED else None
        if name == "math_reasoning":
            if first is None:
                first = record
                continue
            turns = (*texts(first, "turns"), *turns)
            src_id = f"{number(first, 'question_id')}_{number(record, 'question_id')}"
            first, difficulty = None, "easy"
        yield candidate(category, "spec_bench", src_id, turns, sub_category=sub_category, difficulty=difficulty)


def mtbench101(records: Sequence[Record]) -> Iterator[Candidate]:
    """The user's side of the dialogues of general and mathematical reasoning."""
    for record in records:
        task = text(record, "task")
        if task in TASKS:
            turns = [turn["user"] for turn in objects(record, "history", "user")]
            yield candidate("reasoning", "mtbench101", f"mtbench_101_{record.row}", turns, sub_category=TASKS[task])


def writingbench(records: Sequence[Record]) -> Iterator[Candidate]:
    """The English requests: those with more than 97 of 100 code points below U+2000."""
    for record in records:
        query = text(record, "query")
        if sum(char < "\u2000" for char in query) > 0.97 * len(query):
            src_id = f"writing_bench_{number(record, 'index')}"
            yield candidate("writing", "writingbench", src_id, (query,), sub_category=text(record, "domain1"))


def creative_writing(records: Sequence[Record]) -> Iterator[Candidate]:
    """Each prompt once, with the one of its seeds that its row's id falls to."""
    for record in records:
        src_id = f"creative_writing_v3_{text(record, 'key')}"
        seed = dealt(texts(record, "seed_modifiers"), row_id("writing", "creative_writing_v3", src_id))
        turn = text(record, "writing_prompt").replace("<SEED>", seed)
        yield candidate("writing", "creative_writing_v3", src_id, (turn,), sub_category=text(record, "category"))


def opus100(records: Sequence[Record]) -> Iterator[Candidate]:
    """Sentences to translate into or from English, by the parity of the row; the translation itself is never shown."""
    taken: dict[str, int] = {}
    for record in records:
        pair = re.search(r"(?:^|/)([a-z]{2,3}-[a-z]{2,3})(?:/|$)", record.file)
        both = record.fields.get("translation")
        if pair is None or not isinstance(both, dict):
            raise malformed(record, "translation must be an object, and the file lie in a folder such as de-en")
        codes = pair[1].split("-") if record.row % 2 == 0 else pair[1].split("-")[::-1]
        if not set(codes) <= OPUS_LANGUAGES.keys() or taken.get(pair[1], 0) == OPUS_ROWS:
            continue
        sentence = both.get(codes[0])
        if not isinstance(sentence, str):
            raise malformed(record, f"translation has no text in '{codes[0]}'")
        if len(sentence) < OPUS_MIN_CHARS:
            continue
        taken[pair[1]] = taken.get(pair[1], 0) + 1
        src_id = f"opus100_{pair[1]}_{record.row}"
        source, target = (OPUS_LANGUAGES[code] for code in codes)
        frame = dealt(_TRANSLATE, row_id("multilingual", "opus100", src_id))
        turn = framed(frame, sentence, source=source, target=target)
        yield candidate("multilingual", "opus100", src_id, (turn,), texts=(sentence,), sub_category="-".join(codes))
