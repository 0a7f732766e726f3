"""The ground truth: what is answered, where it ends, and what every decode step drafts and accepts.

Pure functions of the settings and the request; there is no clock and no state. Randomness is
SHAKE-256 of what an answer depends on, read as 53-bit integers and compared with integers, so that a seed
means the same on every platform and in every version of Python and numpy.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from speed_bench.types import Step

BITS = 53
BLOCK = 64
"""Draws are made for so many tokens, or steps, at a time."""
LOOKUPS = ("ngram", "suffix")
"""Algorithms that may find nothing to propose."""

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Habits:
    """What engines do differently at the edges of an answer."""

    room_in_context: bool
    """Whether a step proposes no more than the context has room for, the bonus token included."""
    room_in_answer: bool
    """The same for `max_tokens`."""
    counts_are_cut: bool
    """Whether accepted tokens after an EOS are not counted; else counts are before any cut."""
    pads_proposals: bool
    """Whether a step that finds nothing to propose is verified all the same, filled up with what is wrong."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What an answer may depend on."""

    prompt_sha256: str
    prompt_len: int
    max_tokens: int
    temperature: float = 0.0
    seed: int = 0
    ignore_eos: bool = False
    category: str | None = None


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What answers are made of."""

    words: npt.NDArray[np.int64]
    """Ids of ordinary tokens."""
    eos_id: int


@dataclass(frozen=True, slots=True)
class Speculation:
    """How it drafts."""

    algorithm: str
    draft_length: int
    acceptance: tuple[float, ...]
    category_acceptance: Mapping[str, tuple[float, ...]]
    no_proposal: float

    def rates(self, category: str | None) -> tuple[float, ...]:
        """Probability that draft 1…K is right once those before it were.

        >>> Speculation("mtp", 4, (0.9, 0.5), {}, 0.0).rates("math")
        (0.9, 0.5, 0.5, 0.5)
        """
        given = self.category_acceptance.get(category or "", self.acceptance)
        return tuple(given[min(at, len(given) - 1)] for at in range(self.draft_length))


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, whole, before the first token of it is sent."""

    token_ids: tuple[int, ...]
    """EOS included. The first one comes from prefill."""
    finish_reason: FinishReason
    steps: tuple[Step, ...]


def answer(
    asked: Asked,
    *,
    seed: int,
    mean_output_tokens: float,
    context_length: int,
    vocabulary: Vocabulary,
    speculation: Speculation,
    habits: Habits,
) -> Answer:
    """The answer to a request. Its tokens do not depend on `speculation`; its steps do.

    Raises ValueError for a prompt that leaves no room.
    """
    limit = min(asked.max_tokens, context_length - asked.prompt_len)
    if limit < 1:
        raise ValueError(f"a prompt of {asked.prompt_len} tokens leaves no room in a context of {context_length}")
    sampled = str(asked.seed) if asked.temperature > 0 else "greedy"
    key = f"speed-bench simulator|{seed}|{asked.prompt_sha256}|{sampled}"
    mean = None if asked.ignore_eos else mean_output_tokens
    token_ids, finish_reason = answer_tokens(key, vocabulary, mean, limit)
    room = context_length - asked.prompt_len if habits.room_in_context else None
    if habits.room_in_answer:
        room = limit if room is None else min(limit, room)
    steps = decode_steps(key, len(token_ids), speculation, asked.category, habits, room)
    return Answer(token_ids, finish_reason, steps)


def answer_tokens(
    key: str, vocabulary: Vocabulary, mean: float | None, limit: int
) -> tuple[tuple[int, ...], FinishReason]:
    """Words until EOS, whose place is geometric with this mean (None: there is none), or the limit.

    A lower limit gives the beginning of the same answer.
    """
    ends = 0 if mean is None else _threshold(1 / mean)
    token_ids: list[int] = []
    for block in _draws(key + "|answer", 2):
        token_ids += vocabulary.words[(block[:, 0] >> 21) * len(vocabulary.words) >> 32].tolist()
        found = np.flatnonzero(block[:, 1] < ends)
        at = len(token_ids) - BLOCK + int(found[0]) if found.size else None
        if at is not None and at < limit:
            return (*token_ids[:at], vocabulary.eos_id), "stop"
        if len(token_ids) >= limit:
            break
    return tuple(token_ids[:limit]), "length"


def decode_steps(
    key: str, num_tokens: int, speculation: Speculation, category: str | None, habits: Habits, room: int | None
) -> tuple[Step, ...]:
    """The steps that emit tokens 2…N of an answer; the last one may be cut.

    `room` is how many output tokens there is room for; None: proposals do not look at it.
    """
    if speculation.draft_length == 0:
        return (step(0, 0, 1),) * (num_tokens - 1)
    steps: list[Step] = []
    seen = 1
    for proposes, right in _outcomes(key, speculation, category):
        if seen >= num_tokens:
            break
        drafted = speculation.draft_length if proposes or habits.pads_proposals else 0
        if room is not None:
            drafted = max(0, min(drafted, room - seen - 1))
        accepted = min(right, drafted) if proposes else 0
        emitted = min(accepted + 1, num_tokens - seen)
        if habits.counts_are_cut:
            accepted = emitted - 1
        steps.append(step(drafted, accepted, emitted))
        seen += emitted
    return tuple(steps)


@cache
def step(drafted: int, accepted: int, emitted: int) -> Step:
    """One and the same object for equal steps: a long run keeps millions."""
    return Step(drafted, accepted, emitted)


def _outcomes(key: str, speculation: Speculation, category: str | None) -> Iterator[tuple[bool, int]]:
    """(whether it proposes, how many of K drafts would be right) of one step after the other, without end."""
    length = speculation.draft_length
    thresholds = np.array([_threshold(rate) for rate in speculation.rates(category)], dtype=np.int64)
    nothing = _threshold(speculation.no_proposal) if speculation.algorithm in LOOKUPS else 0
    for block in _draws(f"{key}|{speculation.algorithm}|{length}", length + 1):
        right = (block[:, 1:] < thresholds).cumprod(axis=1).sum(axis=1)
        yield from zip((block[:, 0] >= nothing).tolist(), right.tolist(), strict=True)


def _draws(key: str, width: int) -> Iterator[npt.NDArray[np.int64]]:
    """Blocks of `BLOCK` rows of `width` integers, uniform below 2^53; a function of the key alone."""
    number = 0
    while True:
        data = hashlib.shake_256(f"{key}|{number}".encode()).digest(8 * BLOCK * width)
        yield (np.frombuffer(data, dtype="<u8") >> np.uint64(64 - BITS)).astype(np.int64).reshape(BLOCK, width)
        number += 1


def _threshold(probability: float) -> int:
    """A draw lies below it with this probability."""
    return int(probability * 2**BITS)
