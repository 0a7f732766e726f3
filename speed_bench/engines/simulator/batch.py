"""Continuous batching: every pass of the model gives every running request its next decode step.

A pass lasts as the step-time model says. Passes follow an absolute schedule (the next one ends at the end of
the last one plus its own time), so what the event loop is late by does not add up; how late it was
is counted. What a pass brings is computed while it lasts: when it ends, it only has to be sent.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import NamedTuple, Protocol

from speed_bench.engine_config import SimulatorConfig
from speed_bench.engines.simulator.times import Load, Pass, Times

SLICE_S = 0.001
"""How long it computes before it looks whether something has come in."""
GUARD_S = 0.002
"""So long before the end of a pass nothing is begun any more."""
Job = Callable[[], None]
_TIMER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="timer")


async def fine_sleep(delay_s: float) -> None:
    """Sleep to a fraction of a millisecond, which event loops are not good to; for 0 let others go first."""
    if delay_s > 0:
        await asyncio.get_running_loop().run_in_executor(_TIMER, time.sleep, delay_s)
    else:
        await asyncio.sleep(0)


class Work(NamedTuple):
    """What one pass computes, over the whole batch."""

    prefill_tokens: int = 0
    """Prompt tokens of the requests that are new in it."""
    verified_tokens: int = 0
    """Tokens that decode steps put through the model: what they drafted, and one each."""
    context_tokens: int = 0
    """Tokens that those steps attend to."""
    draft_length: int = 0
    """The longest proposal among them."""


def pass_ms(config: SimulatorConfig, work: Work) -> float:
    """How long a pass takes, in milliseconds of the model's own clock (`speed` is not in it).

    >>> slow = SimulatorConfig(step_ms=5, step_ms_per_token=1, step_ms_per_1k_context=2, draft_ms=0.5)
    >>> pass_ms(slow, Work(verified_tokens=8, context_tokens=3000, draft_length=3))
    20.5
    >>> pass_ms(slow, Work(prefill_tokens=2000))
    40.0
    """
    decode = 0.0
    if work.verified_tokens:
        decode = (
            config.step_ms
            + config.step_ms_per_token * work.verified_tokens
            + config.step_ms_per_1k_context * work.context_tokens / 1000
            + config.draft_ms * work.draft_length
        )
    return decode + config.prefill_ms_per_1k * work.prefill_tokens / 1000


class Runs(Protocol):
    """A request, as the batch sees it."""

    @property
    def over(self) -> bool:
        """Whether it needs no further pass: answered, or nobody listens any more."""

    def resumes_at(self, now_s: float) -> float:
        """It takes part in passes that begin at this time or later, as far as is known now."""

    def work(self) -> Work:
        """What its part of the next pass computes."""

    def begin(self) -> None:
        """Compute what can be computed before its first pass. Passes do it if there was no time."""

    def compute(self, model_ms: float) -> None:
        """Compute its part of a pass that ends at `model_ms` of the model's own clock. Nothing is sent yet."""

    def send(self, number: int) -> None:
        """Pass `number` has ended: send what was computed, unless it is over meanwhile."""


class Batch:
    """The requests that run, and those that wait for a place."""

    def __init__(
        self,
        config: SimulatorConfig,
        places: int,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], Awaitable[None]] = fine_sleep,
    ) -> None:
        self.config = config
        self.places = places
        self.load = Load()
        self.times = Times()
        self._clock = clock
        self._sleep = sleep
        self._running: list[Runs] = []
        self._waiting: deque[Runs] = deque()
        self._came_in: deque[Job] = deque()
        self._ahead: deque[Job] = deque()
        """What the next pass would have to do otherwise."""
        self._free_until_s = 0.0
        self._works = False
        """Whether `_work` is about to run."""
        self._wake = asyncio.Event()

    def take(self, job: Job) -> None:
        """Do what came in: soon, and in any case before the next pass. The end of a pass goes first."""
        self._came_in.append(job)
        self._work_soon()
        self.wake()

    def add(self, request: Runs) -> None:
        """It takes part from the next pass on, or when a place becomes free."""
        self._waiting.append(request)
        self._ahead.append(request.begin)
        self.wake()

    def wake(self) -> None:
        """Something has happened: a request came in, or one is over and has left its place."""
        self._wake.set()

    async def run(self) -> None:
        """Pass after pass, for ever."""
        due_s = self._clock()
        while True:
            await asyncio.sleep(0)  # what came while the last pass was sent is read,
            await asyncio.sleep(0)  # for which the loop goes round once
            began_s = self._clock()
            await self._take_in()
            part = self._participants(began_s)
            if not part:
                if not self._came_in:
                    await self._until_something_happens()
                due_s = self._clock()
                continue
            ms = pass_ms(self.config, total(part))
            due_s += ms / 1000 / self.config.speed
            model_ms = self.load.model_ms + ms
            await self._compute(part, model_ms, due_s)
            await self._sleep(max(0.0, due_s - self._clock()))
            ended_s = self._clock()
            self._free_until_s = 0.0
            for request in part:
                request.send(self.load.passes)
            done = Pass(began_s, due_s, ended_s, self._clock(), model_ms, len(part))
            self.times.passed(done)
            self.load.passed(done)

    async def _take_in(self) -> None:
        """Do what came in until now."""
        slice_s = self._clock() + SLICE_S
        for _ in range(len(self._came_in)):
            self._came_in.popleft()()
            slice_s = await self._let_others(slice_s)

    async def _compute(self, part: list[Runs], model_ms: float, due_s: float) -> None:
        """What the pass brings. After that, until shortly before its end, there is time for what comes in."""
        self._ahead.clear()
        slice_s = self._clock() + SLICE_S
        for request in part:
            request.compute(model_ms)
            slice_s = await self._let_others(slice_s)
        self._free_until_s = due_s - GUARD_S
        self._work_soon()

    async def _let_others(self, slice_s: float) -> float:
        """Read what has come, once a slice is over; when the next one is."""
        if self._clock() < slice_s:
            return slice_s
        await asyncio.sleep(0)
        return self._clock() + SLICE_S

    def _work_soon(self) -> None:
        if not self._works and (self._came_in or self._ahead) and self._clock() < self._free_until_s:
            self._works = True
            asyncio.get_running_loop().call_soon(self._work)

    def _work(self) -> None:
        """A slice of what is to be done while a pass lasts."""
        self._works = False
        until_s = min(self._free_until_s, self._clock() + SLICE_S)
        while (self._came_in or self._ahead) and self._clock() < until_s:
            (self._came_in or self._ahead).popleft()()
        self._work_soon()

    def _participants(self, now_s: float) -> list[Runs]:
        self._running = [request for request in self._running if not request.over]
        while self._waiting and len(self._running) < self.places:
            request = self._waiting.popleft()
            if not request.over:
                self._running.append(request)
        return [request for request in self._running if request.resumes_at(now_s) <= now_s]

    async def _until_something_happens(self) -> None:
        """A request comes in or leaves, or one that was stalled goes on."""
        self._wake.clear()
        now_s = self._clock()
        stalled = [request.resumes_at(now_s) for request in self._running]
        timeout = max(0.0, min(stalled) - now_s) if stalled else None
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), timeout)


def total(requests: list[Runs]) -> Work:
    """What a pass computes, from what its requests need."""
    prefill_tokens = verified_tokens = context_tokens = draft_length = 0
    for request in requests:
        prefill, verified, context, length = request.work()
        prefill_tokens += prefill
        verified_tokens += verified
        context_tokens += context
        draft_length = max(draft_length, length)
    return Work(prefill_tokens, verified_tokens, context_tokens, draft_length)
