"""How many conversations a comparison needs, as a table for people."""

import math
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from speed_bench.power import Spread, conversations_needed, detectable_difference


def print_power(
    spreads: Sequence[Spread], differences: Sequence[float], *, power: float, confidence_level: float, console: Console
) -> None:
    """One row per difference, one column per spread, and what the conversations at hand can show."""

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    say(
        f"conversations needed so that the {100 * confidence_level:.6g}% interval excludes 0 "
        f"with probability {100 * power:.6g}% (in brackets: in each of {spreads[0].num_categories} categories)"
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
                f"their sd is uncertain by ± {spread.uncertainty:.0%}"
            )
