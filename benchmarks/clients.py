"""The clients that are measured beside each other: how each is had, what it is called with, and what it tells."""

import json
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from speed_bench.data.manifest import describe_config
from speed_bench.gguf_chat import build_tokenizer
from speed_bench.gguf_file import read_gguf_header
from speed_bench.models import EMBEDDED_MODEL, resolve_gguf
from speed_bench.types import Conversation

HERE = Path(__file__).parent
ROOT = HERE.parent
PROMPT_TOKENS = 32
FIRST_ID = 1000
"""The server's token ids say which request they answer: so much more than its number."""
HUB_NAME = "speed-bench/events"
REVISION = "0" * 40
VLLM = """
import vllm.benchmarks.serve as serve
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = FlexibleArgumentParser()
serve.add_cli_args(parser)
serve.main(parser.parse_args())
"""
"""`vllm bench serve`, also of packages that are not called vllm."""
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a client is to do, and what it may need for it."""

    url: str
    streams: int
    requests: int
    folder: Path
    """Where it leaves what it found."""
    edition: Path
    """Prompts, for ours."""
    hub: Path
    """A cache of the Hugging Face hub with a tokenizer in it, for those that will not go without."""

    @property
    def tokenizer(self) -> Path:
        """The folder of that tokenizer."""
        return self.hub / "hub" / f"models--{HUB_NAME.replace('/', '--')}" / "snapshots" / REVISION


@dataclass(frozen=True, slots=True)
class Told:
    """What a client found."""

    ttft_ms: FloatArray
    gaps_ms: FloatArray
    """Between the chunks of a stream, of all streams; empty where it does not tell."""
    turns: list[tuple[int, FloatArray]] = field(default_factory=list)
    """(the server's number of a request, when it was sent and when its chunks were there), in seconds of one clock."""
    pauses_ms: FloatArray = field(default_factory=lambda: np.empty(0))
    """From the end of an answer to the next request of its stream."""
    own: dict[str, Any] = field(default_factory=dict)
    """What it says of itself."""


@dataclass(frozen=True, slots=True)
class Client:
    """A program that asks and measures."""

    python: Path
    """Of its environment."""
    words: Callable[[Asked], Sequence[object]]
    """What that is called with."""
    told: Callable[[Path], Told]
    make: Callable[[Path], object] = lambda _: None
    """Sets its environment up where that is not there."""
    journals: bool = False
    """Whether it keeps every turn on disk as it ends: then its work is done when all are there."""


def prompts(folder: Path, num_rows: int) -> None:
    """An edition of that many conversations, all alike."""
    text = " word" * PROMPT_TOKENS
    rows = [Conversation(f"{n:032x}", "qa", None, (text,), "", "", None, False) for n in range(num_rows)]
    folder.mkdir()
    (folder / "events.jsonl").write_bytes(b"".join(orjson.dumps(asdict(row)) + b"\n" for row in rows))
    configs = {"events": describe_config(rows, lambda _: PROMPT_TOKENS)}
    (folder / "manifest.json").write_bytes(orjson.dumps({"edition": "events", "version": "1", "configs": configs}))


def hub(folder: Path) -> None:
    """A cache of the hub that holds the embedded model's tokenizer."""
    gguf = resolve_gguf(EMBEDDED_MODEL.key)
    place = Asked("", 0, 0, folder, folder, folder).tokenizer
    place.mkdir(parents=True)
    build_tokenizer(str(gguf), read_gguf_header(gguf).metadata).save(str(place / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}
    (place / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    (place / "config.json").write_text(json.dumps({"model_type": "llama"}), "utf-8")
    refs = place.parent.parent / "refs"
    refs.mkdir()
    (refs / "main").write_text(REVISION, "utf-8")


# --- those that keep our journal -------------------------------------------------------------------


def ours(asked: Asked) -> Sequence[object]:
    """The whole program, as a user runs it against a server that runs already."""
    return [
        *("-m", "speed_bench.cli", "run", "--url", asked.url, "--engine", "vllm", "--algorithm", "none"),
        *("--no-baseline", "--model", resolve_gguf(EMBEDDED_MODEL.key), "--max-tokens", 4096),
        *("--edition", asked.edition, "--config", "events", "--limit-per-category", asked.requests),
        *("--concurrency", asked.streams, "--set", "warmup_per_slot=0", "--out", asked.folder / "run"),
    ]


def line_reader(asked: Asked) -> Sequence[object]:
    """aiohttp and orjson: see `peers`."""
    settings = {"url": asked.url, "streams": asked.streams, "requests": asked.requests, "folder": str(asked.folder)}
    return [HERE / "peers.py", json.dumps({**settings, "prompt": [1] * PROMPT_TOKENS})]


def journal(folder: Path) -> Told:
    """What the turns of a journal say, whoever wrote it. Raises SystemExit if one failed."""
    turns, ttft, gaps, spans = [], [], [], defaultdict(list)
    for path in folder.rglob("turns-*.jsonl"):
        for line in path.read_bytes().splitlines():
            entry = orjson.loads(line)
            if "turn" not in entry:
                raise SystemExit(f"a request failed: {entry['failure']['error']}")
            turn = entry["turn"]
            at_s = np.array([turn["sent_at_s"], *(at for at, num in turn["arrivals"] for _ in range(num))])
            turns.append((turn["output_ids"][0] - FIRST_ID, at_s))
            ttft.append(1e3 * (at_s[1] - at_s[0]))
            gaps.append(1e3 * np.diff(at_s[1:]))
            spans[turn["slot"]].append((turn["sent_at_s"], turn["finished_at_s"]))
    pairs = [pair for each in spans.values() for pair in pairwise(sorted(each))]
    pauses = np.array([1e3 * (sent - finished) for (_, finished), (sent, _) in pairs])
    return Told(np.array(ttft), np.concatenate(gaps), turns, pauses, _own_words(folder / "run"))


def _own_words(run: Path) -> dict[str, Any]:
    """What a run says of its own client."""
    if not run.is_dir():
        return {}
    segment = json.loads((run / "segments.jsonl").read_text("utf-8").splitlines()[-1])["segment"]
    said = json.loads((run / "scores.json").read_text("utf-8"))["serving"]["client"]
    return {"lateness_s": segment["lateness"], "cpu_s": segment["client"]["cpu_s"], "limited": said["limited"]}


# --- programs of their own -------------------------------------------------------------------------


def aiperf(asked: Asked) -> Sequence[object]:
    return [
        *("-m", "aiperf", "profile", "-m", "events", "--url", asked.url, "--endpoint-type", "completions"),
        *("--streaming", "--tokenizer", HUB_NAME, "--concurrency", asked.streams, "--request-count", asked.requests),
        *("--isl", PROMPT_TOKENS, "--osl", 320, "--use-server-token-count", "--no-server-metrics"),
        *("--no-gpu-telemetry", "--ui", "none", "--artifact-dir", asked.folder),
    ]


def aiperf_told(folder: Path) -> Told:
    [path] = folder.rglob("profile_export.jsonl")
    metrics = [json.loads(line)["metrics"] for line in path.read_text("utf-8").splitlines()]
    gaps = [ms for each in metrics for ms in each["inter_chunk_latency"]["value"]]
    return Told(np.array([each["time_to_first_token"]["value"] for each in metrics]), np.array(gaps))


def guidellm(asked: Asked) -> Sequence[object]:
    backend = f"kind=openai_http,target={asked.url},model=events,request_format=/v1/completions"
    return [
        *("-m", "guidellm", "run", "--backend", backend, "--profile", f"kind=concurrent,streams={asked.streams}"),
        *("--constraint", f"kind=max_requests,count={asked.requests}"),
        *("--tokenizer", f"kind=hf_auto,model={asked.tokenizer}"),
        *("--data", f"kind=synthetic_text,prompt_tokens={PROMPT_TOKENS},output_tokens=320"),
        *("--output", f"kind=json,path={asked.folder / 'guidellm.json'}", "--disable-console-interactive"),
    ]


def guidellm_told(folder: Path) -> Told:
    [found] = json.loads((folder / "guidellm.json").read_text("utf-8"))["benchmarks"]
    requests = found["requests"]["successful"]
    return Told(np.array([each["time_to_first_token_ms"] for each in requests]), np.empty(0))


def vllm(asked: Asked) -> Sequence[object]:
    return [
        *("-c", VLLM, "--backend", "openai", "--endpoint", "/v1/completions", "--base-url", asked.url),
        *("--model", "events", "--tokenizer", asked.tokenizer, "--dataset-name", "random"),
        *("--random-input-len", PROMPT_TOKENS, "--random-output-len", 320, "--num-prompts", asked.requests),
        *("--max-concurrency", asked.streams, "--disable-tqdm", "--save-result", "--save-detailed"),
        *("--result-dir", asked.folder, "--result-filename", "vllm.json"),
    ]


def vllm_told(folder: Path) -> Told:
    found = json.loads((folder / "vllm.json").read_text("utf-8"))
    gaps = [1e3 * s for each in found["itls"] for s in each]
    return Told(1e3 * np.array(found["ttfts"]), np.array(gaps))


# --- environments ----------------------------------------------------------------------------------


def by_make(python: Path) -> None:
    """An environment that the Makefile has a rule for."""
    subprocess.run(["make", "--silent", f"{_environment(python).name}/.ready"], cwd=ROOT, check=True)


def by_pip(python: Path) -> None:
    """An environment of what `aiohttp.txt` lists."""
    wanted = HERE / "aiohttp.txt"
    ready = _environment(python) / ".ready"
    if ready.exists() and ready.read_text("utf-8") == wanted.read_text("utf-8"):
        return
    print(f"setting up {_environment(python).name} …", flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", _environment(python)], check=True)
    install = "-m pip install --quiet --disable-pip-version-check --requirement"
    subprocess.run([python, *install.split(), wanted], check=True)
    shutil.copy(wanted, ready)


def _environment(python: Path) -> Path:
    return python.parent.parent


def _python(environment: str) -> Path:
    return ROOT / environment / "bin" / "python"


OURS = "speed-bench"
CLIENTS = {
    OURS: Client(Path(sys.executable), ours, journal, journals=True),
    "aiohttp": Client(_python(".venv-aiohttp"), line_reader, journal, by_pip, journals=True),
    "aiperf": Client(_python(".venv-aiperf"), aiperf, aiperf_told, by_make),
    "guidellm": Client(_python(".venv-guidellm"), guidellm, guidellm_told, by_make),
    "vllm": Client(_python(".venv-vllm"), vllm, vllm_told),
}
"""By name. vLLM takes part where `make test-vllm` has set it up."""
