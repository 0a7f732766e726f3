"""Several streams at once: the first error that ends the run ends them all."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any

from speed_bench.errors import SpeedBenchError


async def side_by_side(streams: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run all; raise the first error for the user alone, not as a group."""

    async def start(group: asyncio.TaskGroup) -> None:
        for stream in streams:
            group.create_task(stream)

    await in_a_group(start)


async def in_a_group(start: Callable[[asyncio.TaskGroup], Awaitable[None]]) -> None:
    """Do something that starts further tasks, and wait for all of them; errors as with `side_by_side`."""
    try:
        async with asyncio.TaskGroup() as group:
            await start(group)
    except* SpeedBenchError as errors:
        raise errors.exceptions[0] from errors
