"""What an engine said of a request, parsed: checked once when made, so that what counts it can trust it.

A server's answer is hostile input. What is of another type than it should be, or negative, raises ValueError here, and
the turn is a failed one.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

MOST_TOKENS = 1 << 24
"""No answer has more tokens, and no count of one is higher."""
MOST_IDS = 1 << 32
"""No vocabulary has more tokens."""


def _require_counts(values: Iterable[object], what: str) -> None:
    """They are whole numbers from 0 on; None, which is not known, is left out."""
    for value in values:
        if value is not None and not (type(value) is int and 0 <= value <= MOST_TOKENS):
            raise ValueError(f"{what} is no count: {value!r}")


@dataclass(frozen=True, slots=True)
class Mark:
    """What an engine says of a request so far: cumulative, as of one event.

    `step_clock` changes exactly when a new decode step begins (an engine clock, any unit).
    """

    num_tokens: int
    step_clock: float
    drafted: int
    accepted: int

    def __post_init__(self) -> None:
        counts = (self.num_tokens, self.drafted, self.accepted)
        _require_counts((-1 if value is None else value for value in counts), "of the tokens so far one")
        if type(self.step_clock) not in (int, float):
            raise ValueError(f"the clock of a step is no number: {self.step_clock!r}")


@dataclass(frozen=True, slots=True)
class SpecReport:
    """What an engine says of a whole request, once, on one of its last events. None: it does not say."""

    num_tokens: int | None = None
    """Output tokens, as the engine counts them."""
    verify_steps: int | None = None
    drafted: int | None = None
    accepted: int | None = None
    """Before any cut by EOS or a limit."""
    per_step: tuple[tuple[int, int], ...] | None = None
    """(drafted, accepted) of every verification step, in order."""
    histogram: tuple[int, ...] | None = None
    """Verification steps that accepted exactly 0, 1, 2, … tokens, in no order."""
    draft_length: int | None = None
    """Most tokens that a step of this request could propose."""
    num_iterations: int | None = None
    """Passes of the target model that emitted something, prefill's included."""

    def __post_init__(self) -> None:
        counts = (self.num_tokens, self.verify_steps, self.drafted, self.accepted)
        _require_counts((*counts, self.draft_length, self.num_iterations), "of the report one number")
        _require_counts((-1 if value is None else value for value in self.histogram or ()), "of the histogram one bar")
        for drafted, accepted in self.per_step or ():
            _require_counts((drafted, accepted), "of a step one number")
            if drafted < accepted:
                raise ValueError(f"impossible step: drafted {drafted}, accepted {accepted}")


@dataclass(frozen=True, slots=True)
class Drafting:
    """How a run drafts: what is known of every step before it is made."""

    draft_length: int | None = None
    """Most tokens that a step proposes; None: not known."""
    always: bool = False
    """Whether every decode step has a proposal, as long as the context has room for it."""
    reported: bool = False
    """Whether the engine reports every request that drafted, so that one without a report drafted nothing."""


class _Chunk(NamedTuple):
    token_ids: tuple[int | None, ...]
    """New token ids, a delta, never cumulative. None is a token that came without its id:
    llama.cpp holds back the first tokens of a character and names only its last one."""
    text: str = ""
    """The text of this event, where the engine sends it: what unnamed tokens are told from."""
    finish_reason: str | None = None
    """`stop`, `length` or another word of the engine's, on the last chunk only."""
    mark: Mark | None = None
    report: SpecReport | None = None


class Chunk(_Chunk):
    """One parsed event: what is new in it. There is one for every token: a tuple is made in half the time of a
    frozen dataclass."""

    __slots__ = ()

    def __new__(
        cls,
        token_ids: tuple[int | None, ...],
        text: str = "",
        finish_reason: str | None = None,
        mark: Mark | None = None,
        report: SpecReport | None = None,
    ) -> "Chunk":
        for token_id in token_ids:
            if token_id is not None and not (type(token_id) is int and 0 <= token_id < MOST_IDS):
                raise ValueError(f"{token_id!r} is no token id")
        if type(text) is not str or not (finish_reason is None or type(finish_reason) is str):
            raise ValueError("its text or its finish reason is no text")
        return tuple.__new__(cls, (token_ids, text, finish_reason, mark, report))
