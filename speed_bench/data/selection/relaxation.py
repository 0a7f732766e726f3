"""The descent that finds what `bound` certifies: masses u and prices of cliques, as good as can be."""

import math

import numpy as np

from speed_bench.data.selection.pool import Pool
from speed_bench.data.selection.similarities import ONE, FloatArray, Indices

_MOVES, _MOVES_PER_ROW = 1000, 2
"""Of all rounds together, at most: a second for 5,000 candidates. Real pools need a few hundred."""

_ROUNDS = 40
_FIRST_TOLERANCE, _SHRINK = 0.05, 0.5
"""How much two slopes may still differ when a round ends; the next round asks for more."""

_CHECK = 50
"""Moves between two looks at whether enough is reached: a look costs a few moves."""

_STIFFNESS = 2.0
"""ρ: about the curvature of F along a move, so that masses and prices settle equally fast."""

_EXACT = 2e-6
"""The descent ends where a round improves the bound on the mean by less."""

_EXCESS = 1e-3
"""How much mass over 1 makes two close candidates a clique."""


class Relaxation:
    """Masses, the slope of F plus prices at them, and the cliques found so far."""

    def __init__(self, pool: Pool, chosen: Indices) -> None:
        """Begin with the masses of a selection, given by positions in the pool."""
        self.pool = pool
        self.mass: FloatArray = np.zeros(len(pool.positions))
        self.mass[chosen] = 1.0
        self.slope: FloatArray = 2 * (pool.similarity[chosen].sum(axis=0, dtype=np.int64) / ONE + self.mass) - 1
        self.cliques: list[Indices] = []
        self.prices: list[float] = []
        self._settled: list[float] = []
        self._totals: list[float] = []
        self._member: dict[int, list[int]] = {}
        self._degree = np.zeros(len(self.mass))
        self._moves = 0
        self._most_moves = _MOVES + _MOVES_PER_ROW * len(self.mass)

    def solve(self) -> tuple[FloatArray, list[Indices], FloatArray]:
        """Masses, cliques and prices whose certificate is the best that was reached."""
        k = int(self.pool.quotas.sum())
        best = -np.inf
        kept: tuple[FloatArray, list[Indices], FloatArray] = (self.mass.copy(), [], np.zeros(0))
        for number in range(_ROUNDS):
            tolerance = max(_FIRST_TOLERANCE * _SHRINK**number, _EXACT * (k - 1))
            self._descend(tolerance)
            value, before = self.bound(), best
            if value > best:
                best, kept = value, (self.mass.copy(), list(self.cliques), np.array(self.prices))
            found = self._find_cliques()
            ended = tolerance <= _EXACT * (k - 1) and value - before < _EXACT * k * (k - 1)
            if (ended and not found) or self._moves >= self._most_moves:
                break
            self._settle()
        return kept

    def bound(self) -> float:
        """The certificate of `bound.certified`, from the slope that the descent keeps: as it is used to steer."""
        support = np.flatnonzero(self.mass)
        priced = math.fsum(price * total for price, total in zip(self.prices, self._totals, strict=True))
        quadratic = (math.fsum(self.mass[support] * (self.slope[support] + 1)) - priced) / 2
        return smallest(self.pool, self.slope) - quadratic - math.fsum(self.prices)

    def _descend(self, tolerance: float) -> None:
        """Move mass until all of it, moved to where the slope is least, would gain less than the tolerance per row."""
        enough = tolerance * int(self.pool.quotas.sum())
        while self._moves < self._most_moves:
            pair = self._steepest(tolerance)
            if pair is None or (self._moves % _CHECK == 0 and self._gain() <= enough):
                return
            self._move(*pair)
            self._moves += 1

    def _gain(self) -> float:
        """What moving all mass to where the slope is least would gain, if the slope stayed."""
        support = np.flatnonzero(self.mass)
        return math.fsum(self.mass[support] * self.slope[support]) - smallest(self.pool, self.slope)

    def _steepest(self, tolerance: float) -> tuple[int, int, float] | None:
        """From which candidate to which other one mass is to be moved, and how much; None where little is gained."""
        edges, mass, slope = self.pool.edges, self.mass, self.slope
        low = np.where(mass < 1, slope, np.inf)
        high = np.where(mass > 0, slope, -np.inf)
        spread = np.maximum.reduceat(high, edges[:-1]) - np.minimum.reduceat(low, edges[:-1])
        number = int(spread.argmax())
        if spread[number] <= tolerance:
            return None
        start, end = edges[number], edges[number + 1]
        target = int(start + low[start:end].argmin())
        donors = start + np.flatnonzero(mass[start:end] > 0)
        donors = donors[slope[donors] > slope[target]]
        gain = slope[donors] - slope[target]
        curvature = 4 - 4 * (self.pool.similarity[target, donors] / ONE)
        curvature += _STIFFNESS * self._apart(target)[donors]
        curvature = np.maximum(curvature, 1e-9)
        best = int((gain * gain / curvature).argmax())
        source = int(donors[best])
        return source, target, float(min(gain[best] / curvature[best], mass[source], 1 - mass[target]))

    def _apart(self, candidate: int) -> FloatArray:
        """In how many cliques exactly one of this candidate and each other one is."""
        apart: FloatArray = self._degree + self._degree[candidate]
        for number in self._member.get(candidate, ()):
            apart[self.cliques[number]] -= 2
        return apart

    def _move(self, source: int, target: int, amount: float) -> None:
        self.mass[source] = 0.0 if amount == self.mass[source] else self.mass[source] - amount
        self.mass[target] = 1.0 if amount == 1 - self.mass[target] else self.mass[target] + amount
        similarity = self.pool.similarity
        self.slope += (2 * amount / ONE) * (similarity[target] - similarity[source])
        self.slope[source] -= 2 * amount
        self.slope[target] += 2 * amount
        left, joined = self._member.get(source, []), self._member.get(target, [])
        for numbers, change in ((left, -amount), (joined, amount)):
            for number in numbers:
                self._totals[number] += change
        for number in {*left, *joined}:
            self._price(number)

    def _price(self, number: int) -> None:
        """Give a clique the price that its settled price and its mass ask for."""
        price = max(0.0, self._settled[number] + _STIFFNESS * (self._totals[number] - 1))
        if price != self.prices[number]:
            self.slope[self.cliques[number]] += price - self.prices[number]
            self.prices[number] = price

    def _settle(self) -> None:
        """The step of the method of multipliers: what a clique's price has become is what it is raised from."""
        self._settled = list(self.prices)
        for number in range(len(self.cliques)):
            self._price(number)

    def _find_cliques(self) -> bool:
        """Add a maximal clique for every two close candidates that share too much mass; whether there were any."""
        pool, support = self.pool, np.flatnonzero(self.mass > 0)
        shared = self.mass[support][:, None] + self.mass[support]
        close = pool.similarity[support[:, None], support] > pool.limit
        pairs = np.argwhere(np.triu(close & (shared > 1 + _EXCESS)))
        num_before = len(self.cliques)
        for one, other in support[pairs].tolist():
            if not set(self._member.get(one, ())) & set(self._member.get(other, ())):
                self._add_clique(one, other)
        return len(self.cliques) > num_before

    def _add_clique(self, one: int, other: int) -> None:
        """Extend a close pair by the candidate of least slope that is too close to all, until there is none."""
        similarity, limit = self.pool.similarity, self.pool.limit
        members = [one, other]
        others = (similarity[one] > limit) & (similarity[other] > limit)
        while others.any():
            members.append(int(np.where(others, self.slope, np.inf).argmin()))
            others &= similarity[members[-1]] > limit
        clique = np.array(sorted(members))
        number = len(self.cliques)
        for member in members:
            self._member.setdefault(member, []).append(number)
        self._degree[clique] += 1
        self.cliques.append(clique)
        self._totals.append(float(self.mass[clique].sum()))
        self._settled.append(0.0)
        self.prices.append(0.0)
        self._price(number)


def smallest(pool: Pool, slope: FloatArray) -> float:
    """Σ_l of the c_l smallest values of each stratum l: the least that a linear function is over selections."""
    runs = zip(pool.edges[:-1], pool.edges[1:], pool.quotas, strict=True)
    return math.fsum(value for start, end, quota in runs for value in np.sort(slope[start:end])[:quota].tolist())
