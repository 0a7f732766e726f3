"""`speed-bench data prepare`."""

import shlex
from pathlib import Path

import click

from speed_bench.cli.data.group import data
from speed_bench.errors import ConfigError, unknown

EXAMPLES = """
\b
Examples:
  speed-bench data prepare --config qualitative --out official      880 prompts, sources from the Hub and the web
  speed-bench data prepare --config all --out official              all six configs
  speed-bench data prepare --config throughput_1k --out official --mirror sources     sources from a directory
  speed-bench data prepare --config qualitative --out official --rows SPEED-Bench --builder-file speed.py
  speed-bench run --edition official --config qualitative           measure with them
"""


@data.command(short_help="Make the official edition: fetch the prompts of nvidia/SPEED-Bench.", epilog=EXAMPLES)
@click.option("--config", required=True, metavar="NAME|all", help="What to make.")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="DIR", help="The edition's folder.")
@click.option(
    "--revision",
    type=click.Choice(["v1.0", "v1.1"]),
    default="v1.1",
    show_default=True,
    help="Of nvidia/SPEED-Bench; v1.1 names other records in the throughput configs.",
)
@click.option(
    "--rows",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="The published rows: a .parquet, a .jsonl, or a folder with CONFIG/*.parquet. [default: the Hub]",
)
@click.option(
    "--builder-file",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="A copy of the official builder, whose prompt texts are read. [default: its repository]",
)
@click.option("--mirror", type=click.Path(path_type=Path), metavar="DIR", help="Sources from here, not from the Hub.")
@click.option("--force", is_flag=True, help="Replace configs that --out holds already.")
def prepare(
    config: str,
    out: Path,
    revision: str,
    rows: Path | None,
    builder_file: Path | None,
    mirror: Path | None,
    force: bool,
) -> None:
    """Make the edition `official` on this machine: the published rows, and where they hold a placeholder, the prompt
    as the official builder (NVIDIA/Model-Optimizer) makes it from its source.

    All rows of a config are resolved, or none is written. What was resolved is kept, so that a run that was stopped
    goes on where it was. The result may not be passed on.
    """
    from rich.console import Console

    from speed_bench.data import configs, folders
    from speed_bench.data.official import builder_file as official
    from speed_bench.data.official import prepare as official_edition
    from speed_bench.data.official import rows as published
    from speed_bench.data.official.partial import Partial
    from speed_bench.data.official.records import Records
    from speed_bench.data.sources.upstream import open_library
    from speed_bench.report.building import Stages

    if config not in ("all", *configs.NUM_ROWS):
        raise ConfigError(unknown("config", config, ("all", *configs.NUM_ROWS)))
    names = list(configs.NUM_ROWS) if config == "all" else [config]
    if len(names) > 1 and rows is not None and not rows.is_dir():
        raise ConfigError(f"{rows} is one file and cannot hold all configs; give a folder with CONFIG/*.parquet")
    version = revision.removeprefix("v")
    folders.require_new(out, names, force=force, edition=("official", version))
    click.echo(f"note: {official_edition.NOTICE}", err=True)
    builder = official_edition.Builder.of(official.read(builder_file))
    with Stages(Console(stderr=True)) as stages:
        library = open_library(mirror, stages.fetched)
        planned = [published.read(name, version, rows) for name in names]
        for each in planned:
            configs.require_whole(each.name, len(each.rows), str(rows or published.REPO))
        official_edition.check(planned, library)
        records = Records(library)
        for each in planned:
            waiting = official_edition.partial_path(out, each.name, version)
            try:
                with Partial(waiting, builder.facts["file_sha256"]) as partial:
                    resolved = official_edition.resolve(each, builder, records, partial, stages)
            except KeyboardInterrupt as interrupted:
                interrupted.add_note(f"what was resolved is kept in {waiting}; the same command goes on")
                raise
            official_edition.write(out, version, each.name, resolved, builder, library)
            partial.remove()
            click.echo(f"{out / each.name}: {len(resolved.rows):,} rows")
    click.echo(f"use: speed-bench run --edition {shlex.quote(str(out))} --config {names[0]}")
