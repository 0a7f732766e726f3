"""Choose k candidates that resemble each other least, and say how good the choice can be at most."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from speed_bench.data.selection.bound import lower_bound
from speed_bench.data.selection.pool import Pool, plain_pool, pool_of
from speed_bench.data.selection.search import local_optimum, search
from speed_bench.data.selection.similarities import ONE, FloatArray, Indices, rows_of
from speed_bench.errors import ConfigError, DataError, UndefinedMetric

Pair = tuple[int, int, float]
"""Two candidates, the lower index first, and their similarity."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Chosen candidates, as indices into the input, and what is known of them.

    Of a single chosen row, which has no pair, the numbers are None.
    """

    chosen: tuple[int, ...]
    """Ascending."""
    mean_similarity: float | None
    """The objective: see `objective`."""
    lower_bound: float | None
    """No selection with the same quotas and under the same cap has a smaller mean similarity: see `bound`.

    Where close pairs had to be accepted, no selection with the same quotas at all.
    """
    random_mean: float | None
    """The mean similarity to be expected of as many candidates of each stratum drawn at random."""
    max_pair: Pair | None
    """The most similar pair that was chosen."""
    close_pairs: tuple[Pair, ...]
    """Chosen pairs above the cap, which none was found without."""
    restarts: int
    """How many candidates the search began with, each in turn."""
    seed: int

    @property
    def gap(self) -> float | None:
        """By how much the mean similarity is above that of the best selection, at most."""
        if self.mean_similarity is None or self.lower_bound is None:
            return None
        return self.mean_similarity - self.lower_bound


def objective(embeddings: npt.ArrayLike, chosen: Sequence[int]) -> float:
    """The mean similarity of two different chosen rows: Σ_{i≠j} xᵢ·xⱼ / (k(k − 1)), over ordered pairs.

    `embeddings` has one row of length 1 per candidate (rounded to multiples of 2⁻²⁵). Raises UndefinedMetric below
    two rows. From Σ_{i≠j} xᵢ·xⱼ = ‖Σ xᵢ‖² − Σ ‖xᵢ‖²; the same on every machine and in every order of the rows.

    >>> objective([[1.0, 0.0], [0.0, 1.0], [0.0, -1.0]], [0, 1, 2])
    -0.3333333333333333
    """
    k = len(chosen)
    if k < 2:
        raise UndefinedMetric(f"mean similarity: {k} chosen rows have no pair")
    return _mean(rows_of(embeddings)[list(chosen)])


def select(
    embeddings: npt.ArrayLike,
    k: int,
    *,
    labels: Sequence[str] | None = None,
    counts: Mapping[str, int] | None = None,
    cap: float | None = 0.8,
    restarts: int = 200,
    seed: int = 0,
    allow_close_pairs: bool = False,
    ids: Sequence[str] | None = None,
) -> Selection:
    """The k rows of least mean similarity that a search from `restarts` candidates finds, and a bound on the least.

    `embeddings` has one row of length 1 per candidate. `labels` names the stratum of each and `counts` says how many to
    take from each stratum, k together; without them there is one stratum. No chosen pair has a similarity above `cap`.
    Where no such selection was found, DataError names the closest pair that was left (by its `ids`, if given), unless
    `allow_close_pairs`: then as few as were found are accepted. ConfigError for arguments that cannot be.

    The result depends on the values of the rows and the arguments, and on nothing else: not on the order of the
    candidates (of equal rows the first is taken), the machine or the number of threads.

    >>> rows = [[1.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, -0.5], [0.0, 0.0, 0.0, 1.0]]
    >>> select(rows, 2).chosen
    (2, 3)
    >>> select(rows, 2, labels=["a", "a", "b", "b"], counts={"a": 2}).mean_similarity
    0.5
    """
    if restarts < 1:
        raise ConfigError(f"{restarts} restarts cannot be made; give at least 1")
    pool = pool_of(embeddings, k, labels=labels, counts=counts, cap=cap, seed=seed)
    found = search(pool, restarts)
    selection = _selection(pool, found.chosen, min(restarts, len(pool.firsts)), seed)
    if selection.close_pairs and not allow_close_pairs:
        one, other, similarity = max(selection.close_pairs, key=lambda pair: pair[2])
        pair = f"{ids[one]} and {ids[other]}" if ids is not None else f"rows {one} and {other}"
        raise DataError(
            f"no {k} of {len(pool.positions)} candidates were found without a pair above {cap}: {pair} have a "
            f"similarity of {similarity:.3f}; add candidates, raise the cap, or accept it with --allow-close-pairs"
        )
    return selection


def published(embeddings: npt.ArrayLike, k: int, seed: int = 0) -> Selection:
    """The procedure as it was published: growth from one candidate, which the seed names, then swaps; no cap.

    Of equal candidates the first is added; of equal swaps the one that takes out the first, then takes in the first.
    """
    pool = plain_pool(embeddings, k, seed=seed)
    return _selection(pool, local_optimum(pool, pool.firsts[:1].tolist()).chosen, 1, seed)


def _selection(pool: Pool, found: Sequence[int], restarts: int, seed: int) -> Selection:
    """What is known of the candidates at these positions of the pool."""
    chosen = np.array(found)
    pairs = _pairs(pool, chosen)
    close = tuple(pair for pair in pairs if pair[2] * ONE > pool.limit)
    bounded = replace(pool, limit=2 * ONE) if close else pool
    return Selection(
        chosen=tuple(sorted(pool.positions[chosen].tolist())),
        mean_similarity=_mean(pool.rows[chosen]) if pairs else None,
        lower_bound=lower_bound(bounded, chosen) if pairs else None,
        random_mean=_random_mean(pool) if pairs else None,
        max_pair=max(pairs, key=lambda pair: pair[2], default=None),
        close_pairs=close,
        restarts=restarts,
        seed=seed,
    )


def _pairs(pool: Pool, chosen: Indices) -> list[Pair]:
    """Every chosen pair, by indices into the input, ascending."""
    ordered = chosen[np.argsort(pool.positions[chosen])]
    ones, others = np.triu_indices(len(ordered), 1)
    similarities = pool.similarity[ordered[ones], ordered[others]] / ONE
    names = pool.positions[ordered]
    return list(zip(names[ones].tolist(), names[others].tolist(), similarities.tolist(), strict=True))


def _mean(rows: FloatArray) -> float:
    """The objective of rows that are multiples of 2⁻²⁵, whose sums and lengths are therefore exact."""
    return (_square(rows.sum(axis=0)) - _own(rows)) / (len(rows) * (len(rows) - 1))


def _random_mean(pool: Pool) -> float:
    """The expected objective of a random selection with the quotas c.

    Two different strata contribute c_a·c_b times the mean similarity between them, a stratum of s candidates
    c_a·(c_a − 1) times that of two different ones of its own. The sum over all pairs of strata is the square of
    Σ_a (c_a / s_a)·Σ_{i∈a} xᵢ, in which a stratum's pairs with itself are then exchanged.
    """
    total, whole = np.zeros(pool.rows.shape[1]), 0.0
    for start, end, count in zip(pool.edges[:-1], pool.edges[1:], pool.quotas.tolist(), strict=True):
        rows, size = pool.rows[start:end], int(end - start)
        own, square = _own(rows), _square(rows.sum(axis=0))
        total += rows.sum(axis=0) * (count / size)
        whole += count * (count - 1) * (square - own) / max(size * (size - 1), 1) - count**2 * square / size**2
    k = int(pool.quotas.sum())
    return (whole + _square(total)) / (k * (k - 1))


def _square(row: FloatArray) -> float:
    return math.fsum((row * row).tolist())


def _own(rows: FloatArray) -> float:
    """Σ xᵢ·xᵢ."""
    return math.fsum(np.einsum("ij,ij->i", rows, rows).tolist())
