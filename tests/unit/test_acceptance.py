"""What each acceptance metric counts, and when it is undefined."""

import numpy as np
import pytest

from speed_bench.acceptance import (
    acceptance_length,
    acceptance_length_drafted,
    acceptance_length_specdec_bench,
    acceptance_length_uncensored,
    conditional_acceptance_rate,
    draft_acceptance_rate,
    expected_length,
    histogram,
    joint_acceptance_rate,
)
from speed_bench.errors import SpeedBenchError, UndefinedMetric
from speed_bench.tally import Tally, pool, tally_histogram, tally_steps, tally_turn
from speed_bench.types import Step

PLAIN = Step(drafted=0, accepted=0, emitted=1)


def engine_totals(steps: list[Step] | None, **changes: int | str | None) -> Tally:
    """A turn of one verification step (3 drafted, 1 accepted) and one plain step, as an engine states it."""
    totals = {"num_tokens": 3, "num_steps": 2, "verify_steps": 1, "drafted": 3, "accepted": 1}
    return tally_turn(steps, **{**totals, **changes})


# Lengths and rates


def test_acceptance_length_is_tokens_per_decode_step_plain_steps_included():
    assert acceptance_length([4, 3, 4, 1]) == 3.0
    assert acceptance_length(tally_steps([Step(3, 3, 4), PLAIN])) == 2.5


def test_acceptance_length_drafted_leaves_plain_steps_out():
    assert acceptance_length_drafted([Step(3, 3, 4), PLAIN, PLAIN]) == 4.0


def test_acceptance_length_drafted_counts_accepted_tokens_that_a_limit_hid():
    steps = [Step(3, 3, 2)]
    assert acceptance_length_drafted(steps) == 4.0
    assert acceptance_length(tally_steps(steps)) == 2.0


def test_specdec_bench_counts_the_prefill_token_of_every_turn_as_a_step():
    turn = tally_steps([Step(3, 3, 4), Step(3, 1, 2)])
    assert acceptance_length(turn) == 3.0
    assert acceptance_length_specdec_bench(turn) == 7 / 3
    assert acceptance_length_specdec_bench(pool([turn, turn])) == 14 / 6


def test_draft_acceptance_rate_is_accepted_over_drafted_tokens():
    assert draft_acceptance_rate([Step(4, 1, 2), Step(2, 2, 3), PLAIN]) == 0.5


def test_joint_rate_is_the_share_of_all_decode_steps_that_emitted_more_than_k():
    assert joint_acceptance_rate([1, 2, 4]) == [2 / 3, 1 / 3, 1 / 3]
    assert joint_acceptance_rate(tally_steps([PLAIN, Step(2, 1, 2)])) == [0.5, 0.0]


def test_vectors_are_as_long_as_the_longest_proposal_even_if_nothing_got_that_far():
    tally = tally_steps([Step(5, 1, 2)])
    assert joint_acceptance_rate(tally) == [1.0, 0.0, 0.0, 0.0, 0.0]
    assert conditional_acceptance_rate(tally) == [1.0, 0.0, None, None, None]
    assert list(histogram(tally)) == [1, 2, 3, 4, 5, 6]


def test_histogram_counts_steps_per_emitted_length_without_holes():
    assert histogram([3, 1, 3]) == {1: 1, 2: 0, 3: 2}
    assert histogram([]) == {}


# Conditional rates and the last step


def test_a_position_that_was_not_drafted_is_no_trial():
    tally = tally_steps([Step(1, 1, 2), Step(3, 1, 2)])
    assert (tally.trials, tally.successes) == ((2, 1, 0), (2, 0, 0))


def test_a_plain_step_is_no_trial():
    tally = tally_steps([PLAIN, PLAIN, Step(1, 0, 1)])
    assert (tally.trials, tally.successes) == ((1,), (0,))


def test_a_run_of_plain_steps_has_no_positions_and_length_one():
    tally = tally_steps([PLAIN, PLAIN])
    assert conditional_acceptance_rate(tally) == []
    assert joint_acceptance_rate(tally) == []
    assert acceptance_length(tally) == acceptance_length_uncensored(tally) == 1.0


@pytest.mark.parametrize(
    ("step", "last_step", "trials", "successes"),
    [
        pytest.param(Step(3, 1, 2), "complete", (1, 1, 0), (1, 0, 0), id="complete: a failure at a+1"),
        pytest.param(Step(3, 3, 4), "complete", (1, 1, 1), (1, 1, 1), id="complete: nothing drafted at a+1"),
        pytest.param(
            Step(3, 2, 1), "complete", (1, 1, 1), (1, 1, 0), id="complete: what is known counts though hidden"
        ),
        pytest.param(Step(3, 2, 2), "cut", (1, 1, 0), (1, 1, 0), id="cut: the m shown were drafts"),
        pytest.param(Step(3, 3, 1), "cut", (1, 0, 0), (1, 0, 0), id="cut: no more than the m shown"),
        pytest.param(Step(3, 1, 2), "unknown", (1, 0, 0), (1, 0, 0), id="unknown: all but the last token"),
        pytest.param(Step(3, 3, 4), "unknown", (1, 1, 1), (1, 1, 1), id="unknown: a bonus token has no trial"),
        pytest.param(Step(3, 0, 1), "unknown", (0, 0, 0), (0, 0, 0), id="unknown: one token says nothing"),
        pytest.param(PLAIN, "unknown", (), (), id="unknown: plain"),
        pytest.param(PLAIN, "cut", (), (), id="cut: plain"),
    ],
)
def test_the_last_step_counts_only_what_was_seen_of_it(step, last_step, trials, successes):
    tally = tally_steps([step], last_step=last_step)
    assert (tally.trials, tally.successes) == (trials, successes)


def test_only_the_last_step_is_read_by_the_rule_of_the_last_step():
    tally = tally_steps([Step(2, 0, 1), Step(2, 1, 2)], last_step="unknown")
    assert (tally.trials, tally.successes) == ((2, 0), (1, 0))


def test_what_a_cut_step_emitted_is_in_length_and_histogram_all_the_same():
    tally = tally_steps([Step(3, 3, 2)], last_step="cut")
    assert histogram(tally) == {1: 0, 2: 1, 3: 0, 4: 0}
    assert acceptance_length(tally) == 2.0


def test_verified_counts_are_unknown_when_the_last_step_hides_them():
    with pytest.raises(UndefinedMetric, match="not available from this origin"):
        draft_acceptance_rate(tally_steps([Step(3, 2, 2)], last_step="cut"))


def test_uncensored_length_is_the_sum_of_products_of_conditional_rates():
    tally = tally_histogram({1: 4, 2: 2, 3: 2}, draft_length=2)
    assert acceptance_length_uncensored(tally) == pytest.approx(1 + 0.5 + 0.5 * 0.5)


def test_uncensored_length_does_not_fall_with_shorter_proposals():
    assert acceptance_length_uncensored([Step(2, 2, 3), Step(1, 1, 2)]) == 3.0
    assert acceptance_length(tally_steps([Step(2, 2, 3), Step(1, 1, 2)])) == 2.5


def test_uncensored_length_needs_a_trial_wherever_a_step_could_have_gone():
    with pytest.raises(UndefinedMetric, match="no trial at position 2"):
        acceptance_length_uncensored(tally_steps([Step(1, 1, 2), Step(3, 1, 1)], last_step="cut"))


def test_expected_length_takes_many_rows_of_rates_at_once():
    assert expected_length([[1.0, 1.0], [0.5, 0.0], [0.0, np.nan]]).tolist() == [3.0, 1.5, 1.0]
    assert np.isnan(expected_length([0.5, np.nan]))


# Steps that cannot be told apart, and values that are not known


def test_unplaced_steps_are_in_the_length_but_not_in_the_vectors():
    tally = engine_totals([Step(3, 1, 2)], num_tokens=10, num_steps=4)
    assert acceptance_length(tally) == 2.5
    assert joint_acceptance_rate(tally) == [1.0, 0.0, 0.0]
    assert sum(histogram(tally).values()) == tally.num_placed_steps == 1


def test_what_one_turn_does_not_know_the_sum_does_not_know_either():
    known, unknown = engine_totals([Step(3, 1, 2), PLAIN]), engine_totals(None, verify_steps=None, accepted=None)
    both = pool([known, unknown])
    assert (both.num_tokens, both.num_steps, both.drafted) == (6, 4, 6)
    assert both.verify_steps is both.accepted is both.lengths is both.trials is both.successes is both.reached is None
    assert acceptance_length(both) == 1.5
    for metric in (
        acceptance_length_drafted,
        draft_acceptance_rate,
        joint_acceptance_rate,
        conditional_acceptance_rate,
        acceptance_length_uncensored,
        histogram,
    ):
        with pytest.raises(UndefinedMetric, match="not available from this origin"):
            metric(both)


def test_a_turn_that_prefill_answered_alone_adds_a_turn_and_nothing_else():
    alone = tally_turn(None, num_tokens=0, num_steps=0, verify_steps=0, drafted=0, accepted=0)
    both = pool([alone, tally_steps([Step(2, 1, 2)])])
    assert both.num_turns == 2
    assert joint_acceptance_rate(both) == [1.0, 0.0]
    assert acceptance_length(both) == 2.0


def test_tallies_of_different_draft_lengths_add_up():
    both = tally_steps([Step(1, 1, 2)]) + tally_steps([Step(3, 0, 1)])
    assert both == Tally(2, 3, 2, 2, 4, 1, lengths=(1, 1, 0, 0), trials=(2, 0, 0), successes=(1, 0, 0))


def test_the_tally_of_nothing_is_empty():
    assert pool([]) == Tally(0, 0, 0, 0, 0, 0, (), (), ())


@pytest.mark.parametrize(
    "metric",
    [
        acceptance_length,
        acceptance_length_drafted,
        acceptance_length_specdec_bench,
        acceptance_length_uncensored,
        draft_acceptance_rate,
        joint_acceptance_rate,
        conditional_acceptance_rate,
    ],
)
def test_without_a_decode_step_every_metric_is_undefined_and_none_is_zero(metric):
    with pytest.raises(UndefinedMetric) as raised:
        metric(pool([]))
    assert isinstance(raised.value, SpeedBenchError)


def test_raw_lengths_of_no_steps_are_undefined_too():
    for metric in (acceptance_length, joint_acceptance_rate):
        with pytest.raises(UndefinedMetric, match="no decode steps"):
            metric([])


def test_plain_steps_alone_have_no_verified_rate():
    with pytest.raises(UndefinedMetric, match="no verification steps"):
        acceptance_length_drafted([PLAIN])
    with pytest.raises(UndefinedMetric, match="nothing was drafted"):
        draft_acceptance_rate([PLAIN])


# Impossible input


@pytest.mark.parametrize("step", [(2, 3, 4), (2, 1, 3), (2, 1, 0), (2, -1, 1)])
def test_a_step_that_cannot_be_is_refused(step):
    with pytest.raises(ValueError, match=f"impossible step: drafted {step[0]}, accepted {step[1]}, emitted {step[2]}"):
        tally_steps([(3, 3, 4), step])


def test_steps_must_emit_the_tokens_of_the_turn():
    steps = [Step(3, 1, 2), PLAIN]
    with pytest.raises(ValueError, match="all 2 steps together emitted 3 of 4 tokens"):
        engine_totals(steps, num_tokens=4)
    with pytest.raises(ValueError, match="2 of 1 steps"):
        engine_totals(steps, num_steps=1)
    with pytest.raises(ValueError, match="2 of 4 steps emitted 3 of 4 tokens"):
        engine_totals(steps, num_steps=4, num_tokens=4)


def test_a_histogram_of_impossible_lengths_is_refused():
    with pytest.raises(ValueError, match="emits 1 to 3, not 4"):
        tally_histogram({4: 1}, draft_length=2)


def test_metrics_take_numpy_arrays_of_lengths():
    assert acceptance_length(np.array([4, 3, 4, 1])) == 3.0
    assert joint_acceptance_rate(np.array([1, 2])) == [0.5]
