"""`speed-bench install`."""

import sys

import click

from speed_bench.cli.group import cli


@cli.command(short_help="Make evaluate.load and load_dataset find metrics and prompts by name, offline, anywhere.")
@click.option("--edition", metavar="NAME|PATH", help="The prompts to install: a bundled edition, or a folder.")
@click.option("--config", "configs", multiple=True, metavar="NAME", help="Only this config of it; can be repeated.")
@click.option("--check", is_flag=True, help="Show what is installed; exit code 1 if something is missing or outdated.")
@click.option("--remove", "removing", is_flag=True, help="Take modules and prompts out of the caches again.")
@click.option("--force", is_flag=True, help="Replace or remove what is kept otherwise: edits, another edition.")
def install(edition: str | None, configs: tuple[str, ...], check: bool, removing: bool, force: bool) -> None:
    """Put metrics and prompts where the Hugging Face libraries look up bare names: their caches.

    \b
    Examples:
      speed-bench install                   then: evaluate.load("speed_bench_acceptance")
      speed-bench install --edition PATH    and: load_dataset("speed-bench", "qualitative")
      speed-bench install --check           exit code 1 if something is missing or outdated
      speed-bench install --remove
    """
    if check and (removing or force):
        raise click.UsageError("--check cannot be given with --remove or --force: it looks, they change")
    if removing and edition:
        raise click.UsageError("--edition cannot be given with --remove: it says what comes; --config says what goes")
    if check:
        done = _check(edition, configs)
    elif removing:
        done = _remove(configs, force=force)
    else:
        done = _install(edition, configs, force=force)
    sys.exit(0 if done else 1)


def _install(edition: str | None, configs: tuple[str, ...], *, force: bool) -> bool:
    """Install modules and prompts, say so, and give whether all that was asked for is there."""
    import os
    from importlib.util import find_spec

    from speed_bench import install as metrics
    from speed_bench import install_data as data
    from speed_bench.data.configs import choose
    from speed_bench.metric_files import metric_modules
    from speed_bench.report import installed

    modules, folder, home = metric_modules(), metrics.modules_folder(os.environ), data.data_folder(os.environ)
    asked = choose(edition or data.DEFAULT_EDITION, configs) if edition or configs else None
    chosen = asked or (data.default() if find_spec("pyarrow") else None)
    rows = data.install(chosen, home, force=force) if chosen else []
    changes = metrics.install(modules, folder, force=force)
    for line in (*installed.summary(changes, folder), *installed.usage(modules, folder)):
        click.echo(line)
    for line in (*installed.data_summary(rows, chosen, home), *installed.data_usage(data.look(home), home)):
        click.echo(line)
    kept = {change for _, change in changes} | {change for _, change in rows if asked}
    return "kept" not in kept


def _remove(configs: tuple[str, ...], *, force: bool) -> bool:
    """Remove modules and prompts, or the prompts of these configs alone; give whether nothing was kept."""
    import os

    from speed_bench import install as metrics
    from speed_bench import install_data as data
    from speed_bench.metric_files import metric_modules
    from speed_bench.report import installed

    folder, home = metrics.modules_folder(os.environ), data.data_folder(os.environ)
    rows = data.remove(home, configs, force=force)
    changes = [] if configs else metrics.remove(metric_modules(), folder, force=force)
    for line in (*(installed.summary(changes, folder) if changes else ()), *installed.data_summary(rows, None, home)):
        click.echo(line)
    return "kept" not in {change for _, change in (*changes, *rows)}


def _check(edition: str | None, configs: tuple[str, ...]) -> bool:
    """Show what is installed, and give whether that is what was asked for, whole."""
    import os

    from speed_bench import install as metrics
    from speed_bench import install_data as data
    from speed_bench.data.configs import choose
    from speed_bench.metric_files import metric_modules
    from speed_bench.report import installed

    folder, home = metrics.modules_folder(os.environ), data.data_folder(os.environ)
    modules = [metrics.look(module, folder) for module in metric_modules()]
    asked = None
    if edition:
        asked = choose(edition, configs) if configs else data.installed_of(edition, home)
    places = data.look(home, tuple(asked.configs) if asked else configs)
    for line in (*installed.table(modules), *installed.data_table(places, asked, home)):
        click.echo(line)
    whole = all(place.holds(asked) if asked else place.current for place in places)
    return whole and bool(places or not data.default()) and all(place.current for place in modules)
