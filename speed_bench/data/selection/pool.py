"""A pool as the search and the certificate see it: strata side by side, the rows of each in an order of their own.

That order is one of hashes of the rows, so what is chosen does not depend on the order in which the candidates were
read. Equal rows stay in the order they came in.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from speed_bench.data.selection.similarities import (
    ONE,
    FloatArray,
    Indices,
    Integers,
    row_hashes,
    rows_of,
    similarity_matrix,
)
from speed_bench.errors import ConfigError, DataError, unknown


@dataclass(frozen=True, slots=True)
class Pool:
    """The candidates of every stratum that something is chosen from."""

    rows: FloatArray
    """(candidates, dimensions)."""
    similarity: Integers
    """(candidates, candidates), in units of 1 / ONE, 0 on the diagonal."""
    positions: Indices
    """Where each candidate stood in the input."""
    edges: Indices
    """Where each stratum begins, and after the last one the number of candidates."""
    quotas: Indices
    """How many to choose from each stratum, at least 1."""
    limit: int
    """A pair above it is a close pair; in units of 1 / ONE."""
    firsts: Indices
    """All candidates, in the order in which restarts begin with them."""

    @property
    def stratum(self) -> Indices:
        """The number of each candidate's stratum."""
        return np.repeat(np.arange(len(self.quotas)), np.diff(self.edges))


def pool_of(
    embeddings: npt.ArrayLike,
    k: int,
    *,
    labels: Sequence[str] | None,
    counts: Mapping[str, int] | None,
    cap: float | None,
    seed: int,
) -> Pool:
    """The pool of a selection. Raises ConfigError for quotas that cannot be, DataError for too few candidates."""
    rows = rows_of(embeddings)
    stratum, quotas = _strata(len(rows), k, labels, counts)
    hashes = row_hashes(rows, seed)
    order = np.lexsort((hashes, stratum))
    positions = order[stratum[order] >= 0]
    if cap is not None and not -1 <= cap <= 1:
        raise ConfigError(f"a cap of {cap} is no similarity; give one between -1 and 1, such as 0.8")
    return Pool(
        rows=rows[positions],
        similarity=similarity_matrix(rows[positions]),
        positions=positions,
        edges=np.searchsorted(stratum[positions], np.arange(len(quotas) + 1)),
        quotas=quotas,
        limit=2 * ONE if cap is None else int(np.floor(cap * ONE)),
        firsts=np.argsort(hashes[positions], kind="stable"),
    )


def plain_pool(embeddings: npt.ArrayLike, k: int, *, seed: int) -> Pool:
    """A pool of one stratum, without a cap, in the order of the input."""
    rows = rows_of(embeddings)
    _, quotas = _strata(len(rows), k, None, None)
    return Pool(
        rows=rows,
        similarity=similarity_matrix(rows),
        positions=np.arange(len(rows)),
        edges=np.array([0, len(rows)]),
        quotas=quotas,
        limit=2 * ONE,
        firsts=np.argsort(row_hashes(rows, seed), kind="stable"),
    )


def _strata(
    num: int, k: int, labels: Sequence[str] | None, counts: Mapping[str, int] | None
) -> tuple[Indices, Indices]:
    """The stratum of every candidate, −1 where nothing is chosen from it, and the quotas, by label."""
    if k < 1:
        raise ConfigError(f"{k} rows cannot be chosen; give a number of at least 1")
    if (labels is None) != (counts is None):
        raise ConfigError("labels and counts are given together, or neither")
    if labels is None or counts is None:
        labels, counts = ("",) * num, {"": k}
    if len(labels) != num:
        raise ConfigError(f"{len(labels)} labels for {num} candidates; each has one")
    if min(counts.values(), default=0) < 0 or sum(counts.values()) != k:
        raise ConfigError(f"quotas {dict(counts)} do not add up to {k} rows")
    names = sorted(name for name, count in counts.items() if count)
    sizes = dict.fromkeys(names, 0)
    for label in labels:
        if label in sizes:
            sizes[label] += 1
    for name in names:
        if not sizes[name] and any(labels):
            raise DataError(f"{counts[name]} rows are wanted, and {unknown('label', name, set(labels))}")
        if counts[name] > sizes[name]:
            of = f" of '{name}'" if name else ""
            raise DataError(f"{counts[name]} rows{of} are wanted, and the pool has {sizes[name]}")
    numbers = {name: number for number, name in enumerate(names)}
    return np.array([numbers.get(label, -1) for label in labels]), np.array([counts[name] for name in names])
