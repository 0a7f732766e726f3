"""The client of one engine that answers: streams that are read on time, answers parsed in between.

A client serves a share of a run's streams; a run has one client in its own process, or one in each of several workers.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import orjson

from speed_bench.config import RunConfig
from speed_bench.engine_config import AnyEngineConfig, api_key
from speed_bench.engines import Dialect, dialect_of
from speed_bench.engines.answers import Drafting
from speed_bench.engines.http import Clock, Connection, Exchange, Url
from speed_bench.engines.server import AttachedServer, Server
from speed_bench.errors import EngineError, Refused, RequestFailed
from speed_bench.runner.slices import Slices, Work
from speed_bench.runner.streams import side_by_side
from speed_bench.runner.turn import Asked, read_turn, sampling_of
from speed_bench.tokens import ChatTokenizer, prompt_sha256
from speed_bench.types import Request, Sampling, SpecCounts, TurnRecord

WARMUP_TEXT = "Count from one to ten, then say which of these numbers are prime."
WARMUP_TOKENS = 8
HEALTH_TIMEOUT_S = 5.0
DEATH_GRACE_S = 5.0

_PROBE = Request("probe/0", (0,), Sampling(temperature=0.0, max_tokens=1, seed=0))

T = TypeVar("T")


async def settled(work: "asyncio.Future[T]") -> T:
    """What comes of it; if we are cancelled meanwhile, it is not."""
    await asyncio.wait([work])
    return work.result()


def _pass_on(result: T, to: "asyncio.Future[T]", kept: "asyncio.Future[None]") -> None:
    """Once it is kept: what is waited for has happened, or why not."""
    error = kept.exception()
    if error is None:
        to.set_result(result)
    else:
        to.set_exception(error)


@dataclass(frozen=True, slots=True)
class Target:
    """An engine that answers, as every client of it needs to know it. It can be sent to another process."""

    engine: AnyEngineConfig
    url: Url
    served: str
    """The name of the model in every request."""
    drafting: Drafting
    context_length: int | None
    """Tokens of prompt and answer that a stream can hold; None where nobody says."""
    segment: int
    """Which lifetime of the engine this is."""
    stall_timeout_s: float


@dataclass(frozen=True, slots=True)
class Ready:
    """A request, encoded: nothing is left to do but to write it."""

    request: Request
    path: str
    body: bytes
    prompt_sha256: str


@dataclass(frozen=True, slots=True)
class Answered:
    """What came back, as it came back."""

    exchange: Exchange
    engine_counts: SpecCounts | None
    """What the engine's own counters say was spent on it."""


class Client:
    """Asks an engine on some of the streams of a run, and reads the answers."""

    def __init__(
        self,
        target: Target,
        tokenizer: ChatTokenizer,
        slots: Iterable[int],
        *,
        server: Server | None = None,
        reads_counters: bool = False,
        clock: Clock = time.perf_counter_ns,
    ) -> None:
        """`server` is the process behind the engine where it is this process that looks after it."""
        self.target = target
        self.dialect: Dialect = dialect_of(target.engine)
        self.tokenizer = tokenizer
        self.clock = clock
        self.streams = {slot: self._connection() for slot in slots}
        self.control = self._connection()
        """For counters and the like: never a measured request."""
        self.server = server or AttachedServer(target.engine.name)
        self.started_ns = clock()
        """What the times of records are relative to: the start of the segment."""
        self.num_reads = 0
        """Reads that brought bytes of answers, so far."""
        self.reads_counters = reads_counters
        """Whether the engine's counters are read around every turn: only while no two requests run at
        once, so at concurrency 1 and until a request fails, which may go on in the engine."""
        self.unparsed = asyncio.Semaphore(max(1, len(self.streams)))
        """Held by whoever asks on while its last answer is still to be parsed: one per stream, so that memory is
        bounded."""
        self.preparing = asyncio.Lock()
        """Held by whoever has a prompt prepared: one at a time, so that no answer waits behind many."""
        self._slices = Slices()
        self._beside = ThreadPoolExecutor(max_workers=1)
        self._last_counters: SpecCounts | None = None
        self._tells_slots = self._engine_is_told_slots()

    def _connection(self) -> Connection:
        target = self.target
        return Connection(target.url, self.clock, stall_timeout_s=target.stall_timeout_s, api_key=api_key())

    def close(self) -> None:
        """Drop the streams, and parse and keep what they have brought."""
        for connection in (*self.streams.values(), self.control):
            connection.close()
        self._slices.finish()
        self._beside.shutdown()

    def seconds(self, at_ns: int) -> float:
        """A time of the clock, as records have it."""
        return (at_ns - self.started_ns) / 1e9

    async def beside(self, work: Callable[[], T]) -> T:
        """Do something on another thread: what waits for a disk, or computes for long without the interpreter."""
        return await asyncio.get_running_loop().run_in_executor(self._beside, work)

    def settle(self, work: Work[T], keep: Callable[[T], None] = lambda _: None) -> "asyncio.Future[T]":
        """Work, between reads, then keep what came of it, on another thread: both are done even if the run ends
        meanwhile, in the order in which they were asked for. Wait for it with `settled`."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        future.add_done_callback(lambda done: done.exception())  # the run may have ended

        def whole() -> Work[None]:
            try:
                result = yield from work
                kept = loop.run_in_executor(self._beside, keep, result)
            except BaseException as error:  # a panic of tokenizers, too: whoever waits has to hear of it
                future.set_exception(error)
                return
            kept.add_done_callback(partial(_pass_on, result, future))

        self._slices.put(whole())
        return future

    def encode(self, request: Request) -> Ready:
        """All that can be done before it is sent."""
        path, body = self.dialect.payload(request, self.target.served)
        return Ready(request, path, orjson.dumps(body), prompt_sha256(request.prompt_ids))

    async def on_stream(self, ready: Ready, slot: int) -> Ready:
        """The same on the stream that sends it: some engines are told which one it is."""
        if ready.request.slot == slot:
            return ready
        request = replace(ready.request, slot=slot)
        if not self._tells_slots:
            return replace(ready, request=request)
        return await self.beside(lambda: self.encode(request))

    def _engine_is_told_slots(self) -> bool:
        """Whether a request says which stream sends it."""
        bodies = (self.dialect.payload(replace(_PROBE, slot=slot), self.target.served) for slot in (0, 1))
        return next(bodies) != next(bodies)

    async def ask(self, request: Request, category: str) -> TurnRecord:
        """One turn. Raises RequestFailed if it failed, EngineError if the engine is gone."""
        ready = await self.beside(lambda: self.encode(request))
        try:
            answered = await self.send(ready)
        except RequestFailed:
            await self.require_health()
            raise
        return await settled(self.settle(self.read(ready, answered, category)))

    async def send(self, ready: Ready) -> Answered:
        """Ask what is encoded already, and wait for the whole answer.

        Raises RequestFailed if it failed: `require_health` tells whether the engine is gone.
        """
        before = (self._last_counters or await self.counters()) if self.reads_counters else None
        stream = self.streams[ready.request.slot]
        try:
            exchange = await stream.request("POST", ready.path, ready.body)
        except RequestFailed:
            self.reads_counters = False
            raise
        self.server.check_alive()  # else it was another server that answered
        self.num_reads += exchange.num_reads
        if self.dialect.CLOSES_AFTER_STREAM:
            stream.close()
        after = self._last_counters = await self.counters() if self.reads_counters else None
        return Answered(exchange, after.since(before) if before and after else None)

    def read(
        self, ready: Ready, answered: Answered, category: str, *, scheduled_ns: int | None = None, repeat: int = 0
    ) -> Work[TurnRecord]:
        """The record of an answer. Raises RequestFailed if it is not whole."""
        asked = Asked(
            category,
            ready.prompt_sha256,
            self.target.segment,
            self.started_ns,
            self.target.drafting,
            scheduled_ns,
            repeat,
        )
        try:
            return (
                yield from read_turn(
                    self.dialect,
                    ready.request,
                    asked,
                    answered.exchange,
                    name_unnamed=self.tokenizer.name_unnamed,
                    count_thinking=self.tokenizer.num_thinking_tokens,
                    engine_counts=answered.engine_counts,
                )
            )
        except RequestFailed:
            self.reads_counters = False
            raise

    async def counters(self) -> SpecCounts | None:
        """The engine's own counts since its start; None if they cannot be read."""
        try:
            answer = await self.control.request("GET", self.dialect.METRICS)
        except RequestFailed:
            await self.require_health()
            return None
        try:
            return self.dialect.counters(answer.body.decode("utf-8", "replace"))
        except (ValueError, OverflowError):
            return None

    async def warm_up(self, config: RunConfig, hint: str = "") -> None:
        """Open every stream and let the engine do what it does only once. Never recorded.

        Raises EngineError, with `hint`, if a request fails.
        """
        ids = self.tokenizer.chat_ids([{"role": "user", "content": WARMUP_TEXT}], config.chat_template_args)
        sampling = sampling_of(config, self.tokenizer, config.seeds[0], WARMUP_TOKENS)

        async def warm(slot: int) -> None:
            await self.streams[slot].connect()
            for _ in range(config.warmup_per_slot):
                await self.ask(Request("warm-up/0", ids, sampling, slot), "warm-up")

        try:
            await side_by_side(warm(slot) for slot in self.streams)
        except RequestFailed as failed:
            raise EngineError(f"engine '{config.engine.name}' failed its warm-up: {failed}{hint}") from failed

    async def require_health(self) -> None:
        """A failed request may be its own fault, or the first sign of an engine that is gone.

        Raises EngineError unless the engine still answers: without it every turn that is left would
        fail for nothing, and failures are results.
        """
        probe = Connection(self.control.url, self.control.clock, api_key=api_key())
        try:
            async with asyncio.timeout(HEALTH_TIMEOUT_S):
                await probe.request("GET", self.dialect.HEALTH)
        except (RequestFailed, TimeoutError) as failed:
            if isinstance(self.server, AttachedServer):
                if isinstance(failed, Refused) and failed.status < 500:
                    return  # it answers; a gateway may not pass this page on
                raise EngineError(f"the server at {self.control.url} does not answer any more") from None
            deadline = time.monotonic() + DEATH_GRACE_S
            while time.monotonic() < deadline:
                self.server.check_alive()
                await asyncio.sleep(0.05)
            raise EngineError(f"engine '{self.server.name}' runs but does not answer any more") from None
        finally:
            probe.close()
