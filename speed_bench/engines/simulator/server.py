"""The simulator's process: HTTP in front of a `Simulation`.

    python -m speed_bench.engines.simulator.server '{"port": 8000, "algorithm": "mtp", "engine": {"seed": 1, …}, …}'

The settings are `settings.ServerSettings`. It ends when the pipe on its standard input closes or its parent dies.
"""

import asyncio
import gc
import importlib
import socket
import struct
import sys
import time
from collections.abc import Sequence
from typing import Any, cast

import httptools
from pydantic import ValidationError

from speed_bench.engines.llama_cpp_server import die_with_parent
from speed_bench.engines.simulator.generation import Generation
from speed_bench.engines.simulator.lexicon import lexicon_of_gguf
from speed_bench.engines.simulator.settings import ServerSettings
from speed_bench.engines.simulator.simulation import Simulation
from speed_bench.engines.simulator.wires import Reply, Wire
from speed_bench.errors import SpeedBenchError
from speed_bench.models import resolve_gguf

BACKLOG = 4096
_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 500: "Internal Server Error", 503: "Service Unavailable"}
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
    b"connection: keep-alive\r\ntransfer-encoding: chunked\r\n\r\n"
)


class Peer(asyncio.Protocol):
    """One connection of a client; the parser calls `on_*`. An answer is streamed to it (`simulation.AnswerStream`)."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._transport: asyncio.Transport | None = None
        self._parser: Any = httptools.HttpRequestParser(self)
        self._generation: Generation | None = None
        self._busy = False
        """Whether a request is not answered yet."""
        self._path = ""
        self._body: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # asyncio has set TCP_NODELAY

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = self._parser = None  # both hold us
        if self._generation is not None:
            self._generation.abort()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError:
            raise  # a fault of ours
        except httptools.HttpParserError:
            self._reply(Reply(400, b""))
            self._close()

    def on_message_begin(self) -> None:
        self._path, self._body = "", []

    def on_url(self, url: bytes) -> None:
        self._path += url.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        path, body = self._path.partition("?")[0], b"".join(self._body)
        if self._busy:  # a request before the last one is answered
            self._close()
        elif self._parser.get_method() == b"POST":
            self._busy = True
            arrived_s = time.perf_counter()
            self._simulation.batch.take(lambda: self._post(path, body, arrived_s))
        else:
            self._reply(self._simulation.get(path))

    def _post(self, path: str, body: bytes, arrived_s: float) -> None:
        answer = self._simulation.post(path, body, self, arrived_s)
        if isinstance(answer, Reply):
            self._busy = False
            self._reply(answer)
        elif self._transport is None:  # it has hung up
            answer.abort()
        else:
            self._generation = answer

    def begin(self) -> None:
        self._write(_STREAM_HEAD)

    def send(self, events: Sequence[bytes], *, last: bool) -> None:
        data = b"".join([b"%x\r\n%s\r\n" % (len(event), event) for event in events])
        if not last:
            self._write(data)
            return
        self._generation, self._busy = None, False
        self._write(data + b"0\r\n\r\n")
        if self._simulation.wire.CLOSES_AFTER_STREAM:
            self._close()

    def reset(self) -> None:
        self._generation = None
        if self._transport is not None:
            connection = self._transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()

    def _reply(self, reply: Reply) -> None:
        head = (
            f"HTTP/1.1 {reply.status} {_REASONS[reply.status]}\r\ncontent-type: {reply.content_type}\r\n"
            f"content-length: {len(reply.body)}\r\n\r\n"
        )
        self._write(head.encode("latin-1") + reply.body)

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()


async def serve(settings: ServerSettings) -> None:
    """Listen and answer, for ever. Raises SpeedBenchError or OSError if it cannot begin."""
    wire = importlib.import_module(f"speed_bench.engines.simulator.wires.{settings.engine.speaks.replace('-', '_')}")
    simulation = Simulation(
        settings,
        cast(Wire, wire),
        lexicon_of_gguf(resolve_gguf(settings.model)),
        settings.categories(),
        time.perf_counter,
    )
    loop = asyncio.get_running_loop()
    engine = settings.engine
    server = await loop.create_server(lambda: Peer(simulation), engine.host, settings.port, backlog=BACKLOG)
    gc.freeze()  # the vocabulary need not be looked at again and again
    port = server.sockets[0].getsockname()[1]
    sys.stdout.write(f"simulator of {engine.speaks} listens on http://{engine.host}:{port}\n")
    sys.stdout.flush()
    async with server:
        await simulation.batch.run()


def main() -> int:
    """Serve until the parent is gone."""
    try:
        settings = ServerSettings.model_validate_json(sys.argv[1])
        if not settings.kept:
            die_with_parent()
        asyncio.run(serve(settings))  # not uvloop: it costs the same here, and writes later than it is told to
    except KeyboardInterrupt:
        return 0
    except (SpeedBenchError, ValidationError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
