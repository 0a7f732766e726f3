"""Runs over real sockets at draft lengths 1 and 5 predict what a run at 3 measures against one without speculation.

The simulator tells in which pass it emitted what. A journal whose tokens arrive when these passes end by the model's
own clock is that of a machine which is never busy, so what is compared here does not depend on ours.
"""

from dataclasses import replace
from pathlib import Path

import pytest
from timed_run import TimedRun, Told, timed_run

from speed_bench.comparison import compare
from speed_bench.draft_lengths import Arm, Given, predict
from speed_bench.records import RunRecords
from speed_bench.scores import Bootstrap
from speed_bench.serving import output_tps
from speed_bench.step_sums import sum_steps
from speed_bench.types import TurnRecord

pytestmark = pytest.mark.long

SETTINGS = {
    "engine.step_ms": 8.0,
    "engine.acceptance": [0.97, 0.95, 0.9, 0.3, 0.2],  # high, then low: a few hundred steps have little chance in them
    "engine.mean_output_tokens": 80.0,
    "max_tokens": 240,
}
BOOTSTRAP = Bootstrap(confidence_level=0.95, resamples=500, seed=0)


def on_time(run: TimedRun) -> RunRecords:
    """The records of a run with every token at the end of its pass, by the model's own clock."""
    ends_s = run.passes["model_ms"] / 1000

    def moved(turn: TurnRecord, told: Told) -> TurnRecord:
        sizes = [1, *(step.emitted for step in told.steps)]
        times = [float(ends_s[number]) for number in told.passes]
        sent_at_s = float(ends_s[told.passes[0] - 1])
        arrivals = tuple(zip(times, sizes, strict=True))
        return replace(turn, sent_at_s=sent_at_s, arrivals=arrivals, finished_at_s=times[-1])

    return replace(run.records, turns=tuple(moved(turn, told) for turn, told in run.pairs))


@pytest.mark.parametrize(("concurrency", "limit"), [(1, 2), (16, 12)], ids=["alone", "sixteen"])
def test_the_shortest_and_the_longest_draft_predict_the_one_between(concurrency: int, limit: int, tmp_path: Path):
    speed = {"engine.speed": 8.0 if concurrency == 1 else 2.0}  # slow enough for all streams to keep up
    flags = {**SETTINGS, **speed, "concurrency": concurrency, "limit_per_category": limit}
    loops = {
        k: on_time(timed_run(tmp_path / f"k{k}", **flags, **({"draft_length": k} if k else {"algorithm": "none"})))
        for k in (0, 1, 3, 5)
    }
    arms = [Arm(f"k{k}", k, sum_steps([loops[k]], k), None) for k in (1, 5)]
    found = predict(arms, sum_steps([loops[0]]), Given(), bootstrap=BOOTSTRAP, closed_loop=True)
    row = next(row for row in found.rows if row.draft_length == 3)
    assert (row.run, row.acceptance_from, row.step_time_from) == (None, "shorter", "line")
    found_there = compare(loops[3], loops[0], BOOTSTRAP).speedup_tpot
    measured = found_there.value
    print(f"concurrency {concurrency}: expected {row.speedup.value:.3f}, measured {measured:.3f}")
    assert row.speedup.value == pytest.approx(measured, rel=0.03)
    # Both are measured: what one run comes to need not lie in the interval of what others let expect.
    assert row.speedup.low < found_there.high
    assert found_there.low < row.speedup.high
    if concurrency == 1:  # one stream is always busy
        assert row.speedup_output_tps.value == pytest.approx(busy_ratio(loops[3], loops[0]), rel=0.03)


def busy_ratio(run: RunRecords, baseline: RunRecords) -> float:
    """Output tokens per second from request to last token, of a run / of its baseline."""
    mine, other = (
        output_tps(*([(turn.sent_at_s, turn.arrivals)] for turn in records.turns)) for records in (run, baseline)
    )
    return mine / other
