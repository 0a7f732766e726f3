"""The search: growth by the least similar candidate, swaps until none helps, and that again from many beginnings.

Both keep, for every candidate, what it would add: the sum of its similarities to the chosen ones, and the number of
chosen ones that it is too close to. The two are packed into one integer, the number of close pairs above the sum, so
that the smaller integer is always the better candidate: one close pair fewer outweighs any gain in similarity. Where
a selection without close pairs is reached, no later swap makes one.

A step of the growth costs one row of the matrix. A swap of `out` for `in` changes the objective by
2·Δ, Δ = (m_in − x_in·x_out) − m_out, with m the sums over the other chosen ones (the published form has m_out − 1
because its sums contain xᵢ·xᵢ). Since no similarity is above 1, Δ < 0 needs m_in < max m_out + cap for a candidate
that is close to no chosen one: a few hundred candidates of thousands, so a swap costs little more than a step of the
growth. A candidate that is close to one chosen row can only take the place of that one.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from speed_bench.data.selection.pool import Pool
from speed_bench.data.selection.similarities import ONE, Indices

Sums = npt.NDArray[np.int64]

_PAIR = 1 << 48
"""What a close pair costs: more than the similarities of 2¹⁷ pairs."""

_TAKEN = 1 << 61
"""What bars a candidate: more than any cost."""

_PARENTS, _GENERATIONS = 12, 4
"""How many selections are combined with each other, and how often: at most 264 growths, from rows that are shared."""

_MOST = ONE + ONE // 256
"""No similarity is above it: the rows have length 1 within 10⁻³."""


_NONE = (0, -1, -1)
"""No swap: it changes nothing."""


class Found(NamedTuple):
    """A selection that no swap improves; the smaller one is the better one."""

    cost: int
    """Close pairs and similarities, packed, each pair counted twice."""
    chosen: tuple[int, ...]
    """Positions in the pool, ascending."""


def search(pool: Pool, restarts: int) -> Found:
    """The best selection that `restarts` different candidates lead to, or what the best of those have in common.

    Good selections share most of their rows. Two of them are combined by growing again from the rows they share; the
    better results take the places of the worse parents, and are combined in turn.
    """
    best = sorted({local_optimum(pool, [int(first)]) for first in pool.firsts[:restarts]})[:_PARENTS]
    combined: set[tuple[Found, Found]] = set()
    for _ in range(_GENERATIONS):
        pairs = [pair for pair in combinations(best, 2) if pair not in combined]
        combined.update(pairs)
        best = sorted({*best, *(local_optimum(pool, sorted({*a.chosen} & {*b.chosen})) for a, b in pairs)})[:_PARENTS]
    return best[0]


def local_optimum(pool: Pool, begun: Sequence[int]) -> Found:
    """What growth from some rows, which quotas allow, and swaps lead to.

    Of equal candidates the growth takes the one with the lowest position; of equal swaps the refinement takes out the
    lowest position, then in the lowest.
    """
    chosen, costs = refine(pool, *grow(pool, begun))
    return Found(sum(costs[chosen].tolist()), tuple(sorted(chosen.tolist())))


def grow(pool: Pool, begun: Sequence[int]) -> tuple[Indices, Sums]:
    """Add the candidate of least cost until every quota is filled: the chosen ones, and what each candidate adds."""
    costs = np.zeros(len(pool.positions), dtype=np.int64)
    left, stratum, chosen = pool.quotas.copy(), pool.stratum, list(begun)
    for step in range(int(left.sum())):
        if step == len(chosen):
            chosen.append(int(costs.argmin()))
        latest = chosen[step]
        _add(pool, costs, latest)
        costs[latest] += _TAKEN
        number = stratum[latest]
        left[number] -= 1
        if not left[number]:
            costs[pool.edges[number] : pool.edges[number + 1]] += _TAKEN
    costs -= _TAKEN  # every stratum is closed by now
    costs[chosen] -= _TAKEN
    return np.array(chosen), costs


def refine(pool: Pool, chosen: Indices, costs: Sums) -> tuple[Indices, Sums]:
    """Make the swap, within a stratum, that lowers the cost most, until none lowers it."""
    state = _Swaps(pool, np.sort(chosen), costs.copy())
    while (swap := state.best()) is not None:
        state.make(*swap)
    return state.chosen, state.costs


class _Swaps:
    """A selection and what its swaps would change."""

    def __init__(self, pool: Pool, chosen: Indices, costs: Sums) -> None:
        self.pool, self.chosen, self.costs = pool, chosen, costs
        self.stratum = pool.stratum
        self.similarity = pool.similarity[chosen]  # side by side: their columns are then read from the cache
        self.free = np.ones(len(costs), dtype=bool)
        self.free[chosen] = False
        self.near = np.zeros(len(costs), dtype=np.intp)
        """The sum of the positions of the chosen ones that a candidate is too close to: the one, where it is one."""
        for one, row in zip(chosen, self.similarity, strict=True):
            self.near[np.flatnonzero(row > pool.limit)] += one

    def best(self) -> tuple[int, int] | None:
        """Who leaves and who enters in the swap that lowers the cost most; None where none lowers it."""
        pairs = (self.costs + _PAIR // 2) // _PAIR
        sums = self.costs - pairs * _PAIR
        if pairs[self.chosen].any():
            best = self._best_of(np.flatnonzero(self.free & (pairs <= pairs[self.chosen].max() + 1)))
        else:
            most = np.maximum.reduceat(sums[self.chosen], np.cumsum(self.pool.quotas) - self.pool.quotas)
            largest = np.repeat(most, np.diff(self.pool.edges)) if len(most) > 1 else most
            alone = self.free & (pairs == 0) & (sums < largest + min(self.pool.limit, _MOST))
            tied = self.free & (pairs == 1) & (sums < largest + _MOST)
            best = min(self._best_of(np.flatnonzero(alone)), self._best_tied(np.flatnonzero(tied), sums))
        return best[1:] if best[0] < 0 else None

    def make(self, leaving: int, entering: int) -> None:
        place = int(np.flatnonzero(self.chosen == leaving)[0])
        self.near[_add(self.pool, self.costs, entering)] += entering
        self.near[_remove(self.pool, self.costs, leaving)] -= leaving
        self.free[leaving], self.free[entering] = True, False
        self.chosen[place], self.similarity[place] = entering, self.pool.similarity[entering]

    def _best_of(self, entering: Indices) -> tuple[int, int, int]:
        """Half of the change, who leaves, who enters: of all swaps that take in one of these."""
        if not len(entering):
            return _NONE
        between = self.similarity[:, entering]
        change = self.costs[entering] - between
        change -= self.costs[self.chosen][:, None]
        close = np.flatnonzero(self.costs[entering] > _PAIR // 2)
        change[:, close] -= _PAIR * (between[:, close] > self.pool.limit)
        if len(self.pool.quotas) > 1:
            change[self.stratum[self.chosen][:, None] != self.stratum[entering]] = _TAKEN
        least = change.min()
        leaves, enters = np.divmod(np.flatnonzero(change == least), len(entering))
        first = np.lexsort((enters, self.chosen[leaves]))[0]
        return int(least), int(self.chosen[leaves[first]]), int(entering[enters[first]])

    def _best_tied(self, entering: Indices, sums: Sums) -> tuple[int, int, int]:
        """The same of candidates that are close to one chosen row: only that one's place can they take."""
        leaving = self.near[entering]
        same = self.stratum[leaving] == self.stratum[entering]
        entering, leaving = entering[same], leaving[same]
        if not len(entering):
            return _NONE
        change = sums[entering] - self.pool.similarity[leaving, entering] - sums[leaving]
        first = np.lexsort((entering, leaving, change))[0]
        return int(change[first]), int(leaving[first]), int(entering[first])


def _add(pool: Pool, costs: Sums, candidate: int) -> Indices:
    """Count a candidate as chosen; who is too close to it."""
    row = pool.similarity[candidate]
    close = np.flatnonzero(row > pool.limit)
    costs += row
    costs[close] += _PAIR
    return close


def _remove(pool: Pool, costs: Sums, candidate: int) -> Indices:
    row = pool.similarity[candidate]
    close = np.flatnonzero(row > pool.limit)
    costs -= row
    costs[close] -= _PAIR
    return close
