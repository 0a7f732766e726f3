"""Intervals cover the truth as often as they say, and are absent where they could not."""

import time

import numpy as np
import pytest

from speed_bench.errors import UndefinedMetric
from speed_bench.statistics import Interval, category_mean, category_weights, interval, resample_ratios


def mean_draws(values, strata, *, resamples=2000, seed=0):
    column = np.asarray(values, dtype=float)[:, None]
    return resample_ratios(column, np.ones_like(column), strata, resamples=resamples, seed=seed)[:, 0]


def test_category_mean_weighs_every_category_the_same():
    assert category_mean([1, 1, 1, 3], ["a", "a", "a", "b"]) == 2.0
    with pytest.raises(UndefinedMetric):
        category_mean([], [])


def test_category_weights_turn_a_mean_into_a_mean_of_category_means():
    values, names = np.array([1.0, 5.0, 2.0, 7.0, 9.0]), ["a", "b", "a", "c", "b"]
    by_hand = np.mean([np.mean([1, 2]), np.mean([5, 9]), 7])
    assert np.mean(values * category_weights(names)) == pytest.approx(by_hand)


def test_there_is_no_interval_below_eight_conversations():
    draws = mean_draws(range(8), ["a"] * 8)
    assert interval(draws, num_conversations=7) is None
    assert isinstance(interval(draws, num_conversations=8), Interval)


def test_the_same_seed_draws_the_same_and_another_seed_does_not():
    values, strata = np.arange(20.0), ["a", "b"] * 10
    assert np.array_equal(mean_draws(values, strata), mean_draws(values, strata))
    assert not np.array_equal(mean_draws(values, strata), mean_draws(values, strata, seed=1))


def test_several_ratios_come_from_the_same_draws():
    rng = np.random.default_rng(0)
    above, below = rng.random((30, 1)), rng.random((30, 1)) + 1
    both = resample_ratios(np.hstack((above, 2 * above)), np.hstack((below, below)), ["a"] * 30, resamples=50, seed=0)
    assert np.allclose(both[:, 1], 2 * both[:, 0])


def test_a_constant_has_an_interval_of_width_zero():
    assert interval(mean_draws([2.5] * 10, ["a", "b"] * 5), num_conversations=10) == pytest.approx((2.5, 2.5))


def test_the_spread_between_categories_is_not_in_the_interval():
    names = ["easy"] * 20 + ["hard"] * 20
    draws = mean_draws([3.0] * 20 + [1.0] * 20, names)
    assert np.ptp(draws) < 1e-12
    assert np.ptp(mean_draws([3.0] * 20 + [1.0] * 20, ["all"] * 40)) > 0.3


@pytest.mark.parametrize("per_category", [2, 3, 80])
def test_the_variance_is_right_however_few_conversations_a_category_has(per_category):
    """Drawing n of n would give (n − 1) / n of it: half, at two per category."""
    rng = np.random.default_rng(7)
    num_categories = 240 // per_category
    names = [f"c{index}" for index in range(num_categories) for _ in range(per_category)]
    values = rng.normal(size=len(names))
    within = values.reshape(num_categories, per_category).var(axis=1, ddof=1).mean()
    assert mean_draws(values, names, resamples=4000).var() == pytest.approx(within / len(names), rel=0.1)


def test_a_category_of_one_conversation_does_not_shrink_the_interval_to_nothing():
    names = [f"c{index}" for index in range(10)]
    assert np.ptp(mean_draws(np.arange(10.0), names)) > 1
    lone = mean_draws([0.0, 10.0, *[5.0] * 9], ["lone", *["a"] * 1, *["b"] * 9])
    assert np.ptp(lone) > 0
    with_a_larger_one = mean_draws([0.0, *[5.0] * 9], ["lone", *["b"] * 9])
    assert np.ptp(with_a_larger_one) > 0


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    """Skewed values in 11 categories of 20: about 95 of 100 intervals hold the true mean of means."""
    rng, names = np.random.default_rng(3), [f"c{index:02}" for index in range(11) for _ in range(20)]
    true_means = np.linspace(1.5, 3.5, 11)
    covered = 0
    for trial in range(200):
        values = np.concatenate([1 + rng.gamma(2, (mean - 1) / 2, size=20) for mean in true_means])
        draws = mean_draws(values * category_weights(names), names, resamples=400, seed=trial)
        low, high = interval(draws, num_conversations=220)
        covered += low <= true_means.mean() <= high
    assert 0.89 <= covered / 200 <= 0.99


def test_drawing_conversations_is_wider_than_drawing_their_steps():
    """Steps of one conversation resemble each other, so they are not independent observations."""
    rng = np.random.default_rng(5)
    lengths = np.clip(rng.normal(2.5, 0.5, size=(40, 1)) + rng.normal(0, 0.5, size=(40, 50)), 1, 4)
    by_conversation = resample_ratios(
        lengths.sum(axis=1, keepdims=True), np.full((40, 1), 50.0), ["a"] * 40, resamples=1000, seed=0
    )
    by_step = mean_draws(lengths.ravel()[:2000], ["a"] * 2000, resamples=200)
    assert by_conversation.std() > 3 * by_step.std()


def test_resamples_in_which_a_rare_position_has_no_trial_are_left_out_or_end_the_interval():
    trials = np.zeros((100, 1))
    trials[:12] = 1
    often = resample_ratios(trials / 2, trials, ["a"] * 100, resamples=2000, seed=0)[:, 0]
    assert interval(often, num_conversations=12) == (0.5, 0.5)
    assert interval([*[0.5] * 90, *[np.nan] * 10], num_conversations=12) is None
    assert interval([np.nan] * 10, num_conversations=12) is None


def test_a_full_run_is_resampled_ten_thousand_times_in_two_seconds():
    rng, names = np.random.default_rng(0), [f"c{index}" for index in range(11) for _ in range(80)]
    started = time.process_time()
    draws = resample_ratios(rng.random((880, 16)), np.ones((880, 16)), names, resamples=10_000, seed=0)
    assert draws.shape == (10_000, 16)
    assert time.process_time() - started <= 2.0
