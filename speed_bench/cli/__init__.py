"""The verbs, a module each. Everything heavy is imported inside them, so that `--help` answers at once."""

import sys
from collections.abc import Sequence

import click

from speed_bench.cli import data, engines, install, power, predict, publish, run, sweep, synthetic
from speed_bench.cli.group import cli
from speed_bench.errors import ConfigError, SpeedBenchError

__all__ = ["cli", "data", "engines", "install", "main", "power", "predict", "publish", "run", "sweep", "synthetic"]


def main() -> None:
    """Run a verb; an error for the user is one sentence and exit code 2, any other keeps its traceback."""
    try:
        _refuse_empty(sys.argv[1:])
        cli(standalone_mode=False)
    except click.exceptions.Abort as aborted:  # what click makes of Ctrl-C
        _say("stopped", aborted.__cause__)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except SpeedBenchError as error:
        _say(f"error: {error}", error)
        sys.exit(2)


def _refuse_empty(arguments: Sequence[str]) -> None:
    """An empty argument is a variable of the shell that is not set, never what was meant."""
    for before, argument in zip(("", *arguments), arguments, strict=False):
        if argument == "" or (argument.startswith("--") and argument.endswith("=")):
            raise ConfigError(f"an argument is empty{f' (after {before})' if before else ''}; is a variable not set?")


def _say(sentence: str, error: BaseException | None) -> None:
    """What went wrong, then what is kept and how to go on."""
    for line in (sentence, *getattr(error, "__notes__", ())):
        click.echo(line, err=True)
