"""`speed-bench publish`: what goes to the Hugging Face Hub."""

import click

from speed_bench.cli.group import cli


@cli.group(short_help="Put the metrics on the Hugging Face Hub.")
def publish() -> None:
    """Put what others use on the Hugging Face Hub, with the token of HF_TOKEN or of `hf auth login`."""


@publish.command(name="metrics", short_help='One Space per metric, so that evaluate.load("ORG/…") works for everyone.')
@click.option("--repo", "org", required=True, metavar="ORG", help="The organization or user that owns the Spaces.")
@click.option("--dry-run", is_flag=True, help="List what would go where; needs no token and no network.")
def publish_metrics(org: str, dry_run: bool) -> None:
    """Make or update one Space per metric module. A Space that holds the same files is left as it is.

    \b
    Examples:
      speed-bench publish metrics --repo my-org --dry-run
      speed-bench publish metrics --repo my-org
    """
    from speed_bench import publish as hub
    from speed_bench.metric_files import metric_modules

    spaces = hub.spaces(org, metric_modules())
    if dry_run:
        for line in hub.listing(spaces):
            click.echo(line)
        return
    for space, change in hub.publish(spaces):
        click.echo(f"{change:<9}  {space.url}")
    click.echo(f'use: evaluate.load("{spaces[0].repo_id}")')
