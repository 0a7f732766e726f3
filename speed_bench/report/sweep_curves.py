"""The curves of a sweep: throughput against pace, an arm for every way to draft, at its best draft lengths."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console

from speed_bench import pareto
from speed_bench.report.curve import draw_curves
from speed_bench.report.throughput import WIDTH, Point, crossing_lines, curves_of
from speed_bench.run_scores import SCORES
from speed_bench.scores import Scores
from speed_bench.sweep.choosing import DRAFT_LENGTH, is_compared, where_alone
from speed_bench.sweep.results import CellResult, Summary
from speed_bench.sweep.spec import is_of_drafts

CURVES_SHOWN = 4
"""More would scroll away what stands above them."""


def points_of(cells: Sequence[CellResult], folder: Path) -> list[Point]:
    """The finished cells of a sweep as points of curves. `folder` is that of the sweep."""
    return [
        Point(cell.settings["concurrency"], _arm(cell.settings), _scores(cell, folder), drawn=is_compared(cell))
        for cell in cells
        if cell.headline is not None
    ]


def print_curves(summary: Summary, folder: Path, console: Console) -> None:
    """Of each part of a sweep that was measured under several loads: the curve, on a terminal, and where arms cross."""
    finished = [cell for cell in summary.cells if cell.headline is not None]
    where = where_alone(finished)
    swept = [key for key in summary.swept if key not in where]
    groups: dict[str, list[CellResult]] = {}
    for cell in filter(is_compared, finished):
        groups.setdefault(_part(cell.settings, swept), []).append(cell)
    for number, (part, cells) in enumerate(groups.items()):
        for line in _lines(part, cells, folder, console, drawn=number < CURVES_SHOWN):
            console.print(line, highlight=False, markup=False, soft_wrap=True)


def _lines(part: str, cells: Sequence[CellResult], folder: Path, console: Console, *, drawn: bool) -> Iterator[str]:
    if len({cell.settings["concurrency"] for cell in cells}) < 2:
        return
    arm_of, points = dict[str, str](), []
    for cell in cells:
        arm = _arm(cell.settings)
        name = f"{arm} {cell.settings[DRAFT_LENGTH]}"
        arm_of[name] = arm
        points.append(Point(cell.settings["concurrency"], name, _scores(cell, folder)))
    measure, found = curves_of(points)
    if not found:
        return
    arms: dict[str, list[pareto.Point]] = {}
    for name, each in found.items():
        arms.setdefault(arm_of[name], []).extend(_means(each))
    best = {arm: _highest(each) for arm, each in arms.items()}
    note = ", each load at its best draft length" if len(arm_of) > len(best) else ""
    yield f"{part}{': ' if part else ''}{measure.name} against User TPS{note}"
    if drawn and console.is_terminal:
        yield draw_curves(best, across="User TPS (p50)", up=measure.name, width=min(console.width, WIDTH))
    yield from crossing_lines(best, measure.name)


def _scores(cell: CellResult, folder: Path) -> Scores:
    return Scores.model_validate_json((folder / "cells" / cell.name / SCORES).read_bytes())


def _arm(settings: Mapping[str, Any]) -> str:
    """How tokens are drafted, but for their number."""
    extra = [value for key, value in settings.items() if is_of_drafts(key) and key != DRAFT_LENGTH]
    words = [str(value).rpartition("/")[2] for value in extra if value is not None]
    return str(settings["algorithm"]) if settings["algorithm"] == "none" else " ".join([settings["algorithm"], *words])


def _part(settings: Mapping[str, Any], swept: Sequence[str]) -> str:
    """What is swept over besides load and drafts, in words."""
    others = [key for key in swept if key not in ("concurrency", "algorithm") and not is_of_drafts(key)]
    return " · ".join(str(settings.get(key)) for key in others)


def _means(points: Sequence[pareto.Point]) -> list[pareto.Point]:
    """Over the repeats of each load."""
    runs: dict[int, list[pareto.Point]] = {}
    for point in points:
        runs.setdefault(point.concurrency, []).append(point)
    return [
        pareto.Point(fmean(each.user_tps for each in runs[num]), fmean(each.output_tps for each in runs[num]), num)
        for num in sorted(runs)
    ]


def _highest(points: Sequence[pareto.Point]) -> list[pareto.Point]:
    """Of each load the point with the highest throughput."""
    best: dict[int, pareto.Point] = {}
    for point in points:
        if point.concurrency not in best or point.output_tps > best[point.concurrency].output_tps:
            best[point.concurrency] = point
    return [best[num] for num in sorted(best)]
