"""Two runs compared as an `evaluate` comparison; `speed_bench.metrics.speedup` defines the numbers."""

import datasets
import evaluate

from speed_bench.metrics import speedup
from speed_bench.metrics.strict import Strict

_DESCRIPTION = """\
Two runs of the same rows: how much faster the first is in output tokens per second and in decode time per token, how
their acceptance differs, and whether they gave the same tokens, with paired intervals. Runs of other rows, another
sampling or another load are refused.
"""

_INPUTS = """
Args:
    predictions1 (`list` of `list` of `int`): output token ids of each turn of the run. None is an id that the engine
        did not name.
    predictions2 (`list` of `list` of `int`): those of the run it is compared with, such as the baseline.
    run1 (`dict`): describes the turns of the run, in the order of `predictions1`: `rows` (which turn it is) and
        `settings` (`temperature`, `max_tokens`, `concurrency` or `request_rate`, and what else must be equal); where
        known, `arrivals` (`[time_s, num_tokens]`) with `start_s`, `slots` (the stream of a closed loop that sent each
        turn), `seeds` (which run of its conversation), `steps` (tokens emitted per decode step, prefill excluded) and
        `prompts` (what identifies the input of the turn, such as its sha256).
    run2 (`dict`): the same of the other run, in the order of `predictions2`.
    conversations (`list` of `str` or `int`, optional): the conversation of each turn of run 1, the unit of the
        intervals; by default each turn is its own.
    categories (`list` of `str`, optional): the category of each turn of run 1.
    confidence_level (`float` or `None`): of the intervals, 0.95 by default; None draws none.

Returns:
    `dict` of `speedup_output_tps`, `speedup_tpot`, `acceptance_length_difference`, `p_value`, `identical_share`,
    `common_prefix_tokens`, `paired_share`, `confidence_interval`, `num_conversations`, `num_turns`. What the input
    cannot give is None.

Examples:
    >>> import evaluate
    >>> comparison = evaluate.load("speed_bench_speedup")
    >>> both = {"rows": ["a/0"], "settings": {"temperature": 0, "max_tokens": 8, "concurrency": 1}, "start_s": [0.0]}
    >>> found = comparison.compute(
    ...     predictions1=[[5, 6, 7]],
    ...     predictions2=[[5, 6, 7]],
    ...     run1={**both, "arrivals": [[[1.0, 1], [1.5, 2]]]},
    ...     run2={**both, "arrivals": [[[1.0, 1], [2.0, 1], [3.0, 1]]]},
    ... )
    >>> found["speedup_output_tps"], found["speedup_tpot"], found["identical_share"]
    (2.0, 4.0, 1.0)
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


class SpeedBenchSpeedup(Strict, evaluate.Comparison):
    """The comparison. Its input is checked before `evaluate` casts it.

    >>> run = {"rows": ["a/0"], "settings": {"temperature": 0, "max_tokens": 8, "concurrency": 1}}
    >>> SpeedBenchSpeedup().compute(predictions1=[[5, 6]], predictions2=[[5, 7]], run1=run, run2=run)["identical_share"]
    0.0
    """

    check = staticmethod(speedup.check)
    function = staticmethod(speedup.compute)

    def _info(self) -> evaluate.ComparisonInfo:
        ids = datasets.Sequence(datasets.Value("int32"))
        return evaluate.ComparisonInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions1": ids, "predictions2": ids}),
        )

    def _compute(
        self, predictions1: list[list[int | None]], predictions2: list[list[int | None]], **options: object
    ) -> dict[str, object]:
        return speedup.compute(predictions1, predictions2, **options)
