"""Laws of near duplicates and of quotas, against what their definitions say word by word."""

import math
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from speed_bench.data.near_duplicates import NUM_WORDS, Removed, compared_texts, near_duplicates
from speed_bench.data.quotas import apportion

TURN = st.lists(st.sampled_from(["sea", "fog", "tide", "Quay", "oar", "7", "网"]), min_size=1, max_size=40).map(
    " ".join
)
ITEMS = st.lists(st.lists(TURN, min_size=1, max_size=3), max_size=12).map(
    lambda items: {str(number): turns for number, turns in enumerate(items)}
)
STRATA = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 120)), min_size=1, max_size=12)


def naive(items: dict[str, list[str]], threshold: float) -> list[Removed]:
    """Every pair of texts of every pair of items."""

    def grams(unit: list[str]) -> set[tuple[str, ...]]:
        return {tuple(unit[at : at + NUM_WORDS]) for at in range(max(1, len(unit) - NUM_WORDS + 1))}

    held = {name: [grams(unit) for unit in compared_texts(turns)] for name, turns in items.items()}
    kept: list[str] = []
    removed = []
    for name in items:
        for earlier in kept:
            nearest = max(len(a & b) / len(a | b) for a in held[name] for b in held[earlier])
            if nearest >= threshold:
                removed.append(Removed(name, earlier, nearest))
                break
        else:
            kept.append(name)
    return removed


@given(ITEMS, st.sampled_from((0.1, 0.3, 0.5, 0.8, 0.9, 1.0)))
def test_no_pair_is_lost_and_none_is_made_up(items: dict[str, list[str]], threshold: float) -> None:
    assert near_duplicates(items, threshold) == naive(items, threshold)


@given(ITEMS)
def test_what_is_kept_has_no_near_duplicates_left(items: dict[str, list[str]]) -> None:
    gone = {each.dropped for each in near_duplicates(items)}
    assert near_duplicates({name: turns for name, turns in items.items() if name not in gone}) == []


@given(STRATA, st.integers(0, 200))
def test_quotas_are_all_of_k_or_all_there_is_and_none_above_its_size(strata: list[tuple[int, int]], k: int) -> None:
    shares, sizes = zip(*strata, strict=True)
    counts = apportion(shares, sizes, k)
    assert sum(counts) == min(k, sum(sizes))
    assert all(0 <= count <= size for count, size in zip(counts, sizes, strict=True))


@given(STRATA, st.integers(0, 200))
def test_strata_that_are_not_full_are_within_one_of_their_proportion(strata: list[tuple[int, int]], k: int) -> None:
    shares, sizes = zip(*strata, strict=True)
    counts = apportion(shares, sizes, k)
    open_strata = [n for n in range(len(shares)) if shares[n] and counts[n] < sizes[n]]
    for one, other in combinations(open_strata, 2):
        total = counts[one] + counts[other]
        fair = total * shares[one] / (shares[one] + shares[other])
        assert math.floor(fair) - 1 <= counts[one] <= math.ceil(fair) + 1
