"""The dialect of SGLang (checked with 0.5.23 running on a CPU).

The last chunk says how many verification steps there were and how many accepted 0, 1, 2, … tokens, before any cut and
in no order; the chunks tell the order (`reports`). What it calls proposed is not counted: it is the number of
steps times the width of a proposal, which holds for chains of a draft model, not for n-grams, whose missing
proposals are padded and verified all the same. So of n-grams what was drafted is not known. `output_ids` is cumulative
by default and a delta with `incremental_streaming_output`: what is new is told from `completion_tokens`, which holds
for both. A request that was retracted is prefilled again, which emits one token: a plain step.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from speed_bench.checkpoints import split_revision
from speed_bench.config import RunConfig
from speed_bench.engine_config import SglangConfig
from speed_bench.engines import Wired, openai, require_wired
from speed_bench.engines.answers import Chunk, Drafting, SpecReport
from speed_bench.engines.openai import event_data, flags, unreadable
from speed_bench.engines.reports import steps_from_report
from speed_bench.engines.server import Launch, interpreter, kept
from speed_bench.errors import EngineError, RequestFailed
from speed_bench.types import LastStep, Request, SpecCounts

ALGORITHMS = {
    "none": Wired("no speculative_algorithm", "live on CPU"),
    "ngram": Wired("speculative_algorithm: NGRAM", "live on CPU"),
    "draft": Wired("speculative_algorithm: STANDALONE", "live on CPU"),
    "eagle": Wired("speculative_algorithm: EAGLE", "real package"),
    "eagle3": Wired("speculative_algorithm: EAGLE3", "real package"),
    "mtp": Wired("speculative_algorithm: NEXTN", "real package"),
    "dflash": Wired("speculative_algorithm: DFLASH", "real package"),
}
DISTRIBUTIONS = ("sglang",)
INSTALL = "pip install 'speed-bench[sglang]'"
OWNED_BY = "sglang"
HEALTH, METRICS, INFO = "/health", "/metrics", "/server_info"
PREFILL_TOKENS = 1
CLOSES_AFTER_STREAM = False
READS_GGUF = False
_FINISH_FAILED = "abort"
_FORGER = "SGLANG_SIMULATE_ACC_LEN"
"""A variable that has it report, and use, acceptance that is made up."""
_VERIFY_STEPS = re.compile(r"^sglang:spec_verify_calls_total(?:\{[^}\n]*\})? (\S+)$", re.MULTILINE)
_ONE_WORD = {"EAGLE": "eagle/mtp"}
"""NEXTN becomes EAGLE as it starts."""


def launch(config: RunConfig, *, model: str, draft: str | None, port: int, folder: Path) -> Launch:
    """Engine config -> argv, env."""
    engine = config.engine
    assert isinstance(engine, SglangConfig)  # noqa: S101  (the name says so)
    if os.environ.get(_FORGER):
        raise EngineError(f"the environment variable {_FORGER} makes SGLang forge its acceptance; unset it")
    name, revision = split_revision(model)
    settings = {
        "model_path": name,
        "revision": revision,
        "served_model_name": Path(name).name,
        "host": engine.host,
        "port": port,
        "context_length": engine.context_length,
        "max_running_requests": config.concurrency,
        "tp_size": engine.tensor_parallel,
        "dp_size": engine.data_parallel if engine.data_parallel > 1 else None,
        "ep_size": engine.expert_parallel if engine.expert_parallel > 1 else None,
        "mem_fraction_static": engine.memory_fraction,
        "disable_radix_cache": None if engine.prefix_cache else True,
        "dtype": engine.dtype,
        "random_seed": config.seeds[0],
        "stream_interval": 1,
        "enable_metrics": True,
        **speculative_settings(config, draft),
    }
    command = [interpreter(engine), "-m", "sglang.launch_server", *flags(settings | engine.extra)]
    return Launch(kept(command, engine, port))


def speculative_settings(config: RunConfig, draft: str | None) -> dict[str, Any]:
    """SGLang's own settings, of chains; none without speculation. Raises EngineError for an algorithm it has not."""
    require_wired("sglang", ALGORITHMS, config.algorithm)
    if config.algorithm == "none" or config.draft_length is None:
        return {}
    settings: dict[str, Any] = {
        "speculative_algorithm": ALGORITHMS[config.algorithm].spelling.partition(": ")[2],
        "speculative_num_draft_tokens": config.draft_length + 1,
    }
    if config.algorithm == "ngram":
        return settings | {
            "speculative_ngram_max_bfs_breadth": 1,  # a chain; it drafts trees by default
            "speculative_ngram_min_bfs_breadth": 1,
        }
    settings |= {"speculative_num_steps": config.draft_length, "speculative_eagle_topk": 1}
    if draft is not None:
        name, revision = split_revision(draft)
        settings |= {"speculative_draft_model_path": name, "speculative_draft_model_revision": revision}
    return settings


def payload(request: Request, served: str) -> tuple[str, dict[str, Any]]:
    """Request -> (path, JSON body)."""
    sampling = request.sampling
    return "/generate", {
        "input_ids": request.prompt_ids,
        "stream": True,
        "sampling_params": {
            "max_new_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": 1.0,
            "top_k": -1,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "stop_token_ids": sampling.stop_ids,
            "ignore_eos": sampling.ignore_eos,
            "sampling_seed": sampling.seed,
        },
    }


def parse(event: bytes, num_seen: int) -> Chunk | None:
    """One event -> Chunk; None for `[DONE]`."""
    data = event_data(event)
    if data is None:
        return None
    try:
        meta, output_ids = data["meta_info"], data["output_ids"]
        num_new = meta["completion_tokens"] - num_seen
        if not 0 <= num_new <= len(output_ids):
            raise RequestFailed(f"the engine counts {num_new} new tokens, but sent {len(output_ids)}")
        finish = meta["finish_reason"]
        if finish is not None and finish["type"] == _FINISH_FAILED:
            raise RequestFailed(f"the engine gave the request up: {finish.get('message', finish)}")
        new_ids = tuple(output_ids[len(output_ids) - num_new :])
        if finish is None:
            return Chunk(new_ids, data.get("text", ""))
        return Chunk(new_ids, data.get("text", ""), finish["type"], report=_report(meta))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise unreadable(event, error) from error


def _report(meta: Mapping[str, Any]) -> SpecReport:
    histogram, verify_steps = meta.get("spec_correct_drafts_histogram"), meta.get("spec_verify_ct")
    return SpecReport(
        num_tokens=meta["completion_tokens"],
        num_iterations=None if verify_steps is None else 1 + meta.get("num_retractions", 0) + verify_steps,
        verify_steps=verify_steps,
        drafted=meta.get("spec_num_proposed_drafts"),
        accepted=meta.get("spec_num_correct_drafts"),
        histogram=None if histogram is None else tuple(histogram),
    )


def count(chunks: Sequence[Chunk], num_tokens: int, drafting: Drafting) -> tuple[SpecCounts | None, LastStep]:
    """All chunks of a turn -> its decode steps, where they can be told."""
    if not drafting.always:
        chunks = [each._replace(report=each.report and replace(each.report, drafted=None)) for each in chunks]
    return steps_from_report(chunks, num_tokens=num_tokens, drafting=drafting, prefill_tokens=PREFILL_TOKENS)


def counters(metrics_text: str) -> SpecCounts:
    """`/metrics` -> the engine's own count since it started, of verification steps alone: the rest are gauges.

    >>> counters('sglang:spec_verify_calls_total{model_name="m"} 8.0').verify_steps
    8
    """
    found = [int(float(value)) for value in _VERIFY_STEPS.findall(metrics_text)]
    return SpecCounts(None, None, sum(found) if found else None, None, None, "server", aligned=False)


def describe(info: Mapping[str, Any], card: Mapping[str, Any]) -> dict[str, Any]:
    """`/server_info` and the entry of `/v1/models` -> effective settings, for provenance."""
    spellings = {wired.spelling.partition(": ")[2]: name for name, wired in ALGORITHMS.items()} | _ONE_WORD
    spelt = info.get("speculative_algorithm")
    return {
        "version": info.get("version"),
        "context_length": card.get("max_model_len") or info.get("context_length"),
        "algorithm": "none" if spelt is None and "speculative_algorithm" in info else spellings.get(str(spelt)),
        "attention_backend": info.get("attention_backend"),
        "dtype": info.get("dtype"),
        "draft_length": None if spelt is None else _draft_length(info),
        "speculative_eagle_topk": info.get("speculative_eagle_topk"),
        "tp_size": info.get("tp_size"),
        "disable_radix_cache": info.get("disable_radix_cache"),
        "stream_interval": info.get("stream_interval"),
    }


def _draft_length(info: Mapping[str, Any]) -> int | None:
    """Tokens on the longest path of a proposal: the width of a chain less the token before; of a tree its depth."""
    steps, width = info.get("speculative_num_steps"), info.get("speculative_num_draft_tokens")
    if width is not None and info.get("speculative_eagle_topk") in (None, 1):
        return int(width) - 1
    return None if steps is None else int(steps)


tokenize_payload, tokenize_answer = openai.tokenize_payload, openai.tokenize_answer
