"""Rows that are resolved already, kept beside the folder that they are going to until all are.

One JSON object per line, appended as a row is resolved. A line is used again only for the same row, the same builder,
the same version of the resolvers and the same files of its source; a torn last line is cut off.
"""

from collections.abc import Mapping, Sequence
from importlib import metadata
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

from speed_bench.data.official import resolvers
from speed_bench.data.official.rows import Published
from speed_bench.errors import DataError, cause


class Partial:
    """The file of one config; `with Partial(path, builder) as partial`."""

    def __init__(self, path: Path, builder: str) -> None:
        self.path = path
        self._made_by = [metadata.version("speed-bench"), str(resolvers.VERSION), builder]
        self._known: dict[str, dict[str, Any]] = {}
        self._file: FileIO | None = None

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            end = self._read() if self.path.exists() else 0
            self._file = self.path.open("ab", buffering=0)
            self._file.truncate(end)
        except OSError as error:
            raise self._unwritable(error) from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()

    def get(self, row: Published) -> tuple[dict[str, str], tuple[str, ...]] | None:
        """Of a row that was resolved before: the files that it was made from, name -> sha256, and its turns."""
        line = self._known.get(row.question_id)
        return (line["files"], tuple(line["turns"])) if line and line["made_from"] == self._made_from(row) else None

    def keep(self, row: Published, files: Mapping[str, str], turns: Sequence[str]) -> None:
        """Put a row down. Raises DataError on a full disk; what was put down before stays."""
        line = {
            "question_id": row.question_id,
            "made_from": self._made_from(row),
            "files": dict(files),
            "turns": list(turns),
        }
        assert self._file is not None  # noqa: S101 - it is open between enter and exit
        try:
            rest = orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise self._unwritable(error) from error

    def remove(self) -> None:
        """All rows are where they belong."""
        self.path.unlink(missing_ok=True)

    def _read(self) -> int:
        """Take in the whole lines, and give where they end."""
        content = self.path.read_bytes()
        end = content.rfind(b"\n") + 1
        for number, line in enumerate(content[:end].splitlines(), 1):
            try:
                known = orjson.loads(line)
                self._known[known["question_id"]] = {key: known[key] for key in ("made_from", "files", "turns")}
            except (ValueError, TypeError, KeyError) as error:
                raise DataError(f"line {number} of {self.path} is damaged; delete the file to start anew") from error
        return end

    def _made_from(self, row: Published) -> list[str]:
        return [*self._made_by, row.sha256]

    def _unwritable(self, error: OSError) -> DataError:
        return DataError(
            f"{self.path} cannot be written: {cause(error)}; what was resolved before is kept, run it again once there "
            "is room"
        )
