"""How many conversations a comparison needs, as a table for people."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from speed_bench.comparison import conversation_lengths, length_differences, same_input_pairs
from speed_bench.errors import RunFolderError
from speed_bench.power import conversations_needed, detectable_difference, difference_sd, within_sd
from speed_bench.runner.journal import read_records

CORRELATIONS = (0.0, 0.5, 0.9)
NUM_CATEGORIES = 11
"""Of the `qualitative` prompts: where no run says how many."""


@dataclass(frozen=True, slots=True)
class Spread:
    """What the paired differences of two drafters spread within a category."""

    label: str
    sd: float
    """In tokens per step."""
    num_conversations: int | None = None
    """That it was found from."""
    num_categories: int = NUM_CATEGORIES


def spreads_of(runs: Sequence[Path], sd: float | None) -> list[Spread]:
    """From two run folders their paired differences; from one, what a second run would do; else `sd` itself.

    Raises RunFolderError where two runs share no conversation, UndefinedMetric where there is no spread.
    """
    if sd is not None:
        return [Spread("as given", sd)]
    records = [read_records(run) for run in runs]
    if len(records) == 1:
        lengths = conversation_lengths(records[0].turns)
        found, num = within_sd(lengths)
        each = [(f"correlation {r:g}", difference_sd(found, r)) for r in CORRELATIONS]
        return [Spread(label, spread, num, _num_categories(lengths)) for label, spread in each]
    pairs = same_input_pairs(records[0], records[1])
    if not pairs:
        raise RunFolderError(f"{runs[0]} and {runs[1]} have no turn with the same input: were the prompts the same?")
    differences = length_differences(pairs)
    return [Spread("paired", *within_sd(differences), _num_categories(differences))]


def _num_categories(values: Mapping[tuple[str, str], float]) -> int:
    return len({category for category, _ in values})


def print_power(
    spreads: Sequence[Spread], differences: Sequence[float], *, power: float, confidence_level: float, console: Console
) -> None:
    """One row per difference, one column per spread, and what the conversations at hand can show."""

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    say(
        f"conversations needed so that the {confidence_level:.0%} interval excludes 0 with probability {power:.0%} "
        f"(in brackets: in each of {spreads[0].num_categories} categories)"
    )
    table = Table("difference", *(f"{spread.label}\nsd {spread.sd:.3f}" for spread in spreads))
    for difference in differences:
        needed = [
            conversations_needed(spread.sd, difference, power=power, confidence_level=confidence_level)
            for spread in spreads
        ]
        table.add_row(
            f"{difference:g}", *(f"{num:,} ({math.ceil(num / spreads[0].num_categories):,})" for num in needed)
        )
    console.print(table)
    for spread in spreads:
        if num := spread.num_conversations:
            smallest = detectable_difference(spread.sd, num, power=power, confidence_level=confidence_level)
            say(
                f"{spread.label}: the {num} conversations at hand can show a difference of {smallest:.2g} or more; "
                f"their sd is uncertain by ± {1 / math.sqrt(2 * (num - 1)):.0%}"
            )
