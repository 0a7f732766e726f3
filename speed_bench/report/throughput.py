"""Several loads next to each other: what each came to, the Pareto curve, and where two arms change places."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from rich.console import Console
from rich.markup import escape

from speed_bench import pareto
from speed_bench.report.columns import Column, print_columns
from speed_bench.report.curve import draw_curves
from speed_bench.report.serving import NONE, REASONS_SHOWN, interval, number
from speed_bench.scores import Distribution, Scores

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
    drawn: bool = True
    """Or in the tables only: its speed is not of the same turns as that of the others."""


class Measure(NamedTuple):
    """What a curve is drawn of: the same of all its points."""

    name: str
    steady: bool
    """Whether over the steady span of each run, or over the whole of it."""
    per_gpu: bool


_UNITS: Final = {1e3: "ms ", 1.0: "s "}
_TIMES: Final = (
    ("TTFT", "ttft_s", ("p50", "p99"), 1e3),
    ("ITL", "itl_s", ("p50", "p99"), 1e3),
    ("TPOT", "tpot_s", ("p50",), 1e3),
    ("E2E", "e2e_s", ("p50", "p99"), 1.0),
)
"""Heading, key, percentiles and what seconds are multiplied by."""
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
    width = min(console.width, WIDTH)
    print_columns(_throughput_columns(ordered, plan), console, num_keys=2, width=width)
    print_columns(_latency_columns(ordered, plan), console, num_keys=2, width=width)
    tiers = sorted({name for point in ordered for name in point.scores.acceptance.categories})
    drafted = [point for point in ordered if point.arm != plain]
    if drafted and 1 < len(tiers) <= TIERS_SHOWN:
        print_columns(_tier_columns(drafted, plan, tiers), console, num_keys=2, width=width)
    for line in _late(ordered):
        console.print(line, highlight=False, soft_wrap=True)
    measure, arms = curves_of(ordered)
    if not any(len(each) > 1 for each in arms.values()):
        return
    if console.is_terminal if curve is None else curve:
        drawn = draw_curves(arms, across="User TPS (p50)", up=measure.name, width=width)
        console.print(drawn, highlight=False, markup=False, soft_wrap=True)
    opened = any(_is_open(point) for point in ordered)
    for line in crossing_lines(arms, measure.name, plain, with_concurrency=not opened):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _is_open(point: Point) -> bool:
    return point.scores.load is not None and point.scores.load.is_open


def _rate(point: Point) -> float:
    return (point.scores.load.rate or 0.0) if point.scores.load else 0.0


def _loads(points: Sequence[Point]) -> list[str]:
    """How much load each was: streams, or conversations per second where these come by the clock, with the most at
    once where that differs; * if our client was too slow for it."""
    differ = len({point.concurrency for point in points if _is_open(point)}) > 1
    return [_load(point, differ) for point in points]


def _load(point: Point, with_most: bool) -> str:
    load, client = point.scores.load, point.scores.serving.client
    text = str(point.concurrency)
    if load and load.is_open:
        most = f" ≤{point.concurrency}" if with_most else ""
        text = f"{load.rate:g}/s{most}" if load.rate else f"{load.arrivals}{most}"
    return f"{text}*" if client and client.limited else text


def _keys(points: Sequence[Point], plan: str) -> list[Column]:
    """What a row is of."""
    return [
        Column(f"{escape(plan)}\n", _loads(points)),
        Column("arm\n", [escape(point.arm) for point in points], justify="left", folds=True),
    ]


def _throughput_columns(points: Sequence[Point], plan: str) -> list[Column]:
    every = [point.scores.serving for point in points]
    columns = [
        *_keys(points, plan),
        Column("Output\nTPS", [_large(serving.output_tps.value) for serving in every]),
        Column("steady\nTPS", [_large(serving.steady_output_tps.value) for serving in every]),
    ]
    if any(serving.output_tps_per_gpu.value is not None for serving in every):
        steady = [_large(serving.steady_output_tps_per_gpu.value) for serving in every]
        columns.append(Column("steady\nper GPU", steady))
        columns.append(Column("per\nGPU", [_large(serving.output_tps_per_gpu.value) for serving in every]))
    columns.append(Column("User\nTPS p50", [_large(serving.user_tps.p50) for serving in every]))
    if any(point.scores.baseline for point in points):
        columns.append(Column("speed-up\n", [_speedup(point.scores) for point in points]))
    lengths = [number(point.scores.acceptance.overall.acceptance_length) for point in points]
    columns.append(Column("acceptance\nlength", lengths))
    columns.append(Column("turns\n", [str(serving.num_turns) for serving in every]))
    return columns


def _tier_columns(points: Sequence[Point], plan: str, tiers: Sequence[str]) -> list[Column]:
    """Acceptance length by category, of the arms that have any acceptance to show."""
    columns = _keys(points, plan)
    for name in tiers:
        found = [point.scores.acceptance.categories.get(name) for point in points]
        cells = [interval(each.acceptance_length) if each else NONE for each in found]
        columns.append(Column(f"{escape(name)}\nlength", cells))
    return columns


def _speedup(scores: Scores) -> str:
    cell = scores.baseline.speedup_output_tps if scores.baseline else None
    if cell is None or cell.value is None:
        return NONE
    value, *bounds = interval(cell).split(" ", 1)
    return " ".join([f"{value}x", *bounds])


def _latency_columns(points: Sequence[Point], plan: str) -> list[Column]:
    every = [point.scores.serving for point in points]
    columns = _keys(points, plan)
    for heading, name, percentiles, factor in _TIMES:
        times: list[Distribution] = [getattr(serving, name) for serving in every]
        for place, percentile in enumerate(percentiles):
            found = [getattr(each, percentile) for each in times]
            cells = [_large(None if value is None else factor * value) for value in found]
            first = place == 0
            columns.append(
                Column(
                    f"{heading if first else ''}\n{_UNITS[factor] if first else ''}{percentile}",
                    cells,
                    with_previous=not first,
                )
            )
    if any(serving.goodput for serving in every):
        goodput = [number(serving.goodput.goodput_rps) if serving.goodput else NONE for serving in every]
        columns.append(Column("goodput\nreq/s", goodput))
    columns.append(Column("ISL\nmean", [_large(serving.isl.value) for serving in every]))
    columns.append(Column("OSL\nmean", [_large(serving.osl.value) for serving in every], with_previous=True))
    if any(serving.energy_j_per_token.value is not None for serving in every):
        columns.append(Column("J per\ntoken", [_large(serving.energy_j_per_token.value) for serving in every]))
    return columns


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
    late = [(point, load, point.scores.serving.client) for point, load in zip(points, _loads(points), strict=True)]
    found = [(point, load, client.reasons[:REASONS_SHOWN]) for point, load, client in late if client and client.limited]
    if found:
        point, load, reasons = found[-1]
        where = f"{load.rstrip('*')} {point.arm}: {'; '.join(reasons)}"
        yield (
            f"[yellow]* client_limited, {len(found)} of {len(points)} runs ({escape(where)}): such percentiles are not "
            "the engine's alone; use more --workers, fewer streams or another machine for the client[/]"
        )


def curves_of(points: Sequence[Point]) -> tuple[Measure, dict[str, list[pareto.Point]]]:
    """What is drawn of all points that are to be and have an Output TPS: the steady rate before the whole one, per GPU
    before the total. By arm."""
    usable = [point for point in points if point.drawn and _coordinate(point, _MEASURES[-1])]
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
