"""Several loads next to each other: what each came to, the Pareto curve, and where two arms change places."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from speed_bench import pareto
from speed_bench.report.curve import draw_curves
from speed_bench.report.serving import NONE, REASONS_SHOWN, interval, number
from speed_bench.scores import Cell, Scores

WIDTH: Final = 100
"""Widest that anything here is drawn."""
TIERS_SHOWN: Final = 3
PLAIN: Final = "none"
"""The arm that others are compared with, where there is one of that name."""


@dataclass(frozen=True, slots=True)
class Point:
    """One run of a series."""

    concurrency: int
    arm: str
    """What it has in common with the other points of its curve, such as its algorithm."""
    scores: Scores


class Measure(NamedTuple):
    """What a curve is drawn of: the same of all its points."""

    name: str
    steady: bool
    """Whether over the steady span of each run, or over the whole of it."""
    per_gpu: bool


_MEASURES: Final = (
    Measure("steady Output TPS per GPU", steady=True, per_gpu=True),
    Measure("Output TPS per GPU", steady=False, per_gpu=True),
    Measure("steady Output TPS", steady=True, per_gpu=False),
    Measure("Output TPS", steady=False, per_gpu=False),
)


def print_points(
    points: Sequence[Point], console: Console, *, plain: str = PLAIN, curve: bool | None = None, plan: str = "C"
) -> None:
    """Tables of throughput and latency, one row per load and arm; the curve on a terminal; crossings as sentences.

    `plain` is the arm without speculation, with which the others are compared. `curve` draws the curve, or leaves
    it out, wherever the output goes. `plan` heads the column of loads.
    """
    ordered = sorted(points, key=lambda point: (_rate(point), point.concurrency, point.arm == plain, point.arm))
    console.print(_throughput_table(ordered, plan), width=min(console.width, WIDTH))
    console.print(_latency_table(ordered, plan), width=min(console.width, WIDTH))
    tiers = sorted({name for point in ordered for name in point.scores.acceptance.categories})
    drafted = [point for point in ordered if point.arm != plain]
    if drafted and 1 < len(tiers) <= TIERS_SHOWN:
        console.print(_tier_table(drafted, plan, tiers), width=min(console.width, WIDTH))
    for line in _late(ordered):
        console.print(line, highlight=False, soft_wrap=True)
    measure, arms = curves_of(ordered)
    if not any(len(each) > 1 for each in arms.values()):
        return
    if console.is_terminal if curve is None else curve:
        width = min(console.width, WIDTH)
        drawn = draw_curves(arms, across="User TPS (p50)", up=measure.name, width=width)
        console.print(drawn, highlight=False, markup=False, soft_wrap=True)
    opened = any(_is_open(point) for point in ordered)
    for line in crossing_lines(arms, measure.name, plain, with_concurrency=not opened):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _is_open(point: Point) -> bool:
    return point.scores.load is not None and point.scores.load.is_open


def _rate(point: Point) -> float:
    return (point.scores.load.rate or 0.0) if point.scores.load else 0.0


def _load(point: Point) -> str:
    """How much load it was: streams, or conversations per second where these come by the clock; * if our client was
    too slow for it."""
    load, client = point.scores.load, point.scores.serving.client
    text = str(point.concurrency)
    if load and load.is_open:
        text = f"{load.rate:g}/s" if load.rate else load.arrivals
    return f"{text}*" if client and client.limited else text


def _table(headings: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0))
    for index, heading in enumerate(headings):
        is_arm = index == 1
        label = escape(heading) if index == 0 else f" {escape(heading)}".replace("\n", "\n ")
        table.add_column(label, justify="left" if is_arm else "right", no_wrap=not is_arm, overflow="fold")
    return table


def _throughput_table(points: Sequence[Point], plan: str) -> Table:
    per_gpu = any(point.scores.serving.output_tps_per_gpu.value is not None for point in points)
    compared = any(point.scores.baseline for point in points)
    headings = [
        f"{plan}\n",
        "arm\n",
        "Output\nTPS",
        "steady\nTPS",
        *(["steady\nper GPU", "per\nGPU"] if per_gpu else []),
    ]
    headings += ["User\nTPS p50", *(["speed-up\n"] if compared else []), "acceptance\nlength", "turns\n"]
    table = _table(headings)
    for point in points:
        serving = point.scores.serving
        cells = [_large(serving.output_tps.value), _large(serving.steady_output_tps.value)]
        if per_gpu:
            cells += [_large(serving.steady_output_tps_per_gpu.value), _large(serving.output_tps_per_gpu.value)]
        cells += [_large(serving.user_tps.p50), *([_speedup(point.scores)] if compared else [])]
        cells += [number(point.scores.acceptance.overall.acceptance_length), str(serving.num_turns)]
        table.add_row(_load(point), f" {escape(point.arm)}", *(f" {cell}" for cell in cells))
    return table


def _tier_table(points: Sequence[Point], plan: str, tiers: Sequence[str]) -> Table:
    """Acceptance length by category, of the arms that have any acceptance to show."""
    table = _table([f"{plan}\n", "arm\n", *(f"{name}\nlength" for name in tiers)])
    for point in points:
        found = point.scores.acceptance.categories
        cells = [interval(found[name].acceptance_length) if name in found else NONE for name in tiers]
        table.add_row(_load(point), f" {escape(point.arm)}", *(f" {cell}" for cell in cells))
    return table


def _speedup(scores: Scores) -> str:
    cell = scores.baseline.speedup_output_tps if scores.baseline else None
    if cell is None or cell.value is None:
        return NONE
    value, *bounds = interval(cell).split(" ", 1)
    return " ".join([f"{value}x", *bounds])


def _latency_table(points: Sequence[Point], plan: str) -> Table:
    every = [point.scores.serving for point in points]
    with_goodput = any(serving.goodput for serving in every)
    with_energy = any(serving.energy_j_per_token.value is not None for serving in every)
    times = ("TTFT\nms p50", "\np99", "ITL\nms p50", "\np99", "TPOT\nms p50", "E2E\ns p50", "\np99")
    headings = [f"{plan}\n", "arm\n", *times]
    headings += [*(["goodput\nreq/s"] if with_goodput else []), "ISL\nmean", "OSL\nmean"]
    table = _table([*headings, *(["J per\ntoken"] if with_energy else [])])
    for point, serving in zip(points, every, strict=True):
        in_ms = (serving.ttft_s.p50, serving.ttft_s.p99, serving.itl_s.p50, serving.itl_s.p99, serving.tpot_s.p50)
        cells = [_large(None if value is None else 1e3 * value) for value in in_ms]
        cells += [_large(serving.e2e_s.p50), _large(serving.e2e_s.p99)]
        cells += [_goodput(serving.goodput.goodput_rps if serving.goodput else None)] if with_goodput else []
        cells += [_large(serving.isl.value), _large(serving.osl.value)]
        cells += [_large(serving.energy_j_per_token.value)] if with_energy else []
        table.add_row(_load(point), f" {escape(point.arm)}", *(f" {cell}" for cell in cells))
    return table


def _goodput(cell: Cell | None) -> str:
    return NONE if cell is None else number(cell)


def _large(value: float | None) -> str:
    """About three digits, none of them lost.

    >>> _large(12345.6), _large(123.4), _large(12.34), _large(1.234), _large(0.0123), _large(None)
    ('12346', '123', '12.3', '1.23', '0.012', '–')
    """
    if value is None:
        return NONE
    digits = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:.{digits}f}"


def _late(points: Sequence[Point]) -> Iterator[str]:
    """What the star means, once for all points that have one."""
    late = [(point, point.scores.serving.client) for point in points]
    found = [(point, client.reasons[:REASONS_SHOWN]) for point, client in late if client and client.limited]
    if found:
        point, reasons = found[-1]
        where = f"{_load(point).rstrip('*')} {point.arm}: {'; '.join(reasons)}"
        yield (
            f"[yellow]* client_limited, {len(found)} of {len(points)} runs ({escape(where)}): such percentiles are not "
            "the engine's alone; use more --workers, fewer streams or another machine for the client[/]"
        )


def curves_of(points: Sequence[Point]) -> tuple[Measure, dict[str, list[pareto.Point]]]:
    """What can be drawn of all points that have an Output TPS: the steady rate before the whole one, per GPU before
    the total. By arm."""
    usable = [point for point in points if _coordinate(point, _MEASURES[-1])]
    measure = next(each for each in _MEASURES if all(_coordinate(point, each) for point in usable))
    arms: dict[str, list[pareto.Point]] = {}
    for point in usable:
        if found := _coordinate(point, measure):
            arms.setdefault(point.arm, []).append(found)
    return measure, arms


def _coordinate(point: Point, measure: Measure) -> pareto.Point | None:
    serving = point.scores.serving
    users = serving.user_tps if not measure.steady else serving.steady.user_tps if serving.steady else None
    cell = getattr(serving, f"{'steady_' * measure.steady}output_tps{'_per_gpu' * measure.per_gpu}").value
    if users is None or users.p50 is None or not cell:
        return None
    return pareto.Point(users.p50, cell, point.concurrency)


def crossing_lines(
    arms: Mapping[str, Sequence[pareto.Point]], what: str, plain: str = PLAIN, *, with_concurrency: bool = True
) -> Iterator[str]:
    """Of every arm against the plain one, or of the only two: where they cross, and which gives more where."""
    other = plain if plain in arms else (list(arms)[-1] if len(arms) == 2 else None)
    for arm in arms if other is not None else ():
        if other is not None and arm != other:
            yield _crossing_line(arm, other, pareto.crossings(arms[arm], arms[other]), what, with_concurrency)


def _crossing_line(arm: str, other: str, found: pareto.Standing, what: str, with_concurrency: bool) -> str:
    names = {"a": arm, "b": other}
    if found.span is None:
        return f"{arm} and {other} have no User TPS in common: measure them under more loads to see where they cross"
    low, high = (_large(bound) for bound in found.span)
    covered = f"from {low} to {high} User TPS, the range that both cover"
    if not found.crossings:
        if found.above[0] == "equal":
            return f"{arm} and {other} are equal {covered}"
        above = names[found.above[0]]
        return f"{arm} and {other} cross nowhere {covered}: {above} has more {what} throughout"
    parts = []
    for crossing, beyond in zip(found.crossings, found.above[1:], strict=True):
        near = f"{_between(crossing.concurrency_a)} of {arm}, {_between(crossing.concurrency_b)} of {other}"
        at = f"at {_large(crossing.user_tps)} User TPS and {_large(crossing.output_tps)} {what}"
        at += f" (concurrency {near})" if with_concurrency else ""
        parts.append(f"{at}; {names[beyond]} has more for users that are faster than that")
    return f"{arm} and {other} cross {', then '.join(parts)} ({covered})"


def _between(pair: tuple[int, int]) -> str:
    low, high = sorted(pair)
    return str(low) if low == high else f"{low} to {high}"
