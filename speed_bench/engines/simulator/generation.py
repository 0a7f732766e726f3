"""One request while it is answered: goes through its truth pass by pass, and remembers how far it came, and when."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from speed_bench.engines.simulator.batch import Work
from speed_bench.engines.simulator.faults import Delivery, Piece
from speed_bench.engines.simulator.times import Timed
from speed_bench.engines.simulator.truth import Answer, Asked
from speed_bench.types import Step


@dataclass(frozen=True, slots=True)
class Told:
    """What `/simulator/truth` says of a request that is over."""

    number: int
    id: str | None
    """The client's own, from `speed_bench_request`."""
    asked: Asked
    steps: Sequence[Step]
    """The decode steps that were computed."""
    num_tokens: int
    finish_reason: str | None
    """None: it was not told to anybody."""
    aborted: bool
    """Whether the client hung up before, or was hung up on."""
    faults: tuple[str, ...]

    def as_json(self, wire: str) -> dict[str, Any]:
        """One entry of the page."""
        return {
            "number": self.number,
            "id": self.id,
            "category": self.asked.category,
            "prompt_sha256": self.asked.prompt_sha256,
            "prompt_len": self.asked.prompt_len,
            "wire": wire,
            "steps": [[*step] for step in self.steps],
            "num_tokens": self.num_tokens,
            "finish_reason": self.finish_reason,
            "aborted": self.aborted,
            "faults": self.faults,
        }


class Generation:
    """A request in the batch (`batch.Runs`)."""

    def __init__(
        self,
        *,
        asked: Asked,
        timed: Timed,
        begin: Callable[[], tuple[Answer, Delivery]],
        faults: Iterable[str],
        clock: Callable[[], float],
        sent: Callable[[Piece, Answer], None],
        over: Callable[[Told, Timed], None],
    ) -> None:
        self._asked = asked
        self._timed = timed
        self._begin = begin
        """Computes the answer, and what writes it."""
        self._faults = tuple(sorted(faults))
        self._clock = clock
        self._count = sent
        """Called with every piece, and the answer that it is of, before it is sent."""
        self._tell = over
        """Called once, when no piece will follow."""
        self._begun: tuple[Answer, Delivery] | None = None
        self._next: tuple[Piece, Sequence[bytes]] | None = None
        self._pieces = 0
        self._seen = 0
        self.over = False

    def resumes_at(self, now_s: float) -> float:
        """Later than now while it stalls, which begins when its next piece is due."""
        if "stall" not in self._faults:
            return 0.0
        delivery = self._answer()[1]
        delivery.stall(self._pieces, now_s)
        return delivery.resumes_at

    def work(self) -> Work:
        """The next piece: the prompt first, then a step at a time."""
        if not self._pieces:
            return Work(self._asked.prompt_len)
        drafted = self._answer()[0].steps[self._pieces - 1].drafted
        return Work(0, drafted + 1, self._asked.prompt_len + self._seen, drafted)

    def begin(self) -> None:
        """Compute the answer."""
        if not self.over:
            self._answer()

    def _answer(self) -> tuple[Answer, Delivery]:
        if self._begun is None:
            self._begun = self._begin()
        return self._begun

    def compute(self, model_ms: float) -> None:
        """Compute the next piece, and its events."""
        if self.over:
            return
        answer, delivery = self._answer()
        number = self._pieces
        steps = answer.steps[number - 1 : number] if number else ()
        size = steps[0].emitted if steps else 1
        finish_reason = answer.finish_reason if number == len(answer.steps) else None
        piece = Piece(answer.token_ids[self._seen : self._seen + size], steps, finish_reason, (model_ms,))
        self._next = piece, delivery.events(number, piece)

    def send(self, number: int) -> None:
        """Send the next piece, which pass `number` has brought."""
        if self.over or self._next is None:
            return
        (piece, events), self._next = self._next, None
        answer, delivery = self._answer()
        at, self._pieces, self._seen = self._pieces, self._pieces + 1, self._seen + len(piece.token_ids)
        self._count(piece, answer)
        last = piece.finish_reason is not None
        self._timed.sent(number, self._clock())
        delivery.deliver(at, events, last=last)
        if last or delivery.broken:
            self._end(aborted=delivery.broken)

    def abort(self) -> None:
        """Nobody listens any more: it takes part in no further pass. Does nothing if it is over."""
        if not self.over:
            self._end(aborted=True)

    def _end(self, *, aborted: bool) -> None:
        self.over = True
        steps = self._answer()[0].steps[: self._pieces - 1] if self._pieces else ()
        self._tell(
            Told(
                number=self._timed.number,
                id=self._timed.id,
                asked=self._asked,
                steps=steps,
                num_tokens=self._seen,
                finish_reason=None if aborted else self._answer()[0].finish_reason,
                aborted=aborted,
                faults=self._faults,
            ),
            self._timed,
        )
