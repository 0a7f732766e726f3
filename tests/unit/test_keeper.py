"""The keeper of an engine that does not know us: nothing that it started outlives it, or the runner."""

import os
import shlex
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from command import wait_until

from speed_bench.engine_config import EngineSettings
from speed_bench.engines import keeper
from speed_bench.engines.server import Launch, ManagedServer, kept, reclaim
from speed_bench.errors import EngineError, RunFolderError

KEEPER = (sys.executable, str(keeper.__file__))
ENGINE = """
    import os, subprocess, sys, time
    worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    open(sys.argv[1], "a").write(f"{os.getpid()}\\n{worker.pid}\\n")
    time.sleep(60)
"""
"""Starts a worker, as engines do, and writes down both process ids."""
STUBBORN = """
    import os, signal, sys, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    open(sys.argv[1], "a").write(f"{os.getpid()}\\n")
    time.sleep(60)
"""
LEAVES_A_WORKER = """
    import os, subprocess, sys
    worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    open(sys.argv[1], "a").write(f"{os.getpid()}\\n{worker.pid}\\n")
"""
RUNNER = """
    import sys, time
    from pathlib import Path
    from speed_bench.engines.server import Launch, ManagedServer
    folder = Path(sys.argv[1])
    ManagedServer(Launch(tuple(sys.argv[2:])), name="toy", log=folder / "log", pid_file=folder / "pid").start()
    time.sleep(60)
"""


def python(code: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]


class Started:
    """What an engine wrote down of itself and its worker."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def pids(self, num: int = 2) -> list[int]:
        """Wait for so many."""
        wait_until(lambda: self.file.exists() and self.file.read_text().count("\n") == num, 10)
        return [int(line) for line in self.file.read_text().split()]

    def lives(self) -> list[int]:
        return [pid for pid in self.pids(self.file.read_text().count("\n")) if is_running(pid)]


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Started]:
    written = Started(tmp_path / "pids")
    yield written
    for pid in written.lives() if written.file.exists() else ():
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def keep(started: Started) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start something under a keeper; whatever a test does, it is ended."""
    made: list[subprocess.Popen[bytes]] = []

    def start(code: str, *arguments: object) -> subprocess.Popen[bytes]:
        command = [*KEEPER, *python(code, started.file, *arguments)]
        made.append(subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True))
        return made[-1]

    yield start
    for process in made:
        process.kill()
        process.stdin.close()
        process.wait()


class TestKeeper:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_asked_to_end_it_ends_the_engine_and_its_children(
        self, keep: Callable, started: Started, number: int
    ) -> None:
        process = keep(ENGINE)
        assert len(started.pids()) == 2
        process.send_signal(number)
        assert process.wait(10) == 128 + signal.SIGTERM
        wait_until(lambda: started.lives() == [], 5)

    def test_when_its_standard_input_closes_it_ends_them(self, keep: Callable, started: Started) -> None:
        process = keep(ENGINE)
        assert len(started.pids()) == 2
        process.stdin.close()
        process.wait(10)
        wait_until(lambda: started.lives() == [], 5)

    def test_one_that_ignores_the_request_is_made_to_end(self, started: Started, tmp_path: Path) -> None:
        impatient = tmp_path / "impatient.py"
        impatient.write_text(Path(keeper.__file__).read_text().replace("GRACE_S = 4.0", "GRACE_S = 0.2"))
        command = [sys.executable, impatient, *python(STUBBORN, started.file)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as process:
            started.pids(1)
            process.terminate()
            assert process.wait(10) == 128 + signal.SIGKILL
        assert started.lives() == []

    def test_what_an_engine_leaves_behind_ends_with_it(self, keep: Callable, started: Started) -> None:
        assert keep(LEAVES_A_WORKER).wait(10) == 0
        assert len(started.pids()) == 2
        wait_until(lambda: started.lives() == [], 5)

    @pytest.mark.skipif(sys.platform != "linux", reason="a signal at the parent's death is Linux's")
    def test_killed_it_takes_the_engine_with_it(self, keep: Callable, started: Started) -> None:
        process = keep(ENGINE)
        engine, _ = started.pids()
        process.kill()
        process.wait()
        wait_until(lambda: not is_running(engine), 5)

    @pytest.mark.parametrize(
        ("code", "passed_on"),
        [
            ("", 0),
            ("raise SystemExit(3)", 3),
            ("import os; os.kill(os.getpid(), 9)", 128 + 9),
            ("import os; os.kill(os.getpid(), 11)", 128 + 11),
        ],
    )
    def test_its_exit_code_is_the_engines(self, keep: Callable, code: str, passed_on: int) -> None:
        assert keep(code).wait(10) == passed_on

    def test_a_program_that_is_not_there_is_one_sentence(self) -> None:
        done = subprocess.run([*KEEPER, "no-such-engine"], capture_output=True, text=True, stdin=subprocess.PIPE)
        assert (done.returncode, done.stderr) == (127, "no-such-engine cannot be started: No such file or directory\n")

    def test_the_engine_cannot_read_what_is_meant_for_the_keeper(self, keep: Callable) -> None:
        process = keep("import sys; raise SystemExit(len(sys.stdin.read()) + 7)")
        assert process.wait(10) == 7


class TestTemplate:
    COMMAND = ("vllm", "--config", '{"a": "it\'s"}')

    def words(self, template: str | None) -> tuple[str, ...]:
        argv = kept(self.COMMAND, EngineSettings(name="vllm", launch=template), 8123)
        assert argv[:2] == KEEPER
        return argv[2:]

    def test_without_one_the_command_is_started_as_it_is(self) -> None:
        assert self.words(None) == self.COMMAND

    def test_a_word_stands_for_all_words(self) -> None:
        template = "docker run --gpus 'all devices' -p {port}:{port} image {command} --more"
        before = ("docker", "run", "--gpus", "all devices", "-p", "8123:8123", "image")
        assert self.words(template) == (*before, *self.COMMAND, "--more")

    def test_inside_a_word_it_is_quoted_for_a_shell(self) -> None:
        *shell, script = self.words("bash -c 'cd /models && exec {command}'")
        assert shell == ["bash", "-c"]
        assert script.startswith("cd /models && exec ")
        assert tuple(shlex.split(script)[4:]) == self.COMMAND

    def test_a_shell_in_between_is_ended_with_what_it_started(self, tmp_path: Path, started: Started) -> None:
        settings = EngineSettings(name="toy", launch="sh -c '{command}; echo ended'")
        argv = kept(python(ENGINE, started.file), settings, 8123)
        server = ManagedServer(Launch(argv), name="toy", log=tmp_path / "log", pid_file=tmp_path / "pid")
        server.start()
        assert len(started.pids()) == 2
        server.stop()
        wait_until(lambda: started.lives() == [], 5)

    @pytest.mark.parametrize(
        ("template", "sentence"),
        [
            ("docker run image", "does not say where the engine's command goes: {command}"),
            ("bash -c '{command}", "cannot be split into words (No closing quotation): bash -c '{command}"),
            ("{command} \\", "cannot be split into words (No escaped character)"),
        ],
    )
    def test_one_that_cannot_be_used_is_never_made(self, template: str, sentence: str) -> None:
        with pytest.raises(ValueError) as refused:
            EngineSettings(name="vllm", launch=template)
        assert f"engine.launch {sentence}" in str(refused.value)


class TestRunner:
    def server(self, tmp_path: Path, *command: str, **launch: object) -> ManagedServer:
        argv = kept(command, EngineSettings(name="toy"), 8123)
        return ManagedServer(Launch(argv, **launch), name="toy", log=tmp_path / "log", pid_file=tmp_path / "pid")

    def test_a_killed_runner_leaves_nothing_behind(self, tmp_path: Path, started: Started) -> None:
        runner = subprocess.Popen(python(RUNNER, tmp_path, *KEEPER, *python(ENGINE, started.file)))
        try:
            pids = started.pids()
            ours = [*psutil.Process(runner.pid).children(recursive=True)]
            assert {*pids} < {process.pid for process in ours}, "the keeper is between"
        finally:
            runner.kill()
            runner.wait()
        _, alive = psutil.wait_procs(ours, 10)
        assert alive == []

    def test_it_stops_the_engine_and_its_children(self, tmp_path: Path, started: Started) -> None:
        server = self.server(tmp_path, *python(ENGINE, started.file))
        server.start()
        assert len(started.pids()) == 2
        server.stop()
        wait_until(lambda: started.lives() == [], 5)

    def test_reclaiming_a_keeper_ends_its_children_too(self, tmp_path: Path, started: Started) -> None:
        server = self.server(tmp_path, *python(ENGINE, started.file))
        server.start()
        try:
            assert len(started.pids()) == 2
            reclaim(tmp_path / "pid")
            assert server.exit_code() is not None
            assert started.lives() == []
        finally:
            server.stop()

    @pytest.mark.parametrize(
        ("code", "how"),
        [
            ("raise SystemExit('out of memory')", "ended with exit code 1; .*\n  out of memory$"),
            ("import os; os.kill(os.getpid(), 9)", "was killed by SIGKILL"),
            ("raise SystemExit(255)", "ended with exit code 255"),
        ],
    )
    def test_how_the_engine_ended_is_told_through_the_keeper(self, tmp_path: Path, code: str, how: str) -> None:
        server = self.server(tmp_path, *python(code))
        server.start()
        try:
            wait_until(lambda: server.exit_code() is not None, 10)
            with pytest.raises(EngineError, match=f"(?s)engine 'toy' {how}"):
                server.check_alive()
        finally:
            server.stop()

    def test_its_files_are_there_before_it_starts(self, tmp_path: Path) -> None:
        file = tmp_path / "options.yaml"
        reads = python("import sys; print(open(sys.argv[1], encoding='utf-8').read())", file)
        server = self.server(tmp_path, *reads, files={file: "ä: 1"})
        server.start()
        wait_until(lambda: server.exit_code() is not None, 10)
        server.stop()
        assert (tmp_path / "log").read_text() == "ä: 1\n"

    def test_a_file_that_cannot_be_written_is_named(self, tmp_path: Path) -> None:
        server = self.server(tmp_path, "true", files={tmp_path / "absent" / "options.yaml": ""})
        with pytest.raises(RunFolderError, match=r"absent/options\.yaml cannot be written: No such file"):
            server.start()
        server.stop()
        assert not (tmp_path / "pid").exists()
