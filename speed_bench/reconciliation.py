"""Reconciliation: the counts of all turns against the engine's own counters.

Two accounts of the same steps that were kept apart must agree. Where the engine was read around
every turn (concurrency 1, until a request fails), each turn is compared; else the differences of
its counters over each segment are, and then a failed request makes them incomparable: what it
drafted is in the engine's counters and not in ours.
"""

from collections.abc import Iterable, Sequence

from speed_bench.records import RunRecords, Segment
from speed_bench.scores import Counts, Reconciliation
from speed_bench.types import SpecCounts, TurnRecord

_NAMES = ("verify_steps", "drafted", "accepted")
_BOUNDED = ("verify_steps", "accepted")
"""What is compared where steps are told from chunks (origin `stream`): what each drafted is then supposed."""
_UNKNOWN = Counts(verify_steps=None, drafted=None, accepted=None)


def reconcile(run: RunRecords) -> Reconciliation:
    """Whether both accounts of a run are equal; null with a reason where that cannot be said.

    What both sides know of verified steps, drafted and accepted tokens is compared. Of turns of
    origin `stream`, whose last step may hide accepted tokens, the engine may count as many more as these steps
    drafted beyond what they showed, and drafted tokens are not compared.
    """
    ours = _sum(_turn_counts(turn) for turn in run.turns)
    if not run.turns:
        return _undecided(ours, _UNKNOWN, "no turn finished")
    asked = [failure.id for failure in run.failures if failure.stage == "request"]
    per_turn = [turn.engine_counts for turn in run.turns]
    if all(counts is not None for counts in per_turn):
        engine = _sum(_counts(counts) for counts in per_turn)
        difference = _first_difference(run.turns)
    else:
        lifetimes = [_lifetime(segment) for segment in run.segments]
        engine = _sum(lifetimes) if lifetimes else _UNKNOWN
        difference = None
        if asked:
            return _undecided(ours, engine, f"turn {asked[0]} failed; what it drafted is in the engine's counters")
        unread = [segment.index for segment, counts in zip(run.segments, lifetimes, strict=True) if counts == _UNKNOWN]
        if unread or not run.segments:
            readings = [segment.counters_before for segment in run.segments]
            read = readings and all(counts is not None and counts.drafted is None for counts in readings)
            where = f" of segment {unread[0]}" if unread else ""
            why = "the engine has no counters of drafts" if read else f"the engine's counters{where} could not be read"
            return _undecided(ours, _UNKNOWN, why)

    if all(turn.counts is None and turn.num_output_tokens > turn.prefill_tokens for turn in run.turns):
        return _undecided(ours, engine, "no turn has acceptance counts of its own")
    names, hidden = _compared(run.turns), sum(map(_hidden, run.turns))
    both = [name for name in names if getattr(ours, name) is not None and getattr(engine, name) is not None]
    if not both:
        side = "the turns" if ours.drafted is None else "the engine"
        return _undecided(ours, engine, f"drafted and accepted tokens are not known to {side}")
    unequal = [
        name for name in names if _differ(getattr(ours, name), getattr(engine, name), hidden * (name == "accepted"))
    ]
    if difference is None and unequal:
        pairs = (f"{name} {getattr(ours, name)}, {getattr(engine, name)} by the engine" for name in unequal)
        difference = "; ".join(pairs)
    reason = difference
    if reason is None and asked:
        reason = f"{len(asked)} failed turn(s) are left out on both sides, the first is {asked[0]}"
    if reason is None and (unknown := [name for name in names if name not in both]):
        side = "some turns" if any(getattr(ours, name) is None for name in unknown) else "the engine"
        reason = f"{_are(unknown)} not known to {side}; {_are(both)} compared"
    if reason is None and names is _BOUNDED:
        reason = f"told from chunks: up to {hidden} accepted tokens may be hidden in last steps; drafted is supposed"
    return Reconciliation(turns=ours, engine=engine, equal=difference is None, reason=reason)


def _are(names: Sequence[str]) -> str:
    return f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'}"


def _undecided(ours: Counts, engine: Counts, reason: str) -> Reconciliation:
    return Reconciliation(turns=ours, engine=engine, equal=None, reason=reason)


def _first_difference(turns: Sequence[TurnRecord]) -> str | None:
    """The first turn whose drafted or accepted tokens differ from what the engine counted around it."""
    for turn in turns:
        ours, engine = _turn_counts(turn), _counts(turn.engine_counts)
        for name in _compared([turn]):
            mine, theirs = getattr(ours, name), getattr(engine, name)
            if name != "verify_steps" and _differ(mine, theirs, _hidden(turn) * (name == "accepted")):
                return f"turn {turn.id}: {name} {mine}, {theirs} by the engine"
    return None


def _differ(mine: int | None, theirs: int | None, hidden: int) -> bool:
    return mine is not None and theirs is not None and not mine <= theirs <= mine + hidden


def _compared(turns: Sequence[TurnRecord]) -> tuple[str, ...]:
    by_chunks = any(
        turn.counts is not None and turn.counts.origin == "stream" and turn.counts.drafted for turn in turns
    )
    return _BOUNDED if by_chunks else _NAMES


def _hidden(turn: TurnRecord) -> int:
    """How many accepted tokens the last step of a turn may have had beyond those it showed."""
    if turn.counts is None or turn.counts.origin != "stream" or not turn.counts.per_step:
        return 0
    last = turn.counts.per_step[-1]
    return last.drafted - last.accepted


def _turn_counts(turn: TurnRecord) -> Counts:
    """A turn that prefill answered alone verified nothing, whether or not the engine says so."""
    if turn.counts is None and turn.num_output_tokens == turn.prefill_tokens:
        return Counts(verify_steps=0, drafted=0, accepted=0)
    return _counts(turn.counts)


def _counts(counts: SpecCounts | None) -> Counts:
    return _UNKNOWN if counts is None else Counts(**{name: getattr(counts, name) for name in _NAMES})


def _sum(several: Iterable[Counts]) -> Counts:
    rows = list(several)
    columns = {name: [getattr(row, name) for row in rows] for name in _NAMES}
    return Counts(**{name: None if None in values else sum(values) for name, values in columns.items()})


def _lifetime(segment: Segment) -> Counts:
    """What the engine counted between warm-up and the end; unknown where its counters went backwards."""
    before, after = segment.counters_before, segment.counters_after
    return _UNKNOWN if before is None or after is None else _counts(after.since(before))
