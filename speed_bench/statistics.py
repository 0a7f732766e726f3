"""Confidence intervals: a bootstrap over conversations, stratified by category.

The unit that is drawn is the conversation, because its steps and turns resemble each other: drawn
singly they would make an interval several times too narrow. Every statistic here is a ratio of sums
over conversations, or a function of such ratios, so all of them come out of one product of a
(resamples x conversations) weight matrix with a (conversations x values) matrix:

- pooled rates: numerator and denominator counted per conversation;
- a mean over conversations: its values over ones;
- a mean of category means: its values times `category_weights`, over ones.

Within a category of n conversations, n − 1 are drawn with replacement and weighted by n / (n − 1)
(Rao and Wu, 1988). A draw of n would understate the variance by (n − 1) / n, which halves it for the two
conversations per category of a quick run. The bounds are percentiles of the resampled statistic.
BCa would shift them for skewness and bias, which for means over tens of conversations is far below the
width, and costs a jackknife; percentiles stay inside the range of a rate and need nothing else.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from speed_bench.errors import UndefinedMetric

FloatArray = npt.NDArray[np.float64]

MIN_CONVERSATIONS = 8
"""An interval from fewer would promise a coverage that it does not have."""

_BLOCK = 500
"""Resamples per product: bounds the memory, not the result's meaning."""


class Interval(NamedTuple):
    """Lower and upper bound, in the unit of the value."""

    low: float
    high: float


def category_mean(values: npt.ArrayLike, categories: Sequence[str]) -> float:
    """Mean over the conversations of a category, then over categories: each category counts the same.

    One value and one category name per conversation. Raises UndefinedMetric without a value.

    >>> category_mean([1.0, 1.0, 1.0, 3.0], ["math", "math", "math", "qa"])
    2.0
    """
    array = np.asarray(values, dtype=np.float64)
    if not array.size:
        raise UndefinedMetric("mean of categories: no decode steps")
    return float((array * category_weights(categories)).mean())


def category_weights(categories: Sequence[str]) -> FloatArray:
    """What to multiply values with so that their plain mean is the mean of their category means.

    >>> category_weights(["math", "math", "math", "qa"]).tolist()
    [0.6666666666666666, 0.6666666666666666, 0.6666666666666666, 2.0]
    """
    _, index, sizes = np.unique(np.asarray(categories), return_inverse=True, return_counts=True)
    return np.asarray(len(categories) / (len(sizes) * sizes[index]), dtype=np.float64)


def resample_ratios(
    numerators: npt.ArrayLike, denominators: npt.ArrayLike, strata: Sequence[str], *, resamples: int, seed: int
) -> FloatArray:
    """The bootstrap distribution of several ratios of sums, drawn together.

    `numerators` and `denominators` are (conversations, ratios), `strata` names the category of each
    conversation. Returns (resamples, ratios); NaN where a resample has a denominator of 0. The same
    rows, order, `resamples` and `seed` give the same values; ratios of one row were drawn together, so
    a function of several ratios is resampled by applying it to the rows.

    >>> resample_ratios([[1.0], [1.0]], [[2.0], [2.0]], ["qa", "qa"], resamples=3, seed=0).tolist()
    [[0.5], [0.5], [0.5]]
    """
    above, below = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    num_ratios = above.shape[1]
    totals = _resample_totals(np.hstack((above, below)), strata, resamples=resamples, seed=seed)
    sums, bases = totals[:, :num_ratios], totals[:, num_ratios:]
    return np.divide(sums, bases, out=np.full_like(sums, np.nan), where=bases != 0)


def interval(values: npt.ArrayLike, *, num_conversations: int, confidence_level: float = 0.95) -> Interval | None:
    """Percentile interval from the bootstrap distribution of one statistic.

    None below 8 conversations that contribute to it. NaN marks resamples in which it is undefined:
    rare ones are left out, and where they are more than one in a hundred there is no interval.

    >>> interval(range(101), num_conversations=80, confidence_level=0.5)
    Interval(low=25.0, high=75.0)
    >>> interval(range(101), num_conversations=7)
    """
    array = np.asarray(values, dtype=np.float64)
    defined = array[~np.isnan(array)]
    if num_conversations < MIN_CONVERSATIONS or not defined.size or defined.size < 0.99 * array.size:
        return None
    tail = (1 - confidence_level) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return Interval(float(low), float(high))


def _resample_totals(features: FloatArray, strata: Sequence[str], *, resamples: int, seed: int) -> FloatArray:
    """Weighted sums of the rows of `features`, one row per resample."""
    rng = np.random.default_rng(seed)
    totals = np.zeros((resamples, features.shape[1]))
    for rows in _strata(strata):
        num = len(rows)
        for start in range(0, resamples, _BLOCK):
            block = slice(start, min(start + _BLOCK, resamples))
            size = block.stop - start
            if num == 1:
                totals[block] += features[rows]
                continue
            drawn = rng.integers(num, size=(size, num - 1)) + num * np.arange(size)[:, None]
            weights = np.bincount(drawn.ravel(), minlength=size * num).reshape(size, num) * (num / (num - 1))
            totals[block] += weights @ features[rows]
    return totals


def _strata(names: Sequence[str]) -> list[npt.NDArray[np.intp]]:
    """Rows of each stratum. A stratum of one has no spread to show, so such strata are merged with
    each other, and a single one with the smallest other stratum: too wide rather than too narrow."""
    _, index = np.unique(np.asarray(names), return_inverse=True)
    groups = sorted((np.flatnonzero(index == stratum) for stratum in range(index.max(initial=-1) + 1)), key=len)
    num_single = sum(len(rows) == 1 for rows in groups)
    if num_single == 0:
        return groups
    merged = max(num_single, 2)
    return [np.concatenate(groups[:merged]), *groups[merged:]]
