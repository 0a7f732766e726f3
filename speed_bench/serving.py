"""Serving: what a user and an operator see of speed, from the arrivals of tokens.

Arrivals are (time, tokens) of every read that brought tokens; times are seconds on one clock. An
arrival may hold several tokens: a decode step emits several, and reads merge steps. A read without
tokens is no arrival. A value that one turn cannot have, such as the pace of a one-token answer, is
None; a value over no turns at all raises UndefinedMetric.
"""

from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter

import numpy as np
import numpy.typing as npt

from speed_bench.errors import UndefinedMetric

Arrivals = Sequence[tuple[float, int]]
Span = tuple[float, float]
"""(start, end) in seconds."""
FloatArray = npt.NDArray[np.float64]

PERCENTILES = (50, 90, 95, 99)

MIN_STEADY_S = 10.0
"""A shorter steady span would be ruled by the steps that happen to fall in it."""

SLO_TERMS = ("ttft_s", "tpot_s", "e2e_s")


def output_tps(*segments: Iterable[tuple[float, Arrivals]]) -> float:
    """Output tokens of finished turns / (last token − first request start), in tokens per second.

    Takes the finished turns of a segment as (start of the request, arrivals); a request starts when it is
    written (closed loop) or scheduled (open loop). Several segments: their tokens over the sum of their
    spans, since the time between engine lifetimes is not serving.
    Raises UndefinedMetric without a token, or where no time passed.

    >>> output_tps([(0.0, [(0.5, 1), (1.0, 3)]), (0.5, [(2.0, 4)])])
    4.0
    """
    every = [list(segment) for segment in segments]
    num_tokens = sum(_num_tokens(arrivals) for turns in every for _, arrivals in turns)
    span_s = sum(map(_span_s, every))
    if not span_s > 0:
        raise UndefinedMetric("output TPS: no token arrived after its request")
    return num_tokens / span_s


def closed_loop_span(
    turns: Iterable[tuple[int, float, Arrivals]], *, num_streams: int | None = None, ended_at_s: float | None = None
) -> Span | None:
    """The steady span of a closed loop, in which all its streams are busy: (start, end) in seconds.

    From the first token of the last of the C initial streams until the first stream finds no next turn, or
    until `ended_at_s`, from which on none begins. Takes the finished turns of a segment as (stream, start of
    the request, arrivals); C is `num_streams`, or else the number of streams that finished a turn. None where
    it is shorter than 10 s, holds the end of fewer than 2C turns, or a stream brought no token.

    >>> turns = [(0, 0.0, [(2.0, 1), (9.0, 8)]), (1, 0.0, [(1.0, 1), (8.0, 8)])]
    >>> closed_loop_span(turns + [(0, 9.0, [(20.0, 9)]), (1, 8.0, [(21.0, 9)]), (1, 21.0, [(22.0, 1)])])
    >>> closed_loop_span(turns + [(0, 9.0, [(20.0, 9)]), (1, 8.0, [(19.0, 9)]), (1, 19.0, [(22.0, 1)])])
    (2.0, 20.0)
    """
    streams: dict[int, list[tuple[float, Arrivals]]] = {}
    for stream, start_s, arrivals in turns:
        streams.setdefault(stream, []).append((start_s, arrivals))
    ordered = [sorted(members, key=itemgetter(0)) for members in streams.values()]
    firsts = [_first(members[0][1]) for members in ordered]
    lasts = [_first(reversed(members[-1][1])) for members in ordered]
    if not ordered or None in firsts or None in lasts or len(ordered) < (num_streams or 1):
        return None
    start = max(first[0] for first in firsts if first)
    end = min(last[0] for last in lasts if last)
    end = end if ended_at_s is None else min(end, ended_at_s)
    ends = (_first(reversed(arrivals)) for members in ordered for _, arrivals in members)
    num_ended = sum(start < last[0] <= end for last in ends if last)
    return (start, end) if end - start >= MIN_STEADY_S and num_ended >= 2 * len(ordered) else None


def open_loop_span(
    turns: Iterable[tuple[float, Arrivals]], *, warmed_up_at_s: float = 0.0, ended_at_s: float | None = None
) -> Span | None:
    """The steady span of an open loop: after warm-up until the last scheduled arrival, (start, end) in seconds.

    Takes the finished turns of a segment as (scheduled time, arrivals); `ended_at_s` is the last scheduled
    arrival, or else the last scheduled time of these turns. None where it is shorter than 10 s, or holds the
    end of fewer than twice as many turns as were under way in it on average, as in a closed loop.

    >>> turns = [(float(due), [(due + 0.5, 1), (due + 1.5, 8)]) for due in range(21)]
    >>> open_loop_span(turns, warmed_up_at_s=5.0)
    (5.0, 20.0)
    >>> open_loop_span(turns, warmed_up_at_s=10.5)
    """
    spans = [(due_s, last[0]) for due_s, arrivals in turns if (last := _first(reversed(arrivals)))]
    if not spans:
        return None
    start, end = warmed_up_at_s, max(due_s for due_s, _ in spans) if ended_at_s is None else ended_at_s
    under_way_s = sum(max(0.0, min(last_s, end) - max(due_s, start)) for due_s, last_s in spans)
    num_ended = sum(start < last_s <= end for _, last_s in spans)
    is_long = end - start >= MIN_STEADY_S and num_ended * (end - start) >= 2 * under_way_s
    return (start, end) if is_long and num_ended else None


def steady_output_tps(*segments: tuple[Span | None, Iterable[Arrivals]]) -> float | None:
    """Output TPS in the steady span: tokens that arrived after its start, until its end, / its length.

    In tokens per second, without the filling and the emptying of the load that `output_tps` contains. Takes
    the span of each segment (`closed_loop_span`, `open_loop_span`) with the arrivals of its finished turns.
    Several segments: the tokens of their spans over the sum of them. None where no segment has one.

    >>> steady_output_tps(((2.0, 12.0), [[(1.0, 1), (2.0, 4), (7.0, 4)], [(12.0, 6), (13.0, 1)]]), (None, []))
    1.0
    """
    num_tokens, steady_s = 0, 0.0
    for span, turns in segments:
        if span:
            start, end = span
            num_tokens += sum(num for arrivals in turns for at, num in arrivals if start < at <= end)
            steady_s += end - start
    return num_tokens / steady_s if steady_s else None


def meets(slo: Mapping[str, float], start_s: float, arrivals: Arrivals) -> bool:
    """Whether a request kept every limit of `slo`: at most so many seconds of TTFT, TPOT and end to end.

    A request without a token kept none. One with a single arrival has no TPOT, so it broke no limit on it.

    >>> meets({"ttft_s": 0.5, "tpot_s": 0.05}, 0.0, [(0.4, 1), (0.6, 2)])
    False
    """
    times = {name: slo_time_s(name, start_s, arrivals) for name in ("ttft_s", *slo)}
    values = ((times[name], limit) for name, limit in slo.items())
    return times["ttft_s"] is not None and all(value is None or value <= limit for value, limit in values)


def slo_time_s(term: str, start_s: float, arrivals: Arrivals) -> float | None:
    """What a request took of one of `SLO_TERMS`, in seconds; None where it has no such time.

    >>> slo_time_s("tpot_s", 0.0, [(0.5, 1), (0.75, 2)])
    0.125
    """
    if term == "tpot_s":
        return tpot_s(arrivals)
    return {"ttft_s": ttft_s, "e2e_s": e2e_s}[term](start_s, arrivals)


def goodput_rps(*segments: Iterable[tuple[float, Arrivals]], slo: Mapping[str, float]) -> float:
    """Requests that kept the SLO / (last token − first request start), in requests per second.

    The span is that of `output_tps`, over all finished requests. Raises UndefinedMetric where no time passed.

    >>> goodput_rps([(0.0, [(0.5, 1), (1.0, 3)]), (0.0, [(2.0, 4)])], slo={"ttft_s": 1.0})
    0.5
    """
    every = [list(segment) for segment in segments]
    span_s = sum(map(_span_s, every))
    if not span_s > 0:
        raise UndefinedMetric("goodput: no token arrived after its request")
    return sum(meets(slo, start_s, arrivals) for turns in every for start_s, arrivals in turns) / span_s


def ttft_s(start_s: float, arrivals: Arrivals) -> float | None:
    """First content token − write of the request (closed loop) or − scheduled time (open loop).

    In seconds. In an open loop the time that a request waits at the client is in it. None where no token arrived.

    >>> ttft_s(1.0, [(1.25, 1), (1.5, 4)])
    0.25
    """
    first = _first(arrivals)
    return first[0] - start_s if first else None


def e2e_s(start_s: float, arrivals: Arrivals) -> float | None:
    """Last token − start of the request, in seconds: how long the whole answer took. None without a token.

    >>> e2e_s(1.0, [(1.25, 1), (1.5, 4)])
    0.5
    """
    last = _first(reversed(arrivals))
    return last[0] - start_s if last else None


def step_gap_s(arrivals: Arrivals) -> FloatArray:
    """Gap between arrivals, in seconds: one value per arrival after the first.

    >>> step_gap_s([(1.0, 1), (1.5, 4), (1.75, 1)]).tolist()
    [0.5, 0.25]
    """
    return np.diff([at for at, _ in _with_tokens(arrivals)])


def itl_s(arrivals: Arrivals) -> FloatArray:
    """Inter-token latency: gap ÷ tokens of the arrival, one value per token, in seconds.

    The tokens of the first arrival have no gap before them and no value. Counting an arrival of
    four tokens once would let a few slow plain steps look as common as the tokens of fast steps.

    >>> itl_s([(1.0, 1), (1.5, 2), (1.75, 1)]).tolist()
    [0.25, 0.25, 0.25]
    """
    nums = [num for _, num in _with_tokens(arrivals)[1:]]
    return np.repeat(step_gap_s(arrivals) / nums, nums) if nums else np.empty(0)


def decode_span(arrivals: Arrivals) -> tuple[float, int]:
    """(last − first arrival in seconds, tokens after the first arrival): what decoding took, and gave.

    >>> decode_span([(1.0, 1), (1.5, 2), (1.75, 1)])
    (0.75, 3)
    """
    first, last = _first(arrivals), _first(reversed(arrivals))
    return (last[0] - first[0], _num_tokens(arrivals) - first[1]) if first and last else (0.0, 0)


def tpot_s(arrivals: Arrivals) -> float | None:
    """Time per output token: (last − first) / tokens after the first arrival, in seconds.

    Time to the first token is not in it. None with one arrival.

    >>> tpot_s([(1.0, 1), (1.5, 2), (1.75, 1)])
    0.25
    """
    span_s, num_tokens = decode_span(arrivals)
    return span_s / num_tokens if num_tokens else None


def tpot_total_s(turns: Iterable[Arrivals]) -> float:
    """Total decode time per token of several turns: Σ (last − first) / Σ tokens after the first arrival.

    In seconds; a long turn weighs more than a short one. Raises UndefinedMetric where no turn has a
    second arrival.

    >>> tpot_total_s([[(0.0, 1), (1.0, 1)], [(0.0, 1), (2.0, 5)]])
    0.5
    """
    spans = [decode_span(arrivals) for arrivals in turns]
    num_tokens = sum(num for _, num in spans)
    if not num_tokens:
        raise UndefinedMetric("total TPOT: no turn has a second arrival")
    return sum(span_s for span_s, _ in spans) / num_tokens


def user_tps(arrivals: Arrivals) -> float | None:
    """Tokens after the first arrival / (last − first), in tokens per second; None with one arrival.

    Also None where all arrivals have the same time: the clock did not see the pace.

    >>> user_tps([(1.0, 1), (1.5, 2), (1.75, 1)])
    4.0
    """
    span_s, num_tokens = decode_span(arrivals)
    return num_tokens / span_s if span_s > 0 else None


def percentiles(values: npt.ArrayLike) -> dict[str, float]:
    """p50, p90, p95 and p99 as numbers, in the unit of the values, linear between neighbours.

    Raises UndefinedMetric without a value.

    >>> percentiles([1.0, 2.0, 3.0, 4.0])["p50"]
    2.5
    """
    array = np.asarray(values, dtype=np.float64)
    if not array.size:
        raise UndefinedMetric("percentiles: no values")
    return {
        f"p{rank}": float(value) for rank, value in zip(PERCENTILES, np.percentile(array, PERCENTILES), strict=True)
    }


def _first(arrivals: Iterable[tuple[float, int]]) -> tuple[float, int] | None:
    return next((arrival for arrival in arrivals if arrival[1] > 0), None)


def _span_s(turns: Sequence[tuple[float, Arrivals]]) -> float:
    """Last token − first request start of the turns of one segment; 0 without a token."""
    ends = [last[0] for last in (_first(reversed(arrivals)) for _, arrivals in turns) if last]
    return max(ends) - min(start_s for start_s, _ in turns) if ends else 0.0


def _num_tokens(arrivals: Arrivals) -> int:
    return sum(map(itemgetter(1), arrivals))


def _with_tokens(arrivals: Arrivals) -> Arrivals:
    return [arrival for arrival in arrivals if arrival[1] > 0]
