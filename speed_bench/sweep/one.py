"""One cell of a sweep: measured, taken up again, or left as it is."""

from pathlib import Path

from speed_bench.runner import benchmark
from speed_bench.runner.journal import is_finished, is_run, read_records
from speed_bench.sweep.cells import Cell


def run_cell(cell: Cell, sweep: Path, observer: benchmark.Observer) -> None:
    """Run a cell, or what is left of it. Its finished turns are in its folder, whatever happens.

    Raises what `benchmark.run` does.
    """
    folder = cell.folder(sweep)
    begun = False
    if is_run(folder):
        records = read_records(folder)
        begun = bool(records.outcomes) or any(folder.glob("interrupted-*"))
        ended_in_order = bool(records.segments) and records.segments[-1].whole
        if is_finished(records) and ended_in_order:
            return
    benchmark.run(cell.config, cell.protocol, folder, resume=begun, observer=observer, baseline_at=cell.baseline_at)
