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
conversations per category of a quick run.

The bounds are percentiles of the resampled statistic, so they stay inside the range of a rate. Which
percentiles is corrected for the number of conversations by the values with one conversation left
out (`interval` says how). `docs/statistics.md` has the measured coverage, with and without.
"""

from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from speed_bench.errors import UndefinedMetric

FloatArray = npt.NDArray[np.float64]

MIN_CONVERSATIONS = 8
"""An interval from fewer would promise a coverage that it does not have."""

_BLOCK = 500
"""Resamples per product: bounds the memory, not the result's meaning."""

_MIN_DEGREES = 4.0
"""Degrees of freedom are not taken to be fewer: the t quantile is not accurate there."""

_NORMAL = NormalDist()


class Interval(NamedTuple):
    """Lower and upper bound, in the unit of the value."""

    low: float
    high: float


class Resampled(NamedTuple):
    """Statistics in every resample, and with every conversation left out: what their intervals come from."""

    draws: FloatArray
    """(resamples, statistics)."""
    left_out: FloatArray
    """(conversations, statistics)."""
    strata: Sequence[str]

    @classmethod
    def of(
        cls,
        numerators: npt.ArrayLike,
        denominators: npt.ArrayLike,
        strata: Sequence[str],
        *,
        resamples: int,
        seed: int,
    ) -> "Resampled":
        """Of several ratios of sums: the arguments are those of `resample_ratios`."""
        draws = resample_ratios(numerators, denominators, strata, resamples=resamples, seed=seed)
        return cls(draws, left_out_ratios(numerators, denominators, strata), strata)

    def map(self, function: Callable[[FloatArray], FloatArray]) -> "Resampled":
        """Of a function of the statistics, which takes and returns them along the last axis."""
        return Resampled(function(self.draws), function(self.left_out), self.strata)

    def columns(self, which: npt.NDArray[np.intp]) -> "Resampled":
        """Of some of the statistics."""
        return self.map(lambda every: every[:, which])

    def interval(self, column: int = 0, *, num_conversations: int, confidence_level: float) -> Interval | None:
        """The interval of one statistic: see the function `interval`."""
        return interval(
            self.draws[:, column],
            num_conversations=num_conversations,
            confidence_level=confidence_level,
            left_out=self.left_out[:, column],
            strata=self.strata,
        )

    def p_value(self, column: int = 0) -> float:
        """Two-sided, of a difference: see the function `p_value`."""
        return p_value(self.draws[:, column], left_out=self.left_out[:, column], strata=self.strata)


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
    return _ratios(_resample_totals(np.hstack((above, below)), strata, resamples=resamples, seed=seed))


def left_out_ratios(numerators: npt.ArrayLike, denominators: npt.ArrayLike, strata: Sequence[str]) -> FloatArray:
    """The same ratios with each conversation left out in turn, (conversations, ratios); NaN where undefined.

    The others of its stratum then weigh n / (n − 1), as if a resample had drawn each of them once. A
    function of several ratios is applied to the rows, as it is to those of `resample_ratios`.

    >>> left_out_ratios([[1.0], [2.0], [6.0]], [[1.0], [1.0], [1.0]], ["qa", "qa", "qa"]).tolist()
    [[4.0], [3.5], [1.5]]
    """
    above, below = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    features = np.hstack((above, below))
    total, left = features.sum(axis=0), np.empty_like(features)
    for rows in strata_rows(strata):
        values, weight = features[rows], len(rows) / max(len(rows) - 1, 1)
        stratum = values.sum(axis=0)
        left[rows] = total - stratum + (stratum - values) * weight
    return _ratios(left)


def interval(
    values: npt.ArrayLike,
    *,
    num_conversations: int,
    left_out: npt.ArrayLike,
    strata: Sequence[str],
    confidence_level: float = 0.95,
) -> Interval | None:
    """Interval from the bootstrap distribution of one statistic.

    `left_out` is the same statistic with each conversation left out (from `left_out_ratios`), `strata`
    the category of each. By them the interval reaches further into the tails than the plain percentiles
    would, for two reasons. The spread is estimated from few conversations, so a t quantile
    takes the place of the normal one. Its degrees of freedom are (conversations − categories) · 2 / (κ − 1),
    at most conversations − categories, with κ the kurtosis of the left-out values: where a few long
    conversations carry a ratio, its spread is known as badly as from fewer. And a ratio follows the
    conversations that weigh most, so the bootstrap finds them nearer to it than they are; the
    jackknife standard error has no such bias, and widens the interval where it is the larger one.

    None below 8 conversations that contribute to it. NaN marks resamples in which it is undefined:
    rare ones are left out, and where they are more than one in a hundred there is no interval.

    >>> names, left_out = ["qa"] * 80, [49.0, 51.0] * 40
    >>> low, high = interval(range(101), num_conversations=80, left_out=left_out, strata=names)
    >>> round(low, 2), round(high, 2)
    (2.33, 97.67)
    """
    array = np.asarray(values, dtype=np.float64)
    defined = array[~np.isnan(array)]
    if num_conversations < MIN_CONVERSATIONS or not defined.size or defined.size < 0.99 * array.size:
        return None
    tail = _Tails.of(defined, left_out, strata).level(1 - confidence_level)
    low, high = np.quantile(defined, [tail, 1 - tail])
    return Interval(float(low), float(high))


def p_value(values: npt.ArrayLike, *, left_out: npt.ArrayLike, strata: Sequence[str]) -> float:
    """Two-sided p of a difference: 1 − the confidence level at which a bound of its `interval` is 0.

    So p < 0.05 says the same as that the 95 % interval excludes 0. Takes what `interval` takes, and is
    meant for a difference that has one. At least 2 / (resamples + 1): so many resamples cannot show a
    smaller one.
    """
    array = np.asarray(values, dtype=np.float64)
    ordered = np.sort(array[~np.isnan(array)])
    reached = min(_level_of_zero(ordered), _level_of_zero(-ordered[::-1]))
    if reached >= 0.5:
        return 1.0
    tails = _Tails.of(ordered, left_out, strata)
    excluded, included = 2 / (len(ordered) + 1), 1.0
    if tails.level(excluded) >= reached:
        return excluded
    while included - excluded > 1e-9:
        middle = (excluded + included) / 2
        excluded, included = (middle, included) if tails.level(middle) < reached else (excluded, middle)
    return round(included, 8)


class _Tails(NamedTuple):
    """How far into the tails of its bootstrap distribution an interval reaches."""

    degrees: float
    """Degrees of freedom of its spread."""
    widening: float
    """Jackknife standard error / bootstrap standard error, at least 1."""

    @classmethod
    def of(cls, defined: FloatArray, left_out: npt.ArrayLike, strata: Sequence[str]) -> "_Tails":
        groups = strata_rows(strata)
        sizes = np.array([len(rows) for rows in groups])
        without = np.asarray(left_out, dtype=np.float64)[np.concatenate(groups)]
        means = np.add.reduceat(without, np.cumsum(sizes) - sizes) / sizes
        squares = np.square(without - means.repeat(sizes)) * ((sizes - 1) / sizes).repeat(sizes)
        variance, spread, degrees = float(squares.sum()), float(defined.std()), float(len(without) - len(groups))
        if not (variance > 0 and spread > 0):
            return cls(degrees, 1.0)
        kurtosis = len(without) * float(np.square(squares).sum()) / variance**2
        return cls(degrees * min(1.0, 2 / max(kurtosis - 1, 1e-9)), max(1.0, np.sqrt(variance) / spread))

    def level(self, alpha: float) -> float:
        """The lower percentile, as a share, of an interval of confidence level 1 − alpha."""
        return _NORMAL.cdf(-self.widening * _t_quantile(1 - alpha / 2, self.degrees))


def _level_of_zero(ordered: FloatArray) -> float:
    """The largest share whose quantile is not above 0, of values in ascending order."""
    num_below = int(np.searchsorted(ordered, 0.0, side="right"))
    if num_below in (0, len(ordered)):
        return float(num_below > 0)
    before, after = ordered[num_below - 1], ordered[num_below]
    return float((num_below - 1 - before / (after - before)) / (len(ordered) - 1))


def _t_quantile(share: float, degrees: float) -> float:
    """Of Student's t, by the Cornish-Fisher expansion in 1 / degrees (Abramowitz and Stegun 26.7.5).

    At 95 % it is within 0.3 % from 4 degrees of freedom on, at 99 % within 1.3 %.
    """
    z, n = _NORMAL.inv_cdf(share), max(degrees, _MIN_DEGREES)
    return (
        z
        + (z**3 + z) / (4 * n)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
    )


def _ratios(totals: FloatArray) -> FloatArray:
    """The left half of the columns divided by the right half, NaN where that is 0."""
    sums, bases = np.hsplit(totals, 2)
    ratios: FloatArray = np.divide(sums, bases, out=np.full_like(sums, np.nan), where=bases != 0)
    return ratios


def _resample_totals(features: FloatArray, strata: Sequence[str], *, resamples: int, seed: int) -> FloatArray:
    """Weighted sums of the rows of `features`, one row per resample."""
    rng = np.random.default_rng(seed)
    totals = np.zeros((resamples, features.shape[1]))
    for rows in strata_rows(strata):
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


def strata_rows(names: Sequence[str]) -> list[npt.NDArray[np.intp]]:
    """Rows of each stratum. A stratum of one has no spread to show, so such strata are merged with
    each other, and a single one with the smallest other stratum: too wide rather than too narrow."""
    _, index = np.unique(np.asarray(names), return_inverse=True)
    groups = sorted((np.flatnonzero(index == stratum) for stratum in range(index.max(initial=-1) + 1)), key=len)
    num_single = sum(len(rows) == 1 for rows in groups)
    if num_single == 0:
        return groups
    merged = max(num_single, 2)
    return [np.concatenate(groups[:merged]), *groups[merged:]]
