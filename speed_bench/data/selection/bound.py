"""How good any selection can be: a certified lower bound on the mean pairwise similarity.

**The relaxation.** Describe a selection S by u: uᵢ = 1 for a chosen candidate, 0 for another. Let K = X·Xᵀ. Then,
because uᵢ² = uᵢ,

    F(u) = uᵀKu − diag(K)ᵀu

is Σ_{i≠j∈S} xᵢ·xⱼ, the objective times k(k − 1). K is positive semidefinite, so F is convex on all of ℝⁿ. Every
selection that meets the quotas c_l and holds no close pair is among the u with 0 ≤ u ≤ 1, Σ_{i∈l} uᵢ = c_l for every
stratum l, and Σ_{i∈q} uᵢ ≤ 1 for every clique q, a set of candidates any two of which are too close to each other.
(With one stratum and no cliques, w = u / k is the known relaxation min wᵀGw, Σw = 1, 0 ≤ w ≤ 1/k.)

**The certificate.** Take any u and any prices y_q ≥ 0 and put h = ∇F(u) + Σ_q y_q·1_q, ∇F(u) = 2Ku − diag(K). For every
selection v that is allowed,

    F(v) ≥ F(u) + ∇F(u)ᵀ(v − u)                       F is convex: it lies above its tangents
         ≥ F(u) + ∇F(u)ᵀ(v − u) + Σ_q y_q (v(q) − 1)   v(q) ≤ 1 and y_q ≥ 0
         = hᵀv − uᵀKu − Σ_q y_q                        F(u) − ∇F(u)ᵀu = −uᵀKu
         ≥ Σ_l (sum of the c_l smallest hᵢ in l) − uᵀKu − Σ_q y_q.

The last line is the bound. Nothing about u and y is assumed, neither that they are optimal nor that u is feasible: how
they were found decides how good the bound is, never whether it is one. It is evaluated in float64 on the
rows themselves, and 10⁻⁹ is taken off the mean for rounding (n·k·2⁻⁵³ is 5·10⁻¹¹ for the largest pools).

**How u and y are found.** Mass is moved from the candidate of u > 0 to the one of u < 1, of the same stratum, for which
a step with exact line search promises most (the working set of Fan, Chen and Lin, 2005): one row of
the matrix per step. Cliques enter as the descent needs them: where two close candidates share more than 1, the
pair is extended to a maximal clique. Their prices are those of the method of multipliers, y ← max(0, y + ρ(u(q) − 1)).
"""

import numpy as np

from speed_bench.data.selection.pool import Pool
from speed_bench.data.selection.relaxation import Relaxation, smallest
from speed_bench.data.selection.similarities import FloatArray, Indices

_ROUNDING = 1e-9


def lower_bound(pool: Pool, chosen: Indices) -> float:
    """No selection with these quotas and without close pairs has a smaller mean pairwise similarity; for k ≥ 2.

    `chosen`, positions in the pool, is where the descent begins. The bound is rounded down to a multiple of
    10⁻⁹, below which float64 sums depend on the machine.
    """
    k = int(pool.quotas.sum())
    total = certified(pool, *Relaxation(pool, chosen).solve())
    return float((np.floor(total / (k * (k - 1)) / _ROUNDING) - 1) * _ROUNDING)


def certified(pool: Pool, mass: FloatArray, cliques: list[Indices], prices: FloatArray) -> float:
    """The last line of the proof: a lower bound on Σ_{i≠j} xᵢ·xⱼ from any u, any cliques and any prices ≥ 0."""
    product = pool.rows @ (pool.rows.T @ mass)
    slope = 2 * product - np.einsum("ij,ij->i", pool.rows, pool.rows)
    for clique, price in zip(cliques, prices, strict=True):
        slope[clique] += price
    return smallest(pool, slope) - float(mass @ product) - float(prices.sum())
