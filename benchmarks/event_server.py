"""A server that only streams, on time, and remembers when it sent what: the truth that clients are held against.

    python benchmarks/event_server.py '{"port": 0, "first_ms": 200, "interval_ms": 50, "chunks": [20, 60], …}'

It speaks as vLLM's `/v1/completions` does, one token a chunk, whatever is asked for. One thread, epoll, and an absolute
schedule: what one chunk is late by does not move the next. Every chunk is written by itself, right after it was stamped
(monotonic nanoseconds, which all processes of a machine share), so that a client's stamp minus the server's is what
the client is late by, whatever the server is late by itself. When a request came in is told by the kernel, which
knows it even while the server is busy. `GET /log` tells. It ends when its standard input closes.

The lines that it prints say where the measurement begins and ends: `listening PORT`, `busy` when a first stream
begins, `drained` when no stream is left.
"""

import gc
import heapq
import json
import random
import select
import socket
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

MODEL = "events"
RECEIVE = 1 << 20
IDLE_S = 0.5
ADJACENT_NS = 3_000
"""Nothing came between readings of clocks that are no farther apart."""
LOOK_NS = 5_000_000
"""No longer than this it only sends."""
SO_TIMESTAMPNS = 35
"""Of Linux: a read tells when its bytes came in, in nanoseconds of the wall clock."""
HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\nconnection: keep-alive\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)


@dataclass(frozen=True, slots=True)
class Schedule:
    """When chunks are due."""

    streams: int
    """How many the client has: their chunks are spread over the interval."""
    first_ms: float = 200.0
    """From a request to its first chunk; up to an interval more, for its place in the interval."""
    interval_ms: float = 50.0
    chunks: tuple[int, int] = (20, 60)
    """An answer has between so many and so many, at random."""
    together: bool = False
    """Whether all streams are served at the same moment, as a batch is after a decode step; else they are spread."""

    def first_due_ns(self, received_ns: int, number: int) -> int:
        """When request `number` gets its first chunk: all of them are on a grid of the machine's clock."""
        interval = int(self.interval_ms * 1e6)
        phase = 0 if self.together else interval * (number % self.streams) // self.streams
        earliest = received_ns + int(self.first_ms * 1e6) - phase
        return -(-earliest // interval) * interval + phase


@dataclass(slots=True)
class Answer:
    """One stream, and when it was sent. Times in monotonic nanoseconds."""

    number: int
    peer: "Peer"
    received_ns: int
    first_due_ns: int
    chunks: int
    sent_ns: list[int] = field(default_factory=list)
    event: bytes = b""
    """The bytes of every chunk but the last."""

    def __post_init__(self) -> None:
        self.event = _chunked(self._event(b"null"))

    def first(self) -> bytes:
        """The bytes that begin it."""
        return HEAD + self.event

    def last(self) -> bytes:
        """The bytes that end it."""
        usage = b'{"prompt_tokens":1,"completion_tokens":%d,"total_tokens":%d}' % (self.chunks, self.chunks + 1)
        events = self._event(b'"stop"'), b'data: %s],"usage":%s}\n\n' % (self._begun(), usage), b"data: [DONE]\n\n", b""
        return b"".join(map(_chunked, events))

    def _begun(self) -> bytes:
        names = self.number, MODEL.encode()
        return b'{"id":"cmpl-%d","object":"text_completion","created":1,"model":"%s","choices":[' % names

    def _event(self, finish_reason: bytes) -> bytes:
        return (
            b'data: %s{"index":0,"text":" word","logprobs":null,"finish_reason":%s,"stop_reason":null,'
            b'"prompt_token_ids":null,"token_ids":[%d]}]}\n\n'
        ) % (self._begun(), finish_reason, 1000 + self.number)


def _chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


class Peer:
    """One connection: reads requests, and keeps what cannot be written at once."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.unread = b""
        self.unsent = b""
        self.received_ns = 0
        """When the last bytes came in."""

    def receive(self) -> bool:
        """Read what is there; whether there will be more."""
        try:
            data, told, _, _ = self.connection.recvmsg(RECEIVE, 64)
        except OSError:
            return False
        self.received_ns = time.monotonic_ns()
        for level, kind, value in told:
            if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS):
                seconds, nanoseconds = struct.unpack("qq", value)
                self.received_ns = seconds * 10**9 + nanoseconds - wall_minus_monotonic_ns()
        self.unread += data
        return bool(data)

    def request(self) -> tuple[bytes, bytes] | None:
        """(path, body) of a request that is whole."""
        head, found, rest = self.unread.partition(b"\r\n\r\n")
        if not found:
            return None
        lines = head.lower().split(b"\r\n")
        length = next((int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:")), 0)
        if len(rest) < length:
            return None
        self.unread = rest[length:]
        return head.split(b" ", 2)[1], rest[:length]

    def send(self, data: bytes) -> bool:
        """Write what can be written; whether that was all."""
        data = self.unsent + data if self.unsent else data
        try:
            sent = self.connection.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:  # it is gone
            sent = len(data)
        self.unsent = data[sent:]
        return not self.unsent


def wall_minus_monotonic_ns() -> int:
    """What the wall clock is ahead of the monotonic one, to a microsecond or two."""
    while True:
        before, wall, after = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
        if after - before < ADJACENT_NS:
            return wall - (before + after) // 2


class Server:
    """Accepts, reads, and sends what is due."""

    def __init__(self, schedule: Schedule, port: int, seed: int, say: Callable[[str], object]) -> None:
        self.schedule = schedule
        self.answers: list[Answer] = []
        self.due: list[tuple[int, int, Answer]] = []
        self.num_held_up = 0
        """Chunks that the client's full socket held up."""
        self._looked_ns = 0
        self._say = say
        self._random = random.Random(seed)
        self._peers: dict[int, Peer] = {}
        self._listener = socket.create_server(("127.0.0.1", port), backlog=4096)
        self._listener.setblocking(False)
        self._epoll = select.epoll()
        for file in (self._listener, sys.stdin):
            self._epoll.register(file, select.EPOLLIN)
        say(f"listening {self._listener.getsockname()[1]}")

    def run(self) -> None:
        """Until standard input closes."""
        listener, stdin = self._listener.fileno(), sys.stdin.fileno()
        while True:
            self._send_what_is_due()
            self._looked_ns = time.monotonic_ns()
            wait_s = IDLE_S if not self.due else max(0.0, (self.due[0][0] - time.monotonic_ns()) / 1e9)
            if not select.select([self._epoll], [], [], wait_s)[0]:  # to the microsecond; epoll itself counts in ms
                continue
            for at, what in self._epoll.poll(0):
                if at == stdin:
                    return
                if at == listener:
                    self._accept()
                elif what & select.EPOLLOUT:
                    self._write_on(at)
                else:
                    self._read(at)

    def log(self) -> bytes:
        """When everything was sent."""
        requests = [[answer.number, answer.received_ns, answer.first_due_ns, answer.sent_ns] for answer in self.answers]
        interval = int(self.schedule.interval_ms * 1e6)
        return json.dumps({"requests": requests, "interval_ns": interval, "held_up": self.num_held_up}).encode()

    def _send_what_is_due(self) -> None:
        interval = int(self.schedule.interval_ms * 1e6)
        due = self.due
        while due and due[0][0] <= (now_ns := time.monotonic_ns()):
            due_ns, number, answer = due[0]
            num_sent = len(answer.sent_ns)
            if num_sent + 1 == answer.chunks:
                heapq.heappop(due)
                data = answer.last()
                if not num_sent:
                    data = HEAD + data
            else:
                heapq.heapreplace(due, (due_ns + interval, number, answer))
                data = answer.event if num_sent else answer.first()
            answer.sent_ns.append(time.monotonic_ns())
            if not answer.peer.send(data):
                self.num_held_up += 1
                self._epoll.modify(answer.peer.connection, select.EPOLLIN | select.EPOLLOUT)
            if not due:
                self._say("drained")
            if now_ns - self._looked_ns > LOOK_NS:
                return  # to those who ask, however much is due

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                return
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if sys.platform == "linux":
                connection.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            self._peers[connection.fileno()] = Peer(connection)
            self._epoll.register(connection, select.EPOLLIN)

    def _write_on(self, at: int) -> None:
        if self._peers[at].send(b""):
            self._epoll.modify(at, select.EPOLLIN)

    def _read(self, at: int) -> None:
        peer = self._peers[at]
        if not peer.receive():
            self._epoll.unregister(at)
            self._peers.pop(at).connection.close()
        elif request := peer.request():
            self._answer(peer, *request)

    def _answer(self, peer: Peer, path: bytes, body: bytes) -> None:
        if path == b"/v1/completions":
            number = len(self.answers)
            first_ns = self.schedule.first_due_ns(peer.received_ns, number)
            answer = Answer(number, peer, peer.received_ns, first_ns, self._random.randint(*self.schedule.chunks))
            self.answers.append(answer)
            if not self.due:
                self._say("busy")
            heapq.heappush(self.due, (first_ns, number, answer))
            return
        models = {"object": "list", "data": [{"id": MODEL, "owned_by": "vllm", "max_model_len": 131072}]}
        pages = {
            b"/health": b"",
            b"/metrics": b"",
            b"/version": b'{"version":"0.32.0"}',
            b"/v1/models": json.dumps(models).encode(),
        }
        page = self.log() if path == b"/log" else pages.get(path)
        status = b"404 Not Found" if page is None else b"200 OK"
        page = page or b""
        peer.send(
            b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (status, len(page), page)
        )
        if peer.unsent:
            self._epoll.modify(peer.connection, select.EPOLLIN | select.EPOLLOUT)


def main() -> None:
    settings = json.loads(sys.argv[1])
    gc.disable()  # a pass over what was sent would make it late, and nothing is left in cycles
    port, seed = settings.pop("port", 0), settings.pop("seed", 0)
    settings["chunks"] = tuple(settings.get("chunks", (20, 60)))
    Server(Schedule(**settings), port, seed, lambda line: print(line, flush=True)).run()


if __name__ == "__main__":
    main()
