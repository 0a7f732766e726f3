"""Rows, invented, whose texts have what files lose: blanks, line ends, quotes, other scripts, templates."""

from speed_bench.types import Conversation

TEXTS = (
    "Which tide comes first after the new moon?",
    "  Keep my blanks:\n\n\tindented, and two at the end  ",
    "one line\r\nand another\rand one\u2028more\u0085end",
    'Say "\\n" and {x.__class__} and {0} and %s and $HOME, <b>as they are</b>.',
    "🧑🏽‍🚀 ناقش المدّ والجزر — 潮汐は？ Ålesund, İstanbul",
    "42",
    "word " * 3000,
    "a\x00b\x1b[31mc",
)


def row(number: int, *turns: str, **changes: object) -> Conversation:
    """A row of these turns."""
    columns = {
        "question_id": f"{number:032x}",
        "category": ("coding", "qa")[number % 2],
        "sub_category": (None, "tides")[number % 2],
        "turns": turns,
        "source": "tests",
        "src_id": f"tests_{number}",
        "difficulty": ("easy", None)[number % 2],
        "multiturn": len(turns) > 1,
    }
    return Conversation(**{**columns, **changes})  # type: ignore[arg-type]


SINGLE = tuple(row(number, text) for number, text in enumerate(TEXTS))
MIXED = (*SINGLE, row(100, TEXTS[0], TEXTS[1], TEXTS[4]), row(101, TEXTS[2], TEXTS[3]))
