"""`speed-bench sweep`: runs that belong together, one after the other or on a cluster."""

import shlex
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from speed_bench.cli.group import cli
from speed_bench.errors import EngineError, RunFolderError

if TYPE_CHECKING:
    from rich.console import Console

    from speed_bench.sweep.cells import Cell, Place
    from speed_bench.sweep.results import Summary
    from speed_bench.sweep.spec import SweepSpec

PLACES = ("here", "ray")
EXAMPLES = """
\b
Examples:
  speed-bench sweep sweep.yaml --dry-run                 what would be run
  speed-bench sweep sweep.yaml --out sweeps/first        run it; the same again goes on where it stopped
  speed-bench sweep sweeps/first                         go on with it, without its file
  speed-bench sweep sweeps/first --summary               what came of it so far
  speed-bench sweep sweep.yaml --on ray --address auto   every cell a task of a Ray cluster

\b
sweep.yaml:
  base: {engine: {name: vllm, tensor_parallel: 8}, edition: curated}
  axes:
    model: [meta-llama/Llama-3.3-70B-Instruct]
    drafter: [{algorithm: ngram}, {algorithm: eagle3, draft: yuhuili/EAGLE3-LLaMA3.3-Instruct-70B}]
    draft_length: [1, 3, 5]
    concurrency: [1, 8, 64]
    config: [throughput_1k, throughput_8k]
  exclude: [{algorithm: ngram, draft_length: 5}]
  repeats: 3
"""


@cli.command(short_help="Measure many settings against each other.", epilog=EXAMPLES)
@click.argument("sweep", type=click.Path(path_type=Path), metavar="SWEEP.yaml|DIR")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="DIR", help="Its folder. [default: sweeps/<time>-<file>]"
)
@click.option(
    "--on", "place", type=click.Choice(PLACES), default="here", show_default=True, help="Where cells are run."
)
@click.option(
    "--address", metavar="ADDRESS", help="Of the Ray cluster. [default: RAY_ADDRESS, else a Ray of this machine]"
)
@click.option("--dry-run", is_flag=True, help="Print the cells, and how much each asks; run nothing.")
@click.option("--summary", is_flag=True, help="Print what came of the cells so far; run nothing.")
@click.option("--most", type=click.IntRange(min=1), metavar="N", help="Refuse more runs than this. [default: 10000]")
def sweep(
    sweep: Path, out: Path | None, place: str, address: str | None, dry_run: bool, summary: bool, most: int | None
) -> None:
    """Measure the cells of a sweep, each a run of its own; finished ones are not measured again."""
    from rich.console import Console

    from speed_bench.sweep.folder import is_sweep

    if address is not None and place != "ray":
        raise click.UsageError("--address is of a Ray cluster; add --on ray")
    if sweep.is_dir() and out is not None and out.resolve() != sweep.resolve():
        raise click.UsageError(f"{sweep} is the folder of a sweep already; leave out --out, or name its file")
    console = Console()
    folder = sweep if sweep.is_dir() else out
    if summary:
        if folder is None and not sweep.exists():
            raise RunFolderError(f"{sweep} is not there; --summary needs the folder of a sweep")
        if folder is None:
            raise click.UsageError("--summary needs the folder of the sweep: speed-bench sweep DIR --summary")
        print_result(folder, console)
        return
    spec, cells = _planned(sweep, most)
    folder = folder or new_folder("sweeps", sweep.stem)
    if dry_run:
        _print_plan(cells, console)
        return
    if is_sweep(folder) and not sweep.is_dir():
        click.echo(f"{folder} is there already: finished cells are not run again", err=True)
    measure(spec, cells, folder, console, place=place, address=address)


def _planned(sweep: Path, most: int | None) -> "tuple[SweepSpec, list[Cell]]":
    """What a file says, or the folder of a sweep that was begun."""
    from speed_bench.engines import identity
    from speed_bench.sweep.folder import read_sweep
    from speed_bench.sweep.plan import MOST_CELLS, plan
    from speed_bench.sweep.spec import read_spec

    if sweep.is_dir():
        file = read_sweep(sweep)
        return file.spec, file.planned()
    spec = read_spec(sweep)
    cells = plan(spec, most=most or MOST_CELLS, tell=lambda line: click.echo(line, err=True), detect=identity.detect)
    return spec, cells


def measure(
    spec: "SweepSpec",
    cells: "Sequence[Cell]",
    folder: Path,
    console: "Console",
    *,
    place: str = "here",
    address: str | None = None,
    show: "Callable[[Path, Console], Summary] | None" = None,
) -> None:
    """Run the cells of a sweep that are left, then print what came of all of them, as `show` does.

    Raises EngineError where any failed, after all others are through.
    """
    from speed_bench.report.sweep import SweepProgress
    from speed_bench.sweep.folder import is_known_finished
    from speed_bench.sweep.prompts import asked
    from speed_bench.sweep.running import GO_ON, run_sweep

    asked(cells)
    progress = SweepProgress(folder, cells, console, side_by_side=place == "ray")
    flags = "" if place == "here" else f" --on {place}{f' --address {address}' if address else ''}"
    run_sweep(spec, cells, folder, _place(place, address, console), progress, flags=flags)
    summary = (show or print_result)(folder, console)
    failed = {cell.name: cell.baseline for cell in summary.cells if cell.state == "failed"}
    if failed:
        paths = [folder / "cells" / name for name, baseline in failed.items() if baseline not in failed]
        raise EngineError(
            f"{len(failed)} of {len(cells)} cells failed, as said above; when the cause is gone, "
            + _remove([path for path in paths if is_known_finished(path)])
            + GO_ON.format(shlex.quote(str(folder)), flags)
        )


def _remove(whole: "Sequence[Path]") -> str:
    """What to do with cells that have all their turns and are no result: they are not measured again by themselves."""
    if not whole:
        return ""
    more = f" and {len(whole) - 1} more that have all their turns" if len(whole) > 1 else ", which has all its turns"
    return f"remove {shlex.quote(str(whole[0]))}{more}, and "


def _place(name: str, address: str | None, console: "Console") -> "Place":
    from speed_bench.report.terminal import LiveProgress
    from speed_bench.sweep.here import Here

    if name == "here":
        return Here(watch=LiveProgress(console))
    from speed_bench.sweep.on_ray import OnRay

    return OnRay(address, tell=lambda line: console.print(line, highlight=False, markup=False, soft_wrap=True))


def print_result(folder: Path, console: "Console") -> "Summary":
    """Print the tables of a sweep, as far as it is, and return what is in them."""
    from speed_bench.report.sweep import print_summary
    from speed_bench.sweep.summary import summarise

    summary = summarise(folder)
    print_summary(summary, folder, console)
    return summary


def _print_plan(cells: "Sequence[Cell]", console: "Console") -> None:
    from speed_bench.report.sweep import print_plan
    from speed_bench.sweep.prompts import asked

    print_plan(cells, asked(cells), console)


def new_folder(parent: str, name: str) -> Path:
    """A folder under `parent` that is not there yet, named by the time."""
    stem = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{name}"
    taken = [stem, *(f"{stem}-{number}" for number in range(2, 100))]
    return next(path for path in (Path(parent) / each for each in taken) if not path.exists())
