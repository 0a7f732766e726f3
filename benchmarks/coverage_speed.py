"""How often the 95 % intervals of speeds hold the truth, in a simulated closed loop.

    python benchmarks/coverage_speed.py                        # 300 replications per load: 20 minutes
    python benchmarks/coverage_speed.py --replications 20      # to see that it works

A queue of conversations, one turn each, is served by C streams, with and without speculation, on an
engine whose step takes longer the more streams are busy. Categories differ in acceptance length and in answer
length, conversations within them too. Every replication draws new conversations and is scored by
`serving_scores.serving_scores` and `comparison.compare`, as a run is. The truth is the mean of the value
over many more replications that get no interval.

The intervals are about the text: which conversations were drawn. That a machine is slower on one day
than on another is not in the simulation, and not in an interval of one run.
"""

import argparse
import heapq
import sys
from collections.abc import Callable, Iterator
from math import sqrt

import numpy as np

from speed_bench.comparison import compare
from speed_bench.records import RunRecords, Segment
from speed_bench.scores import Bootstrap, Cell, Distribution
from speed_bench.serving_scores import serving_scores
from speed_bench.types import TurnRecord

NUM_CATEGORIES = 11
TOKENS_PER_ARRIVAL = 8
LOADS = ((880, 32), (880, 1), (88, 8), (22, 1))
"""(conversations, streams)."""

Measured = dict[str, Cell | Distribution]


def served(tokens: np.ndarray, decode_s: np.ndarray, ttft_s: np.ndarray, num_streams: int) -> RunRecords:
    """The records of a closed loop: each stream takes the next conversation when its last one has ended."""
    free = [(0.0, stream) for stream in range(num_streams)]
    turns = []
    for place, (num, decoding, waiting) in enumerate(
        zip(tokens.tolist(), decode_s.tolist(), ttft_s.tolist(), strict=True)
    ):
        start_s, stream = heapq.heappop(free)
        category = place % NUM_CATEGORIES
        ends = [num * part // TOKENS_PER_ARRIVAL for part in range(1, TOKENS_PER_ARRIVAL + 1)]
        first_s = start_s + waiting
        later = [(first_s + decoding * end / num, end - before) for before, end in zip([0, *ends], ends, strict=False)]
        arrivals = ((first_s, 1), *((at, count) for at, count in later if count))
        heapq.heappush(free, (arrivals[-1][0], stream))
        turns.append(
            TurnRecord(
                id=f"{place:06}/0",
                category=f"category {category:02}",
                seed=0,
                segment=0,
                slot=stream,
                prompt_len=1,
                prompt_sha256="",
                output_ids=(1,) * (num + 1),
                prefill_tokens=1,
                sent_at_s=start_s,
                arrivals=arrivals,
                finished_at_s=arrivals[-1][0],
                finish_reason="stop",
                last_step="complete",
                counts=None,
            )
        )
    return RunRecords(tuple(turns), (), (Segment(0, "", None, None, whole=True),), num_planned=len(turns))


def simulated(num: int, num_streams: int, rng: np.random.Generator) -> tuple[RunRecords, RunRecords]:
    """The same conversations with and without speculation."""
    category = np.arange(num) % NUM_CATEGORIES
    tokens = 1 + rng.geometric(1 / np.linspace(60, 300, NUM_CATEGORIES)[category])
    length = 1 + (np.linspace(0.6, 2.2, NUM_CATEGORIES)[(category * 4) % NUM_CATEGORIES]) * rng.gamma(6, 1 / 6, num)
    length = np.minimum(length, 4.0)
    ttft_s = rng.gamma(4, 0.05, num)
    step_s = 0.02 * (1 + 0.01 * num_streams)
    pace = rng.gamma(50, 1 / 50, (2, num))
    fast = served(tokens, tokens / length * step_s * 1.3 * pace[0], ttft_s, num_streams)
    return fast, served(tokens, tokens * step_s * pace[1], ttft_s, num_streams)


def measured(num: int, num_streams: int, rng: np.random.Generator, bootstrap: Bootstrap | None) -> Measured:
    """What a run and its comparison say of speed."""
    run, baseline = simulated(num, num_streams, rng)
    serving, compared = serving_scores(run, bootstrap), compare(run, baseline, bootstrap)
    names = ("output_tps", "steady_output_tps", "user_tps", "ttft_s", "tpot_s", "itl_s", "e2e_s")
    speed_ups = {name: getattr(compared, name) for name in ("speedup_output_tps", "speedup_tpot")}
    return {name: getattr(serving, name) for name in names} | speed_ups


def rows(load: tuple[int, int], replications: int, seed: int, say: Callable[[str], None]) -> Iterator[str]:
    """A line of the table per quantity."""
    num, num_streams = load
    rng = np.random.default_rng((seed, num, num_streams))
    bootstrap = Bootstrap(confidence_level=0.95, resamples=2000, seed=0)
    values: dict[str, list[float]] = {}
    for done in range(3 * replications):
        for name, cell in measured(num, num_streams, rng, None).items():
            values.setdefault(name, []).append(cell.value)
        say(f"{num} conversations, {num_streams} streams: truth {done + 1}/{3 * replications}")
    truth = {name: float(np.mean(found)) for name, found in values.items()}
    bounds: dict[str, list[tuple[float, float]]] = {}
    for done in range(replications):
        for name, cell in measured(num, num_streams, rng, bootstrap).items():
            bounds.setdefault(name, []).append((cell.low, cell.high))
        say(f"{num} conversations, {num_streams} streams: intervals {done + 1}/{replications}")
    for name, found in bounds.items():
        low, high = np.array(found).T
        covered = float(np.mean((low <= truth[name]) & (truth[name] <= high)))
        error = sqrt(covered * (1 - covered) / replications)
        yield (
            f"| {name} | {num} | {num_streams} | {covered:.1%} ± {error:.1%} | {truth[name]:.4g} "
            f"| {float(np.mean(high - low)):.2g} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replications", type=int, default=300, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()

    def say(text: str) -> None:
        if sys.stderr.isatty():
            print(f"\r{text}\033[K", end="", file=sys.stderr, flush=True)

    print("| quantity | conversations | streams | coverage | truth | mean width |\n|---|---|---|---|---|---|")
    for load in LOADS:
        for row in rows(load, given.replications, given.seed, say):
            print(row, flush=True)


if __name__ == "__main__":
    main()
