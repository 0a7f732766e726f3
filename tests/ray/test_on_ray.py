"""A sweep on a cluster of two real nodes of Ray."""

import re
import signal
import tempfile
from pathlib import Path

import orjson
import psutil
import pytest
import yaml
from command import speed_bench, start, wait_until, without_speed
from live_server import live_server
from ray_sweeps import Watch, processes_of, runner_of, sweep_of

from speed_bench.engines.server import free_port
from speed_bench.errors import ConfigError, EngineError
from speed_bench.models import resolve_gguf
from speed_bench.runner.journal import read_records
from speed_bench.sweep import ray_node
from speed_bench.sweep.cells import Cell
from speed_bench.sweep.folder import is_finished
from speed_bench.sweep.here import Here
from speed_bench.sweep.on_ray import OnRay
from speed_bench.sweep.running import run_sweep

pytestmark = pytest.mark.ray

MODEL = str(resolve_gguf("smollm2-135m-instruct"))
SLOW = {"engine": {"speed": 0.4}, "max_tokens": 40}
"""A cell that takes some seconds."""


def measured(cell: Cell, sweep: Path) -> dict:
    """What a cell measured, but for times."""
    folder = cell.folder(sweep)
    records = read_records(folder)
    return {
        "turns": sorted((turn.id, turn.prompt_sha256, turn.output_ids, turn.counts) for turn in records.turns),
        "failures": records.failures,
        "acceptance": without_speed(orjson.loads((folder / "scores.json").read_bytes())["acceptance"]),
    }


def lines(cell: Cell, sweep: Path) -> list[bytes]:
    path = cell.folder(sweep) / "turns-0.jsonl"
    return path.read_bytes().splitlines(keepends=True) if path.exists() else []


def left_in_temporary_folders() -> list[Path]:
    return [path for path in Path(tempfile.gettempdir()).glob("speed-bench-*") if any(path.glob("program.*"))]


def is_alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_the_same_sweep_gives_the_same_cells_and_acceptance_as_here(cluster, tmp_path):
    spec, cells = sweep_of(axes={"draft_length": [1, 3], "concurrency": [1, 4]})
    watch = Watch()
    run_sweep(spec, cells, tmp_path / "ray", OnRay(cluster.address), watch)
    run_sweep(spec, cells, tmp_path / "here", Here(), Watch())
    assert watch.ended == {cell.name: None for cell in cells}
    for cell in cells:
        assert measured(cell, tmp_path / "ray") == measured(cell, tmp_path / "here")
        names = [
            {path.name for path in cell.folder(tmp_path / place).iterdir()} - {".lock"} for place in ("ray", "here")
        ]
        assert names[0] == names[1]
        num_turns = len(read_records(cell.folder(tmp_path / "ray")).turns)
        assert watch.begun[cell.name] == [(num_turns, 0)]
        assert watch.told[cell.name][-1] == (num_turns, 0)
    assert left_in_temporary_folders() == []


def test_a_sweep_that_is_finished_asks_nothing_again(cluster, tmp_path):
    spec, cells = sweep_of()
    run_sweep(spec, cells, tmp_path / "sweep", OnRay(cluster.address), Watch())
    before = [(cell.folder(tmp_path / "sweep") / "turns-0.jsonl").read_bytes() for cell in cells]
    watch = Watch()
    run_sweep(spec, cells, tmp_path / "sweep", OnRay(cluster.address), watch)
    assert watch.begun == {}
    assert before == [(cell.folder(tmp_path / "sweep") / "turns-0.jsonl").read_bytes() for cell in cells]


def test_a_node_that_is_killed_costs_no_turn_that_was_told(cluster, tmp_path):
    spec, cells = sweep_of(**SLOW)
    sweep, said = tmp_path / "sweep", []
    doomed = cluster.add_node(num_cpus=1, resources={"doomed": 1})
    told_before: dict[str, list[bytes]] = {}

    def kill_when_all_are_under_way(cell: Cell, num_done: int) -> None:
        if not told_before and len(watch.told) == len(cells):
            told_before.update({each.name: lines(each, sweep) for each in cells})
            cluster.remove_node(doomed, allow_graceful=False)

    others = [node for node in cluster.worker_nodes if node is not doomed]
    for node in others:
        cluster.remove_node(node)  # one cell on the head's node, the other on the doomed one
    watch = Watch(kill_when_all_are_under_way)
    try:
        run_sweep(spec, cells, sweep, OnRay(cluster.address, tell=said.append), watch)
    finally:
        cluster.add_node(num_cpus=1)
    assert watch.ended == {cell.name: None for cell in cells}
    (sentence,) = [each for each in said if "begun again" in each]
    (lost,) = [cell for cell in cells if cell.name in sentence]
    for cell in cells:
        assert told_before[cell.name]
        assert lines(cell, sweep)[: len(told_before[cell.name])] == told_before[cell.name]
        records = read_records(cell.folder(sweep))  # refuses a turn that is there twice
        assert len(records.turns) == records.num_planned
        assert len(records.segments) == (2 if cell is lost else 1)
        counts = [done for done, _ in watch.told[cell.name]]
        assert counts == sorted(set(counts))
    assert left_in_temporary_folders() == []  # what the lost one left is gone since the next began
    run_sweep(spec, cells, tmp_path / "here", Here(), Watch())
    assert [measured(cell, sweep) for cell in cells] == [measured(cell, tmp_path / "here") for cell in cells]


def test_a_worker_that_is_killed_takes_its_engine_along_and_its_cell_is_begun_again(cluster, tmp_path):
    spec, cells = sweep_of(axes={"draft_length": [2]}, **SLOW)
    said, killed = [], []

    def kill_the_worker(cell: Cell, num_done: int) -> None:
        if num_done >= 2 and not killed:
            killed.extend([*processes_of(cell), runner_of(cell)])
            runner_of(cell).parent().kill()

    watch = Watch(kill_the_worker)
    run_sweep(spec, cells, tmp_path / "sweep", OnRay(cluster.address, tell=said.append), watch)
    assert watch.ended == {cells[0].name: None}
    assert len([each for each in said if "begun again" in each]) == 1
    records = read_records(cells[0].folder(tmp_path / "sweep"))
    assert len(records.turns) == records.num_planned
    wait_until(lambda: not any(map(is_alive, killed)))
    wait_until(lambda: left_in_temporary_folders() == [])


def test_the_process_of_a_cell_that_is_killed_every_time_is_begun_again_only_so_often(cluster, tmp_path):
    spec, cells = sweep_of(axes={"draft_length": [2]}, **SLOW)
    said: list[str] = []

    def kill_the_runner(cell: Cell, num_done: int) -> None:
        if processes_of(cell):  # what a process wrote before it was killed comes after
            runner_of(cell).kill()

    watch = Watch(kill_the_runner)
    run_sweep(spec, cells, tmp_path / "sweep", OnRay(cluster.address, retries=1, tell=said.append), watch)
    error = watch.ended[cells[0].name]
    assert isinstance(error, EngineError)
    assert re.fullmatch(
        rf"cell {cells[0].name} was lost 2 times, the last time because its process on \S+ was killed by SIGKILL; "
        r"its \d+ turns are kept",
        str(error),
    )
    assert len(said) == 1
    assert len(lines(cells[0], tmp_path / "sweep")) >= 2
    wait_until(lambda: processes_of(*cells) == [])


def test_what_a_cell_fails_with_is_its_own_and_the_others_go_on(cluster, tmp_path):
    crashes = {"engine": {"faults": [{"kind": "crash", "request": 4}]}}
    spec, cells = sweep_of(axes={"health": [crashes, {"draft_length": 3}]})
    said: list[str] = []
    watch = Watch()
    run_sweep(spec, cells, tmp_path / "sweep", OnRay(cluster.address, tell=said.append), watch)
    (failed,) = [cell for cell in cells if cell.config.engine.faults]
    assert said == []
    assert isinstance(watch.ended.pop(failed.name), EngineError)
    assert list(watch.ended.values()) == [None]
    sentence = orjson.loads((tmp_path / "sweep" / "errors.json").read_bytes())[failed.name]
    assert str(failed.folder(tmp_path / "sweep") / "engine-0.log") in sentence
    assert "/tmp/speed-bench-" not in sentence
    assert (failed.folder(tmp_path / "sweep") / "engine-0.log").exists()
    assert lines(failed, tmp_path / "sweep")


def test_a_load_that_is_measured_as_a_whole_is_begun_anew_and_what_there_was_is_kept(cluster, tmp_path):
    spec, cells = sweep_of(axes={"rate": [2.0]}, arrivals="constant", concurrency=4, **SLOW)
    killed = []

    def kill_the_runner(cell: Cell, num_done: int) -> None:
        if num_done >= 3 and not killed:
            killed.append(lines(cell, tmp_path / "sweep"))
            runner_of(cell).kill()

    watch = Watch(kill_the_runner)
    run_sweep(spec, cells, tmp_path / "sweep", OnRay(cluster.address), watch)
    assert watch.ended == {cells[0].name: None}
    folder = cells[0].folder(tmp_path / "sweep")
    records = read_records(folder)
    assert len(records.turns) == records.num_planned
    assert [segment.whole for segment in records.segments] == [True]
    aside = (folder / "interrupted-1" / "turns-0.jsonl").read_bytes().splitlines(keepends=True)
    assert aside[: len(killed[0])] == killed[0]
    assert [earlier for _, earlier in watch.begun[cells[0].name]] == [0, 0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_sweep_that_is_stopped_leaves_no_engine_and_keeps_what_it_told(cluster, tmp_path, number):
    spec, cells = sweep_of(axes={"draft_length": [1, 3, 5]}, **SLOW)
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(spec.model_dump(mode="json")))
    out = tmp_path / "sweep"
    command = ("sweep", tmp_path / "sweep.yaml", "--out", out, "--on", "ray", "--address", cluster.address)
    stopped = start(*command)
    wait_until(lambda: sum(len(lines(cell, out)) for cell in cells) >= 3)
    assert processes_of(*cells)
    stopped.send_signal(number)
    output, errors = stopped.communicate(timeout=60)
    assert stopped.returncode == 130, output + errors
    assert "every finished turn of the others is kept" in errors
    assert "Traceback" not in errors
    assert processes_of(*cells) == []
    assert left_in_temporary_folders() == []
    kept = [lines(cell, out) for cell in cells]
    assert sum(map(len, kept)) >= 3
    run_sweep(spec, cells, out, OnRay(cluster.address), watch := Watch())
    assert all(error is None for error in watch.ended.values())
    for cell, before in zip(cells, kept, strict=True):
        assert lines(cell, out)[: len(before)] == before
        assert is_finished(cell.folder(out))


def test_one_server_is_measured_by_one_cell_at_a_time(cluster, tmp_path):
    with live_server(tmp_path / "server", **{"engine.name": "simulator", "engine.speed": 5.0}) as url:
        spec, cells = sweep_of(
            axes={"seeds": [[0], [1], [2]]}, engine={"url": url, "name": "vllm"}, algorithm="ngram", model=MODEL
        )
        under_way: list[str] = []
        most = []

        class Counting(Watch):
            def begin(self, cell, num_turns, earlier):
                under_way.append(cell.name)
                most.append(len(under_way))

            def end(self, cell, error):
                super().end(cell, error)
                under_way.remove(cell.name)

        watch = Counting()
        run_sweep(spec, cells, tmp_path / "sweep", OnRay(cluster.address), watch)
    assert watch.ended == {cell.name: None for cell in cells}
    assert most == [1, 1, 1]


def test_cells_that_run_at_once_have_gpus_of_their_own(cluster, tmp_path):
    node = cluster.add_node(num_cpus=10, num_gpus=2)
    seen: dict[str, set[str]] = {}

    def look(cell: Cell, num_done: int) -> None:
        for each in cells:
            seen.setdefault(each.name, set()).update(
                engine.environ().get("CUDA_VISIBLE_DEVICES", "") for engine in processes_of(each)
            )

    spec, cells = sweep_of(num_gpus=1, **SLOW)
    watch = Watch(look)
    try:
        run_sweep(spec, cells, tmp_path / "sweep", OnRay(cluster.address), watch)
    finally:
        cluster.remove_node(node)
    assert watch.ended == {cell.name: None for cell in cells}
    assert sorted(seen.values()) == [{"0"}, {"1"}]


def test_gpus_that_no_node_has_are_refused_before_anything_is_run(cluster, tmp_path):
    spec, cells = sweep_of(axes={"num_gpus": [1, 8]})
    with pytest.raises(ConfigError, match=r"asks for 1 GPUs on one node, the most .* is 0; leave it out"):
        run_sweep(spec, cells, tmp_path / "sweep", OnRay(cluster.address), Watch())
    assert not (tmp_path / "sweep" / "cells").exists()


def test_a_node_without_speed_bench_is_told_and_no_cell_fails_for_it(cluster, tmp_path):
    import ray

    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nsys.modules['speed_bench'] = None"
    )  # as if it were not there
    spec, cells = sweep_of()
    environment = {"env_vars": {"PYTHONPATH": str(tmp_path)}}
    ray.init(cluster.address, runtime_env=environment, log_to_driver=False)
    try:
        with pytest.raises(ConfigError, match="speed-bench cannot be imported on a node"):
            run_sweep(spec, cells, tmp_path / "sweep", OnRay(), watch := Watch())
        assert ray.is_initialized()  # whoever connected it may go on with it
    finally:
        ray.shutdown()
    assert watch.ended == {}


def test_a_node_with_another_version_is_told(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_node.metadata, "version", lambda name: "9.9")
    spec, cells = sweep_of()
    with pytest.raises(ConfigError, match=r"has speed-bench \S+, here it is 9\.9: install the same version"):
        run_sweep(spec, cells, tmp_path / "sweep", OnRay(cluster.address), Watch())


def test_a_cluster_that_asks_for_a_token_is_told_to_do_so(cluster, tmp_path):
    spec, _ = sweep_of()
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(spec.model_dump(mode="json")))
    command = ("sweep", tmp_path / "sweep.yaml", "--out", tmp_path / "sweep", "--on", "ray", "--address")
    wrong = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}
    for env in ({"RAY_AUTH_MODE": "disabled"}, wrong):
        done = speed_bench(*command, cluster.address, check=False, env=env)
        assert done.returncode == 2
        assert f"error: the Ray cluster at {cluster.address} asks for a token: set RAY_AUTH_MODE" in done.stderr


def test_an_address_where_nothing_is_ends_the_command_with_a_sentence(tmp_path):
    spec, _ = sweep_of()
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(spec.model_dump(mode="json")))
    address = f"127.0.0.1:{free_port()}"
    done = speed_bench("sweep", tmp_path / "sweep.yaml", "--on", "ray", "--address", address, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == (
        f"error: no Ray cluster at {address}: Connection refused; is its head running, and the port right?"
    )
    assert "Traceback" not in done.stdout + done.stderr
