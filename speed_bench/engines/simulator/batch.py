"""Continuous batching: every pass of the model gives every running request its next decode step.

A pass lasts as the step-time model says. Passes follow an absolute schedule (the next one ends at the end of
the last one plus its own time), so what the event loop is late by does not add up; how late it was
is counted.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from speed_bench.engine_config import SimulatorConfig

LATE_S = 0.002
"""A pass that ends so much after its time is late."""
_TIMER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="timer")


async def fine_sleep(delay_s: float) -> None:
    """Sleep to a fraction of a millisecond, which event loops are not good to; for 0 let others go first."""
    if delay_s > 0:
        await asyncio.get_running_loop().run_in_executor(_TIMER, time.sleep, delay_s)
    else:
        await asyncio.sleep(0)


@dataclass(frozen=True, slots=True)
class Work:
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

    def advance(self, model_ms: float) -> None:
        """Its part of a pass is done; `model_ms` is the model's own clock at its end."""


@dataclass(slots=True)
class Load:
    """What the batch has done so far."""

    passes: int = 0
    late: int = 0
    """Passes that ended more than `LATE_S` after their time."""
    max_late_s: float = 0.0
    max_batch: int = 0
    model_ms: float = 0.0
    """Time in passes, by the model's own clock."""

    def passed(self, batch: int, late_s: float) -> None:
        """One more pass."""
        self.passes += 1
        self.late += late_s > LATE_S
        self.max_late_s = max(self.max_late_s, late_s)
        self.max_batch = max(self.max_batch, batch)


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
        self._clock = clock
        self._sleep = sleep
        self._running: list[Runs] = []
        self._waiting: deque[Runs] = deque()
        self._wake = asyncio.Event()

    def add(self, request: Runs) -> None:
        """It takes part from the next pass on, or when a place becomes free."""
        self._waiting.append(request)
        self.wake()

    def wake(self) -> None:
        """Something has happened: a request came in, or one is over and has left its place."""
        self._wake.set()

    async def run(self) -> None:
        """Pass after pass, for ever."""
        due_s = self._clock()
        while True:
            part = self._participants(self._clock())
            if not part:
                await self._until_something_happens()
                due_s = self._clock()
                continue
            ms = pass_ms(self.config, total(part))
            due_s += ms / 1000 / self.config.speed
            await self._sleep(max(0.0, due_s - self._clock()))
            self.load.model_ms += ms
            self.load.passed(len(part), self._clock() - due_s)
            for request in part:
                request.advance(self.load.model_ms)

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
    each = [request.work() for request in requests]
    return Work(
        prefill_tokens=sum(work.prefill_tokens for work in each),
        verified_tokens=sum(work.verified_tokens for work in each),
        context_tokens=sum(work.context_tokens for work in each),
        draft_length=max((work.draft_length for work in each), default=0),
    )
