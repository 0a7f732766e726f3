"""How long work tells how far it is."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Told the name of a stage, and how many of how many are done."""


def silent(stage: str, done: int, total: int) -> None:
    """Tells nobody."""
