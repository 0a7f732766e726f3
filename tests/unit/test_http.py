"""The transport against a real server on loopback that answers as badly as asked."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable

import pytest

from speed_bench.engines.http import Connection, Exchange, Url, events
from speed_bench.errors import ConfigError, RequestFailed

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length"))
    return head + await reader.readexactly(length)


def talk(handler: Handler, num_requests: int = 1, **options: object) -> list[Exchange]:
    """Send requests over one connection to a server that answers with `handler`."""

    async def main() -> list[Exchange]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while True:
                    await handler(reader, writer)
            except (asyncio.IncompleteReadError, ConnectionError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        connection = Connection(Url("127.0.0.1", server.sockets[0].getsockname()[1]), **options)
        try:
            return [await connection.request("POST", "/x", b"{}") for _ in range(num_requests)]
        finally:
            connection.close()
            server.close()
            await asyncio.sleep(0.01)

    return asyncio.run(main())


def test_reads_are_stamped_one_by_one_and_in_order() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(HEAD)
        for part in (b'data: {"a"', b": 1}\n\n", b"data: 2\n\ndata: 3\n\n"):
            writer.write(chunk(part))
            await writer.drain()
            await asyncio.sleep(0.02)
        writer.write(b"0\r\n\r\n")

    (exchange,) = talk(handler)
    found = events(exchange)
    assert [payload for _, payload in found] == [b'{"a": 1}', b"2", b"3"]
    times = [at for at, _ in found]
    assert exchange.sent_at_ns < times[0] < times[1] == times[2] <= exchange.finished_at_ns


def test_every_time_comes_from_the_clock_that_is_passed_in() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(HEAD + chunk(b"data: 1\n\n") + b"0\r\n\r\n")

    ticks = itertools.count(1000, 10)
    (exchange,) = talk(handler, clock=lambda: next(ticks))
    times = [exchange.sent_at_ns, *(at for at, _ in exchange.reads), exchange.finished_at_ns]
    assert times == sorted(times)
    assert all(1000 <= at < next(ticks) and at % 10 == 0 for at in times)


def test_one_connection_serves_many_requests() -> None:
    seen: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await read_request(reader))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    assert [exchange.body for exchange in talk(handler, 3)] == [b"ok"] * 3
    assert seen[0].startswith(b"POST /x HTTP/1.1\r\n")


def test_a_connection_closed_by_the_server_between_requests_is_opened_again() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
        writer.close()
        raise ConnectionError

    assert len(talk(handler, 2)) == 2


def test_bytes_after_the_answer_belong_to_nobody() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
        writer.write(answer + b"ok" + answer + b"no")

    assert [exchange.body for exchange in talk(handler, 2)] == [b"ok", b"ok"]


def test_an_interim_answer_is_passed_over() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    assert [exchange.body for exchange in talk(handler)] == [b"ok"]


def test_a_status_other_than_200_fails_with_the_words_of_the_engine() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 503 Busy\r\nContent-Length: 7\r\n\r\nno room")

    with pytest.raises(RequestFailed, match=r"POST /x was answered with HTTP 503: no room"):
        talk(handler)


def test_a_lost_connection_fails() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(HEAD + chunk(b"data: 1\n\n"))
        await writer.drain()
        raise ConnectionError

    with pytest.raises(RequestFailed, match="connection was lost"):
        talk(handler)


def test_what_is_not_http_fails() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")

    with pytest.raises(RequestFailed, match="not HTTP"):
        talk(handler)


def test_silence_fails_after_the_stall_time_out() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        await reader.read()

    with pytest.raises(RequestFailed, match=r"nothing arrived for 0.2 s"):
        talk(handler, stall_timeout_s=0.2)


def test_nobody_listening_fails_with_the_address() -> None:
    async def main() -> None:
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        await Connection(Url("127.0.0.1", port)).connect()

    with pytest.raises(RequestFailed, match=r"no connection to http://127.0.0.1:\d+"):
        asyncio.run(main())


def test_a_stream_that_ends_inside_an_event_fails() -> None:
    with pytest.raises(RequestFailed, match="cut in the middle"):
        events(Exchange(0, 200, [(1, b'data: {"tok')]))


def test_an_error_event_is_an_event() -> None:
    assert events(Exchange(0, 200, [(1, b'error: {"message": "x"}\n\n')])) == [(1, b'{"message": "x"}')]


@pytest.mark.parametrize("text", ["localhost:80", "ftp://x", "", "http://"])
def test_a_url_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="not of the form"):
        Url.parse(text)
