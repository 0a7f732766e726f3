"""The acceptance numbers of a group of conversations, each with its interval.

Values come from the functions that own them, intervals from the sums beside them: every value is a
ratio of sums over conversations, or a function of such ratios, so all are drawn together.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from speed_bench import acceptance
from speed_bench.errors import UndefinedMetric
from speed_bench.scores import Bootstrap, Cell
from speed_bench.statistics import FloatArray, Interval, Resampled, category_mean, category_weights
from speed_bench.tally import Tally, pool

_Metric = Callable[[Tally], float]
_Sums = tuple[FloatArray, FloatArray]


@dataclass(frozen=True, slots=True)
class AcceptanceCells:
    """Cells by the name of their metric."""

    values: dict[str, Cell]
    vectors: dict[str, list[Cell]]
    """One cell per position 1…K, or one that says why there are none."""


def acceptance_cells(
    tallies: Sequence[Tally], categories: Sequence[str], bootstrap: Bootstrap | None
) -> AcceptanceCells:
    """The numbers of a group: one tally and one category name per conversation.

    A conversation without a decode step is in no number; one whose steps are not known makes undefined
    what depends on them. No interval is drawn without a `bootstrap`.
    """
    used = [row for row, tally in enumerate(tallies) if tally.num_steps != 0]
    tallies, categories = [tallies[row] for row in used], [categories[row] for row in used]
    total, everyone = pool(tallies), [""] * len(tallies)

    def mean(metric: _Metric, groups: Sequence[str]) -> Callable[[], float]:
        return lambda: category_mean([metric(tally) for tally in tallies], groups)

    values: dict[str, Callable[[], float]] = {
        "acceptance_length": mean(acceptance.acceptance_length, categories),
        "acceptance_length_conversation": mean(acceptance.acceptance_length, everyone),
        "acceptance_length_pooled": lambda: acceptance.acceptance_length(total),
        "acceptance_length_drafted": lambda: acceptance.acceptance_length_drafted(total),
        "acceptance_length_uncensored": lambda: acceptance.acceptance_length_uncensored(total),
        "acceptance_length_specdec_bench": mean(acceptance.acceptance_length_specdec_bench, everyone),
        "draft_acceptance_rate": lambda: acceptance.draft_acceptance_rate(total),
    }
    vectors: dict[str, Callable[[], Sequence[float | None]]] = {
        "joint_acceptance_rate": lambda: acceptance.joint_acceptance_rate(total),
        "conditional_acceptance_rate": lambda: acceptance.conditional_acceptance_rate(total),
    }
    drawn = _Drawn.of(_sums(tallies, categories, total), categories, bootstrap)
    return AcceptanceCells(
        {name: drawn.cell(name, value) for name, value in values.items()},
        {name: drawn.vector(name, value) for name, value in vectors.items()},
    )


def _sums(tallies: Sequence[Tally], categories: Sequence[str], total: Tally) -> dict[str, _Sums]:
    """Per metric what it is a ratio of, one row per conversation and one column per position of `total`.

    What is not known is 0 here; its value is undefined, so its interval is never looked at.
    """

    def column(name: str) -> FloatArray:
        return np.array([getattr(tally, name) or 0 for tally in tallies], dtype=np.float64)[:, None]

    def vector(name: str) -> FloatArray:
        depth = len(getattr(total, name) or ())
        rows = np.zeros((len(tallies), depth))
        for row, tally in zip(rows, tallies, strict=True):
            known = (getattr(tally, name) or ())[:depth]
            row[: len(known)] = known
        return rows

    def each(metric: _Metric) -> FloatArray:
        try:
            return np.array([metric(tally) for tally in tallies], dtype=np.float64)[:, None]
        except UndefinedMetric:
            return np.zeros((len(tallies), 1))

    weights = category_weights(categories)[:, None]
    reached = vector("reached")
    one, length, verify_steps = np.ones((len(tallies), 1)), each(acceptance.acceptance_length), column("verify_steps")
    return {
        "acceptance_length": (length * weights, weights),
        "acceptance_length_conversation": (length, one),
        "acceptance_length_pooled": (column("num_tokens"), column("num_steps")),
        "acceptance_length_drafted": (verify_steps + column("accepted"), verify_steps),
        "acceptance_length_specdec_bench": (each(acceptance.acceptance_length_specdec_bench), one),
        "draft_acceptance_rate": (column("accepted"), column("drafted")),
        "joint_acceptance_rate": (reached, column("num_placed_steps").repeat(reached.shape[1], axis=1)),
        "conditional_acceptance_rate": (vector("successes"), vector("trials")),
    }


@dataclass(frozen=True, slots=True)
class _Drawn:
    """The metrics in every resample, (resamples, positions), all from the same draws."""

    resampled: dict[str, Resampled] | None
    """None where no interval is asked for."""
    num_conversations: dict[str, list[int]]
    """By metric and position: the conversations that contribute."""
    confidence_level: float

    @classmethod
    def of(cls, sums: dict[str, _Sums], strata: Sequence[str], bootstrap: Bootstrap | None) -> "_Drawn":
        num = {name: np.count_nonzero(denominator, axis=0).tolist() for name, (_, denominator) in sums.items()}
        num["acceptance_length_uncensored"] = num["conditional_acceptance_rate"][:1] or [len(strata)]
        if bootstrap is None:
            return cls(None, num, 0.0)
        numerators, denominators = (np.hstack([pair[side] for pair in sums.values()]) for side in (0, 1))
        every = Resampled.of(numerators, denominators, strata, resamples=bootstrap.resamples, seed=bootstrap.seed)
        widths = [numerator.shape[1] for numerator, _ in sums.values()]
        columns = [np.arange(end - width, end) for end, width in zip(np.cumsum(widths), widths, strict=True)]
        resampled = {name: every.columns(own) for name, own in zip(sums, columns, strict=True)}
        resampled["acceptance_length_uncensored"] = resampled["conditional_acceptance_rate"].map(
            lambda rates: acceptance.expected_length(rates)[:, None]
        )
        return cls(resampled, num, bootstrap.confidence_level)

    def cell(self, name: str, value: Callable[[], float]) -> Cell:
        return self.vector(name, lambda: [value()])[0]

    def vector(self, name: str, values: Callable[[], Sequence[float | None]]) -> list[Cell]:
        """One cell per position, or one that says why there are none."""
        try:
            found = values()
        except UndefinedMetric as error:
            return [Cell.undefined(str(error).partition(": ")[2])]
        cells = []
        for position, (value, num) in enumerate(zip(found, self.num_conversations[name], strict=True)):
            if value is None:
                cells.append(Cell.undefined("no trial at this position"))
                continue
            cells.append(Cell.of(value, num, self._bounds(name, position)))
        return cells

    def _bounds(self, name: str, position: int) -> Interval | None:
        if self.resampled is None:
            return None
        num = self.num_conversations[name][position]
        return self.resampled[name].interval(position, num_conversations=num, confidence_level=self.confidence_level)
