"""A turn that fails is a result: it is recorded with its reason, the run goes on, and the scores say so.

The engine is the real one behind `fault_proxy`, which spoils the requests that a test names. The
model has two layers of the embedded one: it writes nonsense, drafts from it, and a run takes a second.
"""

import os
import re
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import fault_proxy
import orjson
import psutil
import pytest
from command import engine_pids, wait_until
from small_models import without_layers

from speed_bench.config import RunConfig, resolve
from speed_bench.data.editions import load, select
from speed_bench.engines import llama_cpp, server
from speed_bench.engines.server import Launch, free_port
from speed_bench.errors import EngineError, TokenError, UndefinedMetric
from speed_bench.models import resolve_gguf
from speed_bench.records import RunRecords
from speed_bench.runner import benchmark, client
from speed_bench.runner.conversation import messages
from speed_bench.runner.journal import read_records
from speed_bench.runner.outcomes import Ended
from speed_bench.scores import Scores
from speed_bench.scoring import score
from speed_bench.tokens import ChatTokenizer
from speed_bench.types import Outcome

MATH = ("math", "math/two/0", "math/two/1")
QA = ("qa/0", "qa/1")
SENTENCES = {
    "http500": "POST /completion was answered with HTTP 500: .*made to fail",
    "reset": "the connection was lost .*before the answer ended",
    "stall": r"nothing arrived for 0\.5 s",
    "truncate": r"the stream ended after \d+ tokens without a finish reason",
    "tear": "the stream was cut in the middle of an event",
    "garbage": "an event that cannot be read",
    "error-event": "the engine answered in the middle of the stream: made to fail",
}
"""What a failure says, by what happened to its request."""


class Watcher:
    """Sees what a run reports, and may act on it."""

    def __init__(self, act: Callable[[int], None] = lambda _: None) -> None:
        self.act = act
        self.outcomes: list[Ended] = []

    def begin(self, arm: str, num_turns: int, earlier: tuple[Outcome, ...]) -> None:
        assert arm == "speculation"

    def outcome(self, turn: Ended) -> None:
        self.outcomes.append(turn)
        self.act(len(self.outcomes))

    def end(self) -> None: ...


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("models") / "two-layers.gguf"
    return without_layers(resolve_gguf("smollm2-135m-instruct"), target, set(range(1, 29)))


@pytest.fixture(scope="module")
def tokenizer(model: Path) -> ChatTokenizer:
    return ChatTokenizer.from_gguf(model)


class Bench:
    """Runs behind the proxy, each in a folder of its own below one."""

    def __init__(self, parent: Path, model: Path, patch: pytest.MonkeyPatch) -> None:
        self.parent = parent
        self.log = parent / "requests.jsonl"
        self.model = model
        self.faults: Mapping[str, Any] = {}
        real = llama_cpp.launch

        def launch(config: RunConfig, *, model: str, draft: str | None, port: int, folder: Path) -> Launch:
            engine_port = free_port()
            engine = real(config, model=model, draft=draft, port=engine_port, folder=folder)
            told = {"port": port, "engine_port": engine_port, "faults": self.faults, "log": str(self.log)}
            return replace(
                engine, argv=(sys.executable, fault_proxy.__file__, orjson.dumps(told).decode(), *engine.argv)
            )

        patch.setattr(llama_cpp, "launch", launch)

    def config(self, **flags: object) -> tuple[RunConfig, Any]:
        small = {
            "model": str(self.model),
            "categories": "qa,math",
            "limit_per_category": 2,
            "max_tokens": 6,
            "engine.ngram_size": 1,
            "engine.context_length": 512,
            "baseline": False,
            "stall_timeout_s": 20.0,
        }
        return resolve({**small, **flags})

    def run(
        self,
        name: str = "run",
        *,
        fail: Mapping[int, str] | None = None,
        tokenize: str | None = None,
        resume: bool = False,
        watcher: Watcher | None = None,
        **flags: object,
    ) -> RunRecords:
        """A run in which request n fails as `fail[n]` says; warm-up is request 0 (to concurrency - 1)."""
        self.faults = {
            "fail": [{"request": request, "how": how} for request, how in (fail or {}).items()],
            "tokenize": tokenize,
        }
        config, protocol = self.config(**flags)
        benchmark.run(config, protocol, self.parent / name, resume=resume, observer=watcher or Watcher())
        return read_records(self.parent / name)

    def sent(self) -> list[dict[str, Any]]:
        """The bodies of all requests to /completion so far, warm-up included."""
        return [orjson.loads(line)["body"] for line in self.log.read_bytes().splitlines()]


def our_engines() -> list[int]:
    """Processes below this one that are an engine or the proxy of one."""
    found = []
    for child in psutil.Process().children(recursive=True):
        try:
            if "llama_cpp_server.py" in " ".join(child.cmdline()):
                found.append(child.pid)
        except psutil.Error:
            pass
    return found


@pytest.fixture
def bench(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """No test leaves an engine behind, whatever it does to it."""
    yield Bench(tmp_path, model, monkeypatch)
    assert our_engines() == []
    wait_until(lambda: engine_pids(tmp_path) == [], timeout_s=5)  # the real one dies by the proxy's death, a bit later


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    """The run folder of the same run when nothing fails."""
    parent = tmp_path_factory.mktemp("clean")
    with pytest.MonkeyPatch.context() as patch:
        Bench(parent, model, patch).run()
    return parent / "run"


@pytest.fixture(scope="module")
def names(model: Path) -> dict[str, str]:
    """Turn id -> what it is called here: the second math conversation has two turns."""
    rows = select(load("open", "starter").rows, ("qa", "math"), 2)
    math, qa = ([row for row in rows if row.category == category] for category in ("math", "qa"))
    assert [len(row.turns) for row in (*math, *qa)] == [1, 2, 1, 1]
    ids = [f"{row.question_id}/{turn}" for row in (*math, *qa) for turn in range(len(row.turns))]
    return dict(zip(ids, (*MATH, *QA), strict=True))


def by_name(records: RunRecords, names: Mapping[str, str]) -> dict[str, Outcome]:
    assert len(records.outcomes) == len({outcome.id for outcome in records.outcomes})
    return {names[outcome.id]: outcome for outcome in records.outcomes}


def failed(records: RunRecords, names: Mapping[str, str]) -> dict[str, str]:
    """Name -> stage of all failures."""
    return {names[failure.id]: failure.stage for failure in records.failures}


def answers(records: RunRecords) -> dict[str, tuple]:
    return {turn.id: (turn.prompt_sha256, turn.output_ids) for turn in records.turns}


def test_behind_the_proxy_a_run_without_faults_is_whole(clean: Path, names: dict[str, str]) -> None:
    records = read_records(clean)
    assert set(by_name(records, names)) == {*MATH, *QA}
    assert records.failures == ()
    scores = score(records)
    assert scores.reconciliation.equal is True
    assert scores.reconciliation.turns.drafted > 0
    assert (scores.num_failures, scores.failures) == (0, {})


@pytest.mark.parametrize("concurrency", [1, 2])
@pytest.mark.parametrize("how", SENTENCES)
def test_exactly_the_spoilt_turn_fails_and_says_what_happened(
    bench: Bench, clean: Path, names: dict[str, str], how: str, concurrency: int
) -> None:
    stall_timeout_s = 0.5 if how == "stall" else 20.0
    fail = {concurrency: how}  # the first request after warm-up
    records = bench.run(fail=fail, concurrency=concurrency, stall_timeout_s=stall_timeout_s)

    (request,) = [failure for failure in records.failures if failure.stage == "request"]
    later = {"math/two/1"} if names[request.id] == "math/two/0" else set()
    assert {names[failure.id] for failure in records.failures if failure.stage != "request"} == later
    assert set(by_name(records, names)) == {*MATH, *QA}
    assert re.search(SENTENCES[how], request.error), request.error
    assert records.segments[-1].whole
    if concurrency == 1:  # else the engine computes in other batches, and may round otherwise
        assert names[request.id] == "math"
        assert answers(records).items() <= answers(read_records(clean)).items()

    scores = score(records)
    assert (scores.num_turns, scores.num_failures) == (len(records.turns), len(records.failures))
    assert scores.reconciliation.equal is None
    assert request.id in scores.reconciliation.reason
    assert all(turn.engine_counts is None for turn in records.turns), "what the lost request drafted may be in there"


def test_counts_read_before_a_request_failed_are_kept(bench: Bench, names: dict[str, str]) -> None:
    records = bench.run(fail={4: "reset"})
    assert failed(records, names) == {"qa/0": "request"}
    read = {names[turn.id]: turn.engine_counts is not None for turn in records.turns}
    assert read == {**dict.fromkeys(MATH, True), "qa/1": False}


def test_turns_after_a_failed_one_are_failures_that_name_it_and_are_never_sent(
    bench: Bench, names: dict[str, str], tokenizer: ChatTokenizer
) -> None:
    records = bench.run(fail={2: "reset"})
    assert failed(records, names) == {"math/two/0": "request", "math/two/1": "history"}
    first, second = (by_name(records, names)[name] for name in ("math/two/0", "math/two/1"))
    assert first.id in second.error
    rows = select(load("open", "starter").rows, ("qa", "math"), 2)
    _, *prompts = (body["prompt"] for body in bench.sent())
    assert prompts == [list(tokenizer.chat_ids(messages(row, 0, []))) for row in rows]


def test_with_a_replayed_history_the_next_turn_is_asked_all_the_same(
    bench: Bench, clean: Path, names: dict[str, str]
) -> None:
    records = bench.run(fail={2: "reset"}, history=f"replay:{clean}")
    assert failed(records, names) == {"math/two/0": "request"}
    assert len(bench.sent()) == 6
    assert answers(records).items() <= answers(read_records(clean)).items()


def test_scores_count_failures_by_reason_and_keep_a_category_that_has_no_turn_left(bench: Bench) -> None:
    records = bench.run(fail={1: "http500", 2: "http500"})
    scores = score(records)
    assert (scores.num_turns, scores.num_failures, scores.num_planned) == (2, 3, 5)
    assert Counter(scores.failures.values()) == {1: 1, 2: 1}
    for sentence, times in scores.failures.items():
        assert ("HTTP 500" if times == 2 else "failed") in sentence

    overall, categories = scores.acceptance.overall, scores.acceptance.categories
    assert set(categories) == {"math", "qa"}
    assert (categories["math"].num_failures, categories["math"].num_turns) == (3, 0)
    assert categories["math"].acceptance_length.value is None
    assert categories["math"].acceptance_length.reason
    assert categories["qa"].num_failures == 0
    assert categories["qa"].acceptance_length.value is not None
    assert overall.num_failures == 3
    assert overall.acceptance_length.value is None
    assert "math" in overall.acceptance_length.reason
    assert Scores.model_validate_json(scores.model_dump_json()) == scores


def test_a_run_of_which_every_turn_failed_still_ends_in_order(bench: Bench) -> None:
    records = bench.run(fail=dict.fromkeys(range(1, 5), "http500"))
    assert (len(records.turns), len(records.failures)) == (0, 5)
    assert records.segments[-1].whole
    with pytest.raises(UndefinedMetric, match=r"0 finished and 5 failed turns; request: .*HTTP 500"):
        score(records)


def test_what_was_compared_before_the_last_request_failed_stays_compared(bench: Bench, names: dict[str, str]) -> None:
    records = bench.run(fail={5: "reset"})
    assert failed(records, names) == {"qa/1": "request"}
    found = score(records).reconciliation
    assert found.equal is True
    assert "1 failed turn(s) are left out on both sides" in found.reason


@pytest.mark.parametrize("concurrency", [1, 2])
def test_failures_are_results_and_are_not_asked_again(bench: Bench, concurrency: int) -> None:
    before = bench.run(fail={concurrency + 1: "reset"}, concurrency=concurrency)
    num_sent, journal = len(bench.sent()), (bench.parent / "run" / "turns-0.jsonl").read_bytes()
    again = Watcher()
    assert bench.run(resume=True, watcher=again, concurrency=concurrency) == before
    assert again.outcomes == []
    assert len(bench.sent()) == num_sent
    assert (bench.parent / "run" / "turns-0.jsonl").read_bytes() == journal


def test_an_engine_with_another_vocabulary_is_refused_before_any_turn(bench: Bench, tokenizer: ChatTokenizer) -> None:
    with pytest.raises(TokenError) as refused:
        bench.run(tokenize="wrong")
    ours = tokenizer.encode("<|im_start|>")[0]
    assert f"[{ours}, " in str(refused.value)
    assert f"[{ours + 1}, " in str(refused.value)
    records = read_records(bench.parent / "run")
    assert (records.outcomes, records.segments) == ((), ())
    assert not bench.log.exists(), "nothing was asked"


def test_an_engine_killed_in_the_middle_of_concurrent_turns_costs_only_those(
    bench: Bench, names: dict[str, str]
) -> None:
    def kill_all(num_outcomes: int) -> None:
        if num_outcomes == 2:
            for pid in engine_pids(bench.parent):
                os.kill(pid, signal.SIGKILL)

    killer = Watcher(kill_all)
    with pytest.raises(EngineError, match="was killed by SIGKILL") as died:
        bench.run(watcher=killer, concurrency=3)
    assert any("kept" in note and "--resume" in note for note in died.value.__notes__)
    kept = read_records(bench.parent / "run")
    assert kept.failures == ()
    assert {turn.key for turn in kept.turns} == {turn.key for turn in killer.outcomes}
    assert 2 <= len(kept.turns) < 5
    assert not kept.segments[-1].whole

    rest = Watcher()
    finished = bench.run(resume=True, watcher=rest, concurrency=3)
    assert set(by_name(finished, names)) == {*MATH, *QA}
    assert {turn.key for turn in finished.turns} == {turn.key for turn in (*kept.turns, *rest.outcomes)}
    assert [part.whole for part in finished.segments] == [False, True]


@pytest.mark.parametrize("concurrency", [1, 3])
def test_an_engine_that_dies_in_its_warm_up_is_one_sentence(bench: Bench, concurrency: int) -> None:
    with pytest.raises(EngineError, match="was killed by SIGKILL"):
        bench.run(fail={0: "die"}, concurrency=concurrency)
    assert read_records(bench.parent / "run").outcomes == ()


@pytest.mark.parametrize("concurrency", [1, 3])
def test_an_engine_that_fails_its_warm_up_is_not_measured(bench: Bench, concurrency: int) -> None:
    with pytest.raises(EngineError, match=r"failed its warm-up: .*made to fail"):
        bench.run(fail=dict.fromkeys(range(concurrency), "error-event"), concurrency=concurrency)
    assert read_records(bench.parent / "run").outcomes == ()


def test_an_engine_that_hangs_ends_the_run_instead_of_failing_every_turn(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name in ((client, "HEALTH_TIMEOUT_S"), (client, "DEATH_GRACE_S"), (server, "STOP_GRACE_S")):
        monkeypatch.setattr(module, name, 0.3)
    with pytest.raises(EngineError, match="runs but does not answer any more"):
        bench.run(fail={2: "hang"}, stall_timeout_s=0.5)
    kept = read_records(bench.parent / "run")
    assert (len(kept.turns), kept.failures) == (1, ())


@pytest.mark.parametrize("concurrency", [1, 2])
def test_a_later_prompt_that_is_longer_than_the_context_fails_without_being_sent(
    bench: Bench, tokenizer: ChatTokenizer, concurrency: int
) -> None:
    rows = select(load("open", "starter").rows, ("reasoning",), 2)
    first = [len(tokenizer.chat_ids(messages(row, 0, []))) for row in rows]
    (long_row,) = [row for row in rows if row.multiturn]
    at_least = len(tokenizer.chat_ids(messages(long_row, 1, [""])))
    context = max(first) + 1
    assert context <= at_least

    flags = {"categories": "reasoning", "engine.context_length": context, "concurrency": concurrency}
    records = bench.run(**flags)
    assert len(bench.sent()) == concurrency + 2
    assert {turn.id for turn in records.turns} == {f"{row.question_id}/0" for row in rows}
    (failure,) = records.failures
    assert (failure.id, failure.stage) == (f"{long_row.question_id}/1", "prompt")
    assert f"the context holds {context}" in failure.error
    scores = score(records)
    assert scores.reconciliation.equal is True, "what was never sent is in nobody's counters"
    assert scores.num_failures == 1


def test_a_request_carries_ids_and_the_sampling_that_makes_runs_comparable(
    bench: Bench, tokenizer: ChatTokenizer
) -> None:
    flags = {"categories": "math", "limit_per_category": 2, "max_tokens": 3, "temperature": 0.7, "seeds": (5, 11)}
    records = bench.run(**flags)
    rows = select(load("open", "starter").rows, ("math",), 2)
    first_turns = [list(tokenizer.chat_ids(messages(row, 0, []))) for row in rows]
    _, *bodies = bench.sent()
    assert [body["prompt"] for body in bodies if body["prompt"] in first_turns] == first_turns * 2
    assert [len(body["prompt"]) for body in bodies] == [turn.prompt_len for turn in records.turns]
    assert [body["seed"] for body in bodies] == [5, 5, 5, 11, 11, 11]
    for body in bodies:
        assert {name: body[name] for name in ("temperature", "top_k", "top_p", "min_p", "cache_prompt")} == {
            "temperature": 0.7,
            "top_k": 0,
            "top_p": 1.0,
            "min_p": 0.0,
            "cache_prompt": False,
        }
        assert (body["n_predict"], body["stream"]) == (3, True)
