"""Serving: what a user and an operator see of speed, from the arrivals of tokens.

Arrivals are (time, tokens) of every read that brought tokens; times are seconds on one clock. An
arrival may hold several tokens: a decode step emits several, and reads merge steps. A read without
tokens is no arrival. A value that one turn cannot have, such as the pace of a one-token answer, is
None; a value over no turns at all raises UndefinedMetric.
"""

from collections.abc import Iterable, Sequence
from operator import itemgetter

import numpy as np
import numpy.typing as npt

from speed_bench.errors import UndefinedMetric

Arrivals = Sequence[tuple[float, int]]
FloatArray = npt.NDArray[np.float64]

PERCENTILES = (50, 90, 95, 99)


def output_tps(*segments: Iterable[tuple[float, Arrivals]]) -> float:
    """Output tokens of finished turns / (last token − first request start), in tokens per second.

    Takes the finished turns of a segment as (start of the request, arrivals). Several segments:
    their tokens over the sum of their spans, since the time between engine lifetimes is not serving.
    Raises UndefinedMetric without a token, or where no time passed.

    >>> output_tps([(0.0, [(0.5, 1), (1.0, 3)]), (0.5, [(2.0, 4)])])
    4.0
    """
    num_tokens, span_s = 0, 0.0
    for segment in segments:
        turns = list(segment)
        ends = [last[0] for last in (_first(reversed(arrivals)) for _, arrivals in turns) if last]
        if ends:
            num_tokens += sum(_num_tokens(arrivals) for _, arrivals in turns)
            span_s += max(ends) - min(start_s for start_s, _ in turns)
    if not span_s > 0:
        raise UndefinedMetric("output TPS: no token arrived after its request")
    return num_tokens / span_s


def ttft_s(start_s: float, arrivals: Arrivals) -> float | None:
    """First content token − write of the request (closed loop) or − scheduled time (open loop).

    In seconds. None where no token arrived.

    >>> ttft_s(1.0, [(1.25, 1), (1.5, 4)])
    0.25
    """
    first = _first(arrivals)
    return first[0] - start_s if first else None


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


def _num_tokens(arrivals: Arrivals) -> int:
    return sum(map(itemgetter(1), arrivals))


def _with_tokens(arrivals: Arrivals) -> Arrivals:
    return [arrival for arrival in arrivals if arrival[1] > 0]
