"""The client of a run: in this process, or spread over several workers of this machine."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol, TypeVar

from speed_bench.config import RunConfig
from speed_bench.errors import ClientError
from speed_bench.runner.client import Client
from speed_bench.runner.journal import Journal
from speed_bench.runner.messages import HasFailed, HasKept, IsPrepared, Job, Start, packed, read_message
from speed_bench.runner.outcomes import Ended, ended
from speed_bench.runner.preparation import Inputs
from speed_bench.runner.segment import Engine, Span
from speed_bench.runner.share import Plan, Session, Share, Told
from speed_bench.runner.streams import side_by_side
from speed_bench.runner.tickets import SharedTickets
from speed_bench.types import Outcome, SpecCounts

STREAMS_PER_WORKER = 256
LEAD_NS = 50_000_000
"""How long after it is told a load begins: so that all workers begin together, and what `punctual` does first is over
when the first conversation is due."""
STOP_S = 5.0
"""How long a worker that is to end may keep no further turn of those that had come."""
MODULE = "speed_bench.runner.worker"

T = TypeVar("T")


class Crew(Protocol):
    """Whoever serves the streams of a run."""

    async def prepare(self) -> None:
        """Warm up, and encode what is sent first."""

    async def counters(self) -> SpecCounts | None:
        """The engine's own counts since its start."""

    async def run(self, span: Span) -> Told:
        """Lead all conversations, from a time on that the span is told."""


MakeCrew = Callable[[Plan, Engine, Inputs, Journal, Callable[[Ended], None]], AbstractAsyncContextManager[Crew]]
"""Makes one; every turn is in the journal before the last argument is told of it."""


def num_workers(config: RunConfig) -> int:
    """How many processes share the streams: as asked, or one per 256 streams and at most one per two cores."""
    if config.workers is not None:
        return min(config.workers, config.concurrency)
    if sys.platform == "win32":
        return 1
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, min(-(-config.concurrency // STREAMS_PER_WORKER), cores // 2))


@asynccontextmanager
async def crew(
    plan: Plan, engine: Engine, inputs: Inputs, journal: Journal, told: Callable[[Ended], None]
) -> AsyncIterator[Crew]:
    """Those who serve the streams of a run; every turn is in the journal before `told` is."""
    num = num_workers(plan.config)
    if num == 1:
        with_counters = plan.config.concurrency == 1
        client = engine.client(inputs.tokenizer, Share().slots(plan.config), reads_counters=with_counters)

        def keep(outcome: Outcome) -> None:
            journal.add(outcome)
            told(ended(outcome))

        try:
            yield _Alone(Session(plan, Share(), client, inputs.tokenizer, keep), engine)
        finally:
            client.close()
        return
    with TemporaryDirectory(prefix="speed-bench-") as name:
        tickets = Path(name) / "tickets"
        SharedTickets.make(tickets)
        jobs = [
            Job(plan, Share(worker, num, tickets), engine.target, inputs.tokenizer_source, journal.folder, engine.hint)
            for worker in range(num)
        ]
        several = _Several(jobs, engine, engine.client(inputs.tokenizer, ()), told)
        try:
            yield several
        finally:
            await asyncio.shield(several.stop())


class _Alone:
    """One client, in this process."""

    def __init__(self, session: Session, engine: Engine) -> None:
        self._session = session
        self._engine = engine

    async def prepare(self) -> None:
        await self._session.prepare(self._engine.hint)

    async def counters(self) -> SpecCounts | None:
        return await self._session.client.counters()

    async def run(self, span: Span) -> Told:
        span.started_ns = self._engine.clock() + LEAD_NS
        return await self._session.run(span.started_ns)


class _Several:
    """Workers, and what they tell."""

    def __init__(self, jobs: list[Job], engine: Engine, control: Client, told: Callable[[Ended], None]) -> None:
        self._jobs = jobs
        self._engine = engine
        self._control = control
        self._told = told
        self._processes: list[Process] = []

    async def prepare(self) -> None:
        for job in self._jobs:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", MODULE, stdin=PIPE, stdout=PIPE, start_new_session=True
            )
            self._processes.append(process)
            self._send(process, job)
        await self._each(IsPrepared)

    async def counters(self) -> SpecCounts | None:
        return await self._control.counters()

    async def run(self, span: Span) -> Told:
        span.started_ns = self._engine.clock() + LEAD_NS
        for process in self._processes:
            self._send(process, Start(span.started_ns))
        return Told.together(await self._each(Told))

    async def stop(self) -> None:
        """End those that still run, all at once, when they have kept what had come."""
        await asyncio.gather(*map(_stopped, self._processes))
        self._control.close()

    def _send(self, process: Process, message: Any) -> None:
        assert process.stdin is not None  # noqa: S101
        with suppress(OSError, RuntimeError):  # it is gone: what it told last, or did not, says why
            process.stdin.write(packed(message))

    async def _each(self, awaited: type[T]) -> list[T]:
        """Listen to all until each has told this; the first that cannot go on ends it."""
        found: list[T] = []

        async def listen(process: Process) -> None:
            found.append(await self._listen(process, awaited))

        await side_by_side(listen(process) for process in self._processes)
        return found

    async def _listen(self, process: Process, awaited: type[T]) -> T:
        assert process.stdout is not None  # noqa: S101
        while True:
            try:
                message = await read_message(process.stdout)
            except asyncio.IncompleteReadError:
                code = await process.wait()
                how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
                raise ClientError(f"a worker of our client (pid {process.pid}) {how}") from None
            self._engine.server.check_alive()
            if isinstance(message, HasKept):
                for turn in message.turns:
                    self._told(turn)
            elif isinstance(message, HasFailed):
                if message.error is None:
                    raise RuntimeError(f"a worker of our client failed:\n{message.trace}")
                raise message.error
            elif isinstance(message, awaited):
                return message


async def _stopped(process: Process) -> None:
    """Hang up, and wait until it has ended; one that keeps nothing more for `STOP_S`, and tells of none, is killed."""
    assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018
    process.stdin.close()
    try:
        told = b"."
        while told:
            async with asyncio.timeout(STOP_S):
                told = await process.stdout.read(1 << 16)
        async with asyncio.timeout(STOP_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
