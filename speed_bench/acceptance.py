"""Acceptance: how many tokens a decode step emits, and how often a drafted token is right.

Every metric is a function of one `Tally`, the counts of any set of decode steps: of a turn, a
conversation, a category or a run. Where steps themselves are at hand, most take those too.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from speed_bench.errors import UndefinedMetric
from speed_bench.tally import Steps, Tally, tails, tally_steps

T = TypeVar("T")

UNAVAILABLE = "not available from this origin"


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
    return [reached / sum(lengths) for reached in tails(lengths)[1:]]


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
