"""The run folder: everything that happened, written as it happens, safe against being killed.

    run.json          config, protocol, provenance; written before anything is measured
    turns-<n>.jsonl   of worker n: one line per finished or failed turn, flushed as the turn ends
    segments.jsonl    one line at the start and one at the end of every engine lifetime
    engine-<n>.log    what the engine of segment n printed
    scores.json       the result, of the run and its baseline together
    baseline/         run.json, journal and logs of the run without speculation

A line is whole or it is not there: a torn last line is cut off on opening, and a line that
could not be written is taken back.
"""

import errno
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

import filelock
import orjson
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from speed_bench.config import Protocol, RunConfig
from speed_bench.errors import RunFolderError, unwritable
from speed_bench.provenance import Provenance
from speed_bench.records import RunRecords, Segment
from speed_bench.types import Failure, Outcome, TurnRecord


class RunFile(BaseModel):
    """`run.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    config: RunConfig
    protocol: Protocol
    provenance: Provenance
    num_turns_planned: int
    baseline_at: str | None = None
    """Where the run without speculation is that this one is compared with, relative to the run folder; None: in
    `baseline/`, if there is one. The cells of a sweep share theirs."""

    def changes(self, other: "RunFile") -> list[str]:
        """What differs in `other`, a phrase each, named as the user would name it."""
        changed = [
            f"{key} (was {old!r}, is {new!r})" for key, (old, new) in self.config.difference(other.config).items()
        ]
        if self.protocol.based_on != other.protocol.based_on:
            changed.append(f"protocol (was {self.protocol.based_on!r}, is {other.protocol.based_on!r})")
        mine, theirs = self.provenance, other.provenance
        if mine.data.manifest_sha256 != theirs.data.manifest_sha256:
            was, now = mine.data.manifest_sha256[:12], theirs.data.manifest_sha256[:12]
            changed.append(f"the prompts (manifest was {was}, is {now})")
        for name, old, new in (("model", mine.model, theirs.model), ("draft", mine.draft, theirs.draft)):
            if old != new:
                changed.append(f"the {name} file's contents")
        if mine.schedule_sha256 != theirs.schedule_sha256:
            changed.append("when conversations begin")
        if mine.tokenizer != theirs.tokenizer:
            changed.append("the tokenizer")
        if mine.engine_version != theirs.engine_version:
            changed.append(f"the engine's version (was {mine.engine_version}, is {theirs.engine_version})")
        return changed

    def timed_elsewhere(self, segments: Sequence[Segment]) -> str | None:
        """A sentence where speeds are of another machine than this file names; None where no segment says so.

        A run that is finished on another machine keeps the provenance of the one that it began on. Machines are those
        of the client: of an engine that may be elsewhere they say nothing.
        """
        if self.config.engine.attached or self.config.engine.launch:
            return None
        here = self.provenance.hardware.kind
        others = sorted({each.machine for each in segments if each.whole and each.machine} - {here})
        return (
            f"speeds are of another machine than the run began on: {'; '.join(others)}; not {here}" if others else None
        )


_RUN_FILE = "run.json"
_PART = ".part"
_TURN: TypeAdapter[TurnRecord] = TypeAdapter(TurnRecord)
_FAILURE: TypeAdapter[Failure] = TypeAdapter(Failure)
_SEGMENT: TypeAdapter[Segment] = TypeAdapter(Segment)


class Shard:
    """The turns that one worker of the client keeps."""

    def __init__(self, folder: Path, worker: int = 0) -> None:
        self._path = folder / f"turns-{worker}.jsonl"
        self._file: IO[bytes] | None = None

    def __enter__(self) -> "Shard":
        self._file = _open_for_append(self._path)
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, outcome: Outcome) -> None:
        """Append the outcome of a turn. Raises RunFolderError if it cannot be written."""
        if isinstance(outcome, TurnRecord):
            _append(self._file, "turn", _TURN.dump_json(outcome))
        else:
            _append(self._file, "failure", _FAILURE.dump_json(outcome))


class Journal:
    """A run folder open for writing by one runner at a time."""

    def __init__(self, folder: Path, run: RunFile) -> None:
        self.folder = folder
        self.run = run
        self.records = read_records(folder)
        self._turns = Shard(folder)
        self._segments: IO[bytes] | None = None

    def __enter__(self) -> "Journal":
        self._turns.__enter__()
        self._segments = _open_for_append(self.folder / "segments.jsonl")
        return self

    def __exit__(self, *_: object) -> None:
        self._turns.__exit__()
        if self._segments is not None:
            self._segments.close()

    def add(self, outcome: Outcome) -> None:
        """Append the outcome of a turn to the first shard. Raises RunFolderError if it cannot be written."""
        self._turns.add(outcome)

    def add_segment(self, segment: Segment) -> None:
        """Append the state of a segment; a later line of the same index replaces it."""
        _append(self._segments, "segment", _SEGMENT.dump_json(segment))


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run folder, so that no two runners write to it. The system lets go when we are killed."""
    lock = filelock.FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise RunFolderError(f"{folder} is in use by another run") from error
    except OSError as error:
        raise RunFolderError(f"{folder} cannot be written: {error.strerror}") from error
    try:
        yield
    finally:
        lock.release()


def is_run(folder: Path) -> bool:
    """Whether a folder holds a run, finished or not."""
    return (folder / _RUN_FILE).exists()


def make_folder(folder: Path) -> None:
    """Make a run folder if it is not there; raises RunFolderError if it holds anything but a run."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = [path.name for path in folder.iterdir() if path.name != ".lock" and path.suffix != _PART]
    except OSError as error:
        raise RunFolderError(f"{folder} cannot be made: {error.strerror}") from error
    if held and not is_run(folder):
        raise RunFolderError(f"{folder} holds other files ({held[0]}, …); choose an empty or a new --out")


def clear_unless_kept(*folders: Path) -> None:
    """Make way for a new run: nothing is removed but what runs without one turn left behind.

    Raises RunFolderError if any of the folders holds a turn, finished or failed.
    """
    runs = [folder for folder in folders if is_run(folder)]
    for folder in runs:
        if any(next(_lines(path), None) for path in folder.glob("turns-*.jsonl")):
            raise RunFolderError(f"{folder} already holds a run; add --resume to finish it, or choose another --out")
    for folder in runs:
        for pattern in ("turns-*.jsonl", "segments.jsonl", "engine-*.log", "scores.json", f"*{_PART}", _RUN_FILE):
            for path in folder.glob(pattern):  # run.json goes last: until then it is a run
                try:
                    path.unlink()
                except OSError as error:
                    raise unwritable(path, error) from error


def write_run_file(folder: Path, run: RunFile) -> None:
    """Write `run.json`."""
    write_whole(folder / _RUN_FILE, run.model_dump(mode="json"))


def read_run_file(folder: Path) -> RunFile:
    """Read `run.json`; raises RunFolderError if it is not there or not one."""
    path = folder / _RUN_FILE
    try:
        return RunFile.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise RunFolderError(f"{folder} is not a run folder: it has no {_RUN_FILE}") from error
    except OSError as error:
        raise RunFolderError(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RunFolderError(f"{path} cannot be used: {where} {first['msg']}") from error


def read_records(folder: Path) -> RunRecords:
    """All that the journal holds. A torn last line is passed over; any other bad line raises."""
    turns: list[TurnRecord] = []
    failures: list[Failure] = []
    for path in sorted(folder.glob("turns-*.jsonl")):
        for where, line in _lines(path):
            with _named(where):
                entry = orjson.loads(line)
                if "turn" in entry:
                    turns.append(_TURN.validate_python(entry["turn"]))
                else:
                    failures.append(_FAILURE.validate_python(entry["failure"]))
    in_order = read_segments(folder)
    run = read_run_file(folder)
    num_planned = run.num_turns_planned
    if run.config.max_duration_s is not None and in_order and in_order[-1].whole:
        num_planned = len(turns) + len(failures)  # it was to do what it could in its time, and it has
    records = RunRecords(tuple(turns), tuple(failures), in_order, num_planned)
    often = Counter(outcome.key for outcome in records.outcomes)
    for (seed, _, turn), times in often.items():
        if times > 1:
            raise RunFolderError(f"{folder} holds turn {turn} (seed {seed}) {times} times")
    return records


def read_segments(folder: Path) -> tuple[Segment, ...]:
    """The engine lifetimes of a journal in their order, each as it was last. Raises as `read_records`."""
    segments: dict[int, Segment] = {}
    for where, line in _lines(folder / "segments.jsonl"):
        with _named(where):
            segment = _SEGMENT.validate_python(orjson.loads(line)["segment"])
            segments[segment.index] = segment
    return tuple(segments[index] for index in sorted(segments))


def is_finished(records: RunRecords) -> bool:
    """Whether a run has done what it set out to do."""
    return len(records.outcomes) >= records.num_planned


def set_aside(folder: Path) -> Path:
    """Move what an interrupted run left out of the way, within its folder; returns where to.

    For a load that is measured as a whole: half of it, and the other half after a break, is another load.
    """
    aside = next(path for path in (folder / f"interrupted-{n}" for n in range(1, 1000)) if not path.exists())
    try:
        aside.mkdir()
        for pattern in ("turns-*.jsonl", "segments.jsonl", "engine-*.log", "scores.json"):
            for path in folder.glob(pattern):
                path.rename(aside / path.name)
    except OSError as error:
        raise unwritable(aside, error) from error
    return aside


def write_whole(path: Path, data: Any) -> None:
    """Write a JSON file so that it is there whole, or as it was before."""
    part = path.with_name(path.name + _PART)
    try:
        part.write_bytes(orjson.dumps(data, option=orjson.OPT_INDENT_2) + b"\n")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise unwritable(path, error) from error


def _lines(path: Path) -> Iterator[tuple[str, bytes]]:
    if path.exists():
        try:
            *whole, _torn = path.read_bytes().split(b"\n")
        except OSError as error:
            raise RunFolderError(f"{path} cannot be read: {error.strerror}") from error
        for number, line in enumerate(whole, 1):
            yield f"{path}:{number}", line


@contextmanager
def _named(where: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, KeyError, TypeError) as error:
        raise RunFolderError(f"{where} is not a line of a journal: {str(error).splitlines()[0]}") from error


def _open_for_append(path: Path) -> IO[bytes]:
    try:
        file = path.open("ab+", buffering=0)
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
    except OSError as error:
        raise unwritable(path, error) from error
    return file


def _append(file: IO[bytes] | None, kind: str, body: bytes) -> None:
    assert file is not None, "the journal is not open"  # noqa: S101
    line = b'{"%s":%s}\n' % (kind.encode(), body)
    before = os.fstat(file.fileno()).st_size
    try:
        written = file.write(line)
        if written != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        file.truncate(before)
        raise unwritable(Path(file.name), error) from error
