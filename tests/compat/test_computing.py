"""What the modules compute is what the functions of the package compute, and what they are given is not cast."""

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compat.examples import FUNCTIONS, SMALL, TWO_ROWS
from compat.surroundings import NAMES

from speed_bench.errors import MetricInputError, UndefinedMetric
from speed_bench.metrics import run_folder

RUN = Path(__file__).parent.parent / "recordings" / "run"
RANKS = ("p50", "p90", "p95", "p99", "n")
RECORDED = {
    "speed_bench_acceptance": run_folder.acceptance_inputs,
    "speed_bench_throughput": run_folder.throughput_inputs,
    "speed_bench_speedup": run_folder.speedup_inputs,
}


def features(name: str) -> list[str]:
    """The arguments that go through `evaluate`; the others go straight to the function."""
    return [argument for argument in SMALL[name] if argument.startswith("predictions")]


@pytest.mark.parametrize("name", NAMES)
def test_a_module_returns_what_its_function_returns(name: str, modules: dict[str, Any]):
    assert modules[name].compute(**SMALL[name]) == FUNCTIONS[name](**SMALL[name])


@pytest.mark.parametrize("name", NAMES)
def test_input_can_be_added_in_parts(name: str, modules: dict[str, Any]):
    given = {argument: SMALL[name][argument] for argument in features(name)}
    options = {argument: value for argument, value in SMALL[name].items() if argument not in given}
    expected = FUNCTIONS[name](**SMALL[name])
    for first, second in zip(*[[rows[at] for rows in given.values()] for at in (0, 1)], strict=True):
        assert first != second
    singular = (lambda argument: argument) if len(given) > 1 else (lambda argument: argument.removesuffix("s"))
    for at in (0, 1):
        modules[name].add(**{singular(argument): rows[at] for argument, rows in given.items()})
    assert modules[name].compute(**options) == expected
    for at in (0, 1):
        modules[name].add_batch(**{argument: rows[at : at + 1] for argument, rows in given.items()})
    assert modules[name].compute(**options) == expected


def test_arrays_are_lists(modules: dict[str, Any]):
    found = modules["speed_bench_acceptance"].compute(predictions=[np.array([4, 3]), np.array([1], dtype=np.int16)])
    assert found["acceptance_length"] == (3.5 + 1) / 2


@pytest.mark.parametrize("name", NAMES)
def test_a_recorded_run_has_the_numbers_of_its_scores(name: str, modules: dict[str, Any]):
    scores = json.loads((RUN / "scores.json").read_bytes())
    found = modules[name].compute(**RECORDED[name](RUN))
    if name == "speed_bench_acceptance":
        assert_scored(found, scores["acceptance"]["overall"])
        assert set(found["per_category"]) == set(scores["acceptance"]["categories"])
        for category, values in found["per_category"].items():
            assert_scored(values, scores["acceptance"]["categories"][category])
        assert {str(length): steps for length, steps in found["histogram"].items()} == scores["acceptance"]["overall"][
            "histogram"
        ]
    else:
        assert_scored(found, scores["serving" if name == "speed_bench_throughput" else "baseline"])


def about(value: float | None) -> Any:
    """The same number, as another processor may add it up."""
    return None if value is None else pytest.approx(value, rel=1e-9)


def assert_scored(found: dict[str, Any], cells: dict[str, Any]) -> None:
    """Every value and interval that both hold is the same, and they hold some."""
    both = [name for name in found["confidence_interval"] if name in cells]
    assert len(both) > 4
    for name in both:
        value, bounds = found[name], found["confidence_interval"][name]
        if isinstance(value, list):
            pairs = list(zip(value, bounds, cells[name], strict=True))
        elif isinstance(value, dict):
            pairs = [(value["mean"], bounds, cells[name])]
            assert {rank: value[rank] for rank in RANKS} == {rank: about(cells[name][rank]) for rank in RANKS}
        else:
            pairs = [(value, bounds, cells[name])]
        for one, ends, cell in pairs:
            assert one == about(cell["value"]), name
            assert (ends or [None, None]) == [about(cell["low"]), about(cell["high"])], name


REFUSED = [
    ("speed_bench_acceptance", [], "predictions is empty"),
    ("speed_bench_acceptance", [3], "predictions[0]"),
    ("speed_bench_acceptance", "12", "predictions is"),
    ("speed_bench_acceptance", [[1], "12"], "predictions[1]"),
    ("speed_bench_acceptance", [[1], None], "predictions[1]"),
    ("speed_bench_acceptance", [[1], [[2]]], "predictions[1][0]"),
    ("speed_bench_acceptance", [[1, 2], [3, 1.5]], "predictions[1][1] is 1.5"),
    ("speed_bench_acceptance", [[1, 2.0]], "predictions[0][1] is 2.0"),
    ("speed_bench_acceptance", [[1, "3"]], "predictions[0][1] is '3'"),
    ("speed_bench_acceptance", [[1, True]], "predictions[0][1] is True"),
    ("speed_bench_acceptance", [[1, None]], "predictions[0][1] is None"),
    ("speed_bench_acceptance", [[1, math.nan]], "predictions[0][1] is nan"),
    ("speed_bench_acceptance", [[1, 0]], "predictions[0][1] is 0"),
    ("speed_bench_acceptance", [[1, -2]], "predictions[0][1] is -2"),
    ("speed_bench_acceptance", [[1, 2**31]], "predictions[0][1] is 2147483648"),
    ("speed_bench_throughput", [], "predictions is empty"),
    ("speed_bench_throughput", [[[0.5]], [[1.0, 1]]], "predictions[0][0]"),
    ("speed_bench_throughput", [[[0.5, 1]], [[1.0, 1.5]]], "predictions[1][0][1] is 1.5"),
    ("speed_bench_throughput", [[[0.5, 1]], [[1.0, 2.0]]], "predictions[1][0][1] is 2.0"),
    ("speed_bench_throughput", [[[0.5, 1]], [[1.0, True]]], "predictions[1][0][1] is True"),
    ("speed_bench_throughput", [[[0.5, 1]], [[1.0, 0]]], "predictions[1][0][1] is 0"),
    ("speed_bench_throughput", [[[0.5, 1]], [["1.0", 1]]], "predictions[1][0][0] is '1.0'"),
    ("speed_bench_throughput", [[[0.5, 1]], [[math.nan, 1]]], "predictions[1][0][0] is nan"),
    ("speed_bench_throughput", [[[0.5, 1]], [[1.0, 1], [0.9, 1]]], "predictions[1][1] is at 0.9 s"),
    ("speed_bench_speedup", [], "predictions1 is empty"),
    ("speed_bench_speedup", [[1, 2], [3, 1.0]], "predictions1[1][1] is 1.0"),
    ("speed_bench_speedup", [[1, 2], ["3"]], "predictions1[1][0] is '3'"),
    ("speed_bench_speedup", [[1, 2], [False]], "predictions1[1][0] is False"),
    ("speed_bench_speedup", [[1, 2], [-1]], "predictions1[1][0] is -1"),
    ("speed_bench_speedup", [[1, 2]], "the rows differ"),
]


@pytest.mark.parametrize(("name", "wrong", "sentence"), REFUSED)
def test_what_would_be_cast_is_refused_by_its_place(name: str, wrong: Any, sentence: str, modules: dict[str, Any]):
    first, *others = features(name)
    given = {first: wrong} | {argument: SMALL[name][argument] for argument in others}
    for refused in (
        lambda: modules[name].compute(**{**SMALL[name], **given}),
        lambda: modules[name].add_batch(**given),
    ):
        with pytest.raises(MetricInputError, match=f"^{re.escape(sentence)}"):
            refused()
    assert len(modules[name]) == 0
    assert modules[name].compute(**SMALL[name]) == FUNCTIONS[name](**SMALL[name])


def test_one_turn_is_checked_as_it_is_added(modules: dict[str, Any]):
    metric = modules["speed_bench_acceptance"]
    metric.add(prediction=[4, 3])
    with pytest.raises(MetricInputError, match=r"^predictions\[0\]\[0\] is 1\.5"):
        metric.add(prediction=[1.5])
    metric.add(prediction=[1])
    assert metric.compute()["acceptance_length"] == (3.5 + 1) / 2


@pytest.mark.parametrize(
    ("name", "wrong", "sentence"),
    [
        ("speed_bench_acceptance", {"drafted": [[3, 3], [3, 2]]}, "drafted[0] has 2 steps"),
        ("speed_bench_acceptance", {"drafted": [[3, 3, 0.0], [3, 2]]}, "drafted[0][2] is 0.0"),
        ("speed_bench_acceptance", {"accepted": [[3, 2, 0]]}, "accepted has 1 turns"),
        ("speed_bench_acceptance", {"average": "categories"}, "unknown average 'categories'; did you mean 'category'?"),
        ("speed_bench_acceptance", {"last_step": "uncut"}, "unknown last_step 'uncut'"),
        ("speed_bench_throughput", {"start_s": [0.0]}, "start_s has 1 entries for 2 turns"),
        ("speed_bench_throughput", {"slo": {"ttft": 1.0}}, "unknown slo term 'ttft'; did you mean 'ttft_s'?"),
        ("speed_bench_speedup", {"run2": {**TWO_ROWS, "rows": ["a/0", "c/0"]}}, "the rows differ"),
    ],
)
def test_a_refused_option_leaves_a_module_that_works(
    name: str, wrong: dict[str, Any], sentence: str, in_memory: dict[str, Any]
):
    with pytest.raises(MetricInputError, match=f"^{re.escape(sentence)}"):
        in_memory[name].compute(**{**SMALL[name], **wrong})
    assert in_memory[name].compute(**SMALL[name]) == FUNCTIONS[name](**SMALL[name])


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_option_is_named(name: str, in_memory: dict[str, Any]):
    with pytest.raises(MetricInputError, match="unknown argument 'confidence'; did you mean 'confidence_level'"):
        in_memory[name].compute(**SMALL[name], confidence=0.9)
    assert in_memory[name].compute(**SMALL[name]) == FUNCTIONS[name](**SMALL[name])


def test_turns_without_a_step_have_no_acceptance(in_memory: dict[str, Any]):
    with pytest.raises(UndefinedMetric, match="no decode step in 2 turns"):
        in_memory["speed_bench_acceptance"].compute(predictions=[[], []])
    found = in_memory["speed_bench_acceptance"].compute(predictions=[[], [2]])
    assert (found["acceptance_length"], found["num_turns_without_steps"]) == (2.0, 1)


@pytest.mark.parametrize("name", NAMES)
def test_a_module_on_disk_works_after_an_error_too(name: str, modules: dict[str, Any]):
    with pytest.raises(MetricInputError, match=r"^confidence_level is 2\.0"):
        modules[name].compute(**SMALL[name], confidence_level=2.0)
    assert modules[name].compute(**SMALL[name]) == FUNCTIONS[name](**SMALL[name])
