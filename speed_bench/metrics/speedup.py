"""Two runs of the same rows against each other: what `speed_bench_speedup` computes."""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from speed_bench.comparison import compare
from speed_bench.errors import MetricInputError
from speed_bench.metrics import inputs
from speed_bench.metrics.records import intervals_of, run_of, turn_of
from speed_bench.records import RunRecords
from speed_bench.scores import Cell

_VALUES = (
    "speedup_output_tps",
    "speedup_tpot",
    "acceptance_length_difference",
    "identical_share",
    "common_prefix_tokens",
    "paired_share",
)
_RUNS = ("run1", "run2")
_MEASURED = ("arrivals", "start_s", "slots", "seeds", "steps", "prompts")
_SIDE = ("rows", "settings", *_MEASURED)
_SETTINGS = ("temperature", "max_tokens")
_LOADS = ("concurrency", "request_rate")
_Ids = list[list[int | None]]


def check(predictions1: object, predictions2: object) -> tuple[_Ids, _Ids]:
    """Output ids of the turns of both runs; None is an id that the engine did not name.

    Raises MetricInputError for anything else, and where the runs have different numbers of turns.
    """
    first, second = (
        inputs.counts(name, ids, least=0, most=inputs.MOST, what="output token ids", position="token", unnamed=True)
        for name, ids in (("predictions1", predictions1), ("predictions2", predictions2))
    )
    if len(first) != len(second):
        raise MetricInputError(f"the rows differ: predictions1 has {len(first)} turns, predictions2 has {len(second)}")
    return first, second


def compute(
    predictions1: Sequence[Sequence[int | None]],
    predictions2: Sequence[Sequence[int | None]],
    *,
    run1: Mapping[str, Any],
    run2: Mapping[str, Any],
    conversations: Sequence[Hashable] | None = None,
    categories: Sequence[str] | None = None,
    confidence_level: float | None = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """How much faster run 1 is than run 2, and whether the answers are the same, with paired intervals.

    `predictions1` and `predictions2` are the output token ids of every turn; `run1` and `run2` describe the
    turns of each run, in the same order as its predictions, as a dict of

    - `rows`: which turn it is, such as question_id/turn;
    - `settings`: sampling and load, a dict of `temperature`, `max_tokens`, `concurrency` or `request_rate`,
      and whatever else must be equal;
    - `arrivals` ([time_s, num_tokens]) and `start_s`, as `throughput.compute` takes them; without them in
      both runs there is no speed-up; `slots`, the stream that sent each turn of a closed loop: without it in
      both runs `speedup_output_tps` has no interval; `seeds`, if a conversation was run several times;
    - `steps`: tokens emitted per decode step, prefill excluded; without them in both runs there is no
      difference in acceptance;
    - `prompts`: what identifies the input of the turn, such as its sha256. Turns whose inputs differ are
      compared in speed alone. Without it in both runs the inputs are taken to be the same.

    `conversations` and `categories` name those of each turn of run 1.

    Returns `speedup_output_tps` and `speedup_tpot` (above 1 where run 1 is faster),
    `acceptance_length_difference` and its `p_value`, `identical_share`, `common_prefix_tokens`, `paired_share`,
    `confidence_interval` and counts; definitions are in `speed_bench.comparison`. What the input cannot give
    is None. Raises MetricInputError for a value that cannot be, and where rows, sampling or load differ: the
    message names the difference.

    >>> settings = {"temperature": 0, "max_tokens": 8, "concurrency": 1}
    >>> fast = {"arrivals": [[(1.0, 1), (1.5, 2)], [(3.0, 1), (3.5, 1)]], "start_s": [0.0, 2.0]}
    >>> slow = {"arrivals": [[(1.0, 1), (2.0, 1), (3.0, 1)], [(5.0, 1), (6.0, 1)]], "start_s": [0.0, 4.0]}
    >>> same = {"rows": ["a/0", "b/0"], "settings": settings}
    >>> found = compute([[5, 6, 7], [8, 9]], [[5, 6, 7], [8, 1]], run1=fast | same, run2=slow | same)
    >>> found["speedup_tpot"], found["identical_share"], found["common_prefix_tokens"]
    (3.0, 0.5, 2.0)
    """
    outputs = check(predictions1, predictions2)
    sides = [_side(name, run) for name, run in zip(_RUNS, (run1, run2), strict=True)]
    num = len(outputs[0])
    rows = [inputs.ids(f"{name}['rows']", side["rows"], num) for name, side in zip(_RUNS, sides, strict=True)]
    _refuse_other_rows(*rows)
    _refuse_other_settings(*(side["settings"] for side in sides))
    bootstrap = inputs.bootstrap(confidence_level, resamples, seed)
    units = dict(zip(rows[0], inputs.units(conversations, categories, num), strict=True))
    both = [key for key in _MEASURED if all(side.get(key) is not None for side in sides)]
    records = [
        _records(name, ids, of, units, {key: side[key] for key in both})
        for name, ids, of, side in zip(_RUNS, outputs, rows, sides, strict=True)
    ]
    found = compare(records[0], records[1], bootstrap)
    cells = {name: getattr(found, name) for name in _VALUES}
    if "arrivals" not in both:
        cells |= {name: Cell.undefined("no arrivals") for name in _VALUES if name.startswith("speedup")}
    intervals = intervals_of(cells) if "slots" in both else intervals_of(cells) | {"speedup_output_tps": None}
    return {
        **{name: cell.value for name, cell in cells.items()},
        "p_value": found.acceptance_length_difference.p_value,
        "confidence_interval": None if bootstrap is None else intervals,
        "num_conversations": len({conversation for conversation, _ in units.values()}),
        "num_turns": num,
    }


def _side(name: str, run: object) -> dict[str, Any]:
    """What describes a run. Raises MetricInputError for a key that is unknown or missing."""
    if not isinstance(run, Mapping):
        raise MetricInputError(f"{name} is a dict with rows, settings and what was measured, not {run!r}")
    for key in run:
        inputs.choice(f"key of {name}", key, _SIDE)
    for key in ("rows", "settings"):
        if run.get(key) is None:
            raise MetricInputError(f"{name} has no '{key}': runs are compared only where both say what they are of")
    if run.get("slots") is not None and run.get("arrivals") is None:
        raise MetricInputError(f"{name} has 'slots' without 'arrivals': streams are looked at for their load")
    if (run.get("arrivals") is None) != (run.get("start_s") is None):
        raise MetricInputError(f"{name} has only one of 'arrivals' and 'start_s': a time needs a start")
    return dict(run)


def _refuse_other_rows(first: Sequence[Hashable], second: Sequence[Hashable]) -> None:
    """Raises MetricInputError for a row that stands twice in a run, or in one run alone."""
    for name, rows in zip(_RUNS, (first, second), strict=True):
        if twice := [row for row, num in Counter(rows).items() if num > 1]:
            raise MetricInputError(f"{name} has row {twice[0]!r} twice")
    for name, rows, others in ((_RUNS[0], first, set(second)), (_RUNS[1], second, set(first))):
        if alone := [row for row in rows if row not in others]:
            raise MetricInputError(f"the rows differ: {len(alone)} are in {name} alone, the first is {alone[0]!r}")


def _refuse_other_settings(first: Any, second: Any) -> None:
    """Raises MetricInputError for settings that are incomplete, or that differ: with both values."""
    for name, settings in zip(_RUNS, (first, second), strict=True):
        if not isinstance(settings, Mapping):
            raise MetricInputError(f"{name}['settings'] is a dict of sampling and load, not {settings!r}")
        needed = [key for key in _SETTINGS if key not in settings]
        if not any(key in settings for key in _LOADS):
            needed.append(" or ".join(_LOADS))
        if needed:
            raise MetricInputError(
                f"{name}['settings'] has no {', no '.join(needed)}: a comparison holds for one sampling and load"
            )
    absent = object()
    for key in sorted({*first, *second}, key=str):
        ours, theirs = first.get(key, absent), second.get(key, absent)
        if ours != theirs:
            shown = ["nothing" if value is absent else repr(value) for value in (ours, theirs)]
            raise MetricInputError(f"the runs differ in {key}: {shown[0]} in run1, {shown[1]} in run2")


def _records(
    name: str,
    outputs: _Ids,
    rows: Sequence[Hashable],
    units: Mapping[Hashable, tuple[Hashable, str]],
    measured: Mapping[str, Any],
) -> RunRecords:
    """The records of one run, its turns named by their place in run 1."""
    num, places = len(rows), {row: place for place, row in enumerate(units)}
    arrivals = _arrivals(name, outputs, measured)
    starts = (
        inputs.starts(f"{name}['start_s']", measured["start_s"], arrivals) if "start_s" in measured else [0.0] * num
    )
    steps = _steps(name, outputs, measured)
    slots = (
        inputs.in_streams(f"{name}['slots']", measured["slots"], starts, arrivals) if "slots" in measured else [0] * num
    )
    seeds = (
        inputs.whole_per_turn(f"{name}['seeds']", measured["seeds"], num, "seeds") if "seeds" in measured else [0] * num
    )
    prompts = inputs.ids(f"{name}['prompts']", measured["prompts"], num) if "prompts" in measured else [""] * num
    return run_of(
        [
            turn_of(
                places[row],
                units[row][0],
                category=units[row][1],
                start_s=starts[at],
                arrivals=arrivals[at],
                slot=slots[at],
                seed=seeds[at],
                output_ids=outputs[at],
                steps=None if steps is None else steps[at],
                prompt=prompts[at],
            )
            for at, row in enumerate(rows)
        ]
    )


def _arrivals(name: str, outputs: _Ids, measured: Mapping[str, Any]) -> list[list[tuple[float, int]]]:
    """When the tokens of each turn arrived; all at once where it is not known, which then is not looked at."""
    if "arrivals" not in measured:
        return [[(0.0, len(ids))] if ids else [] for ids in outputs]
    arrivals = inputs.arrivals(f"{name}['arrivals']", measured["arrivals"])
    inputs.per_turn(f"{name}['arrivals']", arrivals, len(outputs), "arrivals")
    for request, (ids, row) in enumerate(zip(outputs, arrivals, strict=True)):
        if sum(tokens for _, tokens in row) != len(ids):
            raise MetricInputError(
                f"{name}['arrivals'][{request}] holds {sum(tokens for _, tokens in row)} tokens (request {request}), "
                f"its output has {len(ids)}"
            )
    return arrivals


def _steps(name: str, outputs: _Ids, measured: Mapping[str, Any]) -> list[list[int]] | None:
    if "steps" not in measured:
        return None
    steps = inputs.counts(f"{name}['steps']", measured["steps"], least=1, what="tokens emitted per decode step")
    inputs.per_turn(f"{name}['steps']", steps, len(outputs), "steps")
    for request, (ids, row) in enumerate(zip(outputs, steps, strict=True)):
        if sum(row) > len(ids):
            raise MetricInputError(
                f"{name}['steps'][{request}] emit {sum(row)} tokens (request {request}), its output has {len(ids)}"
            )
    return steps
