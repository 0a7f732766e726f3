"""Laws that the acceptance metrics keep for any run, and a slow second opinion on their values."""

from collections.abc import Sequence
from fractions import Fraction
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speed_bench.acceptance import (
    acceptance_length,
    acceptance_length_drafted,
    acceptance_length_specdec_bench,
    acceptance_length_uncensored,
    conditional_acceptance_rate,
    draft_acceptance_rate,
    histogram,
    joint_acceptance_rate,
)
from speed_bench.errors import UndefinedMetric
from speed_bench.tally import pool, tally_histogram, tally_steps
from speed_bench.types import LastStep, Step

Turn = tuple[list[Step], LastStep]


@st.composite
def whole_steps(draw: st.DrawFn) -> Step:
    """A step that nothing cut: plain, or drafted up to 5 tokens of which any number was accepted."""
    drafted = draw(st.integers(0, 5))
    accepted = draw(st.integers(0, drafted))
    return Step(drafted, accepted, accepted + 1)


@st.composite
def turns(draw: st.DrawFn) -> Turn:
    """A turn of any steps, whose last one may be cut."""
    steps = draw(st.lists(whole_steps(), min_size=1, max_size=12))
    last_step = draw(st.sampled_from(get_args(LastStep)))
    if last_step == "cut":
        drafted = draw(st.integers(1, 5))
        accepted = draw(st.integers(1, drafted))
        steps.append(Step(drafted, accepted, draw(st.integers(1, accepted))))
    return steps, last_step


whole_turns = st.tuples(st.lists(whole_steps(), min_size=1, max_size=12), st.just("complete"))
runs = st.lists(turns(), min_size=1, max_size=6)
whole_runs = st.lists(whole_turns, min_size=1, max_size=6)
quick = settings(deadline=None, max_examples=150)


def pooled(run: Sequence[Turn]):
    return pool(tally_steps(steps, last_step=last_step) for steps, last_step in run)


def slow_conditional(run: Sequence[Turn]) -> list[Fraction | None]:
    """Position by position, step by step: was there a draft, was it reached, was its outcome seen, was it right."""
    depth = max(step.drafted for steps, _ in run for step in steps)
    rates: list[Fraction | None] = []
    for position in range(1, depth + 1):
        outcomes = []
        for steps, last_step in run:
            for number, step in enumerate(steps, start=1):
                is_last = number == len(steps)
                if step.drafted < position:
                    continue
                if is_last and last_step == "cut":
                    if position <= step.emitted:
                        outcomes.append(True)
                elif is_last and last_step == "unknown":
                    if position < step.emitted:
                        outcomes.append(True)
                elif step.accepted >= position:
                    outcomes.append(True)
                elif step.accepted == position - 1:
                    outcomes.append(False)
        rates.append(Fraction(sum(outcomes), len(outcomes)) if outcomes else None)
    return rates


@quick
@given(runs)
def test_conditional_rates_agree_with_a_second_implementation(run):
    expected = [None if rate is None else float(rate) for rate in slow_conditional(run)]
    assert conditional_acceptance_rate(pooled(run)) == expected


@quick
@given(runs)
def test_uncensored_length_agrees_with_a_second_implementation(run):
    length, joint = Fraction(1), Fraction(1)
    for rate in slow_conditional(run):
        if joint and rate is None:
            with pytest.raises(UndefinedMetric):
                acceptance_length_uncensored(pooled(run))
            return
        joint *= rate or 0
        length += joint
    assert acceptance_length_uncensored(pooled(run)) == pytest.approx(float(length), rel=1e-12)


@quick
@given(runs)
def test_length_is_one_plus_the_sum_of_joint_rates(run):
    tally = pooled(run)
    assert acceptance_length(tally) == pytest.approx(1 + sum(joint_acceptance_rate(tally)), rel=1e-12)


@quick
@given(runs)
def test_joint_rates_never_rise_and_every_rate_is_a_share(run):
    tally = pooled(run)
    joint = joint_acceptance_rate(tally)
    assert joint == sorted(joint, reverse=True)
    assert all(0 <= rate <= 1 for rate in joint)
    assert all(rate is None or 0 <= rate <= 1 for rate in conditional_acceptance_rate(tally))


@quick
@given(runs)
def test_length_lies_between_one_and_one_more_than_the_longest_proposal(run):
    tally = pooled(run)
    depth = len(joint_acceptance_rate(tally))
    assert 1 <= acceptance_length(tally) <= depth + 1
    assert acceptance_length_specdec_bench(tally) <= acceptance_length(tally)


@quick
@given(whole_runs)
def test_verified_metrics_are_ratios_of_sums_over_the_steps(run):
    steps = [step for turn, _ in run for step in turn]
    tally, drafted = pooled(run), sum(step.drafted for step in steps)
    if drafted == 0:
        return
    verified = [step.accepted + 1 for step in steps if step.drafted]
    assert draft_acceptance_rate(tally) == sum(step.accepted for step in steps) / drafted
    assert acceptance_length_drafted(tally) == pytest.approx(acceptance_length(verified), rel=1e-12)
    assert acceptance_length_drafted(tally) >= acceptance_length(tally)


@quick
@given(runs, st.randoms(use_true_random=False))
def test_the_order_of_turns_does_not_matter(run, random):
    shuffled = list(run)
    random.shuffle(shuffled)
    assert pooled(shuffled) == pooled(run)


@quick
@given(runs, st.integers(0, 6))
def test_splitting_a_run_and_adding_the_parts_changes_nothing(run, at):
    assert pooled(run[:at]) + pooled(run[at:]) == pooled(run)


@quick
@given(st.lists(whole_steps(), min_size=2, max_size=20), st.data())
def test_splitting_a_turn_between_steps_changes_nothing_but_the_number_of_turns(steps, data):
    at = data.draw(st.integers(1, len(steps) - 1))
    parts, whole = tally_steps(steps[:at]) + tally_steps(steps[at:]), tally_steps(steps)
    assert (parts.num_turns, whole.num_turns) == (2, 1)
    assert histogram(parts) == histogram(whole)
    assert conditional_acceptance_rate(parts) == conditional_acceptance_rate(whole)


@quick
@given(st.lists(st.integers(0, 3), min_size=1, max_size=30))
def test_where_every_step_drafts_the_same_length_the_histogram_says_it_all(accepted):
    steps = [Step(3, right, right + 1) for right in accepted]
    assert tally_histogram(histogram(tally_steps(steps)), draft_length=3) == tally_steps(steps)


@quick
@given(st.lists(st.integers(0, 3), min_size=1, max_size=30))
def test_where_every_step_drafts_the_same_length_uncut_the_uncensored_length_is_the_length(accepted):
    tally = tally_steps([Step(3, right, right + 1) for right in accepted])
    assert acceptance_length_uncensored(tally) == pytest.approx(acceptance_length(tally), rel=1e-12)


# The last step of a turn: a limit falls anywhere in a step, and long steps more often than short ones.

TRUE_RATES = (0.60, 0.70, 0.75)


def simulated_steps(num_turns: int) -> list[list[Step]]:
    """Turns of 4 to 24 tokens, the first from prefill, by a drafter of three tokens with known rates."""
    rng = np.random.default_rng(11)
    hits = rng.random((num_turns * 24, 3)) < TRUE_RATES
    accepted = iter(np.cumprod(hits, axis=1).sum(axis=1).tolist())
    run = []
    for limit in rng.integers(4, 25, size=num_turns).tolist():
        steps, left = [], limit - 1
        while left:
            right = next(accepted)
            steps.append(Step(3, right, min(right + 1, left)))
            left -= steps[-1].emitted
        run.append(steps)
    return run


def last_step_of(steps: list[Step]) -> LastStep:
    return "cut" if steps[-1].emitted <= steps[-1].accepted else "complete"


@pytest.fixture(scope="module")
def run() -> list[list[Step]]:
    return simulated_steps(20_000)


def rates_of(run: list[list[Step]], rule) -> list[float | None]:
    return conditional_acceptance_rate(pool(rule(steps) for steps in run))


def test_the_last_step_rule_finds_the_true_rates_when_cuts_are_known(run):
    found = rates_of(run, lambda steps: tally_steps(steps, last_step=last_step_of(steps)))
    assert found == pytest.approx(TRUE_RATES, abs=0.006)


def test_the_last_step_rule_finds_the_true_rates_when_cuts_are_not_known(run):
    found = rates_of(run, lambda steps: tally_steps(steps, last_step="unknown"))
    assert found == pytest.approx(TRUE_RATES, abs=0.006)


def test_the_last_step_rule_finds_the_true_rates_when_all_is_known(run):
    assert rates_of(run, tally_steps) == pytest.approx(TRUE_RATES, abs=0.006)


def test_taking_what_was_shown_for_what_was_accepted_is_biased(run):
    def naive(steps):
        return tally_steps([Step(3, step.emitted - 1, step.emitted) for step in steps])

    assert rates_of(run, naive) == pytest.approx((0.558, 0.649, 0.684), abs=0.006)


def test_counting_one_success_too_few_in_the_cut_steps_alone_is_biased(run):
    def one_less(steps):
        return tally_steps(steps, last_step="unknown" if last_step_of(steps) == "cut" else "complete")

    assert rates_of(run, one_less) == pytest.approx((0.582, 0.682, 0.736), abs=0.008)
