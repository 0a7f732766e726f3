"""Expected speed-up: from how many tokens a decode step emits, and how long it takes, with and without speculation.

Speculation makes a step longer and lets it emit more. Over what both serve, decoding one token takes t_ar
without it and t_sd / AL with it, so the speed-up is S = t_ar · AL / t_sd (arXiv 2604.09557, table 10). Times
are seconds, one for each batch and input length: neither the step nor its price is the same at another.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import mul
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt

from speed_bench.errors import MetricInputError

FloatArray = npt.NDArray[np.float64]
Number = TypeVar("Number", float, FloatArray)
Source = Literal["measured", "given", "shorter", "line", "extrapolated"]
"""Where a number is from: a run with this draft length, the user, the steps of a run with a longer one, the line of
step times between draft lengths that were run, or beyond them."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number, with the bounds of its interval where it has one."""

    value: float
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if (self.low is None) != (self.high is None):
            raise MetricInputError(f"{self.value:g} has one bound of an interval, and not the other")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise MetricInputError(f"an interval does not go from {self.low:g} to {self.high:g}")


@dataclass(frozen=True, slots=True)
class Expected:
    """What speculation with one draft length is expected to do."""

    draft_length: int | None
    run: str | None
    """That was made with it."""
    acceptance_length: Estimate
    """All steps pooled, each counting the same: what total time depends on."""
    acceptance_from: Source
    step_time_s: Estimate
    step_time_from: Source
    speedup: Estimate
    """In decode time per token."""
    speedup_output_tps: Estimate | None
    """Of a closed loop whose streams are all busy; None where the times to first token are not known."""
    break_even_acceptance_length: float | None
    """None where decoding without speculation is prefill of others alone."""
    break_even_rate: float | None
    measured_speedup_tpot: Estimate | None
    measured_speedup_output_tps: Estimate | None
    num_conversations: int | None
    num_steps: int | None


@dataclass(frozen=True, slots=True)
class StepTimeLine:
    """a + b · k, the step time without the prefill of others."""

    base_s: float
    per_draft_token_s: float
    residual_s: float | None
    """None with two points."""
    draft_lengths: tuple[int, ...]
    """Of the runs it was found from."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """All draft lengths of one drafter under one load."""

    t_ar_s: Estimate
    prefill_s_per_token: Estimate | None
    """Of others, in decode time; None where it cannot be told apart."""
    line: StepTimeLine | None
    rows: tuple[Expected, ...]
    beyond_line: tuple[int, ...] = ()
    """Draft lengths that have no row, because their step time on the line, or what bounds it, is not above 0."""

    @property
    def best(self) -> Expected | None:
        """The fastest of several draft lengths; None of one."""
        if len({row.draft_length for row in self.rows}) < 2:
            return None
        return max(self.rows, key=lambda row: row.speedup.value)


def speedup(t_ar_s: float, t_sd_s: float, acceptance_length: float) -> float:
    """t_ar · AL / t_sd: decode time per token without speculation / with it; below 1 it is slower.

    `t_ar_s` is how long a step takes without speculation, `t_sd_s` with it, and `acceptance_length` what such a
    step emits. Raises MetricInputError for a time that is not above 0, and a step that emits less than a token.

    >>> round(speedup(0.0196, 0.0259, 2.12), 2)
    1.6
    """
    if not 1 <= acceptance_length < math.inf:
        raise MetricInputError(f"acceptance length {acceptance_length:g}: a decode step emits at least one token")
    _require_times(t_ar_s, t_sd_s)
    return t_ar_s * acceptance_length / t_sd_s


def with_errors_of(value: float, *, raising: Sequence[Estimate] = (), lowering: Sequence[Estimate] = ()) -> Estimate:
    """A product, with the interval that its factors give it (`raising`) and what it is divided by (`lowering`).

    The delta method: of independent numbers the relative errors add up as squares, so on each side the distance of
    the logarithm is the root of the summed squares of theirs. A number without an interval is taken as exact; if all
    are, there is no interval. Raises MetricInputError for bounds that are not above 0.

    >>> found = with_errors_of(1.4, raising=[Estimate(2.1, 2.0, 2.2), Estimate(0.02)], lowering=[Estimate(0.03)])
    >>> round(found.low, 3), round(found.high, 3)
    (1.333, 1.467)
    """
    if all(each.low is None for each in (*raising, *lowering)):
        return Estimate(value)
    down = [_distance(each, each.low) for each in raising] + [_distance(each, each.high) for each in lowering]
    up = [_distance(each, each.high) for each in raising] + [_distance(each, each.low) for each in lowering]
    return Estimate(value, value * math.exp(-math.hypot(*down)), value * math.exp(math.hypot(*up)))


def break_even_acceptance_length(t_ar_s: float, t_sd_s: float) -> float:
    """t_sd / t_ar: the acceptance length at which a longer step is just paid for, in tokens.

    Raises MetricInputError for a time that is not above 0.

    >>> break_even_acceptance_length(0.02, 0.03)
    1.5
    """
    _require_times(t_ar_s, t_sd_s)
    return t_sd_s / t_ar_s


def break_even_rate(t_ar_s: float, t_sd_s: float, draft_length: int) -> float | None:
    """The r in 0…1 for which 1 + r + r² + … + r^K = t_sd / t_ar: how often a draft must be right, once those before
    it were, for K = `draft_length` to break even.

    None where there is none: a step that takes less time than without speculation pays with no draft right, one
    that takes more than K + 1 times as long does not with all of them.

    >>> round(break_even_rate(0.02, 0.035, 2), 6)
    0.5
    >>> break_even_rate(0.02, 0.09, 3)
    """
    needed = break_even_acceptance_length(t_ar_s, t_sd_s)
    if not 1 <= needed <= draft_length + 1:
        return None
    low, high = 0.0, 1.0
    while low < (middle := (low + high) / 2) < high:
        if sum(middle**position for position in range(draft_length + 1)) < needed:
            low = middle
        else:
            high = middle
    return high if needed > 1 else 0.0


def acceptance_lengths(
    joint_rates: npt.ArrayLike, draft_lengths: Sequence[int], last_rate: npt.ArrayLike | None = None
) -> FloatArray:
    """Acceptance length at shorter (and longer) draft lengths: 1 + Σ joint rates at the positions that are drafted.

    `joint_rates` holds along its last axis the shares of steps in which drafts 1…k were all right, k = 1…K. That of a
    run is `acceptance.joint_acceptance_rate`; of conditional rates it is their running product, which makes this
    equation 1 of the paper. Beyond K every position is right with `last_rate`, if those before it were; without one
    the result is NaN there. Returns one value per draft length along the last axis, in tokens.

    >>> acceptance_lengths([0.5, 0.25], [1, 2, 3]).tolist()
    [1.5, 1.75, nan]
    >>> acceptance_lengths([0.5, 0.25], [3], last_rate=0.5).tolist()
    [1.875]
    """
    joint = np.asarray(joint_rates, dtype=np.float64)
    known = joint.shape[-1]
    beyond = np.asarray(np.nan if last_rate is None else last_rate, dtype=np.float64)[..., None]
    further = np.arange(1, max(*draft_lengths, known) - known + 1)
    last = joint[..., -1:] if known else np.ones((*joint.shape[:-1], 1))
    every = np.concatenate((joint, last * beyond**further), axis=-1)
    lengths: FloatArray = 1 + np.cumsum(every, axis=-1)[..., np.asarray(draft_lengths) - 1]
    return lengths


def joint_rates(conditional_rates: Sequence[float]) -> list[float]:
    """The running product of conditional rates. Raises MetricInputError for one outside 0…1.

    >>> joint_rates([0.5, 0.5])
    [0.5, 0.25]
    """
    for position, rate in enumerate(conditional_rates, 1):
        if not 0 <= rate <= 1:
            raise MetricInputError(f"the rate at position {position} is {rate:g}: it lies between 0 and 1")
    return list(accumulate(conditional_rates, mul))


def weighted_sum(weights: npt.ArrayLike, estimates: Sequence[Estimate]) -> Estimate:
    """Σ weight · value of independent numbers; on each side the distances of its interval add up as squares.

    >>> weighted_sum([0.5, 0.5], [Estimate(2.0, 1.0, 3.0), Estimate(4.0)])
    Estimate(value=3.0, low=2.5, high=3.5)
    """
    factors = np.asarray(weights, dtype=np.float64)
    value = float(factors @ [each.value for each in estimates])
    if all(each.low is None for each in estimates):
        return Estimate(value)
    pairs = list(zip(factors, estimates, strict=True))
    down = math.hypot(*(weight * _off(each, each.low if weight > 0 else each.high) for weight, each in pairs))
    up = math.hypot(*(weight * _off(each, each.high if weight > 0 else each.low) for weight, each in pairs))
    return Estimate(value, value - down, value + up)


@dataclass(frozen=True, slots=True)
class Line:
    """A least-squares line through one value per draft length: a + b · k.

    A step verifies one token more for every token that is drafted, and drafts it: as long as neither fills the
    machine, both take the same time for each. A step without speculation is no point of it: it has no drafter to start.
    """

    draft_lengths: tuple[int, ...]
    """Of the points; at least two of them differ."""

    def __post_init__(self) -> None:
        if len(set(self.draft_lengths)) < 2:
            raise MetricInputError(f"a line needs two draft lengths, not {sorted(set(self.draft_lengths))}")

    def coefficients(self, values: Sequence[float]) -> tuple[float, float]:
        """(a, b), in the unit of the values.

        >>> [round(each, 9) for each in Line((1, 3)).coefficients([5.0, 6.0])]
        [4.5, 0.5]
        """
        base, slope = self._solved() @ np.asarray(values, dtype=np.float64)
        return float(base), float(slope)

    def residual(self, values: Sequence[float]) -> float | None:
        """Root of the summed squares of the distances from the line / (points − 2), in the unit of the values.

        None with two points: any two lie on a line.
        """
        if len(values) < 3:
            return None
        base, slope = self.coefficients(values)
        distances = np.asarray(values) - base - slope * np.asarray(self.draft_lengths)
        return float(np.sqrt(np.square(distances).sum() / (len(values) - 2)))

    def weights(self, draft_length: int) -> FloatArray:
        """What the values are weighted with in the value of the line at `draft_length`.

        >>> Line((1, 3)).weights(2).round(9).tolist()
        [0.5, 0.5]
        """
        weights: FloatArray = np.array([1.0, draft_length]) @ self._solved()
        return weights

    def _solved(self) -> FloatArray:
        """The matrix that makes (a, b) of the values."""
        lengths = np.asarray(self.draft_lengths, dtype=np.float64)
        solved: FloatArray = np.linalg.pinv(np.column_stack((np.ones_like(lengths), lengths)))
        return solved


def request_time_per_token_s(
    ttft_s: Number, token_s: Number, num_output_tokens: Number, num_first_tokens: Number
) -> Number:
    """(TTFT + decode time) / output tokens: how long a stream of a closed loop is busy for a token, in seconds.

    `token_s` is decode time per token, t / AL; the `num_first_tokens` came with the first arrival. C streams that are
    all busy emit C / this many tokens a second, so the ratio of two of these is the speed-up in Output TPS.

    >>> request_time_per_token_s(0.5, 0.01, 101, 1)
    0.01485148514851485
    """
    return (ttft_s + (num_output_tokens - num_first_tokens) * token_s) / num_output_tokens


def _require_times(t_ar_s: float, t_sd_s: float) -> None:
    for name, time_s in (("t_ar", t_ar_s), ("t_sd", t_sd_s)):
        if not 0 < time_s < math.inf:
            raise MetricInputError(f"{name} is {time_s:g} s: how long a step takes is above 0")


def _off(estimate: Estimate, bound: float | None) -> float:
    return 0.0 if bound is None else bound - estimate.value


def _distance(estimate: Estimate, bound: float | None) -> float:
    if bound is None:
        return 0.0
    if not 0 < bound < math.inf:
        raise MetricInputError(f"{estimate.value:g} has an interval that reaches to {bound:g}: its bounds are above 0")
    return abs(math.log(bound / estimate.value))
