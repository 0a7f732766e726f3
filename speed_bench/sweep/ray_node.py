"""A process of ours on a node of a Ray cluster: asked for, found to be usable, spoken to, given back."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from speed_bench.errors import ConfigError, EngineError, SpeedBenchError
from speed_bench.sweep import ray_cluster
from speed_bench.sweep.ray_cluster import Resources
from speed_bench.sweep.remote_process import STOP_S, News, Node, RemoteProcess
from speed_bench.sweep.shipping import Held

LOOK_AGAIN_S = 5.0
NO_NODE_S = 60.0
"""How long a task waits for a node that could take it, when the last one is lost."""
SILENCE_S = 60.0
"""How long a process that cannot be reached may come back."""
WAIT_S = 0.25
"""How long a node has peace before it is asked for news: looking for them takes time from what it measures."""


class Lost(Exception):
    """The process is gone, or its node is. Says how."""


class UnusableNode(ConfigError):
    """What is installed on a node cannot measure the same as here."""


class There:
    """A process on a node, seen from here."""

    def __init__(self, ray: Any, actor: Any) -> None:
        self._ray = ray
        self._actor = actor
        self.node = Node("a node", "", 0, Path())

    async def ask(self, method: str, *arguments: Any) -> Any:
        """Call a method of `RemoteProcess`. Raises Lost, and what the method raises."""
        errors = self._ray.exceptions
        try:
            return await getattr(self._actor, method).remote(*arguments)
        except errors.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, SpeedBenchError):
                raise cause from None
            if isinstance(cause, OSError):
                raise EngineError(f"on node {self.node.host}: {cause}") from None
            raise
        except errors.RayError as error:
            raise Lost(self._how(error)) from error

    async def news(self, held: Mapping[str, Held], num_heard: int) -> News:
        """As `RemoteProcess.news`, after `WAIT_S`. Raises Lost where it is gone, or stays out of reach."""
        await asyncio.sleep(WAIT_S)
        deadline = asyncio.get_running_loop().time() + SILENCE_S
        while True:
            try:
                found: News = await self.ask("news", held, num_heard)
            except Lost as lost:
                passing = isinstance(lost.__cause__, self._ray.exceptions.ActorUnavailableError)
                if not passing or asyncio.get_running_loop().time() >= deadline:
                    raise
                await asyncio.sleep(1.0)
            else:
                return found

    async def stop(self) -> None:
        """Ask it to end, and insist. Raises Lost; TimeoutError where there is no telling."""
        await asyncio.wait_for(self.ask("stop"), STOP_S + LOOK_AGAIN_S)

    def _how(self, error: Exception) -> str:
        """Why it is gone, in words; what Ray says takes a page."""
        errors = self._ray.exceptions
        if isinstance(error, errors.NodeDiedError) or "node" in str(error).lower():
            return f"{self.node.host} was lost"
        if isinstance(error, errors.OutOfMemoryError):
            return f"memory ran out on {self.node.host}"
        return f"its process on {self.node.host} died ({type(error).__name__})"


@asynccontextmanager
async def on_a_node(ray: Any, wanted: Resources, tell: Callable[[str], None], **options: Any) -> AsyncIterator[There]:
    """A process on a node that has this to spare, which is waited for. It is gone afterwards.

    `tell` is given a sentence where the node disturbs what is measured. Raises Lost; EngineError where no such node
    is left; UnusableNode.
    """
    remote = ray.remote(num_cpus=wanted.num_cpus, num_gpus=wanted.num_gpus, max_restarts=0, **options)
    actor = remote(RemoteProcess).remote()
    there = There(ray, actor)
    try:
        there.node = await _when_placed(there, wanted)
        _require_usable(there.node)
        if there.node.niceness > 0:
            tell(
                f"on {there.node.host} whatever else runs goes first (niceness {there.node.niceness}); "
                "start Ray there with RAY_worker_niceness=0"
            )
        yield there
    finally:
        with suppress(Lost, SpeedBenchError, TimeoutError):
            if there.node.version:
                await there.stop()
                await asyncio.wait_for(there.ask("clear"), LOOK_AGAIN_S)
        ray.kill(actor)


async def _when_placed(there: There, wanted: Resources) -> Node:
    """Where it is, as soon as a node has room for it."""
    ray = there._ray
    asked = asyncio.ensure_future(there.ask("node"))
    loop = asyncio.get_running_loop()
    could_be_s = loop.time()
    try:
        while not (await asyncio.wait({asked}, timeout=LOOK_AGAIN_S))[0]:
            if any(wanted.fits(node) for node in ray_cluster.nodes(ray)):
                could_be_s = loop.time()
            elif loop.time() - could_be_s > NO_NODE_S:
                raise EngineError(
                    f"no node is left with {wanted.num_gpus:g} GPUs and {wanted.num_cpus:g} CPUs; "
                    "bring one back, and go on"
                )
        node: Node = await asked
    except Lost as lost:
        if "No module named" in str(lost.__cause__):
            raise UnusableNode(
                "speed-bench cannot be imported on a node of the cluster: install the same version on every node, "
                "in the environment that Ray runs in"
            ) from lost
        raise
    finally:
        asked.cancel()
    return node


def _require_usable(node: Node) -> None:
    ours = metadata.version("speed-bench")
    if node.version != ours:
        raise UnusableNode(
            f"{node.host} has speed-bench {node.version}, here it is {ours}: install the same version on every node"
        )
