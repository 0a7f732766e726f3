"""Other clients of the same load: streams read line by line, JSON parsed where it arrives.

    PYTHON benchmarks/peers.py '{"client": "aiohttp", "url": "http://127.0.0.1:8000", "streams": 32, "requests": 96}'

PYTHON is any environment that has the client's library; nothing of speed-bench is needed there. As in ours, every
stream keeps one connection, opened beforehand, and takes the next request when one ends. Prints when each
request was sent and when each of its chunks was there, in monotonic nanoseconds, and the CPU seconds it took.
"""

import asyncio
import importlib
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.util import find_spec
from typing import Any

Lines = AsyncIterator[bytes]
Ask = Callable[[dict[str, Any]], Any]
"""Body -> a context manager of the lines of the answer."""
PATH = "/v1/completions"
loads: Callable[[bytes], Any] = importlib.import_module("orjson" if find_spec("orjson") else "json").loads
"""The fastest JSON parser that is there."""


@asynccontextmanager
async def streams_of_asyncio(url: str) -> AsyncIterator[Ask]:
    """The standard library's StreamReader, and the least HTTP that will do."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))

    @asynccontextmanager
    async def ask(body: dict[str, Any]) -> AsyncIterator[Lines]:
        data = json.dumps(body).encode()
        head = f"POST {PATH} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: {len(data)}\r\n\r\n"
        writer.write(head.encode() + data)
        await reader.readuntil(b"\r\n\r\n")

        async def lines() -> Lines:
            while size := int(await reader.readline(), 16):
                data = await reader.readexactly(size + 2)
                for line in data.splitlines():
                    yield line
            await reader.readline()

        yield lines()

    try:
        yield ask
    finally:
        writer.close()


@asynccontextmanager
async def aiohttp(url: str) -> AsyncIterator[Ask]:
    """aiohttp, as `vllm bench serve` and SGLang's benchmark use it."""
    library = importlib.import_module("aiohttp")
    timeout = library.ClientTimeout(total=None)
    async with library.ClientSession(timeout=timeout, connector=library.TCPConnector(limit=0)) as session:

        @asynccontextmanager
        async def ask(body: dict[str, Any]) -> AsyncIterator[Lines]:
            headers = {"Content-Type": "application/json"}
            async with session.post(url + PATH, data=json.dumps(body).encode(), headers=headers) as answer:
                yield answer.content

        async with session.get(url + "/health") as answer:
            await answer.read()
        yield ask


@asynccontextmanager
async def httpx(url: str) -> AsyncIterator[Ask]:
    """httpx, as the openai package uses it."""
    library = importlib.import_module("httpx")
    async with library.AsyncClient(timeout=None, limits=library.Limits(max_connections=None)) as session:

        @asynccontextmanager
        async def ask(body: dict[str, Any]) -> AsyncIterator[Lines]:
            async with session.stream("POST", url + PATH, content=json.dumps(body).encode()) as answer:

                async def lines() -> Lines:
                    async for line in answer.aiter_lines():
                        yield line.encode()

                yield lines()

        await session.get(url + "/health")
        yield ask


CLIENTS: dict[str, Callable[[str], Any]] = {"asyncio": streams_of_asyncio, "aiohttp": aiohttp, "httpx": httpx}


async def measure(client: str, url: str, streams: int, requests: int, prompt: list[int]) -> dict[str, Any]:
    """A closed loop of `streams`, `requests` in all."""
    found: list[tuple[int, int, list[int]]] = []
    numbers = iter(range(requests))
    async with AsyncExitStack() as stack:
        asks = [await stack.enter_async_context(CLIENTS[client](url)) for _ in range(streams)]
        began = time.process_time()

        async def stream(ask: Ask) -> None:
            for _ in numbers:
                found.append(await one(ask, {"model": "events", "prompt": prompt, "stream": True}))  # noqa: PERF401

        everything: list[Awaitable[None]] = [stream(ask) for ask in asks]
        await asyncio.gather(*everything)
        cpu_s = time.process_time() - began
    return {"requests": found, "cpu_s": {"process": cpu_s}}


async def one(ask: Ask, body: dict[str, Any]) -> tuple[int, int, list[int]]:
    """(the server's number of it, when it was sent, when each chunk with a text was there)."""
    number, at_ns = -1, []
    sent_ns = time.monotonic_ns()
    async with ask(body) as lines:
        async for line in lines:
            if not line.startswith(b"data:") or line.startswith(b"data: [DONE]"):
                continue
            now_ns = time.monotonic_ns()
            data = loads(line[6:])
            if data["choices"] and data["choices"][0]["text"]:
                at_ns.append(now_ns)
                number = int(data["id"].removeprefix("cmpl-"))
    return number, sent_ns, at_ns


def main() -> None:
    json.dump(asyncio.run(measure(**json.loads(sys.argv[1]))), sys.stdout)


if __name__ == "__main__":
    main()
