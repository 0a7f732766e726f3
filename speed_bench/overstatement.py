"""By how much random prompts overstate what real prompts show: the same load twice, on prompts that are not paired.

Each number is a ratio of two runs with no conversation in common. So the conversations of each run are drawn by
themselves, and a resample of one is divided by a resample of the other. Left out, for the width of the interval, is a
conversation of either.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict

from speed_bench.comparison import conversation_lengths
from speed_bench.records import RunRecords
from speed_bench.scores import Bootstrap, Cell, Distribution, Scores
from speed_bench.serving import ttft_s, user_tps
from speed_bench.statistics import FloatArray, Resampled, category_weights, interval
from speed_bench.timing import busy_s, by_conversation, categories_of, defined, resample_loops, whole_segments
from speed_bench.types import TurnRecord

SCHEMA_VERSION = 1


class Compared(BaseModel):
    """One number on real and on random prompts."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    real: Cell
    random: Cell
    overstated: Cell
    """random / real − 1: above 0, random prompts promise more than real ones give. Its n is the sum of theirs."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured on one kind of prompts."""

    records: RunRecords
    baseline: RunRecords | None
    scores: Scores


class _Side(NamedTuple):
    """A number of one run, and how it would have been with other conversations."""

    cell: Cell
    draw: Callable[[], Resampled]
    """Only for one that has a value."""


def overstatement(real: Measured, random: Measured) -> dict[str, Compared]:
    """The numbers that both runs have, by the name that they have in the scores.

    Throughput, pace and TTFT are of the turns of whole segments, the acceptance length of all finished ones, as there.
    `speedup_output_tps` is missing where one of the runs has no baseline.
    """
    bootstrap = real.scores.bootstrap
    independent = bootstrap.model_copy(update={"seed": bootstrap.seed + 1})
    left, right = _sides(real, bootstrap), _sides(random, independent)
    return {
        name: Compared(
            real=left[name].cell,
            random=right[name].cell,
            overstated=_overstated(left[name], right[name], bootstrap.confidence_level),
        )
        for name in left
        if name in right
    }


def _sides(measured: Measured, bootstrap: Bootstrap) -> dict[str, _Side]:
    records, serving = measured.records, measured.scores.serving
    conversations = by_conversation(turn for turns in whole_segments(records) for turn in turns)

    def loop(*runs: RunRecords) -> Resampled:
        return resample_loops(runs, bootstrap)

    def mean(value_of: Callable[[TurnRecord], float | None]) -> Callable[[], Resampled]:
        values = [defined(map(value_of, turns)) for turns in conversations]
        return lambda: _ratio([sum(each) for each in values], [len(each) for each in values], categories, bootstrap)

    def steady() -> Resampled:
        tokens = [sum(turn.num_output_tokens for turn in turns) for turns in conversations]
        busy = [busy_s(turns) for turns in conversations]
        value = serving.steady_output_tps.value or 0.0
        return _ratio(tokens, busy, categories, bootstrap).map(lambda rates: rates * (value * sum(busy) / sum(tokens)))

    categories, baseline = categories_of(conversations), measured.baseline
    length = measured.scores.acceptance.overall.acceptance_length
    sides = {
        "output_tps": _Side(serving.output_tps, lambda: loop(records)),
        "steady_output_tps": _Side(serving.steady_output_tps, steady),
        "user_tps": _Side(_cell(serving.user_tps), mean(lambda turn: user_tps(turn.arrivals))),
        "ttft_s": _Side(_cell(serving.ttft_s), mean(lambda turn: ttft_s(turn.start_s, turn.arrivals))),
        "acceptance_length": _Side(length, lambda: _lengths(records.turns, bootstrap)),
        "isl": _Side(_cell(serving.isl), mean(lambda turn: turn.prompt_len)),
        "osl": _Side(_cell(serving.osl), mean(lambda turn: turn.num_output_tokens)),
    }
    if baseline is not None and measured.scores.baseline is not None:
        sides["speedup_output_tps"] = _Side(
            measured.scores.baseline.speedup_output_tps,
            lambda: loop(records, baseline).map(lambda tps: tps[..., :1] / tps[..., 1:]),
        )
    return sides


def _overstated(real: _Side, random: _Side, confidence_level: float) -> Cell:
    for name, side in (("real", real), ("random", random)):
        if side.cell.value is None:
            return Cell.undefined(f"{name} prompts: {side.cell.reason}")
    base, value = real.cell.value or 0.0, random.cell.value or 0.0
    if not base:
        return Cell.undefined("on real prompts it is 0")
    ours, theirs = real.draw(), random.draw()
    left_out = np.concatenate((_over(value, ours.left_out[:, 0]), _over(theirs.left_out[:, 0], base)))
    bounds = interval(
        _over(theirs.draws[:, 0], ours.draws[:, 0]),
        num_conversations=min(len(ours.strata), len(theirs.strata)),
        left_out=left_out,
        strata=[f"real {name}" for name in ours.strata] + [f"random {name}" for name in theirs.strata],
        confidence_level=confidence_level,
    )
    return Cell.of(value / base - 1, real.cell.n + random.cell.n, bounds)


def _over(random: FloatArray | float, real: FloatArray | float) -> FloatArray:
    """random / real − 1, NaN where there is none."""
    above, below = np.broadcast_arrays(np.asarray(random, dtype=np.float64), np.asarray(real, dtype=np.float64))
    ratios: FloatArray = np.divide(above, below, out=np.full(above.shape, np.nan), where=below != 0)
    return ratios - 1


def _ratio(
    numerators: Sequence[float], denominators: Sequence[float], categories: Sequence[str], bootstrap: Bootstrap
) -> Resampled:
    """Σ numerators / Σ denominators, of the conversations that have any."""
    used = [row for row, denominator in enumerate(denominators) if denominator > 0]
    return Resampled.of(
        np.array(numerators, dtype=np.float64)[used, None],
        np.array(denominators, dtype=np.float64)[used, None],
        [categories[row] for row in used],
        resamples=bootstrap.resamples,
        seed=bootstrap.seed,
    )


def _lengths(turns: Sequence[TurnRecord], bootstrap: Bootstrap) -> Resampled:
    """The acceptance length as the headline has it: mean of conversations, then of categories."""
    lengths: Mapping[tuple[str, str], float] = conversation_lengths(turns)
    categories = [category for category, _ in lengths]
    weights = category_weights(categories)
    return _ratio((np.array(list(lengths.values())) * weights).tolist(), weights.tolist(), categories, bootstrap)


def _cell(found: Distribution) -> Cell:
    return Cell(value=found.value, low=found.low, high=found.high, n=found.n, reason=found.reason)
