"""llama.cpp's server (xllamacpp 2026.10.11549): `/completion` with `return_tokens` and `timings_per_token`.

One event per token; its timings are cumulative, and `predicted_ms` changes once per decode step.
"""

from typing import Any

import orjson

from speed_bench.engines.simulator.faults import Piece
from speed_bench.engines.simulator.truth import Habits
from speed_bench.engines.simulator.wires import MODEL, PROMETHEUS, Body, Prompt, Reply, Server, Turn, Writer, integer
from speed_bench.engines.simulator.wires import token_ids as ids_of

COMPLETION = "/completion"
HABITS = Habits(room_in_context=True, room_in_answer=True, counts_are_cut=True, pads_proposals=False)
CLOSES_AFTER_STREAM = True
COUNTS_AT_END = False
REFUSES_IN_STREAM = False
_STOP_TYPES = {"stop": "eos", "length": "limit"}
_TICK_MS = 0.001
"""The resolution of its timings: no two steps share one."""


def prompt(body: Body) -> Prompt:
    """A completion request; without `n_predict` it goes on to the end of the context."""
    limit = integer(body.get("n_predict", -1))
    return Prompt(
        ids_of(body["prompt"]),
        limit if limit >= 0 else 2**31 - 1,
        float(body.get("temperature", 0.8)),
        integer(body.get("seed", 0)),
        bool(body.get("ignore_eos")),
    )


def refusal(prompt: Prompt, context_length: int) -> str | None:
    """The prompt must fit the context; the answer is cut to what is left of it."""
    num = len(prompt.ids)
    if num < context_length:
        return None
    return f"request ({num} tokens) exceeds the available context size ({context_length} tokens), try increasing it"


def error(status: int, message: str) -> bytes:
    """An error object."""
    kind = {400: "invalid_request_error", 404: "not_found_error", 503: "unavailable_error"}.get(status, "server_error")
    return orjson.dumps({"error": {"code": status, "message": message, "type": kind}})


def writer(turn: Turn, server: Server) -> Writer:
    """An event per token, and one that closes."""
    texts, numbers = server.lexicon.texts, server.lexicon.numbers
    num_prompt, timed = len(turn.prompt.ids), bool(turn.body.get("timings_per_token"))
    with_ids = bool(turn.body.get("return_tokens"))
    seen = drafted = accepted = 0
    prompt_ms = begun_ms = clock_ms = 0.0
    token = (
        b'data: {"index":0,"content":"%s","tokens":[%s],"stop":false,"id_slot":-1,'
        b'"tokens_predicted":%d,"tokens_evaluated":' + str(num_prompt).encode()
    )

    def timings() -> bytes:
        # Of the prompt, and of what was predicted so far, written by hand: one event per token adds up.
        text = (
            f'"timings":{{"cache_n":0,"prompt_n":{num_prompt},"prompt_ms":{prompt_ms},'
            f'"prompt_per_token_ms":{prompt_ms / num_prompt},"prompt_per_second":{1000 * num_prompt / prompt_ms},'
            f'"predicted_n":{seen},"predicted_ms":{clock_ms},"predicted_per_token_ms":{clock_ms / seen},'
            f'"predicted_per_second":{1000 * seen / clock_ms}'
        )
        return (text + (f',"draft_n":{drafted},"draft_n_accepted":{accepted}' if drafted else "") + "}").encode()

    def write(piece: Piece) -> list[bytes]:
        nonlocal seen, drafted, accepted, prompt_ms, begun_ms, clock_ms
        events = []
        if not piece.steps:
            begun_ms, clock_ms = piece.clocks[0], _TICK_MS
            prompt_ms = round(max(_TICK_MS, begun_ms - turn.arrived_ms), 3)
        sizes = [step.emitted for step in piece.steps] or [len(piece.token_ids)]
        at = 0
        for number, size in enumerate(sizes):
            if piece.steps:
                step = piece.steps[number]
                drafted, accepted = drafted + step.drafted, accepted + step.accepted
                clock_ms = round(max(clock_ms + _TICK_MS, piece.clocks[number] - begun_ms), 3)
            for token_id in piece.token_ids[at : at + size]:
                seen += 1
                ids = numbers[token_id] if with_ids else b""
                event = token % (texts[token_id], ids, seen)
                events.append(event + (b",%s}\n\n" % timings() if timed else b"}\n\n"))
            at += size
        if piece.finish_reason:
            events.append(b"data: %s,%s}\n\n" % (orjson.dumps(_closing(turn, server))[:-1], timings()))
        return events

    return write


def _closing(turn: Turn, server: Server) -> dict[str, Any]:
    num_prompt, num_output = len(turn.prompt.ids), len(turn.answer.token_ids)
    return {
        "index": 0,
        "content": "",
        "tokens": [],
        "id_slot": turn.body.get("id_slot", 0),
        "stop": True,
        "tokens_predicted": num_output,
        "tokens_evaluated": num_prompt,
        "has_new_line": False,
        "truncated": num_prompt + num_output >= server.context_length,
        "stop_type": _STOP_TYPES[turn.answer.finish_reason],
        "stopping_word": "",
        "tokens_cached": num_prompt + num_output - 1,
    }


def get(path: str, server: Server) -> Reply | None:
    """`/health`, `/props`, `/v1/models`, `/metrics`."""
    if path == "/health":
        return Reply(200, b'{"status":"ok"}')
    if path == "/props":
        return Reply(200, orjson.dumps(_properties(server)))
    if path == "/v1/models":
        card = {"id": MODEL, "object": "model", "created": server.started_at, "owned_by": "llamacpp"}
        card["meta"] = {"n_ctx_train": server.context_length}
        return Reply(200, orjson.dumps({"object": "list", "data": [card]}))
    return Reply(200, _metrics(server).encode(), PROMETHEUS) if path == "/metrics" else None


def _properties(server: Server) -> dict[str, Any]:
    return {
        "default_generation_settings": {"params": {}, "n_ctx": server.context_length},
        "total_slots": server.concurrency,
        "model_ftype": "simulated",
        "endpoint_metrics": True,
        "eos_token": server.lexicon.eos_text,
        "build_info": "simulated",
        "is_sleeping": False,
    }


def _metrics(server: Server) -> str:
    counters = server.counters
    totals = {"draft_tokens": counters.drafted, "accepted_tokens": counters.accepted, "drafts": counters.verify_steps}
    lines = [f"llamacpp:spec_decode_num_{name}_total {value}" for name, value in totals.items()]
    lines += [
        f'llamacpp:spec_decode_num_accepted_tokens_per_pos_total{{position="{at}"}} {num}'
        for at, num in enumerate(counters.accepted_to(counters.longest))
    ]
    return "\n".join(lines) + "\n"


def post(path: str, body: Body, server: Server) -> Reply | None:
    """`/tokenize`."""
    if path != "/tokenize":
        return None
    return Reply(200, orjson.dumps({"tokens": server.lexicon.encode(body["content"])}))
