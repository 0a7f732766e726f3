"""The transport against a real server on loopback that answers as badly as asked."""

import asyncio
import gc
import itertools
import shutil
import socket
import ssl
import subprocess
import time
import weakref
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from speed_bench.engines import http
from speed_bench.engines.http import Connection, Exchange, Url, events, pieces, without_tags
from speed_bench.errors import ConfigError, RequestFailed
from speed_bench.runner import event_loop

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(autouse=True, params=["the fastest loop", "the standard loop"])
def any_loop(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs have uvloop where it is installed; both must do."""
    if request.param == "the standard loop":
        monkeypatch.setattr(event_loop, "loop_factory", lambda: None)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length"))
    return head + await reader.readexactly(length)


def talk(
    handler: Handler,
    num_requests: int = 1,
    *,
    host: str = "127.0.0.1",
    certificate: Path | None = None,
    **options: object,
) -> list[Exchange]:
    """Send requests over one connection to a server that answers with `handler`, by TLS if it has a certificate."""
    tls = None
    if certificate is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate, certificate.with_suffix(".key"))

    async def main() -> list[Exchange]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while True:
                    await handler(reader, writer)
            except (asyncio.IncompleteReadError, ConnectionError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(serve, host, 0, ssl=tls)
        connection = Connection(Url(host, server.sockets[0].getsockname()[1], tls is not None), **options)
        try:
            return [await connection.request("POST", "/x", b"{}") for _ in range(num_requests)]
        finally:
            connection.close()
            server.close()
            await asyncio.sleep(0.01)

    return event_loop.run(main())


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
    found = list(events(exchange))
    assert [payload for _, payload in found] == [b'{"a": 1}', b"2", b"3"]
    times = [at for at, _ in found]
    assert exchange.sent_at_ns < times[0] < times[1] == times[2] <= exchange.finished_at_ns


def test_whoever_watches_a_stream_is_called_at_every_read() -> None:
    async def main() -> tuple[list[int], Exchange]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            writer.write(HEAD)
            for number in range(3):
                writer.write(chunk(b"data: %d\n\n" % number))
                await asyncio.sleep(0.01)
            writer.write(b"0\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        connection = Connection(Url("127.0.0.1", server.sockets[0].getsockname()[1]))
        seen: list[int] = []
        connection.on_read = lambda: seen.append(time.perf_counter_ns())
        exchange = await connection.request("POST", "/x", b"{}")
        connection.close()
        server.close()
        return seen, exchange

    seen, exchange = event_loop.run(main())
    stamps = sorted({at for at, _ in exchange.reads})
    assert len(stamps) == 3
    assert len(seen) >= 3  # the end of the answer may come by itself
    assert all(stamp <= at for stamp, at in zip(stamps, seen, strict=False))


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


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"error": "no\nsuch model"}', '{"error": "no such model"}'),
        (b"<!DOCTYPE html>\n<head><style>p {}</style></head>\n<p>a &lt; b</p>", "a < b"),
        (b"\x1b[2Jcleared\x00\xff", "[2Jcleared \ufffd"),
        (b"", ""),
        (b"7" * 5000, "7" * 500),
    ],
)
def test_what_a_server_says_is_one_short_line_that_no_terminal_obeys(body: bytes, said: str) -> None:
    assert str(RequestFailed(without_tags(body))) == said


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


def test_another_protocol_is_not_spoken() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x81")
        await reader.read()

    with pytest.raises(RequestFailed, match=r"not HTTP|nothing arrived"):
        talk(handler, stall_timeout_s=1.0)


def test_an_answer_without_end_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MOST_BYTES", 100_000)

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(HEAD)
        while True:
            writer.write(chunk(b"data: 1\n\n" * 1000))
            await writer.drain()

    with pytest.raises(RequestFailed, match="more than 100000 bytes"):
        talk(handler)


def test_a_connection_that_ended_leaves_nothing_to_collect() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")

    before = weakref.WeakSet(each for each in gc.get_objects() if type(each) is http._Reader)
    gc.disable()
    try:
        talk(handler, 3)
        assert [each for each in gc.get_objects() if type(each) is http._Reader and each not in before] == []
    finally:
        gc.enable()


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
        event_loop.run(main())


def test_a_stream_that_ends_inside_an_event_fails() -> None:
    with pytest.raises(RequestFailed, match="cut in the middle"):
        list(events(Exchange(0, 200, [(1, b'data: {"tok')])))


@pytest.mark.parametrize(
    "body",
    [
        b'data: {"a": 1}\n\ndata: {"b": 2}\n\ndata: [DONE]\n\n',
        b'data: {"a": 1}\r\n\r\n: a remark\r\n\r\ndata:{"b": 2} \r\n\r\ndata: [DONE]\r\n\r\n',
        b'event: x\ndata: {"a": 1}\ndata:  {"b": 2}\n\n\n\ndata: [DONE] \n',
    ],
)
def test_events_are_the_same_wherever_their_bytes_are_cut(body: bytes) -> None:
    payloads = [b'{"a": 1}', b'{"b": 2}', b"[DONE]"]
    for first in range(len(body) + 1):
        for second in range(first, len(body) + 1):
            reads = [(1, body[:first]), (2, body[first:second]), (3, body[second:])]
            found = list(events(Exchange(0, 200, reads)))
            assert [payload for _, payload in found] == payloads
            ends = [body.index(b"\n", body.index(payload)) for payload in payloads]
            assert [at for at, _ in found] == [1 if end < first else 2 if end < second else 3 for end in ends]


def test_a_line_without_end_is_refused_whatever_it_is_cut_into(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MOST_LINE_BYTES", 1000)
    whole = b'data: {"text": "' + 900 * b"x"
    ends = (1, b'"}\n\n')
    assert len(list(events(Exchange(0, 200, [(at, whole[at : at + 1]) for at in range(len(whole))] + [ends])))) == 1
    with pytest.raises(RequestFailed, match="more than 1000 bytes"):
        list(events(Exchange(0, 200, [(0, whole), (1, whole), ends])))


def test_who_reads_events_can_take_a_break_where_there_are_none() -> None:
    reads = [(0, 3 * b": ping\n\n"), (1, b'data: {"a'), (2, b'": 1}'), (3, b"\n\n")]
    found = list(pieces(Exchange(0, 200, reads)))
    assert [piece for piece in found if piece] == [(3, b'{"a": 1}')]
    assert found.count(None) >= len(reads) + 2


def test_an_error_event_is_an_event() -> None:
    assert list(events(Exchange(0, 200, [(1, b'error: {"message": "x"}\n\n')]))) == [(1, b'{"message": "x"}')]


@pytest.mark.parametrize("text", ["localhost:80", "ftp://x", "", "http://", "http://h:port", "http://[::1", "//h:80"])
def test_a_url_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="not of the form"):
        Url.parse(text)


@pytest.mark.parametrize(
    ("text", "url", "host"),
    [
        ("http://h", Url("h", 80), "h:80"),
        ("https://h", Url("h", 443, True), "h:443"),
        ("http://h:8000/v1", Url("h", 8000), "h:8000"),
        ("http://h:8000/v1/", Url("h", 8000), "h:8000"),
        ("http://h:8000/gpu/v1", Url("h", 8000, prefix="/gpu"), "h:8000"),
        ("http://h:8000/v1/gpu", Url("h", 8000, prefix="/v1/gpu"), "h:8000"),
        ("http://[::1]:8000/", Url("::1", 8000), "[::1]:8000"),
    ],
)
def test_a_url_is_read_as_its_users_mean_it(text: str, url: Url, host: str) -> None:
    assert Url.parse(text) == url
    assert url.authority == host
    assert Url.parse(str(url)) == url


async def answer_ok(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Answer one request; what it was."""
    request = await read_request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    return request


def header(request: bytes, name: str) -> list[str]:
    """All headers of this name."""
    lines = [line.split(": ", 1) for line in request.decode().split("\r\n")[1:] if ": " in line]
    return [value for key, value in lines if key.lower() == name]


@pytest.mark.parametrize(("key", "sent"), [("sk-1 2", ["Bearer sk-1 2"]), (None, []), ("", [])])
def test_a_key_is_sent_with_every_request_if_there_is_one_and_never_otherwise(key: str | None, sent: list[str]) -> None:
    seen: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await answer_ok(reader, writer))

    talk(handler, 2, api_key=key)
    assert [header(request, "authorization") for request in seen] == [sent, sent]
    assert [header(request, "host") for request in seen] == [[header(seen[0], "host")[0]]] * 2


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_an_ipv6_host_is_in_brackets_in_its_header() -> None:
    seen: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await answer_ok(reader, writer))

    talk(handler, host="::1")
    [host] = header(seen[0], "host")
    assert host.startswith("[::1]:")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 127.0.0.1, signed by itself; its key lies beside it."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate with")
    path = tmp_path_factory.mktemp("tls") / "own.pem"
    made = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=speed-bench"
    files = ("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", path.with_suffix(".key"), "-out", path)
    subprocess.run(["openssl", *made.split(), *files], check=True, capture_output=True)
    return path


def test_a_certificate_that_nobody_vouches_for_is_a_sentence(certificate: Path) -> None:
    with pytest.raises(RequestFailed) as failed:
        talk(answer_ok, certificate=certificate)
    assert str(failed.value).startswith("no secure connection to https://127.0.0.1:")
    assert str(failed.value).endswith(": self-signed certificate; name its authority with SSL_CERT_FILE=…")


def test_its_authority_is_named_by_the_environment(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    seen: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await answer_ok(reader, writer))

    assert [exchange.body for exchange in talk(handler, 2, certificate=certificate, api_key="k")] == [b"ok"] * 2
    assert [header(request, "authorization") for request in seen] == [["Bearer k"]] * 2


def test_a_server_without_tls_behind_a_url_with_it_is_a_sentence() -> None:
    async def main() -> None:
        server = await asyncio.start_server(answer_nonsense, "127.0.0.1", 0)
        async with server:
            await Connection(Url("127.0.0.1", server.sockets[0].getsockname()[1], tls=True)).connect()

    async def answer_nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    with pytest.raises(RequestFailed, match=r"no secure connection to https://\S+: [a-z ]+; does it speak http\?$"):
        event_loop.run(main())


def test_a_connection_that_was_idle_for_long_is_not_used_again_since_the_server_may_be_closing_it() -> None:
    peers: list[object] = []
    now_s = 0.0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await read_request(reader)
                peers.append(writer.get_extra_info("peername"))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()

    async def main() -> None:
        nonlocal now_s
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        url = Url("127.0.0.1", server.sockets[0].getsockname()[1])
        connection = Connection(url, lambda: round(1e9 * now_s))
        for idle_s in (0.0, http.IDLE_S - 0.1, http.IDLE_S):
            now_s += idle_s
            await connection.request("POST", "/x", b"{}")
        connection.close()
        server.close()
        await asyncio.sleep(0.01)

    event_loop.run(main())
    assert peers[0] == peers[1] != peers[2]
