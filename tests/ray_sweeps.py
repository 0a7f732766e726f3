"""Sweeps of simulators that are small enough for a cluster on one machine, and who watches them."""

from pathlib import Path

import psutil

from speed_bench.errors import SpeedBenchError
from speed_bench.sweep.cells import Cell
from speed_bench.sweep.plan import plan
from speed_bench.sweep.spec import SweepSpec, spec_of


def sweep_of(*, axes: dict | None = None, engine: dict | None = None, **base: object) -> tuple[SweepSpec, list[Cell]]:
    """Cells of a simulator that answers in an instant, or of another `engine`; none without speculation."""
    settings = {"name": "simulator", "speed": 50.0} if "name" not in (engine or {}) else {}
    spec = spec_of(
        {
            "base": {
                "engine": {**settings, **(engine or {})},
                "limit_per_category": 1,
                "max_tokens": 24,
                **base,
            },
            "axes": axes or {"draft_length": [1, 3]},
            "order": "listed",
            "baseline": False,
        }
    )
    return spec, plan(spec)


class Watch:
    """An observer that remembers."""

    def __init__(self, on_turns=None) -> None:
        self.begun: dict[str, list[tuple[int, int]]] = {}
        self.told: dict[str, list[tuple[int, int]]] = {}
        self.ended: dict[str, Exception | None] = {}
        self._on_turns = on_turns

    def begin(self, cell, num_turns, earlier) -> None:
        self.begun.setdefault(cell.name, []).append((num_turns, len(earlier)))

    def turns(self, cell, num_done, num_failed) -> None:
        self.told.setdefault(cell.name, []).append((num_done, num_failed))
        if self._on_turns:
            self._on_turns(cell, num_done)

    def end(self, cell, error) -> None:
        assert error is None or isinstance(error, SpeedBenchError)
        self.ended[cell.name] = error


def processes_of(*cells: Cell) -> list[psutil.Process]:
    """Engines of these cells, and whoever keeps or starts them, on any node: they write to the log of their cell."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        output = Path(f"/proc/{process.pid}/fd/1")
        try:
            log = str(output.readlink()) if process.info["status"] != psutil.STATUS_ZOMBIE else ""
        except OSError:
            continue
        if any(f"/cells/{cell.name}/" in log for cell in cells):
            found.append(process)
    return found


def runner_of(cell: Cell) -> psutil.Process:
    """The process of a cell that is under way: the one that started its engine."""
    engines = processes_of(cell)
    (runner,) = {engine.parent() for engine in engines} - set(engines)
    return runner
