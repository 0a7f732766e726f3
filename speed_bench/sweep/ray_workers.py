"""The workers of one run's client, spread over the nodes of a Ray cluster, for more load than one machine makes.

Each leads its share of the conversations and keeps them in a journal shard of its own, which is gathered as it grows.
The load begins at one time on all clocks, as far as they can be compared.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, TypeVar

from speed_bench.config import RunConfig
from speed_bench.engine_config import API_KEY_VARIABLE
from speed_bench.errors import ClientError, ConfigError
from speed_bench.meters import is_this_machine
from speed_bench.runner.client import Client
from speed_bench.runner.journal import Journal
from speed_bench.runner.messages import HasFailed, HasKept, IsPrepared, Job, Start
from speed_bench.runner.outcomes import Ended
from speed_bench.runner.preparation import Inputs
from speed_bench.runner.segment import Engine, Span
from speed_bench.runner.share import Plan, Share, Told
from speed_bench.runner.streams import side_by_side
from speed_bench.runner.workers import STREAMS_PER_WORKER, Crew, MakeCrew
from speed_bench.sweep import ray_cluster
from speed_bench.sweep.clocks import Offset, Ping, error_s, offset_of
from speed_bench.sweep.ray_cluster import Resources
from speed_bench.sweep.ray_node import Lost, on_a_node
from speed_bench.sweep.ray_program import Program
from speed_bench.sweep.shipping import Copy
from speed_bench.types import SpecCounts

MODULE: Final = "speed_bench.runner.worker"
NUM_PINGS = 20
LEAD_NS = 1_000_000_000
"""How long after it is told a load begins: the word has to reach every node before."""

T = TypeVar("T")


def num_workers(config: RunConfig) -> int:
    """As asked, or one per 256 streams."""
    return min(config.workers or -(-config.concurrency // STREAMS_PER_WORKER), config.concurrency)


def spread_over(ray: Any, tell: Callable[[str], None]) -> MakeCrew:
    """What makes the crew of a run (`runner.workers.crew`) on the nodes of a cluster that is connected.

    `tell` is given a sentence for what disturbs a measurement there.
    """

    @asynccontextmanager
    async def crew(
        plan: Plan, engine: Engine, inputs: Inputs, journal: Journal, told: Callable[[Ended], None]
    ) -> AsyncIterator[Crew]:
        num = num_workers(plan.config)
        _require_room(ray, num)
        control = engine.client(inputs.tokenizer, ())
        try:
            async with AsyncExitStack() as stack:
                workers: list[_Worker] = []

                async def place(worker: int) -> None:
                    one_cpu = on_a_node(ray, Resources(1, 0), tell, scheduling_strategy="SPREAD")
                    there = await stack.enter_async_context(one_cpu)
                    _require_reachable(engine, there.node.host)
                    share = Share(worker, num)
                    folder = there.node.folder / "run"
                    job = Job(plan, share, engine.target, inputs.tokenizer_source, folder, engine.hint)
                    copy = Copy(journal.folder, only=f"turns-{worker}.jsonl")
                    workers.append(_Worker(job, Program(there, copy, folder), engine, told))

                await side_by_side(place(worker) for worker in range(num))
                spread = _Spread(workers, engine, control)
                try:
                    yield spread
                finally:
                    await asyncio.gather(*(worker.program.stop() for worker in workers))
        finally:
            control.close()

    return crew


class _Worker:
    """One of them, seen from here."""

    def __init__(self, job: Job, program: Program, engine: Engine, told: Callable[[Ended], None]) -> None:
        self.job = job
        self.program = program
        self._engine = engine
        self._told = told
        self._before = Offset(0, 0)

    async def prepare(self) -> None:
        key = {API_KEY_VARIABLE: os.environ[API_KEY_VARIABLE]} if API_KEY_VARIABLE in os.environ else {}
        await self._while_there(self.program.start(MODULE, self.job, key))
        await self.until(IsPrepared)

    async def compare_clocks(self) -> Offset:
        """How far the clock of its node is ahead of ours now."""
        pings = []
        for _ in range(NUM_PINGS):
            sent_ns = self._engine.clock()
            there_ns = await self._while_there(self.program.there.ask("clock"))
            pings.append(Ping(sent_ns, there_ns, self._engine.clock()))
        return offset_of(pings)

    async def start(self, started_ns: int, offset: Offset) -> None:
        """Have it begin at a time of our clock."""
        await self._while_there(self.program.send(Start(started_ns + offset.ahead_ns)))

    async def until(self, awaited: type[T]) -> T:
        """Gather what it keeps until it says this. Raises ClientError where it is gone, or what it failed with."""
        while True:
            for message in await self._while_there(self.program.gather()):
                if isinstance(message, HasKept):
                    for turn in message.turns:
                        self._told(turn)
                elif isinstance(message, HasFailed):
                    if message.error is None:
                        raise RuntimeError(f"a worker of our client failed on {self._host}:\n{message.trace}")
                    raise message.error
                elif isinstance(message, awaited):
                    return message
            self._engine.server.check_alive()
            if self.program.is_all:
                raise ClientError(f"a worker of our client on {self._host} {self.program.how_it_ended()}")

    @property
    def _host(self) -> str:
        return self.program.there.node.host

    async def _while_there(self, asked: Awaitable[T]) -> T:
        try:
            return await asked
        except Lost as lost:
            raise ClientError(f"a worker of our client is gone: {lost}") from lost


class _Spread:
    """A `Crew` on several nodes."""

    def __init__(self, workers: list[_Worker], engine: Engine, control: Client) -> None:
        self._workers = workers
        self._engine = engine
        self._control = control

    async def prepare(self) -> None:
        """See `Crew`."""
        await side_by_side(worker.prepare() for worker in self._workers)

    async def counters(self) -> SpecCounts | None:
        """See `Crew`."""
        return await self._control.counters()

    async def run(self, span: Span) -> Told:
        """See `Crew`. The span is told by how much the clocks may be off."""
        before = await self._offsets()
        span.started_ns = self._engine.clock() + LEAD_NS
        told: list[Told] = []

        async def lead(worker: _Worker) -> None:
            await worker.start(span.started_ns, before[worker])
            told.append(await worker.until(Told))

        await side_by_side(lead(worker) for worker in self._workers)
        after = await self._offsets()
        span.clock_error_s = max(error_s(before[worker], after[worker]) for worker in self._workers)
        return Told.together(told)

    async def _offsets(self) -> "dict[_Worker, Offset]":
        found: dict[_Worker, Offset] = {}

        async def compare(worker: _Worker) -> None:
            found[worker] = await worker.compare_clocks()

        await side_by_side(compare(worker) for worker in self._workers)
        return found


def _require_room(ray: Any, num: int) -> None:
    """All workers run at once, so there must be a CPU for each."""
    num_cpus = int(sum(node.num_cpus for node in ray_cluster.nodes(ray)))
    if num > num_cpus:
        raise ConfigError(
            f"{num} workers of the client need a CPU each, the cluster has {num_cpus}; ask for fewer --workers"
        )


def _require_reachable(engine: Engine, node: str) -> None:
    """An engine on this machine's own loopback address is no engine of another machine."""
    host = engine.target.url.host
    if is_this_machine(host) and host != socket.gethostname() and node != socket.gethostname():
        raise ConfigError(
            f"the engine is at {host}, where workers on {node} cannot reach it; "
            "start it with --set engine.host=NODE, or name it with --url http://NODE:PORT"
        )
