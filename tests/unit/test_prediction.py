"""The formulas of a prediction, and predictions from given numbers alone."""

import math

import numpy as np
import pytest

from speed_bench.acceptance import acceptance_length, expected_length, joint_acceptance_rate
from speed_bench.draft_lengths import Given, predict
from speed_bench.errors import ConfigError, MetricInputError
from speed_bench.prediction import (
    Estimate,
    Line,
    acceptance_lengths,
    break_even_acceptance_length,
    break_even_rate,
    joint_rates,
    request_time_per_token_s,
    speedup,
    weighted_sum,
    with_errors_of,
)
from speed_bench.scores import Bootstrap
from speed_bench.tally import tally_steps

BOOTSTRAP = Bootstrap(confidence_level=0.95, resamples=200, seed=0)


def from_numbers(extend_to: int = 0, **given):
    return predict([], None, Given(**given), bootstrap=BOOTSTRAP, extend_to=extend_to)


def test_at_the_break_even_length_speculation_neither_helps_nor_hurts():
    assert speedup(0.0196, 0.0259, break_even_acceptance_length(0.0196, 0.0259)) == pytest.approx(1.0)


@pytest.mark.parametrize("draft_length", [1, 3, 8])
@pytest.mark.parametrize("needed", [1.0, 1.01, 1.5, 1.999])
def test_drafts_that_are_right_as_often_as_the_break_even_rate_break_even(draft_length: int, needed: float):
    rate = break_even_rate(1.0, needed, draft_length)
    assert float(expected_length([rate] * draft_length)) == pytest.approx(needed, abs=1e-12)


def test_there_is_no_break_even_rate_where_speculation_always_or_never_pays():
    assert break_even_rate(1.0, 0.99, 3) is None
    assert break_even_rate(1.0, 4.01, 3) is None
    assert (break_even_rate(1.0, 1.0, 3), break_even_rate(1.0, 4.0, 3)) == (0.0, 1.0)


def test_with_the_products_of_rates_lengths_are_those_of_equation_1_for_every_draft_length():
    rates = [0.8, 0.6, 0.9, 0.1]
    lengths = acceptance_lengths(joint_rates(rates), [1, 2, 3, 4])
    assert lengths.tolist() == pytest.approx([float(expected_length(rates[:k])) for k in (1, 2, 3, 4)])


def test_beyond_what_was_drafted_the_last_rate_goes_on_and_without_it_nothing_is_known():
    rates = [0.8, 0.6]
    longer = acceptance_lengths(joint_rates(rates), [5], last_rate=0.6)[0]
    assert longer == pytest.approx(float(expected_length([*rates, 0.6, 0.6, 0.6])))
    assert math.isnan(acceptance_lengths(joint_rates(rates), [5])[0])
    assert acceptance_lengths([], [2], last_rate=0.5).tolist() == [1.75]


def test_cut_short_the_steps_of_a_longer_draft_are_those_of_a_shorter_one():
    steps = [(4, 4, 5), (4, 2, 3), (4, 0, 1), (0, 0, 1), (2, 2, 3), (4, 3, 2)]  # a plain one, a short one, a cut one
    joint = joint_acceptance_rate(tally_steps(steps))
    shorter = [min(emitted, 2 + 1) for _, _, emitted in steps]
    assert acceptance_lengths(joint, [2, 4]).tolist() == pytest.approx(
        [acceptance_length(shorter), acceptance_length(tally_steps(steps))]
    )


def test_every_resample_has_its_own_lengths():
    found = acceptance_lengths([[0.5, 0.25], [1.0, 1.0]], [1, 3], last_rate=np.array([0.5, 1.0]))
    assert found.tolist() == [[1.5, 1.875], [2.0, 4.0]]


def test_the_delta_method_gives_what_resampling_gives():
    rng = np.random.default_rng(0)
    t_ar, t_sd, length = (rng.normal(mean, sd, 200_000) for mean, sd in ((20, 0.2), (30, 0.5), (2.2, 0.03)))
    low, high = np.quantile(t_ar * length / t_sd, [0.025, 0.975])
    bounds = [Estimate(mean, mean - 1.96 * sd, mean + 1.96 * sd) for mean, sd in ((20, 0.2), (30, 0.5), (2.2, 0.03))]
    found = with_errors_of(20 * 2.2 / 30, raising=[bounds[0], bounds[2]], lowering=[bounds[1]])
    assert (found.low, found.high) == (pytest.approx(low, abs=0.002), pytest.approx(high, abs=0.002))


def test_what_has_no_interval_gives_none_and_what_is_off_on_one_side_is_so_in_the_result():
    assert with_errors_of(2.0, raising=[Estimate(1.0)], lowering=[Estimate(3.0)]) == Estimate(2.0)
    found = with_errors_of(2.0, lowering=[Estimate(1.0, 1.0, 2.0)])
    assert (found.low, found.high) == (pytest.approx(1.0), pytest.approx(2.0))


def test_the_line_goes_through_points_that_lie_on_one_and_says_how_far_off_others_are():
    assert Line((1, 5)).coefficients([6.0, 8.0]) == pytest.approx((5.5, 0.5))
    assert Line((1, 5)).residual([6.0, 8.0]) is None
    assert Line((1, 3, 5)).residual([6.0, 7.0, 8.0]) == pytest.approx(0.0, abs=1e-12)
    assert Line((1, 3, 5)).residual([6.0, 7.3, 8.0]) == pytest.approx(math.sqrt(0.06))  # 0.1, 0.2, 0.1 off
    assert Line((1, 3, 3, 5)).weights(3) @ np.array([6.0, 7.1, 6.9, 8.0]) == pytest.approx(7.0)


def test_one_draft_length_makes_no_line():
    with pytest.raises(MetricInputError, match="two draft lengths"):
        Line((3, 3))


def test_a_weighted_sum_is_as_uncertain_as_its_terms():
    found = weighted_sum([2.0, -1.0], [Estimate(5.0, 4.7, 5.3), Estimate(3.0, 2.2, 3.4)])
    assert (found.low, found.value, found.high) == pytest.approx(
        (7 - math.hypot(0.6, 0.4), 7, 7 + math.hypot(0.6, 0.8))
    )


def test_a_stream_is_busy_for_its_first_token_and_all_others():
    assert request_time_per_token_s(0.2, 0.01, 81, 1) == pytest.approx((0.2 + 80 * 0.01) / 81)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((0.0, 0.02, 2.0), "t_ar is 0 s"),
        ((0.02, -0.02, 2.0), "t_sd is -0.02 s"),
        ((0.02, math.inf, 2.0), "t_sd is inf s"),
        ((0.02, 0.03, 0.9), "acceptance length 0.9: a decode step emits at least one token"),
        ((0.02, 0.03, math.nan), "acceptance length nan"),
    ],
)
def test_what_cannot_be_is_refused(arguments: tuple[float, float, float], sentence: str):
    with pytest.raises(MetricInputError, match=sentence):
        speedup(*arguments)


def test_an_interval_has_two_bounds_in_order_and_none_at_0_where_logarithms_are_taken():
    for bounds in ((1.0, None), (None, 1.0), (2.0, 1.0)):
        with pytest.raises(MetricInputError):
            Estimate(1.5, *bounds)
    with pytest.raises(MetricInputError, match="above 0"):
        with_errors_of(1.0, raising=[Estimate(1.0, 0.0, 2.0)])


def test_given_numbers_give_one_row_with_what_breaks_even():
    found = from_numbers(
        acceptance_length=Estimate(2.12, 2.07, 2.17), t_ar_s=Estimate(0.0196), t_sd_s={3: Estimate(0.0259)}
    )
    [row] = found.rows
    assert row.speedup.value == pytest.approx(1.6043, abs=1e-4)
    assert row.speedup.low == pytest.approx(0.0196 * 2.07 / 0.0259)
    assert row.break_even_acceptance_length == pytest.approx(25.9 / 19.6)
    assert row.break_even_rate == pytest.approx(break_even_rate(19.6, 25.9, 3))
    assert (found.best, found.line, row.measured_speedup_tpot, row.speedup_output_tps) == (None,) * 4


def test_without_a_draft_length_there_is_no_rate_and_rates_say_how_long_the_draft_is():
    length = {"acceptance_length": Estimate(2.0), "t_ar_s": Estimate(0.02)}
    [row] = from_numbers(**length, t_sd_s={None: Estimate(0.03)}).rows
    assert (row.draft_length, row.break_even_rate) == (None, None)
    [row] = from_numbers(rates=(0.5, 0.5), t_ar_s=Estimate(0.02), t_sd_s={None: Estimate(0.03)}).rows
    assert (row.draft_length, row.acceptance_length.value) == (2, 1.75)


def test_rates_and_times_of_two_draft_lengths_give_all_others_and_the_best():
    times = {1: Estimate(0.0221, 0.0219, 0.0223), 3: Estimate(0.0259)}
    found = from_numbers(rates=(0.7, 0.6, 0.5), t_ar_s=Estimate(0.0196), t_sd_s=times)
    assert [row.draft_length for row in found.rows] == [1, 2, 3]
    assert [row.step_time_from for row in found.rows] == ["given", "line", "given"]
    assert found.rows[1].step_time_s.value == pytest.approx(0.024)
    assert found.rows[1].step_time_s.low == pytest.approx(0.024 - 0.0001)  # half of the error of one of its two points
    assert [row.speedup.value for row in found.rows] == pytest.approx(
        [0.0196 * length / time for length, time in ((1.7, 0.0221), (2.12, 0.024), (2.33, 0.0259))]
    )
    assert found.best is found.rows[2]


def test_beyond_the_rates_only_what_is_asked_for_and_marked():
    given = {"rates": (0.7, 0.6), "t_ar_s": Estimate(0.02), "t_sd_s": {1: Estimate(0.022), 2: Estimate(0.024)}}
    assert [row.draft_length for row in from_numbers(**given).rows] == [1, 2]
    rows = from_numbers(**given, extend_to=4).rows
    assert [row.draft_length for row in rows] == [1, 2, 3, 4]
    assert [(row.acceptance_from, row.step_time_from) for row in rows[2:]] == [("extrapolated", "extrapolated")] * 2
    assert rows[3].acceptance_length.value == pytest.approx(float(expected_length([0.7, 0.6, 0.6, 0.6])))
    with pytest.raises(ConfigError, match="--extend-to 5 goes on from there"):
        from_numbers(**{**given, "t_sd_s": {1: Estimate(0.022), 5: Estimate(0.03)}})


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"acceptance_length": Estimate(2.0)}, "--t-ar 19.6ms"),
        ({"acceptance_length": Estimate(2.0), "t_ar_s": Estimate(0.02)}, "--t-sd 25.9ms"),
        ({"t_ar_s": Estimate(0.02), "t_sd_s": {3: Estimate(0.03)}}, "there is no acceptance"),
        ({"acceptance_length": Estimate(0.5)}, "at least one token"),
        ({"t_ar_s": Estimate(-0.02)}, "--t-ar -0.02 s"),
        ({"t_sd_s": {3: Estimate(0.0)}}, "--t-sd 0 s"),
        ({"rates": (0.5, 1.5)}, "--rates 1.5"),
        ({"rates": (0.5,), "acceptance_length": Estimate(1.5)}, "leave out one"),
    ],
)
def test_what_is_missing_or_cannot_be_is_said_by_its_flag(given: dict, sentence: str):
    with pytest.raises(ConfigError, match=sentence):
        from_numbers(**given)


def test_one_acceptance_length_does_not_hold_for_several_draft_lengths():
    with pytest.raises(ConfigError, match="--acceptance-length is that of one draft length"):
        from_numbers(
            acceptance_length=Estimate(2.0), t_ar_s=Estimate(0.02), t_sd_s={1: Estimate(0.02), 3: Estimate(0.03)}
        )


def test_a_line_needs_two_draft_lengths_to_be_extended():
    with pytest.raises(ConfigError, match="--extend-to 5 needs the step times of two draft lengths"):
        from_numbers(extend_to=5, rates=(0.5, 0.5), t_ar_s=Estimate(0.02), t_sd_s={2: Estimate(0.03)})
