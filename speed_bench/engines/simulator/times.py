"""When things happened: passes, and the tokens of every request, on the clock that all processes of a machine share.

A client's stamps are seconds of `time.perf_counter`, and so are these. What is kept is bounded: the oldest goes.
"""

from array import array
from collections import deque
from dataclasses import dataclass, field
from typing import Any, NamedTuple

LATE_S = 0.002
"""A pass that ends so much after its time is late."""
MOST_PASSES = 1 << 16
MOST_PIECES = 1 << 20
"""Over all requests, a piece being what one pass brings for one of them."""


@dataclass(slots=True)
class Load:
    """What the batch has done so far."""

    passes: int = 0
    late: int = 0
    """Passes that ended more than `LATE_S` after their time."""
    max_late_s: float = 0.0
    max_batch: int = 0
    model_ms: float = 0.0
    """Time in passes, by the model's own clock."""
    max_send_s: float = 0.0
    """The longest that the last request of a batch had to wait until what came before it was sent."""

    def passed(self, done: "Pass") -> None:
        """One more pass."""
        late_s = done.ended_s - done.due_s
        self.passes += 1
        self.late += late_s > LATE_S
        self.max_late_s = max(self.max_late_s, late_s)
        self.max_batch = max(self.max_batch, done.batch)
        self.max_send_s = max(self.max_send_s, done.sent_s - done.ended_s)
        self.model_ms = done.model_ms


class Pass(NamedTuple):
    """One pass of the model."""

    began_s: float
    """What came in until then took part, if there was a place."""
    due_s: float
    """When it was to end, as the step-time model says."""
    ended_s: float
    """When it did."""
    sent_s: float
    """When everything that it brought was sent."""
    model_ms: float
    """The model's own clock at its end."""
    batch: int
    """Requests that took part."""


@dataclass(slots=True)
class Timed:
    """One request. Piece 0 is what prefill emits, piece k the k-th decode step."""

    number: int
    id: str | None
    arrived_s: float
    """When its last byte was read."""
    passes: "array[int]" = field(default_factory=lambda: array("I"))
    """Which pass brought each piece, counted from 0."""
    sent_s: "array[float]" = field(default_factory=lambda: array("d"))
    """When the bytes of each piece were about to be written: nobody can have read them earlier. By a fault they may
    have been kept back for the next one."""

    def sent(self, number: int, at_s: float) -> None:
        """One more piece."""
        self.passes.append(number)
        self.sent_s.append(at_s)


class Times:
    """The last passes, and the last requests that are over."""

    def __init__(self, most_passes: int = MOST_PASSES, most_pieces: int = MOST_PIECES) -> None:
        self._num_passes = 0
        self._passes: deque[Pass] = deque(maxlen=most_passes)
        self._requests: deque[Timed] = deque()
        self._most_pieces = most_pieces
        self._num_pieces = 0

    def passed(self, done: Pass) -> None:
        """One more pass."""
        self._num_passes += 1
        self._passes.append(done)

    def ended(self, timed: Timed) -> None:
        """One more request is over."""
        self._requests.append(timed)
        self._num_pieces += 1 + len(timed.passes)
        while self._num_pieces > self._most_pieces:
            self._num_pieces -= 1 + len(self._requests.popleft().passes)

    def as_json(self) -> dict[str, Any]:
        """The page `/simulator/times`: columns."""
        columns = map(list, zip(*self._passes, strict=True)) if self._passes else [[] for _ in Pass._fields]
        return {
            "first_pass": self._num_passes - len(self._passes),
            "passes": dict(zip(Pass._fields, columns, strict=True)),
            "requests": [
                {
                    "number": timed.number,
                    "id": timed.id,
                    "arrived_s": timed.arrived_s,
                    "passes": timed.passes.tolist(),
                    "sent_s": timed.sent_s.tolist(),
                }
                for timed in self._requests
            ],
        }
