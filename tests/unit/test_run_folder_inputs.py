"""The modules compute on the data of a recorded real run what `scores.json` says of it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from records import steps_of, turn

from speed_bench.errors import MetricInputError, RunFolderError
from speed_bench.metrics import acceptance, speedup, throughput
from speed_bench.metrics.run_folder import acceptance_inputs, speedup_inputs, throughput_inputs
from speed_bench.records import Segment
from speed_bench.runner.journal import Journal, RunFile, read_records, read_run_file, write_run_file
from speed_bench.scoring import load_of, score
from speed_bench.types import Failure

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
    load = load_of(read_run_file(RUN).config)
    scores = score(read_records(RUN), read_records(RUN / "baseline"), load=load).model_dump(mode="json")
    assert json.loads(json.dumps(scores)) == SCORES


def busy_run(folder: Path, run_file: RunFile, *, step_s: float, drafts: bool = True) -> None:
    """What a run at concurrency 4 with two seeds leaves: categories of unequal size, turns in flight together, a
    conversation of two turns, a one-token answer."""
    rng, free, turns = np.random.default_rng(5), [0.0] * 4, []
    for seed in (0, 1):
        for number in range(20):
            name, category = f"{number:032x}", "coding" if number < 12 else "math"
            slot = free.index(min(free))
            for index in range(2 if number % 5 == 0 else 1):
                num = 0 if number == 7 else int(rng.integers(2, 12))
                accepted = rng.integers(0, 4, size=num).tolist() if drafts else [0] * num
                steps = steps_of(*accepted, drafted=3 if drafts else 0)
                made = turn(f"{name}/{index}", steps, category=category, at_s=free[slot], step_s=step_s)
                turns.append(replace(made, seed=seed, slot=slot))
                free[slot] = made.finished_at_s + 0.01
    run_file = run_file.model_copy(update={"config": run_file.config.model_copy(update={"concurrency": 4})})
    folder.mkdir()
    write_run_file(folder, run_file)
    with Journal(folder, run_file) as journal:
        for each in turns:
            journal.add(each)
        journal.add_segment(Segment(0, "2025-01-01T00:00:00Z", "boot", None, wall_s=99.0, whole=True))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Run folders with a baseline each: a recorded one, and one under load."""
    busy = tmp_path_factory.mktemp("runs") / "busy"
    run_file = read_run_file(RUN)
    busy_run(busy, run_file, step_s=0.3)
    busy_run(busy / "baseline", run_file, step_s=0.2, drafts=False)
    return {"recorded": RUN, "busy": busy}


@pytest.fixture(scope="module", params=["recorded", "busy"])
def scored(request: pytest.FixtureRequest, folders: dict[str, Path]) -> tuple[Path, dict]:
    """A run folder and its scores."""
    folder = folders[request.param]
    scores = score(read_records(folder), read_records(folder / "baseline"))
    return folder, json.loads(json.dumps(scores.model_dump(mode="json")))


def test_acceptance_equals_the_scores(scored):
    folder, scores = scored
    found = acceptance.compute(**acceptance_inputs(folder))
    categories = scores["acceptance"]["categories"]
    assert found["per_category"].keys() == categories.keys()
    check_group(found, scores["acceptance"]["overall"])
    for name in categories:
        check_group(found["per_category"][name], categories[name])


def check_group(found: dict, group: dict) -> None:
    for metric in (
        "acceptance_length",
        "acceptance_length_pooled",
        "acceptance_length_drafted",
        "acceptance_length_uncensored",
        "draft_acceptance_rate",
    ):
        assert found[metric] == same(group[metric]["value"]), metric
        assert found["confidence_interval"][metric] == bounds(group[metric]), metric
    for metric in ("joint_acceptance_rate", "conditional_acceptance_rate"):
        assert found[metric] == [same(cell["value"]) for cell in group[metric]]
        assert found["confidence_interval"][metric] == [bounds(cell) for cell in group[metric]]
    assert found["histogram"] == {int(length): num for length, num in group["histogram"].items()}
    for count in ("num_conversations", "num_turns", "num_turns_without_steps", "num_steps"):
        assert found[count] == group[count]


@pytest.mark.parametrize("average", ["conversation", "specdec_bench"])
def test_acceptance_under_another_average_equals_the_scores(average, scored):
    folder, scores = scored
    found = acceptance.compute(**acceptance_inputs(folder), average=average)
    cell = scores["acceptance"]["overall"][f"acceptance_length_{average}"]
    assert found["acceptance_length"] == same(cell["value"])
    assert found["confidence_interval"]["acceptance_length"] == bounds(cell)


def test_throughput_equals_the_scores(scored):
    folder, scores = scored
    found, serving = throughput.compute(**throughput_inputs(folder), num_gpus=2), scores["serving"]
    for name in ("output_tps", "steady_output_tps"):
        assert found[name] == same(serving[name]["value"]), name
        assert found[f"{name}_per_gpu"] == same(serving[name]["value"] / 2), name
        assert found["confidence_interval"][name] == bounds(serving[name]), name
    for name in ("user_tps", "ttft_s", "itl_s", "tpot_s", "e2e_s", "step_gap_s"):
        distribution = serving[name]
        assert found[name]["mean"] == same(distribution["value"]), name
        assert found["confidence_interval"][name] == bounds(distribution), name
        for rank in ("p50", "p90", "p95", "p99", "n"):
            assert found[name][rank] == same(distribution[rank]), name
    assert (found["num_requests"], found["num_output_tokens"]) == (serving["num_turns"], serving["num_output_tokens"])


def test_the_speed_up_equals_the_scores(scored):
    folder, scores = scored
    found, compared = speedup.compute(**speedup_inputs(folder)), scores["baseline"]
    for name in (
        "speedup_output_tps",
        "speedup_tpot",
        "acceptance_length_difference",
        "identical_share",
        "common_prefix_tokens",
        "paired_share",
    ):
        assert found[name] == same(compared[name]["value"]), name
        assert found["confidence_interval"][name] == bounds(compared[name]), name
    assert found["p_value"] == same(compared["acceptance_length_difference"]["p_value"])


def test_the_order_of_requests_changes_nothing(folders):
    given = throughput_inputs(folders["busy"])
    order = np.random.default_rng(0).permutation(len(given["predictions"])).tolist()
    shuffled = {name: [values[at] for at in order] for name, values in given.items()}
    found, expected = throughput.compute(**shuffled), throughput.compute(**given)
    assert found["steady_output_tps"] == same(expected["steady_output_tps"])
    assert found["confidence_interval"] == {
        name: same(interval) for name, interval in expected["confidence_interval"].items()
    }


def test_a_busy_run_has_an_interval_of_its_throughput_that_knows_its_streams(folders):
    given = throughput_inputs(folders["busy"])
    low, high = throughput.compute(**given)["confidence_interval"]["output_tps"]
    alone = {**given, "slots": list(range(len(given["slots"])))}
    assert throughput.compute(**alone)["confidence_interval"]["output_tps"] != [low, high]
    assert low < throughput.compute(**given)["output_tps"] < high


def test_a_category_that_failed_is_not_left_out_of_the_mean(folders, tmp_path):
    lost = Path(shutil.copytree(RUN, tmp_path / "lost"))
    lines = (lost / "turns-0.jsonl").read_text("utf-8").splitlines(keepends=True)
    kept = [line for line in lines if '"category":"qa"' not in line]
    assert len(kept) < len(lines)
    (lost / "turns-0.jsonl").write_text("".join(kept), "utf-8")
    with Journal(lost, read_run_file(lost)) as journal:
        journal.add(Failure("x/0", "qa", 0, 0, "request", "reset", 1.0))
    with pytest.raises(RunFolderError, match="no turn of qa finished"):
        acceptance_inputs(lost)
    compared = score(read_records(lost), read_records(RUN)).baseline.acceptance_length_difference
    assert compared.reason == "no turn of qa had the same input in both runs"


def test_another_run_can_be_the_baseline(copy):
    found = speedup.compute(**speedup_inputs(RUN, copy))
    assert (found["speedup_tpot"], found["acceptance_length_difference"], found["p_value"]) == (1.0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("here", "there", "difference"),
    [
        ('"concurrency": 1', '"concurrency": 4', "concurrency: 1 in run1, 4 in run2"),
        ('"history": "own"', '"history": "replay:x"', "history: 'own' in run1, 'replay:x' in run2"),
        ('"model": "smollm2-135m-instruct"', '"model": "another"', "model: 'smollm2-135m-instruct' in run1"),
    ],
)
def test_runs_of_another_load_model_or_history_are_refused(copy, here, there, difference):
    text = (copy / "run.json").read_text("utf-8")
    assert here in text
    (copy / "run.json").write_text(text.replace(here, there), "utf-8")
    with pytest.raises(MetricInputError, match=f"the runs differ in {difference}"):
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


def rewritten(folder: Path, change) -> Path:
    """A run folder whose turns are changed, its baseline left as it is."""
    run_file, records = read_run_file(folder), read_records(folder)
    (folder / "turns-0.jsonl").unlink()
    with Journal(folder, run_file) as journal:
        for number, each in enumerate(records.turns):
            journal.add(change(number, each))
    return folder


def test_the_turns_of_an_open_loop_are_given_from_when_they_were_due(copy: Path):
    by_clock = rewritten(copy, lambda _, each: replace(each, scheduled_at_s=each.sent_at_s / 2))
    serving = score(read_records(by_clock)).serving
    found = throughput.compute(**throughput_inputs(by_clock))
    assert found["ttft_s"]["p99"] == same(serving.ttft_s.p99)
    assert found["ttft_s"]["mean"] > 2 * score(read_records(RUN)).serving.ttft_s.value
    assert found["output_tps"] == same(serving.output_tps.value)
    assert found["steady_output_tps"] is None
    assert speedup_inputs(by_clock)["run1"]["slots"] is None


def test_a_prompt_that_was_run_again_is_a_row_of_its_own(copy: Path):
    again = rewritten(copy, lambda number, each: replace(each, id=f"q/{number % 9}", repeat=number // 9, category="qa"))
    given = throughput_inputs(again)
    assert len(set(zip(given["conversations"], given["seeds"], strict=True))) == 3
    rows = speedup_inputs(again)["run1"]["rows"]
    assert len(set(rows)) == len(rows) == 27
