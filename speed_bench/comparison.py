"""A run against its baseline: how much faster, and whether the answers are the same.

Turns are paired by id and seed. Speed-ups are ratios of totals over the same turns, never means of
ratios, which a few short turns would rule; where both runs did not finish the same turns under one
uninterrupted load, they are refused. That both had the same sampling, protocol and load is for the
caller to see to: it stands in the run folder, not in the records.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from speed_bench.errors import UndefinedMetric
from speed_bench.scores import Bootstrap, Cell, Comparison
from speed_bench.serving import decode_span, tpot_total_s
from speed_bench.statistics import FloatArray, interval, resample_ratios
from speed_bench.timing import run_output_tps, whole_segments
from speed_bench.types import RunRecords, TurnRecord

_Turns = Mapping[tuple[str, int], TurnRecord]


def compare(run: RunRecords, baseline: RunRecords, bootstrap: Bootstrap) -> Comparison:
    """The run against the baseline. Intervals are drawn over conversations, both sides together."""
    ours = {(turn.id, turn.seed): turn for turn in run.turns}
    theirs = {(turn.id, turn.seed): turn for turn in baseline.turns}
    refusal = _refusal(run, baseline)
    timed = [turn.arrivals for segment in whole_segments(baseline) for turn in segment]
    num_paired = len(_paired(ours, theirs))
    return Comparison(
        speedup_output_tps=Cell.undefined(refusal) if refusal else _speedup_output_tps(run, baseline),
        speedup_tpot=Cell.undefined(refusal) if refusal else _speedup_tpot(ours, theirs, bootstrap),
        identical_share=_identical_share(_paired(ours, theirs), theirs, bootstrap),
        paired_share=Cell.of(num_paired / len(ours), len(ours)) if ours else Cell.undefined("no turn finished"),
        output_tps=run_output_tps(baseline),
        tpot_s=_tpot_s(timed),
        num_turns=len(baseline.turns),
        num_failures=len(baseline.failures),
    )


def _refusal(run: RunRecords, baseline: RunRecords) -> str | None:
    """Why these two runs have no speed-up, or None."""
    for name, records in (("the run", run), ("the baseline", baseline)):
        if not all(segment.whole for segment in records.segments):
            return f"{name} was interrupted or resumed"
        if not whole_segments(records):
            return f"{name} has no finished turn in a whole segment"
    here, there = ({(turn.id, turn.seed) for turn in records.turns} for records in (run, baseline))
    if here != there:
        return f"they finished different turns: {len(here - there)} only the run, {len(there - here)} only the baseline"
    return None


def _speedup_output_tps(run: RunRecords, baseline: RunRecords) -> Cell:
    """Output TPS of the run / output TPS of the baseline."""
    ours, theirs = run_output_tps(run), run_output_tps(baseline)
    if ours.value is None or theirs.value is None:
        return Cell.undefined(ours.reason or theirs.reason or "")
    return Cell.of(ours.value / theirs.value, ours.n)


def _speedup_tpot(ours: _Turns, theirs: _Turns, bootstrap: Bootstrap) -> Cell:
    """Total decode time per token of the baseline / that of the run; a slower run is below 1."""
    keys = sorted(ours)
    try:
        value_s = tpot_total_s(ours[key].arrivals for key in keys)
        baseline_s = tpot_total_s(theirs[key].arrivals for key in keys)
    except UndefinedMetric:
        return Cell.undefined("no turn has a second arrival")
    if not value_s or not baseline_s:
        return Cell.undefined("decoding took no time")
    ours_spans, theirs_spans = (
        np.array([decode_span(turns[key].arrivals) for key in keys]) for turns in (ours, theirs)
    )
    draws, num = _resample(
        [ours[key] for key in keys],
        np.column_stack((theirs_spans[:, 0], ours_spans[:, 1])),
        np.column_stack((theirs_spans[:, 1], ours_spans[:, 0])),
        bootstrap,
    )
    level = bootstrap.confidence_level
    bounds = interval(draws.prod(axis=1), num_conversations=num, confidence_level=level)
    return Cell.of(baseline_s / value_s, len(keys), bounds)


def _paired(ours: _Turns, theirs: _Turns) -> list[TurnRecord]:
    """Our turns that had the same input in the baseline."""
    return [ours[key] for key in sorted(ours) if key in theirs and ours[key].prompt_sha256 == theirs[key].prompt_sha256]


def _identical_share(paired: Sequence[TurnRecord], theirs: _Turns, bootstrap: Bootstrap) -> Cell:
    """A token that one engine did not name is taken as the same: a difference is only one that was seen."""
    if not paired:
        return Cell.undefined("no turn had the same input in both runs")
    same = np.array([[float(_same_tokens(turn, theirs[turn.id, turn.seed]))] for turn in paired])
    draws, num = _resample(paired, same, np.ones_like(same), bootstrap)
    level = bootstrap.confidence_level
    return Cell.of(
        float(same.mean()), len(paired), interval(draws[:, 0], num_conversations=num, confidence_level=level)
    )


def _same_tokens(mine: TurnRecord, other: TurnRecord) -> bool:
    pairs = zip(mine.output_ids, other.output_ids, strict=False)
    return len(mine.output_ids) == len(other.output_ids) and all(a == b or None in (a, b) for a, b in pairs)


def _tpot_s(turns: Sequence[Sequence[tuple[float, int]]]) -> Cell:
    try:
        return Cell.of(tpot_total_s(turns), len(turns))
    except UndefinedMetric:
        return Cell.undefined("no turn in a whole segment has a second arrival")


def _resample(
    turns: Sequence[TurnRecord], numerators: FloatArray, denominators: FloatArray, bootstrap: Bootstrap
) -> tuple[FloatArray, int]:
    """Ratios of sums over turns, drawn by conversation, and the number of conversations."""
    names = sorted({(turn.category, turn.question_id) for turn in turns})
    row_of = {name: row for row, name in enumerate(names)}
    rows = [row_of[turn.category, turn.question_id] for turn in turns]
    sums = np.zeros((2, len(names), numerators.shape[1]))
    np.add.at(sums[0], rows, numerators)
    np.add.at(sums[1], rows, denominators)
    categories = [category for category, _ in names]
    draws = resample_ratios(sums[0], sums[1], categories, resamples=bootstrap.resamples, seed=bootstrap.seed)
    return draws, len(names)
