"""`speed-bench sweep` on the simulator: stopped, gone on with, and what comes out is the truth."""

import csv
import shutil
import signal
from pathlib import Path

import orjson
import pytest
import yaml
from command import num_lines, speed_bench, start, wait_until
from ray_sweeps import sweep_of
from simulated import Watching

from speed_bench.runner.journal import read_records
from speed_bench.sweep.folder import is_finished
from speed_bench.sweep.one import run_cell
from speed_bench.sweep.plan import plan
from speed_bench.sweep.spec import read_spec

TRUTH = {"step_ms": 20.0, "step_ms_per_token": 2.0, "acceptance": [0.8, 0.6, 0.6]}
"""A pass of one stream takes 28 ms at draft length 3 and 24 at 1, one of 16 streams 148 and 84. Endless answers would
emit 1 + .8 + .48 + .288 = 2.568 tokens a step at draft length 3, and 1.8 at 1. So 3 is the best alone (10.9 ms a token
against 13.3) and 1 is the best of 16 (57.6 against 46.7)."""
SPEC = {
    "protocol": "quick",
    "base": {
        "engine": {
            "name": "simulator",
            **TRUTH,
            "speed": 4,
            "step_ms_per_1k_context": 0,
            "draft_ms": 0,
            "prefill_ms_per_1k": 0,
        },
        "algorithm": "mtp",
        "max_tokens": 24,
        "ignore_eos": True,
        "limit_per_category": 2,
        "max_duration_s": 600,
    },
    "axes": {"concurrency": [1, 16], "draft_length": [1, 3]},
    "order": "listed",
}
FEW = {"name": "simulator", "speed": 50, "mean_output_tokens": 10}


def write(path: Path, spec: dict) -> Path:
    path.write_text(yaml.safe_dump(spec))
    return path


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """A sweep that was stopped in the middle of its second cell, and gone on with."""
    folder = tmp_path_factory.mktemp("sweeps")
    spec = write(folder / "sweep.yaml", SPEC)
    first, second, *_ = plan(read_spec(spec))
    sweep = folder / "out"
    process = start("sweep", spec, "--out", sweep)
    wait_until(lambda: num_lines(second.folder(sweep) / "turns-0.jsonl") >= 3)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in first.folder(sweep).glob("*.json*")}
    kept = sorted(turn.id for turn in read_records(second.folder(sweep)).turns)
    there = sorted(path.name for path in (sweep / "cells").iterdir())
    done = speed_bench("sweep", spec, "--out", sweep)
    return {
        "spec": spec,
        "sweep": sweep,
        "cells": plan(read_spec(spec)),
        "stopped": (process.returncode, said),
        "before": before,
        "kept": kept,
        "there": there,
        "shown": done.stdout,
        "summary": orjson.loads((sweep / "summary.json").read_bytes()),
    }


@pytest.mark.long
def test_a_stopped_sweep_says_what_is_kept_and_how_to_go_on(swept: dict) -> None:
    code, said = swept["stopped"]
    assert code == 130
    assert said.strip().splitlines()[-2:] == [
        "stopped",
        "1 of 6 cells are finished, and every finished turn of the others is kept; "
        f"go on with: speed-bench sweep {swept['sweep']}",
    ]
    assert swept["there"] == sorted(cell.name for cell in swept["cells"][:2])


@pytest.mark.long
def test_finished_cells_are_skipped_and_nothing_is_overwritten(swept: dict) -> None:
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in swept["before"]} == swept["before"]
    assert f"cell 2 of 6: {swept['cells'][1].name}" in swept["shown"]
    assert swept["cells"][0].name not in swept["shown"]


@pytest.mark.long
def test_what_a_stopped_load_left_is_kept_beside_the_one_that_took_its_place(swept: dict) -> None:
    folder = swept["cells"][1].folder(swept["sweep"])
    aside = (folder / "interrupted-1" / "turns-0.jsonl").read_bytes().splitlines()
    assert sorted(orjson.loads(line)["turn"]["id"] for line in aside) == swept["kept"]
    records = read_records(folder)
    assert len(records.turns) == records.num_planned > len(aside)
    assert [segment.whole for segment in records.segments] == [True]


@pytest.mark.long
def test_the_best_draft_length_of_every_load_is_that_of_the_truth(swept: dict) -> None:
    for metric in ("output_tps", "tpot_s"):
        best = {each["settings"]["concurrency"]: each for each in swept["summary"]["best"] if each["metric"] == metric}
        assert {load: each["draft_length"] for load, each in best.items()} == {1: 3, 16: 1}
        assert all(each["draft_length"] in each["not_told_apart"] for each in best.values())


@pytest.mark.long
def test_what_is_measured_is_the_truth(swept: dict) -> None:
    for cell in swept["summary"]["cells"]:
        headline, load, length = cell["headline"], cell["settings"]["concurrency"], cell["settings"]["draft_length"]
        assert headline["acceptance_length"]["value"] == pytest.approx({None: 1, 1: 1.8, 3: 2.568}[length], rel=0.12)
        assert headline["counts_equal"]
        assert headline["num_failures"] == 0
        if load == 1:
            scores = orjson.loads((swept["sweep"] / "cells" / cell["name"] / "scores.json").read_bytes())
            gap_s, step_ms = scores["serving"]["step_gap_s"]["p50"], {None: 22, 1: 24, 3: 28}[length]
            assert 4e3 * gap_s == pytest.approx(step_ms, rel=0.06)  # the clock runs at 4 times the speed
            faster = headline["acceptance_length"]["value"] * 22 / step_ms
            assert headline["speedup_tpot"]["value"] == (None if length is None else pytest.approx(faster, rel=0.2))


@pytest.mark.long
def test_the_tables_say_the_same_as_the_files(swept: dict) -> None:
    shown = speed_bench("sweep", swept["sweep"], "--summary").stdout
    assert shown in swept["shown"]
    for words in (
        "best draft length by Output TPS",
        "best draft length by TPOT",
        "6 of 6 cells finished",
        "told apart",
    ):
        assert words in shown
    rows = list(csv.DictReader((swept["sweep"] / "summary.csv").read_text().splitlines()))
    assert [row["name"] for row in rows] == [cell.name for cell in swept["cells"]]
    assert {row["state"] for row in rows} == {"finished"}


@pytest.mark.long
def test_a_load_that_was_killed_after_its_last_turn_is_measured_again(swept: dict, tmp_path: Path) -> None:
    sweep = shutil.copytree(swept["sweep"], tmp_path / "sweep")
    cell = swept["cells"][-1]
    segments = cell.folder(sweep) / "segments.jsonl"
    segments.write_bytes(segments.read_bytes().splitlines(keepends=True)[0])  # its end was never written
    done = speed_bench("sweep", sweep)
    assert done.stdout.count("\ncell ") + done.stdout.startswith("cell ") == 1
    assert f"cell 6 of 6: {cell.name}" in done.stdout
    records = read_records(cell.folder(sweep))
    assert [segment.whole for segment in records.segments] == [True]
    assert num_lines(cell.folder(sweep) / "interrupted-1" / "turns-0.jsonl") == records.num_planned
    assert "6 of 6 cells finished" in done.stdout


def test_a_cell_that_was_stopped_between_its_last_turn_and_its_end_is_measured_again(tmp_path: Path) -> None:
    _, [cell] = sweep_of(axes={"draft_length": [1]})
    folder = cell.folder(tmp_path)
    run_cell(cell, tmp_path, Watching())
    turns = (folder / "turns-0.jsonl").read_bytes()
    segments = folder / "segments.jsonl"
    segments.write_bytes(segments.read_bytes().splitlines(keepends=True)[0])
    assert not is_finished(folder)
    again = Watching()
    run_cell(cell, tmp_path, again)
    assert is_finished(folder)
    assert (len(again.ended), again.earlier) == (turns.count(b"\n"), ())
    assert (folder / "interrupted-1" / "turns-0.jsonl").read_bytes() == turns


@pytest.mark.long
def test_another_sweep_may_not_take_its_folder(swept: dict, tmp_path: Path) -> None:
    other = write(tmp_path / "other.yaml", {**SPEC, "axes": {**SPEC["axes"], "draft_length": [1, 3, 5]}})
    done = speed_bench("sweep", other, "--out", swept["sweep"], check=False)
    assert done.returncode == 2
    [line] = done.stderr.strip().splitlines()[-1:]
    assert line.startswith(f"error: {swept['sweep']} holds another sweep: axes.draft_length (was [1, 3], is [1, 3, 5])")


@pytest.mark.long
def test_a_cell_whose_engine_dies_does_not_stop_the_others(tmp_path: Path) -> None:
    crash = {"engine.faults": [{"kind": "crash", "request": 3}]}
    spec = {
        "base": {"engine": FEW, "algorithm": "mtp", "categories": "math,qa"},
        "axes": {"fault": [crash, {}]},
        "order": "listed",
        "baseline": False,
    }
    done = speed_bench("sweep", write(tmp_path / "sweep.yaml", spec), "--out", tmp_path / "out", check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("error: 1 of 2 cells failed, as said above")
    summary = orjson.loads((tmp_path / "out" / "summary.json").read_bytes())
    assert [cell["state"] for cell in summary["cells"]] == ["failed", "finished"]
    assert "engine 'simulator'" in summary["cells"][0]["error"]
    first, *_ = summary["cells"][0]["error"].splitlines()
    assert done.stdout.count(first) == 2, "when it happens, and at the end"


@pytest.mark.long
def test_run_takes_several_concurrencies_as_a_sweep_with_its_baselines(tmp_path: Path) -> None:
    flags = ("--engine", "simulator", "--set", "engine.speed=20", "--algorithm", "mtp", "--categories", "math,qa")
    done = speed_bench("run", *flags, "--max-tokens", 8, "--concurrency", "1,2", "--out", tmp_path / "out")
    summary = orjson.loads((tmp_path / "out" / "summary.json").read_bytes())
    loads = [(cell["settings"]["algorithm"], cell["settings"]["concurrency"]) for cell in summary["cells"]]
    assert loads == [("none", 1), ("mtp", 1), ("none", 2), ("mtp", 2)]
    assert {cell["state"] for cell in summary["cells"]} == {"finished"}
    for words in ("cell 4 of 4", "TTFT", "mtp", "none", "4 of 4 cells finished"):
        assert words in done.stdout
    again = speed_bench("run", *flags, "--max-tokens", 8, "--concurrency", "1,2", "--out", tmp_path / "out")
    assert "cell 1 of 4" not in again.stdout, "nothing is measured twice"


def test_a_dry_run_prints_the_cells_and_makes_nothing(tmp_path: Path) -> None:
    spec = write(tmp_path / "sweep.yaml", {**SPEC, "exclude": [{"draft_length": 7}]})
    done = speed_bench("sweep", spec, "--dry-run", cwd=tmp_path)
    for cell in plan(read_spec(spec)):
        assert cell.name in done.stdout
    assert "6 cells, 2 of them without speculation; 162 turns; protocol custom" in done.stdout
    assert done.stderr == "exclude {draft_length: 7} matches no cell\n"
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.yaml"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("{folder}/nowhere.yaml",), "nowhere.yaml cannot be read: No such file or directory"),
        (("{folder}",), "{folder} is not the folder of a sweep: it has no sweep.json"),
        (("{folder}", "--summary"), "{folder} is not the folder of a sweep"),
        (("{folder}/sweep.yaml", "--summary"), "--summary needs the folder of the sweep"),
        (("{folder}/sweep.yaml", "--address", "auto"), "--address is of a Ray cluster; add --on ray"),
        (("{folder}/sweep.yaml", "--most", "3"), "the sweep has 4 runs"),
        (("{folder}/typo.yaml",), "typo.yaml: unknown key 'axs'; did you mean 'axes'?"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(tmp_path: Path, arguments: tuple, sentence: str) -> None:
    write(tmp_path / "sweep.yaml", SPEC)
    write(tmp_path / "typo.yaml", {"axs": {}})
    done = speed_bench("sweep", *(each.format(folder=tmp_path) for each in arguments), check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert sentence.format(folder=tmp_path) in done.stderr.strip().splitlines()[-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sweep.yaml", "typo.yaml"]
