"""The input of each metric from a run folder: what its journal holds, as plain lists."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from speed_bench.errors import RunFolderError
from speed_bench.records import RunRecords
from speed_bench.runner.benchmark import BASELINE
from speed_bench.runner.journal import read_records, read_run_file
from speed_bench.timing import in_open_loop
from speed_bench.types import Step, TurnRecord


def acceptance_inputs(folder: Path | str) -> dict[str, Any]:
    """What `acceptance.compute` takes, of all finished turns of a run.

    Raises RunFolderError where the steps of a turn cannot be told apart, or every turn of a category failed:
    the lists would not say so.
    """
    records = read_records(Path(folder))
    turns = _turns(records)
    if lost := sorted({each.category for each in records.failures} - {turn.category for turn in turns}):
        raise RunFolderError(f"{folder}: no turn of {', '.join(lost)} finished; a mean would be of other text")
    steps = [_steps(turn) for turn in turns]
    unknown = [turn.id for turn, each in zip(turns, steps, strict=True) if each is None]
    if unknown:
        raise RunFolderError(
            f"{len(unknown)} turns of {folder} have decode steps that cannot be told apart, the first is {unknown[0]}; "
            "speed-bench score takes them as they are"
        )
    return {
        "predictions": [[step.emitted for step in each or ()] for each in steps],
        "drafted": [[step.drafted for step in each or ()] for each in steps],
        "accepted": [[step.accepted for step in each or ()] for each in steps],
        "last_step": [turn.last_step for turn in turns],
        **_units(turns),
    }


def throughput_inputs(folder: Path | str) -> dict[str, Any]:
    """What `throughput.compute` takes, of a run that was not interrupted; else raises RunFolderError."""
    turns = _turns(_uninterrupted(Path(folder)))
    return {**_arrivals(turns, "predictions"), **_units(turns)}


def speedup_inputs(folder: Path | str, baseline: Path | str | None = None) -> dict[str, Any]:
    """What `speedup.compute` takes, of two runs that were not interrupted; else raises RunFolderError.

    The baseline is the run's own, unless another run folder is given. Steps are there if those of all turns
    of both runs can be told apart.
    """
    other = Path(folder) / BASELINE if baseline is None else Path(baseline)
    first, second = _turns(_uninterrupted(Path(folder))), _turns(_uninterrupted(other))
    return {
        "predictions1": [list(turn.output_ids) for turn in first],
        "predictions2": [list(turn.output_ids) for turn in second],
        "run1": _run(Path(folder), first),
        "run2": _run(other, second),
        **_units(first),
    }


def _run(folder: Path, turns: Sequence[TurnRecord]) -> dict[str, Any]:
    run = read_run_file(folder)
    config, steps = run.config, [_steps(turn) for turn in turns]
    return {
        "rows": [f"{turn.id} seed {turn.seed}" + f" repeat {turn.repeat}" * (turn.repeat > 0) for turn in turns],
        "settings": {
            "model": config.model,
            "temperature": config.temperature,
            "max_tokens": config.max_tokens,
            "seeds": list(config.seeds),
            "concurrency": config.concurrency,
            **({} if config.arrivals == "closed" else {"arrivals": config.arrivals, "request_rate": config.rate}),
            "warmup_per_slot": config.warmup_per_slot,
            "history": config.history,
            "data": run.provenance.data.manifest_sha256,
        },
        **_arrivals(turns, "arrivals"),
        "steps": None if None in steps else [[step.emitted for step in each or ()] for each in steps],
        "prompts": [turn.prompt_sha256 for turn in turns],
    }


def _uninterrupted(folder: Path) -> RunRecords:
    records = read_records(folder)
    if len(records.segments) != 1 or not records.segments[0].whole:
        raise RunFolderError(f"{folder} was interrupted or resumed: its turns were not served under one load")
    return records


def _turns(records: RunRecords) -> list[TurnRecord]:
    return sorted(records.turns, key=lambda turn: (turn.segment, turn.sent_at_s, turn.id, turn.seed, turn.repeat))


def _steps(turn: TurnRecord) -> tuple[Step, ...] | None:
    """All decode steps of a turn, or None."""
    if turn.counts is None or turn.counts.per_step is None or turn.counts.unplaced_steps:
        return None if turn.num_output_tokens > turn.prefill_tokens else ()
    return turn.counts.per_step


def _arrivals(turns: Sequence[TurnRecord], name: str) -> dict[str, Any]:
    arrivals = [[(at, num) for at, num in turn.arrivals if num] for turn in turns]
    return {
        name: arrivals,
        "start_s": [turn.start_s for turn in turns],
        "slots": None if in_open_loop(turns) else [turn.slot for turn in turns],
        "seeds": [turn.seed + turn.repeat * 2**32 for turn in turns],
    }


def _units(turns: Sequence[TurnRecord]) -> dict[str, Any]:
    return {
        "conversations": [turn.question_id for turn in turns],
        "categories": [turn.category for turn in turns],
    }
