"""The modules compute on the data of a recorded real run what `scores.json` says of it."""

import json
import shutil
from pathlib import Path

import pytest

from speed_bench.errors import MetricInputError, RunFolderError
from speed_bench.metrics import acceptance, speedup, throughput
from speed_bench.metrics.run_folder import acceptance_inputs, speedup_inputs, throughput_inputs
from speed_bench.runner.journal import read_records
from speed_bench.scoring import score

RUN = Path(__file__).parent.parent / "recordings" / "run"
"""`speed-bench run --max-tokens 32`: 27 turns by n-gram drafts, and their baseline."""

SCORES = json.loads((RUN / "scores.json").read_bytes())


def same(value):
    if isinstance(value, list):
        return [same(item) for item in value]
    return None if value is None else pytest.approx(value, rel=1e-12)


def bounds(cell: dict) -> list | None:
    return None if cell["low"] is None else [same(cell["low"]), same(cell["high"])]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(RUN, tmp_path / "run"))


def test_the_recorded_journal_is_scored_as_it_was():
    scores = score(read_records(RUN), read_records(RUN / "baseline")).model_dump(mode="json")
    assert json.loads(json.dumps(scores)) == SCORES


def groups() -> dict[str, tuple[dict, dict]]:
    found = acceptance.compute(**acceptance_inputs(RUN))
    categories = SCORES["acceptance"]["categories"]
    assert found["per_category"].keys() == categories.keys()
    return {"overall": (found, SCORES["acceptance"]["overall"])} | {
        name: (found["per_category"][name], categories[name]) for name in categories
    }


@pytest.mark.parametrize(("name", "group"), groups().items())
def test_acceptance_equals_the_scores(name, group):
    found, scored = group
    for metric in (
        "acceptance_length",
        "acceptance_length_pooled",
        "acceptance_length_drafted",
        "acceptance_length_uncensored",
        "draft_acceptance_rate",
    ):
        assert found[metric] == same(scored[metric]["value"]), metric
        assert found["confidence_interval"][metric] == bounds(scored[metric]), metric
    for metric in ("joint_acceptance_rate", "conditional_acceptance_rate"):
        assert found[metric] == [same(cell["value"]) for cell in scored[metric]]
        assert found["confidence_interval"][metric] == [bounds(cell) for cell in scored[metric]]
    assert found["histogram"] == {int(length): num for length, num in scored["histogram"].items()}
    for count in ("num_conversations", "num_turns", "num_turns_without_steps", "num_steps"):
        assert found[count] == scored[count]


@pytest.mark.parametrize("average", ["conversation", "specdec_bench"])
def test_acceptance_under_another_average_equals_the_scores(average):
    found, scored = acceptance.compute(**acceptance_inputs(RUN), average=average), SCORES["acceptance"]["overall"]
    cell = scored[f"acceptance_length_{average}"]
    assert found["acceptance_length"] == same(cell["value"])
    assert found["confidence_interval"]["acceptance_length"] == bounds(cell)


def test_throughput_equals_the_scores():
    found, scored = throughput.compute(**throughput_inputs(RUN)), SCORES["serving"]
    assert found["output_tps"] == same(scored["output_tps"]["value"])
    assert found["steady_output_tps"] == same(scored["steady_output_tps"]["value"])
    assert found["confidence_interval"]["output_tps"] == bounds(scored["output_tps"])
    for name in ("user_tps", "ttft_s", "itl_s", "tpot_s", "e2e_s", "step_gap_s"):
        distribution = scored[name]
        assert found[name]["mean"] == same(distribution["value"]), name
        assert found["confidence_interval"][name] == bounds(distribution), name
        for rank in ("p50", "p90", "p95", "p99", "n"):
            assert found[name][rank] == same(distribution[rank]), name
    assert (found["num_requests"], found["num_output_tokens"]) == (scored["num_turns"], scored["num_output_tokens"])


def test_the_speed_up_equals_the_scores():
    found, scored = speedup.compute(**speedup_inputs(RUN)), SCORES["baseline"]
    for name in (
        "speedup_output_tps",
        "speedup_tpot",
        "acceptance_length_difference",
        "identical_share",
        "common_prefix_tokens",
        "paired_share",
    ):
        assert found[name] == same(scored[name]["value"]), name
        assert found["confidence_interval"][name] == bounds(scored[name]), name
    assert found["p_value"] == scored["acceptance_length_difference"]["p_value"]


def test_another_run_can_be_the_baseline(copy):
    found = speedup.compute(**speedup_inputs(RUN, copy))
    assert (found["speedup_tpot"], found["acceptance_length_difference"], found["p_value"]) == (1.0, 0.0, 1.0)


def test_runs_under_another_load_are_refused(copy):
    text = (copy / "run.json").read_text("utf-8")
    (copy / "run.json").write_text(text.replace('"concurrency": 1', '"concurrency": 4'), "utf-8")
    with pytest.raises(MetricInputError, match="the runs differ in concurrency: 1 in run1, 4 in run2"):
        speedup.compute(**speedup_inputs(RUN, copy))


def test_an_interrupted_run_has_no_speed_to_give(copy):
    text = (copy / "segments.jsonl").read_text("utf-8")
    (copy / "segments.jsonl").write_text(text.splitlines(keepends=True)[0], "utf-8")
    for inputs_of in (throughput_inputs, speedup_inputs):
        with pytest.raises(RunFolderError, match="was interrupted or resumed"):
            inputs_of(copy)
    assert acceptance.compute(**acceptance_inputs(copy))["num_turns"] == 27


def test_steps_that_cannot_be_told_apart_are_not_left_out(copy):
    lines = (copy / "turns-0.jsonl").read_text("utf-8").splitlines(keepends=True)
    turn = json.loads(lines[0])
    counts = next(iter(turn.values()))["counts"] if "counts" not in turn else turn["counts"]
    counts |= {"unplaced_steps": 1, "num_steps": counts["num_steps"] + 1, "aligned": False}
    (copy / "turns-0.jsonl").write_text(json.dumps(turn) + "\n" + "".join(lines[1:]), "utf-8")
    with pytest.raises(RunFolderError, match=r"1 turns of .* have decode steps that cannot be told apart"):
        acceptance_inputs(copy)
    assert speedup_inputs(copy)["run1"]["steps"] is None
