"""The folder of a sweep: what it is, and what has become of each cell.

sweep.json       the settings, and the cells that follow from them with their names
errors.json      why cells failed, by name; of those that have not ended in order since
cells/<name>/    the run folder of each cell; `<name>.stopped-<n>` beside it is what was put aside
summary.json     the numbers of all cells
summary.csv      the same, a line per cell
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from speed_bench.config import Protocol, RunConfig
from speed_bench.errors import RunFolderError
from speed_bench.provenance import versions
from speed_bench.runner.journal import is_run, locked, read_run_file, write_whole
from speed_bench.runner.preparation import MEASURING_PACKAGES
from speed_bench.sweep.cells import Cell
from speed_bench.sweep.spec import SweepSpec

State = Literal["waiting", "begun", "finished", "failed"]
_SWEEP_FILE = "sweep.json"
_ERRORS = "errors.json"
_NAMED = 3
"""So many differences are named."""


class _CellEntry(BaseModel):
    """A cell in `sweep.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    config: RunConfig
    protocol: Protocol
    repeat: int
    baseline: str | None


class SweepFile(BaseModel):
    """`sweep.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    spec: SweepSpec
    cells: tuple[_CellEntry, ...]
    versions: dict[str, str]
    """Of Python, speed-bench and what it measures with, where the sweep was begun."""

    @classmethod
    def of(cls, spec: SweepSpec, cells: Sequence[Cell]) -> "SweepFile":
        """Of a sweep that begins now."""
        entries = [
            _CellEntry(
                name=cell.name,
                config=cell.config,
                protocol=cell.protocol,
                repeat=cell.repeat,
                baseline=cell.baseline,
            )
            for cell in cells
        ]
        return cls(spec=spec, cells=tuple(entries), versions=versions(MEASURING_PACKAGES))

    def planned(self) -> list[Cell]:
        """Its cells in the order in which they are run."""
        return [Cell(each.name, each.config, each.protocol, each.repeat, each.baseline) for each in self.cells]

    def difference(self, other: "SweepFile") -> list[str]:
        """In what `other` is another sweep, a phrase each; nothing where it has the same cells."""
        mine, theirs = ({cell.name: cell for cell in file.cells} for file in (self, other))
        if mine.keys() == theirs.keys() and not any(
            mine[name].config.difference(theirs[name].config) or mine[name].baseline != theirs[name].baseline
            for name in mine
        ):
            return []
        before, now = _flat(self.spec), _flat(other.spec)
        changed = [key for key in before | now if before.get(key) != now.get(key)]
        if changed:
            return [f"{key} (was {before.get(key)}, is {now.get(key)})" for key in changed]
        return [f"the cell {name}" for name in sorted(mine.keys() ^ theirs.keys()) or sorted(mine)]


def is_sweep(folder: Path) -> bool:
    """Whether a folder holds a sweep, finished or not."""
    return (folder / _SWEEP_FILE).exists()


def read_sweep(folder: Path) -> SweepFile:
    """Read `sweep.json`. Raises RunFolderError if it is not there or not one."""
    path = folder / _SWEEP_FILE
    try:
        return SweepFile.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise RunFolderError(f"{folder} is not the folder of a sweep: it has no {_SWEEP_FILE}") from error
    except OSError as error:
        raise RunFolderError(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise RunFolderError(f"{path} cannot be used: {where} {first['msg']}") from error


@contextmanager
def opened(folder: Path, spec: SweepSpec, cells: Sequence[Cell]) -> Iterator[None]:
    """Hold the folder of a sweep, which is made if it is not there.

    Raises RunFolderError if it is in use, holds something else, or another sweep.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = [path.name for path in folder.iterdir() if path.name != ".lock" and path.suffix != ".part"]
    except OSError as error:
        raise RunFolderError(f"{folder} cannot be made: {error.strerror}") from error
    if held and not is_sweep(folder):
        raise RunFolderError(f"{folder} holds other files ({held[0]}, …); choose an empty or a new --out")
    with locked(folder):
        file = SweepFile.of(spec, cells)
        if is_sweep(folder):
            before = read_sweep(folder)
            if changes := before.difference(file):
                more = f" and {len(changes) - _NAMED} more" if len(changes) > _NAMED else ""
                raise RunFolderError(
                    f"{folder} holds another sweep: {'; '.join(changes[:_NAMED])}{more}; "
                    "go on with the same, or choose another --out"
                )
            file = file.model_copy(update={"versions": before.versions})
        write_whole(folder / _SWEEP_FILE, file.model_dump(mode="json"))
        yield


def is_finished(folder: Path) -> bool:
    """Whether a run has done what it set out to do, and its last engine lifetime ended in order.

    As `journal.is_finished` of its records, but by the number of their lines: a sweep asks it of every cell whenever
    it goes on. Raises RunFolderError where the folder cannot be read.
    """
    if not is_run(folder):
        return False
    with read_or_removed(folder):
        run = read_run_file(folder)
        try:
            segments = _whole_lines(folder / "segments.jsonl")
            if not segments or not orjson.loads(segments[-1])["segment"]["whole"]:
                return False
            num_ended = sum(len(_whole_lines(path)) for path in folder.glob("turns-*.jsonl"))
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise RunFolderError(f"{folder} has a journal that cannot be read: {error}") from error
    return num_ended >= run.num_turns_planned or run.config.max_duration_s is not None


def is_known_finished(folder: Path) -> bool:
    """As `is_finished`, but no where the folder cannot be read: what is wrong with a cell is said when it is run."""
    try:
        return is_finished(folder)
    except RunFolderError:
        return False


@contextmanager
def read_or_removed(folder: Path) -> Iterator[None]:
    """While a cell is read: where that fails, the error says what to do about it."""
    try:
        yield
    except RunFolderError as error:
        raise RunFolderError(f"{error}; remove {folder} to measure it again") from error


def _whole_lines(path: Path) -> list[bytes]:
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []


def state_of(cell: Cell, sweep: Path, errors: dict[str, str]) -> State:
    """What has become of a cell; `errors` are those of `read_errors`."""
    if cell.name in errors:
        return "failed"
    if is_finished(cell.folder(sweep)):
        return "finished"
    return "begun" if is_run(cell.folder(sweep)) else "waiting"


def read_errors(sweep: Path) -> dict[str, str]:
    """Why cells failed, by name. Raises RunFolderError."""
    path = sweep / _ERRORS
    try:
        found = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, orjson.JSONDecodeError) as error:
        raise RunFolderError(f"{path} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise RunFolderError(f"{path} cannot be used: it holds no sentences by the name of a cell; remove it")
    return {str(name): str(sentence) for name, sentence in found.items()}


def write_error(sweep: Path, cell: Cell, error: Exception | None) -> None:
    """Keep why a cell failed; None: it has not, whatever was said before."""
    errors = read_errors(sweep)
    if error is None and cell.name not in errors:
        return
    errors.pop(cell.name, None)
    if error is not None:
        errors[cell.name] = str(error)
    write_whole(sweep / _ERRORS, errors)


def _flat(spec: SweepSpec) -> dict[str, Any]:
    data = spec.model_dump(mode="json")
    nested = {f"{part}.{key}": value for part in ("base", "axes") for key, value in data.pop(part).items()}
    return {**nested, **data}
