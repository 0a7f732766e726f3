"""Whether the number of conversations that `speed_bench.power` asks for gives the power it promises.

    python benchmarks/power.py             # 2,000 comparisons per line: about 8 minutes

Two drafters read the same conversations (`processes.py`). Their difference in acceptance length is
set to about 0.02, 0.05 or 0.1 tokens per step, the conversations needed for 80 % power are computed from
the spread of their paired differences, and comparisons of that size are simulated: the 95 % interval of
the difference should exclude 0 in 80 % of them, and in 5 % where the drafters are equally good.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from math import ceil, sqrt

import numpy as np
from processes import (
    CHAIN_OF_3,
    CHAIN_OF_7,
    N_GRAM,
    NUM_CATEGORIES,
    FloatArray,
    Process,
    category_names,
    decode,
    draw_conversations,
    other_drafter,
)

from speed_bench.power import conversations_needed, within_sd
from speed_bench.statistics import Resampled

STUDIED = ((CHAIN_OF_3, (0.02, 0.05, 0.1)), (CHAIN_OF_7, (0.05, 0.1, 0.2)), (N_GRAM, (0.02, 0.05, 0.1)))
POWER = 0.8
PILOT = 200_000
"""Conversations per category from which the true difference is found."""
SEARCH = 20_000
"""The same, while looking for rates that make about the difference wanted, and for its spread."""
BATCH = 100


def differences(
    process: Process, per_category: int, replications: int, *, shift: float, rng: np.random.Generator
) -> FloatArray:
    """Acceptance length under the first drafter − that under the second, (conversations, replications)."""
    categories = np.repeat(np.arange(NUM_CATEGORIES), per_category)
    conversations = draw_conversations(process, categories, replications, rng)
    first = decode(process, conversations, rng).acceptance_length
    return first - decode(*other_drafter(process, conversations, rng, shift=shift), rng).acceptance_length


def pilot(process: Process, shift: float, num: int, seed: int) -> tuple[float, float]:
    """(true difference, its sd within categories) where the second drafter's rates are lower by `shift`."""
    found = differences(process, 1, num, shift=shift, rng=np.random.default_rng([seed, 1]))
    names = ((f"{category}", f"{index}") for category in range(NUM_CATEGORIES) for index in range(SEARCH))
    sd, _ = within_sd(dict(zip(names, found[:, :SEARCH].ravel().tolist(), strict=True)))
    return float(found.mean()), sd


def shift_for(process: Process, difference: float, seed: int) -> float:
    """How much lower rates make about that difference, which is nearly proportional to them."""
    equal, lower = (pilot(process, shift, SEARCH, seed)[0] for shift in (0.0, 0.02))
    return 0.02 * (difference - equal) / (lower - equal)


def found_share(process: Process, per_category: int, shift: float, args: argparse.Namespace) -> float:
    """Share of comparisons whose 95 % interval excludes 0."""
    rng, names, found = np.random.default_rng([args.seed, 2]), category_names(NUM_CATEGORIES, per_category), 0
    for done in range(0, args.replications, BATCH):
        values = differences(process, per_category, min(BATCH, args.replications - done), shift=shift, rng=rng)
        drawn = Resampled.of(values, np.ones_like(values), names, resamples=args.resamples, seed=0)
        for column in range(values.shape[1]):
            bounds = drawn.interval(column, num_conversations=len(names), confidence_level=0.95)
            found += bounds is not None and (bounds.low > 0 or bounds.high < 0)
        print(f"{process.name}: {done + BATCH} of {args.replications}", end="\r", file=sys.stderr, flush=True)
    return found / args.replications


def lines(process: Process, wanted: Sequence[float], args: argparse.Namespace) -> Iterator[str]:
    """One line of the table per difference, the first for two drafters that are equally good."""
    for difference in (0.0, *wanted):
        shift = shift_for(process, difference, args.seed) if difference else 0.0
        true, sd = pilot(process, shift, PILOT, args.seed)
        needed = conversations_needed(sd, true, power=POWER) if difference else NUM_CATEGORIES * 80
        per_category = max(2, ceil(needed / NUM_CATEGORIES))
        share = found_share(process, per_category, shift, args)
        error = sqrt(share * (1 - share) / args.replications)
        promised = f"{100 * POWER:.0f}" if difference else "5"
        yield (
            f"| {process.name} | {true:.3f} | {sd:.3f} | {needed:,} | {per_category * NUM_CATEGORIES:,} "
            f"| {promised} | {100 * share:.1f} ± {100 * error:.1f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--replications", type=int, default=2000)
    parser.add_argument("--resamples", type=int, default=2000, help="of each interval; 2000 is what the product draws")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print("| process | true difference | sd of paired differences | needed | simulated | promised, % | found, % |")
    print("|---|---|---|---|---|---|---|")
    for process, wanted in STUDIED:
        for line in lines(process, wanted, args):
            print(line, flush=True)


if __name__ == "__main__":
    main()
