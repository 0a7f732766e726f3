"""A managed child process: started, waited for, watched, ended."""

import asyncio
import socket
import subprocess
import sys
import time
from pathlib import Path

import orjson
import psutil
import pytest

from speed_bench.engines.server import Launch, ManagedServer, free_port, reclaim
from speed_bench.errors import ConfigError, EngineError

SLEEP = "import time; print('hello', flush=True); time.sleep(60)"
DIES = "import sys; print('\\n'.join(f'line {n}' for n in range(50))); sys.exit(3)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"


@pytest.fixture
def server(tmp_path: Path):
    made: list[ManagedServer] = []

    def make(code: str) -> ManagedServer:
        launch = Launch((sys.executable, "-c", code), {"MARK": "1"})
        made.append(ManagedServer(launch, name="toy", log=tmp_path / "toy.log", pid_file=tmp_path / "toy.pid"))
        made[-1].start()
        return made[-1]

    yield make
    for each in made:
        each.stop()


async def yes() -> bool:
    return True


async def never() -> bool:
    return False


async def hangs() -> bool:
    await asyncio.sleep(60)
    return True


def test_it_runs_until_it_is_stopped_and_leaves_no_pid_file(server, tmp_path: Path) -> None:
    running = server(SLEEP)
    asyncio.run(running.wait_ready(yes, 5))
    pid = orjson.loads((tmp_path / "toy.pid").read_bytes())["pid"]
    assert psutil.pid_exists(pid)
    running.stop()
    running.stop()
    assert not psutil.pid_exists(pid)
    assert not (tmp_path / "toy.pid").exists()


def test_one_that_ignores_the_request_is_made_to_end(server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("speed_bench.engines.server.STOP_GRACE_S", 0.2)
    running = server(STUBBORN)
    while "up" not in (tmp_path / "toy.log").read_text():
        time.sleep(0.01)
    pid = orjson.loads((tmp_path / "toy.pid").read_bytes())["pid"]
    running.stop()
    assert not psutil.pid_exists(pid)


def test_one_that_dies_at_start_is_reported_with_the_end_of_its_log(server) -> None:
    with pytest.raises(EngineError) as caught:
        asyncio.run(server(DIES).wait_ready(never, 10))
    assert "engine 'toy' ended with exit code 3; its log is" in str(caught.value)
    assert "line 49" in str(caught.value)
    assert "line 19\n" not in str(caught.value)


@pytest.mark.parametrize("is_ready", [never, hangs])
def test_one_that_is_never_ready_is_given_up(server, is_ready) -> None:
    with pytest.raises(EngineError, match=r"was not ready after 0\.3 s"):
        asyncio.run(server(SLEEP).wait_ready(is_ready, 0.3))


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    absent = ManagedServer(Launch(("no-such-engine",), {}), name="toy", log=tmp_path / "l", pid_file=tmp_path / "p")
    with pytest.raises(EngineError, match=r"engine 'toy' cannot be started: .*no-such-engine"):
        absent.start()


def test_one_that_survived_its_runner_is_reclaimed_once(server, tmp_path: Path) -> None:
    survivor = server(SLEEP)
    reclaim(tmp_path / "toy.pid")
    assert survivor.exit_code() is not None
    assert not (tmp_path / "toy.pid").exists()
    reclaim(tmp_path / "toy.pid")


def test_another_process_of_the_same_pid_is_left_alone(tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", SLEEP], stdout=subprocess.DEVNULL)
    try:
        for text in (f'{{"pid":{other.pid},"created_s":1.0}}', "{", "[]", '{"pid":"x"}', '{"pid":-1}'):
            (tmp_path / "toy.pid").write_text(text)
            reclaim(tmp_path / "toy.pid")
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_a_port_is_free_or_it_is_named() -> None:
    port = free_port()
    assert free_port(port) == port
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        with pytest.raises(ConfigError, match=f"port {port} cannot be used: Address already in use"):
            free_port(port)
