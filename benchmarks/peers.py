"""A client that reads lines and parses JSON as they come, on the fastest libraries there are, and keeps our journal.

    PYTHON benchmarks/peers.py '{"url": "http://127.0.0.1:8000", "streams": 32, "requests": 96, "prompt": [1], …}'

It is aiohttp on uvloop with orjson, as the engines' own benchmarks read streams, without any of what these do besides.
Of every turn it writes the line that ours writes to `turns-0.jsonl`, when the turn ends. Connections are opened before,
prompts come as ids, and the garbage collector is off: nothing is counted that is not reading, parsing and writing.
"""

import asyncio
import gc
import hashlib
import json
import sys
import time
from array import array
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import IO, Any

import aiohttp
import orjson
import uvloop

PATH = "/v1/completions"
MAX_TOKENS = 4096
NO_DRAFTS = {
    **dict.fromkeys(("drafted", "accepted", "verify_steps", "unplaced_steps"), 0),
    **dict.fromkeys(("emitted", "histogram", "full_draft_length", "per_position")),
    "origin": "stream",
    "aligned": True,
}


async def ask(session: aiohttp.ClientSession, url: str, body: bytes, started_ns: int) -> dict[str, Any]:
    """One turn, and what a journal says of it."""
    ids: list[int] = []
    arrivals: list[tuple[float, int]] = []
    finish_reason, said = None, None
    sent_ns = now_ns = time.perf_counter_ns()
    async with session.post(url + PATH, data=body, headers={"Content-Type": "application/json"}) as answer:
        async for line in answer.content:
            if not line.startswith(b"data: ") or line.startswith(b"data: [DONE]"):
                continue
            now_ns = time.perf_counter_ns()
            event = orjson.loads(line[6:])
            if not event["choices"]:
                said = event["usage"]["completion_tokens"]
                continue
            choice = event["choices"][0]
            new = choice["token_ids"]
            ids += new
            arrivals.append(((now_ns - started_ns) / 1e9, len(new)))
            finish_reason = choice["finish_reason"] or finish_reason
    if said != len(ids) or finish_reason is None:
        raise SystemExit(f"a request failed: {len(ids)} of {said} tokens, {finish_reason}")
    return {
        "output_ids": ids,
        "prefill_tokens": 1,
        "sent_at_s": (sent_ns - started_ns) / 1e9,
        "arrivals": arrivals,
        "finished_at_s": (now_ns - started_ns) / 1e9,
        "finish_reason": finish_reason,
        "last_step": "complete",
        "counts": NO_DRAFTS | {"num_steps": len(ids) - 1, "per_step": [(0, 0, 1)] * (len(ids) - 1)},
        "engine_counts": None,
        "scheduled_at_s": None,
        "repeat": 0,
        "num_thinking_tokens": None,
    }


async def stream(
    session: aiohttp.ClientSession,
    slot: int,
    numbers: Iterator[int],
    url: str,
    prompt: list[int],
    journal: IO[bytes],
    started_ns: int,
) -> None:
    """Turn after turn, as long as there are any."""
    for number in numbers:
        asked = {"model": "events", "prompt": prompt, "max_tokens": MAX_TOKENS, "temperature": 0.0, "stream": True}
        body = orjson.dumps({**asked, "stream_options": {"include_usage": True}, "return_token_ids": True})
        turn = {
            "id": f"{number:032x}/0",
            "category": "qa",
            "seed": 0,
            "segment": 0,
            "slot": slot,
            "prompt_len": len(prompt),
            "prompt_sha256": hashlib.sha256(array("I", prompt)).hexdigest(),
            **await ask(session, url, body, started_ns),
        }
        journal.write(orjson.dumps({"turn": turn}) + b"\n")


async def measure(url: str, streams: int, requests: int, prompt: list[int], folder: str) -> None:
    """A closed loop of `streams`, `requests` in all."""
    numbers = iter(range(requests))
    with (Path(folder) / "turns-0.jsonl").open("ab", buffering=0) as journal:
        async with AsyncExitStack() as stack:
            sessions = []
            for _ in range(streams):
                timeout, connector = aiohttp.ClientTimeout(total=None), aiohttp.TCPConnector(limit=0)
                session = await stack.enter_async_context(aiohttp.ClientSession(timeout=timeout, connector=connector))
                async with session.get(url + "/health") as answer:
                    await answer.read()
                sessions.append(session)
            gc.disable()
            started_ns = time.perf_counter_ns()
            await asyncio.gather(
                *(
                    stream(session, slot, numbers, url, prompt, journal, started_ns)
                    for slot, session in enumerate(sessions)
                )
            )


if __name__ == "__main__":
    uvloop.run(measure(**json.loads(sys.argv[1])))
    sys.stdin.read()  # until it was seen what it spent
