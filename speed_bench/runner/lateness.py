"""How late our own event loop is while streams run, which is what a chunk waits before it is stamped."""

import asyncio
import gc
import sys
from array import array
from collections.abc import Iterator
from contextlib import contextmanager

from speed_bench.serving import percentiles
from speed_bench.types import Lateness

EVERY_S = 0.02
SWITCH_S = 0.0005
"""How long another thread may go on computing once the event loop has something to do. Python's default is ten times
as much, and every wake-up of the loop while an answer is parsed would wait that long."""


class LoopWatch:
    """A timer on a grid: by how much the loop was late for every point of it.

    The grid does not look at the loop, so a point of it waits as a chunk would that comes then. Event loops count
    in milliseconds: a lateness of one or less is none.
    """

    def __init__(self, every_s: float = EVERY_S) -> None:
        self._loop = asyncio.get_running_loop()
        self._every_s = every_s
        self._late_s = array("d")
        self._due_s = self._loop.time() + every_s
        self._timer = self._loop.call_at(self._due_s, self._look)

    def _look(self) -> None:
        now_s = self._loop.time()
        while self._due_s <= now_s:
            self._late_s.append(now_s - self._due_s)
            self._due_s += self._every_s
        self._timer = self._loop.call_at(self._due_s, self._look)

    def stop(self) -> None:
        """No more points."""
        self._timer.cancel()

    def lateness(self) -> Lateness | None:
        """Over all points so far; None before the first."""
        if not self._late_s:
            return None
        found = percentiles(self._late_s)
        return Lateness(found["p50"], found["p90"], found["p95"], found["p99"], max(self._late_s))


@contextmanager
def punctual() -> Iterator[LoopWatch]:
    """Watch the loop, and put off what would hold it up, until the streams have ended.

    A garbage collection stops every thread for as long as the heap is large. A turn leaves nothing to collect, and
    what a failed one leaves is small.
    """
    collects, switch_s = gc.isenabled(), sys.getswitchinterval()
    gc.collect()
    gc.disable()
    sys.setswitchinterval(SWITCH_S)
    watch = LoopWatch()
    try:
        yield watch
    finally:
        watch.stop()
        sys.setswitchinterval(switch_s)
        if collects:
            gc.enable()
