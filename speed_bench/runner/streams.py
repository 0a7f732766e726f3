"""Several streams at once: the first error that ends the run ends them all."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any

from speed_bench.errors import SpeedBenchError


async def side_by_side(streams: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run all; raise the first error for the user alone, not as a group."""
    try:
        async with asyncio.TaskGroup() as group:
            for stream in streams:
                group.create_task(stream)
    except* SpeedBenchError as errors:
        raise errors.exceptions[0] from errors
