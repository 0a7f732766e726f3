"""The command that the verbs hang on."""

import click


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="speed-bench")
def cli() -> None:
    """Measure speculative decoding: exact acceptance, fair timing, results that others can check."""
