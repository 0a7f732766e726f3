"""`speed-bench synthetic`: by how much random prompts overstate what real ones show."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from speed_bench.cli.group import cli
from speed_bench.cli.run_options import config_options, settings_given
from speed_bench.cli.sweep import new_folder
from speed_bench.errors import ConfigError, RunFolderError, SpeedBenchError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from speed_bench.config import Protocol, RunConfig
    from speed_bench.overstatement import Measured
    from speed_bench.runner.preparation import Inputs

LENGTHS_OF = 32
"""Prompts of each side whose length for the model is looked at before anything is measured."""
EXAMPLES = """
\b
Examples:
  speed-bench synthetic                              the embedded model on the starter prompts
  speed-bench synthetic --edition curated/ --config throughput_8k --concurrency 32 --engine vllm \\
      --model meta-llama/Llama-3.3-70B-Instruct --algorithm eagle3 --draft yuhuili/EAGLE3-LLaMA3.3-Instruct-70B
  speed-bench synthetic --config throughput_8k --edition curated/ --no-baseline --set ignore_eos=true
  speed-bench synthetic --out runs/noise --resume    finish a comparison that was stopped
"""


@cli.command(short_help="Show by how much random prompts overstate throughput and acceptance.", epilog=EXAMPLES)
@partial(config_options, several=False)
@click.option("--random-tokens", type=int, metavar="N", help="Of a random prompt. [default: as the real ones have]")
@click.option("--protocol", metavar="NAME", help="As of `speed-bench run`.")
@click.option("--file", type=click.Path(path_type=Path), metavar="YAML", help="Settings; flags win over it.")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Any setting, such as ignore_eos=true.")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Its folder. [default: runs/<time>-…]")
@click.option("--resume", is_flag=True, help="Finish the comparison in --out; it keeps what is done.")
def synthetic(
    random_tokens: int | None,
    protocol: str | None,
    file: Path | None,
    sets: tuple[str, ...],
    out: Path | None,
    resume: bool,
    **flags: Any,
) -> None:
    """Run the same load on real prompts and on random tokens, and compare.

    Two runs in one folder, real/ and random/, each with its baseline unless --no-baseline.
    """
    from rich.console import Console

    from speed_bench import config as settings
    from speed_bench import synthetic as pair
    from speed_bench.engines import identity
    from speed_bench.report.synthetic import print_introduction, print_lengths
    from speed_bench.runner import journal
    from speed_bench.runner.preparation import prepare

    if resume and out is None:
        raise click.UsageError("--resume needs --out DIR: the folder of the comparison to finish")
    if "," in (flags.get("concurrency") or ""):
        raise ConfigError(f"--concurrency {flags['concurrency']}: one load is compared; give one number")
    given, recorded, begun = settings_given(flags), None, None
    if out is not None:
        begun = pair.open_comparison(out, resume=resume)
        if resume:
            if not journal.is_run(out / pair.REAL):
                raise RunFolderError(
                    f"{out}: nothing was measured yet; leave out --resume, and give its settings again"
                )
            before = journal.read_run_file(out / pair.REAL)
            recorded = (before.config, before.protocol)

    def resolve(extra: dict[str, Any], protocol: str | None) -> "tuple[RunConfig, Protocol]":
        return settings.resolve(
            {**given, **extra}, file=file, sets=sets, protocol=protocol, recorded=recorded, detect=identity.detect
        )

    real, rules = resolve({}, protocol)
    pair.require_comparable(real)
    inputs = prepare(real)
    num_tokens = pair.random_length(begun, random_tokens, real, inputs.rows)
    random, random_rules = resolve(pair.random_flags(num_tokens, len(inputs.rows)), rules.based_on)
    random_inputs = prepare(random)  # what is wrong with it is told now, not when the real prompts are through
    folder, console = out or new_folder("runs", f"synthetic-{real.engine.name}-{real.algorithm}"), Console()
    print_introduction(real, rules, random.edition, len(inputs.rows), console)
    print_lengths(_mean_length(inputs), _mean_length(random_inputs), num_tokens, console)
    if begun is None:
        pair.write_comparison(folder, pair.Synthetic(random_edition=random.edition, numbers=None))
    arms = [(folder / pair.REAL, real, rules), (folder / pair.RANDOM_PROMPTS, random, random_rules)]
    _measure(arms, folder, console, resume=resume)
    _compare(folder, console)


def _mean_length(inputs: "Inputs") -> float:
    """How long prompts are for the model, without its chat template: of the first ones."""
    from speed_bench.synthetic import mean_carried

    encode = inputs.tokenizer.encode
    return mean_carried([len(encode(turn)) for turn in row.turns] for row in inputs.rows[:LENGTHS_OF])


def _measure(
    arms: "Sequence[tuple[Path, RunConfig, Protocol]]", folder: Path, console: "Console", *, resume: bool
) -> None:
    from speed_bench.report.terminal import LiveProgress
    from speed_bench.runner import benchmark, journal

    for at, config, rules in arms:
        console.print(f"{at.name} prompts: {config.edition}/{config.config}", highlight=False, markup=False)
        try:
            benchmark.run(config, rules, at, resume=resume and journal.is_run(at), observer=LiveProgress(console))
        except (KeyboardInterrupt, SpeedBenchError) as stopped:
            if journal.is_run(at):
                stopped.add_note(f"the comparison goes on with: speed-bench synthetic --out {folder} --resume")
            raise


def _compare(folder: Path, console: "Console") -> None:
    """Score both runs, then hold them against each other."""
    from speed_bench import synthetic as pair
    from speed_bench.overstatement import overstatement
    from speed_bench.report.synthetic import print_overstatement
    from speed_bench.runner.journal import read_run_file

    real_run, random_run = (read_run_file(folder / name) for name in (pair.REAL, pair.RANDOM_PROMPTS))
    pair.require_alike(real_run, random_run)
    real, random = _measured(folder / pair.REAL), _measured(folder / pair.RANDOM_PROMPTS)
    numbers = overstatement(real, random)
    edition = random_run.config.edition
    pair.write_comparison(folder, pair.Synthetic(random_edition=edition, numbers=numbers))
    print_overstatement(numbers, real, random, real_run.config, real_run.provenance.model, edition, console)
    console.print(f"comparison: {folder / pair.RESULT}", highlight=False, markup=False, soft_wrap=True)


def _measured(folder: Path) -> "Measured":
    from speed_bench.overstatement import Measured
    from speed_bench.run_scores import baseline_folder, require_as_asked, score_folder
    from speed_bench.runner.journal import read_records, read_run_file

    run, scores = read_run_file(folder), score_folder(folder)
    if doubt := require_as_asked(scores, run.config.algorithm):
        click.echo(f"{folder}: {doubt}", err=True)
    at = baseline_folder(folder, run)
    return Measured(read_records(folder), None if at is None else read_records(at), scores)
