"""The values that pass between stages: frozen, checked once when made, trusted afterwards.

Times are seconds as floats, relative to the start of the segment (one engine lifetime) in
which they were taken; counts are plain integers. A value that an origin cannot know is None.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

Origin = Literal["engine", "stream", "server"]
LastStep = Literal["complete", "cut", "unknown"]


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


@dataclass(frozen=True, slots=True)
class Conversation:
    """One published row: the user's turns of a conversation, with where they come from."""

    question_id: str
    """32 hex characters, unique in its config."""
    category: str
    sub_category: str | None
    turns: tuple[str, ...]
    source: str
    src_id: str
    difficulty: str | None
    multiturn: bool

    def __post_init__(self) -> None:
        is_hex = len(self.question_id) == 32 and not set(self.question_id) - set("0123456789abcdef")
        _require(is_hex, f"question_id '{self.question_id}' is not 32 hex characters")
        _require(bool(self.category), f"row {self.question_id} has no category")
        _require(
            bool(self.turns) and all(isinstance(turn, str) and turn.strip() for turn in self.turns),
            f"row {self.question_id} has no turns, or an empty one",
        )
        _require(
            self.multiturn == (len(self.turns) > 1),
            f"row {self.question_id} says multiturn={self.multiturn} but has {len(self.turns)} turn(s)",
        )


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the engine chooses tokens."""

    temperature: float
    max_tokens: int
    seed: int
    stop_ids: tuple[int, ...] = ()
    """Ids that end an answer, for engines that take them with the request."""
    ignore_eos: bool = False
    """Whether an answer goes on to `max_tokens` whatever it says."""

    def __post_init__(self) -> None:
        _require(self.temperature >= 0, f"temperature {self.temperature} is negative")
        _require(self.max_tokens >= 1, f"max_tokens {self.max_tokens} is below 1")


@dataclass(frozen=True, slots=True)
class Request:
    """One turn, ready to send: prompts are token ids, always."""

    id: str
    """`<question_id>/<turn>`, turns counted from 0."""
    prompt_ids: tuple[int, ...]
    sampling: Sampling
    slot: int = 0
    """Which of the client's concurrent streams sends it."""


class Step(NamedTuple):
    """One decode step: `drafted` tokens proposed, `accepted` of them right, `emitted` shown.

    `emitted == accepted + 1` (the bonus or correction token), except in the last step of a
    turn, which EOS or a limit may have cut. `drafted == 0` is a plain step.
    """

    drafted: int
    accepted: int
    emitted: int


@dataclass(frozen=True, slots=True)
class SpecCounts:
    """Acceptance of one turn, or of an engine's lifetime, as exactly as its origin can know it."""

    drafted: int | None
    """Tokens proposed and verified."""
    accepted: int | None
    """Proposed tokens that verification accepted, before any cut by EOS or a limit."""
    verify_steps: int | None
    """Decode steps that had a proposal."""
    num_steps: int | None
    """All decode steps: verification steps and plain ones."""
    per_step: tuple[Step, ...] | None
    """The decode steps, in the order of the text where `aligned`. Steps that the origin could count
    but not tell apart are left out and numbered in `unplaced_steps`; where `num_steps` is None, plain
    steps are left out."""
    origin: Origin
    aligned: bool
    """Whether every step can be placed in the output text."""
    unplaced_steps: int = 0
    emitted: tuple[int, ...] | None = None
    """Tokens that each decode step emitted, in the order of the text, where what it drafted is not known."""
    histogram: tuple[int, ...] | None = None
    """Verification steps that accepted exactly 0, 1, 2, … tokens, where which step did is not known."""
    full_draft_length: int | None = None
    """What every verification step drafted, if all drafted the same; None: not known."""
    per_position: tuple[int, ...] | None = None
    """How many steps accepted at least k tokens, k = 1, 2, …, where the engine counts it."""

    def __post_init__(self) -> None:
        for name in ("drafted", "accepted", "verify_steps", "num_steps", "unplaced_steps"):
            value = getattr(self, name)
            _require(value is None or value >= 0, f"{name} is negative: {value}")
        if self.drafted is not None and self.accepted is not None:
            _require(self.accepted <= self.drafted, f"accepted {self.accepted} of {self.drafted} drafted tokens")
        if self.num_steps is not None and self.verify_steps is not None:
            _require(self.verify_steps <= self.num_steps, "more verification steps than decode steps")
        if self.emitted is not None:
            _require(
                self.num_steps == len(self.emitted), f"{len(self.emitted)} of {self.num_steps} steps have a length"
            )
            _require(min(self.emitted, default=1) >= 1, "a decode step emits at least one token")
        if self.histogram is not None and self.verify_steps is not None:
            _require(
                sum(self.histogram) == self.verify_steps,
                f"the histogram holds {sum(self.histogram)} of {self.verify_steps} verification steps",
            )
        if self.per_step is not None and self.num_steps is not None:
            placed = len(self.per_step) + self.unplaced_steps
            _require(placed == self.num_steps, f"{placed} steps described, {self.num_steps} counted")
        for drafted, accepted, emitted in dict.fromkeys(self.per_step or ()):
            if not (0 <= accepted <= drafted and 1 <= emitted <= accepted + 1):
                raise ValueError(f"impossible step: drafted {drafted}, accepted {accepted}, emitted {emitted}")
        placed_all = self.unplaced_steps == 0 and (self.per_step is not None or self.emitted is not None)
        _require(not self.aligned or placed_all, "aligned without steps")

    def since(self, earlier: "SpecCounts") -> "SpecCounts":
        """Of counters that only grow: what was added since an earlier reading; None for one that fell, or cannot be."""

        def less(now: int | None, then: int | None) -> int | None:
            return None if now is None or then is None or now < then else now - then

        then = dict(enumerate(earlier.per_position or ()))
        added = [less(now, then.get(k, 0)) for k, now in enumerate(self.per_position or ())]
        known = [num for num in added if num is not None]
        positions = tuple(known) if self.per_position is not None and len(known) == len(added) else None
        drafted, accepted = less(self.drafted, earlier.drafted), less(self.accepted, earlier.accepted)
        if drafted is not None and accepted is not None and accepted > drafted:
            drafted = accepted = None  # two readings of different servers, as behind a load balancer
        return SpecCounts(
            drafted=drafted,
            accepted=accepted,
            verify_steps=less(self.verify_steps, earlier.verify_steps),
            num_steps=less(self.num_steps, earlier.num_steps),
            per_step=None,
            origin=self.origin,
            aligned=False,
            per_position=positions,
        )

    @property
    def plain_steps(self) -> int | None:
        """Decode steps that had no proposal; None where the origin cannot know them."""
        if self.num_steps is None or self.verify_steps is None:
            return None
        return self.num_steps - self.verify_steps


@dataclass(frozen=True, slots=True)
class TurnRecord:
    """A finished turn: one line of the journal."""

    id: str
    category: str
    seed: int
    segment: int
    slot: int
    prompt_len: int
    prompt_sha256: str
    """Over the little-endian uint32 prompt ids: equal hashes are equal inputs."""
    output_ids: tuple[int | None, ...]
    """The generated ids, EOS included; None for a token that the engine sent but never named."""
    prefill_tokens: int
    """Output tokens that prefill emitted; they are not a decode step."""
    sent_at_s: float
    """When the request was written to the socket."""
    arrivals: tuple[tuple[float, int], ...]
    """(time, tokens) of every read that brought tokens."""
    finished_at_s: float
    finish_reason: str
    last_step: LastStep
    counts: SpecCounts | None
    """None: the engine gave no acceptance for this turn."""
    engine_counts: SpecCounts | None = None
    """The engine's own counters over this turn, read before and after it; only where nothing
    else ran meanwhile (concurrency 1)."""
    scheduled_at_s: float | None = None
    """When the load wanted it sent, in an open loop; None in a closed one, where it is due when its stream is free."""
    repeat: int = 0
    """How many times its conversation had been begun before, under the same seed."""
    num_thinking_tokens: int | None = None
    """Of the output tokens the first so many are the model's thinking, the mark that ends it included; None: how its
    model marks thinking is not known."""

    def __post_init__(self) -> None:
        arrived = sum(num for _, num in self.arrivals)
        _require(
            arrived == len(self.output_ids),
            f"turn {self.id}: {arrived} tokens arrived, {len(self.output_ids)} ids recorded",
        )
        _require(self.prefill_tokens <= len(self.output_ids), f"turn {self.id}: prefill emitted more than was output")
        _require(
            0 <= (self.num_thinking_tokens or 0) <= len(self.output_ids),
            f"turn {self.id}: {self.num_thinking_tokens} of {len(self.output_ids)} output tokens are thinking",
        )
        first = [] if self.scheduled_at_s is None else [self.scheduled_at_s]
        times = [*first, self.sent_at_s, *(at for at, _ in self.arrivals), self.finished_at_s]
        _require(times == sorted(times), f"turn {self.id}: its times go backwards")

    @property
    def start_s(self) -> float:
        """When it was due, which is where its latency begins: waiting at the client is the user's, too."""
        return self.sent_at_s if self.scheduled_at_s is None else self.scheduled_at_s

    @property
    def key(self) -> tuple[int, int, str]:
        """(seed, repeat, id): what no other turn of a run has."""
        return self.seed, self.repeat, self.id

    @property
    def num_output_tokens(self) -> int:
        """Tokens generated, what prefill emitted and EOS included."""
        return len(self.output_ids)

    @property
    def question_id(self) -> str:
        """The conversation it belongs to."""
        return self.id.rpartition("/")[0]


@dataclass(frozen=True, slots=True)
class Failure:
    """The other outcome of a turn: counted, never dropped."""

    id: str
    category: str
    seed: int
    segment: int
    stage: str
    """`prompt`, `request` or `history` (an earlier turn of the conversation failed)."""
    error: str
    at_s: float
    repeat: int = 0
    began_at_s: float | None = None
    """When it was due or, in a closed loop, sent; None where it was never asked."""

    @property
    def start_s(self) -> float:
        """Which part of a load it belongs to: that in which it began, however much later it failed."""
        return self.at_s if self.began_at_s is None else self.began_at_s

    @property
    def key(self) -> tuple[int, int, str]:
        """(seed, repeat, id): what no other turn of a run has."""
        return self.seed, self.repeat, self.id

    @property
    def question_id(self) -> str:
        """The conversation it belongs to."""
        return self.id.rpartition("/")[0]


Outcome = TurnRecord | Failure
"""What comes of a turn."""
