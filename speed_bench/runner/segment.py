"""One engine lifetime: started, checked, warmed up, asked, stopped."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import orjson

from speed_bench.config import RunConfig
from speed_bench.engines import Dialect, dialect
from speed_bench.engines.http import Clock, Connection, Url
from speed_bench.engines.server import ManagedServer, free_port
from speed_bench.errors import ConfigError, EngineError, RequestFailed
from speed_bench.provenance import boot_id
from speed_bench.runner.journal import Journal
from speed_bench.runner.streams import side_by_side
from speed_bench.runner.turn import Asked, read_turn
from speed_bench.tokens import ChatTokenizer, check_parity, prompt_sha256
from speed_bench.types import Request, Sampling, Segment, SpecCounts, TurnRecord

WARMUP_TEXT = "Count from one to ten, then say which of these numbers are prime."
WARMUP_TOKENS = 8
HEALTH_TIMEOUT_S = 5.0
DEATH_GRACE_S = 5.0
PID_FILE = "engine.pid"

T = TypeVar("T")


@dataclass(slots=True)
class LiveEngine:
    """An engine that answers, and the streams to it. Made by `live_engine`."""

    dialect: Dialect
    server: ManagedServer
    streams: Sequence[Connection]
    control: Connection
    """For counters and the like: never a measured request."""
    context_length: int
    tokenizer: ChatTokenizer
    segment: Segment
    started_ns: int
    parser: ThreadPoolExecutor
    """One thread: answers are parsed, and journalled, in the order in which they ended."""
    reads_counters: bool
    """Whether the engine's counters are read around every turn: only while no two requests run at
    once, so at concurrency 1 and until a request fails, which may go on in the engine."""
    _last_counters: SpecCounts | None = None

    async def ask(self, request: Request, category: str) -> TurnRecord:
        """One turn. Raises RequestFailed if it failed, EngineError if the engine is gone."""
        path, body = self.dialect.payload(request)
        message = orjson.dumps(body)
        asked = Asked(category, prompt_sha256(request.prompt_ids), self.segment.index, self.started_ns)
        before = (self._last_counters or await self.counters()) if self.reads_counters else None
        stream = self.streams[request.slot]
        try:
            exchange = await stream.request("POST", path, message)
        except RequestFailed:
            self.reads_counters = False
            await self._require_health()
            raise
        self.server.check_alive()  # else it was another server that answered
        if self.dialect.CLOSES_AFTER_STREAM:
            stream.close()
        after = self._last_counters = await self.counters() if self.reads_counters else None
        spent = after.since(before) if before and after else None

        def read() -> TurnRecord:
            name = self.tokenizer.name_unnamed
            return read_turn(self.dialect, request, asked, exchange, name_unnamed=name, engine_counts=spent)

        try:
            return await self.run_in_parser(read)
        except RequestFailed:
            self.reads_counters = False
            raise

    async def run_in_parser(self, work: Callable[[], T]) -> T:
        """Do something off the event loop, after what was handed over before."""
        return await asyncio.get_running_loop().run_in_executor(self.parser, work)

    async def counters(self) -> SpecCounts | None:
        """The engine's own counts since its start; None if they cannot be read."""
        try:
            answer = await self.control.request("GET", self.dialect.METRICS)
        except RequestFailed:
            await self._require_health()
            return None
        return self.dialect.counters(answer.body.decode("utf-8", "replace"))

    async def _require_health(self) -> None:
        """A failed request may be its own fault, or the first sign of an engine that is gone.

        Raises EngineError unless the engine still answers: without it every turn that is left would
        fail for nothing, and failures are results.
        """
        probe = Connection(self.control.url, self.control.clock)
        try:
            await asyncio.wait_for(probe.request("GET", self.dialect.HEALTH), HEALTH_TIMEOUT_S)
        except (RequestFailed, TimeoutError):
            deadline = time.monotonic() + DEATH_GRACE_S
            while time.monotonic() < deadline:
                self.server.check_alive()
                await asyncio.sleep(0.05)
            raise EngineError(f"engine '{self.server.name}' runs but does not answer any more") from None
        finally:
            probe.close()


@asynccontextmanager
async def live_engine(
    config: RunConfig, journal: Journal, tokenizer: ChatTokenizer, *, model: Path, draft: Path | None, clock: Clock
) -> AsyncIterator[LiveEngine]:
    """Start the engine of a run as its next segment; on every way out, stop it."""
    speaks = dialect(config.engine.name)
    index = len(journal.records.segments)
    port = free_port(config.engine.port)
    url = Url("127.0.0.1", port)
    server = ManagedServer(
        speaks.launch(config, model=model, draft=draft, port=port),
        name=config.engine.name,
        log=journal.folder / f"engine-{index}.log",
        pid_file=journal.folder / PID_FILE,
    )
    control = Connection(url, clock, stall_timeout_s=config.stall_timeout_s)
    streams = [Connection(url, clock, stall_timeout_s=config.stall_timeout_s) for _ in range(config.concurrency)]
    parser = ThreadPoolExecutor(max_workers=1)
    try:
        server.start()
        await server.wait_ready(lambda: _answers(control, speaks.HEALTH), config.engine.start_timeout_s)
        server.check_alive()
        await _compare_tokenizers(speaks, control, tokenizer)
        effective = speaks.describe(orjson.loads((await control.request("GET", speaks.INFO)).body))
        _require_context(config, effective)
        live = LiveEngine(
            dialect=speaks,
            server=server,
            streams=streams,
            control=control,
            context_length=config.engine.context_length,
            tokenizer=tokenizer,
            segment=Segment(index, "", boot_id(), None, engine=effective),
            started_ns=clock(),
            parser=parser,
            reads_counters=config.concurrency == 1,
        )
        await _warm_up(live, config)
        counters = await live.counters()
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        live.segment, live.started_ns = replace(live.segment, counters_before=counters, started_at=now), clock()
        journal.add_segment(live.segment)
        yield live
        server.check_alive()
        wall_s = (clock() - live.started_ns) / 1e9
        journal.add_segment(replace(live.segment, counters_after=await live.counters(), wall_s=wall_s, whole=True))
    finally:
        for connection in (*streams, control):
            connection.close()
        await asyncio.shield(asyncio.to_thread(server.stop))
        parser.shutdown()


async def _answers(control: Connection, path: str) -> bool:
    await control.request("GET", path)
    return True


def _require_context(config: RunConfig, effective: Mapping[str, Any]) -> None:
    """An engine may hold less than it was asked for, and then cuts answers without a word."""
    held, asked = effective.get("context_length"), config.engine.context_length
    if isinstance(held, int) and held < asked:
        raise ConfigError(f"the model holds {held} tokens per stream, engine.context_length asks for {asked}; lower it")


async def _compare_tokenizers(speaks: Dialect, control: Connection, tokenizer: ChatTokenizer) -> None:
    """The same text must be the same ids here and there; otherwise nothing after can be trusted."""

    loop = asyncio.get_running_loop()

    def tokenize(text: str) -> list[int]:
        path, body = speaks.tokenize_payload(text)
        asked = control.request("POST", path, orjson.dumps(body))
        return speaks.tokenize_answer(asyncio.run_coroutine_threadsafe(asked, loop).result().body)

    await asyncio.to_thread(check_parity, tokenizer, tokenize)


async def _warm_up(live: LiveEngine, config: RunConfig) -> None:
    """Open every stream and let the engine do what it does only once. Never recorded."""
    ids = live.tokenizer.chat_ids([{"role": "user", "content": WARMUP_TEXT}])
    sampling = Sampling(config.temperature, WARMUP_TOKENS, config.seeds[0])

    async def warm(slot: int) -> None:
        await live.streams[slot].connect()
        for _ in range(config.warmup_per_slot):
            await live.ask(Request("warm-up/0", ids, sampling, slot), "warm-up")

    try:
        await side_by_side(warm(slot) for slot in range(config.concurrency))
    except RequestFailed as failed:
        raise EngineError(f"engine '{config.engine.name}' failed its warm-up: {failed}") from failed
