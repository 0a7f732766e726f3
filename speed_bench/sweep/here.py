"""A sweep on this machine: one cell after the other."""

from collections.abc import Sequence
from pathlib import Path

from speed_bench.errors import SpeedBenchError
from speed_bench.runner import benchmark
from speed_bench.runner.outcomes import Ended
from speed_bench.sweep.cells import Cell, SweepObserver
from speed_bench.sweep.folder import is_finished
from speed_bench.sweep.one import run_cell
from speed_bench.types import Failure, Outcome


class Here:
    """A `Place`. An attached engine is measured by one cell at a time, too."""

    def __init__(self, watch: benchmark.Observer | None = None) -> None:
        """`watch` sees every turn of the cell that is running, such as its progress bar."""
        self._watch = watch

    def run(self, cells: Sequence[Cell], sweep: Path, observer: SweepObserver) -> None:
        """See `Place`."""
        for cell in cells:
            try:
                if is_finished(cell.folder(sweep)):
                    continue
                run_cell(cell, sweep, _Relay(cell, observer, self._watch))
            except SpeedBenchError as error:
                observer.end(cell, error)
            else:
                observer.end(cell, None)


class _Relay:
    """Tells what happens in a run to who watches the sweep, and to who watches the run."""

    def __init__(self, cell: Cell, observer: SweepObserver, watch: benchmark.Observer | None) -> None:
        self._cell, self._observer, self._watch = cell, observer, watch
        self._num_done = self._num_failed = 0

    def begin(self, arm: str, num_turns: int, earlier: tuple[Outcome, ...]) -> None:
        """See `benchmark.Observer`."""
        self._num_done = len(earlier)
        self._num_failed = sum(isinstance(outcome, Failure) for outcome in earlier)
        self._observer.begin(self._cell, num_turns, earlier)
        if self._watch:
            self._watch.begin(arm, num_turns, earlier)

    def outcome(self, turn: Ended) -> None:
        """See `benchmark.Observer`."""
        self._num_done += 1
        self._num_failed += turn.failed
        self._observer.turns(self._cell, self._num_done, self._num_failed)
        if self._watch:
            self._watch.outcome(turn)

    def end(self) -> None:
        """See `benchmark.Observer`."""
        if self._watch:
            self._watch.end()
