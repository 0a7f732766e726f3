"""Acceptance of speculative decoding as an `evaluate` metric; `speed_bench.metrics.acceptance` defines the numbers."""

import datasets
import evaluate

from speed_bench.metrics import acceptance
from speed_bench.metrics.strict import Strict

_DESCRIPTION = """\
Acceptance of speculative decoding: how many tokens a decode step emits and how often a drafted token is right.
Acceptance length under four averages, acceptance rates by position, the histogram of step lengths, each category by
itself, with intervals.
"""

_INPUTS = """
Args:
    predictions (`list` of `list` of `int`): for each turn the tokens that each of its decode steps emitted, without
        what prefill emitted. A turn without a decode step is an empty list.
    drafted (`list` of `list` of `int`, optional): tokens drafted in each step, same shape; 0 for a plain step.
    accepted (`list` of `list` of `int`, optional): drafted tokens that each step accepted, same shape, before any cut.
    draft_length (`int`, optional): tokens drafted in every step, where `drafted` is not at hand; with it, the most.
    categories (`list` of `str`, optional): the category of each turn.
    conversations (`list` of `str` or `int`, optional): the conversation of each turn; by default each is its own.
    average (`str`): what `acceptance_length` is: `category` (default), `conversation`, `pooled` or `specdec_bench`.
    last_step (`str`, or `list` of `str`): what is known of the last step of a turn: `complete` (default), `cut` or
        `unknown`.
    confidence_level (`float` or `None`): of the intervals, 0.95 by default; None draws none.

Returns:
    `dict` of `acceptance_length`, `acceptance_length_pooled`, `acceptance_length_drafted`,
    `acceptance_length_uncensored`, `draft_acceptance_rate`, `joint_acceptance_rate`, `conditional_acceptance_rate`,
    `histogram`, `confidence_interval`, `per_category`, `average`, `num_conversations`, `num_turns`,
    `num_turns_without_steps`, `num_steps`. What the input cannot give is None.

Examples:
    >>> import evaluate
    >>> metric = evaluate.load("speed_bench_acceptance")
    >>> found = metric.compute(predictions=[[4, 3], [1, 4, 1]], draft_length=3, categories=["math", "qa"])
    >>> found["acceptance_length"], found["acceptance_length_pooled"]
    (2.75, 2.6)
    >>> found["histogram"]
    {1: 2, 2: 0, 3: 1, 4: 2}
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


class SpeedBenchAcceptance(Strict, evaluate.Metric):
    """The metric. Its input is checked before `evaluate` casts it.

    >>> SpeedBenchAcceptance().compute(predictions=[[4, 3], [1, 4, 1]])["acceptance_length_pooled"]
    2.6
    """

    check = staticmethod(acceptance.check)
    function = staticmethod(acceptance.compute)

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": datasets.Sequence(datasets.Value("int32"))}),
        )

    def _compute(self, predictions: list[list[int]], **options: object) -> dict[str, object]:
        return acceptance.compute(predictions, **options)
