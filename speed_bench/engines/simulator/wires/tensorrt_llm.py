"""TensorRT-LLM 1.3's `trtllm-serve`: `/v1/completions` with `detokenize: false`, and an average per pass for counts.

With `engine.request_stats`, the counts that newer versions tell with the last tokens.
"""

import struct
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
from speed_bench.types import Step

COMPLETION = "/v1/completions"
HABITS = Habits(room_in_context=False, room_in_answer=False, counts_are_cut=False, pads_proposals=False)
CLOSES_AFTER_STREAM = False
COUNTS_AT_END = True
REFUSES_IN_STREAM = False
VERSION = "1.3.0rc24"
_LABELS = f'engine_type="pytorch",model_name="{MODEL}"'


def prompt(body: Body) -> Prompt:
    """A completion request; `max_tokens` is 16 unless given."""
    return Prompt(
        token_ids(body["prompt"]),
        integer(body.get("max_tokens", 16)),
        float(body.get("temperature", 1.0)),
        integer(body.get("seed") or 0),
        bool(body.get("ignore_eos")),
    )


def refusal(prompt: Prompt, context_length: int) -> str | None:
    """The prompt must fit the context; the answer is cut to what is left of it."""
    num = len(prompt.ids)
    if num < context_length:
        return None
    return f"The prompt length ({num}) should be less than max_seq_len ({context_length})"


def error(status: int, message: str) -> bytes:
    """An error object."""
    if status == 404:
        return b'{"detail":"Not Found"}'
    kind = "BadRequestError" if status == 400 else "InternalServerError"
    return orjson.dumps({"object": "error", "message": message, "type": kind, "param": None, "code": status})


def writer(turn: Turn, server: Server) -> Writer:
    """A chunk per piece, then the usage chunk if it is asked for, then `[DONE]`."""
    lexicon = server.lexicon
    head = b'{"id":"cmpl-%d","object":"text_completion","created":%d,"model":"%s","choices":[' % (
        turn.number,
        turn.created,
        MODEL.encode(),
    )
    detokenize = turn.body.get("detokenize", True)
    include_usage = bool((turn.body.get("stream_options") or {}).get("include_usage"))
    seen = passes = 0

    def report(piece: Piece) -> bytes:
        verified = [step for step in turn.answer.steps if step.drafted]
        if not (piece.finish_reason and server.request_stats and verified):
            return b""
        return b',"speculative_decoding":' + orjson.dumps(_report(verified, server.draft_length))

    def write(piece: Piece) -> list[bytes]:
        nonlocal seen, passes
        seen, passes = seen + len(piece.token_ids), passes + len(piece.clocks)
        finish = b'"%s"' % piece.finish_reason.encode() if piece.finish_reason else b"null"
        text = lexicon.text(piece.token_ids) if detokenize else b""
        ids = b"null" if detokenize else b"[%s]" % lexicon.list(piece.token_ids)
        events = [
            b'data: %s{"index":0,"text":"%s","token_ids":%s,"logprobs":null,"finish_reason":%s,"stop_reason":null,'
            b'"avg_decoded_tokens_per_iter":%s%s}],"usage":null}\n\n'
            % (head, text, ids, finish, repr(single_precision(seen / passes)).encode(), report(piece))
        ]
        if piece.finish_reason and include_usage:
            events.append(b'data: %s],"usage":%s}\n\n' % (head, orjson.dumps(_usage(turn))))
        return [*events, DONE] if piece.finish_reason else events

    return write


def _report(verified: list[Step], draft_length: int) -> dict[str, Any]:
    drafted, accepted = sum(step.drafted for step in verified), sum(step.accepted for step in verified)
    histogram = [0] * (draft_length + 1)
    for step in verified:
        histogram[step.accepted] += 1
    return {
        "acceptance_rate": accepted / drafted,
        "total_accepted_draft_tokens": accepted,
        "total_draft_tokens": drafted,
        "num_spec_steps": len(verified),
        "acceptance_histogram": histogram,
        "num_spec_tokens": draft_length,
    }


def single_precision(value: float) -> float:
    """As a 32-bit float holds it.

    >>> single_precision(5 / 3)
    1.6666666269302368
    """
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


def _usage(turn: Turn) -> dict[str, Any]:
    num_prompt, num_output = len(turn.prompt.ids), len(turn.answer.token_ids)
    return {
        "prompt_tokens": num_prompt,
        "total_tokens": num_prompt + num_output,
        "completion_tokens": num_output,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


def get(path: str, server: Server) -> Reply | None:
    """`/health`, `/version`, `/server_info`, `/v1/models`, `/metrics` (JSON) and `/prometheus/metrics`."""
    if path == "/health":
        return Reply(200, b"")
    if path == "/version":
        return Reply(200, orjson.dumps({"version": VERSION}))
    if path == "/server_info":
        info = {"disaggregated_params": None, "max_batch_size": server.concurrency}
        return Reply(200, orjson.dumps(info | {"kv_cache_hash_algo": None, "tokens_per_block": 32}))
    if path == "/v1/models":
        card = {"id": MODEL, "object": "model", "created": server.started_at, "owned_by": "tensorrt_llm"}
        return Reply(200, orjson.dumps({"object": "list", "data": [card]}))
    if path in ("/metrics", "/perf_metrics"):
        return Reply(200, b"[]")  # drained on read, and nothing here fills them
    return Reply(200, _metrics(server).encode(), PROMETHEUS) if path == "/prometheus/metrics" else None


def _metrics(server: Server) -> str:
    counters, length = server.counters, server.draft_length
    words = "Multiprocess metric"
    finished = [
        (f'engine_type="pytorch",finished_reason="{reason}",model_name="{MODEL}"', num)
        for reason, num in sorted(counters.finished.items())
    ]
    text = prometheus("counter", "trtllm_request_success_total", words, finished)
    text += prometheus("counter", "trtllm_prompt_tokens_total", words, [(_LABELS, counters.prompt_tokens)])
    text += prometheus("counter", "trtllm_generation_tokens_total", words, [(_LABELS, counters.output_tokens)])
    if length:
        for name, values in (("accepted", counters.accepted_to(length)), ("drafted", counters.drafted_to(length))):
            samples = [(f'{_LABELS},token_position="{at}"', num) for at, num in enumerate(values)]
            text += prometheus("counter", f"trtllm_spec_decode_{name}_tokens_total", words, samples)
    return text


def post(path: str, body: Body, server: Server) -> Reply | None:
    """There is nothing else to ask for."""
    return None
