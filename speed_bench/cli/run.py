"""`speed-bench run` measures, `score` computes the scores of a run folder again."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from speed_bench.cli.group import cli
from speed_bench.cli.ray_options import worker_options, workers_at
from speed_bench.cli.run_options import config_options, settings_given
from speed_bench.cli.sweep import measure, new_folder
from speed_bench.errors import ConfigError, RunFolderError

if TYPE_CHECKING:
    from rich.console import Console

    from speed_bench.config import Protocol, RunConfig
    from speed_bench.runner.journal import RunFile
    from speed_bench.scores import Scores
    from speed_bench.sweep.results import Summary

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
  speed-bench run --engine vllm --model my/model --algorithm mtp --edition PATH --config throughput_8k \\
      --concurrency 1,4,16,64                       a run under each of these loads, and the curve
  speed-bench run --url http://gpu-node:8000 --algorithm eagle3 --draft-length 3      a server that runs already
"""


@cli.command(short_help="Measure a model with and without speculation.", epilog=RUN_EXAMPLES)
@config_options
@worker_options
@click.option(
    "--protocol",
    metavar="NAME",
    help="quick, qualitative-v1, qualitative-t1-v1, throughput-v1. [default: quick; of throughput_* the last]",
)
@click.option("--file", type=click.Path(path_type=Path), metavar="YAML", help="Settings; flags win over it.")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Any setting, such as engine.threads=2.")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="The run folder. [default: runs/<time>-…]")
@click.option("--resume", is_flag=True, help="Finish the run in --out; it keeps what is done.")
def run(
    protocol: str | None,
    file: Path | None,
    sets: tuple[str, ...],
    out: Path | None,
    resume: bool,
    workers_on: str,
    address: str | None,
    **flags: Any,
) -> None:
    """Measure, and write a run folder with every turn, the scores and what they depend on."""
    from rich.console import Console

    from speed_bench import config as settings
    from speed_bench.engines import identity
    from speed_bench.report.terminal import LiveProgress
    from speed_bench.run_scores import score_folder
    from speed_bench.runner import benchmark, journal
    from speed_bench.sweep.folder import is_sweep

    if resume and out is None:
        raise click.UsageError("--resume needs --out DIR: the run folder to finish")
    given = settings_given(flags)
    several = _numbers(given.pop("concurrency", None))
    if several:
        given["concurrency"] = several[0]
    if resume and out is not None and is_sweep(out):
        raise RunFolderError(f"{out} holds several runs; go on with: speed-bench sweep {shlex.quote(str(out))}")
    recorded = None
    if resume and out is not None and journal.is_run(out):
        before = journal.read_run_file(out)
        recorded = (before.config, before.protocol)
    config, rules = settings.resolve(
        given, file=file, sets=sets, protocol=protocol, recorded=recorded, detect=identity.detect
    )
    folder = out or new_folder("runs", f"{config.engine.name}-{config.algorithm}")
    console = Console()
    _introduce(config, rules, console)
    if len(several) > 1:
        if workers_on != "here" or address is not None:
            raise click.UsageError("--workers-on and --address are of one --concurrency, not of several")
        _measure_each(config, rules, several, folder, console)
        return
    with workers_at(workers_on, address, console) as workers:
        benchmark.run(config, rules, folder, resume=resume, observer=LiveProgress(console), **workers)
    _print(score_folder(folder), folder, journal.read_run_file(folder), console)


def _introduce(config: "RunConfig", rules: "Protocol", console: "Console") -> None:
    console.print(
        f"{config.engine.name} · {config.model or config.engine.url} · {config.algorithm}"
        f"{f' (draft length {config.draft_length})' if config.draft_length else ''} · "
        f"{config.edition}/{config.config} · protocol {rules.name}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def _numbers(text: str | None) -> list[int]:
    """One concurrency, or several with commas between them; none where it was not given."""
    if text is None:
        return []
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdecimal() for part in parts):
        hint = "; write every number out" if "…" in text or "..." in text else ""
        raise ConfigError(
            f"--concurrency {text}: a whole number is expected, or several with commas, such as 1,2,4{hint}"
        )
    found = list(map(int, parts))
    if len(set(found)) < len(found):
        raise ConfigError(f"--concurrency {text}: a number is given twice")
    return found


def _measure_each(config: "RunConfig", rules: "Protocol", several: list[int], folder: Path, console: "Console") -> None:
    """A sweep over the concurrency alone, from the lowest that is given to the last."""
    from speed_bench.engines import identity
    from speed_bench.sweep.plan import plan
    from speed_bench.sweep.spec import spec_of

    base = config.model_dump(mode="json", exclude={"baseline", "concurrency"})
    spec = spec_of(
        {
            "protocol": rules.based_on,
            "base": base,
            "axes": {"concurrency": several},
            "order": "listed",
            "baseline": config.baseline,
        }
    )
    measure(spec, plan(spec, detect=identity.detect), folder, console, show=_print_points)


def _print_points(folder: Path, console: "Console") -> "Summary":
    from speed_bench.report.sweep import print_state
    from speed_bench.report.sweep_curves import points_of
    from speed_bench.report.throughput import WIDTH, print_points
    from speed_bench.sweep.summary import summarise

    summary = summarise(folder)
    if not console.is_terminal:
        console.width = max(console.width, WIDTH)
    if points := points_of(summary.cells, folder):
        print_points(points, console)
    print_state(summary, folder, console, client=False)
    return summary


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


def _print(scores: "Scores", folder: Path, run: "RunFile", console: "Console") -> None:
    from speed_bench.data.editions import RANDOM
    from speed_bench.report.terminal import print_scores
    from speed_bench.run_scores import require_as_asked
    from speed_bench.runner.journal import read_segments

    print_scores(
        scores,
        folder,
        run.provenance.model,
        console,
        simulated=run.config.engine.name == "simulator",
        random_prompts=run.provenance.data.edition.startswith(RANDOM),
    )
    for doubt in (require_as_asked(scores, run.config.algorithm), run.timed_elsewhere(read_segments(folder))):
        if doubt:
            click.echo(doubt, err=True)
