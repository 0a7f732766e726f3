"""A sweep on a Ray cluster: every cell is a task that asks for its GPUs, and the driver keeps what it measures.

The driver asks each task, several times a second, for what its copy of the run folder lacks. So a cell whose node is
lost goes on elsewhere from there, and whatever was told to be finished is on the driver's disk.
"""

import asyncio
import os
import signal
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from speed_bench.engine_config import API_KEY_VARIABLE
from speed_bench.errors import EngineError, SpeedBenchError
from speed_bench.runner.journal import locked, make_folder
from speed_bench.runner.streams import side_by_side
from speed_bench.sweep import ray_cluster
from speed_bench.sweep.cells import Cell, SweepObserver
from speed_bench.sweep.folder import is_finished
from speed_bench.sweep.ray_attempt import Attempt
from speed_bench.sweep.ray_cluster import Resources
from speed_bench.sweep.ray_demand import placed, sole_use
from speed_bench.sweep.ray_node import Lost, UnusableNode, on_a_node
from speed_bench.sweep.shipping import Copy

RETRIES = 3
MOST_AT_ONCE = 256
"""Cells that run, or wait for a node, at one time."""
ENVIRONMENT = (API_KEY_VARIABLE,)
"""Variables of ours that a cell is given on its node."""


class OnRay:
    """A `Place`."""

    def __init__(
        self, address: str | None = None, *, retries: int = RETRIES, tell: Callable[[str], None] = lambda _: None
    ) -> None:
        """`address` is that of the cluster; None: as RAY_ADDRESS says, else a Ray of this machine that is started.

        A cell whose node or worker is lost is begun anew at most `retries` times, from what is here of it. `tell` is
        given a sentence for each, and for what disturbs a measurement.
        """
        self._address = address
        self._retries = retries
        self._tell = tell

    def run(self, cells: Sequence[Cell], sweep: Path, observer: SweepObserver) -> None:
        """See `Place`. Raises ConfigError, before anything is run, where the cluster is not reached, or none of its
        nodes has what a cell asks for."""
        with ray_cluster.connected(self._address) as ray:
            nodes = ray_cluster.nodes(ray)
            wanted = {cell.name: placed(cell, nodes) for cell in cells}
            try:
                asyncio.run(_Sweep(ray, sweep, observer, wanted, self._retries, self._tell).run(cells))
            except asyncio.CancelledError:  # by SIGTERM
                raise KeyboardInterrupt from None


class _Sweep:
    """A sweep that is under way."""

    def __init__(
        self,
        ray: Any,
        sweep: Path,
        observer: SweepObserver,
        wanted: Mapping[str, Resources],
        retries: int,
        tell: Callable[[str], None],
    ) -> None:
        """`wanted` is what each cell asks for, by its name."""
        self._ray = ray
        self._wanted = wanted
        self._sweep = sweep
        self._observer = observer
        self._retries = retries
        self._tell = tell
        self._taken: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._under_way = asyncio.Semaphore(MOST_AT_ONCE)

    async def run(self, cells: Sequence[Cell]) -> None:
        """Run all. The first error that is no cell's own ends it."""
        task = asyncio.current_task()
        if task is not None and sys.platform != "win32" and threading.current_thread() is threading.main_thread():
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        await side_by_side(self._cell(cell) for cell in cells)

    async def _cell(self, cell: Cell) -> None:
        alone = sole_use(cell.config)
        async with self._taken[alone] if alone else nullcontext(), self._under_way:
            try:
                folder = cell.folder(self._sweep)
                if is_finished(folder):
                    return
                make_folder(folder)
                with locked(folder):
                    await self._measure(cell, folder)
            except UnusableNode:
                raise  # it would fail every cell that comes to it
            except SpeedBenchError as error:
                self._observer.end(cell, error)
            else:
                self._observer.end(cell, None)

    async def _measure(self, cell: Cell, folder: Path) -> None:
        copy = Copy(folder)
        for time in range(self._retries + 1):
            env = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
            try:
                async with on_a_node(self._ray, self._wanted[cell.name], self._tell) as there:
                    await Attempt(cell, copy, there, self._observer).run(env)
                return
            except Lost as lost:
                if time == self._retries:
                    raise EngineError(
                        f"cell {cell.name} was lost {time + 1} times, the last time because {lost}; its "
                        f"{copy.num_outcomes} turns are kept"
                    ) from lost
                self._tell(
                    f"cell {cell.name} is begun again from its {copy.num_outcomes} turns that are here, because {lost}"
                )
