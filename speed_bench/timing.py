"""Which turns of a run may be timed, and what their throughput rests on.

Only turns of whole segments are timed: an engine that was killed, or taken up again, was not
serving under the stated load all the time. A turn's latency begins when it was due (`TurnRecord.start_s`:
scheduled in an open loop, sent in a closed one), and so does the span of a throughput. What an engine was
busy with begins when it was sent: whether turns overlap, the time of a category, and what a replay puts on
a stream.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from speed_bench.errors import UndefinedMetric
from speed_bench.records import RunRecords, Segment
from speed_bench.replay import Loop, resample_output_tps
from speed_bench.scores import Bootstrap, Cell, Distribution
from speed_bench.serving import e2e_s, output_tps, percentiles
from speed_bench.statistics import Resampled
from speed_bench.types import TurnRecord

NOT_WHOLE = "no segment of the run is whole: it was interrupted"
NO_TURN = "no turn of it finished in a whole segment"
_OVERLAP = "turns overlap in time, so a category has no time of its own"

Conversations = Sequence[Sequence[TurnRecord]]
"""Turns by conversation."""


def timed_segments(run: RunRecords) -> list[tuple[Segment, list[TurnRecord]]]:
    """The whole segments with their turns, those without a turn left out."""
    segments: dict[int, tuple[Segment, list[TurnRecord]]] = {
        segment.index: (segment, []) for segment in run.segments if segment.whole
    }
    for turn in run.turns:
        if turn.segment in segments:
            segments[turn.segment][1].append(turn)
    return [(segment, turns) for segment, turns in segments.values() if turns]


def whole_segments(run: RunRecords) -> list[list[TurnRecord]]:
    """The turns of each whole segment, those without a turn left out."""
    return [turns for _, turns in timed_segments(run)]


def no_turn(run: RunRecords) -> str:
    """Why nothing of a run can be timed, where that is so."""
    return NO_TURN if any(segment.whole for segment in run.segments) else NOT_WHOLE


def in_open_loop(turns: Iterable[TurnRecord]) -> bool:
    """Whether turns were due by the clock."""
    return any(turn.scheduled_at_s is not None for turn in turns)


def overlap(turns: Iterable[TurnRecord]) -> bool:
    """Whether any two turns of one segment were in flight at the same time."""
    ordered = sorted(turns, key=lambda turn: (turn.segment, turn.sent_at_s, turn.finished_at_s))
    return any(
        before.segment == after.segment and after.sent_at_s < before.finished_at_s
        for before, after in pairwise(ordered)
    )


def by_conversation(turns: Iterable[TurnRecord]) -> list[list[TurnRecord]]:
    """The turns of each conversation, sorted by category and name."""
    grouped: dict[tuple[str, str], list[TurnRecord]] = {}
    for turn in turns:
        grouped.setdefault((turn.category, turn.question_id), []).append(turn)
    return [grouped[name] for name in sorted(grouped)]


def busy_s(turns: Iterable[TurnRecord]) -> float:
    """Summed time from each request to its last token, in seconds."""
    return sum(e2e_s(turn.sent_at_s, turn.arrivals) or 0.0 for turn in turns)


def run_output_tps(run: RunRecords, bootstrap: Bootstrap | None) -> Cell:
    """Output TPS over the whole segments; its interval is that of a replay of the load: see `replay`."""
    try:
        value = _output_tps(run)
    except UndefinedMetric:
        return Cell.undefined(no_turn(run))
    return rate_cell(run, value, lambda turn: turn.num_output_tokens, bootstrap)


def rate_cell(
    run: RunRecords, value: float, served: Callable[[TurnRecord], float], bootstrap: Bootstrap | None
) -> Cell:
    """A rate over the span of the run, of whatever its turns `served`, with the interval of a replay of the load."""
    num_turns = sum(map(len, whole_segments(run)))
    if bootstrap is None or not value > 0:
        return Cell.of(value, num_turns)
    resampled = _resample([run], [value], served, bootstrap)
    num, level = len(resampled.strata), bootstrap.confidence_level
    return Cell.of(value, num_turns, resampled.interval(num_conversations=num, confidence_level=level))


def resample_loops(runs: Sequence[RunRecords], bootstrap: Bootstrap) -> Resampled:
    """Output TPS of each run in every resample, the same conversations drawn in all of them.

    The runs have the same turns in whole segments. Raises UndefinedMetric where one has no output TPS.
    """
    return _resample(runs, list(map(_output_tps, runs)), lambda turn: turn.num_output_tokens, bootstrap)


def _resample(
    runs: Sequence[RunRecords], values: Sequence[float], served: Callable[[TurnRecord], float], bootstrap: Bootstrap
) -> Resampled:
    timed = [[turn for turns in whole_segments(run) for turn in turns] for run in runs]
    names = sorted({(turn.category, turn.question_id) for turn in timed[0]})
    times = sorted({(turn.seed, turn.repeat) for turn in timed[0]})
    loops = [_loop(turns, names, times, served) for turns in timed]
    strata = [f"{category}{' first' * first}" for (category, _), first in zip(names, _filling(loops[0]), strict=True)]
    drawn = list(zip(loops, values, strict=True))
    return resample_output_tps(drawn, strata, resamples=bootstrap.resamples, seed=bootstrap.seed)


def _filling(loop: Loop) -> list[bool]:
    """Which conversations were the first of a stream: they filled the load, all prompts at once, and so took longer.

    Only others that did may take their place.
    """
    if loop.num_streams == 1:
        return [False] * len(loop.tokens)
    first = set(loop.order[: loop.num_streams, 0].tolist())
    return [row in first for row in range(len(loop.tokens))]


def _output_tps(run: RunRecords) -> float:
    segments = whole_segments(run)
    return output_tps(*([(turn.start_s, turn.arrivals) for turn in turns] for turns in segments))


def _loop(
    turns: Sequence[TurnRecord],
    names: Sequence[tuple[str, str]],
    times: Sequence[tuple[int, int]],
    served: Callable[[TurnRecord], float],
) -> Loop:
    """What the streams served: a task is a conversation under one seed, taken when its first turn was due.

    It holds its stream from its first request to its last token, the time between its turns included.
    """
    row_of, column_of = {name: row for row, name in enumerate(names)}, {each: at for at, each in enumerate(times)}
    amounts, busy = np.zeros((2, len(names), len(times)))
    due_s: dict[tuple[int, int], float] = {}
    latest: dict[tuple[int, int, int], float] = {}
    origin_s = _origins_s(turns)
    for turn in sorted(turns, key=lambda turn: (turn.segment, turn.start_s, turn.slot, turn.id)):
        task = row_of[turn.category, turn.question_id], column_of[turn.seed, turn.repeat]
        due_s.setdefault(task, origin_s[turn.segment] + turn.start_s)
        amounts[task] += served(turn)
        took_s = e2e_s(turn.sent_at_s, turn.arrivals) or 0.0
        between_s = turn.sent_at_s - latest.get((*task, turn.segment), turn.sent_at_s)
        busy[task] += took_s + max(between_s, 0.0)
        latest[*task, turn.segment] = turn.sent_at_s + took_s
    by_clock = np.array(list(due_s.values())) if in_open_loop(turns) else None
    return Loop(amounts, busy, np.array(list(due_s)), len({turn.slot for turn in turns}), by_clock)


def _origins_s(turns: Sequence[TurnRecord]) -> dict[int, float]:
    """What to add to the times of each segment so that one follows the other, the first from 0 on."""
    origins, ended_s = {}, 0.0
    for segment in sorted({turn.segment for turn in turns}):
        members = [turn for turn in turns if turn.segment == segment]
        first_s = min(turn.start_s for turn in members)
        origins[segment] = ended_s - first_s
        ended_s += max(turn.finished_at_s for turn in members) - first_s
    return origins


def busy_tps(conversations: Conversations, *, apart: bool, bootstrap: Bootstrap) -> Cell:
    """Output TPS of a category: output tokens / summed time from each request to its last token.

    It is `output_tps` with every turn a span of its own, so it is defined only for turns which no
    other turn overlaps (`apart`). Takes the turns of whole segments, by conversation.
    """
    if not any(conversations):
        return Cell.undefined(NO_TURN)
    if not apart:
        return Cell.undefined(_OVERLAP)
    try:
        value = output_tps(*([(turn.sent_at_s, turn.arrivals)] for turns in conversations for turn in turns))
    except UndefinedMetric:
        return Cell.undefined("no token arrived after its request")
    num_turns, tokens = sum(map(len, conversations)), [float(_num_tokens(turns)) for turns in conversations]
    busy = [busy_s(turns) for turns in conversations]
    return ratio_cell(value, num_turns, categories_of(conversations), tokens, busy, bootstrap)


def steady_cell(
    value: float, conversations: Conversations, served: Sequence[float], bootstrap: Bootstrap | None
) -> Cell:
    """A rate of the steady span with its interval, from what each conversation `served` over the whole run.

    In a closed loop a steady rate is that of busy time, in proportion. In an open one the schedule says how many
    conversations there are in a time, so it is in proportion to what a conversation serves.
    """
    if in_open_loop(turn for turns in conversations for turn in turns):
        weights = [float(len({(turn.seed, turn.repeat) for turn in turns})) for turns in conversations]
    else:
        weights = [busy_s(turns) for turns in conversations]
    num_turns = sum(map(len, conversations))
    return ratio_cell(value, num_turns, categories_of(conversations), served, weights, bootstrap)


def steady_tokens_cell(value: float, conversations: Conversations, bootstrap: Bootstrap | None) -> Cell:
    """`steady_output_tps` with its interval."""
    return steady_cell(value, conversations, [float(_num_tokens(turns)) for turns in conversations], bootstrap)


def mean_over_turns(
    conversations: Conversations, value_of: Callable[[TurnRecord], float | None], reason: str, bootstrap: Bootstrap
) -> Cell:
    """Mean over the turns that have such a value, which none has for `reason`."""
    values = [defined(map(value_of, turns)) for turns in conversations]
    num_turns = sum(map(len, values))
    if not num_turns:
        return Cell.undefined(reason if any(conversations) else NO_TURN)
    sums = [float(sum(each)) for each in values]
    counts = [float(len(each)) for each in values]
    return ratio_cell(sum(sums) / num_turns, num_turns, categories_of(conversations), sums, counts, bootstrap)


def _num_tokens(turns: Iterable[TurnRecord]) -> int:
    return sum(turn.num_output_tokens for turn in turns)


def ratio_cell(
    value: float,
    n: int,
    categories: Sequence[str],
    numerators: Sequence[float],
    denominators: Sequence[float],
    bootstrap: Bootstrap | None,
) -> Cell:
    """A value with the interval of Σ numerators / Σ denominators, in proportion where that is another ratio.

    One category, numerator and denominator per conversation; those with a denominator of 0 have no part in it.
    """
    used = [row for row, denominator in enumerate(denominators) if denominator > 0]
    above, below = np.array(numerators)[used], np.array(denominators)[used]
    if bootstrap is None or not above.sum():
        return Cell.of(value, n)
    resampled = Resampled.of(
        above[:, None],
        below[:, None],
        [categories[row] for row in used],
        resamples=bootstrap.resamples,
        seed=bootstrap.seed,
    ).map(lambda ratios: ratios * (value * below.sum() / above.sum()))
    level = bootstrap.confidence_level
    return Cell.of(value, n, resampled.interval(num_conversations=len(used), confidence_level=level))


def categories_of(conversations: Conversations) -> list[str]:
    """The category of each conversation."""
    return [turns[0].category if turns else "" for turns in conversations]


def defined(values: Iterable[float | None]) -> list[float]:
    """Those that are there."""
    return [value for value in values if value is not None]


def distribution(
    conversations: Conversations,
    values_of: Callable[[TurnRecord], npt.ArrayLike],
    reason: str,
    bootstrap: Bootstrap | None,
) -> Distribution:
    """Of all values of all turns together; the interval is that of their mean. Without one, `reason` says why."""
    by_row = [_joined(map(values_of, turns)) for turns in conversations]
    every = _joined(by_row)
    if not every.size:
        return Distribution(value=None, n=0, reason=reason)
    sums, nums = [float(values.sum()) for values in by_row], [float(values.size) for values in by_row]
    mean = ratio_cell(float(every.mean()), every.size, categories_of(conversations), sums, nums, bootstrap)
    return Distribution(value=mean.value, low=mean.low, high=mean.high, n=mean.n, **percentiles(every))


def _joined(values: Iterable[npt.ArrayLike]) -> npt.NDArray[np.float64]:
    return np.concatenate([np.empty(0), *map(np.asarray, values)])
