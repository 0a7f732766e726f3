"""Wire formats: how each engine is asked, how it answers, and what it says of itself. One module each.

A wire is a module of pure functions (the `Wire` protocol): requests and truth in, bytes out.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from speed_bench.engines.simulator.faults import Piece
from speed_bench.engines.simulator.lexicon import Lexicon
from speed_bench.engines.simulator.truth import Answer, Habits
from speed_bench.types import Step

MODEL = "simulated"
"""The name under which the model is served."""
Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that is no stream."""

    status: int
    body: bytes
    content_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a request asks for, in one spelling."""

    ids: Sequence[int]
    max_tokens: int
    temperature: float
    seed: int
    ignore_eos: bool

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ValueError(f"an answer of at most {self.max_tokens} tokens is asked for")


@dataclass(slots=True)
class Counters:
    """What an engine counts over all requests since its start."""

    steps: dict[Step, int] = field(default_factory=dict)
    """How often each kind of decode step was made."""
    prompt_tokens: int = 0
    output_tokens: int = 0
    finished: dict[str, int] = field(default_factory=dict)

    @property
    def verify_steps(self) -> int:
        """Steps that had a proposal."""
        return sum(num for step, num in self.steps.items() if step.drafted)

    @property
    def drafted(self) -> int:
        """All drafted tokens."""
        return sum(step.drafted * num for step, num in self.steps.items())

    @property
    def accepted(self) -> int:
        """All accepted tokens."""
        return sum(step.accepted * num for step, num in self.steps.items())

    @property
    def longest(self) -> int:
        """The longest proposal of any step."""
        return max((step.drafted for step in self.steps), default=0)

    def add(self, step: Step) -> None:
        """One decode step."""
        self.steps[step] = self.steps.get(step, 0) + 1

    def end(self, prompt_len: int, num_tokens: int, finish_reason: str) -> None:
        """One answer."""
        self.prompt_tokens += prompt_len
        self.output_tokens += num_tokens
        self.finished[finish_reason] = self.finished.get(finish_reason, 0) + 1

    def accepted_to(self, length: int) -> list[int]:
        """How many steps accepted at least k + 1 tokens, for each of so many positions k."""
        return [sum(num for step, num in self.steps.items() if step.accepted > k) for k in range(length)]

    def drafted_to(self, length: int) -> list[int]:
        """The same of drafted tokens."""
        return [sum(num for step, num in self.steps.items() if step.drafted > k) for k in range(length)]


@dataclass(frozen=True, slots=True)
class Server:
    """What a server can say of itself."""

    lexicon: Lexicon
    context_length: int
    algorithm: str
    draft_length: int
    """0 without speculation."""
    concurrency: int
    request_stats: bool
    """Whether requests are reported on where only newer versions do."""
    counters: Counters
    started_at: int
    """Unix time."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One request, as its events are written."""

    number: int
    created: int
    """Unix time."""
    arrived_ms: float
    """The model's own clock when it came in."""
    body: Body
    prompt: Prompt
    answer: Answer


Writer = Callable[[Piece], Sequence[bytes]]
"""The events of one piece of an answer; they have to be asked for in order."""


class Wire(Protocol):
    """What the server needs to know of the engine that it plays."""

    COMPLETION: str
    """The path of requests that are answered by the truth."""
    HABITS: Habits
    CLOSES_AFTER_STREAM: bool
    COUNTS_AT_END: bool
    """Whether its counters know of a request only when it has ended; else of every step."""
    REFUSES_IN_STREAM: bool
    """Whether a request that cannot be served is refused in a stream, with status 200."""

    def prompt(self, body: Body) -> Prompt:
        """The body of a completion request, read. Raises KeyError, TypeError or ValueError if it is none."""

    def refusal(self, prompt: Prompt, context_length: int) -> str | None:
        """Why the request cannot be served, in the engine's words; None if it can."""

    def error(self, status: int, message: str) -> bytes:
        """An error, as the engine writes it."""

    def writer(self, turn: Turn, server: Server) -> Writer:
        """What writes the events of one answer."""

    def get(self, path: str, server: Server) -> Reply | None:
        """A page of information; None if the engine has no such page."""

    def post(self, path: str, body: Body, server: Server) -> Reply | None:
        """Anything that is asked besides answers, such as the ids of a text."""


def integer(value: Any) -> int:
    """A number as it comes in JSON; raises TypeError for anything else.

    >>> integer(3)
    3
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"an integer is expected, not {value!r}")
    return value


def token_ids(value: Any) -> Sequence[int]:
    """Prompt ids as they come in JSON; raises TypeError for anything else, such as a text."""
    if not isinstance(value, list) or not value or set(map(type, value)) != {int}:
        raise TypeError("the prompt is no list of token ids")
    if min(value) < 0 or max(value) >= 2**32:
        raise ValueError("the prompt has ids that are none")
    return value


def prometheus(kind: str, name: str, help_text: str, samples: Sequence[tuple[str, float]]) -> str:
    """One metric in Prometheus's text format: (labels, value) of each sample.

    >>> print(prometheus("counter", "x_total", "X.", [('a="1"', 2)]), end="")
    # HELP x_total X.
    # TYPE x_total counter
    x_total{a="1"} 2.0
    """
    lines = [f"# HELP {name} {help_text}", f"# TYPE {name} {kind}"]
    lines += [f"{name}{{{labels}}} {float(value)}" for labels, value in samples]
    return "\n".join(lines) + "\n"


PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
"""The content type of metrics."""
