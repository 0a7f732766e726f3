"""One attempt at a cell on a node: started from what is here of it, and gathered as it goes."""

import signal
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from speed_bench.errors import SpeedBenchError
from speed_bench.runner.journal import read_records
from speed_bench.runner.messages import HasFailed, packed
from speed_bench.sweep.cell_messages import CellJob, HasBegun, IsOver, messages
from speed_bench.sweep.cells import Cell, SweepObserver
from speed_bench.sweep.ray_node import Lost, There
from speed_bench.sweep.remote_process import News
from speed_bench.sweep.shipping import Copy

MODULE = "speed_bench.sweep.cell_process"
INTERRUPTED = 130


class Attempt:
    """A cell on a node."""

    def __init__(self, cell: Cell, copy: Copy, there: There, observer: SweepObserver) -> None:
        """`copy` is the cell's folder here."""
        self._cell = cell
        self._copy = copy
        self._there = there
        self._observer = observer
        self._folder = cell.folder(there.node.folder)
        self._num_heard = 0
        self._shown: tuple[int, int] | None = None
        """What the observer was told last; None before the cell has begun."""
        self._end: HasFailed | IsOver | None = None
        self._exit_code: int | None = None

    async def run(self, env: Mapping[str, str]) -> None:
        """Until the cell has ended in order. Raises Lost, and what the cell fails with."""
        job = packed(CellJob(self._cell, self._there.node.folder))
        await self._there.ask("start", MODULE, job, self._folder, self._copy.parcels(), str(Path.cwd()), env)
        try:
            while not _is_all(await self._gather()):
                pass
        except Lost:
            raise
        except BaseException:  # as Ctrl-C: what was finished until then is not left there
            with suppress(Lost, SpeedBenchError, TimeoutError):
                await self._there.stop()
                while not _is_all(await self._gather()):
                    pass
            raise
        await self._judge()

    async def _gather(self) -> News:
        news = await self._there.news(self._copy.held, self._num_heard)
        self._copy.take(news.parcels)
        heard, num_bytes = messages(news.told)
        self._num_heard += num_bytes
        self._exit_code = news.exit_code
        counts = self._copy.num_outcomes, self._copy.num_failures
        if self._shown not in (None, counts):
            self._shown = counts
            self._observer.turns(self._cell, *counts)
        for message in heard:
            if isinstance(message, HasBegun):
                self._shown = counts
                self._observer.begin(self._cell, message.num_turns, read_records(self._copy.folder).outcomes)
            else:
                self._end = message
        return news

    async def _judge(self) -> None:
        """What its last word means, or that there was none."""
        match self._end:
            case IsOver():
                return
            case HasFailed(error=SpeedBenchError() as error):
                error.args = (str(error).replace(str(self._folder), str(self._copy.folder)),)
                error.__notes__ = []  # they speak of a folder that is gone
                raise error
            case HasFailed(trace=trace):
                raise RuntimeError(f"cell {self._cell.name} failed on {self._there.node.host}:\n{trace}")
        code = self._exit_code
        if code is not None and code > 0 and code != INTERRUPTED:
            words = await self._there.ask("last_words")
            raise RuntimeError(f"the process of cell {self._cell.name} ended with exit code {code}:\n{words}")
        how = f"was killed by {signal.Signals(-code).name}" if code is not None and code < 0 else "was stopped"
        raise Lost(f"its process on {self._there.node.host} {how}")


def _is_all(news: News) -> bool:
    """Whether the process is gone, and all it wrote is here."""
    return news.exit_code is not None and not news.parcels and not news.told
