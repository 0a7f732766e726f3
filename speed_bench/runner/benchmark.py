"""A whole run: the measured arm, then its baseline, each in a folder of its own."""

import asyncio
import shlex
import signal
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol as TypingProtocol

from speed_bench.config import Protocol, RunConfig
from speed_bench.data.editions import Dataset, load, select
from speed_bench.engines import dialect
from speed_bench.engines.http import Clock
from speed_bench.engines.server import free_port, reclaim
from speed_bench.errors import ConfigError, EngineError, RunFolderError, SpeedBenchError, unknown
from speed_bench.gguf_file import check_gguf
from speed_bench.models import resolve_gguf, sha256_of
from speed_bench.provenance import DataFacts, Provenance, TokenizerFacts, hardware, model_facts, versions
from speed_bench.runner.conversation import Answers, Script, check_first_turns_fit, turn_id
from speed_bench.runner.journal import (
    Journal,
    RunFile,
    clear_unless_kept,
    is_run,
    locked,
    make_folder,
    read_records,
    read_run_file,
    write_run_file,
)
from speed_bench.runner.load import closed_loop
from speed_bench.runner.segment import PID_FILE, live_engine
from speed_bench.tokens import PROBES, ChatTokenizer, prompt_sha256
from speed_bench.types import Conversation, Outcome

BASELINE = "baseline"
RESUME = "finish with: speed-bench run --out {} --resume"
MEASURING_PACKAGES = ("httptools", "tokenizers", "numpy")


class Observer(TypingProtocol):
    """Who watches a run, such as a progress bar."""

    def begin(self, arm: str, num_turns: int, earlier: tuple[Outcome, ...]) -> None:
        """An arm (`speculation` or `baseline`) starts; `earlier` turns are already in its journal."""

    def outcome(self, outcome: Outcome) -> None:
        """A turn has ended and is kept."""

    def end(self) -> None:
        """The arm has ended, in order or not."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything that is looked up once before anything is measured."""

    model: Path
    draft: Path | None
    tokenizer: ChatTokenizer
    rows: tuple[Conversation, ...]
    replayed: Answers | None
    provenance: Provenance


def run(
    config: RunConfig,
    protocol: Protocol,
    folder: Path,
    *,
    resume: bool = False,
    observer: Observer,
    clock: Clock = time.perf_counter_ns,
) -> None:
    """Measure, with and (if asked) without speculation. Every finished turn is in `folder` as it ends.

    Raises ConfigError, DataError, ModelError or TokenError before anything is written, and
    RunFolderError or EngineError when something breaks later, with a note of what is kept; then
    `resume` goes on from there.
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
            journal = _open(arm_config, protocol, arm_folder, inputs)
            try:
                _measure(arm_config, journal, inputs, name, observer, clock)
            except (KeyboardInterrupt, SpeedBenchError) as stopped:
                with suppress(RunFolderError):
                    num_kept = sum(len(read_records(path).outcomes) for _, path, _ in arms if is_run(path))
                    num_planned = journal.run.num_turns_planned * len(arms)
                    resume_with = RESUME.format(shlex.quote(str(folder)))
                    if num_kept:
                        stopped.add_note(f"kept {num_kept} of {num_planned} turns in {folder}; {resume_with}")
                raise


def prepare(config: RunConfig) -> Inputs:
    """Find and check the engine, the model, the prompts and the tokenizer, before anything is started."""
    speaks = dialect(config.engine.name)
    if config.algorithm not in speaks.ALGORITHMS:
        raise ConfigError(unknown("algorithm", config.algorithm, speaks.ALGORITHMS) + f" (engine {config.engine.name})")
    if speaks.installed() is None:
        raise EngineError(f"engine '{config.engine.name}' is not installed here; {speaks.INSTALL}")
    free_port(config.engine.port)  # one that is taken is told now, not when the folder is made
    dataset = load(config.edition, config.config)
    rows = select(dataset.rows, config.categories, config.limit_per_category)
    model = resolve_gguf(config.model)
    draft = resolve_gguf(config.draft) if config.draft else None
    for path in (model, draft):
        if path:
            check_gguf(path)
    tokenizer = ChatTokenizer.from_huggingface(config.tokenizer) if config.tokenizer else ChatTokenizer.from_gguf(model)
    check_first_turns_fit(rows, tokenizer, config.engine.context_length)
    provenance = _provenance(speaks.installed(), dataset, rows, model, draft, tokenizer)
    return Inputs(model, draft, tokenizer, rows, _replayed(config, rows, provenance, tokenizer), provenance)


def _provenance(
    engine_version: str | None,
    dataset: Dataset,
    rows: tuple[Conversation, ...],
    model: Path,
    draft: Path | None,
    tokenizer: ChatTokenizer,
) -> Provenance:
    return Provenance(
        model=model_facts(model, sha256_of(model)),
        draft=model_facts(draft, sha256_of(draft)) if draft else None,
        tokenizer=TokenizerFacts(
            template_sha256=tokenizer.template_sha256,
            vocab_size=tokenizer.vocab_size,
            probes_sha256=prompt_sha256([token for probe in PROBES for token in tokenizer.encode(probe)]),
        ),
        data=DataFacts(
            edition=dataset.edition,
            version=dataset.version,
            config=dataset.config,
            manifest_sha256=dataset.manifest_sha256,
            num_conversations=len(rows),
        ),
        engine_version=engine_version,
        versions=versions(MEASURING_PACKAGES),
        hardware=hardware(),
    )


def _replayed(
    config: RunConfig, rows: tuple[Conversation, ...], provenance: Provenance, tokenizer: ChatTokenizer
) -> Answers | None:
    """The answers of the run that `history` names, all of those that later turns will need."""
    if config.history == "own":
        return None
    source = Path(config.history.removeprefix("replay:"))
    if read_run_file(source).provenance.tokenizer != provenance.tokenizer:
        raise ConfigError(f"--history {config.history}: that run was made with another tokenizer")
    answers = {(turn.seed, turn.id): tokenizer.decode(turn.output_ids) for turn in read_records(source).turns}
    needed = ((seed, turn_id(row, turn)) for seed in config.seeds for row in rows for turn in range(len(row.turns) - 1))
    for seed, turn in needed:
        if (seed, turn) not in answers:
            raise ConfigError(f"--history {config.history}: that run has no answer to turn {turn} (seed {seed})")
    return answers


def _open(config: RunConfig, protocol: Protocol, folder: Path, inputs: Inputs) -> Journal:
    """The journal of an arm: a new one, or the one that is there if it is of the same run."""
    num_turns = sum(len(row.turns) for row in inputs.rows) * len(config.seeds)
    planned = RunFile(config=config, protocol=protocol, provenance=inputs.provenance, num_turns_planned=num_turns)
    if is_run(folder):
        if changes := read_run_file(folder).changes(planned):
            raise RunFolderError(
                f"{folder} holds a run of another config: {'; '.join(changes)}; "
                "resume with the same, or choose another --out"
            )
    else:
        make_folder(folder)
        write_run_file(folder, planned)
    return Journal(folder, planned)


def _measure(config: RunConfig, journal: Journal, inputs: Inputs, name: str, observer: Observer, clock: Clock) -> None:
    earlier: dict[tuple[int, str], Outcome] = {
        (outcome.seed, outcome.id): outcome for outcome in journal.records.outcomes
    }
    observer.begin(name, journal.run.num_turns_planned, tuple(earlier.values()))
    try:
        if len(earlier) < journal.run.num_turns_planned:
            with journal:
                asyncio.run(_ask_all(config, journal, inputs, earlier, observer, clock))
    except asyncio.CancelledError:  # by SIGTERM
        raise KeyboardInterrupt from None
    finally:
        observer.end()


async def _ask_all(
    config: RunConfig,
    journal: Journal,
    inputs: Inputs,
    earlier: Mapping[tuple[int, str], Outcome],
    observer: Observer,
    clock: Clock,
) -> None:
    def keep(outcome: Outcome) -> None:
        journal.add(outcome)
        observer.outcome(outcome)

    task = asyncio.current_task()
    if task is not None and sys.platform != "win32" and threading.current_thread() is threading.main_thread():
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    script = Script(config, inputs.tokenizer, inputs.replayed, earlier)
    conversations = [(row, seed) for seed in config.seeds for row in inputs.rows]
    engine = live_engine(config, journal, inputs.tokenizer, model=inputs.model, draft=inputs.draft, clock=clock)
    async with engine as live:
        await closed_loop(script, conversations, live, keep)
