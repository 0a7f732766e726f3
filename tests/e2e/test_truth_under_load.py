"""What is set in the simulator comes out of the report, with 1, 64 and 512 streams, and wherever requests queue.

The simulator stamps what it does with the clock that our client has, so that a busy machine moves both: what is
compared with it is bounded by how late the client says that it was. With the step-time model itself only passes are
compared that ended on time.
"""

import heapq
from collections import deque
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
from command import speed_bench
from live_server import live_server
from small_editions import write_edition
from timed_run import FloatArray, TimedRun, Told, arrivals_of, page, pieces_of, timed_run

from speed_bench.config import resolve
from speed_bench.models import EMBEDDED_MODEL
from speed_bench.records import Lateness
from speed_bench.run_scores import score_folder
from speed_bench.runner.journal import read_records
from speed_bench.scores import Distribution

pytestmark = pytest.mark.long

CONFIG = "throughput_1k"
ACCEPTANCE = {"low_entropy": [0.9, 0.8, 0.7], "mixed": [0.7, 0.6, 0.5], "high_entropy": [0.5, 0.4, 0.3]}
LATE_S = 0.002
"""What the simulator calls late."""
MEDIAN_S, P99_S = 0.002, 0.025
"""By how much stamps of client and simulator may differ, besides what the client says that it was late by."""
LOADS = {
    1: {
        "num_rows": 24,
        "engine.step_ms": 6,
        "engine.step_ms_per_token": 1.0,
        "engine.step_ms_per_1k_context": 20.0,
        "engine.draft_ms": 0.7,
        "engine.prefill_ms_per_1k": 400,
    },
    64: {
        "num_rows": 300,
        "engine.step_ms": 10,
        "engine.step_ms_per_token": 0.03,
        "engine.step_ms_per_1k_context": 0.3,
        "engine.draft_ms": 0.3,
        "engine.prefill_ms_per_1k": 5,
    },
    512: {
        "num_rows": 900,
        "engine.step_ms": 45,
        "engine.step_ms_per_token": 0.004,
        "engine.step_ms_per_1k_context": 0.03,
        "engine.draft_ms": 1.0,
        "engine.prefill_ms_per_1k": 2,
    },
}
"""By the number of streams: how much there is to do, and the step-time model."""

Edition = Callable[[int], Path]


@pytest.fixture(scope="module")
def edition(tmp_path_factory: pytest.TempPathFactory) -> Edition:
    """Makes editions of so many short rows, in three categories, every fifth row with two turns."""
    return lambda num_rows: write_edition(tmp_path_factory.mktemp("edition"), (CONFIG,), num_rows=num_rows)


@pytest.fixture(scope="module")
def measure(edition: Edition, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., TimedRun]:
    """Runs all rows of an edition on a simulator that the run starts."""

    def timed(num_rows: int, **flags: Any) -> TimedRun:
        rows = {"edition": str(edition(num_rows)), "config": CONFIG, "prompts_per_stream": None}
        return timed_run(tmp_path_factory.mktemp("runs") / "run", **rows, **flags)

    return timed


@pytest.fixture(scope="module", params=LOADS, ids=lambda streams: f"{streams}-streams")
def run(request: pytest.FixtureRequest, measure: Callable[..., TimedRun]) -> TimedRun:
    """A closed loop, shared by the tests below."""
    streams = request.param
    return measure(
        **LOADS[streams],
        concurrency=streams,
        max_tokens=40,
        **{"engine.mean_output_tokens": 60, "engine.category_acceptance": ACCEPTANCE, "engine.seed": 7},
    )


# --- acceptance -------------------------------------------------------------------------------------


def test_every_decode_step_is_the_truth(run: TimedRun) -> None:
    assert run.records.failures == ()
    assert len(run.told) == run.config.concurrency + len(run.records.turns)  # each stream is warmed up with one
    for turn, told in run.pairs:
        assert turn.counts.per_step == told.steps
        assert (turn.prompt_len, turn.num_output_tokens) == (told.prompt_len, told.tokens_until[-1])
    assert run.scores.reconciliation.equal is True


def test_the_acceptance_of_each_category_is_the_truth(run: TimedRun) -> None:
    scores = run.scores.acceptance.categories
    assert set(scores) == set(ACCEPTANCE)
    for category, rates in ACCEPTANCE.items():
        conversations: dict[str, list[Told]] = {}
        for turn, told in run.pairs:
            if turn.category == category:
                conversations.setdefault(turn.question_id, []).append(told)
        steps = [[step for told in turns for step in told.steps] for turns in conversations.values()]
        lengths = [fmean(step.emitted for step in each) for each in steps if each]
        assert scores[category].acceptance_length.value == pytest.approx(fmean(lengths), rel=1e-12)
        assert scores[category].acceptance_length.n == len(lengths)
        for cell, rate in zip(scores[category].conditional_acceptance_rate, rates, strict=True):
            assert cell.value == pytest.approx(rate, abs=4.5 * np.sqrt(rate * (1 - rate) / cell.n))


# --- time: the simulator keeps to its model -----------------------------------------------------------


def test_every_pass_takes_what_the_step_time_model_says(run: TimedRun) -> None:
    engine, num_passes = run.config.engine, len(run.passes["due_s"])
    prefilled, verified, context, longest, batch = np.zeros((5, num_passes))
    for told in run.told:
        assert len(told.passes) == 1 + len(told.steps)
        for piece, number in enumerate(told.passes):
            batch[number] += 1
            if piece == 0:
                prefilled[number] += told.prompt_len
            else:
                drafted = told.steps[piece - 1].drafted
                verified[number] += drafted + 1
                context[number] += told.prompt_len + told.tokens_until[piece - 1]
                longest[number] = max(longest[number], drafted)
    decode = (
        engine.step_ms
        + engine.step_ms_per_token * verified
        + engine.step_ms_per_1k_context * context / 1000
        + engine.draft_ms * longest
    )
    expected_ms = np.where(verified > 0, decode, 0.0) + engine.prefill_ms_per_1k * prefilled / 1000
    assert np.diff(run.passes["model_ms"], prepend=0.0) == pytest.approx(expected_ms, abs=1e-6)
    assert run.passes["batch"].tolist() == batch.tolist()
    assert batch.max() == run.config.concurrency
    assert (np.diff(run.passes["due_s"]) >= expected_ms[1:] / 1000 - 1e-6).all()


def test_a_request_is_prefilled_by_the_first_pass_that_begins_after_it_came(run: TimedRun) -> None:
    for told in run.told:
        assert told.passes[0] == np.searchsorted(run.passes["began_s"], told.arrived_s)


# --- time: the report says what the simulator says ----------------------------------------------------


def bounds(run: TimedRun) -> tuple[float, float]:
    """By how much the median and the 99th percentile of what is measured may be off."""
    late = lateness(run)
    return MEDIAN_S + late.p99_s, P99_S + late.max_s


def lateness(run: TimedRun) -> Lateness:
    """What the client says of itself."""
    [segment] = run.records.segments
    assert segment.lateness is not None
    return segment.lateness


def compare(reported: Distribution, truth: FloatArray | list[float], run: TimedRun) -> None:
    """A distribution of the report with the times that the simulator has for the same things."""
    median_s, p99_s = bounds(run)
    assert reported.n == len(truth)
    assert reported.p50 == pytest.approx(np.percentile(truth, 50), abs=median_s)
    assert reported.p99 == pytest.approx(np.percentile(truth, 99), abs=p99_s)
    assert reported.value == pytest.approx(np.mean(truth), abs=p99_s / 2)


def test_what_is_read_is_stamped_when_it_was_sent(run: TimedRun) -> None:
    median_s, p99_s = bounds(run)
    stamps = [pair for turn, told in run.pairs for pair in pieces_of(turn, told)]
    late_s = np.array([at_s + run.offset_s - sent_s for at_s, sent_s in stamps])
    assert np.median(late_s) < median_s
    assert np.percentile(late_s, 99) < p99_s


def test_ttft_is_the_truth(run: TimedRun) -> None:
    truth = [told.sent_s[0] - turn.sent_at_s - run.offset_s for turn, told in run.pairs]
    compare(run.scores.serving.ttft_s, truth, run)


def test_ttft_is_the_wait_for_the_running_pass_and_the_prefill(run: TimedRun) -> None:
    passes, model_s = run.passes, np.diff(run.passes["model_ms"], prepend=0.0) / 1000
    off_s = []
    for turn, told in run.pairs:
        first = told.passes[0]
        if is_on_time(run)[first - 1 : first + 1].all():
            joined_s = max(told.arrived_s, passes["due_s"][first - 1])  # it waits for the pass that runs
            in_its_turn_s = told.sent_s[0] - passes["ended_s"][first]  # one of the batch is the last that is sent
            off_s.append(turn.arrivals[0][0] + run.offset_s - in_its_turn_s - joined_s - model_s[first])
    median_s, p99_s = bounds(run)
    assert not off_s or np.median(off_s) < median_s + LATE_S
    assert not off_s or np.percentile(off_s, 99) < p99_s + LATE_S


def is_on_time(run: TimedRun) -> np.ndarray:
    """Of every pass, whether it ended no later than what counts as late."""
    return run.passes["ended_s"] - run.passes["due_s"] <= LATE_S


def sent_spans(run: TimedRun) -> list[tuple[FloatArray, list[int]]]:
    """Of every turn: gaps between its reads, by the simulator's stamps, and the tokens of each read but the first."""
    return [
        (np.diff([sent_s for _, sent_s in arrivals_of(turn, told)]), [num for _, num in turn.arrivals[1:]])
        for turn, told in run.pairs
    ]


def about(truth: float, num_gaps: float, run: TimedRun) -> object:
    """A mean of gaps: what the first and the last stamp of a turn are off by is shared among all between them."""
    return pytest.approx(truth, abs=0.01 * truth + lateness(run).max_s / num_gaps)


def test_the_time_of_a_step_is_the_truth(run: TimedRun) -> None:
    serving, gaps = run.scores.serving, [gaps for gaps, _ in sent_spans(run)]
    compare(serving.step_gap_s, np.concatenate(gaps), run)
    assert serving.step_gap_s.value == about(np.concatenate(gaps).mean(), fmean(map(len, gaps)), run)

    ours_s, model_s = [], []
    for turn, told in run.pairs:
        first, last = told.passes[0], told.passes[-1]
        if last > first and is_on_time(run)[[first, last]].all():
            ours_s.append(turn.arrivals[-1][0] - turn.arrivals[0][0])
            model_s.append((run.passes["model_ms"][last] - run.passes["model_ms"][first]) / 1000)
    assert not ours_s or fmean(ours_s) == about(fmean(model_s), 1, run)


def test_the_time_of_a_token_is_the_truth(run: TimedRun) -> None:
    serving, spans = run.scores.serving, sent_spans(run)
    itl_s = np.concatenate([np.repeat(gaps / sizes, sizes) for gaps, sizes in spans if sizes])
    compare(serving.itl_s, itl_s, run)
    num_tokens = fmean(sum(sizes) for _, sizes in spans)
    assert serving.itl_s.value == about(itl_s.mean(), num_tokens, run)
    tpot_s = [gaps.sum() / sum(sizes) for gaps, sizes in spans if sizes]
    assert serving.tpot_s.n == len(tpot_s)
    assert serving.tpot_s.value == about(fmean(tpot_s), num_tokens / 4, run)  # short turns count as much as long ones
    assert serving.tpot_s.p50 == about(float(np.median(tpot_s)), num_tokens / 2, run)
    assert serving.user_tps.n == len(tpot_s)
    assert 1 / serving.user_tps.p50 == about(float(np.median(tpot_s)), num_tokens / 2, run)


def test_the_time_of_an_answer_is_the_truth(run: TimedRun) -> None:
    e2e_s = [told.sent_s[-1] - turn.sent_at_s - run.offset_s for turn, told in run.pairs]
    compare(run.scores.serving.e2e_s, e2e_s, run)


def test_output_tps_is_the_truth(run: TimedRun) -> None:
    num_tokens = sum(told.tokens_until[-1] for _, told in run.pairs)
    began_s = min(turn.sent_at_s for turn, _ in run.pairs) + run.offset_s
    span_s = max(told.sent_s[-1] for _, told in run.pairs) - began_s
    late = lateness(run).max_s / span_s
    assert run.scores.serving.output_tps.value == pytest.approx(num_tokens / span_s, rel=0.01 + late)
    if run.config.concurrency > 1 and is_on_time(run)[-1]:  # then it was never idle
        first = min(told.passes[0] for _, told in run.pairs)
        model_s = (run.passes["model_ms"][-1] - run.passes["model_ms"][first - 1]) / 1000
        assert run.scores.serving.output_tps.value == pytest.approx(num_tokens / model_s, rel=0.02 + late)


# --- queueing -----------------------------------------------------------------------------------------

STEADY = {
    "algorithm": "none",
    "max_tokens": 20,
    "ignore_eos": True,
    "engine.step_ms": 10,
    "engine.step_ms_per_token": 0,
    "engine.step_ms_per_1k_context": 0,
    "engine.prefill_ms_per_1k": 5,
}
"""20 passes of 10 ms each, and one that is a little longer."""


def first_passes(requests: list[Told], began_s: FloatArray, places: int) -> list[int]:
    """Which pass prefills each request, when they take their places in the order in which they came."""
    queue, found = deque(sorted(requests, key=lambda told: told.number)), {}
    leave: list[int] = []
    for number, at_s in enumerate(began_s):
        while leave and leave[0] <= number:
            heapq.heappop(leave)
        while queue and len(leave) < places and queue[0].arrived_s <= at_s:
            told = queue.popleft()
            found[told.number] = number
            heapq.heappush(leave, number + 1 + len(told.steps))
    return [found[told.number] for told in requests]


def waiting_in_the_engine(told: Told, run: TimedRun) -> int:
    """Passes that began without a request that was there."""
    return told.passes[0] - int(np.searchsorted(run.passes["began_s"], told.arrived_s))


def test_requests_that_wait_for_a_place_in_the_engine_have_a_long_ttft(measure: Callable[..., TimedRun]) -> None:
    run = measure(120, **STEADY, concurrency=32, **{"engine.max_batch": 8})
    assert run.pages["load"]["max_batch"] == 8
    assert [told.passes[0] for told in run.told] == first_passes(run.told, run.passes["began_s"], 8)
    truth = [told.sent_s[0] - turn.sent_at_s - run.offset_s for turn, told in run.pairs]
    compare(run.scores.serving.ttft_s, truth, run)
    waits = [waiting_in_the_engine(told, run) for _, told in run.pairs]
    assert np.median(waits) >= 40  # for 24 others, 8 at a time, 20 passes each
    assert run.scores.serving.ttft_s.p50 > 0.4
    assert run.scores.serving.client_wait_s.value is None
    compare(run.scores.serving.step_gap_s, np.concatenate([gaps for gaps, _ in sent_spans(run)]), run)


@pytest.mark.parametrize(("streams", "places"), [(8, 8), (160, 8)], ids=["at-the-client", "in-the-engine"])
def test_an_open_loop_waits_where_it_is_said_to(measure: Callable[..., TimedRun], streams: int, places: int) -> None:
    """60 conversations a second, of which 8 at once take at least 0.2 s each: 40 a second at most."""
    load = {"arrivals": "constant", "rate": 60.0, "concurrency": streams, "engine.max_batch": places}
    run = measure(150, **STEADY, **load)
    serving, (median_s, _) = run.scores.serving, bounds(run)
    assert [told.passes[0] for told in run.told] == first_passes(run.told, run.passes["began_s"], places)
    truth = [told.sent_s[0] - turn.start_s - run.offset_s for turn, told in run.pairs]
    compare(serving.ttft_s, truth, run)

    firsts = sorted((turn for turn, _ in run.pairs if turn.id.endswith("/0")), key=lambda turn: turn.start_s)
    assert [turn.scheduled_at_s for turn in firsts] == pytest.approx([n / 60 for n in range(150)], abs=1e-6)
    in_engine = np.array([waiting_in_the_engine(told, run) for _, told in run.pairs])
    at_client = np.array([turn.sent_at_s - turn.start_s for turn in firsts])
    if streams == places:
        assert in_engine.max() == 0
        assert np.median(at_client) > 0.3
    else:
        assert np.median(in_engine) > 30
        assert np.median(at_client) < median_s
    assert serving.ttft_s.p50 > 0.3
    compare(serving.client_wait_s, [turn.sent_at_s - turn.start_s for turn, _ in run.pairs], run)


def test_a_server_with_fewer_places_than_there_are_streams_is_measured_as_it_is(
    edition: Edition, tmp_path: Path
) -> None:
    rows = {"edition": str(edition(60)), "config": CONFIG, "prompts_per_stream": None}
    flags = {**rows, **STEADY, "concurrency": 4, "engine.name": "simulator"}
    with live_server(tmp_path / "server", **flags) as url:
        told = (
            "--model",
            EMBEDDED_MODEL.key,
            "--algorithm",
            "none",
            "--max-tokens",
            20,
            "--set",
            "ignore_eos=true",
            "--no-baseline",
        )
        where = ("--edition", rows["edition"], "--config", CONFIG, "--set", "prompts_per_stream=null")
        out = tmp_path / "run"
        speed_bench("run", "--engine", "simulator", "--url", url, *told, *where, "--concurrency", 16, "--out", out)
        pages = {name: page(url, name) for name in ("truth", "times", "load")}
    config, _ = resolve({**flags, "concurrency": 16, "engine.url": url})
    run = TimedRun(config, read_records(out), score_folder(out), pages)
    assert pages["load"]["max_batch"] == 4
    assert [told.passes[0] for told in run.told] == first_passes(run.told, run.passes["began_s"], 4)
    truth = [told.sent_s[0] - turn.sent_at_s - run.offset_s for turn, told in run.pairs]
    compare(run.scores.serving.ttft_s, truth, run)
    assert np.median([waiting_in_the_engine(told, run) for _, told in run.pairs]) >= 40
