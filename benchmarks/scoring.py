"""Time and memory of scoring a full qualitative run: 880 conversations, 1,138 turns, about 450,000 decode steps.

    python benchmarks/scoring.py

Prints, for this machine: `scoring.score` on records and `metrics.acceptance.compute` on plain lists, without
intervals and with 2,000 and 10,000 resamples, the best of three; and the bootstrap alone, next to
the same statistic by `scipy.stats.bootstrap`, where scipy is installed, as a ratio. Each is measured in a child
process, so that its peak memory is its own.
"""

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from speed_bench.metrics.acceptance import compute
from speed_bench.records import RunRecords, Segment
from speed_bench.scoring import score
from speed_bench.statistics import resample_ratios
from speed_bench.types import SpecCounts, Step, TurnRecord

NUM_CONVERSATIONS, NUM_TURNS, NUM_STEPS = 880, 1138, 450_000
CATEGORIES = [f"category {number:02}" for number in range(11)]
RATES = (0.68, 0.70, 0.71)


def turns() -> list[tuple[str, str, list[Step]]]:
    """(id, category, steps) of every turn: what the launch run of arXiv 2604.09557 looks like, with longer answers."""
    rng = np.random.default_rng(0)
    per_turn = rng.multinomial(NUM_STEPS, rng.dirichlet(np.full(NUM_TURNS, 4.0)))
    accepted = iter(np.cumprod(rng.random((NUM_STEPS, 3)) < RATES, axis=1).sum(axis=1).tolist())
    made = []
    for turn, num in enumerate(per_turn.tolist()):
        conversation = turn % NUM_CONVERSATIONS
        steps = [Step(3, right, right + 1) for right, _ in zip(accepted, range(num), strict=False)]
        made.append((f"{conversation:032x}/{turn // NUM_CONVERSATIONS}", CATEGORIES[conversation % 11], steps))
    return made


def records() -> RunRecords:
    """The same turns as a run folder holds them, at a step every 20 ms, 32 at a time."""
    made, clocks = [], [0.0] * 32
    for number, (name, category, steps) in enumerate(turns()):
        slot, start_s = number % 32, clocks[number % 32]
        arrivals = (
            (start_s + 0.1, 1),
            *((start_s + 0.1 + 0.02 * at, step.emitted) for at, step in enumerate(steps, 1)),
        )
        clocks[slot] = arrivals[-1][0]
        drafted, accepted = 3 * len(steps), sum(step.accepted for step in steps)
        made.append(
            TurnRecord(
                id=name,
                category=category,
                seed=0,
                segment=0,
                slot=slot,
                prompt_len=100,
                prompt_sha256="",
                output_ids=(1,) * sum(tokens for _, tokens in arrivals),
                prefill_tokens=1,
                sent_at_s=start_s,
                arrivals=arrivals,
                finished_at_s=arrivals[-1][0],
                finish_reason="stop",
                last_step="complete",
                counts=SpecCounts(drafted, accepted, len(steps), len(steps), tuple(steps), "engine", aligned=True),
            )
        )
    return RunRecords(tuple(made), (), (Segment(0, "", None, None, whole=True),), num_planned=len(made))


def plain_lists() -> dict[str, list]:
    """The same turns as `evaluate` is given them."""
    made = turns()
    return {
        "predictions": [[step.emitted for step in steps] for _, _, steps in made],
        "drafted": [[step.drafted for step in steps] for _, _, steps in made],
        "conversations": [name.partition("/")[0] for name, _, _ in made],
        "categories": [category for _, category, _ in made],
    }


def ratios() -> tuple[np.ndarray, np.ndarray]:
    """Numerators and denominators of 25 ratios, one row per conversation."""
    rng = np.random.default_rng(0)
    return rng.random((NUM_CONVERSATIONS, 25)), 1 + rng.random((NUM_CONVERSATIONS, 25))


def bootstrap(above: np.ndarray, below: np.ndarray) -> object:
    return resample_ratios(above, below, [CATEGORIES[row % 11] for row in range(len(above))], resamples=10_000, seed=0)


def against_scipy() -> str:
    """One mean of 880 values, 10,000 resamples, by both: without strata, which scipy has none of."""
    try:
        from scipy import stats
    except ImportError:
        return "scipy is not installed: nothing to compare the bootstrap with"
    values = np.random.default_rng(0).random(NUM_CONVERSATIONS)
    ours_s = best_s(
        lambda: resample_ratios(
            values[:, None], np.ones((len(values), 1)), [""] * len(values), resamples=10_000, seed=0
        )
    )
    theirs_s = best_s(
        lambda: stats.bootstrap((values,), np.mean, n_resamples=10_000, method="percentile", vectorized=True)
    )
    both = f"ours {ours_s:.2f} s, scipy.stats.bootstrap {theirs_s:.2f} s"
    return f"one mean, 10,000 resamples: {both}, ratio {theirs_s / ours_s:.1f}"


def best_s(work: Callable[[], object], repeat: int = 3) -> float:
    times = []
    for _ in range(repeat):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


CASES: dict[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
    "score of a run, 2,000 resamples": (records, score),
    "score of a run, 10,000 resamples": (records, lambda run: score(run, resamples=10_000)),
    "module, no intervals": (plain_lists, lambda lists: compute(**lists, confidence_level=None)),
    "module, 2,000 resamples": (plain_lists, lambda lists: compute(**lists)),
    "module, 10,000 resamples": (plain_lists, lambda lists: compute(**lists, resamples=10_000)),
    "bootstrap of 25 ratios, 10,000 resamples": (ratios, lambda both: bootstrap(*both)),
}
"""What is measured: how its input is made, which is not timed, and what is done with it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", choices=[*CASES, "scipy"], help="only this one, in this process")
    case = parser.parse_args().case
    if case is None:
        print("| what | seconds | peak memory, MB | of it before, MB |\n|---|---|---|---|", flush=True)
        for name in (*CASES, "scipy"):
            subprocess.run([sys.executable, __file__, "--case", name], check=True)
    elif case == "scipy":
        print(f"\n{against_scipy()}")
    else:
        prepare, work = CASES[case]
        given, before = prepare(), peak_mb()
        print(f"| {case} | {best_s(lambda: work(given)):.2f} | {peak_mb():.0f} | {before:.0f} |")


if __name__ == "__main__":
    main()
