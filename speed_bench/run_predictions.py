"""Which runs belong together, and what they let us expect: run folders and sweeps in, predictions out."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from pydantic import ValidationError
from pydantic.main import IncEx

from speed_bench.comparison import compare
from speed_bench.config import RunConfig
from speed_bench.draft_lengths import Arm, Given, predict
from speed_bench.errors import RunFolderError, SpeedBenchError
from speed_bench.prediction import Prediction
from speed_bench.reconciliation import reconcile
from speed_bench.records import RunRecords
from speed_bench.run_scores import SCORES, baseline_folder, num_drafted, read_baseline, what_drafted, why_no_speedup
from speed_bench.runner.journal import RunFile, is_run, read_records, read_run_file
from speed_bench.scores import Bootstrap, Comparison, Scores
from speed_bench.step_sums import sum_steps
from speed_bench.sweep.folder import is_sweep, read_sweep
from speed_bench.timing import whole_segments
from speed_bench.types import TurnRecord

_HOW_MANY = frozenset(
    (
        *("draft_length", "baseline", "seeds", "num_prompts", "prompts_per_stream", "repeat_prompts", "history"),
        *("limit_per_category", "max_duration_s", "ramp_up_s", "warmup_s", "warmup_per_slot", "stall_timeout_s"),
        *("workers", "slo", "num_gpus"),
    )
)
"""Settings in which runs may differ that are predicted together: their steps do not depend on them."""
_WHERE = frozenset(("url", "baseline_url", "host", "port", "python", "launch", "start_timeout_s"))
"""The same of an engine's settings."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What runs have in common that are predicted together."""

    engine: str
    model: str
    algorithm: str
    draft: str | None
    edition: str
    config: str
    arrivals: str
    rate: float | None
    concurrency: int
    input_tokens: float
    """Mean of the turns that were timed, as the engine's tokenizer counts them."""
    output_tokens: float


@dataclass(frozen=True, slots=True)
class Outlook:
    """A prediction, and what it is of."""

    subject: Subject | None
    """None: given numbers alone."""
    prediction: Prediction
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Read:
    """A run folder, read."""

    folder: Path
    run: RunFile
    records: RunRecords
    own_baseline: Path | None
    """Where the run lies that it is compared with."""
    named: bool
    """By the user, rather than a cell of a sweep."""
    drafter: str
    """What its steps depend on, the draft length left out: runs of one are predicted together."""
    load: str
    """The same without what is drafted: runs without speculation are baselines of those with the same."""

    @property
    def turns(self) -> list[TurnRecord]:
        """Those that are timed."""
        return [turn for turns in whole_segments(self.records) for turn in turns]


def predict_runs(
    paths: Sequence[Path], given: Given, *, bootstrap: Bootstrap, extend_to: int = 0
) -> tuple[list[Outlook], list[str]]:
    """One outlook for each drafter under each load, and a sentence for every cell of a sweep that is in none.

    Runs without speculation are taken for the baselines of all runs under the same load. Raises RunFolderError for a
    path that is neither a run nor a sweep, and whatever is wrong with a run that was named.
    """
    reads, left_out = list[_Read](), list[str]()
    for folder, named in _folders(paths):
        try:
            reads.append(_read(folder, named=named))
        except SpeedBenchError as error:
            if named:
                raise
            left_out.append(f"{folder.name} is left out: {error}")
    arms = [read for read in reads if read.run.config.algorithm != "none"]
    baselines = {read.folder.resolve(): read for read in reads if read not in arms}
    outlooks = []
    for drafter in dict.fromkeys(read.drafter for read in arms):
        members = [read for read in arms if read.drafter == drafter]
        try:
            outlooks.append(_outlook(members, baselines, given, bootstrap, extend_to))
        except SpeedBenchError as error:
            if any(read.named for read in members):
                raise
            left_out += [f"{read.folder.name} is left out: {error}" for read in members]
    if not outlooks:
        nothing = f"nothing in {', '.join(map(str, paths))} drafts, so there is no speed-up to predict"
        raise RunFolderError(left_out[0] if left_out else nothing)
    return outlooks, left_out


def _folders(paths: Iterable[Path]) -> Iterator[tuple[Path, bool]]:
    """Every run folder once, and whether it was named itself."""
    seen = set[Path]()
    for path in paths:
        if not is_run(path) and not is_sweep(path):
            raise RunFolderError(f"{path} is neither a run folder nor that of a sweep")
        named = is_run(path)
        for folder in [path] if named else [cell.folder(path) for cell in read_sweep(path).planned()]:
            if folder.resolve() not in seen:
                seen.add(folder.resolve())
                yield folder, named


def _read(folder: Path, *, named: bool) -> _Read:
    run, records = read_run_file(folder), read_records(folder)
    if not any(whole_segments(records)):
        raise RunFolderError(f"{folder} has no finished turn that can be timed: it is not over, or was interrupted")
    _refuse_resumed(folder, records)
    counts = reconcile(records)
    if run.config.algorithm == "none" and (drafts := what_drafted(counts)):
        raise RunFolderError(f"{folder} is no run without speculation: it drafted ({drafts})")
    if run.config.algorithm != "none" and num_drafted(counts) == 0:
        raise RunFolderError(f"{folder} is no run with speculation: not one token was drafted")
    own = baseline_folder(folder, run)
    draft = run.provenance.draft.model_dump_json() if run.provenance.draft else ""
    return _Read(
        folder,
        run,
        records,
        own,
        named,
        drafter=_alike(run, run.config) + draft,
        load=_alike(run, run.config.without_speculation()),
    )


def _refuse_resumed(folder: Path, records: RunRecords) -> None:
    """Raise RunFolderError where some finished turns are not timed: the others are no sample of them."""
    timed, finished = sum(map(len, whole_segments(records))), len(records.turns)
    if timed < finished:
        raise RunFolderError(
            f"{folder} was resumed, so only {timed} of its {finished} turns are timed; measure it again from the start"
        )


def _alike(run: RunFile, config: RunConfig) -> str:
    """Everything that the time of a step depends on, by what the run's settings say, as text that can be compared."""
    facts = run.provenance
    exclude: dict[str, IncEx | bool] = {**dict.fromkeys(_HOW_MANY, True), "engine": dict.fromkeys(_WHERE, True)}
    settings = config.model_dump_json(exclude=exclude)
    data = facts.data.model_dump_json(exclude={"num_conversations"})
    machine = facts.hardware.model_dump_json(include={"cpu", "gpus"})
    return "\n".join((settings, facts.model.model_dump_json(), data, facts.engine_version or "", machine))


def _outlook(
    members: Sequence[_Read], baselines: dict[Path, _Read], given: Given, bootstrap: Bootstrap, extend_to: int
) -> Outlook:
    """Of the runs of one drafter under one load. `baselines` are those that were found so far; more are read."""
    config, others = members[0].run.config, _baselines_of(members, baselines)
    if not others and given.t_ar_s is None:
        apart = why_no_speedup(members[0].folder, members[0].run)
        why = f", because {apart}" if apart else ""
        raise RunFolderError(
            f"{members[0].folder} has no baseline{why}: name a run without speculation under the same load, "
            "or give its step time, such as --t-ar 19.6ms"
        )
    compared = {read.folder: _compare(read, others, bootstrap) for read in members}
    arms = [
        Arm(read.folder.name, length, sum_steps([read.records], length), compared[read.folder])
        for read, length in ((read, _draft_length(read)) for read in members)
    ]
    found = predict(
        arms,
        sum_steps([*others.values()]) if others else None,
        given,
        bootstrap=bootstrap,
        extend_to=extend_to,
        closed_loop=_streams_are_busy(config),
    )
    return Outlook(_subject(members), found, tuple(_notes(members, compared, found)))


def _baselines_of(members: Sequence[_Read], found: dict[Path, _Read]) -> dict[Path, RunRecords]:
    """The runs that these are compared with, by where they lie, and all others that were found under the same load.

    One of another machine, engine version or model is none of them.
    """
    others = {path: read.records for path, read in found.items() if read.load == members[0].load}
    for read in members:
        at = read.own_baseline.resolve() if read.own_baseline else None
        if at is None or at in others or why_no_speedup(read.folder, read.run):
            continue
        records = found[at].records if at in found else read_baseline(read.folder, read.run)
        if records and any(whole_segments(records)):
            if drafts := what_drafted(reconcile(records)):
                raise RunFolderError(f"{read.own_baseline} is no baseline: it drafted ({drafts})")
            _refuse_resumed(at, records)
            others[at] = records
    return others


def _compare(read: _Read, others: dict[Path, RunRecords], bootstrap: Bootstrap) -> Comparison | None:
    """With its own baseline, as its scores have it where they are there; else with the first of the others."""
    own = others.get(read.own_baseline.resolve()) if read.own_baseline else None
    if own and (scored := _scored(read.folder)):
        return scored
    baseline = own or next(iter(others.values()), None)
    return compare(read.records, baseline, bootstrap) if baseline else None


def _scored(folder: Path) -> Comparison | None:
    try:
        return Scores.model_validate_json((folder / SCORES).read_bytes()).baseline
    except (OSError, ValidationError):  # not scored yet, or by another version
        return None


def _draft_length(read: _Read) -> int:
    """As it was set; of a server that ran already and does not say, the longest proposal."""
    length = read.run.config.draft_length or sum_steps([read.records]).depth
    if not length:
        raise RunFolderError(f"{read.folder} does not say how much it drafted; its draft length is not known")
    return length


def _subject(members: Sequence[_Read]) -> Subject:
    config, facts = members[0].run.config, members[0].run.provenance
    turns = [turn for read in members for turn in read.turns]
    return Subject(
        engine=config.engine.name,
        model=config.model or facts.model.file,
        algorithm=config.algorithm,
        draft=config.draft,
        edition=facts.data.edition,
        config=facts.data.config,
        arrivals=config.arrivals,
        rate=config.rate,
        concurrency=config.concurrency,
        input_tokens=fmean(turn.prompt_len for turn in turns),
        output_tokens=fmean(turn.num_output_tokens for turn in turns),
    )


def _streams_are_busy(config: RunConfig) -> bool:
    return config.arrivals == "closed" and config.think_time_s == 0


def _notes(members: Sequence[_Read], compared: dict[Path, Comparison | None], found: Prediction) -> Iterator[str]:
    """What a reader has to know besides the numbers."""
    for read in members:
        name, comparison = read.folder.name, compared[read.folder]
        if num := len(read.records.failures):
            yield f"{name}: {num} turns failed; their tokens are in no number, their load was there"
        for cell in (comparison.speedup_tpot, comparison.speedup_output_tps) if comparison else ():
            if cell.reason:
                yield f"{name}: no measured speed-up, because {cell.reason}"
                break
    config = members[0].run.config
    if found.prefill_s_per_token is None and _streams_are_busy(config) and config.concurrency > 1:
        yield "the prefill of others cannot be told apart from decoding; between draft lengths it is taken as steady"
    if found.best is None:
        yield "one draft length: how step time depends on it is not known, so neither is the best one"
