"""One request while it is answered: goes through its truth pass by pass, and remembers how far it came."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from speed_bench.engines.simulator.batch import Work
from speed_bench.engines.simulator.faults import Delivery, Piece
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
        number: int,
        name: str | None,
        asked: Asked,
        answer: Answer,
        delivery: Delivery,
        faults: Iterable[str],
        computed: Callable[[Piece], None],
        over: Callable[[Told], None],
    ) -> None:
        self._number = number
        self._name = name
        self._asked = asked
        self._answer = answer
        self._delivery = delivery
        self._faults = tuple(sorted(faults))
        self._computed = computed
        """Called with every piece before it is sent."""
        self._tell = over
        """Called once, when no piece will follow."""
        self._pieces = 0
        self._seen = 0
        self.over = False

    def resumes_at(self, now_s: float) -> float:
        """Later than now while it stalls, which begins when its next piece is due."""
        self._delivery.stall(self._pieces, now_s)
        return self._delivery.resumes_at

    def work(self) -> Work:
        """The next piece: the prompt first, then a step at a time."""
        if not self._pieces:
            return Work(prefill_tokens=self._asked.prompt_len)
        drafted = self._answer.steps[self._pieces - 1].drafted
        context = self._asked.prompt_len + self._seen
        return Work(verified_tokens=drafted + 1, context_tokens=context, draft_length=drafted)

    def advance(self, model_ms: float) -> None:
        """Compute the next piece, and send it."""
        number, answer = self._pieces, self._answer
        if self.over:
            return
        steps = answer.steps[number - 1 : number] if number else ()
        size = steps[0].emitted if steps else 1
        last = number == len(answer.steps)
        finish_reason = answer.finish_reason if last else None
        piece = Piece(answer.token_ids[self._seen : self._seen + size], steps, finish_reason, (model_ms,))
        self._pieces, self._seen = number + 1, self._seen + size
        self._computed(piece)
        self._delivery.deliver(number, piece)
        if last or self._delivery.broken:
            self._end(aborted=self._delivery.broken)

    def abort(self) -> None:
        """Nobody listens any more: it takes part in no further pass. Does nothing if it is over."""
        if not self.over:
            self._end(aborted=True)

    def _end(self, *, aborted: bool) -> None:
        self.over = True
        self._tell(
            Told(
                number=self._number,
                id=self._name,
                asked=self._asked,
                steps=self._answer.steps[: max(0, self._pieces - 1)],
                num_tokens=self._seen,
                finish_reason=None if aborted else self._answer.finish_reason,
                aborted=aborted,
                faults=self._faults,
            )
        )
