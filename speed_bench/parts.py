"""The decode steps of a reasoning model's turn in two parts: those of its thinking, those of its answer."""

from bisect import bisect_left
from dataclasses import dataclass
from itertools import accumulate

from speed_bench.errors import UndefinedMetric
from speed_bench.tally import Tally, pool, tally_emitted, tally_record, tally_steps, tally_turn
from speed_bench.types import TurnRecord

NOTHING = pool(())
"""The tally of a part that has no step."""


@dataclass(frozen=True, slots=True)
class PartTallies:
    """The tallies of both parts of a turn: together they are the tally of the turn, counted field by field.

    `num_turns` is 1 for a part that has a decode step and 0 for one that has none. Where only the lengths of steps are
    known, what is counted of drafts is None in each part of two, though it may be known of the turn.
    """

    thinking: Tally
    answer: Tally


def split_turn(turn: TurnRecord) -> PartTallies:
    """Which part each decode step of a turn belongs to: the one in which the first token it emitted lies.

    So the step that closes the thinking, and may go on into the answer, is a step of the thinking; what prefill emitted
    is no step. Every step must have its place in the text, else nothing is said of the turn. What verification
    accepted beyond a cut, and steps that only the engine's counters tell apart, belong to the part that ends the turn.

    Raises UndefinedMetric with the reason for a turn that cannot be split, RunFolderError for one whose steps and
    tokens contradict each other.
    """
    whole, num_thinking = tally_record(turn), turn.num_thinking_tokens
    if num_thinking is None:
        raise UndefinedMetric("where their thinking ends is not recorded")
    if whole.num_steps == 0:
        return PartTallies(NOTHING, NOTHING)
    counts = turn.counts
    if counts is None or counts.num_steps is None or not counts.aligned:
        raise UndefinedMetric("their steps cannot be placed in the text")
    lengths = [step.emitted for step in counts.per_step] if counts.per_step is not None else counts.emitted or ()
    starts = list(accumulate(lengths[:-1], initial=turn.prefill_tokens))
    num_first = bisect_left(starts, num_thinking)
    if num_first == 0:
        return PartTallies(NOTHING, whole)
    if num_first == len(lengths):
        return PartTallies(whole, NOTHING)
    if counts.per_step is None:
        return PartTallies(tally_emitted(lengths[:num_first]), tally_emitted(lengths[num_first:]))
    first = tally_steps(counts.per_step[:num_first])
    left = {name: _less(getattr(whole, name), getattr(first, name)) for name in ("verify_steps", "drafted", "accepted")}
    if any(num is not None and num < 0 for num in left.values()):
        raise UndefinedMetric("their counts are smaller than those of their steps")
    rest = tally_turn(
        counts.per_step[num_first:],
        num_tokens=whole.num_tokens - first.num_tokens,
        num_steps=len(lengths) - num_first,
        last_step=turn.last_step,
        **left,
    )
    return PartTallies(first, rest)


def _less(total: int | None, part: int | None) -> int | None:
    return None if total is None or part is None else total - part
