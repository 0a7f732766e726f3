"""Clocks of two machines: what an exchange says of them holds whatever the network did."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speed_bench.errors import UndefinedMetric
from speed_bench.sweep.clocks import Offset, Ping, error_s, offset_of

delays = st.integers(0, 50_000_000)
aheads = st.integers(-(10**18), 10**18)


def exchange(ahead_ns: int, ways: list[tuple[int, int]]) -> list[Ping]:
    """Pings to a clock that is so much ahead, over ways of so long there and back."""
    sent = [1_000_000_000 * number for number in range(len(ways))]
    return [Ping(at, at + there + ahead_ns, at + there + back) for at, (there, back) in zip(sent, ways, strict=True)]


@given(ahead=aheads, ways=st.lists(st.tuples(delays, delays), min_size=1, max_size=20))
def test_the_offset_is_within_its_error_however_unlike_both_ways_are(ahead, ways):
    found = offset_of(exchange(ahead, ways))
    assert abs(found.ahead_ns - ahead) <= found.error_ns


@given(ways=st.lists(st.tuples(delays, delays), min_size=1, max_size=20))
def test_the_error_is_half_the_shortest_round_trip(ways):
    shortest = min(there + back for there, back in ways)
    assert offset_of(exchange(7, ways)).error_ns == -(-shortest // 2)


@given(
    ahead=aheads,
    drift=st.integers(-(10**9), 10**9),
    part=st.floats(0, 1),
    ways=st.tuples(*[st.tuples(delays, delays)] * 2),
)
def test_a_time_put_on_our_clock_is_off_by_no_more_than_the_stated_error(ahead, drift, part, ways):
    before = offset_of(exchange(ahead, [ways[0]]))
    after = offset_of(exchange(ahead + drift, [ways[1]]))
    really_ahead = ahead + round(part * drift)  # at some time during the load
    assert abs(really_ahead - before.ahead_ns) <= 1e9 * error_s(before, after) + 1


def test_without_an_exchange_there_is_no_offset():
    with pytest.raises(UndefinedMetric, match="no exchange"):
        offset_of([])


def test_the_error_has_both_measurements_and_the_drift_in_it():
    assert error_s(Offset(-100, 10), Offset(-40, 20)) == pytest.approx(90e-9)
