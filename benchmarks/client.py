"""What our client costs per streamed event, and how far its times are from the truth, beside other clients.

    python benchmarks/client.py                          # ours and the standard library's streams: under a minute
    python benchmarks/client.py --streams 512 --repeat 3 --peers PYTHON

A server in a process of its own (`event_server.py`) sends a chunk per stream every 50 ms, on an absolute schedule, and
remembers when it sent each. Ours is the whole client as a run has it (`live_engine` and `closed_loop` with vLLM's
dialect: prompts from the chat template, one connection per stream, answers parsed, checked and journalled to disk on
another thread). Others (`peers.py`) only read lines and parse JSON. `--peers` names the Python of an environment that
may have aiohttp, httpx, vLLM (`vllm bench serve`) or AIPerf; what it has takes part.

Everything stays on 127.0.0.1, and each client is a process of its own. An event is a chunk with a token. CPU is that of
the closed loop, all threads; of a program, of all its processes from the server's first request to its last chunk.
TTFT is by how much the client's percentiles are above the server's own, `gap` is between chunks of a stream, `late` the
client's stamp minus the server's. `others` are the cores that everything else on the machine kept busy: times are only
worth something where it is far below the number of cores.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import psutil

HERE = Path(__file__).parent
OURS, PLAIN, LIBRARIES = "speed-bench", "asyncio", ("aiohttp", "httpx")
CASE_LIMIT_S = 180.0
STOP_S = 5.0
PROMPT_TOKENS = 32
TOKENIZER = HERE.parent / "build" / "models" / "smollm2"
"""For `vllm bench serve`, which will not go without; made by `make test-vllm`."""
VLLM = """
import vllm.benchmarks.serve as serve
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = FlexibleArgumentParser()
serve.add_cli_args(parser)
serve.main(parser.parse_args())
"""
"""`vllm bench serve`, also of packages that are not called vllm."""
PROGRAMS = {
    "vllm": (
        ["-c", VLLM],
        "--backend openai --endpoint /v1/completions --base-url {url} --model events --tokenizer {tokenizer} "
        "--dataset-name random --random-input-len {prompt} --random-output-len 60 --num-prompts {requests} "
        "--max-concurrency {streams} --disable-tqdm --save-result --save-detailed --result-dir {folder} "
        "--result-filename vllm.json",
    ),
    "aiperf": (
        ["-m", "aiperf", "profile"],
        "-m events --url {url} --endpoint-type completions --streaming --tokenizer builtin --concurrency {streams} "
        "--request-count {requests} --isl {prompt} --osl 60 --use-server-token-count --no-server-metrics "
        "--no-gpu-telemetry --ui none --artifact-dir {folder}",
    ),
}
"""What other programs are called with, after the Python that has them."""
FloatArray = npt.NDArray[np.float64]


# --- the server ----------------------------------------------------------------------------------


@dataclass(slots=True)
class EventServer:
    """The server's process, seen from here."""

    url: str
    client: psutil.Process | None = None
    cpu_s: list[float] = field(default_factory=list)
    """Of `client` and all its children, whenever streams begin and whenever none is left."""

    def watch(self, lines: IO[str]) -> None:
        """Follow what the server prints, to its end."""
        for _ in lines:
            if self.client is not None:
                self.cpu_s.append(tree_cpu_s(self.client))

    def sent(self) -> dict[int, tuple[int, list[int]]]:
        """By number of the request: when it came in, and when each of its chunks was sent."""
        with urllib.request.urlopen(f"{self.url}/log") as answer:  # noqa: S310  (its own address)
            return {number: (received, sent) for number, received, _, sent in json.load(answer)["requests"]}


@contextmanager
def event_server(**settings: Any) -> Iterator[EventServer]:
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
    total = 0.0
    for each in (process, *process.children(recursive=True)):
        try:
            times = each.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


# --- ours ----------------------------------------------------------------------------------------


async def measure_ours(url: str, streams: int, requests: int, prompt_tokens: int) -> dict[str, Any]:
    """A closed loop as a run has it."""
    from speed_bench.config import resolve
    from speed_bench.models import EMBEDDED_MODEL, resolve_gguf
    from speed_bench.provenance import DataFacts, ModelFacts, Provenance, TokenizerFacts, hardware
    from speed_bench.runner.conversation import Script
    from speed_bench.runner.journal import Journal, RunFile, read_records, write_run_file
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
        lateness = read_records(folder).segments[-1].lateness
    spent = dict(zip(("process", "loop", "parser"), (b - a for a, b in zip(before, after, strict=True)), strict=True))
    return {
        "requests": told(outcomes, started_ns),
        "cpu_s": spent,
        "pauses_ms": pauses_ms(outcomes),
        "lateness_ms": lateness and [1e3 * s for s in (lateness.p50_s, lateness.p99_s, lateness.max_s)],
    }


def told(outcomes: Sequence[Any], started_ns: int) -> list[tuple[int, int, list[int]]]:
    """(the server's number of it, when it was sent, when each chunk came) of every turn; a failed one ends it all."""
    found = []
    for turn in outcomes:
        if not hasattr(turn, "arrivals"):
            raise SystemExit(f"a request failed: {turn.error}")
        at = [started_ns + int(at_s * 1e9) for at_s, num in turn.arrivals for _ in range(num)]
        found.append((turn.output_ids[0] - 1000, started_ns + int(turn.sent_at_s * 1e9), at))
    return found


def pauses_ms(outcomes: Sequence[Any]) -> list[float]:
    """From the end of a stream's answer to its next request: parsing, journal, next prompt."""
    slots: dict[int, list[Any]] = {}
    for turn in sorted(outcomes, key=lambda turn: turn.sent_at_s):
        slots.setdefault(turn.slot, []).append(turn)
    pairs = [(a, b) for turns in slots.values() for a, b in pairwise(turns)]
    return [1e3 * (after.sent_at_s - before.finished_at_s) for before, after in pairs]


# --- others --------------------------------------------------------------------------------------


def reported(program: str, folder: Path) -> tuple[list[float], list[float]]:
    """(TTFT of every request, gaps between all chunks) in ms, as a program wrote them."""
    if program == "vllm":
        told = json.loads((folder / "vllm.json").read_text("utf-8"))
        return [1e3 * s for s in told["ttfts"]], [1e3 * s for gaps in told["itls"] for s in gaps]
    [path] = folder.rglob("profile_export.jsonl")
    metrics = [json.loads(line)["metrics"] for line in path.read_text("utf-8").splitlines()]
    gaps = [ms for each in metrics for ms in each["inter_chunk_latency"]["value"]]
    return [each["time_to_first_token"]["value"] for each in metrics], gaps


@dataclass(frozen=True, slots=True)
class Case:
    """A client at a load, and what was measured of it."""

    client: str
    streams: int
    events: int
    events_per_s: float
    cpu_s: dict[str, float]
    ttft_ms: FloatArray
    true_ttft_ms: FloatArray
    gaps_ms: FloatArray
    late_ms: FloatArray
    others: float
    said: dict[str, Any]

    @property
    def us_per_event(self) -> float:
        return 1e6 * self.cpu_s["process"] / self.events

    def row(self, ours: "Case") -> str:
        off = np.percentile(self.ttft_ms, (50, 99)) - np.percentile(self.true_ttft_ms, (50, 99))
        parts = [1e6 * self.cpu_s[name] / self.events for name in ("loop", "parser") if name in self.cpu_s]
        late = [np.percentile(self.late_ms, rank) for rank in (50, 99, 100)] if self.late_ms.size else []
        cells = [
            self.streams,
            self.client,
            f"{self.events_per_s:.0f}",
            f"{self.us_per_event:.1f}",
            f"{self.us_per_event / ours.us_per_event:.2f}",
            " + ".join(f"{part:.1f}" for part in parts),
            " / ".join(f"{ms:+.1f}" for ms in off),
            " / ".join(f"{ms:.1f}" for ms in np.percentile(self.gaps_ms, (1, 50, 99))),
            " / ".join(f"{ms:.1f}" for ms in late),
            f"{self.others:.1f}",
        ]
        return f"| {' | '.join(map(str, cells))} |"

    def own_words(self) -> str:
        """What our client says of itself."""
        pauses, lateness = self.said.get("pauses_ms"), self.said.get("lateness_ms")
        between = "{:.1f} / {:.1f}".format(*np.percentile(pauses, (50, 99))) if pauses else "none"
        own = " / ".join(f"{ms:.1f}" for ms in lateness) if lateness else "none"
        return (
            f"  {self.client} at {self.streams}: from an answer to the next request {between} ms (p50 / p99); "
            f"its loop's own lateness {own} ms (p50 / p99 / max)"
        )


def measured(client: str, python: str, streams: int, options: argparse.Namespace) -> Case:
    """One client, in a process of its own, against a server of its own."""
    requests = streams * options.rounds
    settings = {"interval_ms": options.interval_ms, "chunks": options.chunks, "together": options.together}
    with event_server(streams=streams, **settings) as server, tempfile.TemporaryDirectory() as folder:
        asked = {"url": server.url, "streams": streams, "requests": requests}
        if client == OURS:
            words = [__file__, "--child", json.dumps({**asked, "prompt_tokens": options.prompt_tokens})]
        elif client in PROGRAMS:
            given = {**asked, "prompt": options.prompt_tokens, "folder": folder, "tokenizer": TOKENIZER}
            words, flags = PROGRAMS[client]
            words = [*words, *flags.format(**given).split()]
        else:
            prompt = [1] * options.prompt_tokens
            words = [str(HERE / "peers.py"), json.dumps({**asked, "client": client, "prompt": prompt})]
        began, before, mine = time.perf_counter(), busy_s(), tree_cpu_s(psutil.Process())
        process = subprocess.Popen([python, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        server.client = psutil.Process(process.pid)
        try:
            output, errors = process.communicate(timeout=CASE_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise SystemExit(f"{client} took longer than {CASE_LIMIT_S:.0f} s") from None
        took_s = time.perf_counter() - began
        others = (busy_s() - before - (tree_cpu_s(psutil.Process()) - mine)) / took_s
        server.client = None
        if process.returncode:
            raise SystemExit(f"{client} failed:\n{errors[-2000:]}")
        sent = server.sent()
        if client in PROGRAMS:
            ttft, gaps = reported(client, Path(folder))
            told: dict[str, Any] = {"requests": [], "cpu_s": {"process": server.cpu_s[-1] - server.cpu_s[0]}}
        else:
            ttft, gaps, told = [], [], dict(json.loads(output))
    late: list[FloatArray] = []
    for number, sent_ns, at_ns in told["requests"]:
        true_ns = sent[number][1]
        if len(true_ns) != len(at_ns):
            raise SystemExit(f"{client} saw {len(at_ns)} of {len(true_ns)} chunks of request {number}")
        late.append(np.subtract(at_ns, true_ns) / 1e6)
        gaps += (np.diff(at_ns) / 1e6).tolist()
        ttft.append((at_ns[0] - sent_ns) / 1e6)
    every = [at_ns for _, true_ns in sent.values() for at_ns in true_ns]
    return Case(
        client,
        streams,
        len(every),
        1e9 * len(every) / (max(every) - min(every)),
        told["cpu_s"],
        np.array(ttft),
        np.array([(true_ns[0] - received_ns) / 1e6 for received_ns, true_ns in sent.values()]),
        np.array(gaps),
        np.concatenate(late) if late else np.empty(0),
        max(0.0, others),
        told,
    )


def busy_s() -> float:
    """Seconds that all cores have computed so far."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system)


def has(python: str, module: str) -> bool:
    """Whether an environment has a library."""
    find = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    return subprocess.run([python, "-c", find], capture_output=True).returncode == 0


def main() -> None:
    """Measure, and print a row per client and load."""
    if sys.argv[1:2] == ["--child"]:
        json.dump(asyncio.run(measure_ours(**json.loads(sys.argv[2]))), sys.stdout)
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 32, 128, 512])
    parser.add_argument("--rounds", type=int, default=2, help="requests of each stream")
    parser.add_argument("--chunks", type=int, nargs=2, default=[15, 45], help="fewest and most of an answer")
    parser.add_argument("--interval-ms", type=float, default=50.0, help="between two chunks of a stream")
    parser.add_argument("--together", action="store_true", help="all streams at once, as after a decode step")
    parser.add_argument("--prompt-tokens", type=int, default=PROMPT_TOKENS)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--peers", metavar="PYTHON", nargs="+", default=[], help="each with libraries or programs")
    options = parser.parse_args()
    others = [(PLAIN, sys.executable)]
    others += [(name, python) for python in options.peers for name in (*LIBRARIES, *PROGRAMS) if has(python, name)]
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}; a chunk every {options.interval_ms:g} ms\n")
    print("| streams | client | events/s | CPU µs/event | ratio | loop + parser | TTFT off, ms p50 / p99 ", end="")
    print("| gap, ms p1 / p50 / p99 | late, ms p50 / p99 / max | others |\n" + "|---" * 10 + "|", flush=True)
    own_words = []
    for streams in options.streams:
        for _ in range(options.repeat):
            ours = measured(OURS, sys.executable, streams, options)
            print(ours.row(ours), flush=True)
            own_words.append(ours.own_words())
            for name, python in others:
                print(measured(name, python, streams, options).row(ours), flush=True)
    print("", *own_words, sep="\n")


if __name__ == "__main__":
    main()
