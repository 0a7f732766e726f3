"""One client at a load, in processes of its own and against a server of its own: what it spent, and what it told."""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
import psutil
from clients import Asked, Client, FloatArray, Told, hub, prompts

HERE = Path(__file__).parent
BYTECODE = HERE.parent / "build" / "bytecode"
"""Where modules are compiled to, even where nothing else may be: so that they are only at a client's first start."""
CASE_LIMIT_S = 400.0
STOP_S = 5.0
LOOK_S = 0.01
RANKS = (50, 99)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Load:
    """What the server does, and for how many."""

    streams: int
    rounds: int
    interval_ms: float
    chunks: tuple[int, int]
    together: bool = False


# --- the server ----------------------------------------------------------------------------------


@dataclass(slots=True)
class EventServer:
    """The server's process, seen from here."""

    url: str
    client: psutil.Process | None = None
    begun_s: float | None = None
    """When the first request was there, by the monotonic clock."""
    cpu_s: list[float] = field(default_factory=list)
    """Of `client` and all its children, at the first request and whenever no stream is left."""

    def watch(self, lines: IO[str]) -> None:
        """Follow what the server prints, to its end."""
        for line in lines:
            if self.client is None or (line == "busy\n" and self.cpu_s):
                continue
            if self.begun_s is None:
                self.begun_s = time.monotonic()
            self.cpu_s.append(tree_cpu_s(self.client))

    @property
    def is_drained(self) -> bool:
        """Whether no stream is left, for now."""
        return len(self.cpu_s) > 1

    def log(self) -> dict[str, Any]:
        """What it says of all requests."""
        with urllib.request.urlopen(f"{self.url}/log") as answer:  # noqa: S310  (its own address)
            return dict(json.load(answer))


@contextmanager
def event_server(load: Load) -> Iterator[EventServer]:
    settings = {name: value for name, value in asdict(load).items() if name != "rounds"}
    command = [sys.executable, str(HERE / "event_server.py"), json.dumps(settings)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None  # noqa: S101
    assert process.stdout is not None  # noqa: S101
    server = EventServer(f"http://127.0.0.1:{process.stdout.readline().split()[1]}")
    watching = threading.Thread(target=server.watch, args=[process.stdout])
    watching.start()
    try:
        yield server
    finally:
        process.stdin.close()
        process.wait(STOP_S)
        watching.join()
        process.stdout.close()


def tree_cpu_s(process: psutil.Process) -> float:
    """CPU of a process and of all that it started."""
    return sum(sum(times[:4]) for times in each_of(process, lambda one: one.cpu_times()))


def tree_bytes(process: psutil.Process) -> int:
    """Memory of a process and of all that it started, resident."""
    return sum(info.rss for info in each_of(process, lambda one: one.memory_info()))


def each_of(process: psutil.Process, told: Callable[[psutil.Process], T]) -> Iterator[T]:
    """What a process and all that it started tell."""
    for each in (process, *process.children(recursive=True)):
        try:
            yield told(each)
        except psutil.Error:
            continue


def busy_s() -> float:
    """Seconds that all cores have computed so far."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system)


# --- the client ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Case:
    """A client at a load, and what was measured of it."""

    num_events: int
    events_per_s: float
    cpu_s: float
    start_s: float
    ttft_error_ms: FloatArray
    """At `RANKS`."""
    gaps_ms: FloatArray
    """At percentiles 1, 50, 99; empty where the client does not tell."""
    true_gaps_ms: FloatArray
    """The same, as sent."""
    lag_ms: FloatArray
    """At `RANKS`, and the most; empty where the client does not tell."""
    pauses_ms: FloatArray
    """At `RANKS`: see `Told`."""
    server_late_ms: FloatArray
    """At `RANKS`: by how much chunks were sent after they were due."""
    others: float
    own: dict[str, Any]
    rss: list[tuple[float, int]]
    """Memory over time; the times are shares of all events sent."""

    @property
    def us_per_event(self) -> float:
        return 1e6 * self.cpu_s / self.num_events


def measured(client: Client, load: Load, *, watch_memory: bool = False) -> Case:
    """One client, in processes of its own, against a server of its own."""
    requests = load.streams * load.rounds
    with tempfile.TemporaryDirectory() as name, event_server(load) as server:
        folder = Path(name)
        prompts(folder / "edition", requests)
        hub(folder / "hub")
        asked = Asked(server.url, load.streams, requests, folder / "out", folder / "edition", folder / "hub")
        asked.folder.mkdir()
        env = {**os.environ, "HF_HOME": str(asked.hub), "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
        env |= {"PYTHONPYCACHEPREFIX": str(BYTECODE), "PYTHONDONTWRITEBYTECODE": ""}
        words = [str(client.python), *map(str, client.words(asked))]
        began_s, before, mine = time.monotonic(), busy_s(), tree_cpu_s(psutil.Process())
        with (folder / "printed").open("w+b") as printed:
            process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=printed, stderr=printed, env=env)
            server.client = psutil.Process(process.pid)
            cpu_s, rss = followed(process, server, client, asked, watch_memory=watch_memory)
            assert process.stdin is not None  # noqa: S101
            process.stdin.close()
            process.wait(CASE_LIMIT_S)
            others = (busy_s() - before - (tree_cpu_s(psutil.Process()) - mine)) / (time.monotonic() - began_s)
            if process.returncode:
                printed.seek(0)
                raise SystemExit(f"{client.python} failed:\n{printed.read().decode(errors='replace')[-3000:]}")
        server.client = None
        told, log = client.told(asked.folder), server.log()
    assert server.begun_s is not None  # noqa: S101
    return compared(told, log, cpu_s, server.begun_s - began_s, max(0.0, others), rss)


def followed(
    process: subprocess.Popen[bytes], server: EventServer, client: Client, asked: Asked, *, watch_memory: bool
) -> tuple[float, list[tuple[float, int]]]:
    """Wait until a client's work is done: its CPU since the first request, and its memory over time."""
    tree = psutil.Process(process.pid)
    until_s, rss = time.monotonic() + CASE_LIMIT_S, []
    while process.poll() is None:
        time.sleep(0.5 if watch_memory and not server.is_drained else LOOK_S)
        if time.monotonic() > until_s:
            for each in (*tree.children(recursive=True), tree):
                each.kill()
            raise SystemExit(f"{client.python} took longer than {CASE_LIMIT_S:.0f} s")
        if watch_memory and server.cpu_s and not server.is_drained:
            rss.append((time.monotonic(), tree_bytes(tree)))
        if client.journals and server.is_drained and num_lines(asked.folder) == asked.requests:
            return tree_cpu_s(tree) - server.cpu_s[0], rss
    if client.journals or not server.is_drained:
        return 0.0, rss  # it failed, and says why
    return server.cpu_s[-1] - server.cpu_s[0], rss


def num_lines(folder: Path) -> int:
    """Turns that are on disk."""
    return sum(path.read_bytes().count(b"\n") for path in folder.rglob("turns-*.jsonl"))


def compared(
    told: Told, log: dict[str, Any], cpu_s: float, start_s: float, others: float, rss: list[tuple[float, int]]
) -> Case:
    """What a client told, beside what the server knows."""
    requests = {number: (received, np.array(sent)) for number, received, _, sent in log["requests"]}
    true_ttft = {number: (sent[0] - received) / 1e6 for number, (received, sent) in requests.items()}
    late = [
        sent - first_due - log["interval_ns"] * np.arange(len(sent))
        for (_, sent), (_, _, first_due, _) in zip(requests.values(), log["requests"], strict=True)
    ]
    every = np.concatenate([sent for _, sent in requests.values()])
    lag: FloatArray = np.empty(0)
    if told.turns:
        lag = lags_ms(told, requests)
        errors = [1e3 * (at_s[1] - at_s[0]) - true_ttft[number] for number, at_s in told.turns]
        ttft_error = np.percentile(np.abs(errors), RANKS)
    else:
        ttft_error = np.percentile(told.ttft_ms, RANKS) - np.percentile(list(true_ttft.values()), RANKS)
    true_gaps = np.concatenate([np.diff(sent) for _, sent in requests.values()]) / 1e6
    at_events = np.sort(every)
    return Case(
        num_events=len(every),
        events_per_s=float(1e9 * len(every) / (every.max() - every.min())),
        cpu_s=cpu_s,
        start_s=start_s,
        ttft_error_ms=ttft_error,
        gaps_ms=np.percentile(told.gaps_ms, (1, 50, 99)) if told.gaps_ms.size else told.gaps_ms,
        true_gaps_ms=np.percentile(true_gaps, (1, 50, 99)),
        lag_ms=np.percentile(lag, (*RANKS, 100)) if lag.size else lag,
        pauses_ms=np.percentile(told.pauses_ms, RANKS) if told.pauses_ms.size else told.pauses_ms,
        server_late_ms=np.percentile(np.concatenate(late), RANKS) / 1e6,
        others=others,
        own=told.own,
        rss=[(float(np.searchsorted(at_events, 1e9 * at_s) / len(every)), num) for at_s, num in rss],
    )


def lags_ms(told: Told, requests: dict[int, tuple[int, FloatArray]]) -> FloatArray:
    """Of every chunk, its stamp minus when it was sent; the clock set so that no request arrives before it was sent."""
    for number, at_s in told.turns:
        if len(at_s) - 1 != len(requests[number][1]):
            raise SystemExit(f"{len(at_s) - 1} of {len(requests[number][1])} chunks of request {number} were seen")
    offset_ns = min(requests[number][0] - 1e9 * at_s[0] for number, at_s in told.turns)
    lags = [1e9 * at_s[1:] + offset_ns - requests[number][1] for number, at_s in told.turns]
    return np.concatenate(lags) / 1e6
