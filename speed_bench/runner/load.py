"""The load: which conversation is asked when, on which stream.

Prompts are tokenised and encoded before they are due, so that neither the first requests nor those of a stream
that has become free wait for it.
"""

import asyncio
from array import array
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, Protocol

from speed_bench.runner.client import Client, Ready
from speed_bench.runner.conversation import Script, Task, turn_id
from speed_bench.runner.streams import in_a_group
from speed_bench.runner.tickets import Tickets
from speed_bench.types import Failure, Outcome

AHEAD = 4
"""Conversations whose first turn a closed loop has ready for the next stream that is free, near its end. Before, it has
one ready for each of its streams: they may all become free at once."""
AHEAD_OPEN = 32
"""The same of an open loop, whose conversations come in bursts."""


class Prepared(NamedTuple):
    """A conversation, and its first turn, encoded; None where that is in the journal already."""

    task: Task
    first: Ready | Failure | None


class Load(Protocol):
    """A load, or a worker's share of one."""

    waits_s: "array[float]"
    """For how long each conversation that was due and had a stream waited for its prompt: that is our own delay."""

    async def prepare(self) -> None:
        """Encode what is sent first, before anything is timed."""

    async def run(self) -> float | None:
        """Lead the conversations, from the client's `started_ns` on.

        Returns when the load ended, in seconds since then: its time limit, or the last scheduled arrival. None: with
        its last turn. Raises the first error that ends the run; turns that were under way are not recorded.
        """


class ClosedLoop:
    """Keep every stream busy: one that ends a conversation takes the next."""

    def __init__(
        self,
        script: Script,
        tasks: Sequence[Task],
        tickets: Tickets,
        client: Client,
        keep: Callable[[Outcome], None],
    ) -> None:
        self.script = script
        self.tasks = tasks
        self.tickets = tickets
        self.client = client
        self.keep = keep
        self.waits_s = array("d")  # here none is due before it is ready
        self._firsts: dict[int, Prepared] = {}
        self._ahead: deque[asyncio.Task[Prepared]] = deque()
        self._was_cut = False

    async def prepare(self) -> None:
        """See `Load`."""
        for slot in self.client.streams:
            if (number := self.tickets.draw()) is not None:
                self._firsts[slot] = await prepared(self.script, self.tasks[number], self.client, slot)

    async def run(self) -> float | None:
        """See `Load`."""
        config, client = self.script.config, self.client
        until_ns = deadline_ns(client, config.max_duration_s)
        self._look_ahead()

        async def begin(group: asyncio.TaskGroup) -> None:
            for slot in client.streams:
                group.create_task(self._keep_busy(slot, until_ns, group))

        try:
            await in_a_group(begin)
        finally:
            for task in self._ahead:
                task.cancel()
        return config.max_duration_s if self._was_cut else None

    async def _keep_busy(self, slot: int, until_ns: int | None, group: asyncio.TaskGroup) -> None:
        config, client = self.script.config, self.client
        await sleep_until(client, client.started_ns + round(1e9 * config.ramp_up_s * slot / config.concurrency))
        following = self._firsts.pop(slot, None)
        while following is not None:
            if until_ns is not None and client.clock() >= until_ns:
                self._was_cut = True
                return
            task, first = following
            whole = await self.script.lead(task, slot, client, self.keep, first=first, until_ns=until_ns, group=group)
            self._was_cut = self._was_cut or not whole
            following = await self._next()

    async def _next(self) -> Prepared | None:
        if not self._ahead:
            return None
        waiting = self._ahead.popleft()
        self._look_ahead()
        return await waiting

    def _look_ahead(self) -> None:
        while len(self._ahead) < len(self.client.streams):
            enough = len(self._ahead) >= AHEAD  # what is drawn here, no other worker can lead
            number = self.tickets.draw(leaving=self.script.config.concurrency if enough else 0)
            if number is None:
                return
            self._ahead.append(asyncio.create_task(prepared(self.script, self.tasks[number], self.client)))


class OpenLoop:
    """Conversations begin by the clock, whether or not earlier ones have ended.

    One that is due while all streams are taken waits for the first that is free, and its latency counts from when it
    was due: a slow server does not slow down those who come to it.
    """

    def __init__(
        self,
        script: Script,
        tasks: Mapping[int, Task],
        times_s: Sequence[float],
        client: Client,
        keep: Callable[[Outcome], None],
    ) -> None:
        """`tasks` by number, in the order in which they begin; `times_s`: when each number of the whole load does."""
        self.script = script
        self.tasks = tasks
        self.times_s = times_s
        self.client = client
        self.keep = keep
        self.waits_s = array("d")
        self._numbers = deque(tasks)
        self._ahead: deque[tuple[int, asyncio.Task[Prepared]]] = deque()

    async def prepare(self) -> None:
        """See `Load`."""
        self._look_ahead()
        await asyncio.gather(*(waiting for _, waiting in self._ahead))

    def _look_ahead(self) -> None:
        while self._numbers and len(self._ahead) < AHEAD_OPEN:
            number = self._numbers.popleft()
            task = asyncio.create_task(prepared(self.script, self.tasks[number], self.client))
            self._ahead.append((number, task))

    async def run(self) -> float | None:
        """See `Load`."""
        client = self.client
        until_ns = deadline_ns(client, self.script.config.max_duration_s)
        free: asyncio.Queue[int] = asyncio.Queue()
        for slot in client.streams:
            free.put_nowait(slot)

        async def begin_by_the_clock(group: asyncio.TaskGroup) -> None:
            async def lead(waiting: asyncio.Task[Prepared], slot: int, due_ns: int) -> None:
                from_ns = client.clock()
                task, first = await waiting
                self.waits_s.append((client.clock() - from_ns) / 1e9)
                when = {"due_ns": due_ns, "until_ns": until_ns}
                await self.script.lead(task, slot, client, self.keep, first=first, group=group, **when)
                free.put_nowait(slot)

            while self._ahead:
                number, waiting = self._ahead.popleft()
                self._look_ahead()
                due_ns = client.started_ns + round(1e9 * self.times_s[number])
                await sleep_until(client, due_ns)
                group.create_task(lead(waiting, await free.get(), due_ns))

        try:
            await in_a_group(begin_by_the_clock)
        finally:
            for _, waiting in self._ahead:
                waiting.cancel()
        return self.times_s[-1] if len(self.times_s) else None


async def prepared(script: Script, task: Task, client: Client, slot: int | None = None) -> Prepared:
    """A conversation with its first turn encoded, off the event loop."""
    if (task.seed, task.repeat, turn_id(task.conversation, 0)) in script.earlier:
        return Prepared(task, None)
    async with client.preparing:
        return Prepared(task, await client.beside(partial(script.prepare, task, 0, slot, client, ())))


def deadline_ns(client: Client, max_duration_s: float | None) -> int | None:
    """When no turn begins any more, by the client's clock."""
    return None if max_duration_s is None else client.started_ns + round(1e9 * max_duration_s)


async def sleep_until(client: Client, due_ns: int) -> None:
    """Return at a time of the client's clock, or at once if it has passed."""
    while (left_ns := due_ns - client.clock()) > 0:
        await asyncio.sleep(left_ns / 1e9)
