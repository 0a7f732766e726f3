"""A program of ours on the node of a cluster, which works in a folder there: started, listened to, stopped.

The program is one of our modules. It reads a message on its standard input, a pickle after its length, tells what
comes of it on standard output in the same form (`runner.worker`), and ends when its input closes.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import IO, Any, NamedTuple

import orjson
import psutil

from speed_bench.sweep.shipping import Copy, Held, Parcel, news

PREFIX = "speed-bench-"
OWNER = "program.owner"
"""The file that names the process which looks after a folder."""
LET_GO = b"let go"
"""The last that a program reads which is asked to stop: whoever started it looks after its folder. Without it, the
program does."""
STOP_S = 20.0
LOG_BYTES = 2000


class Node(NamedTuple):
    """Where a program runs."""

    host: str
    version: str
    """Of speed-bench there."""
    niceness: int
    """0, or more where the process may not take the CPU as others do."""
    folder: Path
    """The program's own, made when it starts."""


class News(NamedTuple):
    """What has happened since it was last asked."""

    told: bytes
    parcels: tuple[Parcel, ...]
    """Of its run folder: written before what it told."""
    exit_code: int | None
    """None while it runs."""


class RemoteProcess:
    """Lives on the node, in a process of the cluster's own."""

    def __init__(self) -> None:
        self._work = Path(tempfile.gettempdir()) / f"{PREFIX}{uuid.uuid4().hex}"
        self._process: subprocess.Popen[bytes] | None = None
        self._run_folder = self._work

    def node(self) -> Node:
        """Where this is. Takes the CPU as any process does, where it may."""
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, 0)
        return Node(socket.gethostname(), metadata.version("speed-bench"), os.nice(0), self._work)

    def start(
        self,
        module: str,
        message: bytes,
        run_folder: Path,
        parcels: Sequence[Parcel],
        cwd: str,
        env: Mapping[str, str],
    ) -> None:
        """Start the program, with what there is already of its run folder."""
        clear_abandoned(self._work.parent)
        self._run_folder = run_folder
        self._work.mkdir(mode=0o700)
        (self._work / OWNER).write_bytes(orjson.dumps(_identity(os.getpid())))
        run_folder.mkdir(parents=True, exist_ok=True)
        Copy(run_folder).take(parcels)
        with self._log("told").open("wb") as told, self._log("log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module],
                stdin=subprocess.PIPE,
                stdout=told,
                stderr=log,
                cwd=cwd if Path(cwd).is_dir() else self._work,
                env={**environment(), **env},
                start_new_session=True,
            )
        self.send(message)

    def send(self, message: bytes) -> None:
        """Tell the program something. That it is gone is in the news."""
        with suppress(BrokenPipeError):
            if not self._input.closed:
                self._input.write(message)
                self._input.flush()

    def news(self, held: Mapping[str, Held], num_heard: int) -> News:
        """What a copy of the run folder lacks, and what was told after so many bytes."""
        exit_code = self._process.poll() if self._process else None  # each of these before what it speaks of
        told = self._told(num_heard)
        return News(told, tuple(news(self._run_folder, held)), exit_code)

    def clock(self) -> int:
        """The clock that all processes of this node share, in nanoseconds."""
        return time.perf_counter_ns()

    def last_words(self) -> str:
        """The end of what the program printed on standard error."""
        return self._log("log").read_bytes()[-LOG_BYTES:].decode("utf-8", "replace")

    def stop(self) -> None:
        """Ask the program to end, and insist. What it wrote is there until `clear`."""
        if self._process is not None:
            self.send(LET_GO)
            with suppress(OSError):
                self._input.close()
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def clear(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self._work, ignore_errors=True)

    @property
    def _input(self) -> IO[bytes]:
        assert self._process is not None and self._process.stdin is not None  # noqa: S101, PT018
        return self._process.stdin

    def _log(self, name: str) -> Path:
        return self._work / f"program.{name}"

    def _told(self, num_heard: int) -> bytes:
        path = self._log("told")
        if not path.exists():
            return b""
        with path.open("rb") as file:
            file.seek(num_heard)
            return file.read()


def clear_abandoned(parent: Path) -> None:
    """Remove the folders of those that were killed before they could `clear` their own."""
    for owner in parent.glob(f"{PREFIX}*/{OWNER}"):
        try:
            identity = orjson.loads(owner.read_bytes())
            is_alive = psutil.pid_exists(identity["pid"]) and _identity(identity["pid"]) == identity
        except psutil.NoSuchProcess:
            is_alive = False
        except (OSError, ValueError, KeyError, TypeError, psutil.Error):
            continue  # being made or removed by another, or somebody else's
        if not is_alive:
            shutil.rmtree(owner.parent, ignore_errors=True)


def _identity(pid: int) -> dict[str, Any]:
    return {"pid": pid, "created_s": psutil.Process(pid).create_time()}


def environment() -> dict[str, str]:
    """Ours, without what Ray sets in its workers: an engine is to find what it finds without Ray."""
    found = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    if sys.platform == "linux":
        begun_with = Path("/proc/self/environ").read_bytes().split(b"\0")
        if not any(each.startswith(b"OMP_NUM_THREADS=") for each in begun_with):
            found.pop("OMP_NUM_THREADS", None)  # Ray limits it to the CPUs that a task asks for
    return found
