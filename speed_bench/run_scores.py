"""The scores of a run folder: its journal, and that of its baseline, wherever that lies."""

from pathlib import Path

from speed_bench.errors import EngineError, RunFolderError
from speed_bench.reconciliation import reconcile
from speed_bench.records import RunRecords
from speed_bench.runner.benchmark import BASELINE
from speed_bench.runner.journal import RunFile, is_run, read_records, read_run_file, write_whole
from speed_bench.scores import Reconciliation, Scores
from speed_bench.scoring import load_of, score

SCORES = "scores.json"


def score_folder(folder: Path) -> Scores:
    """Compute the scores of a run from what lies in its folder, and write them there.

    Raises RunFolderError where the folder or its baseline cannot be read or do not belong together, UndefinedMetric
    where there is nothing to score, and EngineError where the baseline drafted: then they are written without it.
    """
    run = read_run_file(folder)
    records, baseline = read_records(folder), read_baseline(folder, run)
    drafted = what_drafted(reconcile(baseline)) if baseline else None
    apart = why_no_speedup(folder, run) if baseline else None
    scores = score(records, None if drafted else baseline, load=load_of(run.config), apart=apart)
    write_whole(folder / SCORES, scores.model_dump(mode="json"))
    if drafted:
        raise EngineError(
            f"the baseline drafted ({drafted}), so it is none: its server speculates, or a setting of "
            f"engine.extra makes it; {folder / SCORES} is without it"
        )
    return scores


def baseline_folder(folder: Path, run: RunFile) -> Path | None:
    """Where the run lies that a run is compared with; None where it has none, or it has not begun."""
    if run.baseline_at is not None:
        at = folder / run.baseline_at
    elif run.config.baseline:
        at = folder / BASELINE
    else:
        return None
    return at if is_run(at) else None


def read_baseline(folder: Path, run: RunFile) -> RunRecords | None:
    """What happened in the run that a run is compared with. Raises RunFolderError where it is not its baseline."""
    at = baseline_folder(folder, run)
    if at is None:
        return None
    other = read_run_file(at)
    if changed := run.config.without_speculation().difference(other.config.without_speculation()):
        raise RunFolderError(f"{at} is no baseline of this run: it differs in {', '.join(changed)}")
    if found := _other_contents(run, other):
        raise RunFolderError(
            f"{at} is no baseline of this run: it differs in {' and '.join(found)}; "
            "remove the folder of the one that is wrong, and measure it again"
        )
    if other.config.algorithm != "none":
        raise RunFolderError(f"{at} is no baseline: it drafts with '{other.config.algorithm}'")
    return read_records(at)


def _other_contents(run: RunFile, other: RunFile) -> list[str]:
    """What is not the same in two runs though it has the same name."""
    mine, theirs = run.provenance, other.provenance
    models = [facts.model for facts in (mine, theirs)]
    if run.config.engine.attached:  # two servers may serve it under two names
        models = [model.model_copy(update={"file": ""}) for model in models]
    found = {"the model's contents": models[0] != models[1], "the tokenizer": mine.tokenizer != theirs.tokenizer}
    return [name for name, differs in found.items() if differs]


def why_no_speedup(folder: Path, run: RunFile) -> str | None:
    """What else than speculation a run and its baseline differ in, so that they have no speed-up; None where nothing
    is known."""
    at = baseline_folder(folder, run)
    if at is None:
        return None
    other = read_run_file(at)
    if changed := _other_contents(run, other):
        return f"the baseline differs in {' and '.join(changed)}"
    versions = other.provenance.engine_version, run.provenance.engine_version
    if None not in versions and versions[0] != versions[1]:
        return f"the baseline had another version of the engine: {versions[0]}, not {versions[1]}"
    here, there = machine_of(run), machine_of(other)
    return None if here == there else f"the baseline ran on another machine: {there}; not {here}"


def machine_of(run: RunFile) -> str | None:
    """The kind of machine that the engine of a run was on; None where it may be on another one than the client."""
    engine = run.config.engine
    return None if engine.attached or engine.launch else run.provenance.hardware.kind


def what_drafted(found: Reconciliation) -> str | None:
    """What says that something was drafted; None where nothing does."""
    for side in (found.turns, found.engine):
        if side.drafted:
            return f"{side.drafted} tokens"
        if side.verify_steps:
            return f"in {side.verify_steps} verification steps"
    return None


def num_drafted(found: Reconciliation) -> int | None:
    """Drafted tokens, or steps that verified some where tokens are not known; None where neither side says."""
    turns, engine = found.turns, found.engine
    said = (turns.drafted, turns.verify_steps, engine.drafted, engine.verify_steps)
    return next((num for num in said if num is not None), None)


def require_as_asked(scores: Scores, algorithm: str) -> str | None:
    """A run that asked for speculation and had none is not a result, nor is the opposite: raises EngineError.

    Returns a sentence where nobody can tell.
    """
    if algorithm == "none":
        if drafted := what_drafted(scores.reconciliation):
            raise EngineError(f"no speculation was asked for (algorithm 'none'), but the engine drafted ({drafted})")
        return None
    num = num_drafted(scores.reconciliation)
    length = scores.acceptance.overall.acceptance_length.value
    if num == 0:
        raise EngineError(
            f"speculation was asked for (algorithm '{algorithm}'), but not one token was drafted in {scores.num_turns} "
            "turns: either the engine ran without it, or the answers are too short for it (raise --max-tokens)"
        )
    if num is None and (length is None or length <= 1):
        return "whether anything was drafted cannot be told: neither the turns nor the engine say"
    return None
