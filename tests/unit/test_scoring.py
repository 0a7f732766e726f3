"""Which turns of a run go into which number, and which numbers a run cannot have."""

import json
import math
import random
from dataclasses import replace

import pytest
from pydantic import ValidationError
from records import counts_of, run_of, steps_of, turn

from speed_bench.acceptance import acceptance_length
from speed_bench.errors import RunFolderError, UndefinedMetric
from speed_bench.records import RunRecords, Segment
from speed_bench.scores import Cell
from speed_bench.scoring import Scores, score
from speed_bench.tally import pool, tally_steps
from speed_bench.types import Failure, SpecCounts, Step, TurnRecord

UNAVAILABLE = "not available from this origin"


def totals(drafted: int | None, accepted: int | None, verify_steps: int | None) -> SpecCounts:
    return SpecCounts(drafted, accepted, verify_steps, None, None, "server", aligned=False)


def failure(name: str = "x/0") -> Failure:
    return Failure(name, "math", 0, 0, "request", "reset", 1.0)


def numbers_in(value: object) -> list[float]:
    if isinstance(value, dict):
        return [number for item in value.values() for number in numbers_in(item)]
    if isinstance(value, list):
        return [number for item in value for number in numbers_in(item)]
    return [value] if isinstance(value, float) else []


def sample_run(num_per_category: int = 5, *, step_s: float = 0.5) -> RunRecords:
    """Conversations of two turns in two categories, one after the other."""
    rng, turns, at_s = random.Random(0), [], 0.0
    for category in ("math", "qa"):
        for number in range(num_per_category):
            for index in range(2):
                steps = steps_of(*rng.choices(range(4), k=rng.randint(1, 6)))
                turns.append(turn(f"{category}{number}/{index}", steps, category=category, at_s=at_s, step_s=step_s))
                at_s = turns[-1].finished_at_s + 0.25
    return run_of(*turns)


# Acceptance


def test_the_headline_is_the_mean_of_category_means_of_conversation_means():
    run = run_of(
        turn("a/0", steps_of(3), category="math"),
        turn("b/0", steps_of(1), category="math"),
        turn("c/0", steps_of(0, 0, 0, 0), category="qa"),
    )
    acceptance = score(run).acceptance
    assert acceptance.categories["math"].acceptance_length.value == 3.0
    assert acceptance.categories["qa"].acceptance_length.value == 1.0
    assert acceptance.overall.acceptance_length.value == 2.0
    assert acceptance.overall.acceptance_length_conversation.value == pytest.approx(7 / 3)
    assert acceptance.overall.acceptance_length_pooled.value == pytest.approx(10 / 6)
    assert acceptance.overall.acceptance_length.n == 3


def test_all_turns_of_a_conversation_are_pooled_before_any_mean():
    turns = [turn("a/0", steps_of(3, 3, 3)), turn("a/1", steps_of(0)), turn("b/0", steps_of(1))]
    overall = score(run_of(*turns)).acceptance.overall
    assert overall.acceptance_length.value == pytest.approx((13 / 4 + 2) / 2)
    assert (overall.num_conversations, overall.num_turns, overall.acceptance_length.n) == (2, 3, 2)


def test_specdec_bench_adds_one_step_of_length_one_per_turn():
    turns = [turn("a/0", steps_of(3)), turn("a/1", steps_of(3)), turn("b/0", steps_of(3))]
    assert score(run_of(*turns)).acceptance.overall.acceptance_length_specdec_bench.value == 2.5


def test_a_one_token_answer_is_a_turn_without_steps_and_its_conversation_is_in_no_mean():
    run = run_of(turn("a/0", steps_of(2)), turn("b/0"), turn("c/0", counts=None))
    overall = score(run).acceptance.overall
    assert overall.acceptance_length.value == 3.0
    assert overall.acceptance_length.n == 1
    assert (overall.num_conversations, overall.num_turns_without_steps) == (3, 2)


def test_a_category_of_one_token_answers_has_cells_without_value():
    run = run_of(turn("a/0", steps_of(2)), turn("b/0", category="qa"))
    acceptance = score(run).acceptance
    assert acceptance.overall.acceptance_length.value == 3.0
    empty = acceptance.categories["qa"]
    assert empty.acceptance_length == Cell.undefined("no decode steps")
    assert empty.conditional_acceptance_rate == [Cell.undefined("no decode steps")]
    assert (empty.num_turns, empty.num_steps, empty.histogram) == (1, 0, {1: 0})


def test_a_category_whose_turns_all_failed_stays_in_sight_and_leaves_no_headline():
    run = run_of(turn("a/0", steps_of(2)), failures=(failure("b/0"), replace(failure("c/0"), category="qa")))
    scores = score(run)
    assert scores.acceptance.categories["math"].num_failures == 1
    lost = scores.acceptance.categories["qa"]
    assert (lost.num_turns, lost.num_failures, lost.acceptance_length.value) == (0, 1, None)
    assert scores.acceptance.overall.acceptance_length == Cell.undefined("no turn of qa finished")
    assert scores.acceptance.overall.acceptance_length_conversation.value == 3.0
    assert scores.failures == {"request: reset": 2}


def test_a_run_without_a_decode_step_cannot_be_scored():
    with pytest.raises(UndefinedMetric, match="no decode step in 1 finished and 1 failed"):
        score(run_of(turn("a/0"), failures=(failure(),)))
    with pytest.raises(UndefinedMetric, match="no decode step in 0 finished and 0 failed"):
        score(run_of())


def test_a_value_that_the_origin_cannot_know_says_so_instead_of_a_number():
    unknown = turn("b/0", steps_of(1), counts=None)
    overall = score(run_of(turn("a/0", steps_of(2)), unknown)).acceptance.overall
    for cell in (overall.acceptance_length, overall.draft_acceptance_rate, *overall.joint_acceptance_rate):
        assert cell == Cell.undefined(UNAVAILABLE)
    assert overall.histogram is None
    assert overall.num_steps is None
    assert overall.num_turns_without_steps == 0


def test_unplaced_steps_are_counted_and_left_out_of_the_histogram():
    part = SpecCounts(9, 3, None, 3, steps_of(1), "engine", aligned=False, unplaced_steps=2)
    overall = score(run_of(turn("a/0", steps_of(1, 1, 1), counts=part))).acceptance.overall
    assert overall.acceptance_length.value == 2.0
    assert (overall.num_steps, overall.num_steps_unplaced) == (3, 2)
    assert overall.histogram == {1: 0, 2: 1, 3: 0, 4: 0}
    assert overall.draft_acceptance_rate.value == pytest.approx(1 / 3)
    assert overall.acceptance_length_drafted.reason == UNAVAILABLE


def unplaced(**changes: object) -> TurnRecord:
    """A turn of three steps of which none can be told apart: 5 of 9 drafts accepted, 8 tokens."""
    counts = SpecCounts(9, 5, None, 3, (), "engine", aligned=False, unplaced_steps=3)
    return turn("a/0", steps_of(2, 2, 1), counts=counts, **changes)


def test_what_needs_steps_told_apart_is_undefined_where_none_is():
    overall = score(run_of(unplaced())).acceptance.overall
    assert overall.acceptance_length.value == pytest.approx(8 / 3)
    assert overall.draft_acceptance_rate.value == pytest.approx(5 / 9)
    for cell in (overall.acceptance_length_drafted, overall.acceptance_length_uncensored):
        assert cell.value is None
    mixed = score(run_of(unplaced(), turn("b/0", (Step(0, 0, 1),)))).acceptance.overall
    assert mixed.acceptance_length_uncensored == Cell.undefined("no step that drafted can be told apart")


def test_verify_steps_that_a_turn_cannot_tell_are_taken_from_the_counters_around_it():
    overall = score(run_of(unplaced(engine_counts=totals(9, 5, 2)))).acceptance.overall
    assert overall.acceptance_length_drafted.value == 1 + 5 / 2


def test_the_last_step_of_each_turn_is_read_by_its_own_rule():
    cut = turn("a/0", (Step(3, 3, 4), Step(3, 3, 2)), last_step="cut")
    unknown = turn("b/0", (Step(3, 1, 2),), last_step="unknown")
    rates = score(run_of(cut, unknown)).acceptance.overall.conditional_acceptance_rate
    assert [cell.value for cell in rates] == [1.0, 1.0, 1.0]
    assert [cell.n for cell in rates] == [2, 1, 1]


def test_a_position_without_a_trial_is_a_cell_with_a_reason():
    rates = score(run_of(turn("a/0", steps_of(0)))).acceptance.overall.conditional_acceptance_rate
    assert [cell.value for cell in rates] == [0.0, None, None]
    assert rates[1].reason == "no trial at this position"


def test_several_seeds_of_a_turn_are_one_conversation():
    turns = [turn("a/0", steps_of(3)), replace(turn("a/0", steps_of(1, 1)), seed=1)]
    overall = score(run_of(*turns)).acceptance.overall
    assert overall.num_conversations == 1
    assert overall.acceptance_length.value == pytest.approx(8 / 3)


def test_intervals_are_there_from_eight_conversations_and_hold_the_value():
    overall = score(sample_run(5)).acceptance.overall
    for cell in (
        overall.acceptance_length,
        overall.acceptance_length_pooled,
        overall.acceptance_length_uncensored,
        overall.draft_acceptance_rate,
        *overall.joint_acceptance_rate,
        *overall.conditional_acceptance_rate,
        overall.user_tps,
    ):
        assert cell.low < cell.value < cell.high
    math_only = score(sample_run(5)).acceptance.categories["math"].acceptance_length
    assert (math_only.low, math_only.high, math_only.n) == (None, None, 5)


def test_a_higher_confidence_level_is_wider_and_the_seed_is_honoured():
    run = sample_run(5)
    usual, wide = (score(run, confidence_level=level).acceptance.overall.acceptance_length for level in (0.8, 0.99))
    assert wide.low < usual.low < usual.high < wide.high
    assert score(run, seed=1) != score(run, seed=2)


def test_scores_do_not_depend_on_the_order_of_the_turns():
    run = sample_run()
    shuffled = list(run.turns)
    random.Random(1).shuffle(shuffled)
    assert score(replace(run, turns=tuple(shuffled))) == score(run)


def test_a_record_that_contradicts_itself_is_named():
    broken = turn("a/0", steps_of(1), counts=counts_of(steps_of(1, 1)))
    with pytest.raises(RunFolderError, match="turn a/0 cannot be scored"):
        score(run_of(broken))


# Serving


def test_serving_numbers_are_those_of_the_arrivals():
    serving = score(run_of(turn("a/0", steps_of(1, 3)), turn("b/0", steps_of(3), at_s=2.0))).serving
    assert serving.output_tps == Cell(value=12 / 3.5, n=2)
    assert serving.ttft_s.value == serving.ttft_s.p99 == 1.0
    assert (serving.user_tps.value, serving.user_tps.n) == (7.0, 2)
    assert (serving.itl_s.n, serving.step_gap_s.n, serving.tpot_s.n) == (10, 3, 2)
    assert (serving.num_output_tokens, serving.num_turns, serving.num_segments_used) == (12, 2, 1)


def test_a_one_token_answer_has_a_ttft_and_no_pace():
    serving = score(run_of(turn("a/0", steps_of(1)), turn("b/0"))).serving
    assert (serving.ttft_s.n, serving.tpot_s.n, serving.user_tps.n) == (2, 1, 1)


def test_the_overall_output_tps_is_that_of_serving():
    scores = score(sample_run())
    assert scores.acceptance.overall.output_tps == scores.serving.output_tps


def test_a_category_has_an_output_tps_only_while_no_turns_overlap():
    apart = [turn("a/0", steps_of(1)), turn("b/0", steps_of(3), category="qa", at_s=10.0)]
    categories = score(run_of(*apart)).acceptance.categories
    assert [categories[name].output_tps.value for name in ("math", "qa")] == [2.0, 5 / 1.5]
    together = [apart[0], turn("b/0", steps_of(3), category="qa", at_s=1.0)]
    cell = score(run_of(*together)).acceptance.categories["qa"].output_tps
    assert cell.value is None
    assert "overlap" in cell.reason


def test_only_whole_segments_are_timed_but_all_turns_count_for_acceptance():
    segments = (Segment(0, "t", "boot", None), Segment(1, "t", "boot", None, whole=True))
    turns = (turn("a/0", steps_of(3)), replace(turn("b/0", steps_of(1)), segment=1))
    scores = score(RunRecords(turns, (), segments, 2))
    assert scores.acceptance.overall.num_turns == 2
    assert (scores.serving.num_turns, scores.serving.num_segments, scores.serving.num_segments_used) == (1, 2, 1)
    assert scores.serving.output_tps.value == 2.0
    assert scores.acceptance.overall.user_tps.n == 1


def test_without_a_whole_segment_there_is_acceptance_and_no_speed():
    scores = score(run_of(turn("a/0", steps_of(3)), whole=False))
    assert scores.acceptance.overall.acceptance_length.value == 4.0
    assert scores.serving.output_tps.value is scores.serving.itl_s.value is scores.serving.itl_s.p50 is None
    assert "interrupted" in scores.serving.output_tps.reason
    assert "interrupted" in scores.serving.itl_s.reason


# Baseline


def test_speed_ups_are_ratios_of_totals_with_their_intervals():
    fast, slow = sample_run(), sample_run(step_s=1.0)
    comparison = score(fast, slow).baseline
    assert comparison.speedup_tpot.value == pytest.approx(2.0)
    assert comparison.speedup_tpot.low == pytest.approx(2.0)
    assert comparison.speedup_tpot.n == 20
    own = score(slow).serving.output_tps.value
    assert comparison.output_tps.value == own
    assert comparison.speedup_output_tps.value == pytest.approx(score(fast).serving.output_tps.value / own)
    assert score(fast, fast).baseline.speedup_output_tps.value == 1.0


def test_output_tps_has_an_interval_that_follows_the_busy_time_of_what_is_drawn():
    serving = score(sample_run()).serving
    assert serving.output_tps.low < serving.output_tps.value < serving.output_tps.high
    assert serving.e2e_s.low < serving.e2e_s.value < serving.e2e_s.high
    alike = run_of(*(turn(f"{number}/0", steps_of(1, 1), at_s=number * 10.0) for number in range(10)))
    cell = score(alike).serving.output_tps
    assert (cell.low, cell.high) == pytest.approx((cell.value, cell.value))
    assert score(run_of(*alike.turns[:7])).serving.output_tps.low is None


def test_the_seeds_of_a_conversation_are_tasks_of_their_own_and_streams_share_them():
    turns, free = [], [0.0] * 4
    for seed in (0, 1):
        for number in range(16):
            slot = free.index(min(free))
            made = turn(f"q{number:02}/0", steps_of(*[1] * (1 + number % 5 * 3)), at_s=free[slot])
            turns.append(replace(made, seed=seed, slot=slot))
            free[slot] = made.finished_at_s
    apart = score(run_of(*turns)).serving.output_tps
    one_task = [replace(each, seed=0, id=f"{each.question_id}/{each.seed}") for each in turns]
    one_stream = [replace(each, slot=0) for each in turns]
    widths = [
        cell.high - cell.low
        for cell in (apart, *(score(run_of(*changed)).serving.output_tps for changed in (one_task, one_stream)))
    ]
    assert widths[0] < widths[1]
    assert widths[0] > 1.2 * widths[2]


def test_steps_that_are_not_told_apart_are_in_no_joint_rate_nor_its_interval():
    steps = [steps_of(*[number % 2, 1, 0]) for number in range(10)]
    counts = [replace(counts_of(each), num_steps=5, unplaced_steps=2, aligned=False) for each in steps]
    turns = []
    for number, (each, known) in enumerate(zip(steps, counts, strict=True)):
        num, at_s = 3 + sum(step.emitted for step in each), number * 9.0
        answer = {"output_ids": (1,) * num, "arrivals": ((at_s + 1, num),), "finished_at_s": at_s + 1}
        turns.append(turn(f"q{number}/0", each, counts=known, at_s=at_s, **answer))
    cell = score(run_of(*turns)).acceptance.overall.joint_acceptance_rate[0]
    assert cell.value == 0.5
    assert cell.low < 0.5 < cell.high


def test_the_speed_up_in_output_tps_has_a_paired_interval():
    cell = score(sample_run(), sample_run(step_s=1.0)).baseline.speedup_output_tps
    assert cell.low < cell.value < cell.high
    unpaired = score(sample_run()).serving.output_tps
    assert (cell.high - cell.low) / cell.value < (unpaired.high - unpaired.low) / unpaired.value


def test_the_difference_in_acceptance_is_paired_by_conversation_and_a_mean_of_category_means():
    ours = [turn(f"m{n}/0", steps_of(2, n % 2), category="math", at_s=n * 9.0) for n in range(8)]
    theirs = [turn(f"m{n}/0", steps_of(1, n % 2), category="math", at_s=n * 9.0) for n in range(8)]
    same = [turn(f"q{n}/0", steps_of(1), category="qa", at_s=99 + n * 9.0) for n in range(2)]
    cell = score(run_of(*ours, *same), run_of(*theirs, *same)).baseline.acceptance_length_difference
    assert (cell.value, cell.n) == (0.25, 10)
    assert (cell.low, cell.high) == pytest.approx((0.25, 0.25))
    assert 0 < cell.p_value < 0.01


def test_there_is_no_difference_where_inputs_or_steps_are_not_the_same_or_not_known():
    ours = run_of(turn("a/0", steps_of(1)))
    for changes, reason in (
        ({"prompt_sha256": "other"}, "no turn of math had the same input in both runs"),
        ({"counts": None}, "not available from this origin"),
    ):
        cell = score(ours, run_of(turn("a/0", steps_of(1), **changes))).baseline.acceptance_length_difference
        assert (cell.value, cell.p_value, cell.reason) == (None, None, reason)


def test_the_common_prefix_ends_at_the_first_difference_that_was_seen():
    mine = run_of(turn("a/0", steps_of(2), output_ids=(1, None, 3, 4)), turn("b/0", steps_of(1)))
    theirs = run_of(turn("a/0", steps_of(2), output_ids=(1, 2, 9, 4)), turn("b/0", steps_of(1)))
    cell = score(mine, theirs).baseline.common_prefix_tokens
    assert (cell.value, cell.n) == ((2 + 3) / 2, 2)


def test_a_run_of_slots_has_a_steady_state_and_a_short_one_says_why_not():
    long = run_of(*(turn(f"{n}/0", steps_of(1, 1), at_s=n * 2.0) for n in range(10)))
    assert score(long).serving.steady_output_tps.value == pytest.approx((50 - 1) / (20.0 - 1.0))
    short = score(run_of(turn("a/0", steps_of(1)))).serving.steady_output_tps
    assert short.value is None
    assert "less than 10 s" in short.reason


def test_identical_answers_are_looked_for_only_where_the_input_was_the_same():
    ours = run_of(turn("a/0", steps_of(1)), turn("b/0", steps_of(1)), turn("b/1", steps_of(1)))
    theirs = run_of(
        turn("a/0", steps_of(1)),
        turn("b/0", steps_of(1), output_ids=(7, 7, 7)),
        turn("b/1", steps_of(1), prompt_sha256="another answer before it"),
    )
    comparison = score(ours, theirs).baseline
    assert (comparison.identical_share.value, comparison.identical_share.n) == (0.5, 2)
    assert (comparison.paired_share.value, comparison.paired_share.n) == (pytest.approx(2 / 3), 3)


def test_a_token_that_was_not_named_is_no_difference_and_a_missing_one_is():
    mine = run_of(turn("a/0", steps_of(2), output_ids=(1, None, 3, 4)))
    for other, same in (((1, 2, 3, 4), 1.0), ((1, None, None, 4), 1.0), ((1, 2, 3, 5), 0.0)):
        theirs = run_of(turn("a/0", steps_of(2), output_ids=other))
        assert score(mine, theirs).baseline.identical_share.value == same
    shorter = run_of(turn("a/0", steps_of(1)))
    assert score(mine, shorter).baseline.identical_share.value == 0.0


def test_failures_of_the_baseline_are_counted_too():
    baseline = run_of(turn("a/0", steps_of(2)), failures=(failure("b/0"),))
    compared = score(run_of(turn("a/0", steps_of(2))), baseline).baseline
    assert (compared.num_turns, compared.num_failures) == (1, 1)


def test_without_a_common_input_nothing_is_said_about_identity():
    comparison = score(run_of(turn("a/0", steps_of(1))), run_of(turn("b/0", steps_of(1)))).baseline
    assert comparison.identical_share.value is None
    assert comparison.paired_share.value == 0.0


def test_a_speed_up_over_different_turns_is_refused():
    ours = run_of(turn("a/0", steps_of(1)), turn("b/0", steps_of(1)))
    comparison = score(ours, run_of(turn("a/0", steps_of(1)))).baseline
    assert comparison.speedup_tpot.value is comparison.speedup_output_tps.value is None
    assert comparison.speedup_tpot.reason == "they finished different turns: 1 only the run, 0 only the baseline"


def test_a_speed_up_of_or_over_an_interrupted_run_is_refused():
    whole, torn = run_of(turn("a/0", steps_of(1))), run_of(turn("a/0", steps_of(1)), whole=False)
    assert score(whole, torn).baseline.speedup_tpot.reason == "the baseline was interrupted or resumed"
    assert score(torn, whole).baseline.speedup_output_tps.reason == "the run was interrupted or resumed"
    assert score(whole, torn).baseline.identical_share.value == 1.0


def test_a_baseline_needs_no_acceptance_counts():
    baseline = run_of(turn("a/0", steps_of(1), counts=None))
    assert score(run_of(turn("a/0", steps_of(1))), baseline).baseline.speedup_tpot.value == 1.0


# Reconciliation


def counted(steps: tuple[Step, ...], name: str = "a/0", **changes: int | None) -> TurnRecord:
    engine = {"drafted": 6, "accepted": 4, "verify_steps": 2, **changes}
    return turn(name, steps, engine_counts=totals(**engine))


def test_turns_that_the_engine_was_read_around_are_compared_one_by_one():
    assert score(run_of(counted(steps_of(3, 1)))).reconciliation.reason is None
    found = score(run_of(counted(steps_of(3, 1)), failures=(failure(),))).reconciliation
    assert found.equal is True
    assert found.reason == "1 failed turn(s) are left out on both sides, the first is x/0"
    assert found.turns == found.engine
    assert (found.turns.verify_steps, found.turns.drafted, found.turns.accepted) == (2, 6, 4)


def test_two_turns_whose_differences_cancel_are_still_different():
    run = run_of(counted(steps_of(3, 1), accepted=5), counted(steps_of(3, 1), "b/0", accepted=3))
    found = score(run).reconciliation
    assert found.turns == found.engine
    assert found.equal is False
    assert found.reason == "turn a/0: accepted 4, 5 by the engine"


def test_else_the_counters_of_the_segment_are_compared():
    turns = (turn("a/0", steps_of(3, 1)), turn("b/0", steps_of(0)))
    before = totals(100, 50, 40)
    same = score(run_of(*turns, counters_after=totals(109, 54, 43))).reconciliation
    assert (same.equal, same.engine.drafted) == (None, None)
    segment = Segment(0, "t", None, before, totals(109, 54, 43), 1.0, whole=True)
    assert score(RunRecords(turns, (), (segment,), 2)).reconciliation.equal is True
    off = replace(segment, counters_after=totals(109, 55, 43))
    found = score(RunRecords(turns, (), (off,), 2)).reconciliation
    assert (found.equal, found.reason) == (False, "accepted 4, 5 by the engine")


def test_a_failed_turn_makes_the_counters_of_a_segment_incomparable():
    segment = Segment(0, "t", None, totals(0, 0, 0), totals(6, 4, 2), 1.0, whole=True)
    found = score(RunRecords((turn("a/0", steps_of(3, 1)),), (failure("b/0"),), (segment,), 2)).reconciliation
    assert found.equal is None
    assert "b/0" in found.reason


def test_counters_that_were_not_read_or_went_backwards_decide_nothing():
    turns = (turn("a/0", steps_of(3, 1)),)
    for after in (None, totals(1, 1, 1)):
        segment = Segment(3, "t", None, totals(9, 9, 9), after, 1.0, whole=True)
        found = score(RunRecords(turns, (), (segment,), 1)).reconciliation
        assert (found.equal, found.reason) == (None, "the engine's counters of segment 3 could not be read")


def test_counters_of_two_servers_behind_one_address_decide_nothing():
    segment = Segment(0, "t", None, totals(1000, 200, 90), totals(1010, 600, 95), 1.0, whole=True)
    found = score(RunRecords((turn("a/0", steps_of(3, 1)),), (), (segment,), 1)).reconciliation
    assert (found.engine.drafted, found.engine.accepted) == (None, None)


def test_verify_steps_that_are_not_known_are_said_to_be_and_the_rest_is_compared():
    part = SpecCounts(6, 4, None, 2, steps_of(3, 1), "engine", aligned=True)
    found = score(run_of(replace(counted(steps_of(3, 1)), counts=part))).reconciliation
    assert (found.equal, found.turns.verify_steps, found.engine.verify_steps) == (True, None, 2)
    assert found.reason == "verify_steps is not known to some turns; drafted and accepted are compared"
    off = score(run_of(replace(counted(steps_of(3, 1), drafted=7), counts=part))).reconciliation
    assert off.equal is False


def test_unknown_drafts_decide_nothing():
    part = SpecCounts(None, None, None, 2, steps_of(3, 1), "stream", aligned=True)
    found = score(run_of(replace(counted(steps_of(3, 1)), counts=part))).reconciliation
    assert (found.equal, found.reason) == (None, "drafted and accepted tokens are not known to the turns")


# The file


def test_scores_survive_their_json_and_hold_no_nan():
    scores = score(sample_run(), sample_run(step_s=1.0))
    text = scores.model_dump_json()
    assert Scores.model_validate_json(text) == scores
    data = json.loads(text)
    assert data["schema_version"] == 1
    assert all(math.isfinite(number) for number in numbers_in(data))


def test_scores_take_no_unknown_key_and_no_nan():
    with pytest.raises(ValidationError):
        Cell(value=1.0, n=1, mean=1.0)
    with pytest.raises(ValidationError):
        Cell(value=math.nan, n=1)


def test_counts_of_the_run_are_at_the_top():
    scores = score(run_of(turn("a/0", steps_of(1)), turn("a/1", steps_of(1)), failures=(failure(),)))
    counts = (scores.num_conversations, scores.num_turns, scores.num_failures, scores.num_planned)
    assert counts == (1, 2, 1, 3)


def test_pooled_length_is_the_acceptance_length_of_all_steps():
    run = sample_run()
    by_hand = acceptance_length(pool(tally_steps(turn.counts.per_step) for turn in run.turns))
    assert score(run).acceptance.overall.acceptance_length_pooled.value == by_hand
