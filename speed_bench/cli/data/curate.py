"""`speed-bench data curate`."""

import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from speed_bench.cli.data.group import data
from speed_bench.errors import ConfigError, unknown

if TYPE_CHECKING:
    from rich.console import Console

    from speed_bench.data.sources.library import Library
    from speed_bench.report.building import Stages

EXAMPLES = """
\b
Examples:
  speed-bench data curate --mirror sources --out curated                  880 prompts: needs the embedder
  speed-bench data curate --config throughput_1k --mirror sources --out curated     no embedder, seconds
  speed-bench data curate --config all --out curated             everything; access to HLE is needed, 4 GB are fetched
  speed-bench data curate --mode published --out plain                    the published procedure as it is
  speed-bench data curate --without hle --without livecodebench --out mine          no gate, no 4 GB download
  speed-bench data curate --pool-limit 500 --mirror sources --out quick   a look: fewer candidates, less to embed
"""


def _a_number(context: click.Context, parameter: click.Parameter, value: float) -> float:
    """Not a number is in every range."""
    if math.isnan(value):
        raise click.BadParameter("nan is no similarity")
    return value


@data.command(short_help="Choose prompts from the sources.", epilog=EXAMPLES)
@click.option("--config", default="qualitative", show_default=True, metavar="NAME|all", help="What to make.")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="DIR", help="The edition's folder.")
@click.option("--mirror", type=click.Path(path_type=Path), metavar="DIR", help="Sources from here, not from the Hub.")
@click.option(
    "--mode",
    type=click.Choice(["capped", "published"]),
    default="capped",
    show_default=True,
    help="With quotas, cap and restarts, or the plain published procedure.",
)
@click.option("--seed", default=0, show_default=True, metavar="N", help="Of the restarts.")
@click.option("--restarts", default=200, show_default=True, type=click.IntRange(1), metavar="N", help="Per category.")
@click.option(
    "--cap",
    callback=_a_number,
    default=0.8,
    show_default=True,
    type=click.FloatRange(0, 1, min_open=True),
    metavar="C",
    help="Highest cosine similarity of two prompts of a category.",
)
@click.option("--allow-close-pairs", is_flag=True, help="Go on where the cap cannot be met, and list the pairs.")
@click.option("--pool-limit", type=click.IntRange(80), metavar="N", help="Candidates per category. [default: all]")
@click.option("--without", multiple=True, metavar="SOURCE", help="Do not read this source. Repeatable.")
@click.option("--embedder", metavar="NAME|DIR", help="A model of sentence-transformers. [default: packaged MiniLM]")
@click.option("--cache", type=click.Path(path_type=Path), metavar="DIR", help="Of the embeddings.")
@click.option("--force", is_flag=True, help="Replace configs that --out holds already.")
def curate(
    config: str,
    out: Path,
    mirror: Path | None,
    embedder: str | None,
    cache: Path | None,
    force: bool,
    **settings: Any,
) -> None:
    """Make the edition `curated`: 80 prompts of each category that are as different from each other as can be, and
    throughput prompts of an exact length.

    What is embedded is kept, so that a run that was stopped goes on where it was.
    """
    from rich.console import Console

    from speed_bench.data import configs, curated, folders
    from speed_bench.data.sources import SOURCES
    from speed_bench.data.sources.upstream import open_library
    from speed_bench.report.building import Stages

    if config not in ("all", *configs.NUM_ROWS):
        raise ConfigError(unknown("config", config, ("all", *configs.NUM_ROWS)))
    names = list(configs.NUM_ROWS) if config == "all" else [config]
    if configs.QUALITATIVE not in names:
        _refuse_what_only_selects()
    for source in settings["without"]:
        if source not in SOURCES:
            raise ConfigError(unknown("source", source, SOURCES))
    folders.require_new(out, names, force=force, edition=(curated.EDITION, curated.RECIPE))
    console = Console()
    with Stages(Console(stderr=True)) as stages:
        library = open_library(mirror, stages.fetched)
        for name in names:
            if name == configs.QUALITATIVE:
                _qualitative(library, out, embedder, cache, settings, stages, console)
            else:
                _throughput(library, out, name, settings["without"], stages)
    click.echo(f"use: speed-bench run --edition {shlex.quote(str(out))} --config {names[0]}")


def _refuse_what_only_selects() -> None:
    """A setting that a throughput config does not have was meant for something else."""
    context = click.get_current_context()
    for name in ("mode", "seed", "restarts", "cap", "allow_close_pairs", "pool_limit", "embedder", "cache"):
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{name.replace('_', '-')} is for qualitative: nothing is selected for the others")


def _qualitative(
    library: "Library",
    out: Path,
    embedder: str | None,
    cache: Path | None,
    settings: dict[str, Any],
    stages: "Stages",
    console: "Console",
) -> None:
    from speed_bench.data import curated, folders
    from speed_bench.data.caches import cache_folder
    from speed_bench.data.curation import Settings
    from speed_bench.data.curation import curate as chosen_from
    from speed_bench.report.curation import draw_map, print_curation

    curation = chosen_from(
        library, Settings(**settings), embedder=embedder, cache=cache or cache_folder("embeddings"), progress=stages
    )
    folders.write_config(
        out,
        curated.curated_facts(library, curation.rows),
        "qualitative",
        curation.rows,
        source_of=curated.source_of,
        about=curation.about,
        files={"map.png": draw_map(curation.chosen)},
    )
    print_curation(curation.about, console)
    _say_written(out, "qualitative", len(curation.rows))
    click.echo(f"{out / 'qualitative' / 'map.png'}: pools and picks")


def _throughput(library: "Library", out: Path, config: str, without: Sequence[str], stages: "Stages") -> None:
    from speed_bench.data import curated, folders
    from speed_bench.data.throughput import throughput_rows

    made = throughput_rows(library, config, stages, without=without)
    folders.write_config(
        out,
        curated.curated_facts(library, made.rows),
        config,
        made.rows,
        source_of=curated.source_of,
        about=made.about,
    )
    _say_written(out, config, len(made.rows))


def _say_written(out: Path, config: str, num_rows: int) -> None:
    click.echo(f"{out / config}: {num_rows:,} rows")
