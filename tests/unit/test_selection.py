"""Selection on small pools whose answer is known, and the sentences for what cannot be chosen."""

import os
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest

from speed_bench.data.selection import objective, select
from speed_bench.data.selection.pool import plain_pool, pool_of
from speed_bench.data.selection.search import local_optimum
from speed_bench.data.selection.similarities import MAX_ROWS, ONE, rows_of, similarity_matrix
from speed_bench.errors import ConfigError, DataError, UndefinedMetric


def clustered(num: int, *, seed: int = 0, dimensions: int = 48, clusters: int = 30, copies: float = 0.1) -> np.ndarray:
    """Unit rows in clusters around one direction, some of them near-copies of others: like embedded prompts."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(clusters, dimensions))
    rows = centres[rng.integers(clusters, size=num)] + 1.2 * rng.normal(size=(num, dimensions)) + 0.5
    copied = np.flatnonzero(rng.random(num) < copies)
    rows[copied] = rows[rng.integers(num, size=len(copied))] + 0.05 * rng.normal(size=(len(copied), dimensions))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def circle(*degrees: float) -> np.ndarray:
    angles = np.radians(degrees)
    return np.column_stack((np.cos(angles), np.sin(angles)))


def test_the_objective_is_the_mean_over_ordered_pairs_of_different_rows() -> None:
    rows = clustered(12)
    pairs = [rows[i] @ rows[j] for i in range(12) for j in range(12) if i != j]
    assert objective(rows, range(12)) == pytest.approx(np.mean(pairs), abs=1e-7)


def test_one_row_has_no_mean_similarity() -> None:
    with pytest.raises(UndefinedMetric, match="1 chosen rows have no pair"):
        objective(circle(0, 90), [0])
    selection = select(circle(0, 90), 1)
    assert len(selection.chosen) == 1
    assert (selection.mean_similarity, selection.lower_bound, selection.gap) == (None, None, None)
    assert (selection.random_mean, selection.max_pair, selection.close_pairs) == (None, None, ())


def test_similarities_are_exact_until_they_are_rounded_once() -> None:
    rows = rows_of(clustered(7, dimensions=20))
    matrix = similarity_matrix(rows)
    for i in range(7):
        for j in range(7):
            exact = sum(Fraction(a) * Fraction(b) for a, b in zip(rows[i].tolist(), rows[j].tolist(), strict=True))
            assert matrix[i, j] == (round(exact * ONE) if i != j else 0)


def test_the_least_similar_pair_is_chosen() -> None:
    selection = select(circle(0, 10, 95, 100, 30), 2)
    assert selection.chosen == (0, 3)
    assert selection.mean_similarity == pytest.approx(np.cos(np.radians(100)), abs=1e-7)
    assert selection.max_pair is not None
    assert selection.max_pair[:2] == (0, 3)
    assert selection.max_pair[2] == pytest.approx(selection.mean_similarity, abs=1e-7)


def test_quotas_are_met_where_they_cost_similarity() -> None:
    rows = circle(0, 5, 90, 95)
    selection = select(rows, 2, labels=["a", "a", "b", "b"], counts={"a": 2, "b": 0}, cap=None)
    assert selection.chosen == (0, 1)


def test_the_cap_bars_a_pair_that_the_objective_alone_would_keep() -> None:
    rows = np.zeros((6, 6))
    rows[[0, 1], 0] = 1  # the same row twice; the others lean towards a common direction
    rows[np.arange(2, 6), np.arange(1, 5)] = 0.5
    rows[2:, 5] = 0.75**0.5
    assert select(rows, 4, cap=None).max_pair == (0, 1, 1.0)
    capped = select(rows, 4, cap=0.8)
    assert capped.max_pair is not None
    assert capped.max_pair[2] <= 0.8
    assert len({0, 1} & set(capped.chosen)) == 1


def test_a_cap_that_cannot_be_met_names_the_pair() -> None:
    rows = circle(0, 1, 90, 91)
    ids = ["q-one", "q-two", "q-three", "q-four"]
    with pytest.raises(DataError, match=r"no 4 of 4 .* above 0.8: q-\w+ and q-\w+ have a similarity of 1.000"):
        select(rows, 4, ids=ids)
    with pytest.raises(DataError, match=r"rows 0 and 1 .* --allow-close-pairs"):
        select(rows, 3, labels=["a", "a", "b", "b"], counts={"a": 2, "b": 1})


def test_close_pairs_are_accepted_only_as_far_as_they_are_forced() -> None:
    selection = select(circle(0, 1, 90, 91, 180, 270), 5, allow_close_pairs=True)
    assert len(selection.close_pairs) == 1
    assert selection.close_pairs[0] == selection.max_pair
    assert {4, 5} <= set(selection.chosen)
    assert selection.gap is not None
    assert selection.gap >= 0


def test_all_of_a_pool_is_its_own_certificate() -> None:
    rows = clustered(20, copies=0)
    selection = select(rows, 20, cap=None)
    assert selection.chosen == tuple(range(20))
    assert selection.gap == pytest.approx(0, abs=1e-8)
    assert selection.random_mean == pytest.approx(selection.mean_similarity, abs=1e-8)


def test_identical_rows_can_be_chosen_without_a_cap_and_are_taken_in_order() -> None:
    rows = np.tile(circle(30), (9, 1))
    selection = select(rows, 4, cap=None)
    assert selection.chosen == (0, 1, 2, 3)
    assert selection.mean_similarity == pytest.approx(1, abs=1e-7)
    assert selection.gap == pytest.approx(0, abs=1e-6)


def test_random_picks_have_the_mean_that_is_stated() -> None:
    rows = clustered(40, clusters=3)
    labels = ["a"] * 25 + ["b"] * 10 + ["unused"] * 5
    stated = select(rows, 9, labels=labels, counts={"a": 5, "b": 4}, cap=None).random_mean
    rng = np.random.default_rng(1)
    draws = [
        objective(rows, [*rng.choice(25, 5, replace=False), *(25 + rng.choice(10, 4, replace=False))])
        for _ in range(1500)
    ]
    assert np.mean(draws) == pytest.approx(stated, abs=4 * np.std(draws) / len(draws) ** 0.5)


def test_single_and_double_precision_choose_the_same_and_another_seed_is_another_search() -> None:
    rows = clustered(300).astype(np.float32)
    first = select(rows, 20, restarts=3)
    assert first == select(rows.astype(np.float64), 20, restarts=3)
    assert first == select(np.asfortranarray(rows), 20, restarts=3)
    starts = {tuple(plain_pool(rows, 20, seed=seed).firsts[:5].tolist()) for seed in (0, 1, -1)}
    assert len(starts) == 3


@pytest.mark.long
def test_processors_and_threads_do_not_matter() -> None:
    """OpenBLAS adds in another order with another kernel; where NumPy has another library, the kernels are the same."""
    program = (
        "import numpy as np; from speed_bench.data.selection import select; rng = np.random.default_rng(0);"
        "rows = rng.normal(size=(600, 64)) + 0.3; rows /= np.sqrt((rows * rows).sum(axis=1, keepdims=True));"
        "print(select(np.round(rows, 6), 40, restarts=20))"
    )
    machines = (("1", "Prescott"), ("2", "Haswell"), ("2", "SkylakeX"))
    printed = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_CORETYPE": kernel},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for threads, kernel in machines
    }
    assert len(printed) == 1


def test_a_large_pool_is_chosen_close_to_its_certificate_and_no_worse_than_the_published_procedure() -> None:
    rows = clustered(1100, dimensions=96)
    capped = select(rows, 80, restarts=10)
    pool = pool_of(rows, 80, labels=None, counts=None, cap=0.8, seed=0)
    assert capped.mean_similarity <= objective(pool.rows, local_optimum(pool, pool.firsts[:1].tolist()).chosen)
    assert 0 <= capped.gap < 2.5e-3
    assert capped.mean_similarity < 0.8 * capped.random_mean


def test_the_certificate_knows_what_the_cap_costs() -> None:
    """Half of the pool are copies of ten rows: without the cliques the bound would be far below."""
    rng = np.random.default_rng(3)
    rows = np.abs(rng.normal(size=(120, 24))) + 0.2
    rows[:60] = np.repeat(np.eye(24)[:10] + 0.05, 6, axis=0) + 0.02 * rng.normal(size=(60, 24))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    free, capped = select(rows, 20, cap=None), select(rows, 20, cap=0.9)
    assert capped.lower_bound > free.mean_similarity
    assert capped.gap < 0.1 * (capped.mean_similarity - free.mean_similarity)


def test_the_plain_procedure_breaks_ties_by_the_lowest_index() -> None:
    axes = np.vstack((np.eye(4), np.eye(4)))
    found = local_optimum(plain_pool(axes, 3, seed=0), [5])
    assert found.chosen == (0, 2, 5)


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ({"k": 0}, ConfigError, "0 rows cannot be chosen"),
        ({"k": 5}, DataError, "5 rows are wanted, and the pool has 4"),
        ({"restarts": 0}, ConfigError, "0 restarts cannot be made"),
        ({"cap": 80.0}, ConfigError, "a cap of 80.0 is no similarity"),
        ({"cap": float("nan")}, ConfigError, "a cap of nan is no similarity"),
        ({"labels": list("aabb")}, ConfigError, "labels and counts are given together"),
        ({"labels": ["a"], "counts": {"a": 2}}, ConfigError, "1 labels for 4 candidates"),
        ({"labels": list("aabb"), "counts": {"a": 1}}, ConfigError, "do not add up to 2 rows"),
        ({"labels": list("aabb"), "counts": {"a": 3, "b": -1}}, ConfigError, "do not add up to 2 rows"),
        ({"labels": list("abbb"), "counts": {"a": 2}}, DataError, "2 rows of 'a' are wanted, and the pool has 1"),
        ({"labels": ["easy"] * 4, "counts": {"eazy": 2}}, DataError, "did you mean 'easy'"),
    ],
)
def test_what_cannot_be_chosen_is_a_sentence(arguments: dict, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        select(circle(0, 50, 100, 150), **{"k": 2, **arguments})


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (np.ones((3, 4)), "row 0 of the embeddings has length 2"),
        (np.array([[1.0, 0.0], [np.nan, 0.0]]), "row 1 of the embeddings has length nan"),
        (np.array([[1.0, 0.0], [np.inf, 0.0]]), "row 1 of the embeddings has length inf"),
        (np.ones(4), "of shape"),
        (np.ones((0, 4)), "of shape"),
        (np.ones((MAX_ROWS + 1, 1)), "too many to compare at once"),
    ],
)
def test_embeddings_that_are_none_are_refused(rows: np.ndarray, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        select(rows, 2)
