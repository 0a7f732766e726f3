"""What was served within the limits of a service level objective.

A failed turn kept no limit: it counts in every share, and in every percentile as longer than any other.
So does a turn that brought no token.
"""

from collections.abc import Callable, Sequence
from math import ceil

import numpy as np

from speed_bench.errors import UndefinedMetric
from speed_bench.records import RunRecords
from speed_bench.scores import Bootstrap, Cell, Goodput, SloLimit, SloScores
from speed_bench.serving import goodput_rps, meets, slo_time_s, ttft_s
from speed_bench.timing import by_conversation, no_turn, rate_cell, ratio_cell, steady_cell, whole_segments
from speed_bench.types import Failure, TurnRecord

_Kept = Callable[[TurnRecord], bool | None]
"""Whether a turn kept a limit; None where it has no such time."""


def run_goodput(run: RunRecords, slo: Sequence[SloLimit], bootstrap: Bootstrap | None) -> Goodput | None:
    """Over the whole segments of a run; None without an SLO or a whole segment."""
    whole = {segment.index for segment in run.segments if segment.whole}
    if not slo or not whole:
        return None
    segments, kept = whole_segments(run), _kept(slo)
    served = ([(turn.start_s, turn.arrivals) for turn in turns] for turns in segments)
    try:
        rate = goodput_rps(*served, slo=_limits(slo))
    except UndefinedMetric:
        cell = Cell.undefined(no_turn(run))
    else:
        cell = rate_cell(run, rate, lambda turn: float(kept(turn)), bootstrap)
    failures = [failure for failure in run.failures if failure.segment in whole]
    return _goodput(cell, [turn for turns in segments for turn in turns], failures, slo, bootstrap)


def steady_goodput(
    turns: Sequence[TurnRecord],
    failures: Sequence[Failure],
    slo: Sequence[SloLimit],
    span_s: float,
    bootstrap: Bootstrap | None,
) -> Goodput | None:
    """Of the turns that began in a steady span of `span_s`, failed ones among them; None without an SLO."""
    if not slo:
        return None
    kept, conversations = _kept(slo), by_conversation(turns)
    nums = [float(sum(map(kept, members))) for members in conversations]
    cell = steady_cell(sum(nums) / span_s, conversations, nums, bootstrap)
    return _goodput(cell, turns, failures, slo, bootstrap)


def _goodput(
    rate: Cell,
    turns: Sequence[TurnRecord],
    failures: Sequence[Failure],
    slo: Sequence[SloLimit],
    bootstrap: Bootstrap | None,
) -> Goodput:
    return Goodput(
        goodput_rps=rate,
        goodput_share=_share(turns, failures, _kept(slo), bootstrap),
        terms=[_term(limit, turns, failures, bootstrap) for limit in slo],
    )


def _limits(slo: Sequence[SloLimit]) -> dict[str, float]:
    return {limit.term: limit.limit_s for limit in slo}


def _kept(slo: Sequence[SloLimit]) -> Callable[[TurnRecord], bool]:
    limits = _limits(slo)
    return lambda turn: meets(limits, turn.start_s, turn.arrivals)


def _term(
    limit: SloLimit, turns: Sequence[TurnRecord], failures: Sequence[Failure], bootstrap: Bootstrap | None
) -> SloScores:
    times = [slo_time_s(limit.term, turn.start_s, turn.arrivals) for turn in turns]
    known = [time_s for time_s in times if time_s is not None]
    num_endless = len(failures) + sum(ttft_s(turn.start_s, turn.arrivals) is None for turn in turns)
    num = len(known) + num_endless
    at_s = time_at_percentile(known, num_endless, limit.percentile)
    if not num:
        value = Cell.undefined("no turn has such a time")
    elif at_s is None:
        value = Cell.undefined(f"{num_endless} of {num} turns brought no answer, so so many have no such time")
    else:
        value = Cell.of(at_s, num)

    def kept(turn: TurnRecord) -> bool | None:
        time_s = slo_time_s(limit.term, turn.start_s, turn.arrivals)
        if time_s is None:
            return None if ttft_s(turn.start_s, turn.arrivals) is not None else False
        return time_s <= limit.limit_s

    return SloScores(
        **limit.model_dump(),
        value_s=value,
        share=_share(turns, failures, kept, bootstrap),
        met=(at_s is not None and at_s <= limit.limit_s) if num else None,
    )


def time_at_percentile(times_s: Sequence[float], num_endless: int, percentile: float) -> float | None:
    """The time at a percentile where so many further turns never ended, linear between neighbours, in seconds.

    None where the percentile lies among those, and without a turn.

    >>> time_at_percentile([1.0, 2.0, 3.0], 0, 50), time_at_percentile([1.0, 2.0, 3.0], 2, 50)
    (2.0, 3.0)
    >>> time_at_percentile([1.0, 2.0, 3.0], 2, 90)
    """
    place = round(percentile / 100 * (len(times_s) + num_endless - 1), 9)
    if ceil(place) >= len(times_s):
        return None
    return float(np.interp(place, range(len(times_s)), sorted(times_s)))


def _share(turns: Sequence[TurnRecord], failures: Sequence[Failure], kept: _Kept, bootstrap: Bootstrap | None) -> Cell:
    """Of the turns of which it can be told, and the failed ones, those that kept a limit."""
    found: dict[tuple[str, str], list[bool]] = {}
    for turn in turns:
        if (is_kept := kept(turn)) is not None:
            found.setdefault((turn.category, turn.question_id), []).append(is_kept)
    for failure in failures:
        found.setdefault((failure.category, failure.question_id), []).append(False)
    if not found:
        return Cell.undefined("no turn has such a time")
    names = sorted(found)
    nums = [float(sum(found[name])) for name in names]
    sizes = [float(len(found[name])) for name in names]
    categories = [category for category, _ in names]
    return ratio_cell(sum(nums) / sum(sizes), int(sum(sizes)), categories, nums, sizes, bootstrap)
