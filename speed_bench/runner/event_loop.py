"""Which event loop a run has: uvloop's where it is installed, since what it costs to read a chunk is most of our own
clock's error; else the standard library's, whose times are as right and cost twice as much."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What makes the loop, for `asyncio.Runner`; None: its own."""
    try:
        import uvloop
    except ImportError:  # it is not built for Windows, nor for PyPy
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def run(main: Coroutine[Any, Any, T]) -> T:
    """As `asyncio.run`, on the fastest loop that is here.

    >>> async def answer():
    ...     return 42
    >>> run(answer())
    42
    """
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(main)
