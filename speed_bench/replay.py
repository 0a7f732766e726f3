"""Output TPS of a load, had it served other conversations: what its interval comes from.

A run has one span, so there is nothing to draw it from. But its load can be replayed: its streams
take one conversation after the other, each as long as it was busy, and the span is over when the last
stream is. Every resample puts another conversation of the same category in the place of each, and is
replayed; what it serves per second counts in proportion to the replay of what really was. So the
interval also holds what the end of a run depends on: which answers happen to be last and long, while
other streams idle. `benchmarks/coverage_speed.py` says how often it holds the truth.
In an open loop no conversation begins before it is due, so there the schedule rules the span as long as
there are streams enough.

What it cannot know: that a conversation would have taken another time beside other ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from speed_bench.statistics import FloatArray, Resampled, left_out_ratios, strata_rows

_BLOCK = 500
"""Resamples replayed together: bounds the memory."""


@dataclass(frozen=True, slots=True)
class Loop:
    """What a load served. Rows are conversations, columns the times that each was run (seeds, repeats)."""

    tokens: FloatArray
    """Or whatever else is counted per second, such as requests that kept an SLO."""
    busy_s: FloatArray
    """How long it held a stream; 0 where it was not run."""
    order: npt.NDArray[np.intp]
    """(tasks, 2): row and column of what was taken from the queue, in that order."""
    num_streams: int
    due_s: FloatArray | None = None
    """(tasks,): when each was due, in an open loop, from 0 on; None: when a stream was free."""


def resample_output_tps(
    loops: Sequence[tuple[Loop, float]], strata: Sequence[str], *, resamples: int, seed: int
) -> Resampled:
    """What each loop served per second, (resamples, loops), the same conversations drawn in all of them.

    Takes loops of the same rows with the rate that each really had, above 0, and the category of each row.
    Within a category of n conversations, n are drawn, and differ from its mean by √(n / (n − 1)) as
    much, which keeps the variance right for small n.
    """
    rng = np.random.default_rng(seed)
    groups = strata_rows(strata)
    draws = np.empty((resamples, len(loops)))
    for start in range(0, resamples, _BLOCK):
        block = slice(start, min(start + _BLOCK, resamples))
        drawn = np.empty((block.stop - start, len(strata)), dtype=np.intp)
        for rows in groups:
            drawn[:, rows] = rows[rng.integers(len(rows), size=(len(drawn), len(rows)))]
        for column, (loop, _) in enumerate(loops):
            draws[block, column] = _output_tps(loop, drawn, groups)
    as_they_were = np.array([_output_tps(loop, np.arange(len(strata))[None], ())[0] for loop, _ in loops])
    values = np.array([value for _, value in loops])
    draws *= values / _references(draws, as_they_were)
    left_out = np.empty((len(strata), len(loops)))
    for column, (loop, value) in enumerate(loops):
        tokens, weights = loop.tokens.sum(axis=1, keepdims=True), _weights(loop)
        smooth = value * weights.sum() / tokens.sum()
        left_out[:, column] = left_out_ratios(tokens, weights, strata)[:, 0] * smooth
    return Resampled(draws, left_out, strata)


def _references(draws: FloatArray, as_they_were: FloatArray) -> FloatArray:
    """What the replays of each loop are in proportion to: that of the loop as it was, if it could be one of them.

    If it could not, times belong to their places in the queue: where all answers are of one length, streams
    go in step, and any other order breaks it. Then the replays lie around what was measured.
    """
    low, high = np.nanquantile(draws, [0.025, 0.975], axis=0)
    possible = bool(np.all((low <= as_they_were) & (as_they_were <= high)))
    return as_they_were if possible else np.nanmean(draws, axis=0)


def replayed_span_s(durations_s: FloatArray, num_streams: int, due_s: FloatArray | None = None) -> FloatArray:
    """How long so many streams take for a queue of tasks, each taken by the first stream that is free.

    Takes (replays, tasks) and, in an open loop, when each task is due (tasks,). Returns (replays,), in seconds.

    >>> replayed_span_s(np.array([[3.0, 1.0, 1.0, 4.0]]), 2).tolist()
    [6.0]
    >>> replayed_span_s(np.array([[3.0, 1.0, 1.0, 4.0]]), 2, np.array([0.0, 0.0, 0.0, 9.0])).tolist()
    [13.0]
    """
    free_s = np.zeros((len(durations_s), num_streams))
    every = np.arange(len(durations_s))
    for task in range(durations_s.shape[1]):
        first = free_s.argmin(axis=1)
        begins_s = free_s[every, first]
        free_s[every, first] = (begins_s if due_s is None else np.maximum(begins_s, due_s[task])) + durations_s[:, task]
    return np.asarray(free_s.max(axis=1), dtype=np.float64)


def _weights(loop: Loop) -> FloatArray:
    """What a conversation takes of the span, (conversations, 1): time of its stream, or one place in the schedule."""
    taken = loop.busy_s if loop.due_s is None else loop.busy_s > 0
    return np.asarray(taken.sum(axis=1, keepdims=True), dtype=np.float64)


def _output_tps(loop: Loop, drawn: npt.NDArray[np.intp], groups: Sequence[npt.NDArray[np.intp]]) -> FloatArray:
    """Of each row of `drawn`, which says for every conversation which one takes its place."""
    rows, columns = loop.order.T
    tokens, busy_s = (_placed(values, drawn, groups)[:, rows, columns] for values in (loop.tokens, loop.busy_s))
    span_s = replayed_span_s(busy_s, loop.num_streams, loop.due_s)
    tps: FloatArray = np.divide(tokens.sum(axis=1), span_s, out=np.full_like(span_s, np.nan), where=span_s > 0)
    return tps


def _placed(values: FloatArray, drawn: npt.NDArray[np.intp], groups: Sequence[npt.NDArray[np.intp]]) -> FloatArray:
    """The values of the conversations drawn, (draws, conversations, runs), spread within each group."""
    placed = values[drawn]
    for rows in groups:
        mean, num = values[rows].mean(axis=0), len(rows)
        further = np.sqrt(num / max(num - 1, 1))
        placed[:, rows] = np.maximum(mean + (placed[:, rows] - mean) * further, 0.0)
    return placed
