"""Intervals cover the truth as often as they say, and are absent where they could not."""

import importlib.util
import sys
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest

from speed_bench.errors import UndefinedMetric
from speed_bench.statistics import (
    Interval,
    Resampled,
    _Tails,
    category_mean,
    category_weights,
    interval,
    left_out_ratios,
    p_value,
    resample_ratios,
)
from speed_bench.tally import pool, tally_steps

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def resampled_mean(values, strata, *, resamples=2000, seed=0):
    column = np.asarray(values, dtype=float)[:, None]
    return Resampled.of(column, np.ones_like(column), strata, resamples=resamples, seed=seed)


def mean_draws(values, strata, *, resamples=2000, seed=0):
    return resampled_mean(values, strata, resamples=resamples, seed=seed).draws[:, 0]


def mean_interval(values, strata, *, resamples=2000, seed=0):
    found = resampled_mean(values, strata, resamples=resamples, seed=seed)
    return found.interval(num_conversations=len(values), confidence_level=0.95)


def test_category_mean_weighs_every_category_the_same():
    assert category_mean([1, 1, 1, 3], ["a", "a", "a", "b"]) == 2.0
    with pytest.raises(UndefinedMetric):
        category_mean([], [])


def test_category_weights_turn_a_mean_into_a_mean_of_category_means():
    values, names = np.array([1.0, 5.0, 2.0, 7.0, 9.0]), ["a", "b", "a", "c", "b"]
    by_hand = np.mean([np.mean([1, 2]), np.mean([5, 9]), 7])
    assert np.mean(values * category_weights(names)) == pytest.approx(by_hand)


def test_there_is_no_interval_below_eight_conversations():
    found = resampled_mean(range(8), ["a"] * 8)
    assert found.interval(num_conversations=7, confidence_level=0.95) is None
    assert isinstance(found.interval(num_conversations=8, confidence_level=0.95), Interval)


def test_the_same_seed_draws_the_same_and_another_seed_does_not():
    values, strata = np.arange(20.0), ["a", "b"] * 10
    assert np.array_equal(mean_draws(values, strata), mean_draws(values, strata))
    assert not np.array_equal(mean_draws(values, strata), mean_draws(values, strata, seed=1))


def test_several_ratios_come_from_the_same_draws():
    rng = np.random.default_rng(0)
    above, below = rng.random((30, 1)), rng.random((30, 1)) + 1
    both = resample_ratios(np.hstack((above, 2 * above)), np.hstack((below, below)), ["a"] * 30, resamples=50, seed=0)
    assert np.allclose(both[:, 1], 2 * both[:, 0])


@pytest.mark.parametrize("names", [["a", "b"] * 5, [f"c{index}" for index in range(10)], ["lone", *["b"] * 9]])
def test_a_constant_has_an_interval_of_width_zero(names):
    assert mean_interval([2.5] * 10, names) == pytest.approx((2.5, 2.5))
    assert resampled_mean([0.0] * 10, names).p_value() == 1.0


def test_the_spread_between_categories_is_not_in_the_interval():
    names = ["easy"] * 20 + ["hard"] * 20
    values = [3.0] * 20 + [1.0] * 20
    low, high = mean_interval(values, names)
    assert high - low < 1e-12
    assert np.ptp(mean_draws(values, ["all"] * 40)) > 0.3


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
    assert np.ptp(mean_interval(np.arange(10.0), names)) > 1
    assert np.ptp(mean_interval([0.0, 10.0, *[5.0] * 9], ["lone", *["a"] * 1, *["b"] * 9])) > 0
    with_a_larger_one = mean_interval([0.0, *[5.0] * 9], ["lone", *["b"] * 9])
    assert np.ptp(with_a_larger_one) > 0


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    """Skewed values in 11 categories of 20: about 95 of 100 intervals hold the true mean of means."""
    rng, names = np.random.default_rng(3), [f"c{index:02}" for index in range(11) for _ in range(20)]
    true_means = np.linspace(1.5, 3.5, 11)
    covered = 0
    for trial in range(200):
        values = np.concatenate([1 + rng.gamma(2, (mean - 1) / 2, size=20) for mean in true_means])
        low, high = mean_interval(values * category_weights(names), names, resamples=400, seed=trial)
        covered += low <= true_means.mean() <= high
    assert 0.89 <= covered / 200 <= 0.99


def test_ten_conversations_of_unequal_length_cover_as_they_should_where_plain_percentiles_do_not():
    """A ratio of sums, where two of ten conversations are five times as long as the others. Its spread is
    known from about five: the plain percentiles hold the truth 86 times in 100."""
    rng, num = np.random.default_rng(11), 1000
    below = np.tile(np.array([[5.0]] * 2 + [[1.0]] * 8), (1, num))
    above = below * rng.normal(0.5, 0.1, size=(10, num))
    found = Resampled.of(above, below, ["qa"] * 10, resamples=1000, seed=0)
    bounds = [found.interval(column, num_conversations=10, confidence_level=0.95) for column in range(num)]
    covered = np.mean([low <= 0.5 <= high for low, high in bounds])
    low, high = np.quantile(found.draws, [0.025, 0.975], axis=0)
    assert np.mean((low <= 0.5) & (high >= 0.5)) < 0.87
    assert covered > 0.91


def test_leaving_one_out_is_computing_the_value_again_without_it():
    rng, names = np.random.default_rng(2), ["a"] * 4 + ["b"] * 3
    lengths, one = rng.random((7, 1)), np.ones((7, 1))
    left = left_out_ratios(lengths * category_weights(names)[:, None], one, names)[:, 0]
    for row in range(7):
        rest = [index for index in range(7) if index != row]
        assert left[row] == pytest.approx(category_mean(lengths[rest, 0], [names[index] for index in rest]))
    below = rng.integers(1, 9, size=(7, 1))
    pooled = left_out_ratios(lengths, below, ["all"] * 7)[:, 0]
    assert pooled[0] == pytest.approx(lengths[1:].sum() / below[1:].sum())


def test_leaving_out_the_only_conversation_with_a_trial_leaves_no_value():
    left = left_out_ratios(np.array([[3.0], [0.0], [0.0]]), np.array([[7.0], [0.0], [0.0]]), ["a"] * 3)[:, 0]
    assert np.isnan(left[0])
    assert left[1] == pytest.approx(3 / 7)


def test_the_jackknife_has_the_textbook_standard_error_of_a_mean_of_category_means():
    rng, names = np.random.default_rng(4), ["a"] * 12 + ["b"] * 30
    values = np.concatenate((rng.normal(size=12), rng.normal(0, 3, size=30)))
    found = resampled_mean(values * category_weights(names), names)
    textbook = np.sqrt(values[:12].var(ddof=1) / 12 + values[12:].var(ddof=1) / 30) / 2
    narrow = found.draws[:, 0] / 2  # so that the jackknife is the wider one and shows
    assert _Tails.of(narrow, found.left_out[:, 0], names).widening * narrow.std() == pytest.approx(textbook)


def test_degrees_of_freedom_are_those_of_the_conversations_that_carry_the_value():
    def degrees(weights):
        values = np.random.default_rng(0).choice([-1.0, 1.0], size=80) * weights
        found = resampled_mean(values, ["qa"] * 80)
        return _Tails.of(found.draws[:, 0], found.left_out[:, 0], found.strata).degrees

    assert degrees(np.ones(80)) == 79
    assert degrees(np.where(np.arange(80) < 10, 10.0, 1.0)) == pytest.approx(79 * 2 / 6, rel=0.1)


@pytest.mark.parametrize(
    ("degrees", "confidence_level", "quantile"),
    [(4, 0.95, 2.7764), (11, 0.95, 2.2010), (79, 0.95, 1.9905), (11, 0.5, 0.6974), (11, 0.99, 3.1058)],
)
def test_the_percentile_is_that_of_the_tabulated_t_quantile(degrees, confidence_level, quantile):
    level = _Tails(degrees, 1.0).level(1 - confidence_level)
    assert -NormalDist().inv_cdf(level) == pytest.approx(quantile, rel=0.003)


def test_bounds_of_a_rate_stay_within_zero_and_one():
    above = np.array([[9.0], *[[1.0]] * 7])
    found = Resampled.of(above, np.array([[10.0], *[[1.0]] * 7]), ["qa"] * 8, resamples=2000, seed=0)
    low, high = found.interval(num_conversations=8, confidence_level=0.999)
    assert 0 <= low < high <= 1


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
    often = Resampled.of(trials / 2, trials, ["a"] * 100, resamples=2000, seed=0)
    assert often.interval(num_conversations=12, confidence_level=0.95) == (0.5, 0.5)
    names = ["a"] * 12
    for draws in ([*[0.5] * 90, *[np.nan] * 10], [np.nan] * 10):
        assert interval(draws, num_conversations=12, left_out=[0.5] * 12, strata=names) is None


@pytest.mark.parametrize("confidence_level", [0.8, 0.95, 0.99])
def test_p_is_below_alpha_exactly_where_the_interval_excludes_zero(confidence_level):
    rng, names, alpha, excluded = np.random.default_rng(9), ["a"] * 6 + ["b"] * 6, 1 - confidence_level, 0
    for trial in range(150):
        values = rng.normal(rng.uniform(-1.5, 1.5), 1, size=12)
        if trial % 3 == 0:
            values = values.round()  # ties, and differences of exactly 0
        found = resampled_mean(values, names, resamples=500, seed=trial)
        low, high = found.interval(num_conversations=12, confidence_level=confidence_level)
        assert (found.p_value() < alpha) == (low > 0 or high < 0)
        excluded += low > 0 or high < 0
    assert 20 < excluded < 130


def test_p_has_a_smallest_value_and_no_sign():
    rng = np.random.default_rng(1)
    far = resampled_mean(rng.normal(9, 1, size=20), ["a"] * 20, resamples=999)
    assert far.p_value() == 2 / 1000
    near = resampled_mean(rng.normal(0.3, 1, size=20), ["a"] * 20)
    assert near.p_value() == p_value(-near.draws[:, 0], left_out=-near.left_out[:, 0], strata=near.strata)


@pytest.fixture
def processes(monkeypatch):
    """The module of the coverage study, which is no part of the package."""
    spec = importlib.util.spec_from_file_location("processes", BENCHMARKS / "processes.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "processes", module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("last_step", ["complete", "cut", "unknown"])
@pytest.mark.parametrize("proposal_share", [1.0, 0.4])
def test_the_process_of_the_coverage_study_counts_as_tallies_do(processes, last_step, proposal_share):
    """The same steps drawn one by one and tallied: every sum within 5 standard errors."""
    rng, rates, num = np.random.default_rng(1), (0.6, 0.65, 0.7), 2000
    process = processes.Process(
        "short turns",
        rates=(0.6, 0.6),
        rate_drop=-0.05,
        effect_sd=0.0,
        proposal_share=proposal_share,
        last_step=last_step,
    )
    lengths = rng.integers(1, 14, size=num)
    one = processes.Conversations(np.zeros(1, dtype=int), np.zeros((1, num)), (lengths[None],))
    counts = processes.decode(process, one, rng)

    tallies = []
    for left in lengths.tolist():
        steps, cut = [], False
        while left:
            drafted = 3 * int(rng.random() < proposal_share)
            accepted = next((k for k in range(drafted) if rng.random() >= rates[k]), drafted)
            emitted = min(accepted + 1, left)
            cut, left = emitted <= accepted, left - emitted
            steps.append((drafted, accepted, emitted))
        known = last_step if last_step == "unknown" or cut else "complete"
        tallies.append(tally_steps(steps, last_step=known))
    total = pool(tallies)

    assert counts.num_tokens.sum() == total.num_tokens
    assert np.array_equal(counts.num_tokens, counts.num_steps + counts.reached.sum(axis=0))
    for name in ("num_steps", "verify_steps", "trials", "successes", "reached"):
        found, expected = getattr(counts, name).sum(axis=(-2, -1)), np.array(getattr(total, name))
        assert np.all(np.abs(found - expected) < 5 * np.sqrt(2 * expected)), name
