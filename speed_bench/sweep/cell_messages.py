"""What a sweep and the process of a cell tell each other, beside the messages of a client's workers."""

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speed_bench.errors import SpeedBenchError
from speed_bench.runner.messages import LENGTH_BYTES, HasFailed
from speed_bench.sweep.cells import Cell


@dataclass(frozen=True, slots=True)
class CellJob:
    """What is to be run, and in which folder of a sweep."""

    cell: Cell
    sweep: Path


@dataclass(frozen=True, slots=True)
class HasBegun:
    """The cell asks its first turn, or what is left of it."""

    num_turns: int


@dataclass(frozen=True, slots=True)
class IsOver:
    """The cell has ended in order."""


def messages(told: bytes) -> tuple[list[Any], int]:
    """The whole messages at the beginning of what a program told, and how many bytes they take.

    >>> from speed_bench.runner.messages import packed
    >>> whole = packed(IsOver())
    >>> messages(whole + whole[:5]) == ([IsOver()], len(whole))
    True
    """
    found: list[Any] = []
    at = 0
    while at + LENGTH_BYTES <= len(told):
        end = at + LENGTH_BYTES + int.from_bytes(told[at : at + LENGTH_BYTES], "little")
        if end > len(told):
            break
        found.append(pickle.loads(told[at + LENGTH_BYTES : end]))  # noqa: S301  (from a process of our own)
        at = end
    return found, at


def failure(error: SpeedBenchError) -> HasFailed:
    """An error as it is told; its sentence alone where it cannot be sent."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301
    except Exception:
        error = SpeedBenchError(str(error))
    return HasFailed(error)
