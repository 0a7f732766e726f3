"""Which draft length is the best under which load, and whether it is told apart from the others."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from speed_bench.comparison import compare
from speed_bench.errors import SpeedBenchError
from speed_bench.records import RunRecords
from speed_bench.runner.journal import read_records
from speed_bench.scores import Bootstrap, Cell, Comparison, Distribution
from speed_bench.sweep.repeats import CONFIDENCE_LEVEL, MIN_RUNS, OverRuns, mean_interval, over_runs
from speed_bench.sweep.results import Best, CellResult, Headline, Metric, Option, ToldBy
from speed_bench.sweep.spec import is_of_drafts

DRAFT_LENGTH = "draft_length"
_SERVERS = ("engine.url", "engine.baseline_url")
_TurnKey = tuple[int, int, str]
_OverTurns = Callable[[CellResult, CellResult], Comparison | None]
"""One run against another, over the turns of both."""
_BOOTSTRAP = Bootstrap(confidence_level=CONFIDENCE_LEVEL, resamples=2000, seed=0)


@dataclass(frozen=True, slots=True)
class _Measure:
    """One way to be the best."""

    higher_is_better: bool
    value: Callable[[Headline], Cell | Distribution]
    speedup: Callable[[Headline], Cell]
    ratio: Callable[[Comparison], Cell]
    """How much better one run is than another, over the same turns; above 1 is better."""


MEASURES: Mapping[Metric, _Measure] = {
    "output_tps": _Measure(
        True, lambda cell: cell.output_tps, lambda cell: cell.speedup_output_tps, lambda both: both.speedup_output_tps
    ),
    "tpot_s": _Measure(False, lambda cell: cell.tpot_s, lambda cell: cell.speedup_tpot, lambda both: both.speedup_tpot),
}


def best_draft_lengths(cells: Sequence[CellResult], folder_of: Callable[[CellResult], Path]) -> list[Best]:
    """Of all cells with speculation that differ in nothing but the draft length, and of which there are two or more.

    First by Output TPS, then by time per output token. `folder_of` says where the run of a cell lies.
    """
    drafting = [cell for cell in cells if cell.settings.get(DRAFT_LENGTH) is not None]
    own = (DRAFT_LENGTH, *where_alone(drafting))
    groups: dict[bytes, dict[int, list[CellResult]]] = {}
    for cell in drafting:
        groups.setdefault(_key(_without(cell, own)), {}).setdefault(cell.settings[DRAFT_LENGTH], []).append(cell)
    several = [group for group in groups.values() if len(group) > 1]

    @cache
    def compared(mine: Path, other: Path) -> Comparison | None:
        """Over the same turns: takes a second or so, and gives both measures."""
        try:
            return compare(read_records(mine), read_records(other), _BOOTSTRAP)
        except SpeedBenchError:
            return None  # it cannot be read any more

    def over_turns(mine: CellResult, other: CellResult) -> Comparison | None:
        return compared(folder_of(mine), folder_of(other))

    return [_best(group, own, metric, over_turns) for metric in MEASURES for group in several]


def with_other_turns_told(cells: Sequence[CellResult], folder_of: Callable[[CellResult], Path]) -> list[CellResult]:
    """The cells, with the reason at those whose speed is of other turns than that of the cells beside them.

    One that was resumed is timed from its last whole segment on; and a turn that failed in it, but in another cell was
    finished, is missing.
    """
    reasons = {cell.name: why for cell in cells if (why := _resumed(cell))}
    groups: dict[bytes, list[CellResult]] = {}
    for cell in cells:
        if cell.headline is not None:
            groups.setdefault(_key(_load(cell)), []).append(cell)
    for group in groups.values():
        if len(group) > 1 and any(cell.headline.num_failures for cell in group if cell.headline):
            reasons = _failed({cell.name: folder_of(cell) for cell in group}) | reasons
    return [cell.model_copy(update={"not_compared": reasons.get(cell.name)}) for cell in cells]


def _resumed(cell: CellResult) -> str | None:
    found = cell.headline
    if found is None or found.num_turns_timed == found.num_turns:
        return None
    return f"it was resumed, so its speed is of {found.num_turns_timed} of its {found.num_turns} turns"


def _failed(folders: Mapping[str, Path]) -> dict[str, str]:
    """Of runs of the same prompts under the same load, by name."""
    try:
        keys = {name: _keys(read_records(folder)) for name, folder in folders.items()}
    except SpeedBenchError:
        return {}  # it cannot be read any more
    finished = {key for done, _ in keys.values() for key in done}
    missing = {name: len(failed & finished) for name, (_, failed) in keys.items()}
    return {name: f"{num} of its turns failed that others finished" for name, num in missing.items() if num}


def _keys(run: RunRecords) -> tuple[set[_TurnKey], set[_TurnKey]]:
    """Of its finished and of its failed turns."""
    return {turn.key for turn in run.turns}, {failure.key for failure in run.failures}


def _load(cell: CellResult) -> dict[str, Any]:
    """What is the same in cells that are compared: all settings but those of drafts, and where a server is."""
    return {
        key: value
        for key, value in cell.settings.items()
        if key not in ("algorithm", *_SERVERS) and not is_of_drafts(key)
    }


def where_alone(cells: Sequence[CellResult]) -> tuple[str, ...]:
    """The settings that say where a server is, if cells differ in more than these.

    A server that runs already has one draft length, so with another it is another server: that keeps no cells apart.
    Servers with equal settings are measured against each other, though, and are kept apart.
    """
    settings = [_key({**_without(cell, _SERVERS), "repeat": cell.repeat}) for cell in cells]
    return _SERVERS if len(set(settings)) == len(settings) else ()


def _without(cell: CellResult, keys: Collection[str]) -> dict[str, Any]:
    return {key: value for key, value in cell.settings.items() if key not in keys}


def _key(settings: Mapping[str, Any]) -> bytes:
    return orjson.dumps(settings, option=orjson.OPT_SORT_KEYS)


def _best(
    group: Mapping[int, Sequence[CellResult]], own: Collection[str], metric: Metric, over_turns: _OverTurns
) -> Best:
    """Of one group. `own` are the settings in which its cells may differ."""
    measure = MEASURES[metric]
    values = {length: over_runs(_values(measure, group[length])) for length in sorted(group)}
    compared = {length: [cell for cell in group[length] if is_compared(cell)] for length in group}
    defined = {length: value.value for length, value in values.items() if value.value is not None}
    choose = max if measure.higher_is_better else min
    best = choose(defined, key=lambda length: defined[length]) if defined else None
    options = []
    for length, value in values.items():
        apart: tuple[bool | None, ToldBy | None] = (None, None)
        if best is not None and length != best and length in defined:
            apart = _told_apart(measure, compared[best], compared[length], values[best], value, over_turns)
        speedup = over_runs([measure.speedup(cell.headline) for cell in group[length] if cell.headline])
        options.append(Option(draft_length=length, value=value, speedup=speedup, told_apart=apart[0], by=apart[1]))
    first = next(iter(group.values()))[0]
    return Best(
        settings=_without(first, own),
        metric=metric,
        draft_length=best,
        not_told_apart=[each.draft_length for each in options if each.draft_length == best or each.told_apart is False],
        options=options,
    )


def is_compared(cell: CellResult) -> bool:
    """Whether it has numbers, and of the same turns as other cells."""
    return cell.headline is not None and cell.not_compared is None


def _values(measure: _Measure, cells: Sequence[CellResult]) -> list[Cell | Distribution]:
    return [
        Cell.undefined(cell.not_compared) if cell.not_compared else measure.value(cell.headline)
        for cell in cells
        if cell.headline
    ]


def _told_apart(
    measure: _Measure,
    best: Sequence[CellResult],
    other: Sequence[CellResult],
    best_value: OverRuns,
    other_value: OverRuns,
    over_turns: _OverTurns,
) -> tuple[bool, ToldBy | None]:
    """Whether the best is better by more than chance, and what says so.

    Repeats made side by side say it best: their ratio has in it what differs from run to run. Without three of them
    it is what the prompts say: intervals that do not overlap, or the ratio over the same turns.
    """
    ratios = _ratios_of_repeats(measure, best, other)
    if len(ratios) >= MIN_RUNS:
        return mean_interval(ratios).low > 0, "repeats"
    if _apart(best_value, other_value) or _apart(other_value, best_value):
        return True, "intervals"
    ratio = _ratio_over_turns(measure, best, other, over_turns)
    if ratio is None or ratio.low is None:
        return False, None
    return ratio.low > 1, "turns"


def _ratios_of_repeats(measure: _Measure, best: Sequence[CellResult], other: Sequence[CellResult]) -> list[float]:
    """Logarithms of best / other, of each repeat that both have; above 0 the best is better."""
    mine, theirs = (
        {cell.repeat: measure.value(cell.headline).value for cell in cells if cell.headline} for cells in (best, other)
    )
    pairs = [(mine[repeat], theirs[repeat]) for repeat in sorted(mine.keys() & theirs.keys())]
    sign = 1 if measure.higher_is_better else -1
    return [sign * math.log(value / against) for value, against in pairs if value and against]


def _apart(lower: OverRuns, upper: OverRuns) -> bool:
    return lower.high is not None and upper.low is not None and lower.high < upper.low


def _ratio_over_turns(
    measure: _Measure, best: Sequence[CellResult], other: Sequence[CellResult], over_turns: _OverTurns
) -> Cell | None:
    """Of the first repeat that both have; None where there is none."""
    mine, theirs = ({cell.repeat: cell for cell in cells if cell.headline} for cells in (best, other))
    common = sorted(mine.keys() & theirs.keys())
    found = over_turns(mine[common[0]], theirs[common[0]]) if common else None
    return measure.ratio(found) if found else None
