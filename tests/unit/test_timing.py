"""What the interval of a loaded run's throughput is drawn from."""

import pytest
from records import run_of, steps_of, turn

from speed_bench.scores import Bootstrap
from speed_bench.timing import run_output_tps
from speed_bench.types import TurnRecord


def asked(number: int, slot: int, at_s: float, took_s: float) -> TurnRecord:
    record = turn(f"{number:032x}/0", steps_of(2), at_s=at_s, slot=slot)
    arrivals = ((at_s + took_s / 2, 1), (at_s + took_s, 3))
    return turn(
        f"{number:032x}/0",
        steps_of(2),
        at_s=at_s,
        slot=slot,
        arrivals=arrivals,
        finished_at_s=record.sent_at_s + took_s,
    )


def test_only_conversations_that_filled_the_load_take_the_place_of_others_that_did() -> None:
    filling = [asked(slot, slot, 0.0, 10.0) for slot in range(4)]  # all prefilled at once, so all slow
    later = [asked(4 + number, number % 4, 10.0 + 2.0 * (number // 4), 2.0) for number in range(12)]
    found = run_output_tps(run_of(*filling, *later), Bootstrap(confidence_level=0.95, resamples=200, seed=0))
    assert found.value == pytest.approx(16 * 4 / 16.0)
    assert (found.low, found.high) == pytest.approx((found.value, found.value))  # nothing but the filling differed
