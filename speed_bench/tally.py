"""What is counted of decode steps: the additive statistics that every acceptance metric is a function of.

A verification step drafts d >= 1 tokens, accepts a <= d of them and emits a + 1 (the extra one is
the bonus or correction token). A plain step has no proposal and emits 1. Both are decode steps;
what prefill emits is not. Tallies of turns add up to tallies of conversations, categories and runs.
A value that an origin cannot know is None, and stays None in every sum.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest

import numpy as np

from speed_bench.errors import RunFolderError
from speed_bench.types import LastStep, SpecCounts, TurnRecord

Steps = Sequence[tuple[int, int, int]]
"""Decode steps as (drafted, accepted, emitted), in the order of the text; `types.Step` is one."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What is counted of a set of decode steps. Positions k = 1…K are dense, K the longest proposal."""

    num_turns: int
    """Turns the steps belong to, those without a decode step included."""
    num_tokens: int
    """Tokens emitted by decode steps: output tokens minus prefill tokens."""
    num_steps: int | None
    """All decode steps, those that cannot be told apart included."""
    verify_steps: int | None
    """Decode steps that had a proposal."""
    drafted: int | None
    accepted: int | None
    """Of `drafted`, those that verification accepted, before any cut."""
    lengths: tuple[int, ...] | None
    """Steps that emitted 1, 2, …, K + 1 tokens. Steps that cannot be told apart are left out."""
    trials: tuple[int, ...] | None
    """Steps where position k was drafted, 1…k−1 were accepted and the outcome at k was seen."""
    successes: tuple[int, ...] | None
    """Of `trials`, those where position k was accepted."""

    def __add__(self, other: "Tally") -> "Tally":
        """The tally of both sets of steps."""
        return pool((self, other))

    @property
    def num_placed_steps(self) -> int | None:
        """Steps that are told apart: those which `lengths` counts."""
        return None if self.lengths is None else sum(self.lengths)

    @property
    def reached(self) -> tuple[int, ...] | None:
        """Steps that emitted at least k + 1 tokens, k = 1…K."""
        return None if self.lengths is None else tails(self.lengths)[1:]


def pool(tallies: Iterable[Tally]) -> Tally:
    """The tally of all steps together; of none, the tally of no steps.

    >>> pool([tally_steps([(3, 3, 4)]), tally_steps([(2, 0, 1)])]).lengths
    (1, 0, 0, 1)
    """
    several = tuple(tallies)

    def total(name: str) -> int | None:
        values = [getattr(tally, name) for tally in several]
        return None if None in values else sum(values)

    def dense(name: str) -> tuple[int, ...] | None:
        rows = [getattr(tally, name) for tally in several]
        return None if None in rows else tuple(map(sum, zip_longest(*rows, fillvalue=0)))

    return Tally(
        num_turns=sum(tally.num_turns for tally in several),
        num_tokens=sum(tally.num_tokens for tally in several),
        num_steps=total("num_steps"),
        verify_steps=total("verify_steps"),
        drafted=total("drafted"),
        accepted=total("accepted"),
        lengths=dense("lengths"),
        trials=dense("trials"),
        successes=dense("successes"),
    )


def tally_turn(
    steps: Steps | None,
    *,
    num_tokens: int,
    num_steps: int | None,
    verify_steps: int | None,
    drafted: int | None,
    accepted: int | None,
    last_step: LastStep = "complete",
) -> Tally:
    """The tally of one turn, its totals as its origin states them.

    `steps` may hold fewer steps than `num_steps`: the others were counted but not told apart, so
    they are in the acceptance length and not in the vectors. None: no step is told apart. Where `num_steps` is
    None, `steps` are the verification steps, and it is not known how many plain ones there were.

    `last_step` says what is known of the last of `steps`, which EOS or a limit may have cut after
    m tokens. `complete`: its accepted count is known, as for every other step: successes at 1…a
    and a failure at a + 1 if that was drafted. `cut`: the m tokens shown were accepted drafts:
    successes at 1…m, no trial at m + 1. `unknown`: the last token shown may be a draft or a
    correction: successes at 1…m−1, no trial at m. Counting a cut step as if m − 1 were its accepted
    count makes the rates too low, more so at later positions and in shorter answers.

    Raises ValueError for a step that cannot be, and where the tokens do not add up.
    """
    if steps is not None and num_steps is None:
        return _tally_of_verified(steps, num_tokens, drafted, accepted)
    if steps is None:
        known = num_steps == 0
        lengths, trials, successes = ((), (), ()) if known else (None, None, None)
        return Tally(1, num_tokens, num_steps, verify_steps, drafted, accepted, lengths, trials, successes)

    flat = np.fromiter(chain.from_iterable(steps), dtype=np.int64, count=3 * len(steps))
    drafts, accepts, emits = flat.reshape(-1, 3).T
    possible = (accepts >= 0) & (accepts <= drafts) & (emits >= 1) & (emits <= accepts + 1)
    if not possible.all():
        wrong = steps[int(np.argmin(possible))]
        raise ValueError(f"impossible step: drafted {wrong[0]}, accepted {wrong[1]}, emitted {wrong[2]}")
    placed = int(emits.sum())
    unplaced = None if num_steps is None else num_steps - len(steps)
    if (unplaced is not None and unplaced < 0) or placed + (unplaced or 0) > num_tokens:
        raise ValueError(f"{len(steps)} of {num_steps} steps emitted {placed} of {num_tokens} tokens")
    if unplaced == 0 and placed != num_tokens:
        raise ValueError(f"all {len(steps)} steps together emitted {placed} of {num_tokens} tokens")

    tried = np.minimum(accepts + 1, drafts)
    succeeded = accepts.copy()
    if len(steps) and last_step != "complete":
        shown = emits[-1] if last_step == "cut" else emits[-1] - 1
        tried[-1] = succeeded[-1] = min(shown, drafts[-1])
    depth = int(drafts.max(initial=0))
    return Tally(
        num_turns=1,
        num_tokens=num_tokens,
        num_steps=num_steps,
        verify_steps=verify_steps,
        drafted=drafted,
        accepted=accepted,
        lengths=tuple(np.bincount(emits, minlength=depth + 2).tolist()[1:]),
        trials=tails(np.bincount(tried, minlength=depth + 1).tolist())[1:],
        successes=tails(np.bincount(succeeded, minlength=depth + 1).tolist())[1:],
    )


def _tally_of_verified(steps: Steps, num_tokens: int, drafted: int | None, accepted: int | None) -> Tally:
    """Of verification steps that are all known, between plain steps whose number is not: rates, no lengths."""
    verified = tally_steps([(drafts, accepts, accepts + 1) for drafts, accepts, _ in steps])
    return replace(verified, num_tokens=num_tokens, num_steps=None, drafted=drafted, accepted=accepted, lengths=None)


def _tally_of_parts(counts: SpecCounts, num_tokens: int) -> Tally:
    """Of steps of which lengths, or how many accepted how much, are known, but not both of each step.

    Rates come from a histogram of accepted tokens, and only where every step drafted the full length.
    Lengths come from it too where the steps are all there and none was cut.
    """
    tally = Tally(1, num_tokens, counts.num_steps, counts.verify_steps, counts.drafted, counts.accepted, *[None] * 3)
    if counts.histogram is not None and counts.full_draft_length:
        by_accepted = {accepted + 1: steps for accepted, steps in enumerate(counts.histogram)}
        whole = tally_histogram(by_accepted, draft_length=counts.full_draft_length)
        uncut = whole.num_tokens == num_tokens and whole.num_steps == counts.num_steps
        lengths = whole.lengths if uncut else None
        tally = replace(tally, lengths=lengths, trials=whole.trials, successes=whole.successes)
    if counts.emitted is not None:
        if sum(counts.emitted) != num_tokens:
            raise RunFolderError(f"{len(counts.emitted)} steps emitted {sum(counts.emitted)} of {num_tokens} tokens")
        tally = replace(tally, lengths=tally_emitted(counts.emitted).lengths)
    return tally


def tally_steps(steps: Steps, *, last_step: LastStep = "complete") -> Tally:
    """The tally of one turn whose every step is told apart; its totals are those of the steps.

    `accepted` is None unless the last step is `complete`: what a cut hid is not known.

    >>> tally_steps([(3, 1, 2), (3, 3, 4), (0, 0, 1)]).trials
    (2, 2, 1)
    """
    return tally_turn(
        steps,
        num_tokens=sum(emitted for _, _, emitted in steps),
        num_steps=len(steps),
        verify_steps=sum(drafted > 0 for drafted, _, _ in steps),
        drafted=sum(drafted for drafted, _, _ in steps),
        accepted=sum(accepted for _, accepted, _ in steps) if last_step == "complete" else None,
        last_step=last_step,
    )


def tally_histogram(emitted: Mapping[int, int], *, draft_length: int, num_turns: int = 1) -> Tally:
    """The tally of steps of which only the number per emitted length is known: {length: steps}.

    Holds only where every step drafted `draft_length` tokens and none was cut; lengths which no
    step emitted may be absent. Raises ValueError for a length outside 1…draft_length + 1.

    >>> tally_histogram({1: 10, 3: 5}, draft_length=2).trials
    (15, 5)
    """
    wrong = [length for length in emitted if not 1 <= length <= draft_length + 1]
    if wrong:
        raise ValueError(f"a step that drafts {draft_length} tokens emits 1 to {draft_length + 1}, not {wrong[0]}")
    lengths = tuple(emitted.get(length, 0) for length in range(1, draft_length + 2))
    at_least = tails(lengths)
    num_steps, num_tokens = sum(lengths), sum(at_least)
    return Tally(
        num_turns=num_turns,
        num_tokens=num_tokens,
        num_steps=num_steps,
        verify_steps=num_steps if draft_length else 0,
        drafted=num_steps * draft_length,
        accepted=num_tokens - num_steps,
        lengths=lengths,
        trials=at_least[:-1],
        successes=at_least[1:],
    )


def tally_emitted(emitted: Sequence[int]) -> Tally:
    """The tally of one turn of which only the tokens that each step emitted are known.

    What was drafted is not known, so neither is what is counted of drafts. Raises ValueError for a
    step without a token.

    >>> tally_emitted([4, 1]).lengths
    (1, 0, 0, 1)
    >>> tally_emitted([4, 1]).trials
    """
    if len(emitted) and min(emitted) < 1:
        raise ValueError(f"a decode step emits at least one token, not {min(emitted)}")
    lengths = np.bincount(np.asarray(emitted, dtype=np.int64), minlength=1).tolist()[1:]
    return Tally(1, sum(emitted), len(emitted), None, None, None, tuple(lengths), None, None)


def tally_record(turn: TurnRecord) -> Tally:
    """The tally of a recorded turn. Raises RunFolderError where its steps and tokens contradict each other.

    Verification steps are as the turn's own counts tell them, or else as the engine counted around it.
    """
    num_tokens, counts = turn.num_output_tokens - turn.prefill_tokens, turn.counts
    if counts is not None and counts.per_step is None and (counts.emitted or counts.histogram) is not None:
        return _tally_of_parts(counts, num_tokens)
    if counts is None:
        known = None if num_tokens else 0
        return tally_turn(
            None, num_tokens=num_tokens, num_steps=known, verify_steps=known, drafted=known, accepted=known
        )
    by_source = (source.verify_steps for source in (counts, turn.engine_counts) if source is not None)
    try:
        return tally_turn(
            counts.per_step,
            num_tokens=num_tokens,
            num_steps=counts.num_steps,
            verify_steps=next((num for num in by_source if num is not None), None),
            drafted=counts.drafted,
            accepted=counts.accepted,
            last_step=turn.last_step,
        )
    except ValueError as error:
        raise RunFolderError(f"turn {turn.id} cannot be scored: {error}") from error


def tails(counts: Sequence[int]) -> tuple[int, ...]:
    """How many are at least as far along: the sums of `counts` from each place to the end.

    >>> tails([5, 0, 2])
    (7, 2, 2)
    """
    return tuple(np.cumsum(counts[::-1]).tolist()[::-1])
