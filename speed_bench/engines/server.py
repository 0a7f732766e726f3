"""A managed engine: started as a child process, waited for, watched, stopped; never left behind."""

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import orjson
import psutil

from speed_bench.errors import ConfigError, EngineError, RequestFailed, unwritable

LOG_LINES_SHOWN = 30
STOP_GRACE_S = 5.0
CLOCK_CORRECTION_S = 2.0


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start an engine."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    """Added to our own environment."""


def free_port(wanted: int | None = None) -> int:
    """A loopback port that nothing listens on: `wanted` if given, else any. Raises ConfigError if taken."""
    with socket.socket() as probe:
        if os.name == "posix":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted or 0))
        except OSError as error:
            raise ConfigError(
                f"port {wanted} cannot be used: {error.strerror}; choose another with --set engine.port=PORT, "
                "or leave it out for a free one"
            ) from error
        return int(probe.getsockname()[1])


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
        try:
            self._log_file = self.log.open("ab")
        except OSError as error:
            raise unwritable(self.log, error) from error
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
                if await asyncio.wait_for(is_ready(), left_s):
                    return
            except (RequestFailed, TimeoutError):
                pass  # not listening yet, or still loading
            await asyncio.sleep(0.05)
        raise EngineError(f"engine '{self.name}' was not ready after {timeout_s:g} s{self._log_tail()}")

    def check_alive(self) -> None:
        """Raise EngineError if the process has ended."""
        if (code := self.exit_code()) is not None:
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
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
            process.kill()
            process.wait(STOP_GRACE_S)
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        pass  # no such file, or no such process: nothing to end
    pid_file.unlink(missing_ok=True)
