"""The dialect of llama.cpp, embedded through `xllamacpp` (checked with 2026.10.11549).

Acceptance comes from `timings_per_token`: every event carries cumulative `draft_n`,
`draft_n_accepted` and `predicted_ms`, which changes exactly once per decode step. Three habits
of the engine: it sends no event for a token that ends inside a UTF-8 character, and names
only the last token when the character is whole; it cuts its counts at EOS; and it closes the
connection after every stream, though it announces keep-alive.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from speed_bench.config import RunConfig
from speed_bench.engine_config import LlamaCppConfig
from speed_bench.engines import Wired, llama_cpp_server, openai, require_wired
from speed_bench.engines.answers import MOST_TOKENS, Chunk, Drafting, Mark
from speed_bench.engines.server import Launch, interpreter, kept
from speed_bench.engines.steps import steps_from_marks
from speed_bench.errors import RequestFailed
from speed_bench.types import LastStep, Request, SpecCounts

ALGORITHMS = {
    "none": Wired("no speculative type", "live on CPU"),
    "ngram": Wired("NGRAM_SIMPLE", "live on CPU"),
    "draft": Wired("DRAFT_SIMPLE", "live on CPU"),
    "eagle3": Wired("DRAFT_EAGLE3", "real package"),
    "mtp": Wired("DRAFT_MTP", "real package"),
    "dflash": Wired("DRAFT_DFLASH", "real package"),
}
DISTRIBUTIONS = ("xllamacpp",)
INSTALL = "pip install 'speed-bench[llama-cpp]'"
OWNED_BY = "llamacpp"
HEALTH, METRICS, INFO = "/health", "/metrics", "/props"
PREFILL_TOKENS = 1
CLOSES_AFTER_STREAM = True
READS_GGUF = True
_FINISH = {"eos": "stop", "word": "stop", "limit": "length"}
_COUNTER = re.compile(r'^llamacpp:spec_decode_num_(\w+)_total(?:\{position="(\d+)"\})? (\S+)$', re.MULTILINE)


def launch(config: RunConfig, *, model: str, draft: str | None, port: int, folder: Path) -> Launch:
    """Engine config -> argv, env."""
    engine = config.engine
    assert isinstance(engine, LlamaCppConfig)  # noqa: S101  (the name says so)
    require_wired("llama-cpp", ALGORITHMS, config.algorithm)
    settings = {
        "model": model,
        "draft": draft,
        "host": engine.host,
        "port": port,
        "type": None if config.algorithm == "none" else ALGORITHMS[config.algorithm].spelling,
        "draft_length": config.draft_length,
        "concurrency": config.concurrency,
        "context_length": engine.context_length,
        "threads": engine.threads,
        "ngram_size": engine.ngram_size,
        "extra": engine.extra,
    }
    argv = (interpreter(engine, ours=True), str(llama_cpp_server.__file__), orjson.dumps(settings).decode())
    own = argv if engine.launch is None else kept(argv, engine, port)  # our script needs no keeper
    return Launch(own, {"OMP_WAIT_POLICY": "passive"})


def payload(request: Request, served: str) -> tuple[str, dict[str, Any]]:
    """Request -> (path, JSON body)."""
    return "/completion", {
        "prompt": request.prompt_ids,
        "n_predict": request.sampling.max_tokens,
        "temperature": request.sampling.temperature,
        "top_k": 0,
        "top_p": 1.0,
        "min_p": 0.0,
        "seed": request.sampling.seed,
        "ignore_eos": request.sampling.ignore_eos,
        "id_slot": request.slot,
        "stream": True,
        "return_tokens": True,
        "timings_per_token": True,
        "cache_prompt": False,
    }


def parse(event: bytes, num_seen: int) -> Chunk:
    """One event -> Chunk; `num_seen` output tokens came before it."""
    try:
        data = orjson.loads(event)
        if "error" in data or "message" in data:
            error = data.get("error", data)
            raise RequestFailed(f"the engine answered in the middle of the stream: {error.get('message', error)}")
        timings, named = data["timings"], data["tokens"]
        mark = Mark(
            num_tokens=data["tokens_predicted"],
            step_clock=timings["predicted_ms"],
            drafted=timings.get("draft_n", 0),
            accepted=timings.get("draft_n_accepted", 0),
        )
        num_unnamed = mark.num_tokens - num_seen - len(named)
        if not 0 <= num_unnamed <= MOST_TOKENS:
            raise RequestFailed(f"the engine named {len(named)} tokens but counts {mark.num_tokens - num_seen}")
        finish = _FINISH.get(data["stop_type"], data["stop_type"]) if data["stop"] else None
        return Chunk((None,) * num_unnamed + tuple(named), data["content"], finish, mark)
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise RequestFailed(f"an event that cannot be read ({error!r}): {event[:200]!r}") from error


def count(chunks: Sequence[Chunk], num_tokens: int, drafting: Drafting) -> tuple[SpecCounts, LastStep]:
    """All chunks of a turn -> its decode steps, exactly."""
    return steps_from_marks(chunks, num_tokens=num_tokens, prefill_tokens=PREFILL_TOKENS)


def counters(metrics_text: str) -> SpecCounts:
    """`/metrics` -> the engine's own counts since it started.

    >>> counters("llamacpp:spec_decode_num_draft_tokens_total 8").drafted
    8
    """
    totals: dict[str, int] = {}
    positions: dict[int, int] = {}
    for name, position, value in _COUNTER.findall(metrics_text):
        if position:
            positions[int(position)] = int(float(value))
        else:
            totals[name] = int(float(value))
    return SpecCounts(
        drafted=totals.get("draft_tokens"),
        accepted=totals.get("accepted_tokens"),
        verify_steps=totals.get("drafts"),
        num_steps=None,
        per_step=None,
        origin="server",
        aligned=False,
        per_position=tuple(positions[k] for k in sorted(positions)),
    )


def describe(info: Mapping[str, Any], card: Mapping[str, Any]) -> dict[str, Any]:
    """`/props` -> effective settings, for provenance."""
    return {
        "num_slots": info.get("total_slots"),
        "context_length": (info.get("default_generation_settings") or {}).get("n_ctx"),
        "model_ftype": info.get("model_ftype"),
        "build": info.get("build_info"),
    }


def tokenize_payload(text: str, served: str) -> tuple[str, dict[str, Any]]:
    """Text -> the request that asks the engine for its ids."""
    return "/tokenize", {"content": text, "parse_special": True, "add_special": False}


tokenize_answer = openai.tokenize_answer
