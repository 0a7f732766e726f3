"""A whole sweep: its cells at some place, what becomes of each kept in its folder."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from speed_bench.errors import SpeedBenchError
from speed_bench.run_scores import require_as_asked, score_folder
from speed_bench.sweep.cells import Cell, Place, SweepObserver
from speed_bench.sweep.folder import is_known_finished, opened, read_errors, write_error
from speed_bench.sweep.spec import SweepSpec
from speed_bench.types import Outcome

GO_ON = "go on with: speed-bench sweep {}{}"


def run_sweep(
    spec: SweepSpec, cells: Sequence[Cell], folder: Path, place: Place, observer: SweepObserver, *, flags: str = ""
) -> None:
    """Run the cells that are not finished yet. What was measured is never overwritten.

    `flags` are those of the command with which it goes on at the same place. Raises RunFolderError where the folder is
    in use or of another sweep, and KeyboardInterrupt when stopped, with a note of what is kept.
    """
    with opened(folder, spec, cells):
        keeper = _Keeper(folder, observer)
        left, said = [], read_errors(folder)
        for cell in cells:
            if not is_known_finished(cell.folder(folder)):
                left.append(cell)
            elif cell.name in said:  # it may have been finished by hand since
                write_error(folder, cell, keeper.wrong_with(cell))
        if not left:
            return  # a cluster that is gone is not needed to say so
        try:
            place.run(left, folder, keeper)
        except (KeyboardInterrupt, SpeedBenchError) as stopped:
            num_finished = sum(is_known_finished(cell.folder(folder)) for cell in cells)
            stopped.__notes__ = [
                f"{num_finished} of {len(cells)} cells are finished, and every finished turn of the others is kept; "
                + GO_ON.format(shlex.quote(str(folder)), flags)
            ]
            raise


class _Keeper:
    """Scores each cell that has ended, keeps why it failed, and passes on what it is told."""

    def __init__(self, folder: Path, observer: SweepObserver) -> None:
        self._folder, self._observer = folder, observer

    def begin(self, cell: Cell, num_turns: int, earlier: Sequence[Outcome]) -> None:
        """See `SweepObserver`."""
        self._observer.begin(cell, num_turns, earlier)

    def turns(self, cell: Cell, num_done: int, num_failed: int) -> None:
        """See `SweepObserver`."""
        self._observer.turns(cell, num_done, num_failed)

    def end(self, cell: Cell, error: Exception | None) -> None:
        """See `SweepObserver`."""
        error = error or self.wrong_with(cell)
        write_error(self._folder, cell, error)
        self._observer.end(cell, error)

    def wrong_with(self, cell: Cell) -> SpeedBenchError | None:
        """Score a cell; returns why that is no result, or None."""
        try:
            require_as_asked(score_folder(cell.folder(self._folder)), cell.config.algorithm)
        except SpeedBenchError as wrong:
            return wrong
        return None
