"""Whether what answers at an address can be Ray, and what cells ask of a cluster; without Ray itself."""

import asyncio
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from speed_bench.config import resolve
from speed_bench.engines.server import free_port
from speed_bench.errors import ConfigError
from speed_bench.sweep import ray_cluster
from speed_bench.sweep.cells import Cell
from speed_bench.sweep.on_ray import OnRay
from speed_bench.sweep.ray_cluster import Resources, probe
from speed_bench.sweep.ray_demand import demand, placed, sole_use
from speed_bench.sweep.ray_node import WAIT_S, There
from speed_bench.sweep.remote_process import News


@contextmanager
def server_that_says(answer: bytes) -> Iterator[str]:
    """Something that listens, and says this to whoever speaks to it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def cell_of(**settings: object) -> Cell:
    config, protocol = resolve(settings)
    return Cell("a-cell", config, protocol)


def test_a_server_of_grpc_can_be_ray():
    with server_that_says(bytes((0, 0, 6, 4, 0, 0, 0, 0, 0)) + b"settin") as address:
        probe(address)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"-ERR\r\n", b"\0", b""])
def test_what_is_no_server_of_grpc_is_not_ray(answer):
    with server_that_says(answer) as address, pytest.raises(ConfigError, match="is not Ray"):
        probe(address)


def test_what_says_nothing_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(ray_cluster, "PROBE_S", 0.05)
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        pytest.raises(ConfigError, match="it does not answer"),
    ):
        probe(f"127.0.0.1:{listener.getsockname()[1]}")


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_where_nothing_listens_the_sentence_says_so(scheme):
    address = f"{scheme}127.0.0.1:{free_port()}"
    with pytest.raises(ConfigError, match=f"no Ray cluster at {address}: Connection refused"):
        probe(address)


@pytest.mark.parametrize("address", ["head", "head:", "http://head:8265", "head:port", "ray://", ":6379", "a:b:c"])
def test_what_is_no_address_is_told_how_to_be_written(address):
    with pytest.raises(ConfigError, match=r"write it as HOST:PORT"):
        probe(address)


def test_without_ray_the_sentence_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"Ray is not installed here; pip install 'speed-bench\[cluster\]'"):
        OnRay("127.0.0.1:1").run([cell_of()], tmp_path, None)


def test_a_cell_asks_for_the_gpus_of_its_engine_and_cpus_beside_them():
    vllm = {"engine.name": "vllm", "model": "org/model"}
    assert demand(cell_of(**vllm).config).num_gpus == 1
    assert demand(cell_of(**vllm, **{"engine.tensor_parallel": 4, "engine.data_parallel": 2}).config).num_gpus == 8
    assert demand(cell_of(**vllm, **{"engine.tensor_parallel": 4}, num_gpus=2).config) == Resources(9, 2)
    assert demand(cell_of(**{"engine.threads": 6}).config) == Resources(7, 0)
    assert demand(cell_of(**{"engine.name": "simulator"}, concurrency=512).config) == Resources(3, 0)
    assert demand(cell_of(**{"engine.name": "simulator"}, concurrency=512, workers=5).config) == Resources(6, 0)


def test_a_cell_that_attaches_to_a_server_asks_for_nothing_of_the_server():
    attached = {"engine.name": "vllm", "engine.url": "http://gpu-node:8000", "algorithm": "none", "num_gpus": 8}
    assert demand(cell_of(**attached).config) == Resources(1, 0)


def test_a_cell_asks_for_no_more_cpus_than_a_node_with_its_gpus_has():
    cell = cell_of(**{"engine.name": "vllm", "model": "org/model", "engine.tensor_parallel": 4})
    nodes = [Resources(64, 0), Resources(8, 4), Resources(6, 8)]
    assert placed(cell, nodes) == Resources(8, 4)
    assert placed(cell_of(**{"engine.threads": 4}), [Resources(2, 0)]) == Resources(2, 0)


def test_what_no_node_has_is_told_with_the_most_that_there_is():
    cell = cell_of(**{"engine.name": "vllm", "model": "org/model", "engine.tensor_parallel": 8})
    with pytest.raises(ConfigError, match=r"cell a-cell asks for 8 GPUs on one node, the most .* is 4"):
        placed(cell, [Resources(64, 0), Resources(64, 4)])
    with pytest.raises(ConfigError, match="no node of the cluster lends any"):
        placed(cell_of(), [Resources(0, 0)])


def test_cells_that_would_disturb_each_other_share_a_name():
    first = cell_of(**{"engine.name": "vllm", "engine.url": "http://gpu-node:8000/", "algorithm": "none"})
    second = cell_of(**{"engine.name": "vllm", "engine.url": "http://gpu-node:8000", "algorithm": "none"})
    assert sole_use(first.config) == sole_use(second.config)
    assert sole_use(cell_of(**{"engine.port": 8000}).config) == "port 8000"
    assert sole_use(cell_of().config) is None


def test_a_node_that_always_has_news_is_asked_four_times_a_second():
    asked_at_s: list[float] = []

    async def busy(held: object, num_heard: int) -> News:
        asked_at_s.append(time.monotonic())
        return News(b"a turn", (), None)

    errors = SimpleNamespace(RayTaskError=OSError, RayError=OSError)
    there = There(SimpleNamespace(exceptions=errors), SimpleNamespace(news=SimpleNamespace(remote=busy)))

    async def listen() -> None:
        for num_heard in range(4):
            await there.news({}, num_heard)

    asyncio.run(listen())
    assert asked_at_s[-1] - asked_at_s[0] > 2.9 * WAIT_S
