"""The client of one run on two real nodes of Ray."""

import signal
import time
from pathlib import Path

import psutil
import pytest
from command import num_lines, speed_bench, start, wait_until, without_speed

from speed_bench.config import resolve
from speed_bench.errors import ClientError, ConfigError
from speed_bench.run_scores import score_folder
from speed_bench.runner import benchmark
from speed_bench.runner.journal import read_records
from speed_bench.sweep import clocks, ray_cluster, ray_workers
from speed_bench.sweep.ray_workers import spread_over

pytestmark = pytest.mark.ray


class Watch:
    def __init__(self, on_turn=lambda: None) -> None:
        self.num_turns = 0
        self._on_turn = on_turn

    def begin(self, arm, num_turns, earlier) -> None:
        self.num_turns += len(earlier)

    def outcome(self, turn) -> None:
        self.num_turns += 1
        self._on_turn()

    def end(self) -> None:
        pass


def run(folder: Path, address: str, watch: Watch | None = None, *, resume: bool = False, clock=None, **changes) -> None:
    """A run of 8 streams, by two workers on the cluster; here, where there is no address."""
    flags = {"engine.name": "simulator", "engine.speed": 5.0, "concurrency": 8, "workers": 2, "max_tokens": 32}
    config, protocol = resolve({**flags, "baseline": False, **changes})
    options = {"resume": resume, "observer": watch or Watch(), "clock": clock or time.perf_counter_ns}
    if not address:
        benchmark.run(config, protocol, folder, **options)
        return
    with ray_cluster.connected(address) as ray:
        benchmark.run(config, protocol, folder, make_crew=spread_over(ray, lambda line: None), **options)


def test_turns_and_acceptance_are_those_of_a_client_here(cluster, tmp_path):
    run(tmp_path / "ray", cluster.address, watch := Watch())
    run(tmp_path / "here", "", workers=1)
    there, here = read_records(tmp_path / "ray"), read_records(tmp_path / "here")
    assert watch.num_turns == len(there.turns) == there.num_planned
    assert by_id(there) == by_id(here)
    assert acceptance_of(tmp_path / "ray") == acceptance_of(tmp_path / "here")
    shards = [(tmp_path / "ray" / f"turns-{worker}.jsonl").read_bytes().count(b"\n") for worker in range(2)]
    assert all(shards)
    assert {turn.slot for turn in there.turns} == set(range(8))
    (segment,) = there.segments
    assert segment.whole
    assert segment.client.num_workers == 2


def test_another_clock_is_found_out_and_times_are_those_of_ours(cluster, tmp_path, monkeypatch):
    ahead_ns, found = 7_000_000_000, []

    def offset_of(pings):
        found.append(clocks.offset_of(pings))
        return found[-1]

    monkeypatch.setattr(ray_workers, "offset_of", offset_of)
    run(tmp_path / "run", cluster.address, clock=lambda: time.perf_counter_ns() + ahead_ns)
    assert len(found) == 4  # of each worker before the load, and after it
    for offset in found:
        assert abs(offset.ahead_ns + ahead_ns) <= offset.error_ns  # both nodes are this machine
    records = read_records(tmp_path / "run")
    (segment,) = records.segments
    assert 0 < segment.clock_error_s < 1
    for turn in records.turns:
        assert 0 <= turn.sent_at_s < turn.finished_at_s < segment.wall_s
    assert score_folder(tmp_path / "run").serving.clock_error_s == segment.clock_error_s


def test_a_worker_that_is_killed_ends_the_run_and_what_was_told_is_kept(cluster, tmp_path):
    def kill_one() -> None:
        if watch.num_turns == 8:
            ours = psutil.Process().children(recursive=True)
            next(each for each in ours if "speed_bench.runner.worker" in each.cmdline()).kill()

    watch, slow = Watch(kill_one), {"engine.speed": 0.3}
    with pytest.raises(ClientError, match=r"a worker of our client on \S+ was killed by SIGKILL"):
        run(tmp_path / "run", cluster.address, watch, **slow)
    kept = read_records(tmp_path / "run")
    assert len(kept.turns) >= watch.num_turns >= 8
    run(tmp_path / "run", cluster.address, resume=True, **slow)
    records = read_records(tmp_path / "run")  # refuses a turn that is there twice
    assert len(records.turns) == records.num_planned
    assert set(by_id(kept).items()) <= set(by_id(records).items())


def test_more_workers_than_the_cluster_has_cpus_are_refused(cluster, tmp_path):
    with pytest.raises(ConfigError, match="3 workers of the client need a CPU each, the cluster has 2"):
        run(tmp_path / "run", cluster.address, workers=3)


def test_an_engine_that_other_nodes_cannot_reach_is_told(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_workers.socket, "gethostname", lambda: "another-machine")
    with pytest.raises(ConfigError, match=r"the engine is at 127\.0\.0\.1, where workers on \S+ cannot reach it"):
        run(tmp_path / "run", cluster.address)


def by_id(records) -> dict:
    return {turn.id: (turn.prompt_sha256, turn.output_ids, turn.counts) for turn in records.turns}


def acceptance_of(folder: Path) -> dict:
    return without_speed(score_folder(folder).acceptance.model_dump(mode="json"))


def test_the_command_spreads_its_workers_and_ends_in_order_when_it_is_interrupted(cluster, tmp_path):
    load = ("--engine", "simulator", "--concurrency", 8, "--workers", 2, "--max-tokens", 32, "--no-baseline")
    command = ("run", *load, "--set", "engine.speed=0.3", "--out", tmp_path / "run")
    spread = ("--workers-on", "ray", "--address", cluster.address)
    stopped = start(*command, *spread)
    shards = [tmp_path / "run" / f"turns-{worker}.jsonl" for worker in range(2)]
    wait_until(lambda: all(num_lines(shard) >= 2 for shard in shards))
    stopped.send_signal(signal.SIGINT)
    output, errors = stopped.communicate(timeout=60)
    assert stopped.returncode == 130, output + errors
    assert "finish with: speed-bench run" in errors
    assert "Traceback" not in errors
    kept = read_records(tmp_path / "run")
    done = speed_bench(*command, *spread, "--resume")
    assert "clocks agree within" in done.stdout
    records = read_records(tmp_path / "run")
    assert len(records.turns) == records.num_planned
    assert set(by_id(kept).items()) <= set(by_id(records).items())


def test_an_address_without_a_cluster_to_be_on_is_told(tmp_path):
    done = speed_bench("run", "--address", "head:6379", "--out", tmp_path / "run", check=False)
    assert done.returncode == 2
    assert "--address is of a Ray cluster; add --workers-on ray" in done.stderr
