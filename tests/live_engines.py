"""Engines as the live contract runs on them: how each is started, what it can know, and what every answer must be.

`SETUPS` is the one table: a row switches an engine on. A `Bench` is a running engine to which a test attaches
through a `Client`, as a run with `--url` does; whatever is asked there is checked by `check_turn`.
"""

import asyncio
import importlib
import os
import struct
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

import gguf
import orjson
import psutil
import pytest
from live_server import live_server
from small_models import without_layers

from speed_bench.config import RunConfig, resolve
from speed_bench.engine_config import SimulatorConfig
from speed_bench.engines import llama_cpp
from speed_bench.engines.http import Connection, Url, events
from speed_bench.engines.simulator import truth
from speed_bench.engines.simulator.lexicon import lexicon_of_gguf
from speed_bench.engines.simulator.settings import ServerSettings
from speed_bench.models import resolve_gguf
from speed_bench.records import RunRecords
from speed_bench.runner.client import Client
from speed_bench.runner.journal import Journal, RunFile, read_records, write_run_file
from speed_bench.runner.segment import running
from speed_bench.runner.streams import side_by_side
from speed_bench.tally import tally_record
from speed_bench.tokens import ChatTokenizer, prompt_sha256
from speed_bench.types import LastStep, Request, Sampling, Step, TurnRecord

T = TypeVar("T")

ROOT = Path(__file__).parent.parent
MODELS = ROOT / "build" / "models"
EMBEDDED = "smollm2-135m-instruct"
CATEGORY = "qa"
DRAFT_LENGTH = 3
STREAMS = 64
"""Requests that a server takes at once."""
CHATS = (
    "Hi",
    "日本語と한국어と汉字で🎉👩‍👩‍👧‍👦🇫🇷答えて",
    "What is 2+2?",
    "Tell me a story about a cat.",
    "¿Qué hora es? naïve café, Ångström",
    "def f(x):\n\treturn x ** 2",
    "a b c a b c a b c a b c",
    "مرحبا بالعالم، كيف حالك؟",
)


# --- which engines ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setup:
    """An engine with settings, and what it can know of its answers."""

    name: str
    flags: Mapping[str, Any]
    """As `speed-bench run` would be given them."""
    origins: tuple[str | None, ...]
    """Where the counts of an answer with decode steps may come from; None: it may have none."""
    knows: tuple[str, ...] = ("drafted", "accepted", "num_steps")
    """What is told of every such answer, if it has counts."""
    counters: tuple[str, ...] = ("drafted", "accepted", "verify_steps")
    """What the engine counts over all requests, and the turns exactly so."""
    reconciled: bool | None = True
    """What reconciliation says of a run without faults; None: there is nothing to compare."""
    last_steps: tuple[LastStep, ...] = ("complete",)
    """How sure a last step may be."""
    plain_steps: bool = False
    """Whether a decode step may have no proposal."""
    exact: bool = True
    """Whether an answer is the same, to the last bit, whatever is answered beside it."""
    seeded: bool = True
    """Whether above temperature 0 a seed decides."""
    ends_by: Literal["model", "request"] = "model"
    """Who says which ids end an answer: `model`, it alone; `request`, each request may name any."""
    context: int = 40960
    make_model: Callable[[Path], Path] | None = None
    """Makes the model in a folder, where it is not one of `flags`."""
    tokenizer: str = EMBEDDED
    env: Mapping[str, str] = field(default_factory=dict)
    marks: tuple[pytest.MarkDecorator, ...] = ()

    @property
    def simulated(self) -> bool:
        return self.flags["engine"] == "simulator"

    @property
    def all_flags(self) -> dict[str, Any]:
        """With those that are the same for all."""
        length = {} if self.flags["algorithm"] == "none" else {"draft_length": DRAFT_LENGTH}
        return {"concurrency": STREAMS, "engine.context_length": self.context, **length, **self.flags}

    def config(self, **flags: Any) -> RunConfig:
        """Of a run with this engine."""
        return resolve({"max_tokens": 8, **self.all_flags, **flags})[0]

    def with_flags(self, name: str, **flags: Any) -> "Setup":
        """The same, with other settings too."""
        return replace(self, name=f"{self.name}{name}", flags={**self.flags, **flags})


def simulator(speaks: str, *origins: str | None, name: str = "", algorithm: str = "mtp", **changes: Any) -> Setup:
    """The simulator playing an engine: fast, and with short answers."""
    engine = {"speaks": speaks, "speed": 1000.0, "mean_output_tokens": 12.0, **changes.pop("engine", {})}
    if algorithm == "ngram":
        engine["no_proposal"] = 0.3
    return Setup(
        name=f"simulator-{speaks}{name}",
        flags={
            "engine": "simulator",
            "model": EMBEDDED,
            "algorithm": algorithm,
            **{f"engine.{key}": value for key, value in engine.items()},
        },
        origins=origins,
        **{"plain_steps": algorithm == "ngram", **changes},
    )


def changed(path: Path, key: str, value: int) -> Path:
    """A GGUF file with another number in its metadata."""
    data = bytearray(path.read_bytes())
    at = data.index(key.encode()) + len(key)
    assert struct.unpack_from("<I", data, at) == (gguf.GGUFValueType.UINT32,)
    struct.pack_into("<I", data, at + 4, value)
    path.write_bytes(data)
    return path


def small_llama(folder: Path) -> Path:
    """Two layers that write nonsense, and drafts for it are often wrong. What it says first to the first of `CHATS`
    ends its answers, which so end at once, later, or at their limit."""
    path = without_layers(resolve_gguf(EMBEDDED), folder / "two-layers.gguf", set(range(1, 29)))
    flags = {"engine": "llama-cpp", "algorithm": "none", "concurrency": 1, "model": str(path)}
    ids = tokenizer_of(EMBEDDED).chat_ids([("user", CHATS[0])])

    async def first_word(url: str) -> int:
        connection = Connection(Url.parse(url))
        target, body = llama_cpp.payload(Request("first/0", ids, Sampling(0.0, 1, 0)), "")
        answer = await connection.request("POST", target, orjson.dumps(body))
        connection.close()
        [word] = llama_cpp.parse(next(events(answer))[1], 0).token_ids
        return word

    with live_server(folder / "first-word", **flags) as url:
        return changed(path, "tokenizer.ggml.eos_token_id", asyncio.run(first_word(url)))


LLAMA_CPP = Setup(
    name="llama-cpp",
    flags={"engine": "llama-cpp", "algorithm": "ngram", "engine.ngram_size": 1},
    origins=("engine",),
    last_steps=("complete", "cut", "unknown"),
    plain_steps=True,
    exact=False,
    context=512,
    make_model=small_llama,
)
EMBEDDED_LLAMA = Setup(
    name="llama-cpp-embedded",
    flags={**LLAMA_CPP.flags, "concurrency": 1},
    origins=("engine",),
    last_steps=("complete", "cut", "unknown"),
    plain_steps=True,
    context=1024,
    make_model=lambda _: resolve_gguf(EMBEDDED),
)
SIMULATORS = (
    simulator("llama-cpp", "engine", algorithm="ngram", last_steps=("complete", "cut", "unknown")),
    simulator("vllm", "engine"),
    simulator("vllm", "engine", name="-ngram", algorithm="ngram"),
    simulator("sglang", "engine", counters=("verify_steps",)),
    simulator(
        "sglang",
        "engine",
        name="-ngram",
        algorithm="ngram",
        plain_steps=False,  # a step without a proposal is verified all the same
        knows=("accepted", "num_steps"),
        counters=("verify_steps",),
    ),
    simulator("tensorrt-llm", "engine", name="-stats", engine={"request_stats": True}),
    simulator("tensorrt-llm", "stream", counters=("drafted", "verify_steps"), last_steps=("complete", "unknown")),
    simulator(
        "tensorrt-llm",
        "stream",
        None,
        name="-merging",
        engine={"faults": [{"kind": "merge", "steps": 2}]},
        counters=(),
        reconciled=None,
        last_steps=("complete", "unknown"),
    ),
)
VLLM = Setup(
    name="vllm",
    flags={
        "engine": "vllm",
        "model": str(MODELS / "tiny-llama"),
        "algorithm": "draft",
        "draft": str(MODELS / "tiny-llama-draft"),
        "engine.python": str(ROOT / ".venv-vllm" / "bin" / "python"),
        "engine.dtype": "float32",  # bfloat16 is not the same at every batch size
        "engine.extra.enforce_eager": True,
    },
    origins=("engine",),
    seeded=False,  # a draft model's drafts are sampled from what the server drew before (0.32: "TODO: Consider seeds")
    ends_by="request",
    context=1024,
    tokenizer=str(MODELS / "tiny-llama"),
    env={"VLLM_CPU_KVCACHE_SPACE": "1"},  # else it takes nearly all memory
    marks=(pytest.mark.vllm, pytest.mark.timeout(1200)),
)
SGLANG = Setup(
    name="sglang",
    flags={
        "engine": "sglang",
        "model": str(MODELS / "tiny-llama"),
        "algorithm": "draft",
        "draft": str(MODELS / "tiny-llama-draft"),
        "engine.python": str(ROOT / ".venv-sglang" / "bin" / "python"),
        "engine.dtype": "float32",
        "engine.memory_fraction": 0.5,
        "engine.extra.device": "cpu",
        "engine.extra.attention_backend": "torch_native",
        "engine.extra.max_total_tokens": 16384,
    },
    origins=("engine",),
    counters=("verify_steps",),
    seeded=False,  # it looks at a request's seed only with `enable_deterministic_inference`
    ends_by="request",
    context=1024,
    tokenizer=str(MODELS / "tiny-llama"),
    env={"SGLANG_USE_CPU_ENGINE": "1", "OMP_NUM_THREADS": "1"},
    marks=(pytest.mark.sglang, pytest.mark.timeout(1200)),
)
SETUPS = (LLAMA_CPP, *SIMULATORS, VLLM, SGLANG)
REAL = (LLAMA_CPP, VLLM, SGLANG)


def on(*setups: Setup) -> pytest.MarkDecorator:
    """Run a test with the `bench` of each of these."""
    return pytest.mark.parametrize(
        "bench", [pytest.param(each, id=each.name, marks=each.marks) for each in setups], indirect=True
    )


# --- one of them, running -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Server:
    """An engine that runs."""

    setup: Setup
    """With the model that was made."""
    url: str
    folder: Path

    def page(self, path: str) -> Any:
        """What it says on a path."""

        async def get() -> bytes:
            connection = Connection(Url.parse(self.url))
            answer = await connection.request("GET", path)
            connection.close()
            return answer.body

        return orjson.loads(asyncio.run(get()))

    def signal(self, number: int) -> None:
        """Send a signal to every process of it."""
        first = psutil.Process(orjson.loads((self.folder / "engine.pid").read_bytes())["pid"])
        for process in (*first.children(recursive=True), first):
            os.kill(process.pid, number)


class Pool:
    """Servers, each started when it is first asked for."""

    def __init__(self, parent: Path, stack: ExitStack) -> None:
        self._parent = parent
        self._stack = stack
        self._servers: dict[str, Server] = {}

    def server(self, setup: Setup) -> Server:
        """The one of this name."""
        if setup.name not in self._servers:
            self._servers[setup.name] = self._stack.enter_context(self._started(setup))
        return self._servers[setup.name]

    @contextmanager
    def _started(self, setup: Setup) -> Iterator[Server]:
        folder = self._parent / setup.name
        folder.mkdir()
        if setup.make_model is not None:
            model = str(setup.make_model(folder))
            setup = replace(setup.with_flags("", model=model), tokenizer=model, make_model=None)
        with pytest.MonkeyPatch.context() as patch:
            for name, value in setup.env.items():
                patch.setenv(name, value)
            with live_server(folder / "server", **setup.all_flags) as url:
                yield Server(setup, url, folder / "server")


@cache
def tokenizer_of(name: str) -> ChatTokenizer:
    """Of a GGUF file, the embedded model, or a folder."""
    if name == EMBEDDED or name.endswith(".gguf"):
        return ChatTokenizer.from_gguf(resolve_gguf(name))
    return ChatTokenizer.from_huggingface(name)


class Bench:
    """What a test asks a server with."""

    def __init__(self, server: Server, folder: Path, run_file: RunFile) -> None:
        self.server = server
        self.setup = server.setup
        self.tokenizer = tokenizer_of(server.setup.tokenizer)
        self._folder = folder
        self._run_file = run_file
        self._num_runs = 0
        self._num_requests = 0

    def chat(self, number: int) -> tuple[int, ...]:
        """Ids of a prompt; every number has its own."""
        text = CHATS[number % len(CHATS)] + (f" {number}" if number >= len(CHATS) else "")
        return self.tokenizer.chat_ids([("user", text)])

    def request(
        self,
        number: int,
        max_tokens: int,
        *,
        slot: int = 0,
        prompt_ids: Sequence[int] | None = None,
        ends: bool = False,
        stop_ids: Iterable[int] = (),
        **sampling: Any,
    ) -> Request:
        """Prompt `number`; `ends`: at what ends an answer of the model, or at `stop_ids` besides."""
        all_stop_ids = tuple(sorted({*self.tokenizer.eos_ids, *stop_ids})) if ends else ()
        self._num_requests += 1
        return Request(
            f"{self._num_requests:032x}/0",
            self.chat(number) if prompt_ids is None else tuple(prompt_ids),
            Sampling(sampling.get("temperature", 0.0), max_tokens, sampling.get("seed", 0), all_stop_ids, not ends),
            slot,
        )

    def attach(
        self, work: Callable[["Attached"], Awaitable[T]], *, concurrency: int = 1, **flags: Any
    ) -> tuple[T, RunRecords]:
        """Attach as a run does, `work`, let go: what came of it, and what is in the journal."""
        self._num_runs += 1
        folder = self._folder / f"run-{self._num_runs}"
        folder.mkdir()
        config = self.setup.config(
            **{"draft": None, "engine.url": self.server.url, "warmup_per_slot": 0, "concurrency": concurrency, **flags}
        )
        run = self._run_file.model_copy(update={"config": config})
        write_run_file(folder, run)

        async def attached() -> T:
            engine = running(config, journal, self.tokenizer, model="attached", draft=None, clock=time.perf_counter_ns)
            async with engine as answers:
                client = answers.client(self.tokenizer, range(concurrency), reads_counters=concurrency == 1)
                try:
                    await client.warm_up(config)
                    async with answers.measured(client.counters) as span:
                        client.started_ns = span.started_ns
                        return await work(Attached(self, client, journal))
                finally:
                    client.close()

        with Journal(folder, run) as journal:
            found = asyncio.run(attached())
        return found, read_records(folder)

    def ask(self, *requests: Request, **flags: Any) -> tuple[list[TurnRecord], RunRecords]:
        """Attach, and ask each slot's requests in turn, all slots at once."""
        slots = max(request.slot for request in requests) + 1
        return self.attach(lambda attached: attached.ask_all(requests), concurrency=slots, **flags)

    def truth(self, request: Request) -> truth.Answer:
        """What the simulator must answer, and how it drafts."""
        sampling = request.sampling
        asked = truth.Asked(
            prompt_sha256(request.prompt_ids),
            len(request.prompt_ids),
            sampling.max_tokens,
            sampling.temperature,
            sampling.seed,
            sampling.ignore_eos,
        )
        return truth_of(self.setup.config(), asked)


@dataclass(frozen=True)
class Attached:
    """A running engine with streams to it."""

    bench: Bench
    live: Client
    journal: Journal

    async def ask(self, request: Request) -> TurnRecord:
        """One turn, checked and written down."""
        turn = await self.live.ask(request, CATEGORY)
        check_turn(self.bench, request, turn)
        await self.live.beside(lambda: self.journal.add(turn))
        return turn

    async def ask_all(self, requests: Iterable[Request]) -> list[TurnRecord]:
        """Each slot's requests in turn, all slots at once; the turns in the order of the requests."""
        asked = list(requests)
        slots: dict[int, list[Request]] = defaultdict(list)
        turns: dict[int, TurnRecord] = {}
        for request in asked:
            slots[request.slot].append(request)

        async def lead(queue: list[Request]) -> None:
            for request in queue:
                turns[id(request)] = await self.ask(request)

        await side_by_side(lead(queue) for queue in slots.values())
        return [turns[id(request)] for request in asked]

    async def in_the_middle(self, request: Request) -> asyncio.Task[TurnRecord]:
        """A request of which something has come, and more is to come."""
        task = asyncio.create_task(self.ask(request))
        while not task.done() and not self._reads(request.slot):
            await asyncio.sleep(0.001)
        return task

    async def given_up(self, slot: int) -> None:
        """Wait until the client has closed the stream."""
        async with asyncio.timeout(60.0):
            while self.live.streams[slot]._reader is not None:
                await asyncio.sleep(0.01)

    def _reads(self, slot: int) -> int:
        reader = self.live.streams[slot]._reader
        return len(reader.exchange.reads) if reader is not None and reader.exchange is not None else 0

    async def ending(self, where: Literal["at once", "later"]) -> tuple[Request, TurnRecord]:
        """A request whose answer ends by itself: with its first token, or after some others. With its answer."""
        at_once = where == "at once"
        for number in range(64):
            stop_ids: list[int] = []
            if self.bench.setup.ends_by == "request":
                said = (await self.ask(self.bench.request(number, 24))).output_ids
                new = [at for at in range(len(said)) if said[at] not in said[:at]]
                unsaid = next(token_id for token_id in range(100, 200) if token_id not in said)
                stop_ids = [said[0] if at_once else said[new[len(new) // 2]], unsaid]
            request = self.bench.request(number, 64, ends=True, stop_ids=stop_ids)
            turn = await self.ask(request)
            if turn.finish_reason == "stop" and (turn.num_output_tokens == 1) == at_once:
                return request, turn
        raise AssertionError(f"no answer ends {where}")


# --- what every answer must be ------------------------------------------------------------------------


def check_turn(bench: Bench, request: Request, turn: TurnRecord) -> None:
    """What holds of every answer of every engine, and for the simulator, that it is the truth."""
    setup, sampling = bench.setup, request.sampling
    assert (turn.id, turn.category, turn.seed, turn.segment, turn.slot) == (
        request.id,
        CATEGORY,
        sampling.seed,
        0,
        request.slot,
    )
    assert (turn.prompt_len, turn.prompt_sha256) == (len(request.prompt_ids), prompt_sha256(request.prompt_ids))
    assert turn.prefill_tokens == 1 <= turn.num_output_tokens <= sampling.max_tokens
    assert all(token_id is None or 0 <= token_id < bench.tokenizer.vocab_size for token_id in turn.output_ids)
    assert sum(num for _, num in turn.arrivals) == turn.num_output_tokens
    times = [turn.sent_at_s, *(at for at, _ in turn.arrivals), turn.finished_at_s]
    assert times == sorted(times)
    assert turn.sent_at_s < turn.arrivals[0][0]
    if turn.finish_reason == "length":
        room = setup.context - turn.prompt_len
        assert turn.num_output_tokens == min(sampling.max_tokens, room)
    else:
        assert turn.finish_reason == "stop"
        assert not sampling.ignore_eos
        assert turn.output_ids[-1] in sampling.stop_ids
        assert not set(turn.output_ids[:-1]) & set(sampling.stop_ids)
    check_counts(setup, turn)
    if setup.simulated:
        answer = bench.truth(request)
        assert (turn.output_ids, turn.finish_reason) == (answer.token_ids, answer.finish_reason)
        check_truth(turn, answer.steps)


def check_counts(setup: Setup, turn: TurnRecord) -> None:
    """Tokens are prefill's or a step's, and all is known that the engine's row in the table says."""
    counts, in_steps = turn.counts, turn.num_output_tokens - turn.prefill_tokens
    assert tally_record(turn).num_tokens == in_steps  # it can be scored
    if in_steps == 0:
        assert (counts.drafted, counts.accepted, counts.verify_steps, counts.num_steps) == (0, 0, 0, 0)
        assert not counts.per_step
        assert turn.last_step == "complete"
        return
    assert (counts and counts.origin) in setup.origins
    if counts is None:
        return
    assert turn.last_step in setup.last_steps
    assert None not in [getattr(counts, name) for name in setup.knows], turn
    hidden = counts.num_steps + counts.accepted - in_steps
    assert 0 <= hidden <= DRAFT_LENGTH, "only the last step may have accepted what is not shown"
    if not setup.plain_steps:
        assert counts.plain_steps == 0
    emitted = counts.emitted or [step.emitted for step in counts.per_step or ()]
    if counts.aligned:
        assert len(emitted) == counts.num_steps
        assert sum(emitted) == in_steps
        assert all(1 <= size <= DRAFT_LENGTH + 1 for size in emitted)
    for step in (counts.per_step or ())[:-1]:
        assert step.emitted == step.accepted + 1


def check_truth(turn: TurnRecord, steps: Sequence[Step]) -> None:
    """What is known of a simulated answer's steps is what they were; chunks do not show what a cut hides."""
    counts = turn.counts
    if counts is None:
        return
    if counts.origin == "stream":
        steps = tuple(Step(step.drafted, step.emitted - 1, step.emitted) for step in steps)
    known = {
        "drafted": sum(step.drafted for step in steps),
        "accepted": sum(step.accepted for step in steps),
        "verify_steps": sum(step.drafted > 0 for step in steps),
        "num_steps": len(steps),
    }
    assert {name: getattr(counts, name) for name in known if getattr(counts, name) is not None}.items() <= known.items()
    if counts.per_step is not None and counts.num_steps is not None:
        in_order = tuple if counts.aligned else sorted
        assert in_order(counts.per_step) == in_order(steps)
    if counts.emitted is not None:
        assert counts.emitted == tuple(step.emitted for step in steps)
    if counts.histogram is not None:
        found = {accepted: num for accepted, num in enumerate(counts.histogram) if num}
        assert found == Counter(step.accepted for step in steps if step.drafted)


@cache
def _vocabulary() -> truth.Vocabulary:
    return lexicon_of_gguf(resolve_gguf(EMBEDDED)).vocabulary


def truth_of(config: RunConfig, asked: truth.Asked) -> truth.Answer:
    """The answer of a simulator with these settings."""
    assert isinstance(config.engine, SimulatorConfig)
    wire = importlib.import_module(f"speed_bench.engines.simulator.wires.{config.engine.speaks.replace('-', '_')}")
    settings = ServerSettings(
        engine=config.engine, algorithm=config.algorithm, draft_length=config.draft_length, port=0
    )
    return settings.answer(asked, _vocabulary(), wire.HABITS)
