"""One attempt at a cell on a node: started from what is here of it, and gathered as it goes."""

from collections.abc import Mapping

from speed_bench.errors import SpeedBenchError
from speed_bench.runner.journal import read_records
from speed_bench.runner.messages import HasFailed
from speed_bench.sweep.cell_messages import CellJob, HasBegun, IsOver
from speed_bench.sweep.cells import Cell, SweepObserver
from speed_bench.sweep.ray_node import Lost, There
from speed_bench.sweep.ray_program import Program
from speed_bench.sweep.shipping import Copy

MODULE = "speed_bench.sweep.cell_process"
INTERRUPTED = 130


class Attempt:
    """A cell on a node."""

    def __init__(self, cell: Cell, copy: Copy, there: There, observer: SweepObserver) -> None:
        """`copy` is the cell's folder here."""
        self._cell = cell
        self._copy = copy
        self._sweep = there.node.folder
        self._program = Program(there, copy, cell.folder(self._sweep))
        self._observer = observer
        self._shown: tuple[int, int] | None = None
        """What the observer was told last; None before the cell has begun."""

    async def run(self, env: Mapping[str, str]) -> None:
        """Until the cell has ended in order. Raises Lost, and what the cell fails with."""
        await self._program.start(MODULE, CellJob(self._cell, self._sweep), env)
        end: HasFailed | IsOver | None = None
        try:
            while not self._program.is_all:
                end = await self._gather() or end
        except Lost:
            raise
        except BaseException:  # as Ctrl-C: what was finished until then is not left there
            await self._program.stop()
            raise
        await self._judge(end)

    async def _gather(self) -> HasFailed | IsOver | None:
        heard = await self._program.gather()
        counts = self._copy.num_outcomes, self._copy.num_failures
        if self._shown not in (None, counts):
            self._shown = counts
            self._observer.turns(self._cell, *counts)
        end = None
        for message in heard:
            if isinstance(message, HasBegun):
                self._shown = counts
                self._observer.begin(self._cell, message.num_turns, read_records(self._copy.folder).outcomes)
            else:
                end = message
        return end

    async def _judge(self, end: HasFailed | IsOver | None) -> None:
        """What its last word means, or that there was none."""
        host = self._program.there.node.host
        match end:
            case IsOver():
                return
            case HasFailed(error=SpeedBenchError() as error):
                error.args = (str(error).replace(str(self._program.run_folder), str(self._copy.folder)),)
                error.__notes__ = []  # they speak of a folder that is gone
                raise error
            case HasFailed(trace=trace):
                raise RuntimeError(f"cell {self._cell.name} failed on {host}:\n{trace}")
        code = self._program.exit_code or 0
        how = self._program.how_it_ended()
        if code > 0 and code != INTERRUPTED:
            words = await self._program.there.ask("last_words")
            raise RuntimeError(f"the process of cell {self._cell.name} on {host} {how}:\n{words}")
        raise Lost(f"its process on {host} {how}")
