"""`speed-bench engines`."""

import click

from speed_bench.cli.group import cli


@cli.command(short_help="List what can be measured here, and how to install it.")
@click.option("--markdown", is_flag=True, help="How each engine spells each algorithm, as a table of the docs.")
def engines(markdown: bool) -> None:
    """List the engines: which are installed here, which algorithms each has, how to install them.

    \b
    Examples:
      speed-bench engines
      speed-bench engines --markdown      algorithm by engine, and how each pair was checked
    """
    from rich.console import Console

    from speed_bench.report import engines as listing
    from speed_bench.runner.preparation import installed

    if markdown:
        click.echo("\n".join(listing.markdown()))
        return
    Console().print(listing.table({name: installed(speaks) for name, speaks in listing.dialects().items()}))
