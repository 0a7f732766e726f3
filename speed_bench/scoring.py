"""From the records of a run to its scores: turns to conversations, conversations to categories.

What a number means is said in `acceptance` and `serving`, how its interval is drawn in `statistics`,
what may be timed in `timing`.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from speed_bench import acceptance
from speed_bench.acceptance import Tally, pool, tally_turn
from speed_bench.comparison import compare
from speed_bench.errors import RunFolderError, UndefinedMetric
from speed_bench.reconciliation import reconcile
from speed_bench.scores import Acceptance, Bootstrap, Cell, GroupScores, Scores
from speed_bench.statistics import FloatArray, category_mean, category_weights, interval, resample_ratios
from speed_bench.timing import busy_tps, mean_user_tps, overlap, serving_scores, whole_segments
from speed_bench.types import Failure, RunRecords, TurnRecord

__all__ = ["Scores", "score"]

_PARTICULAR = re.compile(r"[0-9a-f]{32}/\d+|(?<!HTTP )(?<!\d)\d+")
_KIND_LENGTH = 160
_Metric = Callable[[Tally], float]
_Sums = tuple[FloatArray, FloatArray]


def score(
    run: RunRecords,
    baseline: RunRecords | None = None,
    *,
    confidence_level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Scores:
    """All numbers of a run, and of its comparison with `baseline` where one is given.

    The order of the turns does not matter, and the same records give the same scores. Raises
    UndefinedMetric for a run without a decode step, RunFolderError for a turn whose steps and
    tokens contradict each other.
    """
    run = _in_order(run)
    conversations = _conversations(run.turns)
    if all(conversation.tally.num_steps == 0 for conversation in conversations):
        num_turns, num_failures = len(run.turns), len(run.failures)
        why = f"; {run.failures[0].stage}: {run.failures[0].error}" if run.failures else ""
        raise UndefinedMetric(
            f"nothing to score: no decode step in {num_turns} finished and {num_failures} failed turns{why}"
        )
    bootstrap = Bootstrap(confidence_level=confidence_level, resamples=resamples, seed=seed)
    timed = [turn for segment in whole_segments(run) for turn in segment]
    grouping = _Grouping(bootstrap, {(turn.id, turn.seed) for turn in timed}, apart=not overlap(timed))

    failed = Counter(failure.category for failure in run.failures)
    categories: dict[str, list[_Conversation]] = {
        name: [] for name in sorted({turn.category for turn in run.turns} | set(failed))
    }
    for conversation in conversations:
        categories[conversation.category].append(conversation)
    serving = serving_scores(run)
    overall = grouping.scores(conversations, len(run.failures)).model_copy(update={"output_tps": serving.output_tps})
    if lost := [name for name, members in categories.items() if not members]:
        undefined = Cell.undefined(f"no turn of {', '.join(lost)} finished")
        overall = overall.model_copy(update={"acceptance_length": undefined})
    return Scores(
        acceptance=Acceptance(
            overall=overall,
            categories={name: grouping.scores(members, failed[name]) for name, members in categories.items()},
        ),
        serving=serving,
        baseline=None if baseline is None else compare(run, _in_order(baseline), bootstrap),
        reconciliation=reconcile(run),
        bootstrap=bootstrap,
        num_conversations=len(conversations),
        num_turns=len(run.turns),
        num_failures=len(run.failures),
        failures=dict(Counter(map(_kind, run.failures)).most_common()),
        num_planned=run.num_planned,
    )


@dataclass(frozen=True, slots=True)
class _Conversation:
    """All finished turns of a `question_id`, their tallies, and the sum of these."""

    category: str
    turns: tuple[TurnRecord, ...]
    tallies: tuple[Tally, ...]
    tally: Tally


def _kind(failure: Failure) -> str:
    """Stage and error, without the numbers and ids that make every failure one of its kind."""
    return f"{failure.stage}: {_PARTICULAR.sub('…', failure.error)}"[:_KIND_LENGTH]


def _in_order(run: RunRecords) -> RunRecords:
    """The same run, its turns in the order of time, so that no sum depends on the order of the journal."""
    turns = sorted(run.turns, key=lambda turn: (turn.segment, turn.sent_at_s, turn.id, turn.seed))
    return replace(run, turns=tuple(turns))


def _conversations(turns: Iterable[TurnRecord]) -> list[_Conversation]:
    """Grouped by category, sorted by name."""
    grouped: dict[tuple[str, str], list[TurnRecord]] = {}
    for turn in sorted(turns, key=lambda turn: (turn.category, turn.id, turn.seed)):
        grouped.setdefault((turn.category, turn.question_id), []).append(turn)
    conversations = []
    for (category, _), members in grouped.items():
        tallies = tuple(map(_tally, members))
        conversations.append(_Conversation(category, tuple(members), tallies, pool(tallies)))
    return conversations


def _tally(turn: TurnRecord) -> Tally:
    num_tokens, counts = turn.num_output_tokens - turn.prefill_tokens, turn.counts
    if counts is None:
        known = None if num_tokens else 0
        return tally_turn(
            None, num_tokens=num_tokens, num_steps=known, verify_steps=known, drafted=known, accepted=known
        )
    try:
        return tally_turn(
            counts.per_step,
            num_tokens=num_tokens,
            num_steps=counts.num_steps,
            verify_steps=_verify_steps(turn),
            drafted=counts.drafted,
            accepted=counts.accepted,
            last_step=turn.last_step,
        )
    except ValueError as error:
        raise RunFolderError(f"turn {turn.id} cannot be scored: {error}") from error


def _verify_steps(turn: TurnRecord) -> int | None:
    """As the turn's own counts tell them; where its steps cannot be told apart, as the engine counted around it."""
    for counts in (turn.counts, turn.engine_counts):
        if counts is not None and counts.verify_steps is not None:
            return counts.verify_steps
    return None


@dataclass(frozen=True, slots=True)
class _Grouping:
    """What the scores of every group of one run have in common."""

    bootstrap: Bootstrap
    timed: set[tuple[str, int]]
    """(id, seed) of the turns that may be timed."""
    apart: bool
    """Whether no two of them overlap in time."""

    def scores(self, conversations: Sequence[_Conversation], num_failures: int) -> GroupScores:
        total = pool(conversation.tally for conversation in conversations)
        turns = [turn for conversation in conversations for turn in conversation.turns]
        timed = [[turn for turn in c.turns if (turn.id, turn.seed) in self.timed] for c in conversations]
        return GroupScores(
            **_acceptance([c for c in conversations if c.tally.num_steps != 0], self.bootstrap),
            output_tps=busy_tps(timed, apart=self.apart, bootstrap=self.bootstrap),
            user_tps=mean_user_tps(timed, self.bootstrap),
            histogram=None if total.lengths is None else acceptance.histogram(total),
            num_conversations=len(conversations),
            num_turns=len(turns),
            num_failures=num_failures,
            num_turns_without_steps=sum(tally.num_steps == 0 for c in conversations for tally in c.tallies),
            num_steps=total.num_steps,
            num_steps_unplaced=sum(turn.counts.unplaced_steps for turn in turns if turn.counts is not None),
        )


def _acceptance(conversations: Sequence[_Conversation], bootstrap: Bootstrap) -> dict[str, Any]:
    """The acceptance cells of a group of conversations that have decode steps, or may have.

    Values come from the functions that own them, their intervals from the sums beside them.
    """
    tallies = [conversation.tally for conversation in conversations]
    categories = [conversation.category for conversation in conversations]
    everyone = [""] * len(tallies)
    total = pool(tallies)

    def mean(metric: _Metric, groups: Sequence[str]) -> Callable[[], float]:
        return lambda: category_mean([metric(tally) for tally in tallies], groups)

    values: dict[str, Callable[[], float]] = {
        "acceptance_length": mean(acceptance.acceptance_length, categories),
        "acceptance_length_conversation": mean(acceptance.acceptance_length, everyone),
        "acceptance_length_pooled": lambda: acceptance.acceptance_length(total),
        "acceptance_length_drafted": lambda: acceptance.acceptance_length_drafted(total),
        "acceptance_length_uncensored": lambda: acceptance.acceptance_length_uncensored(total),
        "acceptance_length_specdec_bench": mean(acceptance.acceptance_length_specdec_bench, everyone),
        "draft_acceptance_rate": lambda: acceptance.draft_acceptance_rate(total),
    }
    vectors: dict[str, Callable[[], Sequence[float | None]]] = {
        "joint_acceptance_rate": lambda: acceptance.joint_acceptance_rate(total),
        "conditional_acceptance_rate": lambda: acceptance.conditional_acceptance_rate(total),
    }
    drawn = _Drawn.of(_sums(tallies, categories, depth=len(total.trials or ())), categories, bootstrap)
    return {
        **{name: drawn.cell(name, value) for name, value in values.items()},
        **{name: drawn.vector(name, value) for name, value in vectors.items()},
    }


def _sums(tallies: Sequence[Tally], categories: Sequence[str], *, depth: int) -> dict[str, _Sums]:
    """Per metric what it is a ratio of, one row per conversation and one column per position.

    What is not known is 0 here; its value is undefined, so its interval is never looked at.
    """

    def column(name: str) -> FloatArray:
        return np.array([getattr(tally, name) or 0 for tally in tallies], dtype=np.float64)[:, None]

    def vector(name: str) -> FloatArray:
        rows = np.zeros((len(tallies), depth))
        for row, tally in zip(rows, tallies, strict=True):
            known = (getattr(tally, name) or ())[:depth]
            row[: len(known)] = known
        return rows

    def each(metric: _Metric) -> FloatArray:
        try:
            return np.array([metric(tally) for tally in tallies], dtype=np.float64)[:, None]
        except UndefinedMetric:
            return np.zeros((len(tallies), 1))

    one, length, verify_steps = np.ones((len(tallies), 1)), each(acceptance.acceptance_length), column("verify_steps")
    return {
        "acceptance_length": (length * category_weights(categories)[:, None], one),
        "acceptance_length_conversation": (length, one),
        "acceptance_length_pooled": (column("num_tokens"), column("num_steps")),
        "acceptance_length_drafted": (verify_steps + column("accepted"), verify_steps),
        "acceptance_length_specdec_bench": (each(acceptance.acceptance_length_specdec_bench), one),
        "draft_acceptance_rate": (column("accepted"), column("drafted")),
        "joint_acceptance_rate": (vector("reached"), column("num_placed_steps").repeat(depth, axis=1)),
        "conditional_acceptance_rate": (vector("successes"), vector("trials")),
    }


@dataclass(frozen=True, slots=True)
class _Drawn:
    """Bootstrap distributions by metric, (resamples, positions), all from the same draws."""

    draws: dict[str, FloatArray]
    num_conversations: dict[str, list[int]]
    """By metric and position: the conversations that contribute."""
    confidence_level: float

    @classmethod
    def of(cls, sums: dict[str, _Sums], strata: Sequence[str], bootstrap: Bootstrap) -> "_Drawn":
        numerators, denominators = (np.hstack([pair[side] for pair in sums.values()]) for side in (0, 1))
        ratios = resample_ratios(numerators, denominators, strata, resamples=bootstrap.resamples, seed=bootstrap.seed)
        ends = np.cumsum([numerator.shape[1] for numerator, _ in sums.values()])
        draws = dict(zip(sums, np.split(ratios, ends[:-1], axis=1), strict=True))
        num = {name: np.count_nonzero(denominator, axis=0).tolist() for name, (_, denominator) in sums.items()}
        draws["acceptance_length_uncensored"] = acceptance.expected_length(draws["conditional_acceptance_rate"])[
            :, None
        ]
        num["acceptance_length_uncensored"] = num["conditional_acceptance_rate"][:1] or [len(strata)]
        return cls(draws, num, bootstrap.confidence_level)

    def cell(self, name: str, value: Callable[[], float]) -> Cell:
        return self.vector(name, lambda: [value()])[0]

    def vector(self, name: str, values: Callable[[], Sequence[float | None]]) -> list[Cell]:
        """One cell per position, or one that says why there are none."""
        try:
            found = values()
        except UndefinedMetric as error:
            return [Cell.undefined(str(error).partition(": ")[2])]
        cells = []
        for position, (value, num) in enumerate(zip(found, self.num_conversations[name], strict=True)):
            if value is None:
                cells.append(Cell.undefined("no trial at this position"))
                continue
            draws = self.draws[name][:, position]
            bounds = interval(draws, num_conversations=num, confidence_level=self.confidence_level)
            cells.append(Cell.of(value, num, bounds))
        return cells
