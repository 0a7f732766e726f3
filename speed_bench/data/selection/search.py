"""The search: growth by the least similar candidate, swaps until none helps, and that again from many beginnings.

Both keep, for every candidate, what it would add: the sum of its similarities to the chosen ones, and the number of
chosen ones that it is too close to. The two are packed into one integer, the number of close pairs above the sum, so
that the smaller integer is always the better candidate: one close pair fewer outweighs any gain in similarity. Where
a selection without close pairs is reached, no later swap makes one.

A step of the growth costs one row of the matrix. A swap of `out` for `in` changes the objective by
2·Δ, Δ = (m_in − x_in·x_out) − m_out, with m the sums over the other chosen ones (the published form has m_out − 1
because its sums contain xᵢ·xᵢ). Since no similarity is above 1, Δ < 0 needs m_in < max m_out + 1, or + cap for a
candidate that is close to no chosen one: a few hundred candidates of thousands, so a swap costs about as
much as a step of the growth.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from speed_bench.data.selection.pool import Pool
from speed_bench.data.selection.similarities import ONE, Indices, Integers

Sums = npt.NDArray[np.int64]

_PAIR = 1 << 48
"""What a close pair costs: more than the similarities of 2¹⁷ pairs."""

_TAKEN = 1 << 61
"""What bars a candidate: more than any cost."""

_PARENTS, _GENERATIONS = 12, 4
"""How many selections are combined with each other, and how often: at most 264 growths, from rows that are shared."""

_MOST = ONE + ONE // 256
"""No similarity is above it: the rows have length 1 within 10⁻³."""


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
    return Found(int(costs[chosen].sum()), tuple(sorted(chosen.tolist())))


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
    chosen, costs, stratum = np.sort(chosen), costs.copy(), pool.stratum
    similarity = pool.similarity[chosen]  # side by side: the columns below are then read from the cache
    free = np.ones(len(costs), dtype=bool)
    free[chosen] = False
    while True:
        entering = np.flatnonzero(free & _worth_trying(pool, chosen, costs))
        if not len(entering):
            return chosen, costs
        change = _changes(pool.limit, similarity[:, entering], costs[chosen], costs[entering])
        if len(pool.quotas) > 1:
            change[stratum[chosen][:, None] != stratum[entering]] = _TAKEN
        best = change.min()
        if best >= 0:
            return chosen, costs
        leaves, enters = np.divmod(np.flatnonzero(change == best), len(entering))
        swap = np.lexsort((enters, chosen[leaves]))[0]
        place, leaving, latest = leaves[swap], chosen[leaves[swap]], entering[enters[swap]]
        _add(pool, costs, latest)
        _remove(pool, costs, leaving)
        free[leaving], free[latest] = True, False
        chosen[place], similarity[place] = latest, pool.similarity[latest]


def _add(pool: Pool, costs: Sums, candidate: int) -> None:
    row = pool.similarity[candidate]
    costs += row
    costs[np.flatnonzero(row > pool.limit)] += _PAIR


def _remove(pool: Pool, costs: Sums, candidate: int) -> None:
    row = pool.similarity[candidate]
    costs -= row
    costs[np.flatnonzero(row > pool.limit)] -= _PAIR


def _worth_trying(pool: Pool, chosen: Indices, costs: Sums) -> npt.NDArray[np.bool_]:
    """The candidates that some swap could take in: all others cannot lower the cost."""
    pairs = (costs + _PAIR // 2) // _PAIR
    sums = costs - pairs * _PAIR
    if pairs[chosen].any():
        fewer: npt.NDArray[np.bool_] = pairs <= pairs[chosen].max() + 1
        return fewer
    most = np.maximum.reduceat(sums[chosen], np.cumsum(pool.quotas) - pool.quotas)
    largest = np.repeat(most, np.diff(pool.edges)) if len(most) > 1 else most
    reach: npt.NDArray[np.bool_] = (pairs == 0) & (sums < largest + min(pool.limit, _MOST))
    reach |= (pairs == 1) & (sums < largest + _MOST)
    return reach


def _changes(limit: int, similarity: Integers, leaving: Sums, entering: Sums) -> Sums:
    """(leaving, entering): half of what each swap adds to the cost, from the costs of both and their similarities."""
    change = entering - similarity
    change -= leaving[:, None]
    close = np.flatnonzero(entering > _PAIR // 2)
    change[:, close] -= _PAIR * (similarity[:, close] > limit)
    return change
