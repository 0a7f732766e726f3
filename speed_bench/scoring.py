"""From the records of a run to its scores: turns to conversations, conversations to categories.

What a number means is said in `acceptance` and `serving`, how its interval is drawn in `statistics`,
what may be timed in `timing`.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from speed_bench import acceptance
from speed_bench.acceptance_scores import acceptance_cells
from speed_bench.comparison import compare
from speed_bench.config import RunConfig
from speed_bench.engine_config import GpuEngineSettings
from speed_bench.errors import UndefinedMetric
from speed_bench.load_config import LoadConfig
from speed_bench.parts import PartTallies, split_turn
from speed_bench.reconciliation import reconcile
from speed_bench.records import RunRecords
from speed_bench.scores import (
    Acceptance,
    Bootstrap,
    Cell,
    GroupScores,
    Load,
    Parts,
    PartScores,
    Reconciliation,
    Scores,
    ServerScores,
    SloLimit,
)
from speed_bench.serving import user_tps
from speed_bench.serving_scores import serving_scores
from speed_bench.tally import Tally, pool, tally_record
from speed_bench.timing import busy_tps, mean_over_turns, overlap, whole_segments
from speed_bench.types import Failure, TurnRecord

__all__ = ["Scores", "load_of", "score"]

_PARTICULAR = re.compile(r"[0-9a-f]{32}/\d+|(?<!HTTP )(?<!\d)\d+")
_KIND_LENGTH = 160


def score(
    run: RunRecords,
    baseline: RunRecords | None = None,
    *,
    load: Load | None = None,
    apart: str | None = None,
    confidence_level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Scores:
    """All numbers of a run made under `load` (`load_of`), and of its comparison with `baseline` where one is given.

    `apart` says why they have no speed-up, where that is not in their records: see `compare`.
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
    grouping = _Grouping(bootstrap, {turn.key for turn in timed}, apart=not overlap(timed))

    failed = Counter(failure.category for failure in run.failures)
    categories: dict[str, list[_Conversation]] = {
        name: [] for name in sorted({turn.category for turn in run.turns} | set(failed))
    }
    for conversation in conversations:
        categories[conversation.category].append(conversation)
    serving, reconciliation = serving_scores(run, bootstrap, load), reconcile(run)
    overall = grouping.scores(conversations, len(run.failures)).model_copy(update={"output_tps": serving.output_tps})
    lost = [name for name, members in categories.items() if not members]
    undefined = Cell.undefined(f"no turn of {', '.join(lost)} finished") if lost else None
    if undefined:
        overall = overall.model_copy(update={"acceptance_length": undefined})
    return Scores(
        load=load,
        acceptance=Acceptance(
            overall=overall,
            categories={name: grouping.scores(members, failed[name]) for name, members in categories.items()},
            server=_server_scores(reconciliation, len(run.turns)),
            origins=_origins(run.turns),
            num_turns_steps_unknown=sum(tally.num_steps is None for c in conversations for tally in c.tallies),
            parts=_parts(conversations, bootstrap, undefined),
        ),
        serving=serving,
        baseline=None if baseline is None else compare(run, _in_order(baseline), bootstrap, apart),
        reconciliation=reconciliation,
        bootstrap=bootstrap,
        num_conversations=len(conversations),
        num_turns=len(run.turns),
        num_failures=len(run.failures),
        failures=dict(Counter(map(_kind, run.failures)).most_common()),
        num_planned=run.num_planned,
    )


def load_of(config: RunConfig) -> Load:
    """The load of a run, as its scores record it.

    Without `num_gpus`, an engine that the run started has as many GPUs as its parallel sizes say; what an attached
    server has is not known, nor is it for the engines without such settings.
    """
    engine, num_gpus = config.engine, config.num_gpus
    if num_gpus is None and isinstance(engine, GpuEngineSettings) and not engine.attached:
        num_gpus = engine.tensor_parallel * engine.data_parallel
    settings = {name: getattr(config, name) for name in Load.model_fields.keys() & LoadConfig.model_fields.keys()}
    slo = tuple(SloLimit(**term._asdict()) for term in config.slo_terms)
    return Load(**{**settings, "num_gpus": num_gpus, "slo": slo})


@dataclass(frozen=True, slots=True)
class _Conversation:
    """All finished turns of a `question_id`, their tallies, and the sum of these."""

    category: str
    turns: tuple[TurnRecord, ...]
    tallies: tuple[Tally, ...]
    tally: Tally


def _server_scores(reconciliation: Reconciliation, num_turns: int) -> ServerScores:
    """What the engine's counters say of all turns together."""
    engine = reconciliation.engine
    tally = Tally(num_turns, 0, None, engine.verify_steps, engine.drafted, engine.accepted, None, None, None)

    def cell(metric: Callable[[Tally], float]) -> Cell:
        try:
            return Cell.of(metric(tally), num_turns)
        except UndefinedMetric as error:
            return Cell.undefined(str(error).partition(": ")[2])

    return ServerScores(
        acceptance_length_drafted=cell(acceptance.acceptance_length_drafted),
        draft_acceptance_rate=cell(acceptance.draft_acceptance_rate),
    )


def _origins(turns: Iterable[TurnRecord]) -> dict[str, int]:
    decoded = (turn for turn in turns if turn.num_output_tokens > turn.prefill_tokens)
    return dict(sorted(Counter("none" if turn.counts is None else turn.counts.origin for turn in decoded).items()))


def _kind(failure: Failure) -> str:
    """Stage and error, without the numbers and ids that make every failure one of its kind."""
    return f"{failure.stage}: {_PARTICULAR.sub('…', failure.error)}"[:_KIND_LENGTH]


def _in_order(run: RunRecords) -> RunRecords:
    """The same run in the order of time, so that neither a sum nor a sentence depends on the order of the journal."""
    turns = sorted(run.turns, key=lambda turn: (turn.segment, turn.sent_at_s, turn.id, turn.seed, turn.repeat))
    failures = sorted(run.failures, key=lambda failure: (failure.segment, failure.at_s, failure.id, failure.key))
    return replace(run, turns=tuple(turns), failures=tuple(failures))


def _conversations(turns: Iterable[TurnRecord]) -> list[_Conversation]:
    """Grouped by category, sorted by name."""
    grouped: dict[tuple[str, str], list[TurnRecord]] = {}
    for turn in sorted(turns, key=lambda turn: (turn.category, turn.id, turn.seed, turn.repeat)):
        grouped.setdefault((turn.category, turn.question_id), []).append(turn)
    conversations = []
    for (category, _), members in grouped.items():
        tallies = tuple(map(tally_record, members))
        conversations.append(_Conversation(category, tuple(members), tallies, pool(tallies)))
    return conversations


def _parts(conversations: Sequence[_Conversation], bootstrap: Bootstrap, no_headline: Cell | None) -> Parts | None:
    """Thinking and answer apart, from the turns that can be split; None where there is no thinking."""
    if not any(turn.num_thinking_tokens for conversation in conversations for turn in conversation.turns):
        return None
    reasons: Counter[str] = Counter()
    split: list[list[PartTallies]] = []
    for conversation in conversations:
        split.append([])
        for turn in conversation.turns:
            try:
                split[-1].append(split_turn(turn))
            except UndefinedMetric as error:
                reasons[str(error)] += 1
    reason = "; ".join(f"{num} turns: {why}" for why, num in reasons.most_common()) or None
    undefined = Cell.undefined(reason or "") if not any(split) else None
    categories = [conversation.category for conversation in conversations]

    def scores(tallies: Sequence[Tally]) -> PartScores:
        cells, total = acceptance_cells(tallies, categories, bootstrap), pool(tallies)
        values = {name: undefined or cells.values[name] for name in cells.values.keys() & PartScores.model_fields}
        if no_headline:
            values["acceptance_length"] = no_headline
        return PartScores(
            **values,
            **{name: [undefined] if undefined else vector for name, vector in cells.vectors.items()},
            num_turns=total.num_turns,
            num_steps=total.num_steps or 0,
            num_tokens=total.num_tokens,
        )

    return Parts(
        thinking=scores([pool(part.thinking for part in each) for each in split]),
        answer=scores([pool(part.answer for part in each) for each in split]),
        num_turns_unsplit=reasons.total(),
        reason=reason,
    )


@dataclass(frozen=True, slots=True)
class _Grouping:
    """What the scores of every group of one run have in common."""

    bootstrap: Bootstrap
    timed: set[tuple[int, int, str]]
    """Keys of the turns that may be timed."""
    apart: bool
    """Whether no two of them overlap in time."""

    def scores(self, conversations: Sequence[_Conversation], num_failures: int) -> GroupScores:
        total = pool(conversation.tally for conversation in conversations)
        turns = [turn for conversation in conversations for turn in conversation.turns]
        timed = [[turn for turn in c.turns if turn.key in self.timed] for c in conversations]
        cells = acceptance_cells(
            [conversation.tally for conversation in conversations],
            [conversation.category for conversation in conversations],
            self.bootstrap,
        )
        return GroupScores(
            **cells.values,
            **cells.vectors,
            output_tps=busy_tps(timed, apart=self.apart, bootstrap=self.bootstrap),
            user_tps=mean_over_turns(
                timed, lambda turn: user_tps(turn.arrivals), "no turn has a second arrival", self.bootstrap
            ),
            isl=self._tokens(conversations, lambda turn: turn.prompt_len),
            osl=self._tokens(conversations, lambda turn: turn.num_output_tokens),
            histogram=None if total.lengths is None else acceptance.histogram(total),
            num_conversations=len(conversations),
            num_turns=len(turns),
            num_failures=num_failures,
            num_turns_without_steps=sum(tally.num_steps == 0 for c in conversations for tally in c.tallies),
            num_steps=total.num_steps,
            num_steps_unplaced=sum(turn.counts.unplaced_steps for turn in turns if turn.counts is not None),
        )

    def _tokens(self, conversations: Sequence[_Conversation], num_of: Callable[[TurnRecord], int]) -> Cell:
        return mean_over_turns([c.turns for c in conversations], num_of, "", self.bootstrap)
