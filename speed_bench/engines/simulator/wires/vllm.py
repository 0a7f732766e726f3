"""vLLM 0.32: `/v1/completions` with `return_token_ids`, and `--per-request-spec-decode-metrics detailed`."""

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

COMPLETION = "/v1/completions"
HABITS = Habits(room_in_context=True, room_in_answer=False, counts_are_cut=False, pads_proposals=False)
CLOSES_AFTER_STREAM = False
COUNTS_AT_END = False
REFUSES_IN_STREAM = False
VERSION = "0.32.0"
_FINGERPRINT = f"vllm-{VERSION}-simulated"
_LABELS = f'engine="0",model_name="{MODEL}"'


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
    return (
        f"This model's maximum context length is {context_length} tokens. However, your prompt contains at least {num} "
        "input tokens, which exceeds this limit even without any output tokens. Please reduce the length of the input "
        f"prompt. (parameter=input_tokens, value={num})"
    )


def error(status: int, message: str) -> bytes:
    """An error object."""
    kind = {400: "BadRequestError", 404: "NotFoundError"}.get(status, "InternalServerError")
    return orjson.dumps({"error": {"message": message, "type": kind, "param": None, "code": status}})


def writer(turn: Turn, server: Server) -> Writer:
    """A chunk per piece, then the usage chunk if it is asked for, then `[DONE]`."""
    lexicon = server.lexicon
    head = b'{"id":"cmpl-%016x","object":"text_completion","created":%d,"model":"%s","choices":[' % (
        turn.number,
        turn.created,
        MODEL.encode(),
    )
    with_ids = bool(turn.body.get("return_token_ids"))
    prompt_ids = orjson.dumps(list(turn.prompt.ids)) if with_ids else b"null"
    include_usage = bool((turn.body.get("stream_options") or {}).get("include_usage"))

    def write(piece: Piece) -> list[bytes]:
        nonlocal prompt_ids
        finish = b'"%s"' % piece.finish_reason.encode() if piece.finish_reason else b"null"
        ids = b"[%s]" % lexicon.list(piece.token_ids) if with_ids else b"null"
        events = [
            b'data: %s{"index":0,"text":"%s","logprobs":null,"finish_reason":%s,"stop_reason":null,'
            b'"prompt_token_ids":%s,"token_ids":%s}]}\n\n'
            % (head, lexicon.text(piece.token_ids), finish, prompt_ids, ids)
        ]
        prompt_ids = b"null"
        if piece.finish_reason and include_usage:
            events.append(b"data: %s],%s}\n\n" % (head, orjson.dumps(_usage(turn, server))[1:-1]))
        return [*events, DONE] if piece.finish_reason else events

    return write


def _usage(turn: Turn, server: Server) -> dict[str, Any]:
    num_prompt, num_output = len(turn.prompt.ids), len(turn.answer.token_ids)
    usage = {"prompt_tokens": num_prompt, "total_tokens": num_prompt + num_output, "completion_tokens": num_output}
    if not server.draft_length:
        return {"usage": usage, "system_fingerprint": _FINGERPRINT}
    verified = [step for step in turn.answer.steps if step.drafted]
    drafted, accepted = sum(step.drafted for step in verified), sum(step.accepted for step in verified)
    histogram = [0] * (server.draft_length + 1)
    for step in verified:
        histogram[step.accepted] += 1
    report: dict[str, Any] = {
        "mean_acceptance_length": 1.0 + accepted / len(verified) if verified else 1.0,
        "draft_acceptance_rate": accepted / drafted if drafted else 0.0,
        "acceptance_histogram": histogram,
        "num_spec_steps": len(verified),
        "num_accepted_draft_tokens": accepted,
        "num_draft_tokens": drafted,
        "num_spec_tokens": server.draft_length,
    }
    if verified:
        report["per_step_accepted"] = [step.accepted for step in verified]
        report["per_step_drafted"] = [step.drafted for step in verified]
    return {"usage": usage, "system_fingerprint": _FINGERPRINT, "metrics": {"speculative_decoding": report}}


def get(path: str, server: Server) -> Reply | None:
    """`/health`, `/version`, `/v1/models`, `/metrics`."""
    if path == "/health":
        return Reply(200, b"")
    if path == "/version":
        return Reply(200, orjson.dumps({"version": VERSION}))
    if path == "/v1/models":
        card = {"id": MODEL, "object": "model", "created": server.started_at, "owned_by": "vllm", "root": MODEL}
        card |= {"parent": None, "max_model_len": server.context_length, "permission": []}
        return Reply(200, orjson.dumps({"object": "list", "data": [card]}))
    return Reply(200, _metrics(server).encode(), PROMETHEUS) if path == "/metrics" else None


def _metrics(server: Server) -> str:
    counters, length = server.counters, server.draft_length
    values = {
        "vllm:prompt_tokens": ("Number of prefill tokens processed.", counters.prompt_tokens),
        "vllm:generation_tokens": ("Number of generation tokens processed.", counters.output_tokens),
    }
    if length:
        values |= {
            "vllm:spec_decode_num_drafts": ("Number of spec decoding drafts.", counters.verify_steps),
            "vllm:spec_decode_num_draft_tokens": ("Number of draft tokens.", counters.drafted),
            "vllm:spec_decode_num_accepted_tokens": ("Number of accepted tokens.", counters.accepted),
        }
    text = ""
    for name, (words, value) in values.items():
        text += prometheus("counter", f"{name}_total", words, [(_LABELS, value)])
        text += prometheus("gauge", f"{name}_created", words, [(_LABELS, server.started_at)])
    if length:
        positions = [(f'{_LABELS},position="{at}"', num) for at, num in enumerate(counters.accepted_to(length))]
        name = "vllm:spec_decode_num_accepted_tokens_per_pos_total"
        text += prometheus("counter", name, "Accepted tokens per draft position.", positions)
    return text


def post(path: str, body: Body, server: Server) -> Reply | None:
    """`/tokenize`."""
    if path != "/tokenize":
        return None
    ids = server.lexicon.encode(body["prompt"])
    answer = {"count": len(ids), "max_model_len": server.context_length, "tokens": ids, "token_strs": None}
    return Reply(200, orjson.dumps(answer))
