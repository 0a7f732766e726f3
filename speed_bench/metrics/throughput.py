"""Speed from the arrivals of tokens: what `speed_bench_throughput` computes."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from speed_bench.errors import MetricInputError, UndefinedMetric
from speed_bench.metrics import inputs
from speed_bench.metrics.records import intervals_of, run_of, turn_of
from speed_bench.scores import Distribution
from speed_bench.serving import PERCENTILES, SLO_TERMS, goodput_rps
from speed_bench.serving_scores import serving_scores
from speed_bench.types import TurnRecord

Arrivals = Sequence[Sequence[Sequence[float]]]

_LOOP = ("output_tps", "steady_output_tps")
_DISTRIBUTIONS = ("user_tps", "ttft_s", "itl_s", "tpot_s", "e2e_s", "step_gap_s")


def check(predictions: object) -> list[list[tuple[float, int]]]:
    """Arrivals [time_s, num_tokens], one list per request. Raises MetricInputError for anything else."""
    return inputs.arrivals("predictions", predictions)


def pairs(stored: Arrivals) -> list[list[tuple[float, int]]]:
    """Arrivals that were checked and then stored as floats: the numbers of tokens whole again.

    >>> pairs([[[0.5, 4.0]]])
    [[(0.5, 4)]]
    """
    return [[(at, int(num)) for at, num in request] for request in stored]


def compute(
    predictions: Sequence[Sequence[tuple[float, int]]],
    *,
    start_s: Sequence[float],
    conversations: Sequence[Hashable] | None = None,
    categories: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    slots: Sequence[int] | None = None,
    num_gpus: int | None = None,
    slo: Mapping[str, float] | None = None,
    confidence_level: float | None = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Throughput and latencies of the finished requests of one span of load, with intervals of the means.

    `predictions` holds for every request its arrivals [time_s, num_tokens]: a read that brought tokens;
    `start_s` when it was written (closed loop) or was due (open loop), on the same clock, in seconds.
    `slots` is the number of the stream that sent each request, in a closed loop; without it there is no
    steady state and no interval of `output_tps`, which the load then rules. `num_gpus` divides the
    throughputs, `slo` sets limits in seconds on any of `ttft_s`, `tpot_s`, `e2e_s`. `conversations` are
    the units that the intervals are drawn over (default: each request), within `categories`; `seeds` tells
    apart the times that a conversation was run.

    Returns `output_tps`, `steady_output_tps`, both `…_per_gpu`, `goodput_rps` (None without `slo`), and for
    `user_tps`, `ttft_s`, `itl_s`, `tpot_s`, `e2e_s`, `step_gap_s` a dict of `mean`, `p50`, `p90`, `p95`,
    `p99`, `n`; `confidence_interval` of the means; counts. Definitions are in `speed_bench.serving`.
    Raises MetricInputError for a value that cannot be, and UndefinedMetric where no token arrived.

    >>> found = compute([[(0.5, 1), (1.0, 3)], [(2.0, 4)]], start_s=[0.0, 0.5], num_gpus=2, slo={"ttft_s": 1})
    >>> found["output_tps"], found["output_tps_per_gpu"], found["goodput_rps"]
    (4.0, 2.0, 0.5)
    >>> found["ttft_s"]["p50"]
    1.0
    """
    arrivals = check(predictions)
    num = len(arrivals)
    starts = inputs.starts("start_s", start_s, arrivals)
    units = inputs.units(conversations, categories, num)
    streams = [0] * num if slots is None else inputs.in_streams("slots", slots, starts, arrivals)
    runs = [0] * num if seeds is None else inputs.whole_per_turn("seeds", seeds, num, "seeds")
    gpus = None if num_gpus is None else inputs.whole("num_gpus", num_gpus, 1, "numbers of GPUs")
    limits = None if slo is None else _limits(slo)
    bootstrap = inputs.bootstrap(confidence_level, resamples, seed)
    turns = [
        turn_of(request, name, category=category, start_s=start_s, arrivals=row, slot=slot, seed=run)
        for request, (row, (name, category), start_s, slot, run) in enumerate(
            zip(arrivals, units, starts, streams, runs, strict=True)
        )
    ]
    if not any(arrivals):
        raise UndefinedMetric(f"throughput: no token arrived in {num} requests")
    serving = serving_scores(run_of(turns), bootstrap)
    steady = None if slots is None else serving.steady_output_tps.value
    cells = {name: getattr(serving, name) for name in _DISTRIBUTIONS}
    if slots is not None:
        cells |= {"output_tps": serving.output_tps, "steady_output_tps": serving.steady_output_tps}
    return {
        "output_tps": serving.output_tps.value,
        "output_tps_per_gpu": _per_gpu(serving.output_tps.value, gpus),
        "steady_output_tps": steady,
        "steady_output_tps_per_gpu": _per_gpu(steady, gpus),
        "goodput_rps": _goodput_rps(turns, limits),
        **{name: _distribution(getattr(serving, name)) for name in _DISTRIBUTIONS},
        "confidence_interval": None if bootstrap is None else dict.fromkeys(_LOOP) | intervals_of(cells),
        "num_requests": num,
        "num_requests_without_tokens": sum(not row for row in arrivals),
        "num_output_tokens": serving.num_output_tokens,
    }


def _limits(slo: object) -> dict[str, float]:
    """Limits in seconds by name. Raises MetricInputError for an unknown name or a limit that is no time."""
    if not isinstance(slo, Mapping) or not slo:
        raise MetricInputError(f"slo is a dict with limits in seconds on any of {', '.join(SLO_TERMS)}, not {slo!r}")
    for name, limit in slo.items():
        inputs.choice("slo term", name, SLO_TERMS)
        is_number = isinstance(limit, (int, float, np.integer, np.floating)) and not isinstance(limit, bool)
        if not is_number or not 0 < limit < float("inf"):
            raise MetricInputError(f"slo['{name}'] is {limit!r}: a limit is a number of seconds above 0")
    return {name: float(limit) for name, limit in slo.items()}


def _goodput_rps(turns: Sequence[TurnRecord], limits: Mapping[str, float] | None) -> float | None:
    try:
        return None if limits is None else goodput_rps([(turn.sent_at_s, turn.arrivals) for turn in turns], slo=limits)
    except UndefinedMetric:
        return None


def _per_gpu(tps: float | None, num_gpus: int | None) -> float | None:
    return None if tps is None or num_gpus is None else tps / num_gpus


def _distribution(found: Distribution) -> dict[str, float | int | None]:
    return {"mean": found.value, **{f"p{rank}": getattr(found, f"p{rank}") for rank in PERCENTILES}, "n": found.n}
