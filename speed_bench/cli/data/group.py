"""The group that the data verbs hang on."""

from speed_bench.cli.group import cli


@cli.group(short_help="Make, check and exchange prompts.")
def data() -> None:
    """Make, check and exchange prompts: editions, the sources they are from, the files of other tools."""
