"""The simulator's real process over real sockets: streams, load, faults, and its end."""

import importlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest

from speed_bench.config import resolve
from speed_bench.data.editions import load
from speed_bench.engine_config import Fault, SimulatorConfig
from speed_bench.engines import Dialect, dialect, dialect_of
from speed_bench.engines.http import Exchange, events
from speed_bench.engines.simulator.batch import Work, pass_ms
from speed_bench.engines.simulator.faults import CRASH, EXIT_CODE
from speed_bench.engines.simulator.lexicon import lexicon_of_gguf
from speed_bench.engines.simulator.settings import ServerSettings
from speed_bench.engines.simulator.truth import Asked
from speed_bench.errors import ConfigError, EngineError, RequestFailed, SpeedBenchError
from speed_bench.models import resolve_gguf
from speed_bench.tokens import prompt_sha256
from speed_bench.types import Request, Sampling

MODULE = "speed_bench.engines.simulator.server"
WIRES = ("llama-cpp", "sglang", "tensorrt-llm", "vllm")
WAIT_S = 30.0


@dataclass(frozen=True)
class Running:
    """A simulator that listens."""

    config: SimulatorConfig
    process: subprocess.Popen[str]
    host: str
    port: int

    @contextmanager
    def connection(self) -> Iterator[HTTPConnection]:
        connection = HTTPConnection(self.host, self.port, timeout=WAIT_S)
        try:
            yield connection
        finally:
            connection.close()

    @contextmanager
    def answer(self, method: str, path: str, body: bytes = b"") -> Iterator[HTTPResponse]:
        """What comes to a request on a connection of its own, yet to be read."""
        with self.connection() as connection:
            connection.request(method, path, body)
            with connection.getresponse() as answer:
                yield answer

    def status(self, path: str) -> int:
        with self.answer("GET", path) as answer:
            return answer.status

    def get(self, path: str) -> Any:
        with self.answer("GET", path) as answer:
            return orjson.loads(answer.read())

    @contextmanager
    def asked(self, request: Request) -> Iterator[HTTPResponse]:
        """The stream of an answer to a request as the dialect writes it."""
        path, body = dialect_of(self.config).payload(request, "simulated")
        with self.answer("POST", path, orjson.dumps(body)) as answer:
            yield answer

    def read(self, request: Request) -> tuple[list[int | None], str | None]:
        """Ids and finish reason of an answer, as the dialect reads them."""
        with self.asked(request) as answer:
            return self.parse(answer.read())

    def parse(self, body: bytes) -> tuple[list[int | None], str | None]:
        ids: list[int | None] = []
        finish_reason = None
        for _, event in events(Exchange(0, 200, [(0, body)])):
            if chunk := dialect_of(self.config).parse(event, len(ids)):
                ids += chunk.token_ids
                finish_reason = chunk.finish_reason or finish_reason
        return ids, finish_reason

    def told(self) -> list[dict[str, Any]]:
        return self.get("/simulator/truth")["requests"]

    def load(self) -> dict[str, Any]:
        return self.get("/simulator/load")


@contextmanager
def running(**settings: Any) -> Iterator[Running]:
    """A simulator in a process of its own, ended by closing its standard input."""
    engine = SimulatorConfig(**settings.pop("engine", {}))
    made = {"engine": engine.model_dump(), "port": 0, **settings}
    process = subprocess.Popen(
        [sys.executable, "-m", MODULE, orjson.dumps(made).decode()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline()
        if not line:
            raise EngineError(process.stderr.read())
        host, port = line.strip().rpartition("//")[2].split(":")
        yield Running(engine, process, host, int(port))
    finally:
        process.stdin.close()
        process.wait(WAIT_S)
        process.stdout.close()
        process.stderr.close()


def request(number: int = 0, limit: int = 40, *, length: int = 20, ignore_eos: bool = True) -> Request:
    sampling = Sampling(0.0, limit, 0, ignore_eos=ignore_eos)
    return Request(f"{'0' * 32}/{number}", (*range(100, 100 + length - 1), 1000 + number), sampling)


@pytest.fixture(scope="module", params=WIRES)
def server(request: pytest.FixtureRequest) -> Iterator[Running]:
    with running(
        engine={"speaks": request.param, "speed": 200, "step_ms_per_1k_context": 1.5},
        algorithm="mtp",
        draft_length=3,
        concurrency=64,
    ) as simulator:
        yield simulator


def test_an_answer_is_read_by_the_dialect_and_told_by_the_truth(server: Running) -> None:
    asked = request(1, 60, ignore_eos=False)
    ids, finish_reason = server.read(asked)
    told = server.told()[-1]
    assert (len(ids), finish_reason) == (told["num_tokens"], told["finish_reason"])
    assert told["id"] == asked.id
    assert 1 + sum(emitted for _, _, emitted in told["steps"]) == len(ids)


@pytest.mark.parametrize("wire", WIRES)
def test_answers_are_the_same_one_by_one_and_64_at_a_time(wire: str) -> None:
    asked = [request(number, 50) for number in range(64)]
    slow = {"speaks": wire, "speed": 10}  # so slow that all have come before one has ended
    with running(engine=slow, algorithm="mtp", draft_length=3, concurrency=64) as server:
        with ThreadPoolExecutor(64) as pool:
            together = list(pool.map(server.read, asked))
        load, passes = server.load(), sum(1 + len(told["steps"]) for told in server.told())
        assert 8 < load["max_batch"] <= 64
        assert load["passes"] < passes / 4
        assert [server.read(each) for each in asked[:4]] == together[:4]
    assert all(len(ids) == 50 and finish_reason == "length" for ids, finish_reason in together)


def test_time_passes_as_the_step_time_model_says(server: Running) -> None:
    before = server.load()
    server.read(request(5, 30, length=700))
    after, steps = server.load(), server.told()[-1]["steps"]
    expected, seen = pass_ms(server.config, Work(prefill_tokens=700)), 1
    for drafted, _, emitted in steps:
        expected += pass_ms(server.config, Work(0, drafted + 1, 700 + seen, drafted))
        seen += emitted
    assert after["passes"] - before["passes"] == 1 + len(steps)
    assert after["model_ms"] - before["model_ms"] == pytest.approx(expected)


def test_it_tells_when_a_request_came_and_when_each_pass_brought_its_tokens(server: Running) -> None:
    before_s = time.perf_counter()
    ids, _ = server.read(request(11, 30))
    after_s = time.perf_counter()
    told, times = server.told()[-1], server.get("/simulator/times")
    timed, passes = times["requests"][-1], times["passes"]
    assert (timed["number"], timed["id"]) == (told["number"], request(11).id)
    assert len(timed["passes"]) == len(timed["sent_s"]) == 1 + len(told["steps"])
    assert len(ids) == 30
    assert [b - a for a, b in pairwise(timed["passes"])] == [1] * len(told["steps"])
    stamps = [timed["arrived_s"]]
    for number, sent_s in zip(timed["passes"], timed["sent_s"], strict=True):
        at = number - times["first_pass"]
        stamps += [passes["began_s"][at], passes["ended_s"][at], sent_s, passes["sent_s"][at]]
        assert passes["ended_s"][at] >= passes["due_s"][at]
    assert before_s < stamps[0]
    assert stamps == sorted(stamps)
    assert stamps[-2] < after_s
    assert passes["model_ms"][-1] == server.load()["model_ms"]


def test_a_prompt_of_32k_tokens_is_answered(server: Running) -> None:
    ids, finish_reason = server.read(request(6, 5, length=32_000))
    assert (len(ids), finish_reason) == (5, "length")
    assert server.told()[-1]["prompt_len"] == 32_000


def test_the_truth_can_be_computed_again_from_what_a_journal_says_of_a_turn(server: Running) -> None:
    asked = request(9, 60, ignore_eos=False)
    ids, finish_reason = server.read(asked)
    told = server.told()[-1]
    made = ServerSettings(engine=server.config, algorithm="mtp", draft_length=3, port=0)
    wire = importlib.import_module(f"speed_bench.engines.simulator.wires.{server.config.speaks.replace('-', '_')}")
    vocabulary = lexicon_of_gguf(resolve_gguf(made.model)).vocabulary
    truth = made.answer(Asked(prompt_sha256(asked.prompt_ids), len(asked.prompt_ids), 60), vocabulary, wire.HABITS)
    assert (list(truth.token_ids), truth.finish_reason) == (ids, finish_reason)
    assert [list(step) for step in truth.steps] == told["steps"]


def test_a_client_that_hangs_up_ends_its_request(server: Running) -> None:
    with server.asked(request(7, 100_000)) as answer:
        assert answer.readline().startswith(b"data:")
    deadline = time.monotonic() + WAIT_S
    while (told := server.told()[-1])["id"] != request(7).id and time.monotonic() < deadline:
        time.sleep(0.02)
    assert (told["id"], told["aborted"], told["finish_reason"]) == (request(7).id, True, None)
    assert told["num_tokens"] < 100_000
    passes = -1
    while (now := server.load()["passes"]) != passes and time.monotonic() < deadline:
        passes = now
        time.sleep(0.05)
    assert now == passes  # it computes no more


def test_a_connection_serves_one_answer_after_the_other_unless_the_engine_closes_it(server: Running) -> None:
    path, body = dialect_of(server.config).payload(request(8), "simulated")
    with server.connection() as connection:
        connection.request("POST", path, orjson.dumps(body))
        first = server.parse(connection.getresponse().read())
        if server.config.speaks == "llama-cpp":
            assert connection.sock.recv(1) == b""
        else:
            connection.request("POST", path, orjson.dumps(body))
            assert server.parse(connection.getresponse().read()) == first


def test_pages_are_those_of_the_engine(server: Running) -> None:
    speaks = dialect_of(server.config)
    assert {server.status(path) for path in (speaks.HEALTH, speaks.METRICS, speaks.INFO)} == {200}
    assert server.status("/nothing/here") == 404
    [card] = server.get("/v1/models")["data"]
    assert (card["id"], card["owned_by"]) == ("simulated", speaks.OWNED_BY)
    described = speaks.describe(server.get(speaks.INFO), card)
    assert described.get("context_length") in (None, server.config.context_length)


def test_a_text_has_the_ids_of_its_tokenizer(server: Running) -> None:
    asked = dialect_of(server.config).tokenize_payload("Hello<|im_end|>", "simulated")
    if asked is None:
        pytest.skip("the engine cannot be asked")
    with server.answer("POST", asked[0], orjson.dumps(asked[1])) as answer:
        assert dialect_of(server.config).tokenize_answer(answer.read()) == [19556, 2]


def test_requests_beyond_its_places_wait_and_a_stalled_one_holds_up_none() -> None:
    engine = {"speed": 500, "max_batch": 2, "faults": (Fault(kind="stall", request=6, seconds=60.0),)}
    with running(engine=engine, concurrency=16) as simulator, ThreadPoolExecutor(6) as pool:
        assert {len(ids) for ids, _ in pool.map(simulator.read, [request(number) for number in range(6)])} == {40}
        assert simulator.load()["max_batch"] == 2
        with simulator.asked(request(6)) as stalled:
            assert stalled.readline().startswith(b"data:")
            assert len(simulator.read(request(7))[0]) == 40
            assert [each["id"] for each in simulator.told()[6:]] == [request(7).id]


def test_a_client_that_gives_up_a_stalled_request_leaves_its_place_to_the_next() -> None:
    faults = (Fault(kind="stall", request=0, seconds=600.0),)
    with running(engine={"speed": 500, "faults": faults}) as simulator:
        with simulator.asked(request(0)) as stalled:
            assert stalled.readline().startswith(b"data:")
        assert len(simulator.read(request(1))[0]) == 40
        first, second = simulator.told()
        assert (first["aborted"], second["aborted"]) == (True, False)


# --- faults -------------------------------------------------------------------------------------------


def test_faults_happen_to_the_requests_they_are_meant_for() -> None:
    kinds = ("reset", "truncate", "malformed", "http-5xx", "stall")
    faults = [Fault(kind=kind, request=number, seconds=0.2) for number, kind in enumerate(kinds, 1)]
    faults += [Fault(kind="slow-start", seconds=1.0), Fault(kind="crash", request=7)]
    with running(engine={"speed": 500, "faults": tuple(faults)}, algorithm="mtp") as simulator:
        assert simulator.status("/health") == 503
        with simulator.asked(request()) as refused:
            assert refused.status == 503  # it is not counted
        deadline = time.monotonic() + WAIT_S
        while simulator.status("/health") != 200 and time.monotonic() < deadline:
            time.sleep(0.02)
        well = simulator.read(request())

        with pytest.raises((ConnectionError, HTTPException)):
            simulator.read(request())
        assert len(simulator.read(request())[0]) < 40  # truncated
        with pytest.raises(RequestFailed, match="cannot be read"):
            simulator.read(request())
        with simulator.asked(request()) as refused:
            assert refused.status == 500
        began = time.monotonic()
        assert simulator.read(request()) == well
        assert time.monotonic() - began >= 0.2
        assert simulator.read(request()) == well
        assert [each["faults"] for each in simulator.told()] == [[], *([kind] for kind in kinds), []]

        with pytest.raises((ConnectionError, HTTPException)):
            simulator.read(request())
        assert simulator.process.wait(WAIT_S) == EXIT_CODE
        assert simulator.process.stderr.read().splitlines()[-1] == CRASH


# --- how it is started --------------------------------------------------------------------------------


def test_a_run_starts_it_with_its_settings(tmp_path: Path) -> None:
    flags = {"engine": {"name": "simulator", "speaks": "sglang", "acceptance": [0.9, 0.8]}, "algorithm": "mtp"}
    config, _ = resolve({**flags, "draft_length": 5, "concurrency": 7})
    launch = dialect_of(config.engine).launch(config, model="m.gguf", draft=None, port=8123, folder=tmp_path)
    assert launch.argv[1:3] == ("-m", MODULE)
    made = ServerSettings.model_validate_json(launch.argv[-1])
    assert made.engine == config.engine
    assert (made.algorithm, made.draft_length, made.concurrency, made.port) == ("mtp", 5, 7, 8123)
    assert made.places == 7
    assert made.model_copy(update={"engine": SimulatorConfig(max_batch=3)}).places == 3
    assert (made.edition, made.config, made.model, made.kept) == (config.edition, config.config, "m.gguf", False)


def test_a_run_can_have_it_started_by_something_else(tmp_path: Path) -> None:
    config, _ = resolve({"engine": {"name": "simulator", "launch": "env A=1 {command}"}, "algorithm": "mtp"})
    launch = dialect_of(config.engine).launch(config, model="m.gguf", draft=None, port=8123, folder=tmp_path)
    assert launch.argv[2:4] == ("env", "A=1")
    assert launch.argv[5:7] == ("-m", MODULE)
    assert json.loads(launch.argv[-1])["kept"]


def test_an_algorithm_that_is_not_simulated_is_never_started(tmp_path: Path) -> None:
    config, _ = resolve({"engine": "simulator", "algorithm": "mtp"})
    unknown = config.model_copy(update={"algorithm": "telepathy"})
    with pytest.raises((ConfigError, EngineError), match="has no algorithm 'telepathy'"):
        dialect_of(config.engine).launch(unknown, model="m", draft=None, port=1, folder=tmp_path)


@pytest.mark.parametrize("speaks", WIRES)
def test_a_request_carries_its_id_and_only_here(speaks: str) -> None:
    path, body = dialect_of(SimulatorConfig(speaks=speaks)).payload(request(3), "simulated")
    real_path, real_body = dialect(speaks).payload(request(3), "simulated")
    assert (path, body) == (real_path, {**real_body, "speed_bench_request": request(3).id})


def test_without_settings_it_has_all_the_names_of_a_dialect() -> None:
    module = dialect("simulator")
    assert [name for name in dir(Dialect) if not name.startswith("_") and not hasattr(module, name)] == []
    assert module.parse(b"[DONE]", 0) is None


def test_categories_come_from_the_edition() -> None:
    def made(**changes: Any) -> ServerSettings:
        return ServerSettings(port=0, model="m.gguf", **changes)

    row = load("open", "starter").rows[0]
    assert made(edition="open").categories()[row.question_id] == row.category
    assert made().categories() == {}
    engine = SimulatorConfig(category_acceptance={"maths": (1.0,)})
    with pytest.raises(SpeedBenchError, match="category_acceptance has maths, which are no categories of open/starter"):
        made(engine=engine, edition="open").categories()


def test_settings_that_cannot_be_used_end_the_start_with_a_reason() -> None:
    with pytest.raises(EngineError, match=r"^error: (?s:.*)speed"), running(engine={}, speed=1.0):
        pass
    for algorithm in ("ngramm", "medusa"):
        with pytest.raises(EngineError, match=f"unknown algorithm '{algorithm}'"), running(algorithm=algorithm):
            pass
