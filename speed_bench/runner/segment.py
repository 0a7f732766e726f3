"""One engine lifetime: started, checked, warmed up, asked, stopped."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import orjson

from speed_bench.algorithms import always_drafts
from speed_bench.config import RunConfig
from speed_bench.engine_config import EngineSettings, api_key
from speed_bench.engines import Dialect, dialect_of
from speed_bench.engines.answers import Drafting
from speed_bench.engines.http import Clock, Connection, Url
from speed_bench.engines.identity import Identity, identify
from speed_bench.engines.server import AttachedServer, ManagedServer, Server, free_port
from speed_bench.errors import ConfigError, EngineError, Refused, RequestFailed
from speed_bench.provenance import boot_id
from speed_bench.runner.journal import Journal
from speed_bench.runner.lateness import punctual
from speed_bench.runner.streams import side_by_side
from speed_bench.runner.turn import Asked, read_turn, sampling_of
from speed_bench.tokens import ChatTokenizer, check_parity, prompt_sha256
from speed_bench.types import Request, Segment, SpecCounts, TurnRecord

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
    server: Server
    served: str
    """The name of the model in every request."""
    drafting: Drafting
    streams: Sequence[Connection]
    control: Connection
    """For counters and the like: never a measured request."""
    context_length: int | None
    """Tokens of prompt and answer that a stream can hold; None where nobody says."""
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

        def encode() -> tuple[str, bytes, str]:
            path, body = self.dialect.payload(request, self.served)
            return path, orjson.dumps(body), prompt_sha256(request.prompt_ids)

        path, message, prompt_hash = await self.run_in_parser(encode)
        asked = Asked(category, prompt_hash, self.segment.index, self.started_ns, self.drafting)
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
            return read_turn(
                self.dialect,
                request,
                asked,
                exchange,
                name_unnamed=self.tokenizer.name_unnamed,
                count_thinking=self.tokenizer.num_thinking_tokens,
                engine_counts=spent,
            )

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
        try:
            return self.dialect.counters(answer.body.decode("utf-8", "replace"))
        except (ValueError, OverflowError):
            return None

    async def _require_health(self) -> None:
        """A failed request may be its own fault, or the first sign of an engine that is gone.

        Raises EngineError unless the engine still answers: without it every turn that is left would
        fail for nothing, and failures are results.
        """
        probe = Connection(self.control.url, self.control.clock, api_key=api_key())
        try:
            await asyncio.wait_for(probe.request("GET", self.dialect.HEALTH), HEALTH_TIMEOUT_S)
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


@asynccontextmanager
async def live_engine(
    config: RunConfig, journal: Journal, tokenizer: ChatTokenizer, *, model: str, draft: str | None, clock: Clock
) -> AsyncIterator[LiveEngine]:
    """The engine of a run as its next segment: started, or attached to; on every way out, let go of."""
    speaks = dialect_of(config.engine)
    index = len(journal.records.segments)
    url, server = _engine(config, speaks, journal, index, model=model, draft=draft)
    timeout_s, key = config.stall_timeout_s, api_key()
    control = Connection(url, clock, stall_timeout_s=timeout_s, api_key=key)
    streams = [Connection(url, clock, stall_timeout_s=timeout_s, api_key=key) for _ in range(config.concurrency)]
    parser = ThreadPoolExecutor(max_workers=1)
    try:
        if isinstance(server, ManagedServer):
            server.start()
            await server.wait_ready(lambda: _answers(control, speaks.HEALTH), config.engine.start_timeout_s)
            server.check_alive()
        identity = await identify(speaks, control, wanted=config.engine.served_model)
        compared = await _compare_tokenizers(speaks, control, identity, tokenizer)
        served = Path(identity.served).name  # where nobody gave it a name it may be a path
        effective = {**identity.settings, "served_model": served, "tokenizer_compared": compared}
        _require_as_asked(config, identity, journal)
        live = LiveEngine(
            dialect=speaks,
            server=server,
            served=identity.served,
            drafting=_drafting(config, identity),
            streams=streams,
            control=control,
            context_length=_context_length(config.engine, identity),
            tokenizer=tokenizer,
            segment=Segment(index, "", boot_id(), None, engine=effective),
            started_ns=clock(),
            parser=parser,
            reads_counters=config.concurrency == 1,
        )
        await _warm_up(live, config, identity)
        counters = await live.counters()
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        with punctual() as watch:
            live.segment, live.started_ns = replace(live.segment, counters_before=counters, started_at=now), clock()
            journal.add_segment(live.segment)
            yield live
        server.check_alive()
        ended = replace(live.segment, wall_s=(clock() - live.started_ns) / 1e9, lateness=watch.lateness(), whole=True)
        journal.add_segment(ended)
        with suppress(EngineError):  # every turn is there; only what they are compared with is not
            journal.add_segment(replace(ended, counters_after=await live.counters()))
    finally:
        for connection in (*streams, control):
            connection.close()
        await asyncio.shield(asyncio.to_thread(server.stop))
        parser.shutdown()


def _engine(
    config: RunConfig, speaks: Dialect, journal: Journal, index: int, *, model: str, draft: str | None
) -> tuple[Url, Server]:
    """Where the engine answers, and its process: ours, not started yet, or somebody else's."""
    engine = config.engine
    if engine.url is not None:
        return Url.parse(engine.url), AttachedServer(engine.name)
    port = free_port(engine.port, engine.host)
    server = ManagedServer(
        speaks.launch(config, model=model, draft=draft, port=port, folder=journal.folder.resolve()),
        name=engine.name,
        log=journal.folder / f"engine-{index}.log",
        pid_file=journal.folder / PID_FILE,
    )
    return Url(engine.host, port), server


def _context_length(engine: EngineSettings, identity: Identity) -> int | None:
    """Of a server that we started, as was asked for, since engines round up; of another, as it says."""
    asked, told = engine.context_length, identity.context_length
    return (told or asked) if engine.attached else (asked or told)


def _drafting(config: RunConfig, identity: Identity) -> Drafting:
    """What is known of every step before it is made."""
    if config.algorithm == "none":
        return Drafting(draft_length=0)
    told = identity.settings.get("draft_length")
    length = config.draft_length if config.draft_length is not None else told
    return Drafting(
        length if isinstance(length, int) else None,
        always=always_drafts(config.algorithm),
        reported=bool(getattr(config.engine, "request_stats", False)),
    )


async def _answers(control: Connection, path: str) -> bool:
    await control.request("GET", path)
    return True


def _require_as_asked(config: RunConfig, identity: Identity, journal: Journal) -> None:
    """An engine may hold less than it was asked for, draft otherwise, or be another one than before a resume.

    Raises ConfigError.
    """
    held, asked = identity.context_length, config.engine.context_length
    if held is not None and asked is not None and held < asked and not config.engine.attached:
        raise ConfigError(f"the model holds {held} tokens per stream, engine.context_length asks for {asked}; lower it")
    for key, ours in (("algorithm", config.algorithm), ("draft_length", config.draft_length)):
        theirs = identity.settings.get(key)
        if theirs is not None and ours is not None and str(ours) not in str(theirs).split("/"):
            flag = key.replace("_", "-")
            raise ConfigError(f"the server says that its {key} is {theirs}, not {ours}; say --{flag} {theirs}")
    before = journal.records.segments[-1].engine if journal.records.segments else {}
    changed = [key for key, value in before.items() if identity.settings.get(key, value) != value]
    if changed:
        key = changed[0]
        raise ConfigError(
            f"the engine is not the one that this run began with: {key} was {before[key]!r}, "
            f"is {identity.settings[key]!r}; resume with the same, or choose another --out"
        )


def _other_engine(speaks: Dialect, identity: Identity) -> str:
    """What to add to a failure where the models are another engine's."""
    other = identity.owned_by not in (speaks.OWNED_BY, "None")
    return f"; its models are owned by '{identity.owned_by}': is it another engine?" if other else ""


async def _compare_tokenizers(
    speaks: Dialect, control: Connection, identity: Identity, tokenizer: ChatTokenizer
) -> bool:
    """The same text must be the same ids here and there; otherwise nothing after can be trusted.

    False where the engine has no way to be asked, or does not offer it here.
    """
    loop = asyncio.get_running_loop()

    def tokenize(text: str) -> list[int]:
        path_and_body = speaks.tokenize_payload(text, identity.served)
        if path_and_body is None:
            raise Refused("it has no way to be asked", 404)
        asked = control.request("POST", path_and_body[0], orjson.dumps(path_and_body[1]))
        answer = asyncio.run_coroutine_threadsafe(asked, loop).result()
        try:
            return speaks.tokenize_answer(answer.body)
        except (ValueError, TypeError, LookupError) as error:
            raise RequestFailed(f"POST {path_and_body[0]} is answered with no ids: {answer.body[:200]!r}") from error

    try:
        await asyncio.to_thread(check_parity, tokenizer, tokenize)
    except RequestFailed as failed:
        if isinstance(failed, Refused) and failed.status in (404, 405):
            return False
        raise EngineError(f"the engine gives no ids of a text: {failed}{_other_engine(speaks, identity)}") from failed
    return True


async def _warm_up(live: LiveEngine, config: RunConfig, identity: Identity) -> None:
    """Open every stream and let the engine do what it does only once. Never recorded."""
    ids = live.tokenizer.chat_ids([{"role": "user", "content": WARMUP_TEXT}], config.chat_template_args)
    sampling = sampling_of(config, live.tokenizer, config.seeds[0], WARMUP_TOKENS)

    async def warm(slot: int) -> None:
        await live.streams[slot].connect()
        for _ in range(config.warmup_per_slot):
            await live.ask(Request("warm-up/0", ids, sampling, slot), "warm-up")

    try:
        await side_by_side(warm(slot) for slot in range(config.concurrency))
    except RequestFailed as failed:
        hint = _other_engine(live.dialect, identity)
        raise EngineError(f"engine '{config.engine.name}' failed its warm-up: {failed}{hint}") from failed
