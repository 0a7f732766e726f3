"""When conversations begin in an open loop: by a rate, or at the times of a trace."""

import codecs
import csv
import json
import math
from array import array
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from speed_bench.errors import ConfigError
from speed_bench.load_config import LONGEST_S, LoadConfig
from speed_bench.statistics import FloatArray

JSON_UNITS: Final = {"timestamp_s": 1.0, "timestamp_ms": 1000.0}
"""The keys of JSON lines that hold a time, and how many of their units are a second."""
CSV_COLUMN: Final = "TIMESTAMP"
"""The column of a CSV trace that holds a date and a time of day."""
FORMS: Final = (
    "a trace is a number of seconds a line, JSON lines with timestamp_s or timestamp_ms, "
    f"or CSV with dates in a column {CSV_COLUMN}"
)
_DRAWS: Final = 1
"""Which of the random streams of a seed is ours. Not 0: numpy pads with zeros, so [seed, 0] is the stream of the seed
itself, which others draw from."""


def arrival_times(load: LoadConfig, num: int, *, seed: int) -> FloatArray:
    """When `num` conversations begin, in seconds since the load does, ascending.

    Fewer where a trace holds fewer times, or where `max_duration_s` is over: no conversation begins at or after it.
    A longer schedule of the same seed begins with the shorter one. Raises ConfigError for a trace that cannot be
    read, ValueError for a closed loop.

    Times of a rate are those of a process of rate 1, u₁ ≤ u₂ ≤ …, put on the clock by the inverse of the cumulative
    rate Λ (Gerhardt and Nelson 2009, INFORMS J. Computing 21:630). That process is 0, 1, 2, … if `constant`; otherwise
    its gaps, also the one before u₁, are drawn from a gamma distribution of shape b and mean 1, whose variance is
    1/b: b = 1 if `poisson`, the `burstiness` if `gamma`. With rate r and ramp-up R the rate at time t is r·t/R until R
    and r from there on, so

        Λ(t) = r·t² / 2R until R, then r·(t − R/2)
        t(u) = √(2R·u / r) where u < r·R/2, else u/r + R/2

    >>> load = LoadConfig(concurrency=8, arrivals="constant", rate=2.0)
    >>> arrival_times(load, 4, seed=0).tolist()
    [0.0, 0.5, 1.0, 1.5]
    >>> arrival_times(load.model_copy(update={"ramp_up_s": 4.0}), 6, seed=0).round(2).tolist()
    [0.0, 2.0, 2.83, 3.46, 4.0, 4.5]
    """
    if load.arrivals == "closed":
        raise ValueError("in a closed loop a conversation begins when a stream is free, not by the clock")
    if load.arrivals == "trace":
        times = read_trace(Path(load.trace or ""), most=num)
    else:
        times = _on_the_clock(_unit_rate(load, num, seed), load)
    return times if load.max_duration_s is None else times[times < load.max_duration_s]


def _unit_rate(load: LoadConfig, num: int, seed: int) -> FloatArray:
    """The process of rate 1 that is behind the arrivals."""
    if load.arrivals == "constant":
        return np.arange(num, dtype=np.float64)
    shape = load.burstiness if load.arrivals == "gamma" else 1.0
    gaps = np.random.default_rng([seed, _DRAWS]).standard_gamma(shape, num) / shape
    return np.cumsum(gaps)


def _on_the_clock(unit: FloatArray, load: LoadConfig) -> FloatArray:
    """The inverse of the cumulative rate, t(u) of `arrival_times`."""
    if load.rate is None:
        raise ValueError(f"{load.arrivals} arrivals without a rate: check_load refuses them")
    ramp_s = load.ramp_up_s
    climbing = np.sqrt(2 * ramp_s * unit / load.rate)
    return np.where(unit < load.rate * ramp_s / 2, climbing, unit / load.rate + ramp_s / 2)


class _Form(NamedTuple):
    """How the lines of a trace are read."""

    time: Callable[[str], float]
    """The time that a line says. Raises ValueError where it says none, in words that follow its number."""
    per_second: float = 1.0
    """How many of its units are a second."""
    has_header: bool = False


def read_trace(path: Path, most: int | None = None) -> FloatArray:
    """The times of a trace, the first `most` of them (None: all), in seconds since the first: it is always 0.

    The first line that is neither blank nor a comment (`#`) says which form the file has: a number of seconds a line,
    JSON lines with a number under `timestamp_s` or `timestamp_ms`, or CSV whose header names a column `TIMESTAMP`, of
    dates with a time of day. Whatever else a line of JSON or CSV holds is passed over. A bare `timestamp` is refused:
    some tools write seconds under it and some milliseconds. Equal times may follow each other. Raises ConfigError for
    a file that cannot be read, one without a time, and a line without one, or with one that is not finite, negative
    or earlier than that of the line before.
    """
    found = array("d")
    form: _Form | None = None
    for number, line in _lines(path):
        try:
            text = _decoded(line)
            if form is None:
                form = _form_of(text)
                if form.has_header:
                    continue
            at = form.time(text)
            if found and at < found[-1]:
                raise ValueError("its time is earlier than that of the line before: the clock goes backwards")
            if found and (at - found[0]) / form.per_second > LONGEST_S:
                raise ValueError(f"its time is more than {LONGEST_S:g} s after the first one")
        except ValueError as error:
            raise ConfigError(f"--trace {path}, line {number}: {error}") from error
        found.append(at)
        if most is not None and len(found) >= most:
            break
    if form is None or not found:
        raise ConfigError(f"--trace {path} holds no time; {FORMS}")
    times: FloatArray = np.array(found)
    since_first: FloatArray = (times[:most] - times[0]) / form.per_second
    return since_first


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that say something, with their numbers, from 1."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                content = line.removeprefix(codecs.BOM_UTF8 if number == 1 else b"").strip()
                if content and not content.startswith(b"#"):
                    yield number, content
    except OSError as error:
        raise ConfigError(f"--trace {path} cannot be read: {error.strerror}") from error


def _decoded(line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"it is not UTF-8 text; {FORMS}") from None


def _form_of(first: str) -> _Form:
    """The form of a file that begins with this line."""
    if first.startswith("{"):
        key = _json_key(first)
        return _Form(partial(_json_time, key), per_second=JSON_UNITS[key])
    cells = _cells(first)
    if CSV_COLUMN in cells:
        return _Form(partial(_csv_time, cells.index(CSV_COLUMN)), has_header=True)
    return _Form(_seconds)


def _seconds(text: str) -> float:
    try:
        at = float(text)
    except ValueError:
        raise ValueError(f"{_shown(text)} is no number of seconds; {FORMS}") from None
    return _possible(at, text)


def _json_key(text: str) -> str:
    """Under which key the lines have their time, as the first one has it."""
    row = _json_row(text)
    match [key for key in JSON_UNITS if key in row]:
        case [key]:
            return key
        case []:
            if "timestamp" in row:
                raise ValueError(
                    "its 'timestamp' does not say its unit; rename it to 'timestamp_s' where it counts seconds, "
                    "to 'timestamp_ms' where it counts milliseconds"
                )
            raise ValueError(f"it has no key {' or '.join(JSON_UNITS)}")
        case both:
            raise ValueError(f"it has {' and '.join(both)}; keep one of them")


def _json_time(key: str, text: str) -> float:
    value = _json_row(text).get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"it has no number under '{key}', where the first line has its time")
    try:
        at = float(value)
    except OverflowError:
        at = math.inf
    return _possible(at, value)


def _json_row(text: str) -> dict[str, Any]:
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        raise ValueError(f"{_shown(text)} is no JSON object, as the lines of such a file are")
    return row


def _csv_time(column: int, text: str) -> float:
    """Seconds since 1970; a date that names no time zone is taken as UTC."""
    cells = _cells(text)
    if column >= len(cells):
        raise ValueError(f"it has no column {CSV_COLUMN}, which the header names")
    try:
        at = datetime.fromisoformat(cells[column])
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise ValueError(f"{_shown(cells[column])} is no date with a time, such as 2024-05-10 00:00:00.25") from None


def _cells(text: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([text]))]
    except csv.Error:
        raise ValueError(f"{_shown(text)} is no line of CSV") from None


def _possible(at: float, shown: object) -> float:
    if not math.isfinite(at):
        raise ValueError(f"{_shown(shown)} is no time: it is not finite")
    if at < 0:
        raise ValueError(f"{_shown(shown)} is no time: it is negative")
    return at


def _shown(value: object) -> str:
    """What a line holds, quoted and cut, so that a sentence can hold it."""
    text = str(value)
    return repr(text if len(text) <= 40 else f"{text[:39]}…")
