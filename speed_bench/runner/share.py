"""One client's share of a run: some of its streams, and what they are to lead."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from speed_bench.config import RunConfig
from speed_bench.records import ClientUse, Lateness
from speed_bench.runner.client import Client
from speed_bench.runner.conversation import Answers, Script, Task
from speed_bench.runner.lateness import punctual
from speed_bench.runner.load import ClosedLoop, Load, OpenLoop
from speed_bench.runner.tickets import OwnTickets, SharedTickets, Tickets
from speed_bench.tokens import ChatTokenizer
from speed_bench.types import Outcome


@dataclass(frozen=True, slots=True)
class Plan:
    """What a whole run leads. It can be sent to another process."""

    config: RunConfig
    tasks: tuple[Task, ...]
    """In the order in which they begin."""
    times_s: tuple[float, ...] | None
    """When each begins, in an open loop."""
    replayed: Answers | None
    earlier: Mapping[tuple[int, int, str], Outcome]
    """What the journal already holds, by `key`."""


@dataclass(frozen=True, slots=True)
class Share:
    """Which part of it is one worker's."""

    worker: int = 0
    num_workers: int = 1
    tickets: Path | None = None
    """The counter that workers of one machine share; None: every so-many-th conversation is this worker's."""

    def slots(self, config: RunConfig) -> range:
        """Its streams, numbered over the whole run."""
        return range(self.worker, config.concurrency, self.num_workers)


class Told(NamedTuple):
    """What a client tells of itself when its load is over."""

    lateness: Lateness | None
    use: ClientUse
    load_ended_at_s: float | None

    @classmethod
    def together(cls, several: "list[Told]") -> "Told":
        """Of several workers: the worst lateness at each percentile, all they used, the first end of the load."""
        late = [told.lateness for told in several if told.lateness]
        worst = (max(getattr(each, name) for each in late) for name in Lateness.__dataclass_fields__)
        uses = [told.use for told in several]
        ends = [told.load_ended_at_s for told in several if told.load_ended_at_s is not None]
        return cls(
            Lateness(*worst) if late else None,
            ClientUse(
                sum(use.num_workers for use in uses),
                sum(use.num_reads for use in uses),
                sum(use.cpu_s for use in uses),
            ),
            min(ends, default=None),
        )


class Session:
    """A client at work on its share."""

    def __init__(
        self, plan: Plan, share: Share, client: Client, tokenizer: ChatTokenizer, keep: Callable[[Outcome], None]
    ) -> None:
        """`keep` is called for every turn that ends, not on the event loop."""
        self.client = client
        self._plan = plan
        self._load = _load(plan, share, Script(plan.config, tokenizer, plan.replayed, plan.earlier), client, keep)

    async def prepare(self, hint: str = "") -> None:
        """Encode what is sent first, and warm up. `hint` is added to what a warm-up fails with.

        In this order: to encode long prompts for many streams takes longer than servers keep idle connections.
        """
        await self._load.prepare()
        await self.client.warm_up(self._plan.config, hint)

    async def run(self, started_ns: int) -> Told:
        """Lead the conversations, from `started_ns` of the clock on."""
        client = self.client
        client.started_ns, client.num_reads = started_ns, 0
        with punctual(client.streams.values()) as watch:
            cpu_s = time.process_time()
            ended_at_s = await self._load.run()
            use = ClientUse(1, client.num_reads, time.process_time() - cpu_s)
            return Told(watch.lateness(self._load.waits_s), use, ended_at_s)


def _load(plan: Plan, share: Share, script: Script, client: Client, keep: Callable[[Outcome], None]) -> Load:
    mine = range(share.worker, len(plan.tasks), share.num_workers)
    if plan.times_s is not None:
        return OpenLoop(script, {number: plan.tasks[number] for number in mine}, plan.times_s, client, keep)
    tickets: Tickets = OwnTickets(mine)
    if share.tickets is not None:
        tickets = SharedTickets(share.tickets, len(plan.tasks))
    return ClosedLoop(script, plan.tasks, tickets, client, keep)
