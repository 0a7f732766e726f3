"""What holds of every front, and of every pair of them."""

import math
import random

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from speed_bench.errors import UndefinedMetric
from speed_bench.pareto import Point, crossings, front

TPS = st.floats(0.01, 1e5)
POINTS = st.lists(st.builds(Point, TPS, TPS, st.integers(1, 512)), min_size=1, max_size=12)
OTHER = {"a": "b", "b": "a", "equal": "equal"}


def beats(one: Point, other: Point) -> bool:
    at_least = one.user_tps >= other.user_tps and one.output_tps >= other.output_tps
    return at_least and (one.user_tps > other.user_tps or one.output_tps > other.output_tps)


def line(slope: float, height: float, *places: float) -> list[Point]:
    """Points of output = height · user^slope: a straight line in the logarithms."""
    return [Point(place, height * place**slope, number) for number, place in enumerate(places, 1)]


@settings(max_examples=100, deadline=None)
@given(POINTS)
def test_no_point_of_a_front_is_beaten_and_every_other_one_is(points):
    kept = front(points)
    assert not any(beats(one, other) for one in points for other in kept)
    assert all(any(beats(one, other) or one[:2] == other[:2] for one in kept) for other in points)
    assert [point.user_tps for point in kept] == sorted({point.user_tps for point in kept})


@settings(max_examples=100, deadline=None)
@given(POINTS, POINTS, st.integers(0, 100))
def test_the_order_of_the_points_does_not_matter(a, b, seed):
    shuffled = [random.Random(seed).sample(points, len(points)) for points in (a, b)]
    assert front(shuffled[0]) == front(a)
    assert crossings(*shuffled) == crossings(a, b)


@settings(max_examples=100, deadline=None)
@given(POINTS, POINTS)
def test_it_does_not_matter_which_arm_comes_first_but_for_the_names(a, b):
    there, back = crossings(a, b), crossings(b, a)
    assert (back.span, back.above) == (there.span, tuple(OTHER[side] for side in there.above))
    assert [each.user_tps for each in back.crossings] == pytest.approx([each.user_tps for each in there.crossings])
    assert [each.concurrency_b for each in back.crossings] == [each.concurrency_a for each in there.crossings]
    assert len(there.above) == (len(there.crossings) + 1 if there.span else 0)


@settings(max_examples=50, deadline=None)
@given(st.floats(-3, -0.1), st.floats(-3, -0.1), st.floats(2.5, 60.0))
def test_two_straight_lines_cross_where_they_do(first, second, at):
    assume(abs(first - second) >= 0.05)
    places = (2.0, 5.0, 20.0, 64.0)
    found = crossings(line(first, 100.0, *places), line(second, 100.0 * at ** (first - second), *places))
    [crossing] = found.crossings
    assert crossing.user_tps == pytest.approx(at)
    assert crossing.output_tps == pytest.approx(100.0 * at**first)
    assert found.above == (("a", "b") if first < second else ("b", "a"))
    inner = [number for number, place in enumerate(places, 1) if place <= at * (1 + 1e-12)]
    assert crossing.concurrency_a[0] == inner[-1]


def test_an_arm_that_is_better_everywhere_is_above_throughout_and_nowhere_crossed():
    better, worse = line(-1.0, 200.0, 1.0, 10.0, 100.0), line(-1.0, 100.0, 5.0, 50.0, 500.0)
    found = crossings(better, worse)
    assert (found.span, found.crossings, found.above) == ((5.0, 100.0), (), ("a",))


def test_fronts_without_a_common_range_are_not_compared():
    found = crossings(line(-1.0, 100.0, 1.0, 2.0), line(-1.0, 100.0, 3.0, 4.0))
    assert (found.span, found.crossings, found.above) == (None, (), ())


def test_a_front_against_itself_is_equal_and_a_single_common_point_can_be_compared():
    points = line(-0.5, 100.0, 1.0, 4.0)
    assert crossings(points, points).above == ("equal",)
    assert crossings(points, [Point(4.0, 60.0, 7)]).above == ("b",)


def test_fronts_that_touch_and_part_do_not_cross_and_a_crossing_in_a_point_names_it():
    bent = [Point(1.0, 100.0, 3), Point(2.0, 50.0, 2), Point(4.0, 40.0, 1)]
    straight = line(-1.0, 100.0, 1.0, 4.0)
    assert crossings(bent, straight).above == ("a",)
    through = [Point(1.0, 90.0, 3), Point(2.0, 50.0, 2), Point(4.0, 40.0, 1)]
    [crossing] = crossings(through, straight).crossings
    assert (crossing.user_tps, crossing.concurrency_a, crossing.concurrency_b) == (pytest.approx(2.0), (2, 2), (1, 2))


def test_several_crossings_are_told_one_after_the_other():
    steep = [Point(1.0, 100.0, 4), Point(2.0, 30.0, 3), Point(4.0, 29.0, 2), Point(8.0, 5.0, 1)]
    found = crossings(steep, line(-1.0, 80.0, 1.0, 8.0))
    assert found.above == ("a", "b", "a", "b")
    assert [round(each.user_tps, 2) for each in found.crossings] == [
        round(math.exp(math.log(2) * math.log(100 / 80) / (math.log(100 / 80) + math.log(40 / 30))), 2),
        round(2 * math.exp(math.log(2) * math.log(40 / 30) / (math.log(40 / 30) + math.log(29 / 20))), 2),
        round(4 * math.exp(math.log(2) * math.log(29 / 20) / (math.log(29 / 20) + math.log(10 / 5))), 2),
    ]


@pytest.mark.parametrize("points", [[], [Point(0.0, 5.0, 1)], [Point(5.0, 0.0, 1)]])
def test_a_front_of_nothing_or_of_a_load_without_throughput_is_undefined(points):
    with pytest.raises(UndefinedMetric):
        front(points)
