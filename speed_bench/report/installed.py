"""What `speed-bench install` says: what is in the cache, what was changed, how to use it."""

import importlib.metadata
import shlex
from collections.abc import Sequence
from pathlib import Path

from speed_bench.data.configs import NUM_ROWS, QUALITATIVE, Chosen
from speed_bench.data.editions import folder_of, read_manifest
from speed_bench.install import Change, Place, module_folder
from speed_bench.install_data import DEFAULT_EDITION
from speed_bench.install_data import Change as DataChange
from speed_bench.install_data import Place as DataPlace
from speed_bench.metric_files import MetricModule


def table(places: Sequence[Place]) -> list[str]:
    """What is installed, a line per module, and what to do if a module is missing or outdated."""
    rows = [("module", "installed", "current?", "where")]
    for place in places:
        state = "edited" if place.edited else "yes" if place.current else "no"
        rows.append((place.module.name, (place.version or "-")[:12], state, str(place.folder)))
    lines = _columns(rows)
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
    return [*lines, *_missing("evaluate")]


def data_table(places: Sequence[DataPlace], asked: Chosen | None, home: Path) -> list[str]:
    """Which rows are installed, a line per config; `current?` compares with the edition that was asked for, if any."""
    if not places:
        return data_usage(places, home)
    rows = [("config", "edition", "version", "rows", "current?", "manifest sha256")]
    for place in places:
        held = place.versions[0].contents if place.versions else None
        said = (held.edition, held.version, str(held.num_rows)) if held else ("-", "-", "-")
        current = place.holds(asked) if asked else place.current
        state = "yes" if current else "not ours" if place.versions and not held else "no"
        rows.append((place.config, *said, state, held.manifest_sha256 if held else "-"))
    lines = [*_columns(rows), f"in {home}"]
    if any(row[4] != "yes" for row in rows[1:]):
        lines.append(f"speed-bench install --edition {_asked(asked, places) if asked else 'PATH'} makes them current")
    return lines


def _asked(asked: Chosen, places: Sequence[DataPlace]) -> str:
    """The edition as a shell takes it, with the configs where some are not installed unless they are named."""
    words = [shlex.quote(str(asked.folder))]
    if not set(asked.configs) <= set(NUM_ROWS):
        words += [f"--config {config}" for config in asked.configs]
    if any(place.foreign(asked) for place in places):
        words.append("--force")
    return " ".join(words)


def data_summary(changes: Sequence[tuple[str, DataChange]], edition: Chosen | None, home: Path) -> list[str]:
    """What was done with the rows, a line per config."""
    lines = []
    for config, change in changes:
        now = change in ("installed", "updated", "unchanged") and edition
        said = f"{edition.name} {edition.version}, manifest {edition.configs[config]}" if now and edition else ""
        lines.append(f"{change:<9}  {config:<22}  {said}".rstrip())
        if change == "kept":
            lines.append(f"  {home / config} holds another edition, or another program's data; --force replaces it")
    return [*lines, f"in {home}"] if changes else []


def data_usage(places: Sequence[DataPlace], home: Path) -> list[str]:
    """How to use the rows that are installed, a sentence per line; or why there are none."""
    ready = [place.config for place in places if place.current]
    if not ready:
        return [_no_data()]
    where = "from any directory" if home.is_absolute() else "from this directory, since the cache's path is relative"
    lines = [
        f"use {where}: " + ", ".join(f'load_dataset("speed-bench", "{config}")' for config in ready),
        "HF_HUB_OFFLINE=1 makes it answer at once; else it asks the Hub first, which takes ~25 s without a network, "
        "and minutes if the Hub's address takes connections but never answers",
    ]
    return [*lines, *_missing("datasets")]


def _no_data() -> str:
    rows = read_manifest(folder_of(DEFAULT_EDITION))["configs"]
    if QUALITATIVE in rows:
        return "; then ".join((*_missing("datasets"), f"speed-bench install puts the edition {DEFAULT_EDITION} there"))
    return (
        f"data: the edition {DEFAULT_EDITION} has {max(len(each['rows']) for each in rows.values())} of the "
        f'{NUM_ROWS[QUALITATIVE]} rows that load_dataset("speed-bench", "{QUALITATIVE}") needs, so no data is '
        "installed; speed-bench install --edition PATH installs another one, and a run takes any by path"
    )


def _missing(package: str) -> list[str]:
    """What to do if a package is not installed; to look takes no import, which takes seconds."""
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return [f"{package} is not installed here; pip install {package}"]
    return []


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
