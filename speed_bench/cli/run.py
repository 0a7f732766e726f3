"""`speed-bench run` measures, `score` computes the scores of a run folder again."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from speed_bench.cli.group import cli

if TYPE_CHECKING:
    from rich.console import Console

    from speed_bench.runner.journal import RunFile
    from speed_bench.scores import Scores

F = TypeVar("F", bound=Callable[..., Any])

ENGINE_FLAGS = {"url": "engine.url", "python": "engine.python", "launch": "engine.launch"}
"""Flags that set a setting of the engine."""
RUN_EXAMPLES = """
\b
Examples:
  speed-bench run                                   the embedded model, n-gram drafts, 2 conversations per category
  speed-bench run --categories coding,math --max-tokens 128
  speed-bench run --model llama.gguf --algorithm draft --draft small.gguf --draft-length 4
  speed-bench run --out my-run --resume             finish a run that was stopped
  speed-bench run --file run.yaml --set engine.threads=2
  speed-bench run --engine vllm --python ~/vllm/bin/python --model meta-llama/Llama-3.3-70B-Instruct \\
      --algorithm eagle3 --draft yuhuili/EAGLE3-LLaMA3.3-Instruct-70B --set engine.tensor_parallel=4
  speed-bench run --url http://gpu-node:8000 --algorithm eagle3 --draft-length 3      a server that runs already
"""


def _config_options(command: F) -> F:
    """The settings that everybody sets. None means: as the protocol, or the file, says."""
    per_protocol = "[default: per protocol, quick: {}]"
    settings: list[tuple[str, type, str, str]] = [
        (
            "--engine",
            str,
            "NAME",
            "What is measured; see `speed-bench engines`. [default: llama-cpp, or what --url is]",
        ),
        ("--url", str, "URL", "Measure the server that runs there; nothing is started or stopped."),
        ("--python", str, "PATH", "The interpreter of the environment that the engine is installed in."),
        ("--launch", str, "COMMAND", "Starts the engine elsewhere: a command in which {command} is the engine's own."),
        (
            "--model",
            str,
            "MODEL",
            "A GGUF file, hf:org/repo/file.gguf; for GPU engines a folder or org/repo[@revision].",
        ),
        ("--tokenizer", str, "NAME", "A Hugging Face tokenizer. [default: the model's own]"),
        ("--chat-template-args", str, "JSON", "What the chat template is given, such as '{enable_thinking: false}'."),
        ("--algorithm", str, "NAME", "How tokens are drafted: none, ngram, draft, eagle3, mtp, … [default: ngram]"),
        ("--draft", str, "MODEL", "The draft model or the heads, named like --model."),
        ("--draft-length", int, "K", "Most tokens drafted per step. [default: ngram and suffix 8, others 3]"),
        ("--edition", str, "NAME|PATH", "Which prompts, or random:<tokens>. [default: open]"),
        ("--config", str, "NAME", "Which part of the edition. [default: starter]"),
        ("--categories", str, "A,B,…", f"Only these. {per_protocol.format('all')}"),
        ("--limit-per-category", int, "N", f"Conversations. {per_protocol.format(2)}"),
        ("--max-tokens", int, "N", f"Longest answer. {per_protocol.format(64)}"),
        ("--temperature", float, "T", f"0 is greedy. {per_protocol.format(0)}"),
        ("--concurrency", int, "C", f"Streams kept busy. {per_protocol.format(1)}"),
        ("--history", str, "own|replay:RUN", "Whose answers later turns carry. [default: own, the model's]"),
    ]
    options = [click.option(name, type=kind, metavar=metavar, help=text) for name, kind, metavar, text in settings]
    options += [
        click.option(
            "--seed", "seeds", type=int, multiple=True, metavar="N", help=f"Repeatable. {per_protocol.format(0)}"
        ),
        click.option("--baseline/--no-baseline", default=None, help="Run again without speculation. [default: yes]"),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@cli.command(short_help="Measure a model with and without speculation.", epilog=RUN_EXAMPLES)
@_config_options
@click.option("--protocol", metavar="NAME", help="quick, qualitative-v1, qualitative-t1-v1. [default: quick]")
@click.option("--file", type=click.Path(path_type=Path), metavar="YAML", help="Settings; flags win over it.")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Any setting, such as engine.threads=2.")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="The run folder. [default: runs/<time>-…]")
@click.option("--resume", is_flag=True, help="Finish the run in --out; it keeps what is done.")
def run(
    protocol: str | None, file: Path | None, sets: tuple[str, ...], out: Path | None, resume: bool, **flags: Any
) -> None:
    """Measure, and write a run folder with every turn, the scores and what they depend on."""
    from rich.console import Console

    from speed_bench import config as settings
    from speed_bench.engines import identity
    from speed_bench.report.terminal import LiveProgress
    from speed_bench.run_scores import score_folder
    from speed_bench.runner import benchmark, journal

    if resume and out is None:
        raise click.UsageError("--resume needs --out DIR: the run folder to finish")
    given = {ENGINE_FLAGS.get(key, key): value for key, value in flags.items() if value is not None and value != ()}
    recorded = None
    if resume and out is not None and journal.is_run(out):
        before = journal.read_run_file(out)
        recorded = (before.config, before.protocol)
    config, rules = settings.resolve(
        given, file=file, sets=sets, protocol=protocol, recorded=recorded, detect=identity.detect
    )
    folder = out or _new_folder(f"{config.engine.name}-{config.algorithm}")
    console = Console()
    console.print(
        f"{config.engine.name} · {config.model or config.engine.url} · {config.algorithm}"
        f"{f' (draft length {config.draft_length})' if config.draft_length else ''} · "
        f"{config.edition}/{config.config} · protocol {rules.name}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    benchmark.run(config, rules, folder, resume=resume, observer=LiveProgress(console))
    _print(score_folder(folder), folder, journal.read_run_file(folder), console)


@cli.command(short_help="Compute the scores of a run folder again.")
@click.argument("run_folder", type=click.Path(path_type=Path), metavar="RUN")
def score(run_folder: Path) -> None:
    """Compute the scores of a run folder again, from its journal alone.

    \b
    Example:
      speed-bench score runs/my-run
    """
    from rich.console import Console

    from speed_bench.run_scores import score_folder
    from speed_bench.runner.journal import read_run_file

    run = read_run_file(run_folder)
    _print(score_folder(run_folder), run_folder, run, Console())


def _new_folder(name: str) -> Path:
    stem = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{name}"
    taken = [stem, *(f"{stem}-{number}" for number in range(2, 100))]
    return next(path for path in (Path("runs") / each for each in taken) if not path.exists())


def _print(scores: "Scores", folder: Path, run: "RunFile", console: "Console") -> None:
    from speed_bench.data.editions import RANDOM
    from speed_bench.report.terminal import print_scores
    from speed_bench.run_scores import require_as_asked

    print_scores(
        scores,
        folder,
        run.provenance.model,
        console,
        simulated=run.config.engine.name == "simulator",
        random_prompts=run.provenance.data.edition.startswith(RANDOM),
    )
    if doubt := require_as_asked(scores, run.config.algorithm):
        click.echo(doubt, err=True)
