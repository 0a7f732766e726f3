"""What the cells of a sweep will ask, known before anything is started."""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from speed_bench.data.editions import load, select
from speed_bench.engines import dialect_of, require_wired
from speed_bench.errors import SpeedBenchError
from speed_bench.runner.preparation import under_load
from speed_bench.sweep.cells import Cell


class Asked(NamedTuple):
    """How much a cell asks."""

    num_conversations: int
    num_turns: int


def asked(cells: Sequence[Cell]) -> dict[str, Asked]:
    """How much each cell asks, by name: under every seed, repeated prompts as often as they are asked.

    Raises what is wrong with prompts, load or algorithm of a cell, and says which cell it is: better than after hours.
    """
    dataset = cache(load)
    found = {}
    for cell in cells:
        config = cell.config
        try:
            if not config.engine.attached:
                require_wired(config.engine.name, dialect_of(config.engine).ALGORITHMS, config.algorithm)
            rows = select(dataset(config.edition, config.config).rows, config.categories, config.limit_per_category)
            led, _ = under_load(rows, config)
        except SpeedBenchError as error:
            raise type(error)(f"{error} (cell {cell.name})") from error
        num_seeds = len(config.seeds)
        found[cell.name] = Asked(len(led) * num_seeds, sum(len(row.turns) for row in led) * num_seeds)
    return found
