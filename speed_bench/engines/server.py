"""A managed engine: started as a child process, waited for, watched, stopped; never left behind.

Or an attached one, which is somebody else's: only looked at.
"""

import asyncio
import errno
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

import orjson
import psutil

from speed_bench.engine_config import EngineSettings
from speed_bench.engines import keeper
from speed_bench.errors import ConfigError, EngineError, RequestFailed, unwritable

LOG_LINES_SHOWN = 30
STOP_GRACE_S = 5.0
CLOCK_CORRECTION_S = 2.0


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start an engine."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    """Added to our own environment."""
    files: Mapping[Path, str] = field(default_factory=dict)
    """Written before it starts."""


def kept(command: Sequence[str], settings: EngineSettings, port: int) -> tuple[str, ...]:
    """The argv that starts an engine's own command under our keeper, through `engine.launch` where that is given.

    In the template a word `{command}` stands for all words of the command; as part of a word, such as of a
    script for a shell, for the command quoted for a shell. `{port}` stands for the port.

    >>> argv = kept(["vllm", "serve"], EngineSettings(name="vllm", launch="srun -N1 {command}"), 8000)
    >>> argv[2:]
    ('srun', '-N1', 'vllm', 'serve')
    """
    words: list[str] = []
    for word in shlex.split(settings.launch or "{command}"):
        if word == "{command}":
            words += command
        else:
            words.append(word.replace("{command}", shlex.join(command)).replace("{port}", str(port)))
    return (sys.executable, str(keeper.__file__), *words)


def interpreter(settings: EngineSettings, *, ours: bool = False) -> str:
    """The Python that the engine's command names: another environment's, or ours.

    With `engine.launch` it is whichever is there, as in a container, unless the engine is a part of speed-bench.
    """
    return settings.python or ("python3" if settings.launch and not ours else sys.executable)


def free_port(wanted: int | None = None, host: str = "127.0.0.1") -> int:
    """A port that nothing listens on: `wanted` if given, else any. Raises ConfigError if taken.

    A host that is not ours cannot be asked; what is free here is taken there.
    """
    with socket.socket() as probe:
        if os.name == "posix":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1" if host == "localhost" else host, wanted or 0))
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
                return wanted or free_port()
            raise ConfigError(
                f"port {wanted} cannot be used: {error.strerror}; choose another with --set engine.port=PORT, "
                "or leave it out for a free one"
            ) from error
        return int(probe.getsockname()[1])


class Server(Protocol):
    """The process behind an engine, as far as it is known."""

    @property
    def name(self) -> str:
        """Of its engine."""

    def check_alive(self) -> None:
        """Raise EngineError if it has ended."""

    def stop(self) -> None:
        """End it, if it is ours to end."""


@dataclass(frozen=True, slots=True)
class AttachedServer:
    """A server that ran before we came and runs on after us."""

    name: str

    def check_alive(self) -> None:
        """Not ours to know: that it answers is all."""

    def stop(self) -> None:
        """Not ours to stop."""


class ManagedServer:
    """A child process that dies with us.

    Three things see to that: whoever starts it stops it on every way out; the child ends itself
    when its parent dies or the pipe to its parent closes; and a pid file lets a later
    `reclaim` end one that survived all the same.
    """

    def __init__(self, launch: Launch, *, name: str, log: Path, pid_file: Path) -> None:
        self.launch = launch
        self.name = name
        self.log = log
        self.pid_file = pid_file
        self._process: subprocess.Popen[bytes] | None = None
        self._log_file: IO[bytes] | None = None

    def start(self) -> None:
        """Start the process; it is not ready yet."""
        writing = self.log
        try:
            self._log_file = self.log.open("ab")
            for writing, text in self.launch.files.items():
                writing.write_text(text, "utf-8")
        except OSError as error:
            raise unwritable(writing, error) from error
        try:
            self._process = subprocess.Popen(
                self.launch.argv,
                env={**os.environ, **self.launch.env},
                stdin=subprocess.PIPE,
                stdout=self._log_file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            self._log_file.close()
            raise EngineError(f"engine '{self.name}' cannot be started: {error}") from error
        identity = {"pid": self._process.pid, "created_s": psutil.Process(self._process.pid).create_time()}
        try:
            self.pid_file.write_bytes(orjson.dumps(identity))
        except OSError as error:
            raise unwritable(self.pid_file, error) from error

    async def wait_ready(self, is_ready: Callable[[], Awaitable[bool]], timeout_s: float) -> None:
        """Wait until `is_ready`; raises EngineError with the end of the log when it dies or is late."""
        deadline = time.monotonic() + timeout_s
        while (left_s := deadline - time.monotonic()) > 0:
            self.check_alive()
            try:
                async with asyncio.timeout(left_s):  # unlike wait_for in Python 3.11 it loses no cancellation
                    if await is_ready():
                        return
            except (RequestFailed, TimeoutError):
                pass  # not listening yet, or still loading
            await asyncio.sleep(0.05)
        raise EngineError(f"engine '{self.name}' was not ready after {timeout_s:g} s{self._log_tail()}")

    def check_alive(self) -> None:
        """Raise EngineError if the process has ended."""
        if (code := self.exit_code()) is not None:
            number = -code if code < 0 else code - 128  # our keeper passes on what ended the engine
            is_signal = number in {each.value for each in signal.Signals}
            how = f"was killed by {signal.Signals(number).name}" if is_signal else f"ended with exit code {code}"
            raise EngineError(f"engine '{self.name}' {how}{self._log_tail()}")

    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll() if self._process else None

    def stop(self) -> None:
        """End it: ask, wait, insist. Does nothing the second time."""
        process, self._process = self._process, None
        if process is not None:
            if process.stdin:
                process.stdin.close()
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(STOP_GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            self.pid_file.unlink(missing_ok=True)
        if self._log_file is not None:
            self._log_file.close()

    def _log_tail(self) -> str:
        lines = self.log.read_text("utf-8", "replace").splitlines()[-LOG_LINES_SHOWN:]
        return f"; its log is {self.log}, and ends:\n" + "\n".join(f"  {line}" for line in lines) if lines else ""


def reclaim(pid_file: Path) -> None:
    """End the engine that a killed run left behind, if it is still there.

    Only the very process that was started is ended: same pid, and same start time but for what
    the clock was corrected by since.
    """
    try:
        identity = orjson.loads(pid_file.read_bytes())
        process = psutil.Process(int(identity["pid"]))
        if abs(process.create_time() - identity["created_s"]) < CLOCK_CORRECTION_S:
            ours = [*process.children(recursive=True), process]
            for each in ours:
                with suppress(psutil.NoSuchProcess):
                    each.kill()
            psutil.wait_procs(ours, STOP_GRACE_S)
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        pass  # no such file, or no such process: nothing to end
    pid_file.unlink(missing_ok=True)
