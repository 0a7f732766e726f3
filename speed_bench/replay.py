"""Output TPS of a closed loop, had it served other conversations: what its interval comes from.

A run has one span, so there is nothing to draw it from. But a closed loop can be replayed: its streams
take one conversation after the other, each as long as it was busy, and the span is over when the last
stream is. Every resample puts another conversation of the same category in the place of each, and is
replayed. So the interval also holds what the end of a run depends on: which answers happen to be last
and long, while other streams idle. `benchmarks/coverage_speed.py` says how often it holds the truth.

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
    """What a closed loop served. Rows are conversations, columns the times that each was run (seeds)."""

    tokens: FloatArray
    busy_s: FloatArray
    """Time from its requests to their last tokens; 0 where it was not run."""
    order: npt.NDArray[np.intp]
    """(tasks, 2): row and column of what was taken from the queue, in that order."""
    num_streams: int


def resample_output_tps(
    loops: Sequence[tuple[Loop, float]], strata: Sequence[str], *, resamples: int, seed: int
) -> Resampled:
    """Output TPS of each loop, (resamples, loops), the same conversations drawn in all of them.

    Takes loops of the same rows with the output TPS that each really had, and the category of each row.
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
    left_out = np.empty((len(strata), len(loops)))
    for column, (loop, value) in enumerate(loops):
        as_it_was = np.arange(len(strata))[None]
        draws[:, column] *= value / _output_tps(loop, as_it_was, ())[0]
        tokens, busy_s = loop.tokens.sum(axis=1, keepdims=True), loop.busy_s.sum(axis=1, keepdims=True)
        smooth = value * busy_s.sum() / tokens.sum()
        left_out[:, column] = left_out_ratios(tokens, busy_s, strata)[:, 0] * smooth
    return Resampled(draws, left_out, strata)


def replayed_span_s(durations_s: FloatArray, num_streams: int) -> FloatArray:
    """How long so many streams take for a queue of tasks, each taken by the first stream that is free.

    Takes (replays, tasks), returns (replays,), in seconds.

    >>> replayed_span_s(np.array([[3.0, 1.0, 1.0, 4.0]]), 2).tolist()
    [6.0]
    """
    free_s = np.zeros((len(durations_s), num_streams))
    every = np.arange(len(durations_s))
    for task in range(durations_s.shape[1]):
        first = free_s.argmin(axis=1)
        free_s[every, first] += durations_s[:, task]
    return np.asarray(free_s.max(axis=1), dtype=np.float64)


def _output_tps(loop: Loop, drawn: npt.NDArray[np.intp], groups: Sequence[npt.NDArray[np.intp]]) -> FloatArray:
    """Of each row of `drawn`, which says for every conversation which one takes its place."""
    rows, columns = loop.order.T
    tokens, busy_s = (_placed(values, drawn, groups)[:, rows, columns] for values in (loop.tokens, loop.busy_s))
    span_s = replayed_span_s(busy_s, loop.num_streams)
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
