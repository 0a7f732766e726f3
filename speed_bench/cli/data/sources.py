"""`speed-bench data sources`."""

import sys
from pathlib import Path

import click

from speed_bench.cli.data.group import data

WIDTH = 200
"""Columns of the table where it goes to a file: no name is cut."""


@data.command(short_help="List where prompts come from, under which licence, and what a mirror has.")
@click.option(
    "--mirror",
    metavar="DIR",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A folder that stands in for the Hub and the web: show what it has of each source.",
)
@click.option("--check", is_flag=True, help="Read every file that the mirror lists, and compare its sha256.")
@click.option("--markdown", is_flag=True, help="The tables of the docs.")
def sources(mirror: Path | None, check: bool, markdown: bool) -> None:
    """List the sources: revision, licence, whether their text may be passed on, which are gated, what they feed.

    \b
    Examples:
      speed-bench data sources
      speed-bench data sources --mirror DIR            what a mirror has of each
      speed-bench data sources --mirror DIR --check    and whether it is what its MANIFEST.json says
    """
    from rich.console import Console

    from speed_bench.data.sources.library import Mirror
    from speed_bench.report import sources as listing

    if markdown:
        click.echo("\n".join(listing.markdown()))
        return
    if check and mirror is None:
        raise click.UsageError("--check is about a mirror; give one with --mirror DIR")
    held = None if mirror is None else Mirror(mirror)
    Console(width=None if sys.stdout.isatty() else WIDTH).print(listing.table(held))
    if held is not None and mirror is not None:
        for line in listing.unknown_folders(held, mirror):
            click.echo(line)
        if check:
            click.echo(f"{held.check()} files are what MANIFEST.json says")
