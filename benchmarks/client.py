"""What our client costs per streamed event, and how far its times are from the truth, beside other clients.

    python benchmarks/client.py                          # ours and the standard library's streams: under a minute
    python benchmarks/client.py --streams 512 --peers PYTHON

A server in a process of its own (`event_server.py`) sends chunks on an absolute schedule and remembers when it sent
each. Ours is the whole client as a run has it (`live_engine` and `closed_loop` with vLLM's dialect: prompts
from the chat template, one connection per stream, answers parsed, checked and journalled to disk on another thread).
Others (`peers.py`) only read lines and parse JSON. `--peers` is the Python of an environment which may have aiohttp
or httpx.

Everything stays on 127.0.0.1. Each client runs in a child process; CPU is that of the closed loop alone. An event is a
chunk with a token. `late` is the client's stamp minus the server's, `gap` is between chunks of a stream.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

HERE = Path(__file__).parent
OURS, PLAIN, LIBRARIES = "speed-bench", "asyncio", ("aiohttp", "httpx")
CASE_LIMIT_S = 90.0
STOP_S = 5.0
INTERVAL_MS = 50.0
FloatArray = npt.NDArray[np.float64]


# --- the server ----------------------------------------------------------------------------------


@contextmanager
def event_server(**settings: Any) -> Iterator[str]:
    """Its url, while it runs."""
    command = [sys.executable, str(HERE / "event_server.py"), json.dumps(settings)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None  # noqa: S101
    assert process.stdout is not None  # noqa: S101
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().split()[1]}"
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait(STOP_S)


def sent_by(url: str) -> dict[int, tuple[int, list[int]]]:
    """By number of the request: when it came in, and when each of its chunks was sent."""
    with urllib.request.urlopen(f"{url}/log") as answer:  # noqa: S310  (its own address)
        return {number: (received, sent) for number, received, _, sent in json.load(answer)["requests"]}


# --- ours ----------------------------------------------------------------------------------------


async def measure_ours(url: str, streams: int, requests: int, prompt_tokens: int) -> dict[str, Any]:
    """A closed loop as a run has it."""
    from speed_bench.config import resolve
    from speed_bench.models import EMBEDDED_MODEL, resolve_gguf
    from speed_bench.provenance import DataFacts, ModelFacts, Provenance, TokenizerFacts, hardware
    from speed_bench.runner.conversation import Script
    from speed_bench.runner.journal import Journal, RunFile, write_run_file
    from speed_bench.runner.load import closed_loop
    from speed_bench.runner.segment import live_engine
    from speed_bench.tokens import ChatTokenizer
    from speed_bench.types import Conversation, Outcome

    flags = {"engine.name": "vllm", "engine.url": url, "algorithm": "none", "concurrency": streams, "baseline": False}
    config, protocol = resolve({**flags, "warmup_per_slot": 0, "tokenizer": EMBEDDED_MODEL.key})
    tokenizer = ChatTokenizer.from_gguf(resolve_gguf(EMBEDDED_MODEL.key))
    provenance = Provenance(
        model=ModelFacts(file="events", sha256=None, num_bytes=None),
        draft=None,
        tokenizer=TokenizerFacts(template_sha256="", vocab_size=0, probes_sha256=""),
        data=DataFacts(edition="open", version="0", config="", manifest_sha256="", num_conversations=requests),
        engine_version=None,
        versions={},
        hardware=hardware(),
    )
    run = RunFile(config=config, protocol=protocol, provenance=provenance, num_turns_planned=requests)
    text = " word" * prompt_tokens
    rows = [Conversation(f"{number:032x}", "qa", None, (text,), "", "", None, False) for number in range(requests)]
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_run_file(folder, run)
        with Journal(folder, run) as journal:

            def keep(outcome: Outcome) -> None:
                journal.add(outcome)
                outcomes.append(outcome)

            script = Script(config, tokenizer, None, {})
            engine = live_engine(config, journal, tokenizer, model="events", draft=None, clock=time.perf_counter_ns)
            async with engine as live:
                before = [time.process_time(), time.thread_time(), await live.run_in_parser(time.thread_time)]
                await closed_loop(script, [(row, 0) for row in rows], live, keep)
                after = [time.process_time(), time.thread_time(), await live.run_in_parser(time.thread_time)]
                started_ns = live.started_ns
    spent = dict(zip(("process", "loop", "parser"), (b - a for a, b in zip(before, after, strict=True)), strict=True))
    return {"requests": told(outcomes, started_ns), "cpu_s": spent, "pauses_ms": pauses_ms(outcomes).tolist()}


def told(outcomes: Sequence[Any], started_ns: int) -> list[tuple[int, int, list[int]]]:
    """(the server's number of it, when it was sent, when each chunk came) of every turn; a failed one ends it all."""
    found = []
    for turn in outcomes:
        if not hasattr(turn, "arrivals"):
            raise SystemExit(f"a request failed: {turn.error}")
        at = [started_ns + int(at_s * 1e9) for at_s, num in turn.arrivals for _ in range(num)]
        found.append((turn.output_ids[0] - 1000, started_ns + int(turn.sent_at_s * 1e9), at))
    return found


def pauses_ms(outcomes: Sequence[Any]) -> FloatArray:
    """From the end of a stream's answer to its next request: parsing, journal, next prompt."""
    slots: dict[int, list[Any]] = {}
    for turn in sorted(outcomes, key=lambda turn: turn.sent_at_s):
        slots.setdefault(turn.slot, []).append(turn)
    pairs = [(a, b) for turns in slots.values() for a, b in pairwise(turns)]
    return np.array([1e3 * (after.sent_at_s - before.finished_at_s) for before, after in pairs])


# --- side by side --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Case:
    """A client at a load, and what was measured of it."""

    client: str
    streams: int
    events: int
    cpu_s: dict[str, float]
    late_ms: FloatArray
    gaps_ms: FloatArray

    @property
    def us_per_event(self) -> float:
        """CPU of the whole client process."""
        return 1e6 * self.cpu_s["process"] / self.events

    def row(self, ours: float) -> str:
        parts = "  ".join(f"{name} {1e6 * s / self.events:.1f}" for name, s in self.cpu_s.items() if name != "process")
        late, gaps = (np.percentile(values, (50, 99)) for values in (self.late_ms, self.gaps_ms))
        low = np.percentile(self.gaps_ms, 1)
        return (
            f"{self.streams:>7}  {self.client:<11} {self.events:>7}  {self.us_per_event:>6.1f}"
            f"  {self.us_per_event / ours:>5.2f}x"
            f"  {late[0]:>6.2f} {late[1]:>7.2f}  {low:>6.1f} {gaps[1]:>6.1f}  {parts}"
        )


def measured(client: str, python: str, streams: int, rounds: int) -> Case:
    """One client, in a process of its own, against a server of its own."""
    requests = streams * rounds
    with event_server(streams=streams, interval_ms=INTERVAL_MS) as url:
        if client == OURS:
            words = [python, __file__, "--child", url, str(streams), str(requests)]
        else:
            asked = {"client": client, "url": url, "streams": streams, "requests": requests, "prompt": [1] * 32}
            words = [python, str(HERE / "peers.py"), json.dumps(asked)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=CASE_LIMIT_S)
        if done.returncode:
            raise SystemExit(f"{client} failed:\n{done.stderr[-2000:]}")
        told_by_client = json.loads(done.stdout)
        sent = sent_by(url)
    late, gaps = [], []
    for number, _, at_ns in told_by_client["requests"]:
        true_ns = sent[number][1]
        if len(true_ns) != len(at_ns):
            raise SystemExit(f"{client} saw {len(at_ns)} of {len(true_ns)} chunks of request {number}")
        late.append(np.subtract(at_ns, true_ns) / 1e6)
        gaps.append(np.diff(at_ns) / 1e6)
    events = sum(len(at_ns) for _, _, at_ns in told_by_client["requests"])
    return Case(client, streams, events, told_by_client["cpu_s"], np.concatenate(late), np.concatenate(gaps))


def has(python: str, module: str) -> bool:
    """Whether an environment has a library."""
    return subprocess.run([python, "-c", f"import {module}"], capture_output=True).returncode == 0


def main() -> None:
    """Measure, and print a row per client and load."""
    if sys.argv[1:2] == ["--child"]:
        url, streams, requests = sys.argv[2:]
        json.dump(asyncio.run(measure_ours(url, int(streams), int(requests), 32)), sys.stdout)
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, action="append", help="repeatable; default 1, 32, 128")
    parser.add_argument("--rounds", type=int, default=3, help="requests of each stream")
    parser.add_argument("--peers", metavar="PYTHON", default=sys.executable, help="may have aiohttp, httpx")
    options = parser.parse_args()
    others = [PLAIN, *(name for name in LIBRARIES if has(options.peers, name))]
    print(f"load of the machine before: {os.getloadavg()[0]:.1f}; {os.cpu_count()} cores")
    print("streams  client        events   us/ev   ratio  late ms p50 p99  gap ms p1    p99  of it, us/event")
    for streams in options.streams or [1, 32, 128]:
        ours = measured(OURS, sys.executable, streams, options.rounds)
        print(ours.row(ours.us_per_event), flush=True)
        for name in others:
            print(measured(name, options.peers, streams, options.rounds).row(ours.us_per_event), flush=True)


if __name__ == "__main__":
    main()
