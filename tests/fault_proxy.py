"""An engine that fails on demand: a proxy in front of the real llama.cpp server, run as a script in its place.

    python fault_proxy.py '{"port": 8080, "engine_port": 8081, "faults": {…}, "log": "…"}' ENGINE…

It starts the engine (the arguments after the first) as its child and passes everything on, but
for what `faults` says:

    {"fail": [{"request": 3, "how": "reset"}, …], "tokenize": "wrong"}

Requests to /completion are counted in the order in which they come in; warm-up is number 0. Every
one of them is written to `log` with its number and body. A request that fails in the middle of its
answer has been answered by the engine in full: its drafts are in the engine's counters. Whoever of
parent, proxy and engine dies, those after it die too, and the proxy with its engine.
"""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from speed_bench.engines.llama_cpp_server import die_with_parent

FAULTS = {
    "http500": "the engine refuses the request",
    "reset": "the connection is reset after the first event",
    "stall": "nothing comes after the first event",
    "truncate": "the answer ends in order, but without its last event",
    "tear": "the answer ends in order, but in the middle of an event",
    "garbage": "an event is not JSON",
    "error-event": "the engine gives up in the middle and says so",
    "die": "the engine dies after the first event",
    "hang": "the engine does not answer this nor anything else any more",
}
"""What can become of a request."""

REFUSAL = json.dumps({"error": {"code": 500, "message": "made to fail", "type": "server_error"}}).encode()


class FaultProxy(ThreadingHTTPServer):
    """Counts requests, and knows what is to become of each."""

    daemon_threads = True

    def __init__(self, port: int, engine_port: int, faults: dict[str, Any], log: Path) -> None:
        self.engine_port = engine_port
        self.fail = {fault["request"]: fault["how"] for fault in faults.get("fail", ())}
        self.wrong_ids = faults.get("tokenize") == "wrong"
        self.log = log
        self.num_requests = 0
        self.lock = threading.Lock()
        super().__init__(("127.0.0.1", port), Handler)

    def fault_of(self, body: bytes) -> str | None:
        """Count and log a request to /completion; how it is to fail."""
        with self.lock, self.log.open("a") as log:
            number = self.num_requests
            self.num_requests += 1
            log.write(json.dumps({"request": number, "body": json.loads(body)}) + "\n")
            return self.fail.get(number)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client or an engine that hangs up is nothing to report; anything else is a fault of the proxy."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """One connection of the client."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: FaultProxy

    def do_GET(self) -> None:
        self.pass_on(self.engine_answers(b""))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        fault = self.server.fault_of(body) if self.path == "/completion" else None
        if fault == "http500":
            self.answer(500, REFUSAL)
        elif fault:
            self.spoil(fault, self.engine_answers(body).read())
        elif self.path == "/tokenize" and self.server.wrong_ids:
            ids = json.loads(self.engine_answers(body).read())["tokens"]
            self.answer(200, json.dumps({"tokens": [token + 1 for token in ids]}).encode())
        else:
            self.pass_on(self.engine_answers(body))

    def engine_answers(self, body: bytes) -> HTTPResponse:
        engine = HTTPConnection("127.0.0.1", self.server.engine_port)
        engine.request(self.command, self.path, body, {"Content-Type": "application/json", "Connection": "close"})
        return engine.getresponse()

    def pass_on(self, response: HTTPResponse) -> None:
        """The answer as it comes: what the engine writes at once is written at once."""
        if response.getheader("Transfer-Encoding") != "chunked":
            return self.answer(response.status, response.read())
        self.begin_stream(response.status)
        while data := response.read1(1 << 20):
            self.write_chunk(data)
        return self.write_chunk(b"")

    def spoil(self, fault: str, stream: bytes) -> None:
        """Answer with a stream that fails as `fault` says."""
        events = [event + b"\n\n" for event in stream.split(b"\n\n")[:-1]]
        self.begin_stream(200)
        self.write_chunk(events[0])
        match fault:
            case "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                os.close(self.connection.detach())  # not shut down in order first
                self.close_connection = True
                return
            case "stall":
                self.rfile.read()  # until the client hangs up
                self.close_connection = True
                return
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                os.kill(os.getpid(), signal.SIGSTOP)
                return
            case "truncate":
                rest = events[1:-1]
            case "tear":
                rest = [*events[1:-1], events[-1][:20]]
            case "garbage":
                rest = [b'data: {"content":"\xff\n\n', *events[2:]]
            case "error-event":
                rest = [b"data: " + REFUSAL + b"\n\n"]
        for event in (*rest, b""):
            self.write_chunk(event)

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def begin_stream(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def write_chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def log_message(self, *_: object) -> None:
        """The engine's log is the engine's."""


def main() -> None:
    """Serve until the parent or the engine is gone."""
    die_with_parent()
    settings = json.loads(sys.argv[1])
    proxy = FaultProxy(settings["port"], settings["engine_port"], settings["faults"], Path(settings["log"]))
    engine = subprocess.Popen(sys.argv[2:], stdin=subprocess.PIPE)  # by the main thread: the engine dies with it
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    os._exit(engine.wait() & 0xFF)


if __name__ == "__main__":
    main()
