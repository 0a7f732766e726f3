"""`speed-bench power`."""

from pathlib import Path

import click

from speed_bench.cli.group import cli


@cli.command(short_help="How many conversations it takes to tell two drafters apart.")
@click.argument("runs", nargs=-1, type=click.Path(path_type=Path), metavar="[RUN [OTHER]]")
@click.option("--sd", type=float, metavar="SD", help="Instead of runs: sd of the paired difference in a category.")
@click.option(
    "--difference", "differences", type=float, multiple=True, metavar="D", help="Repeatable. [default: 0.02, 0.05, 0.1]"
)
@click.option("--power", default=0.8, show_default=True, metavar="P", help="Probability of finding the difference.")
@click.option("--confidence", default=0.95, show_default=True, metavar="C", help="Level of the interval.")
def power(
    runs: tuple[Path, ...], sd: float | None, differences: tuple[float, ...], power: float, confidence: float
) -> None:
    """How many conversations it takes to tell two drafters apart by their acceptance length.

    From two runs of the same prompts: what the paired differences between them spread. From one run: what
    its own lengths spread, for another drafter whose lengths correlate with them by 0, 0.5 or 0.9.

    \b
    Examples:
      speed-bench power runs/eagle3 runs/ngram
      speed-bench power runs/eagle3 --difference 0.03
      speed-bench power --sd 0.3 --power 0.9
    """
    from rich.console import Console

    from speed_bench.power import Spread, spreads_of
    from speed_bench.report.power import print_power
    from speed_bench.runner.journal import read_records

    if (sd is None) == (not runs) or len(runs) > 2:
        raise click.UsageError("give one run folder, two of the same prompts, or --sd instead of them")
    for name, value in (("--power", power), ("--confidence", confidence)):
        if not 0 < value < 1:
            raise click.UsageError(f"{name} {value:g}: a probability lies between 0 and 1")
    for name, value in (*(("--difference", each) for each in differences), *([("--sd", sd)] if sd is not None else [])):
        if not 1e-6 <= value <= 1e6:
            raise click.UsageError(f"{name} {value:g}: it is a number of tokens per step above 0, from 1e-6 to 1e6")
    if power <= 1 - confidence:
        raise click.UsageError(
            f"--power {power:g} at --confidence {confidence:g}: two equal drafters differ that often"
        )
    print_power(
        [Spread("as given", sd)] if sd is not None else spreads_of([read_records(run) for run in runs]),
        differences or (0.02, 0.05, 0.1),
        power=power,
        confidence_level=confidence,
        console=Console(),
    )
