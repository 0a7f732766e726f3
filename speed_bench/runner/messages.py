"""What a run and the workers of its client tell each other: pickles, between processes of our own."""

import asyncio
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speed_bench.errors import SpeedBenchError
from speed_bench.runner.client import Target
from speed_bench.runner.outcomes import Ended
from speed_bench.runner.preparation import TokenizerSource
from speed_bench.runner.share import Plan, Share

LENGTH_BYTES = 8


@dataclass(frozen=True, slots=True)
class Job:
    """All that a worker is told before it begins."""

    plan: Plan
    share: Share
    target: Target
    tokenizer: TokenizerSource
    folder: Path
    hint: str


@dataclass(frozen=True, slots=True)
class Start:
    """Begin the load: a time of the clock, which all processes of a machine share."""

    started_ns: int


@dataclass(frozen=True, slots=True)
class IsPrepared:
    """Warm, and everything encoded that is sent first."""


@dataclass(frozen=True, slots=True)
class HasKept:
    """Turns that are in the journal since it last told."""

    turns: tuple[Ended, ...]


@dataclass(frozen=True, slots=True)
class HasFailed:
    """Why it cannot go on."""

    error: SpeedBenchError | None
    """For the user; None: a fault of ours, and `trace` says where."""
    trace: str = ""


def packed(message: Any) -> bytes:
    """A message as it is sent: its length, then its pickle."""
    body = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return len(body).to_bytes(LENGTH_BYTES, "little") + body


async def read_message(reader: asyncio.StreamReader) -> Any:
    """The next message. Raises asyncio.IncompleteReadError at the end."""
    length = int.from_bytes(await reader.readexactly(LENGTH_BYTES), "little")
    return pickle.loads(await reader.readexactly(length))  # noqa: S301  (from a process of our own)
