"""The transport: one keep-alive connection per stream, and the only clock.

What is timed is the arrival of bytes. A read is stamped the moment the event loop hands it
over, kept as bytes, and parsed after the turn has ended.
"""

import asyncio
import html
import os
import re
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import cast
from urllib.parse import urlsplit

import httptools

from speed_bench.errors import ConfigError, Refused, RequestFailed

Clock = Callable[[], int]
"""Monotonic nanoseconds; `time.perf_counter_ns` unless a test brings its own."""
IDLE_S = 4.0
"""A connection that was idle for so long is not used again: many servers close it after 5 s, and a request that is on
its way then fails."""
MOST_BYTES = 1 << 30
"""No answer is longer."""
MOST_LINE_BYTES = 1 << 26
"""No event is longer."""


@dataclass(slots=True)
class Exchange:
    """One request and all that came back, as it came back. Times in clock nanoseconds."""

    sent_at_ns: int
    status: int = 0
    reads: list[tuple[int, bytes]] = field(default_factory=list)
    """(when it was read, body bytes), transfer encoding removed."""
    finished_at_ns: int = 0

    @property
    def num_reads(self) -> int:
        """How many reads it came in: pieces that one read brought have one time."""
        return bool(self.reads) + sum(before != at for (before, _), (at, _) in pairwise(self.reads))

    @property
    def body(self) -> bytes:
        """The whole body."""
        return b"".join(data for _, data in self.reads)


@dataclass(frozen=True, slots=True)
class Url:
    """Where an engine listens."""

    host: str
    port: int
    tls: bool = False
    prefix: str = ""

    @classmethod
    def parse(cls, text: str) -> "Url":
        """Read `http(s)://host[:port][/prefix]`.

        >>> Url.parse("http://127.0.0.1:8080/")
        Url(host='127.0.0.1', port=8080, tls=False, prefix='')
        """
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"url '{text}' is not of the form http://HOST:PORT")
        tls = parts.scheme == "https"
        prefix = parts.path.rstrip("/").removesuffix("/v1")  # as OpenAI clients have it
        return cls(parts.hostname, port or (443 if tls else 80), tls, prefix)

    @property
    def authority(self) -> str:
        """Host and port, as the Host header has them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.authority}{self.prefix}"


class _Reader(asyncio.Protocol):
    """Stamps what arrives and splits it into responses; the parser calls `on_*`."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.on_read: Callable[[], None] | None = None
        self.transport: asyncio.Transport | None = None
        self.exchange: Exchange | None = None
        self.done: asyncio.Future[None] | None = None
        self.open = False
        self.last_read_ns = 0
        self.num_bytes = 0
        self.parser: httptools.HttpResponseParser | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport, self.open = cast(asyncio.Transport, transport), True
        self.last_read_ns = self.clock()

    def data_received(self, data: bytes) -> None:
        self.last_read_ns = self.clock()
        if self.on_read is not None:
            self.on_read()
        try:
            if self.parser is not None:
                self.parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(f"the answer is not HTTP: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        self.transport = self.parser = None  # both hold us: nothing is left for a garbage collection
        self._fail(f"the connection was lost{f' ({exc})' if exc else ''} before the answer ended")

    def on_message_begin(self) -> None:
        if self.exchange is None and self.transport is not None:  # more than one answer to one request
            self.open = False
            self.transport.abort()

    def on_body(self, body: bytes) -> None:
        if self.exchange is not None:
            self.exchange.reads.append((self.last_read_ns, body))
            self.num_bytes += len(body)
            if self.num_bytes > MOST_BYTES:
                self._fail(f"the answer has more than {MOST_BYTES} bytes")

    def on_message_complete(self) -> None:
        assert self.parser is not None  # noqa: S101  (it calls)
        status = self.parser.get_status_code()
        if self.exchange is None or self.done is None or self.done.done() or status < 200:
            return
        self.exchange.status = status
        self.exchange.finished_at_ns = self.last_read_ns
        self.exchange = None
        if not self.parser.should_keep_alive() and self.transport is not None:
            self.open = False
            self.transport.close()
        self.done.set_result(None)

    def look_for_silence(self, stall_timeout_s: float) -> None:
        """Fail the request once nothing has arrived for that long; until `stop_looking`."""
        quiet_s = (self.clock() - self.last_read_ns) / 1e9
        if quiet_s >= stall_timeout_s:
            self._fail(f"nothing arrived for {stall_timeout_s:g} s")
            return
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(stall_timeout_s - quiet_s, self.look_for_silence, stall_timeout_s)

    def stop_looking(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None  # it holds us

    def _fail(self, sentence: str) -> None:
        if self.done is not None and not self.done.done():
            self.done.set_exception(RequestFailed(sentence))


@cache
def _tls_context(*_where_authorities_are: str | None) -> ssl.SSLContext:
    """Made once: it takes longer than the gap between two chunks."""
    return ssl.create_default_context()


class Connection:
    """One stream to the engine, reused for every request of its slot.

    >>> import asyncio
    >>> async def main(url):
    ...     connection = Connection(Url.parse(url))
    ...     exchange = await connection.request("GET", "/health")
    ...     connection.close()
    ...     return exchange.status
    """

    def __init__(
        self,
        url: Url,
        clock: Clock = time.perf_counter_ns,
        *,
        stall_timeout_s: float = 300.0,
        api_key: str | None = None,
    ) -> None:
        self.url = url
        self._authorization = f"Authorization: Bearer {api_key}\r\n" if api_key else ""
        self.clock = clock
        self.stall_timeout_s = stall_timeout_s
        self.on_read: Callable[[], None] | None = None
        """Called after every read of the next requests was stamped."""
        self._reader: _Reader | None = None

    async def connect(self) -> None:
        """Open the connection, before anything is timed."""
        if self._reader is not None and self._reader.open:
            if self.clock() - self._reader.last_read_ns < IDLE_S * 1e9:
                return
            self.close()
        loop = asyncio.get_running_loop()
        tls = _tls_context(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")) if self.url.tls else None
        try:
            _, self._reader = await loop.create_connection(
                lambda: _Reader(self.clock), self.url.host, self.url.port, ssl=tls
            )
        except ssl.SSLError as error:
            if isinstance(error, ssl.SSLCertVerificationError):
                reason = f"{error.verify_message}; name its authority with SSL_CERT_FILE=…"
            else:
                reason = f"{(error.reason or str(error)).replace('_', ' ').lower()}; does it speak http?"
            raise RequestFailed(f"no secure connection to {self.url}: {reason}") from error
        except OSError as error:
            raise RequestFailed(f"no connection to {self.url}: {error.strerror or error}") from error

    async def request(self, method: str, path: str, body: bytes = b"") -> Exchange:
        """Send, and wait until the whole answer is here.

        Raises RequestFailed when the connection breaks or nothing arrives for `stall_timeout_s`,
        Refused when the status is not 200.
        """
        await self.connect()
        reader = self._reader
        assert reader is not None and reader.transport is not None  # noqa: S101, PT018
        head = (
            f"{method} {self.url.prefix}{path} HTTP/1.1\r\nHost: {self.url.authority}\r\n{self._authorization}"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        message = head.encode("latin-1") + body
        reader.num_bytes, reader.on_read = 0, self.on_read
        reader.parser = httptools.HttpResponseParser(reader)
        reader.done = asyncio.get_running_loop().create_future()
        reader.exchange = exchange = Exchange(sent_at_ns=self.clock())
        reader.last_read_ns = exchange.sent_at_ns
        reader.transport.write(message)
        try:
            reader.look_for_silence(self.stall_timeout_s)
            await reader.done
        except BaseException:
            self.close()
            raise
        finally:
            reader.stop_looking()
            reader.on_read = None
            reader.done = reader.exchange = None  # an error would hold its frames, and they it and all that came
        if exchange.status != 200:
            said = without_tags(exchange.body)
            raise Refused(f"{method} {path} was answered with HTTP {exchange.status}: {said}", exchange.status)
        return exchange

    def close(self) -> None:
        """Drop the connection; the next request opens a new one."""
        if self._reader is not None and self._reader.transport is not None:
            self._reader.open = False
            if self._reader.done is not None and not self._reader.done.done():
                self._reader.done.cancel()
            self._reader.transport.abort()
        self._reader = None


def without_tags(body: bytes) -> str:
    """What a server says, the text alone where it is a page.

    >>> without_tags(b"<html><style>p { color: red }</style><p>Not found</p></html>").strip()
    'Not found'
    """
    text = body[:4096].decode("utf-8", "replace").strip()
    if not text.startswith("<"):
        return text
    return html.unescape(re.sub(r"<(style|script)\b.*?</\1>|<[^>]*>", " ", text, flags=re.DOTALL | re.IGNORECASE))


def events(exchange: Exchange) -> Iterator[tuple[int, bytes]]:
    """The server-sent events of an answer: (when its last byte was read, payload).

    >>> list(events(Exchange(0, 200, [(5, b"data: {"), (9, b"}\\n\\ndata: [DONE]\\n\\n")])))
    [(9, b'{}'), (9, b'[DONE]')]
    """
    return (piece for piece in pieces(exchange) if piece)


def pieces(exchange: Exchange) -> Iterator[tuple[int, bytes] | None]:
    """The same; and None wherever a read or a line is over that holds none, so that who reads can take a break.

    Raises RequestFailed if the last event is not whole, or one is longer than `MOST_LINE_BYTES`.
    """
    begun: list[bytes] = []
    num_begun = 0
    for at_ns, data in exchange.reads:
        if not begun and data.startswith(b"data: {") and data.endswith(b"}\n\n") and data.count(b"\n") == 2:
            yield at_ns, data[6:-2]  # as nearly all are: one event, whole
            continue
        first, newline, after = data.partition(b"\n")
        begun.append(first)
        num_begun += len(first)
        if num_begun > MOST_LINE_BYTES:
            raise RequestFailed(f"an event has more than {MOST_LINE_BYTES} bytes")
        if newline:
            *lines, rest = (b"".join(begun), *after.split(b"\n"))
            begun, num_begun = [rest] if rest else [], len(rest)
            for line in lines:
                is_event = line.startswith((b"data:", b"error:"))
                yield (at_ns, line.partition(b":")[2].strip()) if is_event else None
        yield None
    if b"".join(begun).strip():
        raise RequestFailed("the stream was cut in the middle of an event")
