"""The dialect of TensorRT-LLM's `trtllm-serve` (checked against a snapshot of the interface of 1.3, nothing was run).

Every chunk says how many tokens the model has decoded per iteration so far, and so how often it ran: where that fits
the chunks, they are decode steps (origin `stream`). Newer versions, told so with `engine.request_stats`, add
what each request drafted and accepted (origin `engine`).
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from speed_bench.checkpoints import split_revision
from speed_bench.config import RunConfig
from speed_bench.engine_config import TensorRtLlmConfig
from speed_bench.engines import Wired, openai, require_wired
from speed_bench.engines.answers import Chunk, Drafting, SpecReport
from speed_bench.engines.openai import completion, event_data, flags, unreadable
from speed_bench.engines.reports import steps_from_report
from speed_bench.engines.server import Launch, kept
from speed_bench.errors import EngineError, RequestFailed
from speed_bench.types import LastStep, Request, SpecCounts

ALGORITHMS = {
    "none": Wired("no speculative_config", "snapshot"),
    "ngram": Wired("decoding_type: NGram", "snapshot"),
    "suffix": Wired("decoding_type: SA", "snapshot"),
    "draft": Wired("decoding_type: Draft_Target", "snapshot"),
    "eagle3": Wired("decoding_type: Eagle3", "snapshot"),
    "mtp": Wired("decoding_type: MTP", "snapshot"),
    "dflash": Wired("decoding_type: DFlash", "snapshot"),
    "pard": Wired("decoding_type: PARD", "snapshot"),
}
DISTRIBUTIONS = ("tensorrt_llm",)
INSTALL = "use NVIDIA's container, with engine.launch='docker run … {command}'"
OWNED_BY = "tensorrt_llm"
HEALTH, METRICS, INFO = "/health", "/prometheus/metrics", "/version"
"""Its `/metrics` is drained by reading it."""
PREFILL_TOKENS = 1
CLOSES_AFTER_STREAM = False
READS_GGUF = False
OPTIONS_FILE = "trtllm-serve.yaml"
_COUNTER = re.compile(r"^trtllm_spec_decode_(\w+)_tokens_total\{([^}\n]*)\} (\S+)$", re.MULTILINE)
_POSITION = re.compile(r'token_position="(\d+)"')


def launch(config: RunConfig, *, model: str, draft: str | None, port: int, folder: Path) -> Launch:
    """Engine config -> argv, and the file of options that have no flag."""
    engine = config.engine
    assert isinstance(engine, TensorRtLlmConfig)  # noqa: S101  (the name says so)
    name, revision = split_revision(model)
    options: dict[str, Any] = {
        "return_perf_metrics": True,
        "stream_interval": 1,
        "kv_cache_config": {"enable_block_reuse": engine.prefix_cache},
        "speculative_config": speculative_config(config, draft),
        "per_request_spec_decode_stats": True if engine.request_stats else None,
        "dtype": engine.dtype,
        "enable_attention_dp": True if engine.data_parallel > 1 else None,
    }
    for key, value in engine.extra.items():
        ours = options.get(key)
        options[key] = {**ours, **value} if isinstance(ours, dict) and isinstance(value, dict) else value
    file = folder / OPTIONS_FILE
    settings = {
        "host": engine.host,
        "port": port,
        "max_batch_size": config.concurrency,
        "max_seq_len": engine.context_length,
        "tp_size": engine.tensor_parallel,
        "ep_size": engine.expert_parallel if engine.expert_parallel > 1 else None,
        "kv_cache_free_gpu_memory_fraction": engine.memory_fraction,
        "revision": revision,
        "extra_llm_api_options": str(file),
    }
    beside = Path(engine.python or "").parent / "trtllm-serve"  # a container may have it elsewhere
    serve = str(beside) if beside.is_file() else "trtllm-serve"
    text = yaml.safe_dump({key: value for key, value in options.items() if value is not None})
    return Launch(kept([serve, name, *_underscored(flags(settings))], engine, port), files={file: text})


def _underscored(words: Sequence[str]) -> list[str]:
    """Its flags are spelt with underscores."""
    return ["--" + word[2:].replace("-", "_") if word.startswith("--") else word for word in words]


def speculative_config(config: RunConfig, draft: str | None) -> dict[str, Any] | None:
    """TensorRT-LLM's own `speculative_config`; None without speculation. Raises EngineError for what it has not."""
    require_wired("tensorrt-llm", ALGORITHMS, config.algorithm)
    if config.algorithm == "none":
        return None
    settings: dict[str, Any] = {
        "decoding_type": ALGORITHMS[config.algorithm].spelling.partition(": ")[2],
        "max_draft_len": config.draft_length,
    }
    if draft is not None:
        if split_revision(config.draft or "")[1]:
            raise EngineError(
                f"engine 'tensorrt-llm' takes no revision of a draft model, as in '{config.draft}'; give a folder"
            )
        settings["speculative_model"] = split_revision(draft)[0]
    if config.algorithm == "ngram" and isinstance(config.engine, TensorRtLlmConfig):
        # Its pool is shared over requests by default: then what an answer drafts depends on those before it.
        settings |= {"max_matching_ngram_size": config.engine.ngram_max, "is_public_pool": False}
    if config.algorithm == "suffix":
        settings["enable_global_pool"] = False
    return settings


def payload(request: Request, served: str) -> tuple[str, dict[str, Any]]:
    """Request -> (path, JSON body). Ids are only given where text is not, and stop ids only where stop texts are."""
    return "/v1/completions", completion(request, served) | {
        "top_k": 0,
        "detokenize": False,
        "include_stop_str_in_output": True,
    }


def parse(event: bytes, num_seen: int) -> Chunk | None:
    """One event -> Chunk; None for `[DONE]`."""
    data = event_data(event)
    if data is None:
        return None
    try:
        if not data["choices"]:
            return Chunk((), report=SpecReport(num_tokens=data["usage"]["completion_tokens"]))
        [choice] = data["choices"]
        token_ids = tuple(choice["token_ids"])
        per_iteration = choice.get("avg_decoded_tokens_per_iter")
        num_tokens = num_seen + len(token_ids)
        report = _report(choice.get("speculative_decoding") or {}, num_tokens, per_iteration)
        return Chunk(token_ids, choice["text"], choice["finish_reason"], report=report)
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
        raise unreadable(event, error) from error


def _report(said: Mapping[str, Any], num_tokens: int, per_iteration: float | None) -> SpecReport:
    return SpecReport(
        num_iterations=None if per_iteration is None else round(num_tokens / per_iteration),
        verify_steps=said.get("num_spec_steps"),
        drafted=said.get("total_draft_tokens"),
        accepted=said.get("total_accepted_draft_tokens"),
        histogram=tuple(said["acceptance_histogram"]) if said else None,
        draft_length=said.get("num_spec_tokens"),
    )


def count(chunks: Sequence[Chunk], num_tokens: int, drafting: Drafting) -> tuple[SpecCounts | None, LastStep]:
    """All chunks of a turn -> its decode steps, where they can be told."""
    if all(chunk.report is None or chunk.report.num_tokens is None for chunk in chunks):
        raise RequestFailed("the stream ended without its usage, the last event that was asked for")
    return steps_from_report(chunks, num_tokens=num_tokens, drafting=drafting, prefill_tokens=PREFILL_TOKENS)


def counters(metrics_text: str) -> SpecCounts:
    """`/prometheus/metrics` -> the engine's own counts since it started.

    Newer versions count drafted and accepted tokens per position, older ones only in total.

    >>> counters('trtllm_spec_decode_num_draft_tokens_total{engine_type="pytorch"} 8.0').drafted
    8
    """
    totals: dict[str, int] = {}
    positions: dict[str, dict[int, int]] = {"drafted": {}, "accepted": {}}
    for name, labels, value in _COUNTER.findall(metrics_text):
        position = _POSITION.search(labels)
        if position and name in positions:
            at = int(position[1])
            positions[name][at] = positions[name].get(at, 0) + int(float(value))
        elif not position:
            totals[name] = totals.get(name, 0) + int(float(value))
    drafted, accepted = positions["drafted"], positions["accepted"]
    return SpecCounts(
        drafted=sum(drafted.values()) if drafted else totals.get("num_draft"),
        accepted=sum(accepted.values()) if drafted else totals.get("num_accepted"),
        # Where an executor tells no positions, totals stand at position 0.
        verify_steps=drafted[0] if len(drafted) > 1 else None,
        num_steps=None,
        per_step=None,
        origin="server",
        aligned=False,
        per_position=tuple(accepted[at] for at in sorted(accepted)) if len(drafted) > 1 else None,
    )


def describe(info: Mapping[str, Any], card: Mapping[str, Any]) -> dict[str, Any]:
    """`/version` -> what little it tells, for provenance."""
    return {"version": info.get("version")}


def tokenize_payload(text: str, served: str) -> tuple[str, dict[str, Any]] | None:
    """Its only tokenizer endpoint is internal, and adds special tokens of its own: it cannot be asked."""
    return None


tokenize_answer = openai.tokenize_answer
