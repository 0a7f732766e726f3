"""One cell of a sweep: measured, taken up again, or left as it is."""

from pathlib import Path

from speed_bench.runner import benchmark
from speed_bench.runner.journal import is_finished, is_run, locked, read_records, set_aside
from speed_bench.sweep.cells import Cell
from speed_bench.sweep.folder import read_or_removed


def run_cell(cell: Cell, sweep: Path, observer: benchmark.Observer) -> None:
    """Run a cell, or what is left of it. Its finished turns are in its folder, whatever happens.

    One that has all its turns, but was stopped before its last engine lifetime ended in order, is measured again: what
    there was of it stays in its folder, under `interrupted-<n>/`. Raises what `benchmark.run` does.
    """
    folder = cell.folder(sweep)
    begun = False
    if is_run(folder):
        with read_or_removed(folder):
            records = read_records(folder)
        if is_finished(records):
            if records.segments and records.segments[-1].whole:
                return
            with locked(folder):
                set_aside(folder)
        begun = bool(records.outcomes) or any(folder.glob("interrupted-*"))
    benchmark.run(cell.config, cell.protocol, folder, resume=begun, observer=observer, baseline_at=cell.baseline_at)
