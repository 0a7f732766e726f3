"""The published rows: most of them hold a placeholder where their prompt should be."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from speed_bench.data.schema import PLACEHOLDER, conversation
from speed_bench.data.sources import hub
from speed_bench.data.sources.source import HubFile
from speed_bench.data.tables import read_records
from speed_bench.errors import ConfigError, DataError
from speed_bench.types import Conversation

REPO: Final = "nvidia/SPEED-Bench"
REVISIONS: Final = {
    "1.0": "487aa718444e816458d1a0a52bfce7a454285cf4",
    "1.1": "454f88454792dfa3ccfd7ef15fff248efde44cd1",
}
_MAX_BYTES: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class Published:
    """A row as it is published: what its `turns` say is a prompt only where it is not masked."""

    question_id: str
    category: str
    sub_category: str | None
    turns: tuple[str, ...]
    source: str
    src_id: str
    difficulty: str | None
    multiturn: bool

    @property
    def masked(self) -> bool:
        """Whether its prompt has to be fetched: the official builder looks at the first turn alone."""
        return self.turns[0].startswith(PLACEHOLDER)

    @property
    def template(self) -> str:
        """What stands after the placeholder, to be filled from its record."""
        return self.turns[0].removeprefix(f"{PLACEHOLDER}\n\n")

    @property
    def sha256(self) -> str:
        """Of the row as published."""
        columns = (self.question_id, self.category, self.sub_category, self.turns, self.source, self.src_id)
        return hashlib.sha256(orjson.dumps([*columns, self.difficulty, self.multiturn])).hexdigest()

    def resolved(self, turns: Sequence[str]) -> Conversation:
        """The row with its prompts. `multiturn` says what they are: of some rows the published column does not.

        Raises ValueError for a turn without text, or one that is still a placeholder.
        """
        if any(turn.startswith(PLACEHOLDER) for turn in turns):
            raise ValueError("a turn is still a placeholder")
        columns = (self.question_id, self.category, self.sub_category, tuple(turns), self.source, self.src_id)
        return Conversation(*columns, self.difficulty, len(turns) > 1)


@dataclass(frozen=True, slots=True)
class PublishedConfig:
    """The rows of a config, in order, and the files they were read from."""

    name: str
    rows: tuple[Published, ...]
    files: Mapping[str, str]
    """Name -> sha256."""


def read(config: str, version: str, given: Path | None) -> PublishedConfig:
    """The rows of a config: of the Hub at a pinned revision, or of a local file or folder.

    A folder holds `<config>/*.parquet` or `<config>.jsonl`. Raises DataError, with the row's id, for what is no row.
    """
    if given is None:
        files = [hub.download(HubFile(f"{config}/test-00000-of-00001.parquet", REPO, REVISIONS[version]), _MAX_BYTES)]
    elif given.is_dir():
        files = sorted((given / config).glob("*.parquet")) or [given / f"{config}.jsonl"]
    else:
        files = [given]
    records = [(path.name, row) for path in files for row in _records(path)]
    rows = tuple(parse(row, name) for name, row in records)
    seen: set[str] = set()
    for row in rows:
        if row.question_id in seen:
            raise DataError(f"row {row.question_id} stands twice in the published {config}")
        seen.add(row.question_id)
    return PublishedConfig(config, rows, {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files})


def parse(row: Any, where: str) -> Published:
    """A published row. Raises DataError, which names it, for anything else."""
    checked = conversation({**row, **_unmasked(row)} if isinstance(row, Mapping) else row, where)
    if not isinstance(row["multiturn"], bool):
        raise DataError(f"row {checked.question_id} of {where}: multiturn must be true or false")
    columns = (checked.question_id, checked.category, checked.sub_category, tuple(row["turns"]), checked.source)
    return Published(*columns, checked.src_id, checked.difficulty, row["multiturn"])


def _unmasked(row: Mapping[str, Any]) -> dict[str, Any]:
    """Columns that a masked row has and a conversation has not, as they would be in one."""
    turns = row.get("turns")
    if not isinstance(turns, list) or "multiturn" not in row:
        return {}
    shown = ["-" if isinstance(turn, str) and turn.startswith(PLACEHOLDER) else turn for turn in turns]
    return {"turns": shown, "multiturn": len(shown) > 1}


def _records(path: Path) -> list[Any]:
    if path.suffix == ".parquet":
        return list(read_records(path))
    if path.suffix != ".jsonl":
        raise ConfigError(f"{path} cannot hold published rows: a .parquet, a .jsonl or a folder is expected")
    try:
        lines = path.read_bytes().split(b"\n")
        return [orjson.loads(line) for line in lines if line.strip()]
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; --rows takes a file or folder of rows") from error
    except orjson.JSONDecodeError as error:
        raise DataError(f"{path} is not JSON lines: {error}") from error
