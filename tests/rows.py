"""Rows for tests, with text of their own."""

import hashlib

from speed_bench.types import Conversation

THINGS = ("a kettle", "the tide table", "a wooden bridge", "two violins", "the ferry", "a beehive", "an old map")


def row(number: int, *turns: str, category: str = "qa", **changes: object) -> Conversation:
    """A row that differs from every other number's."""
    said = turns or (f"Question {number}: what would you check first about {THINGS[number % len(THINGS)]}, and why?",)
    fields = {
        "question_id": hashlib.sha256(f"tests/{category}/{number}".encode()).hexdigest()[:32],
        "category": category,
        "sub_category": None,
        "turns": said,
        "source": "tests",
        "src_id": f"tests_{number}",
        "difficulty": None,
        "multiturn": len(said) > 1,
    }
    return Conversation(**{**fields, **changes})  # type: ignore[arg-type]


def rows(count: int, category: str = "qa") -> list[Conversation]:
    """So many rows of a category."""
    return [row(number, category=category) for number in range(count)]
