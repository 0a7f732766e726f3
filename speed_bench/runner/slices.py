"""Work that takes a while, done on the event loop between reads, a slice at a time.

Not on another thread: whoever computes there holds the interpreter, and every read that comes meanwhile waits until it
is taken away, one wait per read. Streams that are served one after the other then fall behind for as long as there is
something to parse. Here a read waits for the rest of one slice, however many come (with asyncio's own loop, which looks
for reads after what is due, of two).
"""

import asyncio
import time
from collections import deque
from collections.abc import Generator
from typing import Final, TypeVar

SLICE_S: Final = 0.0002
"""How long work goes on before reads get their turn, or as long as its longest piece."""

_ENDED: Final = object()

T = TypeVar("T")
Work = Generator[None, None, T]
"""Something that yields whenever it could be interrupted, several times in a slice, and returns what comes of it."""


def at_once(work: Work[T]) -> T:
    """Do it without a break.

    >>> def count():
    ...     yield
    ...     return 3
    >>> at_once(count())
    3
    """
    while True:
        try:
            next(work)
        except StopIteration as done:
            result: T = done.value
            return result


class Slices:
    """Does what it is given in that order, whenever the event loop has read what there is to read."""

    def __init__(self) -> None:
        self._waiting: deque[Work[None]] = deque()
        self._is_due = False

    def put(self, work: Work[None]) -> None:
        """Do this after what was given before. It deals with its own errors."""
        self._waiting.append(work)
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._do_some)

    def finish(self) -> None:
        """Do all that is left, now."""
        while self._waiting:
            at_once(self._waiting.popleft())

    def _do_some(self) -> None:
        until_s = time.monotonic() + SLICE_S
        try:
            while self._waiting and time.monotonic() < until_s:
                if next(self._waiting[0], _ENDED) is _ENDED:
                    self._waiting.popleft()
        finally:
            self._is_due = bool(self._waiting)
            if self._is_due:
                asyncio.get_running_loop().call_soon(self._do_some)  # which reads before it comes back
