"""A program of ours on a node, and the copy of its run folder that is kept here."""

import signal
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from speed_bench.errors import SpeedBenchError
from speed_bench.runner.messages import packed
from speed_bench.sweep.cell_messages import messages
from speed_bench.sweep.ray_node import Lost, There
from speed_bench.sweep.shipping import Copy


class Program:
    """One that is started once."""

    def __init__(self, there: There, copy: Copy, run_folder: Path) -> None:
        """`run_folder` is the one there, of which `copy` is the copy."""
        self.there = there
        self.copy = copy
        self.run_folder = run_folder
        self.exit_code: int | None = None
        """None while it runs."""
        self.is_all = False
        """Whether it has ended, and all that it wrote and told is here."""
        self._num_heard = 0

    async def start(self, module: str, job: Any, env: Mapping[str, str]) -> None:
        """Start it with its first message, and with what is here of its folder. Raises Lost."""
        parcels = self.copy.parcels()
        await self.there.ask("start", module, packed(job), self.run_folder, parcels, str(Path.cwd()), env)

    async def send(self, message: Any) -> None:
        """Tell it something. Raises Lost."""
        await self.there.ask("send", packed(message))

    async def gather(self) -> list[Any]:
        """What it has told since, after all that it wrote before that is here. Waits a moment first.

        Raises Lost; RunFolderError where it cannot be written here.
        """
        news = await self.there.news(self.copy.held, self._num_heard)
        self.copy.take(news.parcels)
        heard, num_bytes = messages(news.told)
        self._num_heard += num_bytes
        self.exit_code = news.exit_code
        self.is_all = news.exit_code is not None and not news.parcels and not news.told
        return heard

    async def stop(self) -> None:
        """End it, and gather what it has finished until then as far as that can be had."""
        with suppress(Lost, SpeedBenchError, TimeoutError):
            await self.there.stop()
            while not self.is_all:
                await self.gather()

    def how_it_ended(self) -> str:
        """In words, of one that has not said so itself."""
        if self.exit_code is not None and self.exit_code < 0:
            return f"was killed by {signal.Signals(-self.exit_code).name}"
        return f"ended with exit code {self.exit_code}"
