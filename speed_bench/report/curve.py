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
    plotext.terminal.limit(False, False)  # the width is the caller's to know
    figure.clear()
    figure.theme("colorless")
    figure.plot_size(width, HEIGHT)
    for axis, place in (("x", 0), ("y", 1)):
        values = [point[place] for points in arms.values() for point in points]
        ticks = ticks_within(min(values), max(values))
        ruler = figure.ruler(axis)
        ruler.lim(math.log10(ticks[0]), math.log10(ticks[-1]))
        ruler.ticks([math.log10(tick) for tick in ticks], [f"{tick:g}" for tick in ticks])
    for points in arms.values():
        ordered = sorted(points, key=lambda point: point.concurrency)
        figure.draw(figure.signal(*_logarithms(ordered), marker="·").lines())
    for marker, points in zip(_markers(arms), arms.values(), strict=True):  # over all lines
        figure.draw(figure.signal(*_logarithms(points), marker=marker))
    drawn = str(figure.build().string(colorless=True)).rstrip("\n")
    figure.clear()
    names = "   ".join(f"{marker} {arm}" for marker, arm in zip(_markers(arms), arms, strict=True))
    return f"{up}\n{drawn}\n{across:>{width}}\n{names}"


def _markers(arms: Mapping[str, Sequence[Point]]) -> list[str]:
    return [MARKERS[number % len(MARKERS)] for number in range(len(arms))]


def _logarithms(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    return [math.log10(point.user_tps) for point in points], [math.log10(point.output_tps) for point in points]


def ticks_within(low: float, high: float) -> list[float]:
    """1, 2, 5, 10, … from the last that is not above `low` to the first that is not below `high`, two at least.

    Over more than two decades only the powers of 10.

    >>> ticks_within(11.0, 84.0), ticks_within(3.0, 900.0)
    ([10.0, 20.0, 50.0, 100.0], [1.0, 10.0, 100.0, 1000.0])
    >>> ticks_within(20.0, 20.0)
    [20.0, 50.0]
    """
    steps = (1, 2, 5) if high / low <= 100 else (1,)
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    every = [step * 10.0**decade for decade in decades for step in steps]
    first = max(tick for tick in every if tick <= low * (1 + 1e-9))
    last = min(tick for tick in every if tick >= high * (1 - 1e-9) and tick > first)
    return [tick for tick in every if first <= tick <= last]
