"""How often the 95 % intervals of `speed_bench.statistics` hold the truth, for a process whose truth is known.

    python benchmarks/coverage.py             # 10,000 runs of 880 conversations under each process: 20 minutes
    python benchmarks/coverage.py --quick     # 200 runs: one minute, to see that it works

Every replication is one run of 11 categories × 80 conversations under two drafters (`processes.py`).
From it come the intervals of the whole run, of the category with the lowest, the middle and the
highest rates (80 conversations each), of 2 conversations per category (22) and of 8 conversations.
The truth of a ratio is the ratio of expectations, from a separate and much larger simulation.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from processes import (
    NUM_CATEGORIES,
    PROCESSES,
    UNEVEN,
    Counts,
    FloatArray,
    IntArray,
    Process,
    category_names,
    decode,
    draw_conversations,
    other_drafter,
)

from speed_bench.acceptance import expected_length
from speed_bench.statistics import Interval, Resampled

PER_CATEGORY = 80
SHIFT = 0.02
"""By how much the rates of the second drafter are lower."""
TRUTH_CHUNKS = 20
BATCH = 100
BOOTSTRAP_SEED = 0
"""The one that the product uses where none is given."""

LENGTH, DIFFERENCE, RATE = "acceptance length", "difference of acceptance lengths", "draft acceptance rate"
CONDITIONAL, JOINT, UNCENSORED = "conditional rate {}", "joint rate {}", "acceptance length, uncensored"
MAIN = ("880", "80, lowest rates", "80, middle rates", "80, highest rates")
PLAIN = (0.025, 0.975)
REQUIRED = (LENGTH, DIFFERENCE, RATE, *(CONDITIONAL.format(k) for k in (1, 2, 3)))

Ratios = dict[str, tuple[FloatArray, FloatArray]]
"""Numerators and denominators by quantity, each (conversations, replications)."""


@dataclass(frozen=True, slots=True)
class Group:
    """Conversations of a run that get intervals of their own."""

    name: str
    rows: IntArray
    strata: list[str]
    category: int | None = None
    """None: all of them."""
    only: tuple[str, ...] | None = None
    """Quantities that get an interval; None: all."""


@dataclass(slots=True)
class Tested:
    """What became of the intervals of one quantity in one group under one process."""

    num: int = 0
    below: int = 0
    """Wholly below the truth."""
    above: int = 0
    absent: int = 0
    """Replications without an interval."""
    missed_plainly: int = 0
    """Truth outside the plain percentiles of the same resamples, where these were looked at."""
    total_width: float = 0.0

    def add(self, truth: float, bounds: Interval | None, plain: Interval | None) -> None:
        if bounds is None:
            self.absent += 1
            return
        self.num += 1
        self.below += bounds.high < truth
        self.above += truth < bounds.low
        self.total_width += bounds.high - bounds.low
        self.missed_plainly += plain is not None and not plain.low <= truth <= plain.high

    @property
    def covered(self) -> float:
        return 1 - (self.below + self.above) / self.num

    @property
    def error(self) -> float:
        """Monte-Carlo standard error of `covered`."""
        return sqrt(self.covered * (1 - self.covered) / self.num)

    @property
    def width(self) -> float:
        return self.total_width / self.num


def groups() -> list[Group]:
    """The whole run, three of its categories, the size of a quick run, and the fewest that get an interval."""
    first = np.arange(NUM_CATEGORIES) * PER_CATEGORY
    middle = NUM_CATEGORIES // 2
    found = [Group("880", np.arange(NUM_CATEGORIES * PER_CATEGORY), category_names(NUM_CATEGORIES, PER_CATEGORY))]
    for name, category in (("lowest", 0), ("middle", middle), ("highest", NUM_CATEGORIES - 1)):
        rows = first[category] + np.arange(PER_CATEGORY)
        only = None if category == middle else REQUIRED
        found.append(Group(f"80, {name} rates", rows, [name] * PER_CATEGORY, category, only))
    found.append(Group("22", np.sort(np.concatenate((first, first + 1))), category_names(NUM_CATEGORIES, 2)))
    found.append(Group("8, middle rates", first[middle] + np.arange(8), ["middle"] * 8, middle))
    return found


def simulate(process: Process, categories: IntArray, replications: int, rng: np.random.Generator) -> Ratios:
    """Every quantity that is a ratio of sums, from one simulation of both drafters."""
    conversations = draw_conversations(process, categories, replications, rng)
    counts = decode(process, conversations, rng)
    other = decode(*other_drafter(process, conversations, rng, shift=SHIFT), rng)
    length, one = counts.acceptance_length, np.ones(conversations.effects.shape)
    return {
        LENGTH: (length, one),
        DIFFERENCE: (length - other.acceptance_length, one),
        RATE: (counts.accepted, counts.verify_steps * process.draft_length),
        "acceptance length, pooled": (counts.num_tokens, counts.num_steps),
        "acceptance length, drafted": (counts.verify_steps + counts.accepted, counts.verify_steps),
        "acceptance length, specdec_bench": (
            (counts.num_tokens + counts.num_turns) / (counts.num_steps + counts.num_turns),
            one,
        ),
        **_by_position(counts),
    }


def _by_position(counts: Counts) -> Ratios:
    joint = {JOINT.format(k + 1): (reached, counts.num_steps) for k, reached in enumerate(counts.reached[:3])}
    pairs = zip(counts.successes, counts.trials, strict=True)
    return joint | {CONDITIONAL.format(k + 1): pair for k, pair in enumerate(pairs)}


def uncensored(values: Mapping[str, FloatArray]) -> FloatArray:
    """Of the conditional rates in `values`, element by element."""
    prefix = CONDITIONAL.format("")
    return expected_length(np.stack([rates for name, rates in values.items() if name.startswith(prefix)], axis=-1))


def truths(process: Process, per_category: int, seed: int) -> tuple[dict[str, FloatArray], dict[str, FloatArray]]:
    """(truth, its standard error) by quantity, for each category and at the end for all of them."""
    rng, chunks = np.random.default_rng([seed, 1]), []
    for _ in range(TRUTH_CHUNKS):
        ratios = simulate(process, np.arange(NUM_CATEGORIES), per_category // TRUTH_CHUNKS, rng)
        chunks.append({name: np.stack([side.sum(axis=1) for side in pair]) for name, pair in ratios.items()})

    def values(sums: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        found = {name: np.append(pair[0] / pair[1], pair[0].sum() / pair[1].sum()) for name, pair in sums.items()}
        return found | {UNCENSORED: uncensored(found)}

    parts = [values(chunk) for chunk in chunks]
    errors = {name: np.std([part[name] for part in parts], axis=0, ddof=1) / sqrt(TRUTH_CHUNKS) for name in parts[0]}
    return values({name: sum(chunk[name] for chunk in chunks) for name in chunks[0]}), errors


def intervals(
    group: Group, ratios: Ratios, truth: Mapping[str, FloatArray], resamples: int
) -> Iterator[tuple[str, float, Interval | None, Interval | None]]:
    """(quantity, truth, interval, plain percentiles if required) of every replication in `ratios`."""
    above, below = (np.hstack([pair[side][group.rows] for pair in ratios.values()]) for side in (0, 1))
    every = Resampled.of(above, below, group.strata, resamples=resamples, seed=BOOTSTRAP_SEED)
    columns = dict(zip(ratios, np.split(np.arange(above.shape[1]), len(ratios)), strict=True))
    contributing = {name: np.count_nonzero(below[:, which], axis=0).tolist() for name, which in columns.items()}
    found = {name: every.columns(which) for name, which in columns.items()}
    if group.only is None:
        found[UNCENSORED] = every.map(
            lambda values: uncensored({name: values[:, which] for name, which in columns.items()})
        )
        contributing[UNCENSORED] = contributing[CONDITIONAL.format(1)]
    place = NUM_CATEGORIES if group.category is None else group.category
    for name in group.only or tuple(found):
        plain = np.nanquantile(found[name].draws, PLAIN, axis=0) if compared(name, group.name) else None
        for column, num in enumerate(contributing[name]):
            bounds = found[name].interval(column, num_conversations=num, confidence_level=0.95)
            yield name, float(truth[name][place]), bounds, None if plain is None else Interval(*plain[:, column])


def compared(quantity: str, group: str) -> bool:
    """Whether the intervals are among those that must have their level."""
    return quantity in REQUIRED and group in MAIN


Results = dict[tuple[str, str, str], Tested]
"""By quantity, group and process."""


def study(process: Process, args: argparse.Namespace, results: Results) -> None:
    """All replications under one process."""
    truth, errors = truths(process, args.truth, args.seed)
    rng, started = np.random.default_rng([args.seed, 2]), time.monotonic()
    categories = np.repeat(np.arange(NUM_CATEGORIES), PER_CATEGORY)
    for done in range(0, args.replications, BATCH):
        ratios = simulate(process, categories, min(BATCH, args.replications - done), rng)
        for group in groups():
            for name, value, bounds, plain in intervals(group, ratios, truth, args.resamples):
                results.setdefault((name, group.name, process.name), Tested()).add(value, bounds, plain)
        _progress(f"{process.name}: {done + BATCH} of {args.replications}, {time.monotonic() - started:.0f} s")
    _progress("\n", end="")
    relative = [
        errors[name][NUM_CATEGORIES if group.category is None else group.category] / (tested.width / 4)
        for group in groups()
        for (name, of_group, of_process), tested in results.items()
        if (of_group, of_process) == (group.name, process.name) and tested.num
    ]
    _progress(f"{process.name}: standard error of the truth, at most {max(relative):.1%} of that of a run\n", end="")


def summary(results: Results, processes: Sequence[Process]) -> list[str]:
    """Required quantities: coverage by process, that of the plain percentiles in brackets."""
    names = [process.name for process in processes]
    lines = [f"| quantity | conversations | {' | '.join(names)} |", "|---|---|" + "---|" * len(names)]
    for quantity in REQUIRED:
        for group in MAIN:
            cells = []
            for name in names:
                tested = results[quantity, group, name]
                plain = 1 - tested.missed_plainly / tested.num
                cells.append(f"{100 * tested.covered:.1f} ({100 * plain:.1f})")
            lines.append(f"| {quantity} | {group} | {' | '.join(cells)} |")
    return lines


def details(results: Results, *, required: bool) -> list[str]:
    """One line per quantity, group and process."""
    lines = [
        "| quantity | conversations | process | covered, % | interval below, % | above, % | mean width | none, % |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (quantity, group, process), tested in sorted(results.items(), key=_place):
        if required != compared(quantity, group):
            continue
        absent = 100 * tested.absent / (tested.num + tested.absent)
        head = f"| {quantity} | {group} | {process} |"
        if not tested.num:
            lines.append(f"{head} | | | | {absent:.1f} |")
            continue
        below, above = 100 * tested.below / tested.num, 100 * tested.above / tested.num
        covered = f"{100 * tested.covered:.2f} ± {100 * tested.error:.2f}"
        lines.append(f"{head} {covered} | {below:.1f} | {above:.1f} | {tested.width:.3f} | {absent:.1f} |")
    return lines


def _place(item: tuple[tuple[str, str, str], Tested]) -> tuple[int, str, int]:
    quantity, group, _ = item[0]
    rank = REQUIRED.index(quantity) if quantity in REQUIRED else len(REQUIRED)
    return rank, quantity, [other.name for other in groups()].index(group)


def _progress(text: str, end: str = "\r") -> None:
    print(text, end=end, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--replications", type=int, default=10_000)
    parser.add_argument("--resamples", type=int, default=2000, help="of each interval; 2000 is what the product draws")
    parser.add_argument("--truth", type=int, default=400_000, help="conversations per category that give the truth")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--uneven", action="store_true", help="under a harder process instead of the four")
    parser.add_argument("--quick", action="store_true", help="200 replications, and a truth from fewer conversations")
    args = parser.parse_args()
    if args.quick:
        args.replications, args.truth = 200, 40_000
    results: Results = {}
    processes = (UNEVEN,) if args.uneven else PROCESSES
    for process in processes:
        study(process, args, results)
    print(f"Coverage of 95 % intervals, {args.replications} replications, {args.resamples} resamples each.\n")
    print("Those that should be within 94 to 96 %; in brackets the plain percentiles:\n")
    print("\n".join(summary(results, processes)))
    print("\nThe same in detail:\n")
    print("\n".join(details(results, required=True)))
    print("\nThe other quantities and sizes:\n")
    print("\n".join(details(results, required=False)))


if __name__ == "__main__":
    main()
