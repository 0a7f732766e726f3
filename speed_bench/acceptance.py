"""Acceptance: how many tokens a decode step emits, and how often a drafted token is right.

A verification step drafts d >= 1 tokens, accepts a <= d of them and emits a + 1 (the extra one is
the bonus or correction token). A plain step has no proposal and emits 1. Both are decode steps;
what prefill emits is not. A `Tally` holds the additive statistics of any set of decode steps:
tallies of turns add up to tallies of conversations, categories and runs, and every metric here is
a function of one tally. A value that an origin cannot know is None, and stays None in every sum.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from speed_bench.errors import UndefinedMetric
from speed_bench.types import LastStep

Steps = Sequence[tuple[int, int, int]]
"""Decode steps as (drafted, accepted, emitted), in the order of the text; `types.Step` is one."""

T = TypeVar("T")

UNAVAILABLE = "not available from this origin"


@dataclass(frozen=True, slots=True)
class Tally:
    """What is counted of a set of decode steps. Positions k = 1…K are dense, K the longest proposal."""

    num_turns: int
    """Turns the steps belong to, those without a decode step included."""
    num_tokens: int
    """Tokens emitted by decode steps: output tokens minus prefill tokens."""
    num_steps: int | None
    """All decode steps, those that cannot be told apart included."""
    verify_steps: int | None
    """Decode steps that had a proposal."""
    drafted: int | None
    accepted: int | None
    """Of `drafted`, those that verification accepted, before any cut."""
    lengths: tuple[int, ...] | None
    """Steps that emitted 1, 2, …, K + 1 tokens. Steps that cannot be told apart are left out."""
    trials: tuple[int, ...] | None
    """Steps where position k was drafted, 1…k−1 were accepted and the outcome at k was seen."""
    successes: tuple[int, ...] | None
    """Of `trials`, those where position k was accepted."""

    def __add__(self, other: "Tally") -> "Tally":
        """The tally of both sets of steps."""
        return pool((self, other))

    @property
    def num_placed_steps(self) -> int | None:
        """Steps that are told apart: those which `lengths` counts."""
        return None if self.lengths is None else sum(self.lengths)

    @property
    def reached(self) -> tuple[int, ...] | None:
        """Steps that emitted at least k + 1 tokens, k = 1…K."""
        return None if self.lengths is None else _tails(self.lengths)[1:]


def pool(tallies: Iterable[Tally]) -> Tally:
    """The tally of all steps together; of none, the tally of no steps.

    >>> pool([tally_steps([(3, 3, 4)]), tally_steps([(2, 0, 1)])]).lengths
    (1, 0, 0, 1)
    """
    several = tuple(tallies)

    def total(name: str) -> int | None:
        values = [getattr(tally, name) for tally in several]
        return None if None in values else sum(values)

    def dense(name: str) -> tuple[int, ...] | None:
        rows = [getattr(tally, name) for tally in several]
        return None if None in rows else tuple(map(sum, zip_longest(*rows, fillvalue=0)))

    return Tally(
        num_turns=sum(tally.num_turns for tally in several),
        num_tokens=sum(tally.num_tokens for tally in several),
        num_steps=total("num_steps"),
        verify_steps=total("verify_steps"),
        drafted=total("drafted"),
        accepted=total("accepted"),
        lengths=dense("lengths"),
        trials=dense("trials"),
        successes=dense("successes"),
    )


def tally_turn(
    steps: Steps | None,
    *,
    num_tokens: int,
    num_steps: int | None,
    verify_steps: int | None,
    drafted: int | None,
    accepted: int | None,
    last_step: LastStep = "complete",
) -> Tally:
    """The tally of one turn, its totals as its origin states them.

    `steps` may hold fewer steps than `num_steps`: the others were counted but not told apart, so
    they are in the acceptance length and not in the vectors. None: no step is told apart.

    `last_step` says what is known of the last of `steps`, which EOS or a limit may have cut after
    m tokens. `complete`: its accepted count is known, as for every other step: successes at 1…a
    and a failure at a + 1 if that was drafted. `cut`: the m tokens shown were accepted drafts:
    successes at 1…m, no trial at m + 1. `unknown`: the last token shown may be a draft or a
    correction: successes at 1…m−1, no trial at m. Counting a cut step as if m − 1 were its accepted
    count makes the rates too low, more so at later positions and in shorter answers.

    Raises ValueError for a step that cannot be, and where the tokens do not add up.
    """
    if steps is None:
        known = num_steps == 0
        lengths, trials, successes = ((), (), ()) if known else (None, None, None)
        return Tally(1, num_tokens, num_steps, verify_steps, drafted, accepted, lengths, trials, successes)

    flat = np.fromiter(chain.from_iterable(steps), dtype=np.int64, count=3 * len(steps))
    drafts, accepts, emits = flat.reshape(-1, 3).T
    possible = (accepts >= 0) & (accepts <= drafts) & (emits >= 1) & (emits <= accepts + 1)
    if not possible.all():
        wrong = steps[int(np.argmin(possible))]
        raise ValueError(f"impossible step: drafted {wrong[0]}, accepted {wrong[1]}, emitted {wrong[2]}")
    placed = int(emits.sum())
    unplaced = None if num_steps is None else num_steps - len(steps)
    if (unplaced is not None and unplaced < 0) or placed + (unplaced or 0) > num_tokens:
        raise ValueError(f"{len(steps)} of {num_steps} steps emitted {placed} of {num_tokens} tokens")
    if unplaced == 0 and placed != num_tokens:
        raise ValueError(f"all {len(steps)} steps together emitted {placed} of {num_tokens} tokens")

    tried = np.minimum(accepts + 1, drafts)
    succeeded = accepts.copy()
    if len(steps) and last_step != "complete":
        shown = emits[-1] if last_step == "cut" else emits[-1] - 1
        tried[-1] = succeeded[-1] = min(shown, drafts[-1])
    depth = int(drafts.max(initial=0))
    return Tally(
        num_turns=1,
        num_tokens=num_tokens,
        num_steps=num_steps,
        verify_steps=verify_steps,
        drafted=drafted,
        accepted=accepted,
        lengths=tuple(np.bincount(emits, minlength=depth + 2).tolist()[1:]),
        trials=_tails(np.bincount(tried, minlength=depth + 1).tolist())[1:],
        successes=_tails(np.bincount(succeeded, minlength=depth + 1).tolist())[1:],
    )


def tally_steps(steps: Steps, *, last_step: LastStep = "complete") -> Tally:
    """The tally of one turn whose every step is told apart; its totals are those of the steps.

    `accepted` is None unless the last step is `complete`: what a cut hid is not known.

    >>> tally_steps([(3, 1, 2), (3, 3, 4), (0, 0, 1)]).trials
    (2, 2, 1)
    """
    return tally_turn(
        steps,
        num_tokens=sum(emitted for _, _, emitted in steps),
        num_steps=len(steps),
        verify_steps=sum(drafted > 0 for drafted, _, _ in steps),
        drafted=sum(drafted for drafted, _, _ in steps),
        accepted=sum(accepted for _, accepted, _ in steps) if last_step == "complete" else None,
        last_step=last_step,
    )


def tally_histogram(emitted: Mapping[int, int], *, draft_length: int, num_turns: int = 1) -> Tally:
    """The tally of steps of which only the number per emitted length is known: {length: steps}.

    Holds only where every step drafted `draft_length` tokens and none was cut; lengths which no
    step emitted may be absent. Raises ValueError for a length outside 1…draft_length + 1.

    >>> conditional_acceptance_rate(tally_histogram({1: 10, 3: 5}, draft_length=2))
    [0.3333333333333333, 1.0]
    """
    wrong = [length for length in emitted if not 1 <= length <= draft_length + 1]
    if wrong:
        raise ValueError(f"a step that drafts {draft_length} tokens emits 1 to {draft_length + 1}, not {wrong[0]}")
    lengths = tuple(emitted.get(length, 0) for length in range(1, draft_length + 2))
    at_least = _tails(lengths)
    num_steps, num_tokens = sum(lengths), sum(at_least)
    return Tally(
        num_turns=num_turns,
        num_tokens=num_tokens,
        num_steps=num_steps,
        verify_steps=num_steps if draft_length else 0,
        drafted=num_steps * draft_length,
        accepted=num_tokens - num_steps,
        lengths=lengths,
        trials=at_least[:-1],
        successes=at_least[1:],
    )


def acceptance_length(steps: Tally | Sequence[int]) -> float:
    """(Output tokens − prefill tokens) / decode steps, in tokens emitted per step of the target.

    The bonus token, EOS and plain steps are counted, what prefill emitted is not. Also takes the
    emitted lengths themselves. Raises UndefinedMetric without a decode step.

    >>> acceptance_length([4, 3, 4, 1])
    3.0
    """
    if isinstance(steps, Tally):
        num_tokens, num_steps = steps.num_tokens, _known(steps.num_steps, "acceptance length")
    else:
        num_tokens, num_steps = sum(steps), len(steps)
        _require_tokens(steps)
    return _ratio(num_tokens, num_steps, "acceptance length: no decode steps")


def acceptance_length_drafted(steps: Tally | Steps) -> float:
    """1 + accepted / verification steps, in tokens: the length of a step that had a proposal.

    Verified counts, before any cut by EOS or a limit: what an engine's counters give. Plain steps
    are left out. Raises UndefinedMetric without a verification step.

    >>> acceptance_length_drafted([(3, 3, 4), (3, 0, 1), (0, 0, 1)])
    2.5
    """
    name, tally = "acceptance length of drafted steps", _as_tally(steps)
    accepted, verify_steps = _known(tally.accepted, name), _known(tally.verify_steps, name)
    return _ratio(verify_steps + accepted, verify_steps, f"{name}: no verification steps")


def acceptance_length_specdec_bench(tally: Tally) -> float:
    """Acceptance length in the convention of `specdec_bench`: one step of length 1 added per turn.

    It counts what prefill emits as a step, so it is lower than `acceptance_length`; for comparing
    with published tables (arXiv 2604.09557) only. Raises UndefinedMetric without a decode step.

    >>> acceptance_length_specdec_bench(tally_steps([(3, 3, 4), (3, 3, 4)]))
    3.0
    """
    name = "acceptance length of specdec_bench"
    num_steps = _known(tally.num_steps, name)
    if num_steps == 0:
        raise UndefinedMetric(f"{name}: no decode steps")
    return (tally.num_tokens + tally.num_turns) / (num_steps + tally.num_turns)


def draft_acceptance_rate(steps: Tally | Steps) -> float:
    """Accepted / drafted tokens, verified counts, from 0 to 1. For chains: trees draft siblings.

    Raises UndefinedMetric where nothing was drafted.

    >>> draft_acceptance_rate([(3, 3, 4), (3, 0, 1), (0, 0, 1)])
    0.5
    """
    name, tally = "draft acceptance rate", _as_tally(steps)
    return _ratio(_known(tally.accepted, name), _known(tally.drafted, name), f"{name}: nothing was drafted")


def joint_acceptance_rate(steps: Tally | Sequence[int]) -> list[float]:
    """Share of decode steps that emitted at least k + 1 tokens, k = 1…K.

    Never rises with k. For steps that are all told apart, acceptance length = 1 + its sum, exactly.
    Also takes the emitted lengths themselves. Raises UndefinedMetric without a decode step.

    >>> joint_acceptance_rate([4, 3, 4, 1])
    [0.75, 0.75, 0.5]
    """
    lengths = _lengths(steps, "joint acceptance rate")
    if not sum(lengths):
        raise UndefinedMetric("joint acceptance rate: no decode steps")
    return [reached / sum(lengths) for reached in _tails(lengths)[1:]]


def conditional_acceptance_rate(steps: Tally | Steps) -> list[float | None]:
    """Successes / trials at position k = 1…K: how often draft k is right once 1…k−1 were.

    A trial is a step where k was drafted, 1…k−1 were accepted and the outcome was seen, so a plain
    step and a shorter proposal are none. Dense; None at a position without a trial. A run of plain
    steps has no positions. Raises UndefinedMetric without a decode step.

    >>> conditional_acceptance_rate([(3, 1, 2), (3, 3, 4), (1, 1, 2), (0, 0, 1)])
    [1.0, 0.5, 1.0]
    """
    name, tally = "conditional acceptance rate", _as_tally(steps)
    if not sum(_known(tally.lengths, name)):
        raise UndefinedMetric(f"{name}: no decode steps")
    trials, successes = _known(tally.trials, name), _known(tally.successes, name)
    return [right / seen if seen else None for right, seen in zip(successes, trials, strict=True)]


def acceptance_length_uncensored(steps: Tally | Steps) -> float:
    """`expected_length` of the conditional rates: the length if every step drafted K tokens, uncut.

    Raises UndefinedMetric without a decode step, and where a position that is reached had no trial.

    >>> acceptance_length_uncensored([(2, 2, 3), (1, 1, 2), (2, 0, 1), (0, 0, 1)])
    2.333333333333333
    """
    steps = _as_tally(steps)
    rates = conditional_acceptance_rate(steps)
    if not rates and steps.drafted:
        raise UndefinedMetric("uncensored acceptance length: no step that drafted can be told apart")
    length = float(expected_length(np.array([np.nan if rate is None else rate for rate in rates])))
    if np.isnan(length):
        raise UndefinedMetric(f"uncensored acceptance length: no trial at position {rates.index(None) + 1}")
    return length


def expected_length(rates: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """1 + Σₖ Πⱼ≤ₖ rateⱼ over the last axis: equation 1 of arXiv 2604.09557, in tokens.

    NaN stands for an unknown rate; it does not matter behind a rate of 0, else the result is NaN.

    >>> float(expected_length([0.5, 0.5, 0.0, float("nan")]))
    1.75
    """
    conditional = np.asarray(rates, dtype=np.float64)
    length = np.ones(conditional.shape[:-1])
    joint = np.ones(conditional.shape[:-1])
    for position in range(conditional.shape[-1]):
        joint = np.where(joint == 0, 0.0, joint * conditional[..., position])
        length = length + joint
    return length


def histogram(steps: Tally | Sequence[int]) -> dict[int, int]:
    """Decode steps per emitted length, {1…K + 1: steps}; dense, so lengths between are there with 0.

    Also takes the emitted lengths themselves. No steps, no entries.

    >>> histogram([4, 1, 4, 2])
    {1: 1, 2: 1, 3: 0, 4: 2}
    """
    return dict(enumerate(_lengths(steps, "histogram"), start=1))


def _as_tally(steps: Tally | Steps) -> Tally:
    return steps if isinstance(steps, Tally) else tally_steps(steps)


def _lengths(steps: Tally | Sequence[int], name: str) -> tuple[int, ...]:
    if isinstance(steps, Tally):
        return _known(steps.lengths, name)
    _require_tokens(steps)
    return tuple(np.bincount(np.asarray(steps, dtype=np.int64)).tolist()[1:])


def _require_tokens(emitted: Sequence[int]) -> None:
    if len(emitted) and min(emitted) < 1:
        raise ValueError(f"a decode step emits at least one token, not {min(emitted)}")


def _known(value: T | None, name: str) -> T:
    if value is None:
        raise UndefinedMetric(f"{name}: {UNAVAILABLE}")
    return value


def _ratio(numerator: int, denominator: int, undefined: str) -> float:
    if denominator == 0:
        raise UndefinedMetric(undefined)
    return numerator / denominator


def _tails(counts: Sequence[int]) -> tuple[int, ...]:
    return tuple(np.cumsum(counts[::-1]).tolist()[::-1])
