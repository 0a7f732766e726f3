"""What a system can choose between: tokens for all, or pace for each; and where two systems change places.

More load raises the throughput and lowers what each user sees. Of all loads that were measured, the Pareto
front holds those that no other one beats in both.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from speed_bench.errors import UndefinedMetric

FloatArray = npt.NDArray[np.float64]
Side = Literal["a", "b", "equal"]
_EQUAL = 1e-9
"""Two logarithms that differ by less are those of the same throughput."""


class Point(NamedTuple):
    """One load of an arm."""

    user_tps: float
    """What one user sees, in tokens per second."""
    output_tps: float
    """What all of them together get, in tokens per second; per GPU, if all points are."""
    concurrency: int


class Crossing(NamedTuple):
    """Where two fronts change places."""

    user_tps: float
    output_tps: float
    concurrency_a: tuple[int, int]
    """Of the neighbouring points of the first front, by rising User TPS; twice the same where it crosses in one."""
    concurrency_b: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Standing:
    """How two fronts stand to each other over the User TPS that both cover."""

    span: tuple[float, float] | None
    """That range of User TPS; None where there is none, and nothing can be said."""
    crossings: tuple[Crossing, ...]
    """By rising User TPS."""
    above: tuple[Side, ...]
    """Which front is above before the first crossing, between them, and after the last. Without a crossing one for
    the whole range; `equal` where they are the same throughout. Empty without a range."""


def front(points: Iterable[Point]) -> list[Point]:
    """The points that no other one beats, by rising User TPS: so their throughput falls.

    A point is beaten by one that is at least as good in both and better in one. Of equal points the one with
    the lowest concurrency stays. Raises UndefinedMetric without a point, or for one that is not above 0.

    >>> front([Point(50.0, 50.0, 1), Point(40.0, 320.0, 8), Point(39.0, 310.0, 9), Point(10.0, 900.0, 128)])
    [Point(user_tps=10.0, output_tps=900.0, concurrency=128), Point(user_tps=40.0, output_tps=320.0, concurrency=8), \
Point(user_tps=50.0, output_tps=50.0, concurrency=1)]
    """
    best: list[Point] = []
    for point in sorted(points, key=lambda point: (-point.user_tps, -point.output_tps, point.concurrency)):
        if not (point.user_tps > 0 and point.output_tps > 0):
            raise UndefinedMetric(f"Pareto front: concurrency {point.concurrency} has no throughput")
        if not best or point.output_tps > best[-1].output_tps:
            best.append(point)
    if not best:
        raise UndefinedMetric("Pareto front: no points")
    return best[::-1]


def crossings(a: Iterable[Point], b: Iterable[Point]) -> Standing:
    """Where the fronts of two arms cross, and which is above where.

    Between neighbouring points a front is taken as straight in the logarithms of both, so a constant trade of one
    for the other is a straight line. Only the User TPS that both fronts cover is looked at: beyond it one of them was
    not measured. Fronts that meet and part without changing places do not cross. Raises as `front` does.

    >>> plain = [Point(10.0, 1000.0, 100), Point(100.0, 100.0, 1)]
    >>> drafted = [Point(10.0, 500.0, 50), Point(100.0, 200.0, 2)]
    >>> found = crossings(plain, drafted)
    >>> found.above, round(found.crossings[0].user_tps, 1), found.crossings[0].concurrency_b
    (('a', 'b'), 31.6, (50, 2))
    """
    fronts = front(a), front(b)
    low, high = max(each[0].user_tps for each in fronts), min(each[-1].user_tps for each in fronts)
    if low > high:
        return Standing(None, (), ())
    inside = {point.user_tps for each in fronts for point in each if low <= point.user_tps <= high}
    places = np.log(sorted(inside | {low, high}))
    heights = [_heights(each, places) for each in fronts]
    signs = [_sign(gap) for gap in heights[0] - heights[1]]
    found: list[Crossing] = []
    above: list[Side] = []
    latest: int | None = None
    for index, sign in enumerate(signs):
        if sign == 0:
            continue
        if latest is None:
            above.append("a" if sign > 0 else "b")
        elif sign != signs[latest]:
            found.append(_crossing(fronts, places, heights, latest))
            above.append("a" if sign > 0 else "b")
        latest = index
    return Standing((low, high), tuple(found), tuple(above or ["equal"]))


def _heights(points: Sequence[Point], places: FloatArray) -> FloatArray:
    """The logarithm of a front's throughput at these logarithms of User TPS."""
    known = np.log([(point.user_tps, point.output_tps) for point in points])
    return np.interp(places, known[:, 0], known[:, 1])


def _sign(gap: float) -> int:
    return 0 if abs(gap) < _EQUAL else (1 if gap > 0 else -1)


def _crossing(
    fronts: tuple[Sequence[Point], Sequence[Point]], places: FloatArray, heights: Sequence[FloatArray], before: int
) -> Crossing:
    """That of two fronts after the place number `before`, the last at which they differ as they did."""
    gaps = heights[0] - heights[1]
    meets_in_point = _sign(gaps[before + 1]) == 0
    share = 1.0 if meets_in_point else float(gaps[before] / (gaps[before] - gaps[before + 1]))
    place, height = (float(each[before] + share * (each[before + 1] - each[before])) for each in (places, heights[0]))
    first, second = (_neighbours(each, place) for each in fronts)
    return Crossing(float(np.exp(place)), float(np.exp(height)), first, second)


def _neighbours(points: Sequence[Point], place: float) -> tuple[int, int]:
    """The concurrency of the points of a front on both sides of this logarithm of User TPS."""
    known = np.log([point.user_tps for point in points])
    right = int(np.searchsorted(known, place - _EQUAL))
    on_it = right < len(known) and abs(known[right] - place) < _EQUAL
    left = right if on_it else right - 1
    return points[left].concurrency, points[right].concurrency
