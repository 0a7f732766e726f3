"""A sweep as a list of independent runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol as TypingProtocol

from speed_bench.config import Protocol, RunConfig
from speed_bench.types import Outcome


@dataclass(frozen=True, slots=True)
class Cell:
    """One run of a sweep: one engine lifetime under one load."""

    name: str
    """Of its folder, under `cells/` of the sweep's. Unique in the sweep; the same settings give the same name."""
    config: RunConfig
    """Never with a baseline of its own: that is another cell."""
    protocol: Protocol
    repeat: int = 0
    """Which of several runs with the same settings."""
    baseline: str | None = None
    """The name of the cell without speculation that it is compared with; several share one."""

    def folder(self, sweep: Path) -> Path:
        """Its run folder."""
        return sweep / "cells" / self.name

    @property
    def baseline_at(self) -> str | None:
        """As `RunFile.baseline_at`."""
        return None if self.baseline is None else f"../{self.baseline}"


class SweepObserver(TypingProtocol):
    """Who watches a sweep."""

    def begin(self, cell: Cell, num_turns: int, earlier: Sequence[Outcome]) -> None:
        """A cell has started; `earlier` turns are already in its journal."""

    def turns(self, cell: Cell, num_done: int, num_failed: int) -> None:
        """So many turns of a cell are finished and kept by now, and so many have failed."""

    def end(self, cell: Cell, error: Exception | None) -> None:
        """A cell is over, in order or not."""


class Place(TypingProtocol):
    """Where the cells of a sweep are run."""

    def run(self, cells: Sequence[Cell], sweep: Path, observer: SweepObserver) -> None:
        """Run them all, and leave every finished turn of every cell in its folder, whatever happens.

        A cell that fails is told to the observer, and the others go on. Raises KeyboardInterrupt when stopped.
        """
