"""What each serving metric counts, and when a turn has no such value."""

import math

import pytest

from speed_bench.errors import UndefinedMetric
from speed_bench.serving import (
    closed_loop_span,
    decode_span,
    e2e_s,
    goodput_rps,
    itl_s,
    meets,
    open_loop_span,
    output_tps,
    percentiles,
    slo_time_s,
    steady_output_tps,
    step_gap_s,
    tpot_s,
    tpot_total_s,
    ttft_s,
    user_tps,
)

ARRIVALS = [(1.0, 1), (1.5, 2), (1.75, 1)]


def test_output_tps_spans_from_the_first_request_to_the_last_token_of_any_turn():
    long, short = (0.0, [(1.0, 1), (4.0, 5)]), (0.5, [(0.75, 1), (1.0, 1)])
    assert output_tps([long, short]) == output_tps([short, long]) == 8 / 4.0


def test_output_tps_counts_the_tokens_of_a_first_arrival():
    assert output_tps([(0.0, [(2.0, 6)])]) == 3.0


def test_output_tps_of_several_segments_leaves_the_time_between_them_out():
    assert output_tps([(0.0, [(1.0, 4)])], [], [(50.0, [(51.0, 2)])]) == 3.0


@pytest.mark.parametrize("turns", [[], [(0.0, [])], [(1.0, [(1.0, 3)])]])
def test_output_tps_is_undefined_without_a_token_or_without_time(turns):
    with pytest.raises(UndefinedMetric):
        output_tps(turns)


def test_ttft_is_counted_from_the_given_start_to_the_first_token():
    assert ttft_s(0.25, ARRIVALS) == 0.75


def test_a_read_without_tokens_is_no_arrival():
    padded = [(0.5, 0), *ARRIVALS[:1], (1.2, 0), *ARRIVALS[1:], (9.0, 0)]
    assert ttft_s(0.25, padded) == 0.75
    assert step_gap_s(padded).tolist() == [0.5, 0.25]
    assert tpot_s(padded) == tpot_s(ARRIVALS)
    assert output_tps([(0.0, padded)]) == output_tps([(0.0, ARRIVALS)])


def test_itl_has_one_value_per_token_and_they_sum_to_the_decode_time():
    assert itl_s(ARRIVALS).tolist() == [0.25, 0.25, 0.25]
    assert itl_s(ARRIVALS).sum() == decode_span(ARRIVALS)[0]
    assert len(itl_s(ARRIVALS)) == decode_span(ARRIVALS)[1]


def test_tpot_and_user_tps_are_inverse_and_do_not_see_the_time_to_the_first_token():
    assert tpot_s(ARRIVALS) == 0.25
    assert user_tps(ARRIVALS) == 4.0
    later = [(at + 100, num) for at, num in ARRIVALS]
    assert (tpot_s(later), user_tps(later)) == (0.25, 4.0)


def test_total_tpot_weighs_turns_by_their_tokens():
    slow, fast = [(0.0, 1), (1.0, 1)], [(0.0, 1), (1.0, 9)]
    assert tpot_total_s([slow, fast]) == 0.2
    assert tpot_total_s([slow, fast, [(0.0, 3)]]) == 0.2


@pytest.mark.parametrize("arrivals", [[], [(1.0, 5)]])
def test_a_turn_of_one_arrival_has_no_pace(arrivals):
    assert tpot_s(arrivals) is None
    assert user_tps(arrivals) is None
    assert step_gap_s(arrivals).size == itl_s(arrivals).size == 0
    with pytest.raises(UndefinedMetric):
        tpot_total_s([arrivals])


def test_arrivals_at_one_instant_have_no_user_tps_instead_of_an_infinite_one():
    assert user_tps([(1.0, 1), (1.0, 4)]) is None
    assert tpot_s([(1.0, 1), (1.0, 4)]) == 0.0


def test_a_turn_without_tokens_has_no_ttft():
    assert ttft_s(0.0, []) is None


def test_percentiles_are_numbers_by_name():
    found = percentiles(range(101))
    assert found == {"p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0}
    assert all(type(value) is float and math.isfinite(value) for value in found.values())


def test_percentiles_of_nothing_are_undefined():
    with pytest.raises(UndefinedMetric):
        percentiles([])


# Steady state and goodput


def stream(number: int, *ends: float) -> list[tuple[int, float, list[tuple[float, int]]]]:
    """Requests of one stream, each sent when the one before ended; its first token comes after 1 s."""
    starts = [0.0, *ends[:-1]]
    return [(number, start, [(start + 1.0, 1), (end, 9)]) for start, end in zip(starts, ends, strict=True)]


def test_the_closed_loop_span_begins_when_all_streams_bring_tokens_and_ends_with_the_first_that_ends():
    late = [(1, 2.0, [(5.0, 1), (14.0, 9)]), (1, 14.0, [(15.0, 1), (30.0, 9)])]
    assert closed_loop_span(stream(0, 8.0, 16.0, 24.0) + late) == (5.0, 24.0)


def test_a_stream_that_ends_early_ends_the_closed_loop_span_though_others_have_later_turns():
    assert closed_loop_span(stream(0, 6.0, 12.0) + stream(1, 3.0, 6.0, 9.0, 50.0)) == (1.0, 12.0)


def test_the_closed_loop_span_is_none_when_it_is_short_or_holds_too_few_turns():
    assert closed_loop_span(stream(0, 3.0, 6.0, 10.5)) is None
    assert closed_loop_span(stream(0, 3.0, 11.5)) == (1.0, 11.5)
    assert closed_loop_span(stream(0, 11.5)) is None
    assert closed_loop_span([]) is None
    assert closed_loop_span([*stream(0, 6.0, 12.0), (1, 0.0, [])]) is None


def test_steady_tps_counts_what_arrived_in_the_span_alone():
    turns = stream(0, 6.0, 12.0) + stream(1, 3.0, 6.0, 9.0, 50.0)
    segment = (closed_loop_span(turns), [arrivals for _, _, arrivals in turns])
    assert steady_output_tps(segment) == (9 + 1 + 9 + (9 + 1 + 9 + 1 + 9 + 1)) / 11.0
    assert steady_output_tps(segment, segment) == steady_output_tps(segment)
    assert steady_output_tps(segment, (None, segment[1])) == steady_output_tps(segment)
    assert steady_output_tps((None, segment[1])) is None


def test_a_closed_loop_of_which_streams_never_began_has_no_steady_span():
    turns = stream(0, 6.0, 12.0, 18.0) + stream(1, 6.0, 12.0, 18.0)
    assert closed_loop_span(turns, num_streams=2) == (1.0, 18.0)
    assert closed_loop_span(turns, num_streams=3) is None


def test_a_time_limit_ends_the_steady_span_where_it_is_earlier():
    turns = stream(0, 3.0, 6.0, 9.0, 12.0, 15.0)
    assert closed_loop_span(turns, ended_at_s=13.0) == (1.0, 13.0)
    assert closed_loop_span(turns, ended_at_s=40.0) == (1.0, 15.0)
    assert closed_loop_span(turns, ended_at_s=10.0) is None


def arrivals_every(gap_s: float, num: int, takes_s: float) -> list[tuple[float, list[tuple[float, int]]]]:
    """Requests due one after the other, each answered by one token, after so long."""
    return [(gap_s * n, [(gap_s * n + takes_s, 1)]) for n in range(num)]


def test_the_steady_span_of_an_open_loop_is_from_warm_up_to_the_last_scheduled_arrival():
    turns = arrivals_every(1.0, 31, 2.0)
    assert open_loop_span(turns) == (0.0, 30.0)
    assert open_loop_span(turns, warmed_up_at_s=7.5, ended_at_s=29.0) == (7.5, 29.0)
    assert open_loop_span(turns, warmed_up_at_s=20.0) == (20.0, 30.0)
    assert open_loop_span(turns, warmed_up_at_s=20.5) is None
    assert open_loop_span([]) is None
    assert open_loop_span([(0.0, [])]) is None


def test_an_open_loop_is_not_steady_before_twice_what_is_under_way_has_ended():
    assert open_loop_span(arrivals_every(1.0, 31, 9.0)) == (0.0, 30.0)  # 22 ended, 8 under way on average
    assert open_loop_span(arrivals_every(1.0, 31, 12.0)) is None  # 19 ended, 10 under way
    assert open_loop_span(arrivals_every(1.0, 31, 40.0)) is None  # none ended


@pytest.mark.parametrize(("term", "time_s"), [("ttft_s", 0.5), ("tpot_s", 0.25), ("e2e_s", 1.25)])
def test_a_time_that_an_slo_can_name_is_that_of_the_function_of_its_name(term, time_s):
    assert slo_time_s(term, 0.5, ARRIVALS) == time_s
    assert slo_time_s(term, 0.5, []) is None


def test_end_to_end_is_the_last_token():
    assert e2e_s(0.5, ARRIVALS) == 1.25
    assert e2e_s(0.5, []) is None


def test_goodput_is_the_requests_that_kept_every_limit_over_the_whole_span():
    fast, slow, single = (0.0, [(0.1, 1), (0.5, 4)]), (0.0, [(1.0, 1), (2.0, 4)]), (0.0, [(0.1, 1)])
    assert goodput_rps([fast, slow], slo={"ttft_s": 0.5}) == 0.5
    assert goodput_rps([fast, slow], slo={"ttft_s": 2.0, "tpot_s": 0.1}) == 0.5
    assert goodput_rps([fast, slow, single, (0.0, [])], slo={"tpot_s": 0.1}) == 1.0
    assert goodput_rps([fast], [slow], slo={"ttft_s": 0.5}) == 1 / 2.5
    with pytest.raises(UndefinedMetric):
        goodput_rps([(0.0, [])], slo={"ttft_s": 1.0})


@pytest.mark.parametrize(("name", "value"), [("ttft_s", 0.5), ("tpot_s", 0.25), ("e2e_s", 1.25)])
def test_a_limit_is_kept_when_it_is_met_exactly(name, value):
    assert meets({name: value}, 0.5, ARRIVALS)
    assert not meets({name: value - 0.01}, 0.5, ARRIVALS)
