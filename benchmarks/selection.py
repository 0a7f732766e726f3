"""Selection of 80 from a pool: its time, its objective and its certificate, next to the published procedure's.

    python benchmarks/selection.py                            # 5,000 made rows in clusters, with near-copies
    python benchmarks/selection.py --npy pool.npy             # embeddings of your own, one row of length 1 per prompt

Prints where the time goes (wall and CPU; peak memory), the mean similarity against the published procedure from 20
first rows, as it is and under the same cap, and against random rows; the certificate with and without what
the cap forbids; and the time against the plain form of the procedure, which averages k × k similarities anew for every
candidate it looks at. That form is run in full on a small pool, where it has to choose the same rows, and for the
whole pool its time is that of 2,000 evaluations times the number it would need.
"""

import argparse
import resource
import sys
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from speed_bench.data.selection import objective, select
from speed_bench.data.selection.bound import lower_bound
from speed_bench.data.selection.pool import Pool, plain_pool, pool_of
from speed_bench.data.selection.search import Found, grow, local_optimum, search
from speed_bench.data.selection.similarities import ONE

SEEDS = 20
Made = TypeVar("Made")


def made_rows(num: int, dimensions: int = 384, clusters: int = 150, seed: int = 0) -> np.ndarray:
    """Unit rows around a common direction, in clusters of unequal size; 8 % are near-copies of another row."""
    rng = np.random.default_rng(seed)
    direction, centres = rng.normal(size=dimensions), rng.normal(size=(clusters, dimensions))
    cluster = rng.choice(clusters, num, p=rng.dirichlet(np.full(clusters, 0.5)))
    spread = np.linspace(1, 0.02, dimensions)
    noise = rng.normal(size=(num, dimensions)) * spread / np.linalg.norm(spread)
    rows = 0.35 * unit(direction) + 0.55 * unit(centres)[cluster] + 0.75 * noise
    copied = np.flatnonzero(rng.random(num) < 0.08)
    rows[copied] = rows[rng.integers(num, size=len(copied))] + 0.005 * rng.normal(size=(len(copied), dimensions))
    return unit(rows)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def timed(what: str, work: Callable[[], Made]) -> tuple[Made, float]:
    """What some work gives, and its seconds, which are printed."""
    wall, cpu = time.perf_counter(), time.process_time()
    made = work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"  {what:<42} {wall:6.2f} s   CPU {cpu:6.2f} s")
    return made, wall


def mean(pool: Pool, found: Found) -> float:
    """The objective in thousandths."""
    return 1000 * objective(pool.rows, found.chosen)


def plain(similarity: np.ndarray, k: int, first: int) -> tuple[int, ...]:
    """The published procedure, averaging anew for every candidate and every swap."""
    chosen = [first]
    while len(chosen) < k:
        rest = [each for each in range(len(similarity)) if each not in chosen]
        chosen.append(min(rest, key=lambda each: averaged(similarity, [*chosen, each])))
    while True:
        rest = [each for each in range(len(similarity)) if each not in chosen]
        swaps = [sorted({*chosen, into} - {out}) for out in sorted(chosen) for into in rest]
        best = min(swaps, key=lambda each: averaged(similarity, each))
        if averaged(similarity, best) >= averaged(similarity, chosen) - 1e-9:
            return tuple(sorted(chosen))
        chosen = best


def averaged(similarity: np.ndarray, chosen: list[int]) -> float:
    between = similarity[np.ix_(chosen, chosen)]
    return float((between.sum() - np.trace(between)) / (len(chosen) * (len(chosen) - 1)))


def against_plain(rows: np.ndarray, k: int) -> None:
    """Time of the plain form: in full on 120 rows, by its number of averages on all. Both are given similarities."""
    print("one run of the published procedure, averaging anew and by running sums")
    small, pool = plain_pool(rows[:120], 10, seed=0), plain_pool(rows, k, seed=0)
    similarity, first = small.similarity / ONE, int(small.firsts[0])
    slow, slow_s = timed("120 rows, choose 10: averaging anew", lambda: plain(similarity, 10, first))
    fast, fast_s = timed("120 rows, choose 10: running sums", lambda: local_optimum(small, [first]))
    print(f"  the same rows: {slow == fast.chosen}; ratio {slow_s / fast_s:,.0f}")

    similarity, first = pool.similarity / ONE, int(pool.firsts[0])
    found, whole_s = timed(f"{len(rows)} rows, choose {k}: running sums", lambda: local_optimum(pool, [first]))
    grown, _ = grow(pool, [first])
    rng = np.random.default_rng(0)
    sample = [rng.choice(len(rows), k, replace=False).tolist() for _ in range(2000)]
    _, sample_s = timed("2,000 averages of k × k", lambda: [averaged(similarity, each) for each in sample])
    num_swaps = len({*grown.tolist()} - {*found.chosen}) + 1  # at least, and a last look that finds none
    averages = k * len(rows) + num_swaps * k * (len(rows) - k)
    plain_s = sample_s / len(sample) * averages
    print(f"  averaging anew takes {averages:,} averages, {plain_s:,.0f} s; ratio {plain_s / whole_s:,.0f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--npy", help="embeddings, one row of length 1 per candidate")
    parser.add_argument("--rows", type=int, default=5000, help="how many rows to make")
    parser.add_argument("--k", type=int, default=80)
    parser.add_argument("--cap", type=float, default=0.8)
    parser.add_argument("--restarts", type=int, default=200)
    arguments = parser.parse_args()
    rows, k = np.load(arguments.npy) if arguments.npy else made_rows(arguments.rows), arguments.k
    options = {"labels": None, "counts": None, "seed": 0}

    print(f"choose {k} of {len(rows)} rows of {rows.shape[1]} dimensions, cap {arguments.cap}")
    pool, _ = timed("similarities", lambda: pool_of(rows, k, cap=arguments.cap, **options))
    found, _ = timed(f"search, {arguments.restarts} restarts", lambda: search(pool, arguments.restarts))
    bound, _ = timed("certificate", lambda: 1000 * lower_bound(pool, np.array(found.chosen)))
    selection, _ = timed("all of it: select", lambda: select(rows, k, cap=arguments.cap, restarts=arguments.restarts))
    print(f"  peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB")

    free = pool_of(rows, k, cap=None, **options)
    published = {
        "published, under the cap": [mean(pool, local_optimum(pool, [int(first)])) for first in pool.firsts[:SEEDS]],
        "published, no cap": [mean(free, local_optimum(free, [int(first)])) for first in free.firsts[:SEEDS]],
    }
    without = search(free, arguments.restarts)
    print("mean similarity, thousandths")
    print(f"  {'random rows':<42} {1000 * selection.random_mean:9.3f}")
    for name, values in published.items():
        print(f"  {name + f', mean of {SEEDS} first rows':<42} {np.mean(values):9.3f}   best {min(values):.3f}")
    print(
        f"  {'ours, under the cap':<42} {1000 * selection.mean_similarity:9.3f}   closest {selection.max_pair[2]:.3f}"
    )
    closest = free.similarity[np.ix_(without.chosen, without.chosen)].max() / ONE
    print(f"  {'ours, no cap':<42} {mean(free, without):9.3f}   closest {closest:.3f}")
    print(f"  {'certificate, under the cap':<42} {bound:9.3f}   gap {1000 * selection.gap:.3f}")
    loose = 1000 * lower_bound(free, np.array(without.chosen))
    print(f"  {'certificate, no cap':<42} {loose:9.3f}   gap {mean(free, without) - loose:.3f}")
    against_plain(rows, k)
    return 0


if __name__ == "__main__":
    sys.exit(main())
