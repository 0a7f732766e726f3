"""The result as a table, and the progress of a run while it lasts."""

import time
from collections.abc import Callable
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from speed_bench.provenance import ModelFacts
from speed_bench.report.serving import NONE, interval, is_loaded, latency_table, machine_lines, number, serving_lines
from speed_bench.runner.outcomes import Ended, ended
from speed_bench.scores import Cell, Comparison, GroupScores, Parts, PartScores, Reconciliation, Scores
from speed_bench.types import Outcome

POSITIONS_SHOWN = 3
LINE_EVERY_S = 10.0
REFRESHED_PER_S = 2.0
"""On a terminal: to draw a line takes milliseconds of the interpreter, which reads wait for."""
SMALL_MODEL_BYTES = 1_000_000_000
FAILURES_SHOWN = 3
WIDE = 100
"""Columns from which the progress line has room for words."""


def print_scores(
    scores: Scores,
    folder: Path,
    model: ModelFacts,
    console: Console,
    *,
    simulated: bool = False,
    random_prompts: bool = False,
) -> None:
    """The table of a run, what it is measured against, and where it lies."""
    console.print(_table(scores))
    if is_loaded(scores):
        console.print(latency_table(scores.serving))
    for line in _sentences(scores):
        console.print(line, highlight=False, soft_wrap=True)
    if simulated:
        console.print(
            "note: simulated: nothing here is a result of any model or engine", highlight=False, soft_wrap=True
        )
    elif scores.baseline and model.num_bytes is not None and model.num_bytes < SMALL_MODEL_BYTES:
        note = "note: on a model this small speculation rarely pays; read acceptance here, not speed-up"
        console.print(note, highlight=False, soft_wrap=True)
    if random_prompts:
        note = "note: prompts are random tokens: they show what random prompts distort, not how good a drafter is"
        console.print(note, highlight=False, soft_wrap=True)
    console.print(f"run folder: {folder}", highlight=False, markup=False, soft_wrap=True)


def _table(scores: Scores) -> Table:
    level = f"{scores.bootstrap.confidence_level:.0%}"
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0))
    table.add_column("category\n", no_wrap=True)
    for heading in (
        f"acceptance length\n\\[{level} interval]",
        "drafts\naccepted",
        "conditional\nrate at 1 2 3",
        "Output\nTPS",
        "User\nTPS",
        "n\n",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, group in scores.acceptance.categories.items():
        table.add_row(escape(name), *_row(group))
    table.add_section()
    table.add_row("overall", *_row(scores.acceptance.overall), style="bold")
    parts = scores.acceptance.parts
    if parts and parts.thinking.num_steps + parts.answer.num_steps:
        for name, part in (("thinking", parts.thinking), ("answer", parts.answer)):
            table.add_row(f" {name}", *_accepted(part), NONE, NONE, str(part.acceptance_length.n))
    return table


def _row(group: GroupScores) -> list[str]:
    speeds = [number(group.output_tps, 1), number(group.user_tps, 1)]
    return [*_accepted(group), *speeds, str(group.num_conversations)]


def _accepted(group: GroupScores | PartScores) -> list[str]:
    cells = group.conditional_acceptance_rate[:POSITIONS_SHOWN]
    return [
        interval(group.acceptance_length),
        number(group.draft_acceptance_rate),
        " ".join(f"{number(cell):>4}" for cell in cells) or NONE,
    ]


def _sentences(scores: Scores) -> list[str]:
    lines = []
    if scores.baseline:
        lines += _against(scores.baseline)
    if scores.acceptance.parts and scores.acceptance.parts.num_turns_unsplit:
        lines.append(_left_out(scores.acceptance.parts))
    lines.append(_reconciled(scores.reconciliation))
    lines += [*serving_lines(scores), *machine_lines(scores.serving)]
    done = f"{scores.num_turns} of {scores.num_planned} turns finished, {scores.num_failures} failed"
    lines.append(done if scores.num_turns == scores.num_planned else f"[bold red]{done}[/]")
    lines += [f"  {num} x {escape(error)}" for error, num in list(scores.failures.items())[:FAILURES_SHOWN]]
    lines += _without_steps(scores)
    headline = scores.acceptance.overall.acceptance_length
    if headline.reason:
        lines.append(f"[bold red]no overall acceptance length: {escape(headline.reason)}[/]")
    return lines


def _left_out(parts: Parts) -> str:
    if parts.thinking.num_steps + parts.answer.num_steps == 0:
        return f"[yellow]thinking and answer apart: not available ({parts.reason})[/]"
    return f"[yellow]thinking and answer leave out {parts.num_turns_unsplit} turns ({parts.reason})[/]"


def _without_steps(scores: Scores) -> list[str]:
    """What can still be said of turns whose decode steps are not known."""
    acceptance = scores.acceptance
    lines = []
    if num := acceptance.num_turns_steps_unknown:
        lines.append(f"[yellow]the number of decode steps of {num} turns is not known; see the page of this engine[/]")
        drafted = number(acceptance.overall.acceptance_length_drafted)
        lines.append(f"acceptance length of the steps that drafted (acceptance_length_drafted): {drafted}")
    if acceptance.origins.get("none"):
        length, rate = (
            number(acceptance.server.acceptance_length_drafted),
            number(acceptance.server.draft_acceptance_rate),
        )
        lines.append(
            f"by the engine's own counters, of all turns: {length} tokens per verification step, {rate} accepted"
        )
    return lines


def _against(baseline: Comparison) -> list[str]:
    def ratio(cell: Cell) -> str:
        if cell.value is None:
            return f"not available ({cell.reason})"
        value, *bounds = interval(cell).split(" ", 1)
        return " ".join([f"{value}x", *bounds])

    same, paired = baseline.identical_share, baseline.paired_share
    failed = [f"[bold red]{baseline.num_failures} turns of the baseline failed[/]"] if baseline.num_failures else []
    return [
        *failed,
        f"speed-up over the baseline without speculation: {ratio(baseline.speedup_output_tps)} in Output TPS, "
        f"{ratio(baseline.speedup_tpot)} in decode time per token",
        f"turns whose tokens equal the baseline's: {_share(same)} (same prompt in both: {_share(paired)})",
    ]


def _share(cell: Cell) -> str:
    return f"{NONE} ({cell.reason})" if cell.value is None else f"{cell.value:.1%} of {cell.n}"


def _reconciled(found: Reconciliation) -> str:
    ours, engine = found.turns, found.engine
    pairs = {
        "drafted": (ours.drafted, engine.drafted),
        "accepted": (ours.accepted, engine.accepted),
        "verification steps": (ours.verify_steps, engine.verify_steps),
    }
    known = [f"{name} {mine} / {theirs}" for name, (mine, theirs) in pairs.items() if None not in (mine, theirs)]
    both = ", ".join(known[:2])
    if found.equal is None:
        return f"[yellow]counts were not checked against the engine's own: {found.reason}[/]"
    if found.equal:
        return f"counts equal the engine's own (turns / engine): {both}"
    return f"[bold red]DEGRADED: counts differ from the engine's own (turns / engine): {both}; {found.reason}[/]"


class LiveProgress:
    """A progress bar on a terminal; elsewhere a line now and then."""

    def __init__(self, console: Console, now_s: Callable[[], float] = time.monotonic) -> None:
        self.console = console
        self._now_s = now_s
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def begin(self, arm: str, num_turns: int, earlier: tuple[Outcome, ...]) -> None:
        """See `runner.benchmark.Observer`."""
        self._arm, self._num_turns, self._num_done = arm, num_turns, len(earlier)
        self._tokens = self._steps = self._emitted = self._num_failures = 0
        self._load_s, self._said_s = 0.0, self._now_s()
        for outcome in earlier:
            self._add(ended(outcome), timed=False)
        if self.console.is_terminal:
            self._progress = Progress(
                TextColumn("{task.description:<11}"),
                BarColumn(bar_width=8),
                MofNCompleteColumn(),
                TextColumn("turns · ETA"),
                TimeRemainingColumn(compact=True),
                TextColumn("· {task.fields[state]}"),
                console=self.console,
                refresh_per_second=REFRESHED_PER_S,
            )
            self._progress.start()
            self._task = self._progress.add_task(arm, total=num_turns, completed=len(earlier), state=self._state())
        else:
            self._line()

    def outcome(self, turn: Ended) -> None:
        """See `runner.benchmark.Observer`."""
        self._num_done += 1
        self._add(turn, timed=True)
        if self._progress and self._task is not None:
            self._progress.update(self._task, completed=self._num_done, state=self._state())
        elif self._now_s() - self._said_s >= LINE_EVERY_S:
            self._said_s = self._now_s()
            self._line()

    def end(self) -> None:
        """See `runner.benchmark.Observer`."""
        if self._progress:
            self._progress.stop()
            self._progress = None
        elif self._num_done:
            self._line()

    def _add(self, turn: Ended, *, timed: bool) -> None:
        self._num_failures += turn.failed
        if timed:
            self._tokens += turn.num_output_tokens
            self._load_s = max(self._load_s, turn.finished_at_s)
        self._steps += turn.num_steps or 0
        self._emitted += turn.num_emitted

    def _state(self) -> str:
        """Running values, over all steps so far and the time of the load, without the engine's start; the result is by
        category and comes at the end."""
        speed = f"{self._tokens / self._load_s:.0f} tokens/s" if self._tokens and self._load_s else f"{NONE} tokens/s"
        length = f"{self._emitted / self._steps:.2f}" if self._steps else NONE
        failed = f" · [red]{self._num_failures} failed[/]" if self._num_failures else ""
        name = "AL" if self.console.is_terminal and self.console.width < WIDE else "acceptance length"
        return f"{speed} · {name} {length}{failed}"

    def _line(self) -> None:
        self.console.print(f"{self._arm}: {self._num_done}/{self._num_turns} turns · {self._state()}", highlight=False)
