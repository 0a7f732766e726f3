"""Throughput and latency as an `evaluate` metric; `speed_bench.metrics.throughput` defines the numbers."""

import datasets
import evaluate

from speed_bench.metrics import throughput
from speed_bench.metrics.strict import Strict

_DESCRIPTION = """\
Speed of a language model server from the arrivals of tokens: output tokens per second of the whole load and of its
steady part, goodput under limits, tokens per second that one user sees, time to first token, inter-token latency, time
per output token, with percentiles and intervals.
"""

_INPUTS = """
Args:
    predictions (`list` of `list` of `[float, int]`): for each finished request its arrivals `[time_s, num_tokens]`:
        the time of a read that brought tokens, in seconds, and how many it brought.
    start_s (`list` of `float`): when each request was written (closed loop) or was due (open loop), on the same clock.
    conversations (`list` of `str` or `int`, optional): the conversation of each request, the unit of the intervals;
        by default each request is its own.
    categories (`list` of `str`, optional): the category of each request; intervals are drawn within them.
    seeds (`list` of `int`, optional): which run of its conversation each request is of, if there were several.
    slots (`list` of `int`, optional): the stream of a closed loop that sent each request; without it there is no
        steady state and no interval of `output_tps`.
    num_gpus (`int`, optional): what the throughputs per GPU are divided by.
    slo (`dict`, optional): limits in seconds on any of `ttft_s`, `tpot_s`, `e2e_s`, for the goodput.
    confidence_level (`float` or `None`): of the intervals, 0.95 by default; None draws none.

Returns:
    `dict` of `output_tps`, `output_tps_per_gpu`, `steady_output_tps`, `steady_output_tps_per_gpu`, `goodput_rps`,
    `user_tps`, `ttft_s`, `itl_s`, `tpot_s`, `e2e_s`, `step_gap_s` (each a dict of `mean`, `p50`, `p90`, `p95`, `p99`,
    `n`), `confidence_interval`, `num_requests`, `num_requests_without_tokens`, `num_output_tokens`. What the input
    cannot give is None.

Examples:
    >>> import evaluate
    >>> metric = evaluate.load("speed_bench_throughput")
    >>> arrivals = [[[0.5, 1], [1.0, 3]], [[2.0, 4]]]
    >>> found = metric.compute(predictions=arrivals, start_s=[0.0, 0.5], slo={"ttft_s": 1.0})
    >>> found["output_tps"], found["goodput_rps"]
    (4.0, 0.5)
    >>> found["ttft_s"]["mean"], found["user_tps"]["n"]
    (1.0, 1)
"""

_CITATION = """\
@article{abramovich2026speedbench,
  title = {{SPEED-Bench}: A Unified and Diverse Benchmark for Speculative Decoding},
  author = {Abramovich, Talor and Ashkenazi, Maor and Putterman, Izzy and Chislett, Benjamin and Mitra, Tiyasa and
    Darvish Rouhani, Bita and Zilberstein, Ran and Geifman, Yonatan},
  journal = {arXiv preprint arXiv:2604.09557},
  year = {2026}
}
"""


class SpeedBenchThroughput(Strict, evaluate.Metric):
    """The metric. Its input is checked before `evaluate` casts it.

    >>> SpeedBenchThroughput().compute(predictions=[[[0.5, 1], [1.0, 3]]], start_s=[0.0])["output_tps"]
    4.0
    """

    check = staticmethod(throughput.check)
    function = staticmethod(throughput.compute)

    def _info(self) -> evaluate.MetricInfo:
        arrival = datasets.Sequence(datasets.Value("float64"))
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": datasets.Sequence(arrival)}),
        )

    def _compute(self, predictions: list[list[list[float]]], **options: object) -> dict[str, object]:
        return throughput.compute(throughput.pairs(predictions), **options)
