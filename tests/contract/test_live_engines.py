"""What every engine must do while it runs: the same request gives the same record, whoever answers it.

Each test runs on every engine of `live_engines.SETUPS`: the embedded llama.cpp and the simulator playing all four
always, the real vLLM with `make test-vllm`, the real SGLang with `make test-sglang`. Whatever is asked is also
checked by `live_engines.check_turn`: of the simulator, every count of every turn is compared with the truth.
"""

import asyncio
import re
import signal
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import orjson
import pytest
from command import speed_bench, wait_until
from live_engines import (
    CATEGORY,
    CHATS,
    DRAFT_LENGTH,
    EMBEDDED_LLAMA,
    LLAMA_CPP,
    REAL,
    SETUPS,
    SIMULATORS,
    STREAMS,
    Attached,
    Bench,
    Pool,
    Server,
    Setup,
    changed,
    check_truth,
    on,
    truth_of,
)

from speed_bench.config import RunConfig, resolve
from speed_bench.engines.simulator.truth import Answer, Asked
from speed_bench.errors import RequestFailed
from speed_bench.reconciliation import reconcile
from speed_bench.records import RunRecords
from speed_bench.runner import benchmark, client
from speed_bench.runner.journal import RunFile, read_records
from speed_bench.runner.outcomes import Ended
from speed_bench.types import Outcome, Step, TurnRecord

pytestmark = pytest.mark.long  # all of its engines together take a minute

everywhere = on(*SETUPS)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    with ExitStack() as stack:
        yield Pool(tmp_path_factory.mktemp("servers"), stack)


@pytest.fixture
def bench(request: pytest.FixtureRequest, pool: Pool, tmp_path: Path, run_file: RunFile) -> Bench:
    return Bench(pool.server(request.param), tmp_path, run_file)


def said(turns: Sequence[TurnRecord]) -> list[tuple[int | None, ...]]:
    return [turn.output_ids for turn in turns]


# --- one answer ---------------------------------------------------------------------------------------


@everywhere
def test_a_turn_is_in_the_journal_as_it_was_asked(bench: Bench) -> None:
    turns, records = bench.ask(bench.request(0, 16, ends=True), bench.request(1, 16))
    assert list(records.turns) == turns
    assert len({turn.prompt_sha256 for turn in turns}) == 2
    [part] = records.segments
    assert part.whole
    assert all(turn.finished_at_s <= part.wall_s for turn in turns)


@everywhere
def test_the_same_request_is_answered_the_same(bench: Bench) -> None:
    (one, two), _ = bench.ask(bench.request(3, 40), bench.request(3, 40))
    assert (one.output_ids, one.counts, one.last_step) == (two.output_ids, two.counts, two.last_step)
    again, _ = bench.ask(bench.request(3, 40))
    assert said(again) == [one.output_ids]


@on(*(setup for setup in SETUPS if setup.seeded))
def test_above_temperature_0_the_seed_decides(bench: Bench) -> None:
    asked = [bench.request(3, 24, temperature=1.0, seed=seed) for seed in (1, 2, 1)]
    (one, other, again), _ = bench.ask(*asked)
    assert one.output_ids == again.output_ids != other.output_ids
    assert (one.seed, other.seed) == (1, 2)


@everywhere
def test_one_token_comes_from_prefill_and_is_no_step(bench: Bench) -> None:
    [turn], _ = bench.ask(bench.request(2, 1))
    assert (turn.num_output_tokens, turn.finish_reason, turn.counts.num_steps) == (1, "length", 0)


@everywhere
@pytest.mark.parametrize("limit", [2, 3, 4, 5, 33])
def test_an_answer_ends_at_its_limit(bench: Bench, limit: int) -> None:
    (whole, turn), _ = bench.ask(bench.request(4, 40), bench.request(4, limit))
    assert (turn.num_output_tokens, turn.finish_reason) == (limit, "length")
    assert turn.output_ids == whole.output_ids[:limit]


@everywhere
def test_an_answer_ends_with_one_of_several_ids_which_is_its_last_token(bench: Bench) -> None:
    (request, turn), _ = bench.attach(lambda attached: attached.ending("later"))
    assert turn.finish_reason == "stop"
    assert len(request.sampling.stop_ids) >= 2
    assert turn.output_ids[-1] in request.sampling.stop_ids
    assert turn.num_output_tokens == sum(num for _, num in turn.arrivals) > 1


@everywhere
def test_an_answer_that_ends_at_once_is_a_turn_without_steps(bench: Bench) -> None:
    (request, turn), _ = bench.attach(lambda attached: attached.ending("at once"))
    assert (turn.num_output_tokens, turn.finish_reason) == (1, "stop")
    assert turn.output_ids[0] in request.sampling.stop_ids
    assert turn.counts.num_steps == 0


@everywhere
def test_with_ignore_eos_an_answer_goes_on_where_it_would_have_ended(bench: Bench) -> None:
    async def work(attached: Attached) -> tuple[TurnRecord, TurnRecord]:
        request, ended = await attached.ending("later")
        return ended, await attached.ask(bench.request(0, 80, prompt_ids=request.prompt_ids))

    (ended, turn), _ = bench.attach(work)
    assert (turn.num_output_tokens, turn.finish_reason) == (80, "length")
    assert turn.output_ids[: ended.num_output_tokens - 1] == ended.output_ids[:-1]


# --- texts --------------------------------------------------------------------------------------------


@everywhere
def test_characters_of_several_bytes_go_both_ways(bench: Bench) -> None:
    prompts = [number for number, text in enumerate(CHATS) if not text.isascii()]
    turns, _ = bench.ask(*(bench.request(number, 60) for number in prompts))
    texts = [bench.tokenizer.decode(turn.output_ids) for turn in turns]
    assert all(text.encode() for text in texts)
    if bench.setup in REAL:
        assert not "".join(texts).isascii()
    if bench.setup.flags["engine"] != "llama-cpp":
        assert all(None not in turn.output_ids for turn in turns)


@on(EMBEDDED_LLAMA)
def test_the_embedded_model_repeats_emoji_and_most_of_their_tokens_are_named(bench: Bench) -> None:
    emoji = "🎉👩‍👩‍👧‍👦🏳️‍🌈日本語한국어"
    asked = bench.tokenizer.chat_ids([("user", f"Repeat exactly: {emoji}"), ("assistant", emoji), ("user", "Again.")])
    [turn], _ = bench.ask(bench.request(0, 40, prompt_ids=asked, ends=True))
    assert not bench.tokenizer.decode(turn.output_ids).isascii()
    assert turn.output_ids.count(None) < turn.num_output_tokens / 2


# --- the context --------------------------------------------------------------------------------------


@on(*SIMULATORS)
def test_a_prompt_of_32k_tokens_is_answered(bench: Bench) -> None:
    [turn], _ = bench.ask(bench.request(0, 8, prompt_ids=long_prompt(32_000)))
    assert (turn.prompt_len, turn.num_output_tokens) == (32_000, 8)


@pytest.mark.timeout(600)
@on(LLAMA_CPP)
def test_a_prompt_of_32k_tokens_is_answered_by_llama_cpp(
    bench: Bench, pool: Pool, tmp_path: Path, run_file: RunFile
) -> None:
    """The model is told that it holds so many: without that the engine holds 8192."""
    model = changed(Path(bench.setup.flags["model"]), "llama.context_length", 40960)
    setup = replace(bench.setup, context=40960).with_flags("-long", model=str(model), concurrency=1)
    long = Bench(pool.server(setup), tmp_path, run_file)
    [turn], _ = long.ask(long.request(0, 8, prompt_ids=long_prompt(32_000)))
    assert (turn.prompt_len, turn.num_output_tokens) == (32_000, 8)


def long_prompt(num_tokens: int) -> list[int]:
    """Ids of ordinary tokens, no text of which repeats."""
    return [1000 + at % 40_000 for at in range(num_tokens)]


@everywhere
def test_a_prompt_that_does_not_fit_is_refused_and_the_next_one_answered(bench: Bench) -> None:
    too_long = bench.request(1, 4, prompt_ids=long_prompt(bench.setup.context + 1))

    async def work(attached: Attached) -> tuple[TurnRecord, TurnRecord]:
        before = await attached.ask(bench.request(0, 12))
        with pytest.raises(RequestFailed, match=r"context|max_seq_len"):
            await attached.live.ask(too_long, CATEGORY)
        return before, await attached.ask(bench.request(0, 12))

    (before, after), _ = bench.attach(work)
    assert after.output_ids == before.output_ids


# --- many at once -------------------------------------------------------------------------------------


@everywhere
def test_64_answers_at_once_are_those_of_one_at_a_time(bench: Bench) -> None:
    together, records = bench.ask(*(bench.request(number, 12, slot=number) for number in range(STREAMS)))
    assert len(records.turns) == STREAMS
    assert max(turn.sent_at_s for turn in together) < max(turn.finished_at_s for turn in together)
    if bench.setup.exact:
        alone, _ = bench.ask(*(bench.request(number, 12) for number in range(STREAMS)))
        assert said(together) == said(alone)
    else:
        alone, _ = bench.ask(*(bench.request(number, 12) for number in range(len(CHATS))))
    assert len(set(said(together))) >= len(set(said(alone)))


@everywhere
@pytest.mark.parametrize("concurrency", [1, 8])
def test_the_engines_own_counters_are_the_sum_of_the_turns(bench: Bench, concurrency: int) -> None:
    asked = [bench.request(number, 24, slot=number % concurrency) for number in range(8)]
    turns, records = bench.ask(*asked, warmup_per_slot=1)
    [part] = records.segments
    spent = part.counters_after.since(part.counters_before)
    assert {turn.engine_counts is None for turn in turns} == {concurrency > 1}
    for name in bench.setup.counters:
        ours = [getattr(turn.counts, name) for turn in turns]
        if None not in ours:  # llama.cpp does not tell steps apart inside a character
            assert getattr(spent, name) == sum(ours) > 0
        if concurrency == 1:
            told = [getattr(turn.engine_counts, name) for turn in turns]
            assert [mine for mine in ours if mine is not None] == [
                theirs for mine, theirs in zip(ours, told, strict=True) if mine is not None
            ]
    if spent.per_position and "accepted" in bench.setup.counters and bench.setup.exact:
        accepted = [step.accepted for turn in turns for step in turn.counts.per_step]
        assert list(spent.per_position) == [sum(a >= k for a in accepted) for k in range(1, DRAFT_LENGTH + 1)]
    assert reconcile(records).equal is bench.setup.reconciled


# --- what goes wrong ----------------------------------------------------------------------------------


@everywhere
@pytest.mark.parametrize("concurrency", [1, 8])
def test_a_stream_that_is_closed_in_the_middle_disturbs_nobody(bench: Bench, concurrency: int) -> None:
    closed = range(0, concurrency, 2)
    short, again = ([bench.request(number, 12, slot=number) for number in range(concurrency)] for _ in range(2))
    long = [
        bench.request(number, min(20_000, bench.setup.context - 112) if number in closed else 60, slot=number)
        for number in range(concurrency)
    ]

    async def work(attached: Attached) -> tuple[list[TurnRecord], list[TurnRecord], list[TurnRecord]]:
        before = await attached.ask_all(short)
        tasks = await asyncio.gather(*map(attached.in_the_middle, long))
        for slot in closed:
            tasks[slot].cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert [slot for slot, each in enumerate(ended) if isinstance(each, asyncio.CancelledError)] == list(closed)
        others = [each for slot, each in enumerate(ended) if slot not in closed]
        return before, others, await attached.ask_all(again)

    (before, others, after), _ = bench.attach(work, concurrency=concurrency)
    assert [turn.num_output_tokens for turn in others] == [60] * len(others)
    if bench.setup.exact or concurrency == 1:
        assert said(after) == said(before)
        beside = [turn for slot, turn in enumerate(before) if slot not in closed]
        assert [turn.output_ids[:12] for turn in others] == said(beside)


@on(*REAL)
def test_an_engine_that_hangs_for_a_while_costs_only_the_request(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "HEALTH_TIMEOUT_S", 60.0)

    async def work(attached: Attached) -> tuple[TurnRecord, TurnRecord]:
        before = await attached.ask(bench.request(0, 12))
        attached.live.streams[0].stall_timeout_s = 0.5
        task = await attached.in_the_middle(bench.request(1, bench.setup.context - 112))
        bench.server.signal(signal.SIGSTOP)
        try:
            await attached.given_up(0)
        finally:
            bench.server.signal(signal.SIGCONT)
        with pytest.raises(RequestFailed, match=r"^nothing arrived for 0\.5 s$"):
            await task
        attached.live.streams[0].stall_timeout_s = 60.0
        return before, await attached.ask(bench.request(0, 12))

    (before, after), _ = bench.attach(work)
    assert after.output_ids == before.output_ids


# --- faults, and the truth ----------------------------------------------------------------------------

FAILS = {
    "truncate": r"the stream ended after \d+ tokens without a finish reason",
    "reset": "the connection was lost .*before the answer ended",
    "malformed": "an event that cannot be read",
    "http-5xx": "was answered with HTTP 500: .*made to fail",
}
"""Faults that fail a turn, and what it says then."""
OUT_OF_ORDER = {
    "sglang": r"the engine counts -\d+ new tokens",
    "llama-cpp": "the engine named 1 tokens but counts 0",
}
"""The same for `early-usage` of engines whose usage has no event of its own: the answer itself is out of order."""
NUM_WARMUP = 8
FAULTS = {
    9: "truncate",
    11: "reset",
    13: "malformed",
    15: "http-5xx",
    18: "early-usage",
    20: "early-usage",
}
FAULTS |= dict.fromkeys((8, 10, 12, 14, 16, 19), "merge")
"""By number of the request."""
STALL = {"kind": "stall", "request": 1, "seconds": 600.0}
KNOWN = [setup for setup in SIMULATORS if None not in setup.origins]
"""Those that tell something of every turn."""
FAULTY = [setup for setup in KNOWN if not setup.name.endswith("-ngram")]


class Nobody:
    """Watches a run, and takes no part in it."""

    def begin(self, arm: str, num_turns: int, earlier: tuple[Outcome, ...]) -> None: ...

    def outcome(self, turn: Ended) -> None: ...

    def end(self) -> None: ...


def whole_run(server: Server, folder: Path, **flags: Any) -> RunRecords:
    """Attach to a server, and run the prompts of the starter set, eight at a time."""
    ours = {"engine.url": server.url, "concurrency": NUM_WARMUP, "limit_per_category": 2, "max_tokens": 24}
    config, protocol = resolve({**server.setup.all_flags, **ours, **flags})
    benchmark.run(config, protocol, folder, observer=Nobody())
    return read_records(folder)


@dataclass(frozen=True)
class Spoilt:
    """A run in which some requests suffered a fault."""

    setup: Setup
    records: RunRecords
    told: Mapping[str, Mapping[str, Any]]
    """What the simulator says of each turn."""

    def suffered(self, *kinds: str) -> dict[str, str]:
        """Turn -> fault, of these kinds."""
        return {name: kind for name, told in self.told.items() for kind in told["faults"] if kind in kinds}

    @property
    def fails(self) -> dict[str, str]:
        """Fault -> what a turn says that it fails."""
        speaks = self.setup.flags["engine.speaks"]
        return FAILS | ({"early-usage": OUT_OF_ORDER[speaks]} if speaks in OUT_OF_ORDER else {})


@pytest.fixture(scope="module")
def spoilt_runs() -> dict[str, Spoilt]:
    """Those that were made."""
    return {}


@pytest.fixture(params=FAULTY, ids=lambda setup: setup.name)
def spoilt(
    request: pytest.FixtureRequest, pool: Pool, spoilt_runs: dict[str, Spoilt], tmp_path_factory: pytest.TempPathFactory
) -> Spoilt:
    setup: Setup = request.param
    if setup.name not in spoilt_runs:
        faults = [{"kind": kind, "request": number} for number, kind in FAULTS.items()]
        long = {"engine.mean_output_tokens": 200.0}  # whichever request a fault happens to, it has several steps
        server = pool.server(setup.with_flags("-faults", **{"engine.faults": faults, **long}))
        records = whole_run(server, tmp_path_factory.mktemp("spoilt") / "run")
        num_asked = len(records.turns) + sum(failure.stage == "request" for failure in records.failures)
        wait_until(lambda: len(server.page("/simulator/truth")["requests"]) == NUM_WARMUP + num_asked)
        told = {each["id"]: each for each in server.page("/simulator/truth")["requests"]}
        spoilt_runs[setup.name] = Spoilt(server.setup, records, told)
    return spoilt_runs[setup.name]


def test_a_fault_fails_its_turn_and_no_other(spoilt: Spoilt) -> None:
    suffered = spoilt.suffered(*spoilt.fails)
    assert set(suffered.values()) == set(spoilt.fails)
    failed = {failure.id: failure.error for failure in spoilt.records.failures if failure.stage == "request"}
    assert failed.keys() == suffered.keys()
    for name, error in failed.items():
        assert re.search(spoilt.fails[suffered[name]], error), f"{suffered[name]}: {error}"
    for failure in spoilt.records.failures:
        assert failure.stage == "request" or any(failure.question_id in name for name in failed)
    assert len(spoilt.records.outcomes) == spoilt.records.num_planned
    assert reconcile(spoilt.records).equal is None


def test_merged_events_change_no_verified_count(spoilt: Spoilt) -> None:
    merged = [turn for turn in spoilt.records.turns if turn.id in spoilt.suffered("merge")]
    assert len(merged) == 6
    assert any(len(spoilt.told[turn.id]["steps"]) > 4 for turn in merged)
    for turn in merged:
        steps = told_steps(spoilt.told[turn.id])
        check_truth(turn, steps)
        if "stream" in spoilt.setup.origins:
            assert turn.counts is None or len(steps) <= 1
        else:
            assert None not in (turn.counts.accepted, turn.counts.verify_steps)


def test_usage_that_comes_early_changes_nothing(spoilt: Spoilt) -> None:
    early = [turn for turn in spoilt.records.turns if turn.id in spoilt.suffered("early-usage")]
    assert len(early) == (0 if "early-usage" in spoilt.fails else 2)
    assert all(turn.counts is not None for turn in early)


def test_every_turn_of_a_run_is_what_the_simulator_says_that_it_was(spoilt: Spoilt) -> None:
    config = spoilt.setup.config(max_tokens=24)
    for turn in spoilt.records.turns:
        told, answer = spoilt.told[turn.id], truth_of_turn(config, turn)
        assert (told["prompt_sha256"], told["prompt_len"]) == (turn.prompt_sha256, turn.prompt_len)
        assert (told["num_tokens"], told["finish_reason"]) == (turn.num_output_tokens, turn.finish_reason)
        assert told_steps(told) == answer.steps
        assert turn.output_ids == answer.token_ids
        check_truth(turn, answer.steps)


def told_steps(told: Mapping[str, Any]) -> tuple[Step, ...]:
    return tuple(Step(*step) for step in told["steps"])


def truth_of_turn(config: RunConfig, turn: TurnRecord) -> Answer:
    """The answer of a simulator with these settings, from what a journal says of a turn."""
    asked = Asked(turn.prompt_sha256, turn.prompt_len, config.max_tokens, category=turn.category)
    return truth_of(config, asked)


@on(*(setup.with_flags("-stall", **{"engine.faults": [STALL]}) for setup in FAULTY))
def test_a_stream_that_stalls_fails_its_turn_and_no_other(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "HEALTH_TIMEOUT_S", 60.0)

    async def work(attached: Attached) -> tuple[TurnRecord, TurnRecord]:
        before = await attached.ask(bench.request(0, 12))
        attached.live.streams[0].stall_timeout_s = 0.5
        stalled = await attached.in_the_middle(bench.request(1, 40))
        await attached.ask_all(bench.request(number, 40, slot=1) for number in range(2, 8))
        with pytest.raises(RequestFailed, match=r"^nothing arrived for 0\.5 s$"):
            await stalled
        attached.live.streams[0].stall_timeout_s = 60.0
        return before, await attached.ask(bench.request(0, 12))

    (before, after), records = bench.attach(work, concurrency=2)
    assert after.output_ids == before.output_ids
    assert len(records.turns) == 8


@on(*(setup.with_flags("-dies") for setup in FAULTY[:1]))
def test_a_server_that_goes_after_the_last_answer_leaves_a_whole_segment(bench: Bench) -> None:
    async def work(attached: Attached) -> TurnRecord:
        turn = await attached.ask(bench.request(0, 12))
        bench.server.signal(signal.SIGKILL)
        return turn

    _, records = bench.attach(work)
    [segment] = records.segments
    assert (segment.whole, segment.counters_after) == (True, None)
    assert segment.counters_before is not None


@pytest.mark.parametrize("setup", FAULTY, ids=lambda setup: setup.name)
def test_counters_that_are_wrong_degrade_the_run(setup: Setup, pool: Pool, tmp_path: Path) -> None:
    faults = [{"kind": "wrong-counters", "request": NUM_WARMUP + 2}]
    server = pool.server(setup.with_flags("-wrong-counters", **{"engine.faults": faults}))
    records = whole_run(server, tmp_path / "run", categories="qa,math", limit_per_category=4)
    found = reconcile(records)
    assert records.failures == ()
    assert found.equal is False
    assert found.engine.verify_steps == found.turns.verify_steps + 1
    assert re.search(r"(verify_steps|drafted) (\d+), (\d+) by the engine", found.reason)
    if setup.name == "simulator-vllm":
        assert "DEGRADED: counts differ from the engine's own" in speed_bench("score", tmp_path / "run").stdout


# --- a whole run, whose acceptance is known -----------------------------------------------------------

RATES = {"math": (0.95, 0.9, 0.85), "coding": (0.9, 0.5), "roleplay": (0.3,), "multilingual": (0.0,), "rag": (1.0,)}


@pytest.mark.parametrize("setup", KNOWN, ids=lambda setup: setup.name)
def test_the_scores_of_a_run_are_those_of_the_truth(setup: Setup, tmp_path: Path) -> None:
    own = {"concurrency": 8, "max_tokens": 48, "engine.mean_output_tokens": 40, "engine.category_acceptance": RATES}
    flags = {**setup.all_flags, **own}
    words = [word for key, value in flags.items() if key != "model" for word in ("--set", f"{key}={as_json(value)}")]
    speed_bench("run", *words, "--no-baseline", "--out", tmp_path / "run")
    records = read_records(tmp_path / "run")
    scores = orjson.loads((tmp_path / "run" / "scores.json").read_bytes())
    assert scores["reconciliation"]["equal"] is True
    assert len(records.turns) == records.num_planned

    config, known = setup.config(**own), defaultdict(lambda: defaultdict(list))
    for turn in records.turns:
        answer = truth_of_turn(config, turn)
        assert turn.output_ids == answer.token_ids
        known[turn.category][turn.question_id].append(seen(setup, answer))
    groups = {**{name: {name: of} for name, of in known.items()}, None: known}
    for name, categories in groups.items():
        found = scores["acceptance"]["overall"] if name is None else scores["acceptance"]["categories"][name]
        assert found["acceptance_length"]["value"] == pytest.approx(acceptance_length(categories), rel=1e-12)
        rates = [cell["value"] for cell in found["conditional_acceptance_rate"]]
        turns = [turn for questions in categories.values() for turns in questions.values() for turn in turns]
        assert rates == (conditional_rates(turns) if "drafted" in setup.knows else [None])
    lengths = {name: scores["acceptance"]["categories"][name]["acceptance_length"]["value"] for name in RATES}
    assert lengths["multilingual"] == 1.0 < lengths["roleplay"] < lengths["rag"]


def as_json(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def seen(setup: Setup, answer: Answer) -> tuple[list[Step], bool]:
    """The steps of an answer as its engine can tell them, and whether the outcome of the last one is open."""
    if not answer.steps:
        return [], False
    if setup.origins == ("stream",):
        return [Step(step.drafted, step.emitted - 1, step.emitted) for step in answer.steps], True
    last = answer.steps[-1]
    cut_at_eos = setup.flags["engine.speaks"] == "llama-cpp" and answer.finish_reason == "stop"
    return list(answer.steps), cut_at_eos and last.drafted > last.accepted


def acceptance_length(categories: Mapping[str, Mapping[str, list]]) -> float:
    """Tokens per step of every conversation, their mean per category, and the mean of these."""
    means = []
    for questions in categories.values():
        pooled = [[step.emitted for steps, _ in turns for step in steps] for turns in questions.values()]
        means.append(
            Fraction(sum(Fraction(sum(sizes), len(sizes)) for sizes in pooled if sizes), sum(map(bool, pooled)))
        )
    return float(Fraction(sum(means), len(means)))


def conditional_rates(turns: Sequence[tuple[list[Step], bool]]) -> list[float | None]:
    """Of positions 1…K: how often draft k was right, of steps that show whether it was, those before it right."""
    trials, successes = Counter(), Counter()
    for steps, last_is_open in turns:
        for number, step in enumerate(steps, 1):
            is_open = last_is_open and number == len(steps)
            num_right = min(step.emitted - 1, step.drafted) if is_open else step.accepted
            num_tried = num_right if is_open else min(step.accepted + 1, step.drafted)
            successes.update(range(1, num_right + 1))
            trials.update(range(1, num_tried + 1))
    deepest = max((step.drafted for steps, _ in turns for step in steps), default=0)
    return [successes[at] / trials[at] if trials[at] else None for at in range(1, deepest + 1)]
