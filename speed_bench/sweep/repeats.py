"""One number from several runs with the same settings."""

import math
from collections.abc import Sequence
from statistics import fmean, stdev

from speed_bench.errors import UndefinedMetric
from speed_bench.scores import Cell, Distribution
from speed_bench.statistics import Interval

MIN_RUNS = 3
"""An interval between fewer runs would be one of its width alone."""
CONFIDENCE_LEVEL = 0.95


class OverRuns(Cell):
    """The mean of one number over runs with the same settings. Its n is the sum of theirs."""

    num_runs: int
    """Runs that have it."""
    between_runs: bool
    """Whether the bounds say how well the mean over runs is known, which takes three. Else they are those of one run,
    the mean of several: how well it is known over the conversations, with no word on how runs differ."""


def over_runs(cells: Sequence[Cell | Distribution]) -> OverRuns:
    """Mean over the runs that have a value: those that have none are not counted as anything.

    >>> found = over_runs([Cell.of(value, 10) for value in (99.0, 100.0, 101.0)])
    >>> found.value, round(found.low, 2), round(found.high, 2), found.n, found.num_runs
    (100.0, 97.52, 102.48, 30, 3)
    """
    defined = [(cell.value, cell) for cell in cells if cell.value is not None]
    if not defined:
        reason = next((cell.reason for cell in cells if cell.reason), None) or "no run has ended"
        return OverRuns(value=None, n=0, reason=reason, num_runs=0, between_runs=False)
    values = [value for value, _ in defined]
    between = len(values) >= MIN_RUNS
    bounds = mean_interval(values) if between else _of_one_run([cell for _, cell in defined])
    low, high = bounds or (None, None)
    return OverRuns(
        value=fmean(values),
        low=low,
        high=high,
        n=sum(cell.n for _, cell in defined),
        num_runs=len(values),
        between_runs=between,
    )


def mean_interval(values: Sequence[float]) -> Interval:
    """The 95 % interval of a mean, from the spread of its values (Student's t).

    Raises UndefinedMetric for fewer than two.
    """
    if len(values) < 2:
        raise UndefinedMetric("interval of a mean: it takes two values to spread")
    half = t_quantile(len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return Interval(fmean(values) - half, fmean(values) + half)


def t_quantile(degrees: int, confidence_level: float = CONFIDENCE_LEVEL) -> float:
    """Student's t that is not exceeded, on either side, with this probability; at least one degree of freedom.

    >>> round(t_quantile(2), 3), round(t_quantile(9), 3)
    (4.303, 2.262)
    """
    low, high = 0.0, 1.0
    while _t_within(high, degrees) < confidence_level:
        high *= 2
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if _t_within(middle, degrees) < confidence_level else (low, middle)
    return high


def _t_within(t: float, degrees: int) -> float:
    """The probability that |T| ≤ t, by the finite series for whole degrees (Abramowitz and Stegun 26.7.3, 26.7.4)."""
    angle = math.atan(t / math.sqrt(degrees))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = degrees % 2
    term, total = (cosine if odd else 1.0), 0.0
    for power in range(2 + odd, degrees + 1, 2):
        total += term
        term *= cosine**2 * (power - 1) / power
    return (2 / math.pi) * (angle + sine * total) if odd else sine * total


def _of_one_run(cells: Sequence[Cell | Distribution]) -> Interval | None:
    lows, highs = [cell.low for cell in cells], [cell.high for cell in cells]
    known = [(low, high) for low, high in zip(lows, highs, strict=True) if low is not None and high is not None]
    if len(known) < len(cells):
        return None
    return Interval(fmean(low for low, _ in known), fmean(high for _, high in known))
