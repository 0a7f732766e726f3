"""The README.md of an edition's folder: a dataset card of the Hub, filled from the manifest alone."""

from collections.abc import Mapping
from typing import Any


def card(manifest: Mapping[str, Any]) -> str:
    """The card, with the YAML that `load_dataset` of datasets 3, 4 and 5 reads."""
    configs = manifest["configs"]
    lines = ["---", "configs:"]
    for name in configs:
        lines += [f"- config_name: {name}", "  data_files:", "  - split: test", f"    path: {name}/test-*.parquet"]
    lines += ["---", "", f"# SPEED-Bench, edition {manifest['edition']} {manifest['version']}", ""]
    lines += ["| config | rows | turns | o200k_base tokens |", "|---|---|---|---|"]
    lines += [
        f"| `{name}` | {each['num_rows']} | {each['num_turns']} | {each['num_tokens_o200k']} |"
        for name, each in configs.items()
    ]
    return "\n".join(lines) + "\n"
