"""`speed-bench install`."""

import sys

import click

from speed_bench.cli.group import cli


@cli.command(short_help="Make evaluate.load find the metrics by name, offline, from any directory.")
@click.option("--check", is_flag=True, help="Show what is installed; exit code 1 if a module is missing or outdated.")
@click.option("--remove", "removing", is_flag=True, help="Take the modules out of the cache again.")
@click.option("--force", is_flag=True, help="Replace or remove edited modules too, which are kept otherwise.")
def install(check: bool, removing: bool, force: bool) -> None:
    """Put the metric modules where `evaluate` looks up bare names: the cache of the Hugging Face libraries.

    \b
    Examples:
      speed-bench install              then: evaluate.load("speed_bench_acceptance")
      speed-bench install --check      exit code 1 if a module is missing or outdated
      speed-bench install --remove
    """
    import os

    from speed_bench import install as cache
    from speed_bench.metric_files import metric_modules
    from speed_bench.report import installed

    if check and (removing or force):
        raise click.UsageError("--check cannot be given with --remove or --force: it looks, they change")
    modules, folder = metric_modules(), cache.modules_folder(os.environ)
    if check:
        places = [cache.look(module, folder) for module in modules]
        for line in (*installed.table(places), installed.data_sentence()):
            click.echo(line)
        sys.exit(0 if all(place.current for place in places) else 1)
    changes = (cache.remove if removing else cache.install)(modules, folder, force=force)
    advice = () if removing else (*installed.usage(modules, folder), installed.data_sentence())
    for line in (*installed.summary(changes, folder), *advice):
        click.echo(line)
    if any(change == "kept" for _, change in changes):
        sys.exit(1)
