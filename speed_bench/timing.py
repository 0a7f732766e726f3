"""Which turns of a run may be timed, and how fast they were.

Only turns of whole segments are timed: an engine that was killed, or taken up again, was not
serving under the stated load all the time.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from speed_bench.errors import UndefinedMetric
from speed_bench.scores import Bootstrap, Cell, Distribution, Serving
from speed_bench.serving import itl_s, output_tps, percentiles, step_gap_s, tpot_s, ttft_s, user_tps
from speed_bench.statistics import interval, resample_ratios
from speed_bench.types import RunRecords, TurnRecord

_NOT_WHOLE = "no segment of the run is whole: it was interrupted"
_NO_TURN = "no turn of it finished in a whole segment"
_OVERLAP = "turns overlap in time, so a category has no time of its own"


def whole_segments(run: RunRecords) -> list[list[TurnRecord]]:
    """The turns of each whole segment, those without a turn left out."""
    segments: dict[int, list[TurnRecord]] = {segment.index: [] for segment in run.segments if segment.whole}
    for turn in run.turns:
        if turn.segment in segments:
            segments[turn.segment].append(turn)
    return [turns for turns in segments.values() if turns]


def overlap(turns: Iterable[TurnRecord]) -> bool:
    """Whether any two turns of one segment were in flight at the same time."""
    ordered = sorted(turns, key=lambda turn: (turn.segment, turn.sent_at_s, turn.finished_at_s))
    return any(
        before.segment == after.segment and after.sent_at_s < before.finished_at_s
        for before, after in pairwise(ordered)
    )


def run_output_tps(run: RunRecords) -> Cell:
    """Output TPS over the whole segments; it has no interval, since a run has one such span."""
    segments = whole_segments(run)
    try:
        value = output_tps(*([(turn.sent_at_s, turn.arrivals) for turn in turns] for turns in segments))
    except UndefinedMetric:
        return Cell.undefined(_NO_TURN if any(segment.whole for segment in run.segments) else _NOT_WHOLE)
    return Cell.of(value, sum(map(len, segments)))


def serving_scores(run: RunRecords) -> Serving:
    """The distribution of each time over the turns of whole segments, or the reason why there is none."""
    num_whole = sum(segment.whole for segment in run.segments)
    turns = [turn for segment in whole_segments(run) for turn in segment]
    reason = "no turn has such a value" if turns else _NO_TURN if num_whole else _NOT_WHOLE
    arrivals = [turn.arrivals for turn in turns]
    return Serving(
        output_tps=run_output_tps(run),
        user_tps=_distribution(_defined(map(user_tps, arrivals)), reason),
        ttft_s=_distribution(_defined(ttft_s(turn.sent_at_s, turn.arrivals) for turn in turns), reason),
        itl_s=_distribution(_joined(map(itl_s, arrivals)), reason),
        tpot_s=_distribution(_defined(map(tpot_s, arrivals)), reason),
        step_gap_s=_distribution(_joined(map(step_gap_s, arrivals)), reason),
        num_turns=len(turns),
        num_output_tokens=sum(turn.num_output_tokens for turn in turns),
        num_segments=len(run.segments),
        num_segments_used=num_whole,
    )


def busy_tps(conversations: Sequence[Sequence[TurnRecord]], *, apart: bool, bootstrap: Bootstrap) -> Cell:
    """Output TPS of a category: output tokens / summed time from each request to its last token.

    It is `output_tps` with every turn a span of its own, so it is defined only for turns which no
    other turn overlaps (`apart`). Takes the turns of whole segments, by conversation.
    """
    if not any(conversations):
        return Cell.undefined(_NO_TURN)
    if not apart:
        return Cell.undefined(_OVERLAP)
    tokens = [float(sum(turn.num_output_tokens for turn in turns)) for turns in conversations]
    busy_s = [sum(turn.arrivals[-1][0] - turn.sent_at_s for turn in turns if turn.arrivals) for turns in conversations]
    try:
        value = output_tps(*([(turn.sent_at_s, turn.arrivals)] for turns in conversations for turn in turns))
    except UndefinedMetric:
        return Cell.undefined("no token arrived after its request")
    return _with_interval(value, sum(map(len, conversations)), conversations, tokens, busy_s, bootstrap)


def mean_user_tps(conversations: Sequence[Sequence[TurnRecord]], bootstrap: Bootstrap) -> Cell:
    """Mean user TPS over the turns that have one. Takes the turns of whole segments, by conversation."""
    rates = [_defined(user_tps(turn.arrivals) for turn in turns) for turns in conversations]
    num_turns = sum(map(len, rates))
    if not num_turns:
        return Cell.undefined("no turn has a second arrival" if any(conversations) else _NO_TURN)
    sums = [float(sum(values)) for values in rates]
    counts = [float(len(values)) for values in rates]
    return _with_interval(sum(sums) / num_turns, num_turns, conversations, sums, counts, bootstrap)


def _with_interval(
    value: float,
    num_turns: int,
    conversations: Sequence[Sequence[TurnRecord]],
    numerators: list[float],
    denominators: list[float],
    bootstrap: Bootstrap,
) -> Cell:
    used = [row for row, denominator in enumerate(denominators) if denominator > 0]
    draws = resample_ratios(
        np.array(numerators)[used, None],
        np.array(denominators)[used, None],
        [conversations[row][0].category for row in used],
        resamples=bootstrap.resamples,
        seed=bootstrap.seed,
    )
    level = bootstrap.confidence_level
    return Cell.of(value, num_turns, interval(draws[:, 0], num_conversations=len(used), confidence_level=level))


def _defined(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _joined(values: Iterable[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
    return np.concatenate([np.empty(0), *values])


def _distribution(values: npt.ArrayLike, reason: str) -> Distribution:
    array = np.asarray(values, dtype=np.float64)
    if not array.size:
        return Distribution(value=None, n=0, reason=reason)
    return Distribution(value=float(array.mean()), n=array.size, **percentiles(array))
