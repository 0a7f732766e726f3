"""An edition's rows as a file of another tool: written whole or not at all, with nothing dropped in silence."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from speed_bench.data.exchange.targets import TARGETS, Target
from speed_bench.data.folders import PARQUET, staged
from speed_bench.data.folders import replace as replace_file
from speed_bench.data.rights import may_be_passed_on
from speed_bench.errors import ConfigError, DataError, cause, unknown
from speed_bench.types import Conversation

Turns = Literal["all", "first"]
HUB_NAME: Final = "nvidia/SPEED-Bench"
"""What llama.cpp's client loads. A folder of that name, where it is started, comes before the Hub."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written."""

    num_rows: int
    num_turns: int
    num_turns_left_out: int
    usage: str


def target(name: str) -> Target:
    """A target by its name. Raises ConfigError, with the nearest one, for a name that is none."""
    if name not in TARGETS:
        raise ConfigError(unknown("format", name, TARGETS))
    return TARGETS[name]


def export(
    rows: Sequence[Conversation], config: str, to: Target, path: Path, *, turns: Turns | None, force: bool
) -> Exported:
    """Write rows as a file that a tool reads.

    A conversation of several turns is refused where the file can hold one, unless `turns` is "first". Raises
    ConfigError before anything is written, DataError where the file cannot be.
    """
    _require_suffix(to, path)
    place = path / HUB_NAME / config if _is_folder(to) else path
    if place.exists() and not force:
        raise ConfigError(f"{place} exists; choose another --out, or --force to replace it")
    kept = _cut(rows, config, to, turns)
    try:
        if _is_folder(to):
            _write_folder(place, to.render(kept))
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, to.render(kept))
    except OSError as error:
        raise DataError(f"{path} cannot be written: {cause(error)}; what was there before is untouched") from error
    num_before, num_turns = (sum(len(row.turns) for row in each) for each in (rows, kept))
    return Exported(len(kept), num_turns, num_before - num_turns, to.usage(path, config, len(kept)))


def num_restricted(manifest: Mapping[str, Any], config: str, rows: Iterable[Conversation]) -> int:
    """How many of these rows have a text that may not be passed on, or of which that is not known."""
    entries = manifest["configs"][config]["rows"]
    return sum(not may_be_passed_on(row, entries[row.question_id], manifest) for row in rows)


def _cut(rows: Sequence[Conversation], config: str, to: Target, turns: Turns | None) -> Sequence[Conversation]:
    num = sum(row.multiturn for row in rows)
    if turns != "first" and num and not to.all_turns:
        carry = ", ".join(name for name, each in TARGETS.items() if each.all_turns)
        raise ConfigError(
            f"{num} of the {len(rows)} rows of {config} {'has' if num == 1 else 'have'} more than one turn, "
            f"and {to.reader} sends one per row; --turns first leaves out the others, or choose a format "
            f"that holds them: {carry}"
        )
    if turns != "first":
        return rows
    return [replace(row, turns=row.turns[:1], multiturn=False) if row.multiturn else row for row in rows]


def _is_folder(to: Target) -> bool:
    return not to.suffixes


def _require_suffix(to: Target, path: Path) -> None:
    if to.suffixes and path.suffix not in to.suffixes:
        raise ConfigError(f"--out {path} must end in {' or '.join(to.suffixes)}, as the format {to.name} is")
    if path.is_dir() and not _is_folder(to):
        raise ConfigError(f"--out {path} is a folder; the format {to.name} is a file")
    if path.exists() and not path.is_dir() and _is_folder(to):
        raise ConfigError(f"--out {path} is a file; the format {to.name} is a folder")


def _write_folder(place: Path, parquet: bytes) -> None:
    """A dataset folder as the Hub has them, with the configs that were exported into it so far."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with staged(place) as aside:
        (aside / PARQUET).write_bytes(parquet)
    configs = sorted(each.parent.name for each in place.parent.glob(f"*/{PARQUET}"))
    lines = ["---", "configs:"]
    for name in configs:
        lines += [f"- config_name: {name}", "  data_files:", "  - split: test", f"    path: {name}/test-*.parquet"]
    lines += [
        "---",
        "",
        "Written by `speed-bench data export --to llama-cpp`, not nvidia's dataset.",
    ]
    replace_file(place.parent / "README.md", ("\n".join(lines) + "\n").encode())
