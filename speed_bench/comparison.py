"""A run against its baseline: how much faster, and whether the answers are the same.

Turns are paired by id and seed. Speed-ups are ratios of totals over the same turns, never means of
ratios, which a few short turns would rule; where both runs did not finish the same turns under one
uninterrupted load, they are refused. That both had the same sampling, protocol and load is for the
caller to see to: it stands in the run folder, not in the records.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile

import numpy as np

from speed_bench.acceptance import acceptance_length
from speed_bench.errors import UndefinedMetric
from speed_bench.records import RunRecords
from speed_bench.scores import Bootstrap, Cell, Comparison, Difference
from speed_bench.serving import decode_span, tpot_total_s
from speed_bench.statistics import FloatArray, Interval, Resampled, category_mean, category_weights
from speed_bench.tally import pool, tally_record
from speed_bench.timing import by_conversation, resample_loops, run_output_tps, whole_segments
from speed_bench.types import TurnRecord

_Pairs = Sequence[tuple[TurnRecord, TurnRecord]]
"""Turns of the run with the same turn of the baseline."""


def compare(run: RunRecords, baseline: RunRecords, bootstrap: Bootstrap | None, apart: str | None = None) -> Comparison:
    """The run against the baseline. Intervals are drawn over conversations, both sides together.

    `apart` says why their speeds are not to be compared, such as another machine: it is the reason of the speed-ups.
    """
    refusal = apart or _refusal(run, baseline)
    timed = [turn.arrivals for segment in whole_segments(baseline) for turn in segment]
    pairs = _pairs(run, baseline)
    same_input = _same_input(pairs)
    return Comparison(
        speedup_output_tps=Cell.undefined(refusal) if refusal else _speedup_output_tps(run, baseline, bootstrap),
        speedup_tpot=Cell.undefined(refusal) if refusal else _speedup_tpot(pairs, bootstrap),
        acceptance_length_difference=Difference.undefined(lost)
        if (lost := _lost_category(run, baseline, same_input))
        else _acceptance_length_difference(same_input, bootstrap),
        identical_share=_mean_over_turns(same_input, _same_tokens, bootstrap),
        common_prefix_tokens=_mean_over_turns(same_input, common_prefix_tokens, bootstrap),
        paired_share=Cell.of(len(same_input) / len(run.turns), len(run.turns))
        if run.turns
        else Cell.undefined("no turn finished"),
        output_tps=run_output_tps(baseline, bootstrap),
        tpot_s=_tpot_s(timed),
        num_turns=len(baseline.turns),
        num_failures=len(baseline.failures),
    )


def same_input_pairs(run: RunRecords, baseline: RunRecords) -> list[tuple[TurnRecord, TurnRecord]]:
    """The turns that had the same input in both runs, paired by id and seed."""
    return _same_input(_pairs(run, baseline))


def _pairs(run: RunRecords, baseline: RunRecords) -> list[tuple[TurnRecord, TurnRecord]]:
    ours, theirs = ({turn.key: turn for turn in records.turns} for records in (run, baseline))
    return [(ours[key], theirs[key]) for key in sorted(ours) if key in theirs]


def _same_input(pairs: _Pairs) -> list[tuple[TurnRecord, TurnRecord]]:
    return [(mine, other) for mine, other in pairs if mine.prompt_sha256 == other.prompt_sha256]


def common_prefix_tokens(mine: TurnRecord, other: TurnRecord) -> int:
    """How many output ids of two turns agree before the first that differs, or before one of them ends.

    A token that one engine did not name is taken as the same: a difference is only one that was seen.
    """
    pairs = zip(mine.output_ids, other.output_ids, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1] or None in pair, pairs))


def _refusal(run: RunRecords, baseline: RunRecords) -> str | None:
    """Why these two runs have no speed-up, or None."""
    for name, records in (("the run", run), ("the baseline", baseline)):
        if not all(segment.whole for segment in records.segments):
            return f"{name} was interrupted or resumed"
        if not whole_segments(records):
            return f"{name} has no finished turn in a whole segment"
    here, there = ({turn.key for turn in records.turns} for records in (run, baseline))
    if here != there:
        return f"they finished different turns: {len(here - there)} only the run, {len(there - here)} only the baseline"
    return None


def _lost_category(run: RunRecords, baseline: RunRecords, same_input: _Pairs) -> str | None:
    """Which categories have no pair, or None: a mean of the others would be of other text."""
    every = {outcome.category for records in (run, baseline) for outcome in records.outcomes}
    lost = sorted(every - {mine.category for mine, _ in same_input})
    return f"no turn of {', '.join(lost)} had the same input in both runs" if lost else None


def _speedup_output_tps(run: RunRecords, baseline: RunRecords, bootstrap: Bootstrap | None) -> Cell:
    """Output TPS of the run / output TPS of the baseline; its interval as that of `run_output_tps`."""
    ours, theirs = run_output_tps(run, None), run_output_tps(baseline, None)
    if ours.value is None or theirs.value is None:
        return Cell.undefined(ours.reason or theirs.reason or "")
    value = ours.value / theirs.value
    if bootstrap is None:
        return Cell.of(value, ours.n)
    resampled = resample_loops([run, baseline], bootstrap).map(lambda tps: tps[:, :1] / tps[:, 1:])
    return Cell.of(value, ours.n, _bounds(resampled, bootstrap))


def _speedup_tpot(pairs: _Pairs, bootstrap: Bootstrap | None) -> Cell:
    """Total decode time per token of the baseline / that of the run; a slower run is below 1."""
    try:
        value_s, baseline_s = (tpot_total_s(turn.arrivals for turn in side) for side in zip(*pairs, strict=True))
    except UndefinedMetric:
        return Cell.undefined("no turn has a second arrival")
    if not value_s or not baseline_s:
        return Cell.undefined("decoding took no time")
    mine, other = (np.array([decode_span(turn.arrivals)[::-1] for turn in side]) for side in zip(*pairs, strict=True))
    return _ratio_of_ratios(baseline_s / value_s, pairs, mine, other, bootstrap)


def _ratio_of_ratios(
    value: float, pairs: _Pairs, mine: FloatArray, other: FloatArray, bootstrap: Bootstrap | None
) -> Cell:
    """A ratio of two rates, with the interval of (Σ tokens / Σ time of ours) / (the same of theirs), in proportion.

    `mine` and `other` are (turns, 2): tokens and seconds.
    """
    if bootstrap is None:
        return Cell.of(value, len(pairs))
    above, below = np.column_stack((mine[:, 0], other[:, 1])), np.column_stack((mine[:, 1], other[:, 0]))
    factor = value * below.sum(axis=0).prod() / above.sum(axis=0).prod()
    resampled = _resample(pairs, above, below, bootstrap).map(
        lambda ratios: ratios.prod(axis=1, keepdims=True) * factor
    )
    return Cell.of(value, len(pairs), _bounds(resampled, bootstrap))


def conversation_lengths(turns: Iterable[TurnRecord]) -> dict[tuple[str, str], float]:
    """The acceptance length of each conversation that has a decode step, by (category, name).

    Raises UndefinedMetric where the steps of a turn are not known.
    """
    tallies = {
        (members[0].category, members[0].question_id): pool(map(tally_record, members))
        for members in by_conversation(turns)
    }
    return {name: acceptance_length(tally) for name, tally in tallies.items() if tally.num_steps != 0}


def length_differences(pairs: _Pairs) -> dict[tuple[str, str], float]:
    """Acceptance length of the first turns − that of the second, of each conversation that has both."""
    mine, other = zip(*pairs, strict=True) if pairs else ((), ())
    ours, theirs = conversation_lengths(mine), conversation_lengths(other)
    return {name: ours[name] - theirs[name] for name in sorted(ours.keys() & theirs.keys())}


def _acceptance_length_difference(pairs: _Pairs, bootstrap: Bootstrap | None) -> Difference:
    """Of the conversations that have decode steps on both sides. Its n is their number."""
    try:
        differences = length_differences(pairs)
    except UndefinedMetric as error:
        return Difference.undefined(str(error).partition(": ")[2])
    if not differences:
        return Difference.undefined("no conversation has decode steps and the same input in both runs")
    values, categories = np.array(list(differences.values())), [category for category, _ in differences]
    mean = category_mean(values, categories)
    if bootstrap is None:
        return Difference.of(mean, len(differences))
    weights = category_weights(categories)
    above, below = (values * weights)[:, None], weights[:, None]
    resampled = Resampled.of(above, below, categories, resamples=bootstrap.resamples, seed=bootstrap.seed)
    bounds = _bounds(resampled, bootstrap)
    found = Difference.of(mean, len(differences), bounds)
    return found if bounds is None else found.model_copy(update={"p_value": resampled.p_value()})


def _mean_over_turns(
    pairs: _Pairs, value_of: Callable[[TurnRecord, TurnRecord], float], bootstrap: Bootstrap | None
) -> Cell:
    if not pairs:
        return Cell.undefined("no turn had the same input in both runs")
    values = np.array([[float(value_of(mine, other))] for mine, other in pairs])
    if bootstrap is None:
        return Cell.of(float(values.mean()), len(pairs))
    resampled = _resample(pairs, values, np.ones_like(values), bootstrap)
    return Cell.of(float(values.mean()), len(pairs), _bounds(resampled, bootstrap))


def _same_tokens(mine: TurnRecord, other: TurnRecord) -> bool:
    return len(mine.output_ids) == len(other.output_ids) == common_prefix_tokens(mine, other)


def _tpot_s(turns: Sequence[Sequence[tuple[float, int]]]) -> Cell:
    try:
        return Cell.of(tpot_total_s(turns), len(turns))
    except UndefinedMetric:
        return Cell.undefined("no turn in a whole segment has a second arrival")


def _resample(pairs: _Pairs, numerators: FloatArray, denominators: FloatArray, bootstrap: Bootstrap) -> Resampled:
    """Ratios of sums over turns, drawn by conversation."""
    turns = [mine for mine, _ in pairs]
    names = sorted({(turn.category, turn.question_id) for turn in turns})
    row_of = {name: row for row, name in enumerate(names)}
    rows = [row_of[turn.category, turn.question_id] for turn in turns]
    sums = np.zeros((2, len(names), numerators.shape[1]))
    np.add.at(sums[0], rows, numerators)
    np.add.at(sums[1], rows, denominators)
    categories = [category for category, _ in names]
    return Resampled.of(sums[0], sums[1], categories, resamples=bootstrap.resamples, seed=bootstrap.seed)


def _bounds(resampled: Resampled, bootstrap: Bootstrap) -> Interval | None:
    return resampled.interval(num_conversations=len(resampled.strata), confidence_level=bootstrap.confidence_level)
