"""Whatever ends a run in the middle, finished turns are kept and `--resume` does the rest."""

import os
import signal
import subprocess
from pathlib import Path

import orjson
import psutil
import pytest
from command import SPEED_BENCH, engine_pids, kill, num_lines, outcome, speed_bench, start, wait_until
from simulated import Watching, simulated

from speed_bench.engines.server import free_port
from speed_bench.provenance import hardware
from speed_bench.runner import preparation
from speed_bench.runner.journal import locked, read_records, read_run_file

SMALL = ("--categories", "qa,math", "--limit-per-category", 2, "--max-tokens", 10)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What the same run comes to when nothing happens to it."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    speed_bench("run", *SMALL, "--out", folder)
    return outcome(folder)


def begin(folder: Path) -> subprocess.Popen[str]:
    """Start the run and wait until some of its turns are finished."""
    process = start("run", *SMALL, "--out", folder)
    wait_until(lambda: num_lines(folder / "turns-0.jsonl") >= 2)
    return process


def finish(folder: Path) -> None:
    speed_bench("run", "--out", folder, "--resume")


@pytest.mark.long
def test_a_run_is_resumed_on_another_port_and_with_other_patience(tmp_path: Path, whole: dict) -> None:
    folder = tmp_path / "run"
    kill(begin(folder))
    speed_bench(
        "run", "--out", folder, "--resume", "--set", f"engine.port={free_port()}", "--set", "stall_timeout_s=60"
    )
    assert outcome(folder) == whole


@pytest.mark.long
def test_a_killed_runner_takes_its_engine_along_and_is_resumed(tmp_path: Path, whole: dict) -> None:
    folder = tmp_path / "run"
    process = begin(folder)
    kill(process)
    wait_until(lambda: not engine_pids(folder))
    kept = {turn.id for turn in read_records(folder).turns}
    assert len(kept) >= 2
    survivor = subprocess.Popen(["sleep", "60"])  # as if the engine had outlived its runner
    identity = {"pid": survivor.pid, "created_s": psutil.Process(survivor.pid).create_time()}
    (folder / "engine.pid").write_bytes(orjson.dumps(identity))
    finish(folder)
    assert survivor.wait(5) == -signal.SIGKILL
    assert outcome(folder) == whole
    scores = orjson.loads((folder / "scores.json").read_bytes())
    assert scores["reconciliation"]["equal"] is True
    assert [segment.whole for segment in read_records(folder).segments] == [False, True]


@pytest.mark.long
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_stops_its_engine_and_says_how_to_go_on(tmp_path: Path, whole: dict, how: int) -> None:
    folder = tmp_path / "run"
    process = begin(folder)
    process.send_signal(how)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert f"finish with: speed-bench run --out {folder} --resume" in said
    assert engine_pids(folder) == []
    finish(folder)
    assert outcome(folder) == whole


@pytest.mark.long
def test_an_engine_that_dies_is_reported_and_the_run_can_be_finished(tmp_path: Path, whole: dict) -> None:
    folder = tmp_path / "run"
    process = begin(folder)
    os.kill(orjson.loads((folder / "engine.pid").read_bytes())["pid"], signal.SIGKILL)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "engine 'llama-cpp' was killed by SIGKILL" in said
    assert "Traceback" not in said
    assert "kept" in said
    assert read_records(folder).failures == ()
    finish(folder)
    assert outcome(folder) == whole


def test_a_changed_config_is_not_resumed_and_the_changed_keys_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    kill(begin(folder))
    before = (folder / "turns-0.jsonl").read_bytes()
    changed = ("--max-tokens", 13, "--set", "engine.threads=2", "--protocol", "qualitative-v1")
    done = speed_bench("run", "--out", folder, "--resume", *changed, check=False)
    assert done.returncode == 2
    assert "holds a run of another config" in done.stderr
    assert "max_tokens (was 10, is 13)" in done.stderr
    assert "protocol (was 'quick', is 'qualitative-v1')" in done.stderr
    assert "engine.threads (was 1, is 2)" in done.stderr
    done = speed_bench("run", *SMALL, "--out", folder, check=False)
    assert done.returncode == 2
    assert "already holds a run; add --resume" in done.stderr
    assert (folder / "turns-0.jsonl").read_bytes() == before


@pytest.mark.long
def test_two_runners_do_not_share_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    kill(begin(folder))
    with locked(folder):
        done = speed_bench("run", "--out", folder, "--resume", check=False)
    assert done.returncode == 2
    assert "in use by another run" in done.stderr


@pytest.mark.long
def test_a_full_disk_ends_the_run_with_a_sentence_and_keeps_what_is_whole(tmp_path: Path, whole: dict) -> None:
    """On a file system that is really full, where one may be mounted; see also the journal's own test."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24k", "none", disk], capture_output=True).returncode:
        pytest.skip("mounting a small file system needs rights")
    try:
        folder = disk / "run"
        done = speed_bench("run", *SMALL, "--out", folder, check=False)
        assert done.returncode == 2, done.stderr
        assert "cannot be written: there is no room left" in done.stderr
        assert "Traceback" not in done.stderr
        kept = read_records(folder)
        assert 0 < len(kept.turns) < kept.num_planned
        subprocess.run(["mount", "-o", "remount,size=16m", disk], check=True)
        finish(folder)
        assert outcome(folder) == whole
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_a_run_that_asked_for_speculation_and_had_none_fails_and_keeps_its_turns(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    few = ("--categories", "qa", "--limit-per-category", 1, "--max-tokens", 4, "--no-baseline")
    done = speed_bench("run", *few, "--out", folder, check=False)
    assert done.returncode == 2
    assert "speculation was asked for (algorithm 'ngram'), but not one token was drafted in 1 turns" in done.stderr
    assert len(read_records(folder).turns) == 1


def test_help_and_version_need_no_run() -> None:
    assert "speed-bench run --out my-run --resume" in speed_bench("run", "--help").stdout
    assert subprocess.run([*SPEED_BENCH, "--version"], capture_output=True, check=True).stdout


def move(folder: Path, monkeypatch: pytest.MonkeyPatch, **flags: object) -> None:
    """Stop a run after two turns, and finish it on another machine."""

    def stop(num_ended: int) -> None:
        if num_ended == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(preparation, "hardware", lambda: hardware().model_copy(update={"cpu": "the first"}))
    with pytest.raises(KeyboardInterrupt):
        simulated(folder, watching=Watching(stop), **flags)
    monkeypatch.setattr(preparation, "hardware", lambda: hardware().model_copy(update={"cpu": "the second"}))
    simulated(folder, resume=True, **flags)


def test_a_run_that_is_finished_on_another_machine_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    move(tmp_path, monkeypatch)
    segments, run = read_records(tmp_path).segments, read_run_file(tmp_path)
    first, second = segments
    assert (first.machine.split(",")[0], second.machine.split(",")[0]) == ("the first", "the second")
    assert run.timed_elsewhere(segments[:1]) is None, "what was interrupted is not timed"
    said = run.timed_elsewhere(segments)
    assert said == f"speeds are of another machine than the run began on: {second.machine}; not {first.machine}"
    assert speed_bench("score", tmp_path).stderr == f"{said}\n"


def test_a_load_that_is_begun_again_is_of_the_machine_that_it_is_measured_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    move(tmp_path, monkeypatch, arrivals="constant", rate=40.0, concurrency=4)
    run = read_run_file(tmp_path)
    assert run.provenance.hardware.cpu == "the second"
    assert run.timed_elsewhere(read_records(tmp_path).segments) is None
