"""A whole run: the measured arm, then its baseline, each in a folder of its own."""

import asyncio
import shlex
import signal
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Protocol as TypingProtocol

from speed_bench.config import Protocol, RunConfig
from speed_bench.engines.http import Clock
from speed_bench.engines.server import reclaim
from speed_bench.errors import RunFolderError, SpeedBenchError
from speed_bench.runner import event_loop
from speed_bench.runner.conversation import Task
from speed_bench.runner.descriptors import require
from speed_bench.runner.journal import (
    Journal,
    RunFile,
    clear_unless_kept,
    is_finished,
    is_run,
    locked,
    make_folder,
    read_records,
    read_run_file,
    set_aside,
    write_run_file,
)
from speed_bench.runner.outcomes import Ended
from speed_bench.runner.preparation import Inputs, prepare
from speed_bench.runner.segment import PID_FILE, running
from speed_bench.runner.share import Plan
from speed_bench.runner.workers import MakeCrew, crew, num_workers
from speed_bench.types import Outcome

BASELINE = "baseline"
RESUME = "finish with: speed-bench run --out {} --resume"


class Observer(TypingProtocol):
    """Who watches a run, such as a progress bar."""

    def begin(self, arm: str, num_turns: int, earlier: tuple[Outcome, ...]) -> None:
        """An arm (`speculation` or `baseline`) starts; `earlier` turns are already in its journal."""

    def outcome(self, turn: Ended) -> None:
        """A turn has ended and is kept."""

    def end(self) -> None:
        """The arm has ended, in order or not."""


def run(
    config: RunConfig,
    protocol: Protocol,
    folder: Path,
    *,
    resume: bool = False,
    observer: Observer,
    baseline_at: str | None = None,
    clock: Clock = time.perf_counter_ns,
    make_crew: MakeCrew = crew,
) -> None:
    """Measure, with and (if asked) without speculation. Every finished turn is in `folder` as it ends.

    Raises ConfigError, DataError, ModelError or TokenError before anything is written, and
    RunFolderError or EngineError when something breaks later, with a note of what is kept; then
    `resume` goes on from there. A load that is measured as a whole is begun again instead; what there was of it
    stays in the folder, under `interrupted-<n>/`. `baseline_at` is recorded: see `RunFile`. `make_crew` decides
    where the client's workers are.
    """
    inputs = prepare(config)
    arms = [(config, folder, "speculation" if config.algorithm != "none" else "no speculation")]
    if config.baseline:
        arms.append((config.without_speculation(), folder / BASELINE, "baseline"))
    if resume and not is_run(folder):
        raise RunFolderError(f"{folder} holds no run to finish; leave out --resume to start it")
    make_folder(folder)
    with locked(folder):
        for _, arm_folder, _ in arms:
            reclaim(arm_folder / PID_FILE)
        if not resume:
            clear_unless_kept(folder, folder / BASELINE)
        for arm_config, arm_folder, name in arms:
            journal = _open(arm_config, protocol, arm_folder, inputs, baseline_at)
            try:
                _measure(arm_config, journal, inputs, name, observer, clock, make_crew)
            except (KeyboardInterrupt, SpeedBenchError) as stopped:
                with suppress(RunFolderError):
                    num_kept = sum(len(read_records(path).outcomes) for _, path, _ in arms if is_run(path))
                    num_planned = journal.run.num_turns_planned * len(arms)
                    resume_with = RESUME.format(shlex.quote(str(folder)))
                    if num_kept:
                        stopped.add_note(f"kept {num_kept} of {num_planned} turns in {folder}; {resume_with}")
                raise


def _open(config: RunConfig, protocol: Protocol, folder: Path, inputs: Inputs, baseline_at: str | None) -> Journal:
    """The journal of an arm: a new one, or the one that is there if it is of the same run."""
    num_turns = sum(len(row.turns) for row in inputs.rows) * len(config.seeds)
    planned = RunFile(
        config=config,
        protocol=protocol,
        provenance=inputs.provenance,
        num_turns_planned=num_turns,
        baseline_at=baseline_at,
    )
    if is_run(folder):
        before = read_run_file(folder)
        if changes := before.changes(planned):
            raise RunFolderError(
                f"{folder} holds a run of another config: {'; '.join(changes)}; "
                "resume with the same, or choose another --out"
            )
        records = read_records(folder)
        ended_in_order = bool(records.segments) and records.segments[-1].whole
        is_kept = bool(records.outcomes)
        if is_kept and measured_as_a_whole(config, protocol) and not ended_in_order:
            set_aside(folder)
            is_kept = False
        if not is_kept:  # all that will be in it is measured on this machine
            write_run_file(folder, before.model_copy(update={"provenance": planned.provenance}))
    else:
        make_folder(folder)
        write_run_file(folder, planned)
    return Journal(folder, planned)


def measured_as_a_whole(config: RunConfig, protocol: Protocol) -> bool:
    """Whether a run that was interrupted is begun again: its numbers are of one uninterrupted load, or of nothing."""
    return protocol.based_on == "throughput-v1" or config.arrivals != "closed" or config.max_duration_s is not None


def tasks_of(inputs: Inputs, config: RunConfig) -> tuple[Task, ...]:
    """The conversations of a run in their order, under each seed; one that is there again is a repeat."""
    tasks = []
    for seed in config.seeds:
        times: Counter[str] = Counter()
        for row in inputs.rows:
            tasks.append(Task(row, seed, times[row.question_id]))
            times[row.question_id] += 1
    return tuple(tasks)


def _measure(
    config: RunConfig,
    journal: Journal,
    inputs: Inputs,
    name: str,
    observer: Observer,
    clock: Clock,
    make_crew: MakeCrew,
) -> None:
    observer.begin(name, journal.records.num_planned, journal.records.outcomes)
    try:
        if not is_finished(journal.records):
            require(config.concurrency, num_workers(config))
            with journal:
                event_loop.run(_ask_all(config, journal, inputs, observer, clock, make_crew))
    except asyncio.CancelledError:  # by SIGTERM
        raise KeyboardInterrupt from None
    finally:
        observer.end()


async def _ask_all(
    config: RunConfig, journal: Journal, inputs: Inputs, observer: Observer, clock: Clock, make_crew: MakeCrew
) -> None:
    task = asyncio.current_task()
    if task is not None and sys.platform != "win32" and threading.current_thread() is threading.main_thread():
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    earlier = {outcome.key: outcome for outcome in journal.records.outcomes}
    plan = Plan(config, tasks_of(inputs, config), inputs.times_s, inputs.replayed, earlier)
    draft = None if inputs.draft is None else inputs.draft.name
    async with (
        running(config, journal, inputs.tokenizer, model=inputs.model.name, draft=draft, clock=clock) as engine,
        make_crew(plan, engine, inputs, journal, observer.outcome) as client,
    ):
        await client.prepare()
        async with engine.measured(client.counters) as span:
            told = await client.run(span)
            span.lateness, span.client, span.load_ended_at_s = told.lateness, told.use, told.load_ended_at_s
