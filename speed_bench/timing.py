"""Which turns of a run may be timed, and how fast they were.

Only turns of whole segments are timed: an engine that was killed, or taken up again, was not
serving under the stated load all the time.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from speed_bench.errors import UndefinedMetric
from speed_bench.replay import Loop, resample_output_tps
from speed_bench.scores import Bootstrap, Cell, Distribution, Serving
from speed_bench.serving import (
    MIN_STEADY_S,
    e2e_s,
    itl_s,
    output_tps,
    percentiles,
    steady_output_tps,
    step_gap_s,
    tpot_s,
    ttft_s,
    user_tps,
)
from speed_bench.statistics import Resampled
from speed_bench.types import Lateness, RunRecords, TurnRecord

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
    """Output TPS over the whole segments; its interval is that of a closed loop: see `replay`."""
    try:
        value = _output_tps(run)
    except UndefinedMetric:
        return Cell.undefined(_NO_TURN if any(segment.whole for segment in run.segments) else _NOT_WHOLE)
    num_turns = sum(map(len, whole_segments(run)))
    if bootstrap is None:
        return Cell.of(value, num_turns)
    resampled = resample_loops([run], bootstrap)
    num = len(resampled.strata)
    return Cell.of(
        value, num_turns, resampled.interval(num_conversations=num, confidence_level=bootstrap.confidence_level)
    )


def resample_loops(runs: Sequence[RunRecords], bootstrap: Bootstrap) -> Resampled:
    """Output TPS of each run in every resample, the same conversations drawn in all of them.

    The runs have the same turns in whole segments. Raises UndefinedMetric where one has no output TPS.
    """
    timed = [[turn for turns in whole_segments(run) for turn in turns] for run in runs]
    names = sorted({(turn.category, turn.question_id) for turn in timed[0]})
    seeds = sorted({turn.seed for turn in timed[0]})
    loops = [(_loop(turns, names, seeds), _output_tps(run)) for turns, run in zip(timed, runs, strict=True)]
    categories = [category for category, _ in names]
    return resample_output_tps(loops, categories, resamples=bootstrap.resamples, seed=bootstrap.seed)


def _output_tps(run: RunRecords) -> float:
    segments = whole_segments(run)
    return output_tps(*([(turn.sent_at_s, turn.arrivals) for turn in turns] for turns in segments))


def _loop(turns: Sequence[TurnRecord], names: Sequence[tuple[str, str]], seeds: Sequence[int]) -> Loop:
    """What the streams served: a task is a conversation under one seed, taken when its first turn was sent."""
    row_of, column_of = {name: row for row, name in enumerate(names)}, {seed: at for at, seed in enumerate(seeds)}
    tokens, busy = np.zeros((2, len(names), len(seeds)))
    order: dict[tuple[int, int], None] = {}
    for turn in sorted(turns, key=lambda turn: (turn.segment, turn.sent_at_s, turn.slot, turn.id)):
        task = row_of[turn.category, turn.question_id], column_of[turn.seed]
        order.setdefault(task)
        tokens[task] += turn.num_output_tokens
        busy[task] += busy_s([turn])
    return Loop(tokens, busy, np.array(list(order)), num_streams=len({turn.slot for turn in turns}))


def serving_scores(run: RunRecords, bootstrap: Bootstrap | None) -> Serving:
    """The distribution of each time over the turns of whole segments, or the reason why there is none."""
    num_whole = sum(segment.whole for segment in run.segments)
    segments = whole_segments(run)
    turns = [turn for segment in segments for turn in segment]
    conversations = by_conversation(turns)
    reason = "no turn has such a value" if turns else _NO_TURN if num_whole else _NOT_WHOLE

    def over(values_of: Callable[[TurnRecord], npt.ArrayLike]) -> Distribution:
        found = [_joined(map(values_of, members)) for members in conversations]
        return _distribution(found, conversations, reason, bootstrap)

    return Serving(
        output_tps=run_output_tps(run, bootstrap),
        steady_output_tps=_steady_output_tps(segments, reason, bootstrap),
        user_tps=over(lambda turn: _defined([user_tps(turn.arrivals)])),
        ttft_s=over(lambda turn: _defined([ttft_s(turn.sent_at_s, turn.arrivals)])),
        itl_s=over(lambda turn: itl_s(turn.arrivals)),
        tpot_s=over(lambda turn: _defined([tpot_s(turn.arrivals)])),
        e2e_s=over(lambda turn: _defined([e2e_s(turn.sent_at_s, turn.arrivals)])),
        step_gap_s=over(lambda turn: step_gap_s(turn.arrivals)),
        client_lateness=client_lateness(run),
        num_turns=len(turns),
        num_output_tokens=sum(turn.num_output_tokens for turn in turns),
        num_segments=len(run.segments),
        num_segments_used=num_whole,
    )


def client_lateness(run: RunRecords) -> Lateness | None:
    """How late our own event loop was: the highest of each over the whole segments; None where none of them says."""
    told = [segment.lateness for segment in run.segments if segment.whole and segment.lateness]
    if not told:
        return None
    return Lateness(*(max(getattr(each, name) for each in told) for name in Lateness.__dataclass_fields__))


def busy_tps(conversations: Sequence[Sequence[TurnRecord]], *, apart: bool, bootstrap: Bootstrap) -> Cell:
    """Output TPS of a category: output tokens / summed time from each request to its last token.

    It is `output_tps` with every turn a span of its own, so it is defined only for turns which no
    other turn overlaps (`apart`). Takes the turns of whole segments, by conversation.
    """
    if not any(conversations):
        return Cell.undefined(_NO_TURN)
    if not apart:
        return Cell.undefined(_OVERLAP)
    try:
        value = output_tps(*([(turn.sent_at_s, turn.arrivals)] for turns in conversations for turn in turns))
    except UndefinedMetric:
        return Cell.undefined("no token arrived after its request")
    num_turns = sum(map(len, conversations))
    return _with_interval(value, num_turns, conversations, *_tokens_and_busy_s(conversations), bootstrap)


def mean_user_tps(conversations: Sequence[Sequence[TurnRecord]], bootstrap: Bootstrap) -> Cell:
    """Mean user TPS over the turns that have one. Takes the turns of whole segments, by conversation."""
    rates = [_defined(user_tps(turn.arrivals) for turn in turns) for turns in conversations]
    num_turns = sum(map(len, rates))
    if not num_turns:
        return Cell.undefined("no turn has a second arrival" if any(conversations) else _NO_TURN)
    sums = [float(sum(values)) for values in rates]
    counts = [float(len(values)) for values in rates]
    return _with_interval(sum(sums) / num_turns, num_turns, conversations, sums, counts, bootstrap)


def _tokens_and_busy_s(conversations: Sequence[Sequence[TurnRecord]]) -> tuple[list[float], list[float]]:
    tokens = [float(sum(turn.num_output_tokens for turn in turns)) for turns in conversations]
    return tokens, [busy_s(turns) for turns in conversations]


def _steady_output_tps(segments: Sequence[Sequence[TurnRecord]], reason: str, bootstrap: Bootstrap | None) -> Cell:
    """While all streams are busy the rate is that of busy time, in proportion, and so is its interval."""
    value = steady_output_tps(*([(turn.slot, turn.sent_at_s, turn.arrivals) for turn in turns] for turns in segments))
    if value is None:
        short = f"all streams were busy together for less than {MIN_STEADY_S:g} s, or for fewer than two turns each"
        return Cell.undefined(short if segments else reason)
    conversations = by_conversation(turn for turns in segments for turn in turns)
    num_turns = sum(map(len, segments))
    return _with_interval(value, num_turns, conversations, *_tokens_and_busy_s(conversations), bootstrap)


def _with_interval(
    value: float,
    n: int,
    conversations: Sequence[Sequence[TurnRecord]],
    numerators: Sequence[float],
    denominators: Sequence[float],
    bootstrap: Bootstrap | None,
) -> Cell:
    """A value with the interval of Σ numerators / Σ denominators, in proportion where that is another ratio."""
    used = [row for row, denominator in enumerate(denominators) if denominator > 0]
    above, below = np.array(numerators)[used], np.array(denominators)[used]
    if bootstrap is None or not above.sum():
        return Cell.of(value, n)
    resampled = Resampled.of(
        above[:, None],
        below[:, None],
        [conversations[row][0].category for row in used],
        resamples=bootstrap.resamples,
        seed=bootstrap.seed,
    ).map(lambda ratios: ratios * (value * below.sum() / above.sum()))
    level = bootstrap.confidence_level
    return Cell.of(value, n, resampled.interval(num_conversations=len(used), confidence_level=level))


def _defined(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _joined(values: Iterable[npt.ArrayLike]) -> npt.NDArray[np.float64]:
    return np.concatenate([np.empty(0), *map(np.asarray, values)])


def _distribution(
    by_row: Sequence[npt.NDArray[np.float64]],
    conversations: Sequence[Sequence[TurnRecord]],
    reason: str,
    bootstrap: Bootstrap | None,
) -> Distribution:
    """Of the observations of each conversation together; the interval is that of their mean."""
    every = _joined(by_row)
    if not every.size:
        return Distribution(value=None, n=0, reason=reason)
    sums, nums = [float(values.sum()) for values in by_row], [float(values.size) for values in by_row]
    mean = _with_interval(float(every.mean()), every.size, conversations, sums, nums, bootstrap)
    return Distribution(value=mean.value, low=mean.low, high=mean.high, n=mean.n, **percentiles(every))
