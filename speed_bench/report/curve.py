"""Curves of throughput against pace, drawn with characters."""

import math
from collections.abc import Mapping, Sequence
from typing import Final

from speed_bench.pareto import Point

MARKERS: Final = "●○◆◇■□▲△"
HEIGHT: Final = 20


def draw_curves(arms: Mapping[str, Sequence[Point]], *, across: str, up: str, width: int) -> str:
    """All points of every arm on logarithmic axes, joined in the order of their concurrency; a legend below.

    Without colours, so that it can be pasted; at most `width` columns wide.
    """
    import plotext

    figure = plotext.figure
    figure.clear()
    figure.theme("colorless")
    figure.plot_size(width, HEIGHT)
    for side, values in (
        ("x", [point.user_tps for points in arms.values() for point in points]),
        ("y", [point.output_tps for points in arms.values() for point in points]),
    ):
        ruler = figure.ruler(side)
        ruler.scale("log")
        ticks = ticks_within(min(values), max(values))
        ruler.lim(min(*values, *ticks), max(*values, *ticks))
        ruler.ticks(ticks, [f"{tick:g}" for tick in ticks])
    for points in arms.values():
        ordered = sorted(points, key=lambda point: point.concurrency)
        figure.draw(figure.signal(*_coordinates(ordered), marker="·").lines())
    for number, points in enumerate(arms.values()):  # over all lines
        figure.draw(figure.signal(*_coordinates(points), marker=MARKERS[number % len(MARKERS)]))
    drawn = str(figure.build().string(colorless=True)).rstrip("\n")
    names = "   ".join(f"{MARKERS[number % len(MARKERS)]} {arm}" for number, arm in enumerate(arms))
    figure.clear()
    return f"{up}\n{drawn}\n{across:>{width}}\n{names}"


def _coordinates(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    return [point.user_tps for point in points], [point.output_tps for point in points]


def ticks_within(low: float, high: float) -> list[float]:
    """1, 2, 5, 10, … from the last that is not above `low` to the first that is not below `high`.

    Over more than two decades only the powers of 10.

    >>> ticks_within(11.0, 84.0), ticks_within(3.0, 900.0)
    ([10.0, 20.0, 50.0, 100.0], [1.0, 10.0, 100.0, 1000.0])
    """
    steps = (1, 2, 5) if high / low <= 100 else (1,)
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    every = [step * 10.0**decade for decade in decades for step in steps]
    first = max(tick for tick in every if tick <= low * (1 + 1e-9))
    last = min(tick for tick in every if tick >= high * (1 - 1e-9))
    return [tick for tick in every if first <= tick <= last]
