"""One engine lifetime: started, checked, warmed up, asked, stopped."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import orjson

from speed_bench.config import RunConfig
from speed_bench.engines import Dialect, dialect
from speed_bench.engines.http import Clock, Connection, Url
from speed_bench.engines.server import ManagedServer, free_port, reclaim
from speed_bench.errors import ConfigError, EngineError, RequestFailed, unknown
from speed_bench.provenance import boot_id
from speed_bench.runner.journal import Journal
from speed_bench.runner.turn import Asked, read_turn
from speed_bench.tokens import ChatTokenizer, check_parity, prompt_sha256
from speed_bench.types import Request, Sampling, Segment, SpecCounts, TurnRecord

WARMUP_TEXT = "Count from one to ten, then say which of these numbers are prime."
WARMUP_TOKENS = 8
DEATH_GRACE_S = 1.0

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
    alone: bool
    """Whether no two requests run at once, so that counters can be read around each."""
    _last_counters: SpecCounts | None = None

    async def ask(self, request: Request, category: str) -> TurnRecord:
        """One turn. Raises RequestFailed if it failed, EngineError if the engine is gone."""
        path, body = self.dialect.payload(request)
        message = orjson.dumps(body)
        asked = Asked(category, prompt_sha256(request.prompt_ids), self.segment.index, self.started_ns)
        before = (self._last_counters or await self.counters()) if self.alone else None
        self._last_counters = None
        stream = self.streams[request.slot]
        try:
            exchange = await stream.request("POST", path, message)
            if self.dialect.CLOSES_AFTER_STREAM:
                stream.close()
        except RequestFailed:
            await self._check_alive()
            raise
        after = await self.counters() if self.alone else None
        self._last_counters = after
        spent = after.since(before) if before and after else None

        def read() -> TurnRecord:
            name = self.tokenizer.name_unnamed
            return read_turn(self.dialect, request, asked, exchange, name_unnamed=name, engine_counts=spent)

        return await self.run_in_parser(read)

    async def run_in_parser(self, work: Callable[[], T]) -> T:
        """Do something off the event loop, after what was handed over before."""
        return await asyncio.get_running_loop().run_in_executor(self.parser, work)

    async def counters(self) -> SpecCounts | None:
        """The engine's own counts since its start; None if they cannot be read."""
        try:
            answer = await self.control.request("GET", self.dialect.METRICS)
        except RequestFailed:
            await self._check_alive()
            return None
        return self.dialect.counters(answer.body.decode("utf-8", "replace"))

    async def _check_alive(self) -> None:
        """A broken request may be the first sign of an engine that is dying: give it a moment to be seen."""
        deadline = time.monotonic() + DEATH_GRACE_S
        while time.monotonic() < deadline:
            self.server.check_alive()
            await asyncio.sleep(0.05)


@asynccontextmanager
async def live_engine(
    config: RunConfig, journal: Journal, tokenizer: ChatTokenizer, *, model: Path, draft: Path | None, clock: Clock
) -> AsyncIterator[LiveEngine]:
    """Start the engine of a run as its next segment; on every way out, stop it."""
    speaks = dialect(config.engine.name)
    if config.algorithm not in speaks.ALGORITHMS:
        raise ConfigError(unknown("algorithm", config.algorithm, speaks.ALGORITHMS) + f" (engine {config.engine.name})")
    pid_file = journal.folder / "engine.pid"
    reclaim(pid_file)
    index = len(journal.records.segments)
    port = free_port(config.engine.port)
    url = Url("127.0.0.1", port)
    server = ManagedServer(
        speaks.launch(config, model=model, draft=draft, port=port),
        name=config.engine.name,
        log=journal.folder / f"engine-{index}.log",
        pid_file=pid_file,
    )
    control = Connection(url, clock, stall_timeout_s=config.stall_timeout_s)
    streams = [Connection(url, clock, stall_timeout_s=config.stall_timeout_s) for _ in range(config.concurrency)]
    parser = ThreadPoolExecutor(max_workers=1)
    try:
        server.start()
        await server.wait_ready(lambda: _answers(control, speaks.HEALTH), config.engine.start_timeout_s)
        await _compare_tokenizers(speaks, control, tokenizer)
        live = LiveEngine(
            dialect=speaks,
            server=server,
            streams=streams,
            control=control,
            context_length=config.engine.context_length,
            tokenizer=tokenizer,
            segment=Segment(
                index,
                "",
                boot_id(),
                None,
                engine=speaks.describe(orjson.loads((await control.request("GET", speaks.INFO)).body)),
            ),
            started_ns=clock(),
            parser=parser,
            alone=config.concurrency == 1,
        )
        await _warm_up(live, config)
        counters = await live.counters()
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        live.segment, live.started_ns = replace(live.segment, counters_before=counters, started_at=now), clock()
        journal.add_segment(live.segment)
        yield live
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
        async with asyncio.TaskGroup() as group:
            for slot in range(config.concurrency):
                group.create_task(warm(slot))
    except* RequestFailed as failed:
        raise EngineError(f"engine '{config.engine.name}' failed its warm-up: {failed.exceptions[0]}") from failed
