"""SGLang 0.5.23: `/generate` with `input_ids`; every event repeats the answer so far, the last one has its counts."""

from typing import Any

import orjson

from speed_bench.engines.simulator.faults import DONE, Piece
from speed_bench.engines.simulator.truth import Habits
from speed_bench.engines.simulator.wires import (
    MODEL,
    PROMETHEUS,
    Body,
    Prompt,
    Reply,
    Server,
    Turn,
    Writer,
    integer,
    prometheus,
    token_ids,
)

COMPLETION = "/generate"
HABITS = Habits(room_in_context=False, room_in_answer=False, counts_are_cut=False, pads_proposals=True)
CLOSES_AFTER_STREAM = False
COUNTS_AT_END = True
REFUSES_IN_STREAM = True
VERSION = "0.5.23"
_LABELS = f'engine_type="unified",model_name="{MODEL}"'
_ALGORITHMS = {"none": None, "ngram": "NGRAM", "draft": "STANDALONE", "eagle3": "EAGLE3", "mtp": "EAGLE"}


def prompt(body: Body) -> Prompt:
    """A request to `/generate`; `max_new_tokens` is 128 unless given."""
    sampling = body.get("sampling_params") or {}
    return Prompt(
        token_ids(body["input_ids"]),
        integer(sampling.get("max_new_tokens", 128)),
        float(sampling.get("temperature", 1.0)),
        integer(sampling.get("sampling_seed") or 0),
        bool(sampling.get("ignore_eos")),
    )


def refusal(prompt: Prompt, context_length: int) -> str | None:
    """Prompt and answer must fit the context."""
    num, total = len(prompt.ids), len(prompt.ids) + prompt.max_tokens
    if num >= context_length:
        return f"The input ({num} tokens) is longer than the model's context length ({context_length} tokens)."
    if total <= context_length:
        return None
    return (
        f"Requested token count exceeds the model's maximum context length of {context_length} tokens. You requested "
        f"a total of {total} tokens: {num} tokens from the input messages and {prompt.max_tokens} tokens for the "
        "completion. Please reduce the number of tokens in the input messages or the completion to fit within the "
        "limit."
    )


def error(status: int, message: str) -> bytes:
    """An error object."""
    kind = "invalid_request_error" if status == 400 else "internal_error"
    return orjson.dumps({"error": {"message": message, "type": kind, "code": status, "retryable": False}})


def writer(turn: Turn, server: Server) -> Writer:
    """An event per piece, with all ids and all text so far; the last one with the counts; then `[DONE]`."""
    lexicon = server.lexicon
    name = str(turn.body.get("rid") or f"{turn.number:032x}")
    text, ids, seen = bytearray(), bytearray(), 0

    def write(piece: Piece) -> list[bytes]:
        nonlocal seen
        text.extend(lexicon.text(piece.token_ids))
        ids.extend((b"," if seen else b"") + lexicon.list(piece.token_ids))
        seen += len(piece.token_ids)
        meta: dict[str, Any] = {
            "id": name,
            "finish_reason": _finish(piece.finish_reason, server.lexicon.vocabulary.eos_id, seen),
            "prompt_tokens": len(turn.prompt.ids),
            "weight_version": "default",
            "num_retractions": 0,
            "reasoning_tokens": 0,
            "completion_tokens": seen,
            "cached_tokens": 0,
        }
        if piece.finish_reason:
            meta["e2e_latency"] = (piece.clocks[-1] - turn.arrived_ms) / 1000
            meta |= _report(turn, server.draft_length)
        event = b'data: {"text":"%s","output_ids":[%s],"meta_info":%s}\n\n' % (text, ids, orjson.dumps(meta))
        return [event, DONE] if piece.finish_reason else [event]

    return write


def _finish(reason: str | None, eos_id: int, num_output: int) -> dict[str, Any] | None:
    if reason is None:
        return None
    return {"type": "stop", "matched": eos_id} if reason == "stop" else {"type": "length", "length": num_output}


def _report(turn: Turn, draft_length: int) -> dict[str, Any]:
    steps = turn.answer.steps
    if not draft_length or not steps:
        return {}
    accepted, proposed = sum(step.accepted for step in steps), len(steps) * draft_length
    histogram = [0] * (max(step.accepted for step in steps) + 1)
    for step in steps:
        histogram[step.accepted] += 1
    return {
        "spec_accept_rate": accepted / proposed,
        "spec_accept_length": len(turn.answer.token_ids) / len(steps),
        "spec_num_correct_drafts": accepted,
        "spec_num_proposed_drafts": proposed,
        "spec_verify_ct": len(steps),
        "spec_correct_drafts_histogram": histogram,
    }


def get(path: str, server: Server) -> Reply | None:
    """`/health`, `/server_info`, `/model_info`, `/v1/models`, `/metrics`."""
    if path in ("/health", "/health_generate"):
        return Reply(200, b"")
    if path in ("/server_info", "/get_server_info"):
        return Reply(200, orjson.dumps(_server_info(server)))
    if path in ("/model_info", "/get_model_info"):
        return Reply(200, orjson.dumps({"model_path": MODEL, "served_model_name": MODEL, "is_generation": True}))
    if path == "/v1/models":
        card = {"id": MODEL, "object": "model", "created": server.started_at, "owned_by": "sglang", "root": MODEL}
        card |= {"parent": None, "max_model_len": server.context_length}
        return Reply(200, orjson.dumps({"object": "list", "data": [card]}))
    return Reply(200, _metrics(server).encode(), PROMETHEUS) if path == "/metrics" else None


def _server_info(server: Server) -> dict[str, Any]:
    length = server.draft_length
    return {
        "model_path": MODEL,
        "served_model_name": MODEL,
        "context_length": server.context_length,
        "max_running_requests": server.concurrency,
        "speculative_algorithm": _ALGORITHMS.get(server.algorithm, server.algorithm.upper()),
        "speculative_num_steps": length or None,
        "speculative_eagle_topk": 1 if length else None,
        "speculative_num_draft_tokens": length + 1 if length else None,
        "stream_interval": 1,
        "incremental_streaming_output": False,
        "disable_radix_cache": True,
        "internal_states": [{"avg_spec_accept_length": _mean_length(server)} if length else {}],
        "version": VERSION,
    }


def _mean_length(server: Server) -> float:
    counters = server.counters
    return 1.0 + counters.accepted / counters.verify_steps if counters.verify_steps else 0.0


def _metrics(server: Server) -> str:
    counters = server.counters
    metrics: list[tuple[str, str, str, float]] = [
        ("counter", "prompt_tokens_total", "Number of prefill tokens processed.", counters.prompt_tokens),
        ("counter", "generation_tokens_total", "Number of generation tokens processed.", counters.output_tokens),
    ]
    if server.draft_length:
        rate = counters.accepted / counters.drafted if counters.drafted else 0.0
        metrics += [
            ("counter", "spec_verify_calls_total", "Number of verification calls.", counters.verify_steps),
            ("gauge", "spec_accept_length", "Mean acceptance length.", _mean_length(server)),
            ("gauge", "spec_accept_rate", "Acceptance rate.", rate),
        ]
    return "".join(
        prometheus(kind, f"sglang:{name}", words, [(_LABELS, value)]) for kind, name, words, value in metrics
    )


def post(path: str, body: Body, server: Server) -> Reply | None:
    """`/tokenize`."""
    if path not in ("/tokenize", "/v1/tokenize"):
        return None
    ids = server.lexicon.encode(body["prompt"])
    return Reply(200, orjson.dumps({"tokens": ids, "count": len(ids), "max_model_len": server.context_length}))
