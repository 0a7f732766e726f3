"""A cell in a process of its own, started as the node of a cluster starts it; without a cluster."""

import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import orjson
import psutil
import pytest
from command import wait_until
from ray_sweeps import processes_of, sweep_of

from speed_bench.errors import SpeedBenchError
from speed_bench.runner.journal import read_records
from speed_bench.runner.messages import HasFailed, packed
from speed_bench.sweep.cell_messages import CellJob, HasBegun, IsOver, messages
from speed_bench.sweep.remote_process import OWNER, RemoteProcess, clear_abandoned, environment
from speed_bench.sweep.shipping import Copy

pytestmark = pytest.mark.long  # an engine for every test

STARTED: list[RemoteProcess] = []
MODULE = "speed_bench.sweep.cell_process"


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where temporary folders are made. What was started is stopped in the end."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    while STARTED:
        process = STARTED.pop()
        process.stop()
        process.clear()


class Driver:
    """Who listens to it."""

    def __init__(self, cell, folder: Path, process: RemoteProcess) -> None:
        self.process, self.copy, self.heard = process, Copy(folder), []
        self._num_heard = 0
        STARTED.append(process)
        node = process.node()
        job = packed(CellJob(cell, node.folder))
        process.start(MODULE, job, cell.folder(node.folder), self.copy.parcels(), "/nowhere", {})

    def gather(self) -> bool:
        news = self.process.news(self.copy.held, self._num_heard)
        self.copy.take(news.parcels)
        found, num = messages(news.told)
        self._num_heard += num
        self.heard += found
        return news.exit_code is not None and not news.parcels and not news.told

    def gather_until(self, condition) -> None:
        wait_until(lambda: self.gather() or condition(), 60)


def folder_of(path: Path) -> Path:
    path.mkdir()
    return path


def test_a_cell_is_gathered_to_its_end(tmp_path, temporary):
    _, (cell, _) = sweep_of()
    driver = Driver(cell, folder_of(tmp_path / "here"), RemoteProcess())
    driver.gather_until(lambda: False)
    records = read_records(tmp_path / "here")
    assert driver.heard == [HasBegun(records.num_planned), IsOver()]
    assert len(records.turns) == records.num_planned == driver.copy.num_outcomes
    assert [segment.whole for segment in records.segments] == [True]
    driver.process.stop()
    driver.process.clear()
    assert list(temporary.iterdir()) == []


def test_a_cell_that_is_stopped_ends_its_engine_and_is_gone_on_with(tmp_path, temporary):
    _, (cell, _) = sweep_of(engine={"speed": 0.4})
    driver = Driver(cell, folder_of(tmp_path / "here"), RemoteProcess())
    driver.gather_until(lambda: driver.copy.num_outcomes >= 2)
    engines = processes_of(cell)
    assert engines
    driver.process.stop()
    assert processes_of(cell) == []
    driver.gather_until(lambda: False)
    assert [type(message) for message in driver.heard] == [HasBegun]
    kept = read_records(tmp_path / "here").turns
    driver.process.clear()
    again = Driver(cell, tmp_path / "here", RemoteProcess())
    again.gather_until(lambda: False)
    records = read_records(tmp_path / "here")
    assert records.turns[: len(kept)] == kept
    assert len(records.turns) == records.num_planned
    assert [segment.whole for segment in records.segments] == [False, True]


def test_a_cell_that_nobody_looks_after_any_more_ends_and_leaves_nothing(tmp_path, temporary):
    _, (cell, _) = sweep_of(engine={"speed": 0.4})
    driver = Driver(cell, folder_of(tmp_path / "here"), RemoteProcess())
    driver.gather_until(lambda: driver.copy.num_outcomes >= 2)
    driver.process._input.close()  # as when whoever started it is killed
    wait_until(lambda: processes_of(cell) == [])
    wait_until(lambda: list(temporary.iterdir()) == [])


def test_an_error_comes_as_it_was_raised(tmp_path, temporary):
    _, (cell, _) = sweep_of(engine={"faults": [{"kind": "crash", "request": 2}]})
    driver = Driver(cell, folder_of(tmp_path / "here"), RemoteProcess())
    driver.gather_until(lambda: False)
    (end,) = [message for message in driver.heard if isinstance(message, HasFailed)]
    assert isinstance(end.error, SpeedBenchError)
    assert "engine 'simulator' was killed" in str(end.error) or "ended with exit code" in str(end.error)
    driver.process.clear()


def test_what_a_killed_process_left_is_cleared_and_what_a_living_one_has_is_not(temporary):
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        created_s = psutil.Process(sleeper.pid).create_time()
        owners = {
            "speed-bench-alive": {"pid": sleeper.pid, "created_s": created_s},
            "speed-bench-another": {"pid": sleeper.pid, "created_s": created_s - 1000.0},  # its number is taken again
            "other-alive": {"pid": 2**22 + 1, "created_s": 0.0},
        }
        for name, owner in owners.items():
            (temporary / name).mkdir()
            (temporary / name / OWNER).write_bytes(orjson.dumps(owner))
        (temporary / "speed-bench-new").mkdir()  # nobody has said yet whose it is
        (temporary / "speed-bench-torn").mkdir()
        (temporary / "speed-bench-torn" / OWNER).write_bytes(b'{"pid":')
        clear_abandoned(temporary)
        left = {path.name for path in temporary.iterdir()}
        assert left == {"speed-bench-alive", "other-alive", "speed-bench-new", "speed-bench-torn"}
    finally:
        sleeper.kill()
        sleeper.wait()
    clear_abandoned(temporary)
    assert not (temporary / "speed-bench-alive").exists()


def test_an_engine_finds_the_environment_that_it_has_without_ray(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # set after this process began, as Ray does
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    found = environment()
    assert not {name for name in found if name.startswith("RAY_")}
    assert found["CUDA_VISIBLE_DEVICES"] == "2,3"
    if b"OMP_NUM_THREADS=" not in Path("/proc/self/environ").read_bytes():
        assert "OMP_NUM_THREADS" not in found


def test_a_signal_that_the_parent_blocks_reaches_the_engine_of_a_cell(tmp_path, temporary):
    _, (cell, _) = sweep_of(engine={"speed": 0.4})
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # as in a worker of Ray
    try:
        driver = Driver(cell, folder_of(tmp_path / "here"), RemoteProcess())
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    driver.gather_until(lambda: driver.copy.num_outcomes >= 1)
    for engine in processes_of(cell):
        status = Path(f"/proc/{engine.pid}/status").read_text()
        (blocked,) = [line.split()[1] for line in status.splitlines() if line.startswith("SigBlk")]
        assert not int(blocked, 16) & 1 << (signal.SIGINT - 1)
    driver.process.stop()
    driver.process.clear()
