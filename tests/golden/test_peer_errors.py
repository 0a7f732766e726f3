"""Errors that other benchmarks made, each on an input where it shows.

A failed request that ends a run or becomes an empty answer, and an algorithm that is silently not there, are in
`tests/faults`; secrets never enter a run folder, so there is nothing to redact.
"""

import json

import pytest
from records import run_of, steps_of, turn

from speed_bench.acceptance import (
    acceptance_length,
    acceptance_length_specdec_bench,
    conditional_acceptance_rate,
    histogram,
    joint_acceptance_rate,
)
from speed_bench.scoring import score
from speed_bench.serving import itl_s, output_tps, percentiles, tpot_s, tpot_total_s, user_tps
from speed_bench.statistics import category_mean
from speed_bench.tally import pool, tally_histogram, tally_steps
from speed_bench.types import Step


def test_conditional_rates_are_not_taken_over_the_lengths_that_happen_to_occur():
    tally = tally_histogram({1: 10, 3: 5}, draft_length=2)
    assert conditional_acceptance_rate(tally) == [pytest.approx(1 / 3), 1.0]


def test_positions_that_were_drafted_and_never_reached_are_not_dropped():
    tally = tally_histogram({1: 3}, draft_length=3)
    assert conditional_acceptance_rate(tally) == [0.0, None, None]
    assert joint_acceptance_rate(tally) == [0.0, 0.0, 0.0]


def test_a_chunk_without_tokens_is_not_a_decode_step():
    for metric in (acceptance_length, joint_acceptance_rate, histogram):
        with pytest.raises(ValueError, match="at least one token"):
            metric([0, 4, 3])


def test_what_prefill_emitted_is_not_a_decode_step():
    run = run_of(turn("a/0", steps_of(3, 3), category="math"))
    overall = score(run).acceptance.overall
    assert overall.num_steps == 2
    assert overall.acceptance_length_pooled.value == 4.0
    assert overall.acceptance_length_specdec_bench.value == 3.0


def test_time_per_token_does_not_contain_the_time_to_the_first():
    arrivals = [(60.0, 1), (60.5, 2), (61.0, 2)]
    assert tpot_s(arrivals) == 0.25
    assert user_tps(arrivals) == 4.0


def test_inter_token_latency_is_counted_in_tokens_not_in_chunks():
    values = itl_s([(0.0, 1), (1.0, 4), (2.0, 4), (3.0, 1), (4.0, 1)])
    assert len(values) == 10
    assert percentiles(values)["p50"] == 0.25


def test_output_tps_is_counted_in_tokens_not_in_chunks():
    assert output_tps([(0.0, [(1.0, 1), (2.0, 7)])]) == 4.0


def test_every_arrival_keeps_its_own_time_stamp():
    arrivals = [(1.0, 1), (2.0, 1), (4.0, 2)]
    assert itl_s(arrivals).tolist() == [1.0, 1.0, 1.0]


def test_percentiles_are_numbers_in_the_file():
    scores = json.loads(score(run_of(turn("a/0", steps_of(3, 1)))).model_dump_json())
    serving = scores["serving"]
    assert all(isinstance(serving["itl_s"][rank], float) for rank in ("p50", "p90", "p95", "p99"))


def test_acceptance_of_a_category_is_that_of_its_own_turns():
    categories = score(
        run_of(
            turn("a/0", steps_of(3, 3), category="coding"),
            turn("b/0", steps_of(0, 0), category="qa"),
        )
    ).acceptance.categories
    assert categories["coding"].acceptance_length.value == 4.0
    assert categories["qa"].acceptance_length.value == 1.0


def test_acceptance_length_is_a_ratio_of_counts_not_an_average_over_time():
    slow, fast = (
        turn("a/0", steps_of(0), category="qa", step_s=100.0),
        turn("b/0", steps_of(3), category="qa", step_s=0.1),
    )
    assert score(run_of(slow, fast)).acceptance.overall.acceptance_length.value == 2.5


def test_later_turns_are_part_of_their_conversation():
    conversation = [
        turn("a/0", steps_of(3), category="qa"),
        turn("a/1", steps_of(0, 0, 0), category="qa", at_s=10.0),
    ]
    overall = score(run_of(*conversation)).acceptance.overall
    assert overall.acceptance_length.value == 7 / 4
    assert (overall.num_conversations, overall.num_turns) == (1, 2)


def test_a_category_whose_turns_had_no_step_is_not_silently_dropped():
    categories = score(
        run_of(turn("a/0", steps_of(1), category="qa"), turn("b/0", steps_of(), category="math"))
    ).acceptance.categories
    assert set(categories) == {"qa", "math"}
    assert categories["math"].acceptance_length.value is None
    assert categories["math"].num_turns_without_steps == 1


def test_averages_of_the_same_two_requests_differ_so_each_has_a_name():
    short, long = tally_steps([Step(3, 3, 4)]), tally_steps([Step(3, 0, 1)] * 4 + [Step(3, 2, 3)] * 2)
    lengths = [acceptance_length(short), acceptance_length(long)]
    both = pool([short, long])
    assert category_mean(lengths, ["qa", "math"]) == pytest.approx(2.8333, abs=5e-5)
    assert acceptance_length(both) == 2.0
    assert acceptance_length_specdec_bench(both) == pytest.approx(1.7778, abs=5e-5)


def test_pooling_and_averaging_can_rank_two_drafters_differently():
    first = run_of(
        turn("a/0", steps_of(3), category="qa"),
        turn("b/0", steps_of(*[0] * 9), category="math"),
    )
    second = run_of(
        turn("a/0", steps_of(1, 1), category="qa"),
        turn("b/0", steps_of(*[1] * 4, *[0] * 4), category="math"),
    )
    one, other = (score(run).acceptance.overall for run in (first, second))
    assert one.acceptance_length.value > other.acceptance_length.value
    assert one.acceptance_length_pooled.value < other.acceptance_length_pooled.value


def test_a_speed_up_is_a_ratio_of_totals_not_a_mean_of_ratios():
    """The short turn became 10 times faster, the long one not at all: in total hardly anything was won."""
    ours = run_of(
        turn("a/0", steps_of(0), category="qa", step_s=0.1),
        turn("b/0", steps_of(*[0] * 99), category="qa", step_s=1.0, at_s=5.0),
    )
    theirs = run_of(
        turn("a/0", steps_of(0), category="qa", step_s=1.0),
        turn("b/0", steps_of(*[0] * 99), category="qa", step_s=1.0, at_s=5.0),
    )
    found = score(ours, theirs).baseline.speedup_tpot.value
    assert found == pytest.approx(100 / 99.1)
    totals = [tpot_total_s(turn.arrivals for turn in run.turns) for run in (theirs, ours)]
    assert found == totals[0] / totals[1]
