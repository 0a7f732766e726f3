"""What a load does to the numbers of a run: when a latency begins, what is steady, what kept an SLO, what it cost."""

import random
from dataclasses import replace

import pytest
from records import run_of, steps_of, turn

from speed_bench.client_scores import client_scores
from speed_bench.config import resolve
from speed_bench.goodput import time_at_percentile
from speed_bench.records import ClientUse, Energy, Lateness, RunRecords, Segment
from speed_bench.scores import Distribution, Load, SloLimit
from speed_bench.scoring import load_of, score
from speed_bench.types import Failure, TurnRecord

OPEN = Load(arrivals="constant", concurrency=4, rate=1.0)
LATE = Lateness(*[0.0003] * 5)


def due(name: str, due_s: float, sent_s: float, num_steps: int = 2, **changes) -> TurnRecord:
    """A turn of 1 + 2·steps tokens: the first comes 1 s after it was sent, the others 0.5 s apart."""
    return turn(name, steps_of(*[1] * num_steps), at_s=sent_s, scheduled_at_s=due_s, **changes)


def open_run(num: int = 24, wait_s: float = 0.0, **segment) -> RunRecords:
    """A conversation every second, which waits at the client and takes 2 s."""
    turns = [
        due(f"q{n:02}/0", float(n), n + wait_s, slot=n % 4, category="math" if n % 2 else "qa") for n in range(num)
    ]
    return run_of(*turns, **{"load_ended_at_s": float(num - 1), **segment})


def failed(name: str, at_s: float = 1.0, **changes) -> Failure:
    return replace(Failure(name, "math", 0, 0, "request", "reset", at_s), **changes)


# Where a latency begins


def test_in_an_open_loop_latencies_begin_when_a_turn_was_due():
    run = run_of(due("a/0", 0.0, 0.0), due("b/0", 1.0, 1.0), due("c/0", 2.0, 5.0))
    serving = score(run, load=OPEN).serving
    assert (serving.ttft_s.p50, serving.ttft_s.p99) == (1.0, pytest.approx(3.94))  # 1, 1, 4
    assert serving.e2e_s.value == pytest.approx((2 + 2 + 5) / 3)
    assert (serving.tpot_s.value, serving.user_tps.value) == (0.25, 4.0)
    assert serving.output_tps.value == 15 / 7.0
    assert (serving.client_wait_s.value, serving.client_wait_s.p50, serving.client_wait_s.n) == (1.0, 0.0, 3)


def test_the_span_of_output_tps_begins_with_the_first_turn_that_was_due_though_it_was_sent_later():
    assert score(run_of(due("a/0", 0.0, 3.0)), load=OPEN).serving.output_tps.value == 5 / 5.0


def test_a_server_that_stalls_is_seen_by_the_turns_that_were_due_meanwhile():
    stall = [due(f"q{n}/0", float(n), max(float(n), 10.0)) for n in range(20)]
    open_loop = score(run_of(*stall), load=OPEN).serving.ttft_s
    as_sent = score(run_of(*[replace(each, scheduled_at_s=None) for each in stall])).serving.ttft_s
    assert (as_sent.p50, as_sent.p99) == (1.0, 1.0)
    assert (open_loop.p50, open_loop.p99) == (pytest.approx(1.5), pytest.approx(10.81))


def test_what_an_engine_was_busy_with_begins_when_it_was_sent():
    waits = [due("a/0", 0.0, 0.0), due("b/0", 1.0, 2.5, category="qa")]  # b was due while a ran, and sent after it
    categories = score(run_of(*waits), load=OPEN).acceptance.categories
    assert [categories[name].output_tps.value for name in ("math", "qa")] == [2.5, 2.5]


def test_in_a_closed_loop_nothing_waits_at_the_client():
    cell = score(run_of(turn("a/0", steps_of(1)))).serving.client_wait_s
    assert (cell.value, cell.p50, cell.n) == (None, None, 0)
    assert "closed loop" in cell.reason


def test_turns_that_were_sent_when_they_were_due_have_the_numbers_of_a_closed_loop():
    run = open_run()
    same = replace(run, turns=tuple(replace(each, scheduled_at_s=None) for each in run.turns))
    ours, theirs = (score(each).serving.model_dump() for each in (run, same))
    for name in ("user_tps", "ttft_s", "itl_s", "tpot_s", "e2e_s", "step_gap_s", "isl", "osl", "num_output_tokens"):
        assert ours[name] == theirs[name]
    assert ours["output_tps"]["value"] == theirs["output_tps"]["value"]
    assert (ours["client_wait_s"]["value"], ours["client_wait_s"]["n"]) == (0.0, 24)


def test_the_order_of_the_records_does_not_matter_to_a_load():
    limits = (SloLimit(term="e2e_s", percentile=90, limit_s=2.0),)
    load = OPEN.model_copy(update={"slo": limits, "num_gpus": 2, "warmup_s": 2.0})
    run = replace(open_run(wait_s=0.2), failures=(failed("q90/0", 3.0), failed("q91/0", 15.0)))
    turns, failures = random.Random(1).sample(run.turns, len(run.turns)), run.failures[::-1]
    assert score(replace(run, turns=tuple(turns), failures=failures), load=load) == score(run, load=load)


# Steady state


def test_an_open_loop_is_steady_after_its_warm_up_until_the_last_arrival():
    run = open_run()
    found = score(run, load=OPEN.model_copy(update={"warmup_s": 5.0})).serving
    assert (found.steady.span_s, found.steady.num_turns) == (18.0, 18)
    assert found.steady_output_tps.value == 5 * 18 / 18.0
    assert found.output_tps.value == 5 * 24 / 25.0
    ramped = score(run, load=OPEN.model_copy(update={"ramp_up_s": 8.0})).serving
    assert ramped.steady.span_s == 15.0


def test_a_steady_turn_is_one_that_began_in_the_span_however_long_it_took():
    slow = due("q99/0", 22.5, 22.5, num_steps=40)
    early = due("q98/0", 4.0, 4.5, num_steps=3)
    run = open_run()
    found = score(replace(run, turns=(*run.turns, slow, early)), load=OPEN.model_copy(update={"warmup_s": 5.0})).serving
    assert found.steady.num_turns == 19
    assert found.steady.e2e_s.value == pytest.approx((18 * 2 + 21) / 19)
    assert found.steady.ttft_s.p99 == 1.0


def test_an_open_loop_too_short_to_be_steady_says_so_and_has_no_steady_block():
    found = score(open_run(), load=OPEN.model_copy(update={"warmup_s": 15.0})).serving
    assert (found.steady, found.steady_output_tps.value) == (None, None)
    assert "less than 10 s" in found.steady_output_tps.reason


def busy(num: int, num_streams: int = 1, **segment) -> RunRecords:
    """Streams that are never free: turns of 2 s and 5 tokens, one after the other."""
    each = range(num)
    turns = [
        turn(f"s{stream}n{n:02}/0", steps_of(1, 1), at_s=2.0 * n + stream, slot=stream)
        for stream in range(num_streams)
        for n in each
    ]
    return run_of(*turns, **segment)


def test_a_closed_loop_is_steady_until_its_time_is_over():
    assert score(busy(12)).serving.steady.span_s == 24.0 - 1.0
    timed = score(busy(12, load_ended_at_s=17.0)).serving
    assert timed.steady.span_s == 16.0
    assert timed.steady_output_tps.value == (5 * 8 - 1 + 1) / 16.0
    assert score(busy(12, load_ended_at_s=10.5)).serving.steady is None


def test_streams_that_begin_later_are_waited_for_and_those_that_never_began_leave_no_steady_state():
    ramped = score(busy(12, num_streams=2), load=Load(concurrency=2, ramp_up_s=2.0)).serving
    assert ramped.steady.span_s == 24.0 - 2.0
    short = score(busy(12, num_streams=2), load=Load(concurrency=3)).serving
    assert short.steady is None
    assert "all 3 streams" in short.steady_output_tps.reason


# Lengths, and GPUs


def test_input_and_output_tokens_are_those_of_the_turns():
    turns = [turn("a/0", steps_of(3), prompt_len=10), turn("b/0", steps_of(1, 1), category="qa", prompt_len=30)]
    scores = score(run_of(*turns))
    assert (scores.serving.isl.value, scores.serving.isl.p50, scores.serving.isl.n) == (20.0, 20.0, 2)
    assert scores.serving.osl.value == 5.0
    assert [scores.acceptance.categories[name].isl.value for name in ("math", "qa")] == [10.0, 30.0]
    assert scores.acceptance.overall.osl.value == 5.0


def test_output_tps_per_gpu_is_divided_with_its_interval_and_unknown_where_their_number_is():
    serving = score(open_run(), load=OPEN.model_copy(update={"num_gpus": 4})).serving
    for name in ("output_tps", "steady_output_tps"):
        whole, per_gpu = getattr(serving, name), getattr(serving, f"{name}_per_gpu")
        assert (per_gpu.value, per_gpu.low, per_gpu.high) == (whole.value / 4, whole.low / 4, whole.high / 4)
    unknown = score(open_run(), load=OPEN).serving.output_tps_per_gpu
    assert unknown.value is None
    assert "--gpus" in unknown.reason


@pytest.mark.parametrize(
    ("flags", "num_gpus"),
    [
        ({}, None),
        ({"engine.name": "vllm", "model": "m", "engine.tensor_parallel": 4, "engine.data_parallel": 2}, 8),
        ({"engine.name": "vllm", "engine.url": "http://h:1", "algorithm": "none", "engine.tensor_parallel": 4}, None),
        ({"engine.name": "vllm", "model": "m", "num_gpus": 3}, 3),
    ],
)
def test_the_load_of_a_config_knows_the_gpus_of_an_engine_that_the_run_starts(flags, num_gpus):
    config, _ = resolve({"concurrency": 8, "slo": ["ttft_s:p95=0.5"], **flags})
    load = load_of(config)
    assert (load.num_gpus, load.concurrency, load.arrivals, load.is_open) == (num_gpus, 8, "closed", False)
    assert load.slo == (SloLimit(term="ttft_s", percentile=95, limit_s=0.5),)
    assert score(run_of(turn("a/0", steps_of(1))), load=load).load == load


# Goodput


def slo(**limits: tuple[float, float]) -> Load:
    terms = tuple(SloLimit(term=name, percentile=at, limit_s=limit) for name, (at, limit) in limits.items())
    return Load(concurrency=1, slo=terms)


def test_goodput_counts_the_turns_that_kept_every_limit_and_the_failed_ones_as_broken():
    run = run_of(
        turn("a/0", steps_of(1, 1)),  # TTFT 1, TPOT 0.25, E2E 2
        turn("b/0", steps_of(1), at_s=2.0, step_s=4.0),  # TTFT 1, TPOT 2, E2E 5
        turn("c/0", at_s=8.0),  # TTFT 1, no TPOT
        failures=(failed("d/0"),),
    )
    found = score(run, load=slo(ttft_s=(50, 1.0), tpot_s=(90, 0.5), e2e_s=(75, 5.0))).serving.goodput
    assert (found.goodput_rps.value, found.goodput_rps.n) == (2 / 9.0, 3)
    assert (found.goodput_share.value, found.goodput_share.n) == (0.5, 4)
    ttft, tpot, e2e = found.terms
    assert (ttft.value_s.value, ttft.share.value, ttft.met, ttft.value_s.n) == (1.0, 0.75, True, 4)
    assert (tpot.value_s.value, tpot.share.value, tpot.met, tpot.share.n) == (None, pytest.approx(1 / 3), False, 3)
    assert "1 of 3 turns brought no answer" in tpot.value_s.reason
    assert (e2e.value_s.value, e2e.met) == (None, False)  # 1, 2, 5, never: three quarters lie between 5 and never
    assert score(run, load=slo(e2e_s=(66, 5.0))).serving.goodput.terms[0].value_s.value == pytest.approx(2 + 3 * 0.98)


def test_there_is_no_goodput_without_an_slo_nor_of_a_run_that_was_interrupted():
    assert score(busy(2)).serving.goodput is None
    assert score(busy(2, whole=False), load=slo(ttft_s=(50, 1.0))).serving.goodput is None


def test_goodput_of_a_steady_span_leaves_out_what_began_or_failed_before_it():
    load = OPEN.model_copy(update={"warmup_s": 5.0, "slo": slo(e2e_s=(90, 2.0)).slo})
    run = replace(open_run(), failures=(failed("x/0", 2.0), failed("y/0", 12.0)))
    steady = score(run, load=load).serving.steady.goodput
    assert steady.goodput_rps.value == 1.0  # what came: the arrival that ends the span is no part of it
    assert (steady.goodput_share.value, steady.goodput_share.n) == (18 / 19, 19)


def test_a_turn_that_began_in_the_steady_span_and_failed_long_after_it_is_one_of_its_turns():
    load = OPEN.model_copy(update={"warmup_s": 5.0, "slo": slo(e2e_s=(90, 2.0)).slo})
    lost = (failed("x/0", 15.0, began_at_s=4.0), failed("y/0", 300.0, began_at_s=12.0))
    steady = score(replace(open_run(), failures=lost), load=load).serving.steady.goodput
    assert (steady.goodput_share.value, steady.goodput_share.n) == (18 / 19, 19)


def test_the_interval_of_a_share_is_over_conversations_and_a_limit_that_all_keep_or_none_has_no_spread():
    run = open_run()
    mixed = [due(f"q{n:02}/0", float(n), n + (n % 3 == 0) * 0.5) for n in range(24)]
    share = score(run_of(*mixed), load=OPEN.model_copy(update={"slo": slo(ttft_s=(50, 1.0)).slo})).serving.goodput
    assert share.goodput_share.low < share.goodput_share.value == 16 / 24 < share.goodput_share.high
    assert share.goodput_rps.low < share.goodput_rps.value < share.goodput_rps.high
    for limit, value in ((1.0, 1.0), (0.5, 0.0)):
        found = score(run, load=OPEN.model_copy(update={"slo": slo(ttft_s=(50, limit)).slo})).serving.goodput
        assert found.goodput_share.value == value
        assert found.goodput_rps.value == value * 24 / 25.0


def test_percentiles_with_failed_turns_are_those_of_numpy_with_infinity():
    assert time_at_percentile([3.0, 1.0, 2.0, 4.0], 0, 95) == pytest.approx(3.85)
    assert time_at_percentile([], 3, 50) is None
    assert time_at_percentile([1.0], 0, 100) == 1.0
    assert time_at_percentile([float(n) for n in range(8)], 1, 87.5) == 7.0
    assert time_at_percentile([float(n) for n in range(8)], 1, 88) is None


# The client, clocks, energy


def times(**values: float) -> dict[str, Distribution]:
    return {name: Distribution(value=at, p50=at, p90=at, p95=at, p99=at, n=9) for name, at in values.items()}


@pytest.mark.parametrize(
    ("late", "at_s", "reasons"),
    [
        (LATE, 0.031, []),  # 0.97 %
        (LATE, 0.029, ["ttft_s p50", "ttft_s p90", "ttft_s p95", "ttft_s p99"]),
        (Lateness(*[0.00019] * 5), 0.001, []),  # nothing that could be measured
        (Lateness(0.0, 0.0, 0.0, 0.01, 9.0), 0.5, ["ttft_s p99"]),
    ],
)
def test_the_client_is_limited_where_it_could_have_moved_a_percentile_by_one_in_a_hundred(late, at_s, reasons):
    found = client_scores(run_of(turn("a/0", steps_of(1)), lateness=late), times(ttft_s=at_s))
    assert [reason.partition(" is ")[0] for reason in found.reasons] == reasons
    assert found.limited is bool(reasons)


def test_what_the_client_cost_is_of_all_its_workers_and_whole_segments():
    segments = [
        Segment(
            n,
            "t",
            None,
            None,
            whole=n < 2,
            client=ClientUse(num_workers=2, num_reads=100 + n, cpu_s=0.01),
            lateness=late,
        )
        for n, late in enumerate((LATE, None, None))
    ]
    run = RunRecords((turn("a/0", steps_of(1)),), (), tuple(segments), 1)
    found = score(run).serving.client
    assert (found.num_workers, found.cpu_us_per_read, found.lateness) == (2, pytest.approx(1e6 * 0.02 / 201), LATE)
    silent = score(run_of(turn("a/0", steps_of(1)), client=ClientUse(1, 0, 0.5))).serving.client
    assert (silent.limited, silent.cpu_us_per_read, silent.num_workers) == (None, None, 1)
    assert score(run_of(turn("a/0", steps_of(1)))).serving.client is None


def test_the_error_of_clocks_is_the_largest_that_a_segment_tells():
    assert score(run_of(turn("a/0", steps_of(1)), clock_error_s=0.002)).serving.clock_error_s == 0.002
    assert score(run_of(turn("a/0", steps_of(1)))).serving.clock_error_s is None


def test_energy_is_per_output_token_of_whole_segments_and_absent_is_not_zero():
    used = Energy(gpu_j=30.0, cpu_j=None, peak_gpu_memory_bytes=7, num_gpus=1, span_s=2.0)
    serving = score(run_of(turn("a/0", steps_of(3)), turn("b/0", steps_of(3), at_s=2.0), energy=used)).serving
    assert (serving.energy_j_per_token.value, serving.energy_j_per_token.n) == (3.0, 2)
    assert serving.cpu_energy_j_per_token.value is None
    assert "does not say" in serving.cpu_energy_j_per_token.reason
    assert serving.peak_gpu_memory_bytes == 7
    absent = score(run_of(turn("a/0", steps_of(3)))).serving
    assert (absent.energy_j_per_token.value, absent.peak_gpu_memory_bytes) == (None, None)


def test_energy_is_not_known_where_one_segment_of_two_does_not_say():
    used = Energy(gpu_j=30.0, cpu_j=1.0, peak_gpu_memory_bytes=None, num_gpus=1, span_s=2.0)
    segments = tuple(Segment(n, "t", None, None, whole=True, energy=used if n else None) for n in range(2))
    run = RunRecords((turn("a/0", steps_of(3)), replace(turn("b/0", steps_of(3)), segment=1)), (), segments, 2)
    assert score(run).serving.energy_j_per_token.value is None


# Repeats


def test_a_prompt_that_is_run_again_is_timed_by_itself():
    again = [replace(turn("a/0", steps_of(1), at_s=3.0 * n), repeat=n) for n in range(3)]
    torn = replace(again[2], segment=1)
    segments = (Segment(0, "t", None, None, whole=True), Segment(1, "t", None, None))
    scores = score(RunRecords((*again[:2], torn), (), segments, 3))
    assert (scores.acceptance.overall.num_turns, scores.acceptance.overall.num_conversations) == (3, 1)
    assert (scores.serving.num_turns, scores.acceptance.categories["math"].output_tps.n) == (2, 2)


def test_runs_of_repeated_prompts_are_compared_only_where_both_finished_the_same():
    twice = [replace(turn("a/0", steps_of(1), at_s=3.0 * n), repeat=n) for n in range(2)]
    compared = score(run_of(*twice), run_of(*twice)).baseline
    assert (compared.speedup_output_tps.value, compared.identical_share.n) == (1.0, 2)
    assert score(run_of(*twice), run_of(twice[0])).baseline.speedup_tpot.reason.startswith("they finished different")
