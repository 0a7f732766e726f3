"""Checks of what is given to a metric, value by value, before anything is cast.

`evaluate` turns 1.5 into 1, "3" into 3 and True into 1. A number of tokens that has to be cast is a
mistake of whoever counted it, so it is refused, in a sentence that names the request and the position.
Both count from 0.
"""

import math
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np

from speed_bench.errors import MetricInputError, unknown
from speed_bench.scores import Bootstrap

T = TypeVar("T")

ONE_CATEGORY = "all"
"""Where no category is named."""

MOST = 2**31 - 1
"""`evaluate` stores counts and ids as 32-bit integers."""

MOST_PER_STEP = 1024
"""Tokens of a decode step. More are likely token ids, given in the place of counts."""

MOST_PER_ARRIVAL = 2**20

_LAST_MOMENT_S = 1e11
"""Seconds since 1970 are below it, milliseconds are not."""


def listed(name: str, values: object, what: str) -> list[Any]:
    """A list, tuple, array, tensor or column of a dataset as a list. Raises MetricInputError for anything else."""
    plain = values.tolist() if hasattr(values, "tolist") else values
    if not isinstance(plain, Sequence) or isinstance(plain, (str, bytes)):
        raise MetricInputError(f"{name} is {what}, not {_shown(values)}")
    return list(plain)


def per_turn(name: str, values: object, num: int, what: str) -> list[Any]:
    """One value per turn. Raises MetricInputError for another number of them."""
    found = listed(name, values, f"a list of {what}, one per turn")
    if len(found) != num:
        raise MetricInputError(f"{name} has {len(found)} entries for {num} turns; it takes {what}, one per turn")
    return found


def counts(
    name: str,
    rows: object,
    *,
    least: int,
    what: str,
    most: int = MOST_PER_STEP,
    position: str = "step",
    unnamed: bool = False,
) -> list[list[Any]]:
    """Lists of whole numbers, one list per turn, each number from `least` to `most`.

    `unnamed` lets None stand for a number that nobody knows. Raises MetricInputError for the first
    value that is not a whole number in range; True, 1.0 and "1" are not.

    >>> counts("predictions", [[4, 0]], least=1, what="tokens emitted per decode step")
    Traceback (most recent call last):
        ...
    speed_bench.errors.MetricInputError: predictions[0][1] is 0 (request 0, step 1): tokens emitted per decode \
step are whole numbers from 1 to 1,024
    """
    turns = listed(name, rows, f"one list of {what} per turn")
    if not turns:
        raise MetricInputError(f"{name} is empty: it takes one list of {what} per turn")
    checked = []
    for request, row in enumerate(turns):
        values = listed(f"{name}[{request}]", row, f"a list of {what}")
        kinds = set(map(type, values)) - ({type(None)} if unnamed else set())
        known = values if not unnamed else [value for value in values if value is not None]
        if kinds - {int} or (known and not (least <= min(known) and max(known) <= most)):
            values = [
                None
                if unnamed and value is None
                else whole(f"{name}[{request}][{at}]", value, least, what, f"request {request}, {position} {at}", most)
                for at, value in enumerate(values)
            ]
        checked.append(values)
    return checked


def whole(name: str, value: object, least: int, what: str, place: str | None = None, most: int = MOST) -> int:
    """A whole number from `least` to `most`. Raises MetricInputError for anything else: True, 1.0 and "1" too."""
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool) and least <= value <= most:
        return int(value)
    where = "" if place is None else f" ({place})"
    raise MetricInputError(f"{name} is {_shown(value)}{where}: {what} are whole numbers from {least} to {most:,}")


def same_shape(name: str, rows: Sequence[Sequence[object]], other: str, like: Sequence[Sequence[object]]) -> None:
    """Raises MetricInputError unless both have as many turns, and as many steps in each."""
    if len(rows) != len(like):
        raise MetricInputError(f"{name} has {len(rows)} turns, {other} has {len(like)}")
    for request, (row, expected) in enumerate(zip(rows, like, strict=True)):
        if len(row) != len(expected):
            raise MetricInputError(
                f"{name}[{request}] has {len(row)} steps, {other}[{request}] has {len(expected)} (request {request})"
            )


def moment(name: str, value: Any, request: int) -> float:
    """A time in seconds: a finite number. Raises MetricInputError for anything else."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise MetricInputError(f"{name} is {_shown(value)} (request {request}): a time is a number of seconds")
    if not -_LAST_MOMENT_S <= value <= _LAST_MOMENT_S:  # NaN does not, and no huge integer is cast
        raise MetricInputError(f"{name} is {_shown(value)} (request {request}): a time is seconds, below 1e11")
    return float(value)


def arrivals(name: str, rows: object) -> list[list[tuple[float, int]]]:
    """Arrivals [time in seconds, tokens] of each request, in the order of time.

    Raises MetricInputError for a pair that is none, a time that is no finite number or goes backwards,
    and tokens that are not a whole number from 1: what brought no token is no arrival.
    """
    what = "arrivals [time_s, num_tokens]"
    requests = listed(name, rows, f"one list of {what} per request")
    if not requests:
        raise MetricInputError(f"{name} is empty: it takes one list of {what} per request")
    return [_arrivals(f"{name}[{request}]", request, row, what) for request, row in enumerate(requests)]


def in_streams(
    name: str, slots: object, starts_s: Sequence[float], requests: Sequence[Sequence[tuple[float, int]]]
) -> list[int]:
    """The stream that sent each request. Raises MetricInputError where one sends the next before the last has ended."""
    streams = whole_per_turn(name, slots, len(requests), "numbers of streams")
    ends: dict[int, tuple[float, int]] = {}
    for request in sorted(range(len(requests)), key=lambda at: (starts_s[at], requests[at][-1:], at)):
        end_s, before = ends.get(streams[request], (-math.inf, -1))
        if starts_s[request] < end_s:
            raise MetricInputError(
                f"{name}[{request}] is {streams[request]} (request {request}), a stream whose request {before} "
                f"had not ended: a stream of a closed loop sends one request after the other"
            )
        last = requests[request][-1][0] if requests[request] else starts_s[request]
        ends[streams[request]] = (last, request)
    return streams


def starts(name: str, values: object, requests: Sequence[Sequence[tuple[float, int]]]) -> list[float]:
    """The start of each request in seconds. Raises MetricInputError for one after its first arrival."""
    found = []
    for request, value in enumerate(per_turn(name, values, len(requests), "times")):
        start_s = moment(f"{name}[{request}]", value, request)
        if requests[request] and start_s > requests[request][0][0]:
            first_s = requests[request][0][0]
            raise MetricInputError(
                f"{name}[{request}] is {start_s} s (request {request}), after its first arrival at {first_s} s"
            )
        found.append(start_s)
    return found


def _arrivals(name: str, request: int, row: object, what: str) -> list[tuple[float, int]]:
    pairs: list[tuple[float, int]] = []
    for at, pair in enumerate(listed(name, row, f"a list of {what}")):
        both = listed(f"{name}[{at}]", pair, "a pair [time_s, num_tokens]")
        if len(both) != 2:
            raise MetricInputError(
                f"{name}[{at}] has {len(both)} values (request {request}): it is [time_s, num_tokens]"
            )
        time_s = moment(f"{name}[{at}][0]", both[0], request)
        num = whole(
            f"{name}[{at}][1]", both[1], 1, "tokens of an arrival", f"request {request}, arrival {at}", MOST_PER_ARRIVAL
        )
        if pairs and time_s < pairs[-1][0]:
            raise MetricInputError(
                f"{name}[{at}] is at {time_s} s, before the arrival at {pairs[-1][0]} s (request {request})"
            )
        pairs.append((time_s, num))
    return pairs


def whole_per_turn(name: str, values: object, num: int, what: str) -> list[int]:
    """One whole number from 0 per turn. Raises MetricInputError for anything else."""
    found = per_turn(name, values, num, what)
    return [whole(f"{name}[{at}]", value, 0, what, f"request {at}") for at, value in enumerate(found)]


def names(name: str, values: object, num: int) -> list[str]:
    """One name per turn. Raises MetricInputError for one that is empty or no string."""
    found = per_turn(name, values, num, "names")
    for request, value in enumerate(found):
        if not isinstance(value, str) or not value.strip():
            raise MetricInputError(f"{name}[{request}] is {_shown(value)} (request {request}): it is a name, a string")
    return found


def ids(name: str, values: object, num: int) -> list[Hashable]:
    """One id per turn: a string or a whole number. Raises MetricInputError for anything else."""
    found = per_turn(name, values, num, "ids")
    for request, value in enumerate(found):
        if isinstance(value, bool) or not isinstance(value, (str, int, np.integer)) or value == "":
            raise MetricInputError(
                f"{name}[{request}] is {_shown(value)} (request {request}): an id is a string or a whole number"
            )
    return [int(value) if isinstance(value, np.integer) else value for value in found]


def units(conversations: object, categories: object, num: int) -> list[tuple[Hashable, str]]:
    """(conversation, category) of each turn; without names, each turn its own, all in one category.

    Raises MetricInputError for a conversation in two categories.
    """
    named = list(range(num)) if conversations is None else ids("conversations", conversations, num)
    groups = [ONE_CATEGORY] * num if categories is None else names("categories", categories, num)
    category_of: dict[Hashable, str] = {}
    for request, (name, category) in enumerate(zip(named, groups, strict=True)):
        if category_of.setdefault(name, category) != category:
            raise MetricInputError(
                f"categories[{request}] is '{category}' (request {request}), "
                f"but an earlier turn of conversation {name!r} is in '{category_of[name]}'"
            )
    return list(zip(named, groups, strict=True))


def choice(name: str, value: T, known: Iterable[T]) -> T:
    """One of `known`. Raises MetricInputError that names the nearest."""
    options = list(known)
    if not isinstance(value, str) or value not in options:
        raise MetricInputError(unknown(name, value, map(str, options), plural="it is one of"))
    return value


def bootstrap(confidence_level: object, resamples: object, seed: object) -> Bootstrap | None:
    """How intervals are drawn; None where `confidence_level` is. Raises MetricInputError for what cannot be."""
    level = _level(confidence_level)
    num, start = whole("resamples", resamples, 1, "resamples"), whole("seed", seed, 0, "seeds")
    return None if level is None else Bootstrap(confidence_level=level, resamples=num, seed=start)


def _level(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (float, np.floating)) or not 0 < value <= 0.9999:
        raise MetricInputError(
            f"confidence_level is {_shown(value)}: it is a number between 0 and 1, such as 0.95, or None"
        )
    return float(value)


def _shown(value: object) -> str:
    """A value as an error names it: short, with its type where that is what is wrong."""
    text = " ".join(repr(value).split())
    short = text if len(text) <= 40 else text[:37] + "…"
    return short if type(value) is int or value is None else f"{short}, a {type(value).__name__}"
