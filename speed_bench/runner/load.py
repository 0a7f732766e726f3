"""The load: which conversation is asked when, on which stream."""

from collections.abc import Callable, Iterable

from speed_bench.runner.conversation import Script
from speed_bench.runner.segment import LiveEngine
from speed_bench.runner.streams import side_by_side
from speed_bench.types import Conversation, Outcome


async def closed_loop(
    script: Script,
    conversations: Iterable[tuple[Conversation, int]],
    live: LiveEngine,
    keep: Callable[[Outcome], None],
) -> None:
    """Keep every stream busy: a slot that ends a conversation takes the next (conversation, seed).

    Raises the first error that ends the run; turns that were under way are not recorded.
    """
    queue = iter(conversations)

    async def slot(number: int) -> None:
        for conversation, seed in queue:
            await script.lead(conversation, seed, number, live, keep)

    await side_by_side(slot(number) for number in range(len(live.streams)))
