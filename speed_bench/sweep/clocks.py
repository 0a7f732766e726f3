"""Clocks of different machines, compared by ping exchange: how far apart, and how surely."""

from collections.abc import Sequence
from typing import NamedTuple

from speed_bench.errors import UndefinedMetric


class Ping(NamedTuple):
    """One exchange: the other machine read its clock between our two."""

    sent_ns: int
    there_ns: int
    received_ns: int


class Offset(NamedTuple):
    """How far another clock is ahead of ours."""

    ahead_ns: int
    error_ns: int
    """At most so much more or less, whatever part of the exchange the way there took."""


def offset_of(pings: Sequence[Ping]) -> Offset:
    """Of the exchange with the shortest round trip: its error is half of that. Raises UndefinedMetric for none.

    The clock there was read at some time between `sent_ns` and `received_ns` of ours, so it was ahead by what it said
    minus that time: known to half the round trip (Cristian, 1989).

    >>> offset_of([Ping(0, 5_000, 1_000), Ping(2_000, 6_600, 2_100)])
    Offset(ahead_ns=4550, error_ns=50)
    """
    if not pings:
        raise UndefinedMetric("clock offset: no exchange")
    best = min(pings, key=lambda ping: ping.received_ns - ping.sent_ns)
    round_trip_ns = best.received_ns - best.sent_ns
    return Offset(best.there_ns - (best.sent_ns + round_trip_ns // 2), (round_trip_ns + 1) // 2)


def error_s(before: Offset, after: Offset) -> float:
    """By how much times of the other clock are off at most, if they are put on ours by the offset `before` a load.

    Both offsets' own errors, and what the clocks drifted apart until `after` it, as long as that went one way: clocks
    that are disciplined by NTP are slewed, not stepped.

    >>> error_s(Offset(4_000, 50), Offset(4_200, 100))
    3.5e-07
    """
    return (before.error_ns + abs(after.ahead_ns - before.ahead_ns) + after.error_ns) / 1e9
