"""The Ray cluster that a sweep runs on: reached or refused within seconds, and what its nodes have."""

import logging
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from speed_bench.errors import ConfigError

INSTALL = "pip install 'speed-bench[cluster]'"
ADDRESS_VARIABLE = "RAY_ADDRESS"
LOCAL = "local"
PROBE_S = 5.0
_HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""How a client of gRPC begins, with empty settings; the server's settings are the answer."""
_SETTINGS = 4
CONNECT_S = 30.0
_CONNECT = "import ray, sys; ray.init(sys.argv[1], log_to_driver=False, logging_level=50)"
_REFUSED = re.compile("Unauthenticated|AuthenticationError")


class Resources(NamedTuple):
    """What a node has, or a task asks for."""

    num_cpus: float
    num_gpus: float

    def fits(self, node: "Resources") -> bool:
        """Whether a node has that, when nothing else runs on it."""
        return self.num_cpus <= node.num_cpus and self.num_gpus <= node.num_gpus


@contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """The module `ray`, connected: to the cluster at an address, to that of RAY_ADDRESS, else to a Ray of this
    machine that is started now and ends with us. One that is connected already is used, and left as it is.

    Raises ConfigError where Ray is not installed, or nothing that is Ray answers.
    """
    local_defaults = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    try:
        import ray
    except ImportError as error:
        raise ConfigError(f"Ray is not installed here; {INSTALL}") from error
    if ray.is_initialized():
        yield ray
        return
    where = address or os.environ.get(ADDRESS_VARIABLE) or LOCAL
    options: dict[str, Any] = {"address": where, "log_to_driver": False, "logging_level": logging.CRITICAL}
    if where == LOCAL:
        options["include_dashboard"] = False
        for name, value in local_defaults.items():  # for the processes that are started now
            os.environ.setdefault(name, value)
    else:
        if where != "auto":
            probe(where)
        require_let_in(where)
    try:
        ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError, OSError, AssertionError) as error:
        said = " ".join(str(error).split())[:300]
        raise ConfigError(f"there is no getting onto the Ray cluster at {where}: {said}") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def probe(address: str) -> None:
    """Ask whether something that can be Ray answers at `host:port` or `ray://host:port`.

    Ray itself tries for two minutes, and ends the process then. Raises ConfigError.
    """
    parts = urlsplit(address if "://" in address else f"//{address}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port or parts.scheme not in ("", "ray"):
        raise ConfigError(
            f"--address {address}: write it as HOST:PORT of the cluster's head, such as 10.0.0.1:6379, "
            "or ray://HOST:10001; leave it out for a Ray of this machine"
        )
    try:
        with socket.create_connection((host, port), PROBE_S) as connection:
            if os.environ.get("RAY_USE_TLS", "0") not in ("", "0"):
                return  # only Ray itself has the certificates
            connection.sendall(_HTTP2_PREFACE)
            answer = connection.recv(9)
    except OSError as error:
        why = "it does not answer" if isinstance(error, TimeoutError) else error.strerror or str(error)
        raise ConfigError(f"no Ray cluster at {address}: {why}; is its head running, and the port right?") from error
    if len(answer) < 4 or answer[3] != _SETTINGS:
        raise ConfigError(f"what answers at {address} is not Ray; the port of a cluster's head is 6379 by default")


def require_let_in(address: str) -> None:
    """Connect once in a process that can be given up: Ray would go on for minutes, and end ours. Raises ConfigError."""
    process = subprocess.Popen(
        [sys.executable, "-c", _CONNECT, address], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    lines: list[str] = []

    def read() -> None:
        for line in process.stderr or ():
            lines.append(line.strip())
            if _REFUSED.search(line):
                process.kill()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        if process.wait(CONNECT_S) == 0:
            return
    except subprocess.TimeoutExpired:
        lines.append(f"it lets nobody in within {CONNECT_S:g} s")
    finally:
        process.kill()
        process.wait()
        reader.join()
        if process.stderr:
            process.stderr.close()
    if any(map(_REFUSED.search, lines)):
        raise ConfigError(
            f"the Ray cluster at {address} asks for a token: set RAY_AUTH_MODE=token, and have its token in "
            "~/.ray/auth_token or RAY_AUTH_TOKEN, here and on its nodes"
        )
    said = [line for line in lines if line] or ["it ends without a word"]
    raise ConfigError(f"there is no getting onto the Ray cluster at {address}: {said[-1][:300]}")


def nodes(ray: Any) -> list[Resources]:
    """What each node has that is alive."""
    found = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [Resources(each.get("CPU", 0.0), each.get("GPU", 0.0)) for each in found]
