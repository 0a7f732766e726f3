"""The progress of work on data: a bar per stage on a terminal, a line now and then elsewhere."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from speed_bench.data.sources.web import Progress as Download

LINE_EVERY_S = 10.0


class Stages:
    """A progress callback: stages in the order in which they are first told of."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Progress(
            TextColumn("{task.description:<14}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}
        self._started: dict[str, float] = {}
        self._said: dict[str, float] = {}

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._console.is_terminal:
            self._bars.stop()

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """Show that so many of so many are done, None where that is not known yet.

        A stage that is complete leaves a line with its time.
        """
        now = time.monotonic()
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=total)
            self._started[stage] = self._said[stage] = now
        self._bars.update(self._tasks[stage], completed=done, total=total)
        took = now - self._started[stage]
        if total is not None and done >= total:
            self._bars.update(self._tasks[stage], visible=False)
            if self._said.pop(stage, None) is not None:
                self._say(f"{stage}: {total:,} in {took:.1f} s")
        elif not self._console.is_terminal and now - self._said.get(stage, now) >= LINE_EVERY_S:
            self._said[stage] = now
            of = "" if total is None else f" of {total:,}"
            self._say(f"{stage}: {done:,}{of} after {took:.0f} s")

    def fetched(self, download: Download) -> None:
        """The same, of a download."""
        self(download.what, download.done, download.total)

    def _say(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)
