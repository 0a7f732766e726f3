"""How late our own event loop was is measured, kept with the segment, and said where it matters."""

import asyncio
import gc
import io
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from records import run_of, steps_of, turn
from rich.console import Console

from speed_bench.client_scores import client_lateness
from speed_bench.engines.http import Connection, Url
from speed_bench.provenance import ModelFacts
from speed_bench.records import Lateness, RunRecords
from speed_bench.report.terminal import print_scores
from speed_bench.runner import lateness
from speed_bench.runner.lateness import SWITCH_S, punctual
from speed_bench.scoring import score


@pytest.mark.parametrize("by_the_kernel", [True, False])
def test_a_loop_that_is_held_up_is_late_for_every_point_of_the_grid(
    by_the_kernel: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not by_the_kernel:
        monkeypatch.setattr(lateness, "_kernel_timer", lambda *_: None)
    elif sys.platform != "linux":
        pytest.skip("Linux alone has a timer that is a file")

    async def held_up() -> Lateness | None:
        with punctual() as watch:
            await asyncio.sleep(0.05)
            time.sleep(0.2)
            await asyncio.sleep(0.01)
            return watch.lateness()

    found = asyncio.run(held_up())
    assert found is not None
    assert 0.15 < found.max_s < 5.0
    assert found.p50_s > 0.02  # ten of some twelve points fell into the hold-up


def test_a_read_that_had_others_before_it_is_late_though_the_grid_falls_between() -> None:
    async def held_up_once() -> Lateness | None:
        stream = Connection(Url("127.0.0.1", 1))
        with punctual([stream]) as watch:
            await asyncio.sleep(0.5)
            assert stream.on_read is not None
            stream.on_read()
            time.sleep(0.06)
            await asyncio.sleep(0.01)
            found = watch.lateness()
        assert stream.on_read is None
        return found

    found = asyncio.run(held_up_once())
    assert found is not None
    assert found.p50_s > 0.05  # of some 28 points of the grid three were late


def test_a_grid_leaves_no_file_open() -> None:
    async def again() -> None:
        for _ in range(3):
            with punctual([Connection(Url("127.0.0.1", 1))]):
                await asyncio.sleep(0)

    open_files = Path("/proc/self/fd") if sys.platform == "linux" else Path("/dev/fd")
    asyncio.run(again())
    before = len(list(open_files.iterdir()))
    asyncio.run(again())
    assert len(list(open_files.iterdir())) == before


def test_nothing_is_told_before_the_first_point() -> None:
    async def at_once() -> Lateness | None:
        with punctual() as watch:
            return watch.lateness()

    assert asyncio.run(at_once()) is None


def test_what_is_put_off_meanwhile_is_as_before_afterwards() -> None:
    before = (gc.isenabled(), sys.getswitchinterval())

    async def inside() -> tuple[bool, float]:
        with punctual():
            return gc.isenabled(), sys.getswitchinterval()

    collects, switch_s = asyncio.run(inside())
    assert not collects
    assert switch_s == pytest.approx(SWITCH_S)
    assert (gc.isenabled(), sys.getswitchinterval()) == before


def late_run(*of_segments: Lateness | None) -> RunRecords:
    run = run_of(turn("0" * 32 + "/0", steps_of(1, 2, 0), step_s=0.01))
    [segment] = run.segments
    return replace(run, segments=tuple(replace(segment, lateness=each) for each in of_segments))


def test_of_several_segments_the_worst_counts_and_of_none_there_is_none() -> None:
    assert client_lateness(late_run(Lateness(1, 4, 4, 5, 6), Lateness(2, 3, 5, 3, 9))) == Lateness(2, 4, 5, 5, 9)
    assert client_lateness(late_run(None)) is None


@pytest.mark.parametrize(("late_s", "is_said"), [(0.00009, False), (0.0003, True)])
def test_it_is_said_where_a_gap_may_have_been_moved_by_more_than_one_in_a_hundred(
    late_s: float, is_said: bool, tmp_path: Path
) -> None:
    console = Console(width=200, record=True, file=io.StringIO())
    scores = score(late_run(Lateness(*[late_s] * 5)))
    print_scores(scores, tmp_path, ModelFacts(file="m", sha256=None, num_bytes=None), console)
    assert (
        "client_limited: step_gap_s p50 is 10.0 ms, the client was late by 0.3 ms" in console.export_text()
    ) is is_said
