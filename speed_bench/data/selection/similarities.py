"""The pairwise similarities of a pool as integers, so that every sum of them is exact.

A sum of floats depends on the order of its terms: on the library, the number of threads, the processor. In a search
that takes the smallest sum again and again, one last bit decides what is chosen. So rows are rounded to multiples of
2⁻²⁵, their products are added in float64, where nothing is left to round (multiples of 2⁻⁵⁰ below 8 have 53 bits),
and each similarity is rounded once, to a multiple of 2⁻²⁹. From there on the search adds integers.
"""

import hashlib

import numpy as np
import numpy.typing as npt

from speed_bench.errors import DataError

FloatArray = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int32]
Indices = npt.NDArray[np.intp]

ONE = 1 << 29
"""A similarity of 1."""

MAX_ROWS = 12_000
"""Their matrix takes 576 MB."""

_ROW_BITS = 25
_NORM_TOLERANCE = 1e-3
_BLOCK = 256


def rows_of(embeddings: npt.ArrayLike) -> FloatArray:
    """Embeddings, rounded to multiples of 2⁻²⁵: one row of length 1 (within 10⁻³) per candidate, else DataError."""
    rows = np.asarray(embeddings, dtype=np.float64)
    if rows.ndim != 2 or not rows.size:
        raise DataError(f"embeddings are of shape {rows.shape}; one row per candidate is needed")
    if len(rows) > MAX_ROWS:
        raise DataError(f"{len(rows)} candidates are too many to compare at once; at most {MAX_ROWS} are taken")
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    wrong = np.flatnonzero(~(np.abs(lengths - 1) <= _NORM_TOLERANCE))
    if len(wrong):
        raise DataError(f"row {wrong[0]} of the embeddings has length {lengths[wrong[0]]:.4g}; it must have length 1")
    return np.ldexp(np.rint(np.ldexp(rows, _ROW_BITS)), -_ROW_BITS)


def similarity_matrix(rows: FloatArray) -> Integers:
    """Every xᵢ·xⱼ, i ≠ j, in units of 1 / ONE; the diagonal is 0, because no sum is to contain it."""
    units = (rows * ONE).T
    matrix = np.empty((len(rows), len(rows)), dtype=np.int32)
    for start in range(0, len(rows), _BLOCK):  # small enough to be rounded while it is in the cache
        block = rows[start : start + _BLOCK] @ units
        matrix[start : start + _BLOCK] = np.rint(block, out=block)
    np.fill_diagonal(matrix, 0)
    return matrix


def row_hashes(rows: FloatArray, seed: int) -> npt.NDArray[np.uint64]:
    """64 bits per row, of its value and the seed: an order that is random and yet belongs to the rows themselves."""
    values = np.ldexp(rows, _ROW_BITS).astype("<i4")
    salt = seed.to_bytes(16, "little", signed=True)
    digests = [hashlib.blake2b(row.tobytes(), digest_size=8, salt=salt).digest() for row in values]
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)
