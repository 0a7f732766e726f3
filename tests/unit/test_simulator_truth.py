"""The simulator's truth, its step-time model, and what its wire formats make of both: all without a socket."""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import count, pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speed_bench.algorithms import always_drafts
from speed_bench.engine_config import Fault, SimulatorConfig
from speed_bench.engines import dialect_of
from speed_bench.engines.answers import Drafting
from speed_bench.engines.http import Exchange, events
from speed_bench.engines.simulator.batch import Batch, Work, pass_ms
from speed_bench.engines.simulator.lexicon import lexicon
from speed_bench.engines.simulator.settings import ServerSettings
from speed_bench.engines.simulator.simulation import Simulation
from speed_bench.engines.simulator.times import Pass, Timed, Times
from speed_bench.engines.simulator.truth import Answer, Asked, Habits, Speculation, answer
from speed_bench.engines.simulator.wires import Reply, llama_cpp, sglang, tensorrt_llm, vllm
from speed_bench.tokens import prompt_sha256
from speed_bench.types import Request, Sampling, Step

WIRES: dict[str, ModuleType] = {
    "llama-cpp": llama_cpp,
    "sglang": sglang,
    "tensorrt-llm": tensorrt_llm,
    "vllm": vllm,
}
QUESTION = "0123456789abcdef0123456789abcdef"
RECORDINGS = Path(__file__).parent.parent / "recordings"
EOS = 2
WORDS = tuple(range(10, 110))
LEXICON = lexicon({word: f" w{word}" for word in WORDS}, EOS, "<eos>", lambda text: [ord(char) for char in text])
everywhere = pytest.mark.parametrize("speaks", sorted(WIRES))


# --- the truth --------------------------------------------------------------------------------------


def asked(number: int = 0, **changes: object) -> Asked:
    return replace(Asked(prompt_sha256((number + 1,)), 1, 200), **changes)


def speculation(algorithm: str = "mtp", length: int = 3, **changes: object) -> Speculation:
    made = Speculation(algorithm, length, (0.7, 0.6, 0.5), {"math": (0.9, 0.95, 1.0)}, 0.0)
    return replace(made, **changes)


def true_answer(
    request: Asked, how: Speculation, habits: Habits = vllm.HABITS, *, seed: int = 0, mean: float = 40.0
) -> Answer:
    return answer(
        request,
        seed=seed,
        mean_output_tokens=mean,
        context_length=4096,
        vocabulary=LEXICON.vocabulary,
        speculation=how,
        habits=habits,
    )


def test_the_truth_of_a_seed_is_this_on_every_platform() -> None:
    known = true_answer(asked(), speculation(length=4), mean=12.0)
    assert known.token_ids == (25, 30, 31, 40, 84, 103, 66, EOS)
    assert known.steps == (Step(4, 3, 4), Step(4, 3, 3))


def test_answers_do_not_depend_on_how_they_are_drafted() -> None:
    plain = true_answer(asked(), speculation("none", 0))
    assert set(plain.steps) == {Step(0, 0, 1)}
    for how in (speculation("mtp"), speculation("ngram", 8, no_proposal=0.5), speculation(acceptance=(0.0,))):
        for wire in WIRES.values():
            assert true_answer(asked(), how, wire.HABITS).token_ids == plain.token_ids
            assert true_answer(asked(category="math"), how, wire.HABITS).token_ids == plain.token_ids


def test_answers_depend_on_seed_prompt_and_when_sampled_on_the_sampling_seed() -> None:
    how = speculation()
    greedy = true_answer(asked(), how)
    assert true_answer(asked(seed=7), how) == greedy
    assert true_answer(asked(), how, seed=1).token_ids != greedy.token_ids
    assert true_answer(asked(1), how).token_ids != greedy.token_ids
    sampled = [true_answer(asked(temperature=1.0, seed=seed), how).token_ids for seed in (0, 1, 0)]
    assert sampled[0] == sampled[2] != sampled[1]


def test_a_lower_limit_gives_the_beginning_of_the_same_answer() -> None:
    how = speculation()
    whole = true_answer(asked(max_tokens=4000, ignore_eos=True), how)
    assert (len(whole.token_ids), whole.finish_reason) == (4000, "length")
    for limit in (1, 2, 63, 64, 65, 128, 1000):
        part = true_answer(asked(max_tokens=limit, ignore_eos=True), how)
        assert part.token_ids == whole.token_ids[:limit]
        assert part.steps[:-1] == whole.steps[: max(0, len(part.steps) - 1)]


def test_lengths_are_geometric_with_the_mean_that_was_set() -> None:
    lengths = [
        len(true_answer(asked(n, max_tokens=4000), speculation("none", 0), mean=40.0).token_ids) for n in range(2000)
    ]
    assert np.mean(lengths) == pytest.approx(40.0, rel=0.05)
    assert np.std(lengths) == pytest.approx(np.sqrt(1 - 1 / 40) * 40, rel=0.1)
    assert {len(true_answer(asked(n), speculation(), mean=1.0).token_ids) for n in range(20)} == {1}


@pytest.mark.parametrize(("category", "rates"), [(None, (0.7, 0.6, 0.5, 0.5)), ("math", (0.9, 0.95, 1.0, 1.0))])
def test_acceptance_at_each_position_converges_to_its_rate(category: str | None, rates: tuple[float, ...]) -> None:
    steps = [
        step
        for n in range(300)
        for step in true_answer(asked(n, category=category, ignore_eos=True), speculation(length=4)).steps
    ]
    for position, rate in enumerate(rates, 1):
        trials = [step.accepted >= position for step in steps if step.accepted >= position - 1]
        assert len(trials) > 1000
        assert np.mean(trials) == pytest.approx(rate, abs=3.5 * np.sqrt(rate * (1 - rate) / len(trials)) + 1e-9)


def test_answers_end_inside_steps_and_counts_are_from_before_the_cut() -> None:
    steps = [true_answer(asked(n), speculation(acceptance=(0.9,))).steps for n in range(100)]
    last = [each[-1] for each in steps if each]
    cut = [step for step in last if step.emitted <= step.accepted]
    assert len(cut) > 30
    assert all(step.emitted == step.accepted + 1 for each in steps for step in each[:-1])


def test_llama_cpp_cuts_its_counts_and_proposes_no_more_than_there_is_room_for() -> None:
    for n in range(100):
        request = asked(n, max_tokens=10)
        steps = true_answer(request, speculation(acceptance=(0.9,), length=6), llama_cpp.HABITS).steps
        seen = 1
        for step in steps:
            assert step.emitted == step.accepted + 1
            assert step.drafted == min(6, 10 - seen - 1)
            seen += step.emitted


def test_a_lookup_finds_nothing_as_often_as_was_set_and_sglang_fills_up_with_what_is_wrong() -> None:
    how = speculation("ngram", 3, no_proposal=0.25)
    plain = true_answer(asked(max_tokens=4000, ignore_eos=True), how).steps
    assert np.mean([step.drafted == 0 for step in plain]) == pytest.approx(0.25, abs=0.03)
    padded = true_answer(asked(max_tokens=4000, ignore_eos=True), how, sglang.HABITS).steps
    assert {step.drafted for step in padded} == {3}
    assert [step.accepted for step in padded[:-1]] == [step.accepted for step in plain[: len(padded) - 1]]
    always = true_answer(asked(ignore_eos=True), speculation("mtp", 3, no_proposal=0.25)).steps
    assert {step.drafted for step in always} == {3}


def test_a_prompt_that_fills_the_context_cannot_be_answered() -> None:
    assert len(true_answer(asked(prompt_len=4095), speculation()).token_ids) == 1
    with pytest.raises(ValueError, match="no room"):
        true_answer(asked(prompt_len=4096), speculation())


# --- passes -----------------------------------------------------------------------------------------


def test_a_pass_takes_what_the_model_says() -> None:
    config = SimulatorConfig(
        step_ms=7, step_ms_per_token=0.5, step_ms_per_1k_context=3, draft_ms=0.25, prefill_ms_per_1k=11
    )
    decode = Work(verified_tokens=12, context_tokens=2500, draft_length=4)
    assert pass_ms(config, decode) == pytest.approx(7 + 6 + 7.5 + 1)
    assert pass_ms(config, decode._replace(prefill_tokens=3000)) == pytest.approx(21.5 + 33)
    assert pass_ms(config, Work(prefill_tokens=3000)) == pytest.approx(33)


class Walker:
    """A request of so many passes, each of one verified token."""

    def __init__(self, passes: int) -> None:
        self.left = passes
        self.over = False

    def resumes_at(self, now_s: float) -> float:
        return 0.0

    def work(self) -> Work:
        return Work(verified_tokens=1)

    def begin(self) -> None:
        pass

    def compute(self, model_ms: float) -> None:
        self.computed_ms = model_ms

    def send(self, number: int) -> None:
        self.left -= 1
        self.over = self.left == 0


class Clock:
    """Stands still but for sleeping, which takes a little longer than it should."""

    def __init__(self, late_s: float) -> None:
        self.now_s = 100.0
        self.late_s = late_s

    def __call__(self) -> float:
        return self.now_s

    async def sleep(self, delay_s: float) -> None:
        self.now_s += delay_s + (self.late_s if delay_s else 0.0)


async def passes(
    clock: Clock, requests: list[Walker], places: int, monkeypatch: pytest.MonkeyPatch, speed: float = 1.0
) -> Batch:
    """Run a batch until nothing is left in it."""
    config = SimulatorConfig(step_ms=10, step_ms_per_token=0, step_ms_per_1k_context=0, speed=speed)
    made = Batch(config, places, clock, clock.sleep)
    for request in requests:
        made.add(request)

    async def stop() -> None:
        raise asyncio.CancelledError

    monkeypatch.setattr(made, "_until_something_happens", stop)
    with pytest.raises(asyncio.CancelledError):
        await made.run()
    return made


def test_what_the_event_loop_is_late_by_does_not_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(late_s=0.0009)
    load = asyncio.run(passes(clock, [Walker(1000)], 1, monkeypatch)).load
    assert clock.now_s == pytest.approx(100 + 1000 * 0.010 + 0.0009)
    assert (load.passes, load.late, load.model_ms) == (1000, 0, pytest.approx(10_000))


def test_speed_is_how_much_faster_the_model_runs_than_its_own_clock_says(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(0.0)
    load = asyncio.run(passes(clock, [Walker(100)], 1, monkeypatch, speed=4)).load
    assert (clock.now_s, load.model_ms) == (pytest.approx(100 + 100 * 0.010 / 4), pytest.approx(1000))


def test_a_server_that_cannot_keep_up_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    load = asyncio.run(passes(Clock(late_s=0.025), [Walker(10)], 1, monkeypatch)).load
    assert (load.passes, load.late) == (10, 10)
    assert load.max_late_s == pytest.approx(0.025)


def test_requests_share_passes_and_wait_for_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    load = asyncio.run(passes(Clock(0.0), [Walker(5) for _ in range(6)], 6, monkeypatch)).load
    assert (load.passes, load.max_batch) == (5, 6)
    load = asyncio.run(passes(Clock(0.0), [Walker(5) for _ in range(6)], 2, monkeypatch)).load
    assert (load.passes, load.max_batch) == (15, 2)


class Watched(Walker):
    """Notes what happens to it, and when."""

    def __init__(self, passes: int, clock: Clock) -> None:
        super().__init__(passes)
        self.clock = clock
        self.happened: list[tuple[str, float]] = []

    def begin(self) -> None:
        self.happened.append(("begin", self.clock.now_s))

    def compute(self, model_ms: float) -> None:
        super().compute(model_ms)
        self.happened.append(("compute", self.clock.now_s))

    def send(self, number: int) -> None:
        super().send(number)
        self.happened.append((f"send {number}", self.clock.now_s))


def test_a_pass_is_computed_when_it_begins_and_sent_when_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(late_s=0.001)
    only = Watched(2, clock)
    batch = asyncio.run(passes(clock, [only], 1, monkeypatch))
    sent = [pytest.approx(100.011), pytest.approx(100.021)]
    assert only.happened == [("compute", 100.0), ("send 0", sent[0]), ("compute", sent[0]), ("send 1", sent[1])]
    assert only.computed_ms == batch.load.model_ms == pytest.approx(20)
    columns = batch.times.as_json()["passes"]
    assert columns["began_s"] == [100.0, sent[0]]
    assert columns["due_s"] == pytest.approx([100.010, 100.020])
    assert columns["ended_s"] == columns["sent_s"] == sent
    assert columns["model_ms"] == pytest.approx([10, 20])
    assert columns["batch"] == [1, 1]


def interrupted(
    before_end_s: float, late: Watched, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[float], list[int]]:
    """Of a batch to which something comes so long before the end of its first pass: when it was done; batch sizes."""
    done: list[float] = []
    taken: list[float] = []

    def job() -> None:
        done.append(clock.now_s)
        batch.add(late)

    async def sleep(delay_s: float) -> None:
        if not taken:
            await clock.sleep(delay_s - before_end_s)
            taken.append(clock.now_s)
            batch.take(job)
            for _ in range(3):
                await asyncio.sleep(0)
            delay_s = before_end_s
        await clock.sleep(delay_s)

    batch = Batch(SimulatorConfig(step_ms=10, step_ms_per_token=0, step_ms_per_1k_context=0), 2, clock, sleep)

    async def stop() -> None:
        raise asyncio.CancelledError

    async def main() -> None:
        batch.add(Walker(3))
        with pytest.raises(asyncio.CancelledError):
            await batch.run()

    monkeypatch.setattr(batch, "_until_something_happens", stop)
    asyncio.run(main())
    return done, batch.times.as_json()["passes"]["batch"]


def test_what_comes_in_while_a_pass_lasts_is_done_in_it_and_takes_part_in_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(late_s=0.0)
    late = Watched(1, clock)
    assert interrupted(0.004, late, clock, monkeypatch) == ([pytest.approx(100.006)], [1, 2, 1])
    assert [what for what, _ in late.happened] == ["begin", "compute", "send 1"]
    assert late.happened[0][1] == pytest.approx(100.006)  # its answer is there before its first pass


def test_close_to_the_end_of_a_pass_nothing_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(late_s=0.0)
    late = Watched(1, clock)
    assert interrupted(0.001, late, clock, monkeypatch) == ([pytest.approx(100.010)], [1, 2, 1])
    assert [what for what, _ in late.happened] == ["compute", "send 1"]


def test_what_is_kept_of_times_is_bounded() -> None:
    times = Times(most_passes=3, most_pieces=10)
    for number in range(5):
        times.passed(Pass(number, number + 0.5, number + 0.5, number + 0.6, 500.0 * (number + 1), 1))
    for number in range(4):
        timed = Timed(number, f"q/{number}", float(number))
        for piece in range(3):
            timed.sent(number + piece, number + piece + 0.5)
        times.ended(timed)
    kept = times.as_json()
    assert (kept["first_pass"], kept["passes"]["began_s"]) == (2, [2, 3, 4])
    assert [each["number"] for each in kept["requests"]] == [2, 3]
    assert kept["requests"][0] == {
        "number": 2,
        "id": "q/2",
        "arrived_s": 2.0,
        "passes": [2, 3, 4],
        "sent_s": [2.5, 3.5, 4.5],
    }
    assert Times().as_json()["passes"]["due_s"] == []


# --- wire formats: what is emitted is the truth -------------------------------------------------------


class Sink:
    """Keeps what is sent."""

    def __init__(self) -> None:
        self.events: list[bytes] = []
        self.began = self.ended = self.was_reset = False

    def begin(self) -> None:
        self.began = True

    def send(self, events: Sequence[bytes], *, last: bool) -> None:
        assert not self.ended
        assert all(event.startswith(b"data: ") and event.endswith(b"\n\n") for event in events)
        self.events += events
        self.ended = last

    def reset(self) -> None:
        self.was_reset = True

    def data(self) -> list[dict]:
        """The events, without what only says that the stream ends."""
        return [orjson.loads(event[6:]) for event in self.events if event != b"data: [DONE]\n\n"]


def simulation(config: SimulatorConfig, algorithm: str = "mtp", length: int | None = None) -> Simulation:
    made = ServerSettings(engine=config, algorithm=algorithm, draft_length=length, port=0, model="none.gguf")
    return Simulation(made, WIRES[config.speaks], LEXICON, {QUESTION: "math"}, lambda: 0.0)


def ask(simulated: Simulation, config: SimulatorConfig, request: Request) -> Sink:
    """One request, answered to its end."""
    sink = Sink()
    path, body = dialect_of(config).payload(request, "simulated")
    generation = simulated.post(path, orjson.dumps(body), sink)
    assert not isinstance(generation, Reply), generation
    for number in count():
        generation.compute(5.0 * (number + 1))
        generation.send(number)
        if generation.over:
            return sink
    raise AssertionError


def metrics(simulated: Simulation, speaks: str) -> str:
    path = "/prometheus/metrics" if speaks == "tensorrt-llm" else "/metrics"
    return simulated.get(path).body.decode()


def told(simulated: Simulation) -> list[dict]:
    return orjson.loads(simulated.get("/simulator/truth").body)["requests"]


Read = tuple[list[int], list[int], str]
"""Ids, tokens per event, finish reason."""


def read_vllm(data: list[dict], steps: list[Step], length: int) -> Read:
    *chunks, usage = data
    ids = [token_id for chunk in chunks for token_id in chunk["choices"][0]["token_ids"]]
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == len(ids)
    assert chunks[0]["choices"][0]["prompt_token_ids"] is not None
    verified = [step for step in steps if step.drafted]
    if length:
        report = usage["metrics"]["speculative_decoding"]
        assert report.get("per_step_drafted", []) == [step.drafted for step in verified]
        assert report.get("per_step_accepted", []) == [step.accepted for step in verified]
        assert report["num_draft_tokens"] == sum(step.drafted for step in steps)
        assert report["num_accepted_draft_tokens"] == sum(step.accepted for step in steps)
        assert report["num_spec_steps"] == sum(report["acceptance_histogram"]) == len(verified)
        assert len(report["acceptance_histogram"]) == length + 1
    else:
        assert "metrics" not in usage
    text = "".join(chunk["choices"][0]["text"] for chunk in chunks)
    assert text == LEXICON.text(ids).decode()
    return ids, [len(chunk["choices"][0]["token_ids"]) for chunk in chunks], chunks[-1]["choices"][0]["finish_reason"]


def read_sglang(data: list[dict], steps: list[Step], length: int) -> Read:
    counts = [each["meta_info"]["completion_tokens"] for each in data]
    assert all(len(each["output_ids"]) == count for each, count in zip(data, counts, strict=True))
    assert all(b["output_ids"][: len(a["output_ids"])] == a["output_ids"] for a, b in pairwise(data))
    assert data[-1]["text"] == LEXICON.text(data[-1]["output_ids"]).decode()
    meta = data[-1]["meta_info"]
    if length and steps:
        histogram = meta["spec_correct_drafts_histogram"]
        assert histogram == [sum(step.accepted == k for step in steps) for k in range(len(histogram))]
        assert histogram[-1] > 0
        assert meta["spec_verify_ct"] == sum(histogram) == len(steps)
        assert meta["spec_num_correct_drafts"] == sum(step.accepted for step in steps)
        assert meta["spec_num_proposed_drafts"] == sum(step.drafted for step in steps) == length * len(steps)
    else:
        assert "spec_verify_ct" not in meta
    sizes = [b - a for a, b in pairwise([0, *counts])]
    return data[-1]["output_ids"], sizes, meta["finish_reason"]["type"]


def read_tensorrt_llm(data: list[dict], steps: list[Step], length: int) -> Read:
    *chunks, usage = data
    choices = [chunk["choices"][0] for chunk in chunks]
    ids = [token_id for choice in choices for token_id in choice["token_ids"]]
    assert usage["usage"]["completion_tokens"] == len(ids)
    assert choices[-1]["avg_decoded_tokens_per_iter"] == pytest.approx(len(ids) / (1 + len(steps)), rel=1e-6)
    assert len(ids) == round(choices[-1]["avg_decoded_tokens_per_iter"] * (1 + len(steps)))
    assert not any("speculative_decoding" in choice for choice in choices[:-1])
    if report := choices[-1].get("speculative_decoding"):
        verified = [step for step in steps if step.drafted]
        assert report["num_spec_steps"] == sum(report["acceptance_histogram"]) == len(verified)
        assert report["total_draft_tokens"] == sum(step.drafted for step in verified)
        assert report["total_accepted_draft_tokens"] == sum(step.accepted for step in verified)
        assert len(report["acceptance_histogram"]) == length + 1
    return ids, [len(choice["token_ids"]) for choice in choices], choices[-1]["finish_reason"]


def read_llama_cpp(data: list[dict], steps: list[Step], length: int) -> Read:
    *tokens, closing = data
    assert [each["tokens_predicted"] for each in tokens] == list(range(1, len(tokens) + 1))
    assert closing["stop"]
    assert closing["tokens_predicted"] == len(tokens)
    by_clock: dict[float, list[dict]] = {}
    for each in tokens[1:]:
        by_clock.setdefault(each["timings"]["predicted_ms"], []).append(each)
    seen, before = [], (0, 0)
    for group in by_clock.values():
        [counts] = {(each["timings"].get("draft_n", 0), each["timings"].get("draft_n_accepted", 0)) for each in group}
        seen.append(Step(counts[0] - before[0], counts[1] - before[1], len(group)))
        before = counts
    assert seen == steps
    ids = [token_id for each in tokens for token_id in each["tokens"]]
    assert "".join(each["content"] for each in tokens) == LEXICON.text(ids).decode()
    finish_reason = {"eos": "stop", "limit": "length"}[closing["stop_type"]]
    return ids, [1, *(len(group) for group in by_clock.values())], finish_reason


READERS = {
    "llama-cpp": read_llama_cpp,
    "sglang": read_sglang,
    "tensorrt-llm": read_tensorrt_llm,
    "vllm": read_vllm,
}


def counted(speaks: str, text: str) -> tuple[int | None, int | None, int | None, list[int] | None]:
    """(verify steps, drafted, accepted, accepted per position) of a page of metrics, read by hand."""

    def values(name: str) -> list[int]:
        return [int(float(value)) for value in re.findall(rf"^{name}(?:\{{[^}}]*\}})? (\S+)$", text, re.MULTILINE)]

    if speaks == "sglang":
        return *(values("sglang:spec_verify_calls_total") or [None])[:1], None, None, None
    if speaks == "tensorrt-llm":
        drafted = values("trtllm_spec_decode_drafted_tokens_total")
        accepted = values("trtllm_spec_decode_accepted_tokens_total")
        return drafted[0], sum(drafted), sum(accepted), accepted
    head = {"vllm": "vllm", "llama-cpp": "llamacpp"}[speaks] + ":spec_decode_num_"
    totals = [values(f"{head}{name}_total")[0] for name in ("drafts", "draft_tokens", "accepted_tokens")]
    return *totals, values(f"{head}accepted_tokens_per_pos_total")


probabilities = st.sampled_from((0.0, 0.3, 0.7, 0.95, 1.0))
configs = st.builds(
    SimulatorConfig,
    speaks=st.sampled_from(sorted(WIRES)),
    seed=st.integers(0, 5),
    context_length=st.sampled_from((64, 100, 4096)),
    acceptance=st.lists(probabilities, min_size=1, max_size=4).map(tuple),
    category_acceptance=st.sampled_from(({}, {"math": (0.5,)})),
    no_proposal=probabilities,
    mean_output_tokens=st.sampled_from((1.0, 3.0, 20.0, 200.0)),
    request_stats=st.booleans(),
)
requests = st.builds(
    Request,
    id=st.sampled_from((f"{QUESTION}/0", f"{QUESTION}/1", "warm-up/0")),
    prompt_ids=st.lists(st.integers(0, 50_000), min_size=1, max_size=40).map(tuple),
    sampling=st.builds(
        Sampling,
        temperature=st.sampled_from((0.0, 1.0)),
        max_tokens=st.integers(1, 24) | st.just(60),
        seed=st.integers(0, 3),
        ignore_eos=st.booleans(),
    ),
)


def fitting(request: Request, config: SimulatorConfig) -> Request:
    """A request that the engine does not refuse."""
    room = config.context_length - len(request.prompt_ids)
    return replace(request, sampling=replace(request.sampling, max_tokens=min(request.sampling.max_tokens, room)))


@given(configs, st.sampled_from(("none", "ngram", "draft", "mtp")), st.integers(1, 9), st.lists(requests, max_size=3))
@settings(max_examples=150, deadline=None)
def test_streams_reports_and_counters_are_the_truth(
    config: SimulatorConfig, algorithm: str, length: int, asked_for: list[Request]
) -> None:
    simulated = simulation(config, algorithm, length)
    length = 0 if algorithm == "none" else length
    plain = simulation(config, "none")
    every_step: list[Step] = []
    for request in asked_for:
        request = fitting(request, config)
        sink = ask(simulated, config, request)
        truth = told(simulated)[-1]
        steps = [Step(*step) for step in truth["steps"]]
        every_step += steps
        ids, sizes, finish_reason = READERS[config.speaks](sink.data(), steps, length)
        assert sink.ended
        assert len(ids) == truth["num_tokens"]
        assert finish_reason == truth["finish_reason"]
        assert sizes == [1, *(step.emitted for step in steps)]
        assert (ids[-1] == EOS) == (finish_reason == "stop")
        assert truth["prompt_sha256"] == prompt_sha256(request.prompt_ids)
        assert truth["category"] == ("math" if request.id.startswith(QUESTION) else None)
        assert truth["id"] == request.id
        assert all(0 <= step.accepted <= step.drafted <= length for step in steps)
        assert all(step.emitted == step.accepted + 1 for step in steps[:-1])
        without = ask(plain, config, request).data()
        assert READERS[config.speaks](without, [Step(0, 0, 1)] * (len(ids) - 1), 0)[0] == ids
    if length:
        verified = [step for step in every_step if step.drafted]
        positions = [sum(step.accepted > k for step in verified) for k in range(length)]
        num_steps, drafted, accepted, per_position = counted(config.speaks, metrics(simulated, config.speaks))
        assert num_steps == len(verified)
        assert drafted in (None, sum(step.drafted for step in verified))
        assert accepted in (None, sum(step.accepted for step in verified))
        reached = max((step.drafted for step in verified), default=0)
        shown = {"vllm": length, "llama-cpp": reached, "tensorrt-llm": length}.get(config.speaks)
        assert per_position == (None if shown is None else positions[:shown])


@given(configs, st.sampled_from(("none", "ngram", "mtp")), st.integers(1, 9), requests)
@settings(max_examples=150, deadline=None)
def test_the_dialects_read_the_truth_out_of_the_streams(
    config: SimulatorConfig, algorithm: str, length: int, request: Request
) -> None:
    simulated = simulation(config, algorithm, length)
    speaks = dialect_of(config)
    sink = ask(simulated, config, fitting(request, config))
    truth = [Step(*step) for step in told(simulated)[-1]["steps"]]
    chunks, seen = [], 0
    for _, event in events(Exchange(0, 200, [(at, event) for at, event in enumerate(sink.events)])):
        chunk = speaks.parse(event, seen)
        if chunk is not None:
            chunks.append(chunk)
            seen += len(chunk.token_ids)
    drafting = Drafting(0 if algorithm == "none" else length, always_drafts(algorithm))
    counts, _ = speaks.count(chunks, seen, drafting)
    assert seen == told(simulated)[-1]["num_tokens"]
    assert counts is not None
    assert counts.num_steps == len(truth)
    totals = (sum(step.drafted for step in truth), sum(step.accepted for step in truth))
    if counts.origin == "engine":
        padded = config.speaks == "sglang" and not drafting.always  # so what was drafted is not known
        assert (counts.drafted, counts.accepted) == ((None if padded and truth else totals[0]), totals[1])
    if counts.per_step is not None and counts.origin == "engine" and counts.aligned:
        assert list(counts.per_step) == truth
    if counts.emitted is not None:
        assert list(counts.emitted) == [step.emitted for step in truth]


def keys(value: object, path: str = "") -> list[str]:
    """The keys of an event, in order, those of nested objects after them."""
    if isinstance(value, list):
        value = value[0] if value and isinstance(value[0], dict) else {}
    if not isinstance(value, dict):
        return []
    return [each for key, inner in value.items() for each in (f"{path}{key}", *keys(inner, f"{path}{key}."))]


@pytest.mark.parametrize(
    ("speaks", "recording", "request_stats"),
    [
        ("llama-cpp", "eos", False),
        ("sglang", "spec-cumulative", False),
        ("tensorrt-llm", "older", False),
        ("tensorrt-llm", "eos", True),
        ("vllm", "eos", False),
    ],
)
def test_events_have_the_keys_that_the_engines_have(speaks: str, recording: str, request_stats: bool) -> None:
    file = RECORDINGS / speaks / f"{recording}.sse"
    if not file.exists():
        pytest.skip("there is no recording of this engine")
    lines = [line[6:] for line in file.read_bytes().splitlines() if line.startswith(b"data: {")]
    recorded = [orjson.loads(line) for line in lines]
    config = SimulatorConfig(speaks=speaks, request_stats=request_stats)
    sent = ask(simulation(config), config, Request("x/0", (1, 2, 3), Sampling(0.0, 30, 0, ignore_eos=True))).data()
    for at in (0, 1, -2, -1):
        mine, theirs = keys(sent[at]), keys(recorded[at])
        assert mine == [key for key in theirs if key in mine or speaks != "sglang"]  # whose metrics add more


def test_an_engine_that_tells_its_places_tells_those_that_it_has() -> None:
    for speaks, path, key in (
        ("sglang", "/server_info", "max_running_requests"),
        ("tensorrt-llm", "/server_info", "max_batch_size"),
        ("llama-cpp", "/props", "total_slots"),
    ):
        page = simulation(SimulatorConfig(speaks=speaks, max_batch=3)).get(path)
        assert orjson.loads(page.body)[key] == 3


# --- faults, on every wire ----------------------------------------------------------------------------


def failing(speaks: str, kind: str, **changes: object) -> tuple[Simulation, Sink, list[dict]]:
    """An answer of 30 tokens that suffers a fault, and the events of the same one without."""
    config = SimulatorConfig(speaks=speaks, faults=(Fault(kind=kind, request=1, **changes),))
    simulated = simulation(config)
    request = Request(f"{QUESTION}/0", (1, 2, 3), Sampling(0.0, 30, 0, ignore_eos=True))
    well, ill = (ask(simulated, config, request) for _ in range(2))
    return simulated, ill, well.data()


def same(some: list[dict], others: list[dict]) -> bool:
    """Whether events are the same but for what names the request."""

    def plain(event: dict) -> dict:
        meta = {**event.get("meta_info", {}), "id": None}
        return {**event, "id": None, "created": None, "meta_info": meta}

    return [plain(event) for event in some] == [plain(event) for event in others]


@everywhere
def test_a_truncated_stream_ends_in_order_without_its_last_events(speaks: str) -> None:
    simulated, ill, well = failing(speaks, "truncate")
    assert ill.ended
    assert 0 < len(ill.data()) < len(well)
    assert same(ill.data(), well[: len(ill.data())])
    assert not any(event == b"data: [DONE]\n\n" for event in ill.events)
    assert told(simulated)[1]["faults"] == ["truncate"]


@everywhere
def test_the_last_event_can_come_early(speaks: str) -> None:
    _, ill, well = failing(speaks, "early-usage")
    assert ill.ended
    assert same(ill.data(), [*well[:-2], well[-1], well[-2]])
    assert (ill.events[-1] == b"data: [DONE]\n\n") == (speaks != "llama-cpp")


@everywhere
def test_merged_events_hold_the_same_tokens(speaks: str) -> None:
    simulated, ill, well = failing(speaks, "merge", steps=3)
    steps = [Step(*step) for step in told(simulated)[1]["steps"]]
    ids, sizes, finish_reason = READERS[speaks](ill.data(), steps, 3)
    assert (ids, finish_reason) == (READERS[speaks](well, steps, 3)[0], "length")
    merged = [1, *(sum(step.emitted for step in steps[at : at + 3]) for at in range(0, len(steps), 3))]
    assert sizes == (merged if speaks != "llama-cpp" else [1, *(step.emitted for step in steps)])


@everywhere
def test_a_malformed_event_is_no_json(speaks: str) -> None:
    _, ill, well = failing(speaks, "malformed")
    bad = [at for at, event in enumerate(ill.events) if not is_json(event)]
    assert len(bad) == 1
    assert 0 < bad[0] < len(well) - 1
    assert ill.ended


def is_json(event: bytes) -> bool:
    try:
        orjson.loads(event[6:])
    except orjson.JSONDecodeError:
        return event == b"data: [DONE]\n\n"
    return True


@everywhere
def test_a_connection_is_reset_in_the_middle(speaks: str) -> None:
    simulated, ill, well = failing(speaks, "reset")
    assert ill.was_reset
    assert not ill.ended
    assert 0 < len(ill.events) < len(well)
    assert told(simulated)[1]["aborted"]
    assert told(simulated)[1]["finish_reason"] is None


@everywhere
def test_wrong_counters_are_off_by_one(speaks: str) -> None:
    simulated, _, _ = failing(speaks, "wrong-counters")
    verified = [Step(*step) for each in told(simulated) for step in each["steps"] if step[0]]
    num_steps, drafted, accepted, _ = counted(speaks, metrics(simulated, speaks))
    assert num_steps == len(verified) + 1
    assert drafted in (None, sum(step.drafted for step in verified) + 1)
    assert accepted in (None, sum(step.accepted for step in verified))


@everywhere
@pytest.mark.parametrize("limit", [1, 2])
@pytest.mark.parametrize("kind", ["truncate", "early-usage", "merge", "malformed", "reset"])
def test_faults_strike_the_shortest_answers_as_well(speaks: str, kind: str, limit: int) -> None:
    config = SimulatorConfig(speaks=speaks, faults=(Fault(kind=kind),))
    request = Request(f"{QUESTION}/0", (1, 2, 3), Sampling(0.0, limit, 0))
    simulated = simulation(config)
    sink = ask(simulated, config, request)
    whole = ask(simulation(config.model_copy(update={"faults": ()})), config, request)
    assert sink.was_reset == (kind == "reset")
    assert sink.ended == (kind != "reset")
    [entry] = told(simulated)
    assert (entry["aborted"], entry["finish_reason"]) == ((True, None) if kind == "reset" else (False, "length"))
    nothing_to_spoil = kind == "merge" or (kind == "early-usage" and len(whole.data()) == 1)
    assert (sink.events == whole.events) == nothing_to_spoil


@everywhere
def test_a_request_can_fail_with_http_500(speaks: str) -> None:
    config = SimulatorConfig(speaks=speaks, faults=(Fault(kind="http-5xx", request=0),))
    simulated = simulation(config)
    request = Request(f"{QUESTION}/0", (1, 2, 3), Sampling(0.0, 5, 0))
    path, body = dialect_of(config).payload(request, "simulated")
    reply = simulated.post(path, orjson.dumps(body), Sink())
    assert isinstance(reply, Reply)
    assert reply.status == 500
    assert "made to fail" in str(orjson.loads(reply.body))
    assert told(simulated)[0]["steps"] == []
    assert len(ask(simulated, config, request).data()) > 0


@everywhere
def test_a_client_that_hangs_up_while_a_pass_lasts_gets_nothing_of_it(speaks: str) -> None:
    config = SimulatorConfig(speaks=speaks)
    simulated, sink = simulation(config), Sink()
    path, body = dialect_of(config).payload(Request("q/0", (1, 2, 3), Sampling(0.0, 30, 0, ignore_eos=True)), "m")
    generation = simulated.post(path, orjson.dumps(body), sink)
    for number in range(3):
        generation.compute(float(number))
        generation.send(number)
    sent = list(sink.events)
    generation.compute(3.0)
    generation.abort()
    generation.send(3)
    assert sink.events == sent
    [entry] = told(simulated)
    assert (entry["aborted"], len(entry["steps"])) == (True, 2)
    assert counted(speaks, metrics(simulated, speaks))[0] in (None, 0, 2)  # 0 where only whole answers are counted
    [timed] = orjson.loads(simulated.get("/simulator/times").body)["requests"]
    assert timed["passes"] == [0, 1, 2]


# --- refusals -----------------------------------------------------------------------------------------


@everywhere
def test_a_prompt_that_does_not_fit_is_refused_as_the_engine_refuses_it(speaks: str) -> None:
    config = SimulatorConfig(speaks=speaks, context_length=64)
    request = Request(f"{QUESTION}/0", tuple(range(64)), Sampling(0.0, 5, 0))
    path, body = dialect_of(config).payload(request, "simulated")
    reply = simulation(config).post(path, orjson.dumps(body), Sink())
    assert isinstance(reply, Reply)
    assert reply.status == (200 if speaks == "sglang" else 400)
    assert re.search(rb"context|max_seq_len", reply.body)
    assert (b"[DONE]" in reply.body) == (speaks == "sglang")


@everywhere
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"prompt": "text", "input_ids": "text", "stream": true}',
        b'{"prompt": [-1], "input_ids": [-1], "stream": true}',
        b'{"prompt": [1.5], "input_ids": [true], "stream": true}',
        b'{"prompt": [1], "max_tokens": 0, "n_predict": 0, "input_ids": [1], '
        b'"sampling_params": {"max_new_tokens": 0}, "stream": true}',
    ],
)
def test_a_body_that_is_no_request_is_refused(speaks: str, body: bytes) -> None:
    simulated = simulation(SimulatorConfig(speaks=speaks))
    reply = simulated.post(WIRES[speaks].COMPLETION, body, Sink())
    assert isinstance(reply, Reply)
    assert reply.status == 400
    orjson.loads(reply.body)


@everywhere
def test_only_streams_are_served(speaks: str) -> None:
    simulated = simulation(SimulatorConfig(speaks=speaks))
    reply = simulated.post(WIRES[speaks].COMPLETION, b'{"prompt": [1], "input_ids": [1]}', Sink())
    assert isinstance(reply, Reply)
    assert b"only streams" in reply.body
