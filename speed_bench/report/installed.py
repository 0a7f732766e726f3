"""What `speed-bench install` says: what is in the cache, what was changed, how to use it."""

import importlib.metadata
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from speed_bench.data.editions import load
from speed_bench.install import Change, Place, module_folder
from speed_bench.metric_files import MetricModule

QUALITATIVE_ROWS: Final = 880


def table(places: Sequence[Place]) -> list[str]:
    """What is installed, a line per module, and what to do if a module is missing or outdated."""
    rows = [("module", "installed", "current?", "where")]
    for place in places:
        state = "edited" if place.edited else "yes" if place.current else "no"
        rows.append((place.module.name, (place.version or "-")[:12], state, str(place.folder)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    if all(place.current for place in places):
        return lines
    force = " --force" if any(place.edited for place in places) else ""
    return [*lines, f"speed-bench install{force} makes them current"]


def summary(changes: Sequence[tuple[MetricModule, Change]], folder: Path) -> list[str]:
    """What was done, a line per module."""
    lines = []
    for module, change in changes:
        version = module.sha256[:12] if change in ("installed", "updated", "unchanged") else ""
        lines.append(f"{change:<9}  {module.name:<22}  {version}".rstrip())
        if change == "kept":
            lines.append(f"  {module_folder(module, folder)} was edited; --force gives the edit up")
    return [*lines, f"in {folder}"]


def usage(modules: Sequence[MetricModule], folder: Path) -> list[str]:
    """How to use what is installed in the cache at `folder`, a sentence per line."""
    where = "from any directory" if folder.is_absolute() else "from this directory, since the cache's path is relative"
    lines = [
        f"use {where}: " + ", ".join(f'evaluate.load("{module.name}")' for module in modules),
        "HF_EVALUATE_OFFLINE=1 makes it answer at once; else it asks the Hub first, which takes ~1.6 s without a "
        "network, and minutes if the Hub's address takes connections but never answers",
    ]
    try:
        importlib.metadata.version("evaluate")  # an import takes 10 s
    except importlib.metadata.PackageNotFoundError:
        lines.append("evaluate is not installed here; pip install evaluate")
    return lines


def data_sentence() -> str:
    """Why `load_dataset("speed-bench", "qualitative")` is not installed."""
    return (
        f"data: the edition open has {len(load('open', 'starter').rows)} of the {QUALITATIVE_ROWS} rows that "
        'load_dataset("speed-bench", "qualitative") needs, so no data is installed; '
        "a run takes any edition by path: speed-bench run --edition PATH"
    )
