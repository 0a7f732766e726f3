"""A sweep on the terminal: what it will run, how far it is, what came of it."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from speed_bench.data.editions import RANDOM
from speed_bench.report.columns import Column, print_columns
from speed_bench.report.serving import NONE
from speed_bench.report.sweep_curves import print_curves
from speed_bench.report.terminal import LINE_EVERY_S
from speed_bench.run_scores import SCORES
from speed_bench.scores import Cell as Value
from speed_bench.scores import Distribution, Scores
from speed_bench.sweep.cells import Cell
from speed_bench.sweep.choosing import DRAFT_LENGTH, is_compared
from speed_bench.sweep.folder import is_known_finished
from speed_bench.sweep.prompts import Asked
from speed_bench.sweep.repeats import over_runs
from speed_bench.sweep.results import Best, CellResult, Headline, Summary
from speed_bench.types import Outcome

ROWS_SHOWN = 200
"""More are in the file."""
WIDEST = 1000
"""Columns of a table in a file."""
_HEADINGS = {"algorithm": "algorithm", DRAFT_LENGTH: "K", "concurrency": "C"}
_NUMBERS = ("Output TPS\n[95% interval]", "User\nTPS", "TTFT\nms", "TPOT\nms", "AL\n", "speed-up\n[95% interval]")
_WHAT = {"output_tps": "Output TPS", "tpot_s": "TPOT"}


def print_plan(cells: Sequence[Cell], asked: Mapping[str, Asked], console: Console) -> None:
    """The cells of a sweep in the order in which they are run, and how much each asks."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("cell", overflow="fold")
    table.add_column("prompts", justify="right")
    table.add_column("turns", justify="right")
    for cell in cells:
        table.add_row(escape(cell.name), f"{asked[cell.name].num_conversations:,}", f"{asked[cell.name].num_turns:,}")
    _print_table(table, console)
    num_plain = sum(cell.config.algorithm == "none" for cell in cells)
    num_turns = sum(asked[cell.name].num_turns for cell in cells)
    protocols = ", ".join(sorted({cell.protocol.name for cell in cells}))
    console.print(
        f"{_cells(len(cells))}, {num_plain:,} of them without speculation; {num_turns:,} turns; protocol {protocols}",
        highlight=False,
        soft_wrap=True,
    )


class SweepProgress:
    """A line for every cell that starts and for every one that ends; a `SweepObserver`."""

    def __init__(
        self,
        sweep: Path,
        cells: Sequence[Cell],
        console: Console,
        *,
        side_by_side: bool = False,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """`sweep` is its folder. `side_by_side`: many cells run at once, so turns are told here; else each has a
        progress bar of its own."""
        self._sweep, self._console, self._now_s = sweep, console, now_s
        self._num_cells, self._num_ended = len(cells), 0
        self._num_over = sum(is_known_finished(cell.folder(sweep)) for cell in cells)
        self._side_by_side = side_by_side
        self._turns: dict[str, tuple[int, int, int]] = {}
        self._began_s = self._said_s = now_s()

    def begin(self, cell: Cell, num_turns: int, earlier: Sequence[Outcome]) -> None:
        """See `SweepObserver`."""
        self._turns[cell.name] = (len(earlier), 0, num_turns)
        at = self._num_over + len(self._turns)
        again = f", {len(earlier)} of {num_turns} turns are there" if earlier else ""
        self._say(f"cell {at} of {self._num_cells}{self._left()}: {cell.name}{again}")

    def turns(self, cell: Cell, num_done: int, num_failed: int) -> None:
        """See `SweepObserver`."""
        self._turns[cell.name] = (num_done, num_failed, self._turns.get(cell.name, (0, 0, 0))[2])
        if self._side_by_side and self._now_s() - self._said_s >= LINE_EVERY_S:
            self._said_s = self._now_s()
            done, failed, planned = map(sum, zip(*self._turns.values(), strict=True))
            self._say(
                f"{self._num_over} of {self._num_cells} cells done{self._left()}, {len(self._turns)} running: "
                f"{done}/{planned} turns{f', {failed} failed' if failed else ''}"
            )

    def end(self, cell: Cell, error: Exception | None) -> None:
        """See `SweepObserver`."""
        self._turns.pop(cell.name, None)
        self._num_over += 1
        self._num_ended += 1
        if error is not None:
            self._console.print(
                f"  [bold red]failed[/] {escape(f'{cell.name}: {error}')}", highlight=False, soft_wrap=True
            )
            return
        name = f"{cell.name}: " if self._side_by_side else ""
        self._say(f"  {name}{self._came_to(cell)}")

    def _came_to(self, cell: Cell) -> str:
        try:
            scores = Scores.model_validate_json((cell.folder(self._sweep) / SCORES).read_bytes())
        except (OSError, ValidationError):
            return "done"
        length = scores.acceptance.overall.acceptance_length
        failed = f" · {scores.num_failures} turns failed" if scores.num_failures else ""
        output_tps = _with_interval(scores.serving.output_tps)
        return f"Output TPS {output_tps} · acceptance length {_with_interval(length)}{failed}"

    def _left(self) -> str:
        """How long the rest will take if its cells are like those that have ended."""
        if not self._num_ended:
            return ""
        left_s = (self._now_s() - self._began_s) / self._num_ended * (self._num_cells - self._num_over)
        return f" (about {duration(left_s)} left)"

    def _say(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """In words, as exactly as an estimate deserves.

    >>> duration(42), duration(600), duration(9000)
    ('42 s', '10 min', '2.5 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def print_summary(summary: Summary, folder: Path, console: Console) -> None:
    """All cells, the best draft lengths, what failed and what is left, and where the numbers lie."""
    rows = _by_settings(summary.cells)
    shown = [key for key in summary.swept if key in _HEADINGS or _varies(key, summary)]
    width = console.width if console.is_terminal else WIDEST
    print_columns(_cells_columns(rows[:ROWS_SHOWN], shown), console, num_keys=len(shown), width=width)
    if len(rows) > ROWS_SHOWN:
        console.print(
            f"{len(rows) - ROWS_SHOWN:,} more are in {folder / 'summary.csv'}", highlight=False, soft_wrap=True
        )
    for metric, words in _WHAT.items():
        found = [best for best in summary.best if best.metric == metric and best.draft_length is not None]
        if found:
            keys = [key for key in shown if key in found[0].settings]
            title = f"best draft length by {words}"
            columns = _best_columns(found, keys, words)
            print_columns(columns, console, num_keys=len(keys), width=width, title=title)
    print_curves(summary, folder, console)
    print_state(summary, folder, console)


def print_state(summary: Summary, folder: Path, console: Console, *, client: bool = True) -> None:
    """How far a sweep is, what failed, what its numbers are not, and where they lie.

    `client`: whether it is said that our client was too slow, where nothing else does.
    """
    for line in _sentences(summary, folder, client):
        console.print(line, highlight=False, soft_wrap=True)


def _print_table(table: Table, console: Console) -> None:
    """In a file as wide as it is: names must not be cut there."""
    before = console.width
    if not console.is_terminal:
        console.width = WIDEST
        console.width = max(before, console.measure(table).maximum)
    console.print(table)
    console.width = before


def _varies(key: str, summary: Summary) -> bool:
    return len({str(cell.settings.get(key)) for cell in summary.cells}) > 1


def _by_settings(cells: Sequence[CellResult]) -> list[list[CellResult]]:
    """The repeats of a cell together; sorted as settings are."""
    groups: dict[str, list[CellResult]] = {}
    for cell in sorted(cells, key=lambda cell: cell.repeat):
        groups.setdefault(repr(cell.settings), []).append(cell)
    return sorted(groups.values(), key=lambda group: _sort_key(group[0].settings))


def _sort_key(settings: Mapping[str, Any]) -> list[tuple[int, float, str]]:
    """Numbers by size, words by letter, nothing first."""
    keys = []
    for value in settings.values():
        is_number = isinstance(value, int | float)
        keys.append((0 if value is None else 1 if is_number else 2, float(value) if is_number else 0.0, str(value)))
    return keys


def _cells_columns(rows: Sequence[Sequence[CellResult]], shown: Sequence[str]) -> list[Column]:
    whole = [[cell for cell in row if is_compared(cell)] or row for row in rows]
    runs = [[cell.headline for cell in row if cell.headline] for row in whole]
    numbers = list(zip(*map(_numbers, runs), strict=True)) or [()] * len(_NUMBERS)
    columns = _settings([row[0].settings for row in rows], shown)
    columns += [Column(heading, cells) for heading, cells in zip(_NUMBERS, numbers, strict=True)]
    if any(len(row) > 1 or row[0].headline is None for row in rows):
        columns.append(Column("runs\n", [_state(row, found) for row, found in zip(rows, runs, strict=True)]))
    return columns


def _settings(rows: Sequence[Mapping[str, Any]], shown: Sequence[str]) -> list[Column]:
    """Those in which rows differ."""
    columns = []
    for key in shown:
        cells = [NONE if row.get(key) is None else escape(str(row[key])) for row in rows]
        heading = escape(f"{_HEADINGS.get(key, key.rpartition('.')[2])}\n")
        is_number = key in (DRAFT_LENGTH, "concurrency")
        columns.append(Column(heading, cells, justify="right" if is_number else "left", folds=not is_number))
    return columns


def _numbers(runs: Sequence[Headline]) -> list[str]:
    if not runs:
        return [NONE] * len(_NUMBERS)
    return [
        _with_interval(over_runs([run.output_tps for run in runs])),
        _number(over_runs([run.user_tps for run in runs])),
        _number(over_runs([_p50(run.ttft_s) for run in runs]), 1000),
        _number(over_runs([run.tpot_s for run in runs]), 1000),
        _number(over_runs([run.acceptance_length for run in runs])),
        _with_interval(over_runs([run.speedup_output_tps for run in runs])),
    ]


def _p50(times: Distribution) -> Value:
    return Value.of(times.p50, times.n) if times.p50 is not None else Value.undefined(times.reason or "")


def _state(row: Sequence[CellResult], runs: Sequence[Headline]) -> str:
    """How many runs the numbers are of, and what has become of the others."""
    failed = sum(cell.state == "failed" for cell in row)
    marks = [f"[red]{failed} failed[/]"] if failed else []
    return " ".join([f"{len(runs)}/{len(row)}" if len(runs) < len(row) else str(len(runs)), *marks])


def _best_columns(found: Sequence[Best], shown: Sequence[str], words: str) -> list[Column]:
    ordered = sorted(found, key=lambda best: _sort_key(best.settings))
    winners = [next(each for each in best.options if each.draft_length == best.draft_length) for best in ordered]
    unit, scale = (" ms", 1000) if words == "TPOT" else ("", 1)
    return [
        *_settings([best.settings for best in ordered], shown),
        Column("K\n", [str(best.draft_length) for best in ordered]),
        Column(f"{words}{unit}\n[95% interval]", [_with_interval(each.value, scale) for each in winners]),
        Column("speed-up\n[95% interval]", [_with_interval(each.speedup) for each in winners]),
        Column("against the others\n", [_against_the_others(best) for best in ordered], justify="left"),
    ]


def _against_the_others(best: Best) -> str:
    missing = [str(option.draft_length) for option in best.options if option.value.value is None]
    without = f", without {', '.join(missing)}" if missing else ""
    if len(missing) + 1 == len(best.options):
        return f"alone{without}"
    if len(best.not_told_apart) > 1:
        return f"[yellow]not told apart: {', '.join(map(str, best.not_told_apart))}[/]{without}"
    return f"told apart{without}"


def _sentences(summary: Summary, folder: Path, client: bool) -> list[str]:
    failed = [cell for cell in summary.cells if cell.state == "failed"]
    lines = [f"[bold red]failed[/] {escape(f'{cell.name}: {cell.error}')}" for cell in failed]
    num = {state: sum(cell.state == state for cell in summary.cells) for state in ("finished", "begun", "waiting")}
    done = f"{num['finished']} of {len(summary.cells)} cells finished"
    rest = [f"{len(failed)} failed"] if failed else []
    rest += [f"{num[state]} {state}" for state in ("begun", "waiting") if num[state]]
    lines.append(f"[bold red]{', '.join([done, *rest])}[/]" if rest else done)
    unequal = sum(cell.headline.counts_equal is False for cell in summary.cells if cell.headline)
    if unequal:
        lines.append(f"[bold red]DEGRADED: in {_cells(unequal)} counts differ from the engine's own[/]")
    turns_failed = sum(cell.headline.num_failures for cell in summary.cells if cell.headline)
    if turns_failed:
        lines.append(f"[bold red]{turns_failed} turns failed[/]")
    limited = sum(cell.headline.client_limited is True for cell in summary.cells if cell.headline)
    if limited and client:
        lines.append(
            f"[yellow]client_limited in {_cells(limited)}: such percentiles are not the engine's alone; "
            "use more workers, fewer streams or another machine for the client[/]"
        )
    others = [cell for cell in summary.cells if cell.not_compared]
    lines += [f"[yellow]not compared[/] {escape(f'{cell.name}: {cell.not_compared}')}" for cell in others]
    if others:
        lines.append("such a cell is in no choice of the best and on no curve; remove its folder to measure it again")
    machines = dict.fromkeys(cell.machine for cell in summary.cells if cell.machine)
    if len(machines) > 1:
        lines.append(
            f"[yellow]cells ran on {len(machines)} kinds of machine ({escape('; '.join(machines))}): "
            "the best draft length and curves do not tell these from the drafts[/]"
        )
    compared = [cell.headline.speedup_output_tps for cell in summary.cells if cell.headline and cell.baseline]
    reasons = Counter(speedup.reason for speedup in compared if speedup.reason)
    lines += [f"[yellow]no speed-up in {_cells(num)}: {escape(reason)}[/]" for reason, num in reasons.items()]
    doubts = Counter(cell.doubt for cell in summary.cells if cell.doubt)
    lines += [f"[yellow]in {_cells(num)} {escape(doubt)}[/]" for doubt, num in doubts.items()]
    if any(cell.settings["engine.name"] == "simulator" for cell in summary.cells):
        lines.append("note: simulated: nothing here is a result of any model or engine")
    if any(str(cell.settings["edition"]).startswith(RANDOM) for cell in summary.cells):
        lines.append(
            "note: prompts are random tokens: they show what random prompts distort, not how good a drafter is"
        )
    return [*lines, f"sweep folder: {escape(str(folder))}"]


def _cells(num: int) -> str:
    return "1 cell" if num == 1 else f"{num:,} cells"


def _number(cell: Value, scale: float = 1.0) -> str:
    """About three digits."""
    return NONE if cell.value is None else _digits(scale * cell.value)


def _with_interval(cell: Value, scale: float = 1.0) -> str:
    if cell.value is None or cell.low is None or cell.high is None:
        return _number(cell, scale)
    digits = _num_decimals(scale * cell.value)
    low, high = (f"{scale * bound:.{digits}f}" for bound in (cell.low, cell.high))
    return f"{_number(cell, scale)} [{low}, {high}]"


def _digits(value: float) -> str:
    return f"{value:.{_num_decimals(value)}f}"


def _num_decimals(value: float) -> int:
    return 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
