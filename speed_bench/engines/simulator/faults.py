"""Faults on demand: which ones a request suffers, and what they do to its stream.

A stream goes through a `Delivery` piece by piece: piece 0 is what prefill emits, piece k the k-th decode step. What
happens in the middle happens in place of the piece whose number is half the number of decode steps, rounded up.
"""

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn, Protocol

from speed_bench.engine_config import Fault
from speed_bench.types import Step

DONE = b"data: [DONE]\n\n"
"""What ends a stream of an engine that speaks OpenAI's protocol. It is no event of the answer."""
CRASH = "RuntimeError: CUDA error: an illegal memory access was encountered (simulated)"
EXIT_CODE = 3


@dataclass(frozen=True, slots=True)
class Piece:
    """What one pass brings for one request."""

    token_ids: tuple[int, ...]
    steps: tuple[Step, ...] = ()
    """The decode steps that emitted them; none: prefill did."""
    finish_reason: str | None = None
    """With the last piece."""
    clocks: tuple[float, ...] = ()
    """The model's own clock, in milliseconds, at the end of each pass that it is from."""

    def then(self, later: "Piece") -> "Piece":
        """Both as one."""
        return Piece(
            self.token_ids + later.token_ids,
            self.steps + later.steps,
            later.finish_reason,
            self.clocks + later.clocks,
        )


class Stream(Protocol):
    """The client's end of an answer."""

    def send(self, events: Sequence[bytes], *, last: bool) -> None:
        """Write what a pass brings, each event by itself; after the last ones the answer ends in order."""

    def reset(self) -> None:
        """The connection is reset."""


def suffered(faults: Iterable[Fault], number: int) -> dict[str, Fault]:
    """The faults of a request, by kind; requests are numbered in the order in which they come in."""
    return {fault.kind: fault for fault in faults if fault.request in (None, number) and fault.kind != "slow-start"}


def start_delay_s(faults: Iterable[Fault]) -> float:
    """How long after its start a server is not ready yet."""
    return max((fault.seconds for fault in faults if fault.kind == "slow-start"), default=0.0)


class Delivery:
    """Turns the pieces of one answer into events, and sends them, or not."""

    def __init__(
        self, stream: Stream, write: Callable[[Piece], Sequence[bytes]], faults: Mapping[str, Fault], num_steps: int
    ) -> None:
        self._stream = stream
        self._write = write
        self._faults = faults
        self._middle = (num_steps + 1) // 2
        self._garbled = False
        self._merging: Piece | None = None
        self._kept: list[bytes] = []
        """With `early-usage`: the event before the next one, which may have to come after it."""
        self.resumes_at = 0.0
        self.broken = False
        """Whether nothing more can be sent."""

    def stall(self, number: int, now_s: float) -> None:
        """Piece `number` is due: it has to wait until `resumes_at` where the stream stalls before it."""
        if "stall" in self._faults and number == self._middle and not self.resumes_at:
            self.resumes_at = now_s + self._faults["stall"].seconds

    def events(self, number: int, piece: Piece) -> Sequence[bytes]:
        """The events to be sent for piece `number`; they have to be asked for in order."""
        if not self._faults:
            return self._write(piece)
        merged = self._merge(piece)
        if merged is None:
            return ()
        events = list(self._write(merged))
        if number >= self._middle and "malformed" in self._faults and not self._garbled:
            self._garbled = True
            events[0] = events[0][: len(events[0]) // 2] + b"\n\n"
        last = piece.finish_reason is not None
        return () if last and "truncate" in self._faults else self._in_order(events, last=last)

    def deliver(self, number: int, events: Sequence[bytes], *, last: bool) -> None:
        """Send the events of piece `number`, and the end of the stream after the last one."""
        if number == self._middle and "crash" in self._faults:
            crash()
        if number == self._middle and "reset" in self._faults:
            self.broken = True
            self._stream.reset()
        elif events or last:
            self._stream.send(events, last=last)

    def _merge(self, piece: Piece) -> Piece | None:
        """The piece, with those that were kept for it; None if it is kept itself."""
        if "merge" not in self._faults or not piece.steps:
            return piece
        merged = self._merging.then(piece) if self._merging else piece
        whole = piece.finish_reason is not None or len(merged.steps) >= self._faults["merge"].steps
        self._merging = None if whole else merged
        return merged if whole else None

    def _in_order(self, events: list[bytes], *, last: bool) -> list[bytes]:
        """The events to send now; with `early-usage` the last one of all before the one before it."""
        if "early-usage" not in self._faults:
            return events
        ready = [*self._kept, *(event for event in events if event != DONE)]
        if not last:
            self._kept = ready[-1:]
            return ready[:-1]
        return [*ready[:-2], *reversed(ready[-2:]), *(event for event in events if event == DONE)]


def crash() -> NoReturn:
    """End the process as an engine ends that met what it cannot go on from."""
    sys.stderr.write(CRASH + "\n")
    sys.stderr.flush()
    os._exit(EXIT_CODE)
