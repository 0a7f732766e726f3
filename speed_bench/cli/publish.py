"""`speed-bench publish`: what goes to the Hugging Face Hub."""

import click

from speed_bench.cli.group import cli


@cli.group(short_help="Put the metrics, or an edition of the prompts, on the Hugging Face Hub.")
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


@publish.command(name="dataset", short_help='An edition of the prompts, so that load_dataset("OWNER/NAME") works.')
@click.option("--repo", "repo_id", required=True, metavar="OWNER/NAME", help="The dataset repository.")
@click.option("--edition", required=True, metavar="NAME|PATH", help="A bundled edition, or a folder that is one.")
@click.option("--config", "configs", multiple=True, metavar="NAME", help="Only this config; may be repeated.")
@click.option("--private", is_flag=True, help="Make the repository a private one; one that is public is refused.")
@click.option("--dry-run", is_flag=True, help="List what would go up; needs no token and no network.")
def publish_dataset(repo_id: str, edition: str, configs: tuple[str, ...], private: bool, dry_run: bool) -> None:
    """Make or update the dataset of an edition: rows, manifest, card and licences, in one commit.

    The edition is verified first. Only rows whose source is redistributable go up with their text; of the others a
    placeholder does, and their hashes. No flag changes that.

    \b
    Examples:
      speed-bench publish dataset --repo my-org/speed-bench-open --edition open --dry-run
      speed-bench publish dataset --repo my-org/speed-bench --edition editions/curated
    """
    import tempfile
    from pathlib import Path

    from speed_bench import publish_dataset as datasets
    from speed_bench.data.release import release

    datasets.checked_repo(repo_id)
    with tempfile.TemporaryDirectory(prefix="speed-bench-") as place:
        released = release(edition, configs, repo_id, Path(place))
        for line in datasets.listing(released, repo_id):
            click.echo(line)
        if dry_run:
            click.echo("nothing was sent")
            return
        change = datasets.publish(released, repo_id, private=private)
    click.echo(f"{change:<9}  {datasets.page(repo_id)}")
    if released.num_masked and change == "created":
        click.echo("its card has a note for those who ask for access; the settings page of the dataset turns that on")
    click.echo(f'use: load_dataset("{repo_id}", "{released.configs[0]}")')
