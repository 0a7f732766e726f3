"""Streams spread over worker processes: the same answers as from one, and no turn is lost when one of them dies."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from asyncio.subprocess import PIPE
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from command import num_lines, start, wait_until
from simulated import FAST, Watching, simulated

from speed_bench.config import resolve
from speed_bench.data.editions import load
from speed_bench.engines.answers import Drafting
from speed_bench.engines.http import Url
from speed_bench.engines.server import AttachedServer
from speed_bench.errors import ClientError, EngineError
from speed_bench.models import resolve_gguf
from speed_bench.runner import event_loop
from speed_bench.runner import workers as workers_module
from speed_bench.runner.client import Client, Target
from speed_bench.runner.conversation import Task
from speed_bench.runner.journal import read_records
from speed_bench.runner.messages import Job, Start
from speed_bench.runner.preparation import TokenizerSource
from speed_bench.runner.share import Plan, Share, Told
from speed_bench.runner.workers import _Several

WORKER = "speed_bench.runner.worker"
SLOW = {"engine.speed": 2.0, "concurrency": 6, "workers": 3, "limit_per_category": 4}


def workers() -> list[psutil.Process]:
    """Those that were started by this process and still run."""
    children = psutil.Process().children(recursive=True)
    return [each for each in children if each.is_running() and WORKER in each.cmdline()]


def answers(folder: Path) -> dict:
    return {turn.key: turn.output_ids for turn in read_records(folder).turns}


def test_several_workers_ask_the_same_as_one_and_each_keeps_what_it_asked(tmp_path: Path) -> None:
    records = simulated(tmp_path / "three", concurrency=6, workers=3, limit_per_category=4)
    simulated(tmp_path / "one", concurrency=6, workers=1, limit_per_category=4)
    assert answers(tmp_path / "three") == answers(tmp_path / "one")
    assert {path.name for path in (tmp_path / "three").glob("turns-*.jsonl")} == {f"turns-{n}.jsonl" for n in range(3)}
    assert {turn.slot for turn in records.turns} == set(range(6))
    [segment] = records.segments
    assert segment.client.num_workers == 3
    assert segment.client.num_reads >= sum(len(turn.arrivals) for turn in records.turns)
    assert workers() == []


@pytest.mark.long
def test_a_worker_that_is_killed_costs_its_turns_under_way_and_nothing_else(tmp_path: Path) -> None:
    def kill_one(num_ended: int) -> None:
        if num_ended == 2:
            workers()[0].kill()

    watching = Watching(kill_one)
    with pytest.raises(ClientError, match=r"a worker of our client \(pid \d+\) was killed by SIGKILL") as died:
        simulated(tmp_path, watching=watching, **SLOW)
    assert any("kept" in note and "--resume" in note for note in died.value.__notes__)
    kept = answers(tmp_path)
    assert {turn.key for turn in watching.ended} <= set(kept)
    assert workers() == []
    finished = simulated(tmp_path, resume=True, **SLOW)
    assert len(finished.turns) == finished.num_planned
    assert kept.items() <= answers(tmp_path).items()


@pytest.mark.long
def test_an_engine_that_is_killed_under_several_workers_ends_the_run_in_one_sentence(tmp_path: Path) -> None:
    def kill_engine(num_ended: int) -> None:
        if num_ended == 2:
            for each in psutil.Process().children(recursive=True):
                if "simulator" in " ".join(each.cmdline()):
                    each.kill()

    with pytest.raises(EngineError, match=r"was killed by SIGKILL|does not answer any more"):
        simulated(tmp_path, watching=Watching(kill_engine), **SLOW)
    kept = read_records(tmp_path)
    assert kept.turns
    assert not kept.segments[-1].whole
    assert workers() == []


@pytest.mark.long
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_whatever_ends_a_run_its_workers_and_its_engine_end_too(tmp_path: Path, how: signal.Signals) -> None:
    settings = [f"--set={key}={value}" for key, value in {**FAST, **SLOW}.items() if key not in ("engine", "baseline")]
    process = start("run", "--engine", "simulator", "--no-baseline", *settings, "--out", tmp_path / "run")
    shards = [tmp_path / "run" / f"turns-{worker}.jsonl" for worker in range(3)]
    wait_until(lambda: sum(map(num_lines, shards)) >= 2)
    ours = psutil.Process(process.pid).children(recursive=True)
    assert sum(WORKER in each.cmdline() for each in ours) == 3
    os.killpg(process.pid, how)
    process.communicate(timeout=30)
    wait_until(lambda: not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in ours), 10)
    records = read_records(tmp_path / "run")
    assert len(records.turns) >= 2
    assert len(simulated(tmp_path / "run", resume=True, **SLOW).turns) == records.num_planned


@pytest.mark.long
def test_a_load_that_was_killed_after_its_last_turn_is_begun_again_since_nothing_says_how_long_it_took(
    tmp_path: Path,
) -> None:
    flags = {"arrivals": "constant", "rate": 40.0, "concurrency": 4}
    whole = simulated(tmp_path, **flags)
    begun, *_ = (tmp_path / "segments.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "segments.jsonl").write_bytes(begun)
    again = simulated(tmp_path, resume=True, **flags)
    assert {turn.key for turn in again.turns} == {turn.key for turn in whole.turns}
    assert [segment.whole for segment in again.segments] == [True]
    assert num_lines(tmp_path / "interrupted-1" / "turns-0.jsonl") == len(whole.turns)


@pytest.mark.long
def test_a_load_that_was_interrupted_is_begun_again_and_what_there_was_of_it_stays(tmp_path: Path) -> None:
    flags = {"arrivals": "constant", "rate": 20.0, "concurrency": 4}

    def stop(num_ended: int) -> None:
        if num_ended == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulated(tmp_path, watching=Watching(stop), **flags)
    interrupted = [turn.key for turn in read_records(tmp_path).turns]
    records = simulated(tmp_path, resume=True, **flags)
    assert len(records.turns) == records.num_planned
    assert [segment.whole for segment in records.segments] == [True]
    assert num_lines(tmp_path / "interrupted-1" / "turns-0.jsonl") == len(interrupted) >= 2


TELLS = """
import sys, time
sys.stdin.read()
for _ in range(8):
    time.sleep(0.2)
    print("kept", flush=True)
"""
KEEPS_SILENT = "import sys, time; sys.stdin.read(); time.sleep(60)"


async def ended(code: str) -> int | None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdin=PIPE, stdout=PIPE)
    await workers_module._stopped(process)
    return process.returncode


def test_a_worker_that_still_keeps_what_had_come_is_waited_for_and_one_that_does_not_is_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workers_module, "STOP_S", 1.0)
    assert asyncio.run(ended(TELLS)) == 0
    assert asyncio.run(ended(KEEPS_SILENT)) == -signal.SIGKILL


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells which signals a process ignores")
def test_a_signal_to_all_processes_ends_no_worker_before_it_has_kept_what_had_come() -> None:
    worker = subprocess.Popen([sys.executable, "-m", WORKER], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert worker.stdin is not None
    status = Path(f"/proc/{worker.pid}/status")

    def ignores(number: int) -> bool:
        mask = next(line.split()[1] for line in status.read_text().splitlines() if line.startswith("SigIgn"))
        return bool(int(mask, 16) >> (number - 1) & 1)

    wait_until(lambda: ignores(signal.SIGTERM) and ignores(signal.SIGINT))
    worker.terminate()
    worker.stdin.close()
    assert worker.wait(10) == 1  # its parent has hung up


def test_a_worker_that_is_gone_before_it_is_told_to_start_is_named_as_what_ended_the_run() -> None:
    async def main() -> None:
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", "", stdin=PIPE, stdout=PIPE)
        await process.wait()
        await asyncio.sleep(0.1)
        several = _Several([], SimpleNamespace(), SimpleNamespace(), lambda _: None)  # type: ignore[arg-type]
        several._send(process, Start(0))
        with pytest.raises(ClientError, match="ended with exit code 0"):
            await several._listen(process, Told)

    event_loop.run(main())


class Silent(asyncio.Protocol):
    """A server that takes connections, and says nothing."""

    num = 0

    def connection_made(self, _: asyncio.BaseTransport) -> None:
        Silent.num += 1


@pytest.mark.long
def test_a_worker_that_waits_for_a_silent_engine_still_hears_that_it_is_not_wanted_any_more(tmp_path: Path) -> None:
    config, _ = resolve({**FAST, "concurrency": 2, "workers": 2})
    source = TokenizerSource(str(resolve_gguf(str(config.model))), is_gguf=True)
    task = Task(load("open", "starter").rows[0], 0)

    async def main() -> list[int | None]:
        server = await asyncio.get_running_loop().create_server(Silent, "127.0.0.1", 0)
        url = Url("127.0.0.1", server.sockets[0].getsockname()[1])
        target = Target(config.engine, url, "silent", Drafting(8), None, 0, 300.0)
        plan = Plan(config, (task, task), None, None, {})
        jobs = [Job(plan, Share(worker, 2), target, source, tmp_path, "") for worker in range(2)]
        engine = SimpleNamespace(server=AttachedServer("silent"), clock=time.perf_counter_ns)
        control = Client(target, source.load(), ())
        several = _Several(jobs, engine, control, lambda _: None)  # type: ignore[arg-type]
        preparing = asyncio.create_task(several.prepare())
        while Silent.num < 2:
            await asyncio.sleep(0.01)
        preparing.cancel()
        await asyncio.wait([preparing])
        await several.stop()
        server.close()
        return [process.returncode for process in several._processes]

    assert asyncio.run(main()) == [1, 1]  # by themselves: killed ones say -9
