"""How late our own event loop is while streams run, which is what a chunk waits before it is stamped."""

import asyncio
import ctypes
import gc
import os
import sys
import time
from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from speed_bench.engines.http import Connection
from speed_bench.records import Lateness
from speed_bench.serving import percentiles

EVERY_S = 0.02
PROBED: Final = 64
"""Of so many streams one is watched at every read."""
LOOP_TICK_S: Final = 0.001
"""By so much a timer of an event loop can be late though nobody is."""
SWITCH_S = 0.00005
"""How long another thread may go on computing once the event loop has something to do: every read while a turn is
written, or a prompt rendered, waits that long. Python's default is 100 times as much. With less, taking turns costs
more than it saves."""

_ABSOLUTE: Final = 1
"""`TFD_TIMER_ABSTIME`"""


class LoopWatch:
    """Two kinds of points in time, and by how much the loop was late for every one of them.

    Points on a grid do not look at the loop: one of them waits as a chunk would that comes then. On Linux the grid is
    a timer of the kernel, which makes a file readable as a chunk makes a socket. Elsewhere it is one of the loop's own,
    and event loops count in milliseconds: so much is taken off.

    But chunks come together, after a step of the engine, and most of the grid falls between. So at every read of some
    streams a byte is written to a pipe, and waits until the loop reads it, as a chunk would that comes at that moment.
    """

    def __init__(self, streams: Iterable[Connection] = (), every_s: float = EVERY_S) -> None:
        """Of `streams` every `PROBED`th has a point at each of its reads."""
        self._loop = asyncio.get_running_loop()
        self._every_s = every_s
        self._late_s = array("d")
        self._behind_s = array("d")
        self._written_s: deque[float] = deque()
        self._probed = [] if sys.platform == "win32" else list(streams)[::PROBED]  # its loop reads no pipes
        self._pipe: tuple[int, ...] = os.pipe() if self._probed else ()
        for end in self._pipe:
            os.set_blocking(end, False)
        if self._pipe:
            self._loop.add_reader(self._pipe[0], self._look_behind)
        for stream in self._probed:
            stream.on_read = self._read
        self._due_s = time.monotonic() + every_s
        self._file = _kernel_timer(self._due_s, every_s)
        self._timer: asyncio.TimerHandle | None = None
        if self._file is None:
            self._arm()
        else:
            self._loop.add_reader(self._file, self._look)

    def _arm(self) -> None:
        left_s = max(0.0, self._due_s - time.monotonic())
        self._timer = self._loop.call_later(left_s, self._look)

    def _look(self) -> None:
        now_s = time.monotonic()
        if self._file is not None:
            with suppress(BlockingIOError):
                os.read(self._file, 8)
        while self._due_s <= now_s:
            self._late_s.append(max(0.0, now_s - self._due_s - (LOOP_TICK_S if self._file is None else 0.0)))
            self._due_s += self._every_s
        if self._file is None:
            self._arm()

    def _read(self) -> None:
        with suppress(BlockingIOError):
            os.write(self._pipe[1], b".")
            self._written_s.append(time.monotonic())

    def _look_behind(self) -> None:
        now_s = time.monotonic()
        with suppress(BlockingIOError):
            for _ in os.read(self._pipe[0], 1 << 16):
                self._behind_s.append(now_s - self._written_s.popleft())

    def stop(self) -> None:
        """No more points."""
        for stream in self._probed:
            stream.on_read = None
        if self._pipe:
            self._loop.remove_reader(self._pipe[0])
        for end in self._pipe:
            os.close(end)
        self._pipe = ()
        if self._timer is not None:
            self._timer.cancel()
        if self._file is not None:
            self._loop.remove_reader(self._file)
            os.close(self._file)
            self._file = None

    def lateness(self, waits_s: Sequence[float] = ()) -> Lateness | None:
        """Over all points so far, each value the worst of their kinds; None before the first.

        `waits_s` are of another kind: what else of ours the load waited for.
        """
        kinds = [points for points in (self._late_s, self._behind_s, waits_s) if points]
        if not kinds:
            return None
        each = [{**percentiles(points), "max": max(points)} for points in kinds]
        return Lateness(*(max(found[name] for found in each) for name in ("p50", "p90", "p95", "p99", "max")))


def _kernel_timer(first_s: float, every_s: float) -> int | None:
    """A file that is readable at `first_s` of the monotonic clock and at every `every_s` after it; None where the
    system has no such thing. See timerfd_create(2)."""
    create = getattr(ctypes.CDLL(None, use_errno=True), "timerfd_create", None) if sys.platform == "linux" else None
    if create is None:
        return None
    file: int = create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
    nanoseconds = [divmod(round(seconds * 1e9), 10**9) for seconds in (every_s, first_s)]
    times = (ctypes.c_long * 4)(*(part for each in nanoseconds for part in each))
    if file < 0 or ctypes.CDLL(None).timerfd_settime(file, _ABSOLUTE, times, None) < 0:
        return None
    return file


@contextmanager
def punctual(streams: Iterable[Connection] = ()) -> Iterator[LoopWatch]:
    """Watch the loop and these streams of it, and put off what would hold them up, until they have ended.

    A garbage collection stops every thread for as long as the heap is large. A turn leaves nothing to collect, and
    what a failed one leaves is small.
    """
    collects, switch_s = gc.isenabled(), sys.getswitchinterval()
    gc.collect()
    gc.disable()
    sys.setswitchinterval(SWITCH_S)
    watch = LoopWatch(streams)
    try:
        yield watch
    finally:
        watch.stop()
        sys.setswitchinterval(switch_s)
        if collects:
            gc.enable()
