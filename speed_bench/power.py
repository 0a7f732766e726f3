"""How many conversations it takes to tell two drafters apart.

The headline difference is a mean over the conversations of each category, then over categories. With
equally many in each, its variance is sd² / N, N being all conversations and sd² the variance of the
difference within a category, averaged over categories. What categories differ in is no noise.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from speed_bench.comparison import conversation_lengths, length_differences, same_input_pairs
from speed_bench.errors import UndefinedMetric
from speed_bench.records import RunRecords
from speed_bench.statistics import MIN_CONVERSATIONS

CORRELATIONS = (0.0, 0.5, 0.9)
NUM_CATEGORIES = 11
"""Of the `qualitative` prompts: where no run says how many."""

_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Spread:
    """What the paired differences of two drafters spread within a category."""

    label: str
    """What is compared."""
    sd: float
    """In tokens per step."""
    num_conversations: int | None = None
    """That it was found from."""
    num_categories: int = NUM_CATEGORIES
    """Of the runs."""
    num_spread_categories: int = NUM_CATEGORIES
    """Those of two conversations or more: the others show no spread."""

    @property
    def uncertainty(self) -> float | None:
        """Relative standard error of `sd`, None where it was given: 1 / √(2 (conversations − categories)), of those
        categories that show a spread."""
        if self.num_conversations is None:
            return None
        return 1 / math.sqrt(2 * max(self.num_conversations - self.num_spread_categories, 1))


def spreads_of(runs: Sequence[RunRecords]) -> list[Spread]:
    """From two runs their paired differences; from one, what another drafter would do whose lengths correlate with it.

    Raises UndefinedMetric where two runs share no turn with the same input, and where there is no spread.
    """
    if len(runs) == 1:
        lengths = conversation_lengths(runs[0].turns)
        found, num = within_sd(lengths)
        each = [(f"correlation {r:g}", difference_sd(found, r)) for r in CORRELATIONS]
        return [Spread(label, sd, num, *_num_categories(lengths)) for label, sd in each]
    pairs = same_input_pairs(*runs)
    if not pairs:
        raise UndefinedMetric("the runs have no turn with the same input: were the prompts the same?")
    differences = length_differences(pairs)
    return [Spread("paired", *within_sd(differences), *_num_categories(differences))]


def _num_categories(values: Mapping[tuple[str, str], float]) -> tuple[int, int]:
    """All of them, and those of two conversations or more."""
    sizes = Counter(category for category, _ in values)
    return len(sizes), sum(size > 1 for size in sizes.values())


def within_sd(values: Mapping[tuple[str, str], float]) -> tuple[float, int]:
    """(sd within categories, conversations it rests on), from one value per (category, conversation).

    In the unit of the values. A category of one conversation says nothing of its spread and is left out.
    Raises UndefinedMetric where no category has two.

    >>> within_sd({("qa", "a"): 1.0, ("qa", "b"): 2.0, ("math", "c"): 5.0, ("math", "d"): 6.0})
    (0.7071067811865476, 4)
    """
    groups: dict[str, list[float]] = defaultdict(list)
    for (category, _), value in values.items():
        groups[category].append(value)
    spread = [np.var(members, ddof=1) for members in groups.values() if len(members) > 1]
    if not spread:
        raise UndefinedMetric("standard deviation: no category has two conversations with decode steps")
    return float(np.sqrt(np.mean(spread))), sum(len(members) for members in groups.values() if len(members) > 1)


def conversations_needed(sd: float, difference: float, *, power: float = 0.8, confidence_level: float = 0.95) -> int:
    """((z₁₋α/₂ + z_power) · sd / difference)², rounded up, and never below 8, where intervals begin.

    Conversations in all, equally many per category, so that a true mean difference of that size is found
    with probability `power`: its interval at `confidence_level` then excludes 0. `sd` is that of the
    paired differences within a category.

    >>> conversations_needed(0.4, 0.05)
    503
    """
    needed = (_quantiles(power, confidence_level) * sd / difference) ** 2
    return max(MIN_CONVERSATIONS, math.ceil(needed))


def detectable_difference(
    sd: float, num_conversations: int, *, power: float = 0.8, confidence_level: float = 0.95
) -> float:
    """The smallest true difference that so many conversations show with probability `power`.

    >>> round(detectable_difference(0.4, 880), 3)
    0.038
    """
    return _quantiles(power, confidence_level) * sd / math.sqrt(num_conversations)


def difference_sd(sd: float, correlation: float) -> float:
    """The sd of the difference of two runs whose lengths both have `sd` and correlate so: sd · √(2 (1 − r)).

    >>> difference_sd(0.5, 0.5)
    0.5
    """
    return sd * math.sqrt(2 * (1 - correlation))


def _quantiles(power: float, confidence_level: float) -> float:
    return _NORMAL.inv_cdf(0.5 + confidence_level / 2) + _NORMAL.inv_cdf(power)
