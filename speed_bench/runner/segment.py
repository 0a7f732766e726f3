"""One engine lifetime: started, checked, measured, stopped."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

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
from speed_bench.meters import is_this_machine, metered
from speed_bench.provenance import boot_id
from speed_bench.records import ClientUse, Lateness, Segment
from speed_bench.runner.client import Client, Target
from speed_bench.runner.journal import Journal
from speed_bench.tokens import ChatTokenizer, check_parity
from speed_bench.types import SpecCounts

PID_FILE = "engine.pid"


@dataclass(slots=True)
class Span:
    """What a load tells of itself when it is over, for the record of its segment."""

    started_ns: int
    lateness: Lateness | None = None
    client: ClientUse | None = None
    load_ended_at_s: float | None = None
    clock_error_s: float | None = None


@dataclass(slots=True)
class Engine:
    """An engine that answers. Made by `running`."""

    target: Target
    server: Server
    hint: str
    """What to add to the failure of a request that every engine can answer."""
    clock: Clock
    _journal: Journal
    _segment: Segment

    @property
    def _is_here(self) -> bool:
        """Whether it runs on this machine, as far as can be told."""
        return self.target.engine.launch is None and is_this_machine(self.target.url.host)

    def client(self, tokenizer: ChatTokenizer, slots: Iterable[int], *, reads_counters: bool = False) -> Client:
        """A client in this process."""
        return Client(
            self.target, tokenizer, slots, server=self.server, reads_counters=reads_counters, clock=self.clock
        )

    @asynccontextmanager
    async def measured(self, counters: Callable[[], Awaitable[SpecCounts | None]]) -> AsyncIterator[Span]:
        """Around a load, after its warm-up: the segment is recorded at its start, and at its end if that is in order.

        `counters` reads the engine's own.
        """
        before = await counters()
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        begun = replace(self._segment, counters_before=before, started_at=now)
        with metered(on_this_machine=self._is_here) as meters:
            span = Span(self.clock())
            self._journal.add_segment(begun)
            yield span
            wall_s = (self.clock() - span.started_ns) / 1e9
        self.server.check_alive()
        ended = replace(
            begun,
            wall_s=wall_s,
            whole=True,
            lateness=span.lateness,
            client=span.client,
            energy=meters.energy(),
            unmetered=meters.reasons,
            load_ended_at_s=span.load_ended_at_s,
            clock_error_s=span.clock_error_s,
        )
        self._journal.add_segment(ended)
        with suppress(EngineError):  # every turn is there; only what they are compared with is not
            self._journal.add_segment(replace(ended, counters_after=await counters()))


@asynccontextmanager
async def running(
    config: RunConfig, journal: Journal, tokenizer: ChatTokenizer, *, model: str, draft: str | None, clock: Clock
) -> AsyncIterator[Engine]:
    """The engine of a run as its next segment: started, or attached to; on every way out, let go of."""
    speaks = dialect_of(config.engine)
    index = len(journal.records.segments)
    url, server = _engine(config, speaks, journal, index, model=model, draft=draft)
    control = Connection(url, clock, stall_timeout_s=config.stall_timeout_s, api_key=api_key())
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
        target = Target(
            engine=config.engine,
            url=url,
            served=identity.served,
            drafting=_drafting(config, identity),
            context_length=_context_length(config.engine, identity),
            segment=index,
            stall_timeout_s=config.stall_timeout_s,
        )
        machine = journal.run.provenance.hardware.kind  # looked up anew in this lifetime
        segment = Segment(index, "", boot_id(), None, engine=effective, machine=machine)
        yield Engine(target, server, _other_engine(speaks, identity), clock, journal, segment)
    finally:
        control.close()
        await asyncio.shield(asyncio.to_thread(server.stop))


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
