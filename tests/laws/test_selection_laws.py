"""What holds for every pool: the certificate, the cap, the quotas, and that order and machine do not matter."""

from itertools import combinations

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from speed_bench.data.selection import Selection, objective, published, select
from speed_bench.data.selection.bound import certified
from speed_bench.data.selection.pool import plain_pool, pool_of
from speed_bench.data.selection.relaxation import Relaxation
from speed_bench.data.selection.search import grow, local_optimum, refine, search
from speed_bench.errors import DataError

_EVEN = [np.array([a, b, c, d]) / 2 for a in (1, -1) for b in (1, -1) for c in (1, -1) for d in (1, -1)]
LATTICE = np.array([*np.eye(4), *-np.eye(4), *_EVEN])
"""The 24 corners of the 24-cell: similarities are −1, −½, 0, ½ or 1, so that nearly every choice is a tie."""


@st.composite
def lattices(draw: st.DrawFn, most: int = 12) -> np.ndarray:
    return LATTICE[draw(st.lists(st.integers(0, 23), min_size=2, max_size=most))]


@st.composite
def spheres(draw: st.DrawFn, least: int = 2, most: int = 12) -> np.ndarray:
    """Rows of length about 1 whose products are exact in float64, around a common direction or not."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows = rng.normal(size=(draw(st.integers(least, most)), draw(st.integers(6, 9)))) + draw(st.sampled_from([0, 0.7]))
    return np.round(rows / np.linalg.norm(rows, axis=1, keepdims=True) * 2**14) / 2**14


pools = lattices() | spheres()


@st.composite
def problems(draw: st.DrawFn) -> tuple[np.ndarray, list[str], dict[str, int], float | None]:
    """A pool, labels, quotas that it can fill, and a cap."""
    rows = draw(lattices(9) | spheres(most=9))
    labels = draw(st.lists(st.sampled_from("ab"), min_size=len(rows), max_size=len(rows)))
    counts = {name: draw(st.integers(0, min(3, labels.count(name)))) for name in "ab"}
    assume(sum(counts.values()) >= 2)
    return rows, labels, counts, draw(st.sampled_from([None, 0.9, 0.5, 0.3]))


def slow(rows: np.ndarray, k: int, first: int) -> tuple[int, ...]:
    """The published procedure in the plainest form: every candidate and every swap is tried by averaging anew."""

    def mean(chosen: list[int]) -> float:
        similarity = rows[chosen] @ rows[chosen].T
        return float((similarity.sum() - np.trace(similarity)) / max(len(chosen) * (len(chosen) - 1), 1))

    chosen = [first]
    while len(chosen) < k:
        rest = [each for each in range(len(rows)) if each not in chosen]
        chosen.append(min(rest, key=lambda each: mean([*chosen, each])))
    while True:
        rest = [each for each in range(len(rows)) if each not in chosen]
        swaps = [(sorted({*chosen, into} - {out})) for out in sorted(chosen) for into in rest]
        best = min(swaps, key=mean, default=chosen)
        if mean(best) >= mean(chosen):
            return tuple(sorted(chosen))
        chosen = best


@settings(max_examples=40, deadline=None)
@given(pools, st.data())
def test_the_plain_procedure_is_the_published_one_whatever_it_begins_with(
    rows: np.ndarray, data: st.DataObject
) -> None:
    k, first = data.draw(st.integers(1, min(5, len(rows)))), data.draw(st.integers(0, len(rows) - 1))
    pool = plain_pool(rows, k, seed=0)
    assert local_optimum(pool, [first]).chosen == slow(rows, k, first)
    assert published(rows, k).chosen == slow(rows, k, int(pool.firsts[0]))


def allowed(problem: tuple) -> list[tuple[int, ...]]:
    """Every selection with the quotas and under the cap."""
    rows, labels, counts, cap = problem
    similarity = rows @ rows.T
    return [
        chosen
        for chosen in combinations(range(len(rows)), sum(counts.values()))
        if all(sum(labels[each] == name for each in chosen) == count for name, count in counts.items())
        and (cap is None or all(similarity[pair] <= cap for pair in combinations(chosen, 2)))
    ]


def chosen_from(problem: tuple, **options: object) -> Selection:
    rows, labels, counts, cap = problem
    return select(rows, sum(counts.values()), labels=labels, counts=counts, cap=cap, **options)


@settings(max_examples=40, deadline=None)
@given(problems())
def test_the_certificate_is_below_the_best_selection_and_cap_and_quotas_are_kept(problem: tuple) -> None:
    rows, _, _, cap = problem
    every = allowed(problem)
    try:
        selection = chosen_from(problem)
    except DataError:
        assert not every
        return
    optimum = min(objective(rows, each) for each in every)
    assert selection.chosen in every
    assert selection.lower_bound <= optimum <= selection.mean_similarity + 1e-8
    assert selection.mean_similarity == objective(rows, selection.chosen)
    assert selection.close_pairs == ()
    assert cap is None or selection.max_pair[2] <= cap


@settings(max_examples=25, deadline=None)
@given(problems())
def test_forced_close_pairs_are_reported_and_the_bound_is_then_that_without_a_cap(problem: tuple) -> None:
    rows, labels, counts, cap = problem
    selection = chosen_from(problem, allow_close_pairs=True)
    assert [labels[each] for each in selection.chosen].count("a") == counts["a"]
    similarity = rows @ rows.T
    close = [pair for pair in combinations(selection.chosen, 2) if cap is not None and similarity[pair] > cap]
    assert [pair[:2] for pair in selection.close_pairs] == close
    if close:
        assert selection.lower_bound <= min(objective(rows, each) for each in allowed((rows, labels, counts, None)))


@settings(max_examples=25, deadline=None)
@given(problems(), st.integers(0, 2**32))
def test_any_masses_and_any_prices_certify(problem: tuple, seed: int) -> None:
    rows, labels, counts, cap = problem
    every = allowed(problem)
    assume(every)
    k = sum(counts.values())
    pool = pool_of(rows, k, labels=labels, counts=counts, cap=cap, seed=0)
    rng = np.random.default_rng(seed)
    _, cliques, prices = Relaxation(pool, np.arange(k)).solve()
    bound = certified(pool, 2 * rng.normal(size=len(pool.rows)), cliques, prices + rng.exponential(size=len(prices)))
    assert bound <= min(objective(rows, each) for each in every) * k * (k - 1) + 1e-9


@settings(max_examples=40, deadline=None)
@given(problems())
def test_swaps_never_raise_the_cost_and_end_where_none_lowers_it(problem: tuple) -> None:
    rows, labels, counts, cap = problem
    k = sum(counts.values())
    pool = pool_of(rows, k, labels=labels, counts=counts, cap=cap, seed=0)
    grown, costs = grow(pool, pool.firsts[:1].tolist())
    refined, after = refine(pool, grown, costs)
    pairs = (pool.similarity > pool.limit) * 2**48 + pool.similarity.astype(np.int64)
    np.testing.assert_array_equal(after, pairs[refined].sum(axis=0))
    assert pairs[np.ix_(refined, refined)].sum() <= pairs[np.ix_(grown, grown)].sum()
    stratum = pool.stratum
    for out in refined:
        for into in set(range(len(pool.rows))) - set(refined.tolist()):
            swapped = [*(set(refined.tolist()) - {int(out)}), into]
            if stratum[out] == stratum[into]:
                assert pairs[np.ix_(swapped, swapped)].sum() >= pairs[np.ix_(refined, refined)].sum()


@settings(max_examples=10, deadline=None)
@given(spheres(least=8, most=30), st.randoms(use_true_random=False), st.sampled_from([None, 0.95]))
def test_the_order_of_the_candidates_does_not_matter(rows: np.ndarray, rng: object, cap: float | None) -> None:
    assume(len(np.unique(rows, axis=0)) == len(rows))
    order = list(range(len(rows)))
    rng.shuffle(order)
    labels = ["even" if value > 0 else "odd" for value in rows[:, 0]]
    counts = {name: min(3, labels.count(name)) for name in set(labels)}
    options = {"k": sum(counts.values()), "counts": counts, "cap": cap, "restarts": 3, "allow_close_pairs": True}
    before = select(rows, labels=labels, **options)
    after = select(rows[order], labels=[labels[each] for each in order], **options)
    assert sorted(order[each] for each in after.chosen) == list(before.chosen)
    assert (after.mean_similarity, after.lower_bound) == (before.mean_similarity, before.lower_bound)
    assert abs(after.random_mean - before.random_mean) < 1e-12


@settings(max_examples=10, deadline=None)
@given(spheres(least=6, most=30), st.integers(0, 3))
def test_it_is_never_worse_than_the_published_procedure(rows: np.ndarray, seed: int) -> None:
    assume(len(np.unique(rows, axis=0)) == len(rows))
    pool, as_given = pool_of(rows, 5, labels=None, counts=None, cap=None, seed=seed), plain_pool(rows, 5, seed=seed)
    plain = local_optimum(as_given, as_given.firsts[:1].tolist())
    assert search(pool, 2).cost <= plain.cost


@settings(max_examples=10, deadline=None)
@given(pools)
def test_copies_of_the_whole_pool_change_nothing_under_a_cap(rows: np.ndarray) -> None:
    """Every row twice: under a cap below 1 at most one of each two is taken, and the first of equal rows is."""
    k = min(3, len(rows))
    options = {"cap": 0.9, "restarts": 50, "allow_close_pairs": True}
    once, twice = select(rows, k, **options), select(np.vstack((rows, rows)), k, **options)
    if not once.close_pairs:
        assert twice.mean_similarity == once.mean_similarity
        assert twice.close_pairs == ()
