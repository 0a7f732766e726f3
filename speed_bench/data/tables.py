"""Rows as Parquet files that datasets 3, 4 and 5 read, and back.

They are written without the schema metadata of Hugging Face, whose `List` datasets 3 does not know.
"""

from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from speed_bench.data.schema import COLUMNS, conversation
from speed_bench.errors import ConfigError, DataError
from speed_bench.types import Conversation

if TYPE_CHECKING:
    import pyarrow as pa

_ROW_GROUP = 128


def write_rows(rows: Iterable[Conversation], path: Path | IO[bytes]) -> None:
    """Write rows, in order. The same rows give the same bytes with the same pyarrow."""
    import pyarrow.parquet as pq

    waiting = iter(rows)
    with pq.ParquetWriter(path, schema(), compression="zstd") as file:
        while group := list(islice(waiting, _ROW_GROUP)):  # 200 MB of text are never held a second time
            file.write_table(table(group))


def table(rows: Iterable[Conversation]) -> "pa.Table":
    """The rows, in order, as one table of the eight columns."""
    import pyarrow as pa

    columns = {name: [getattr(row, name) for row in rows] for rows in [list(rows)] for name in COLUMNS}
    columns["turns"] = [list(turns) for turns in columns["turns"]]
    return pa.table(columns, schema=schema())


def read_rows(path: Path) -> list[Conversation]:
    """The rows of a file. Raises DataError for one that is no Parquet, and for a row that is none, by its id."""
    return [conversation(row, path.name) for row in read_records(path)]


def read_records(path: Path) -> list[dict[str, Any]]:
    """The rows of any Parquet file, as they are."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError as error:
        raise ConfigError(f"{path.name} is Parquet; pip install 'speed-bench[data]' to read it") from error
    try:
        with pq.ParquetFile(path) as file:
            return [record for batch in file.iter_batches(_ROW_GROUP) for record in batch.to_pylist()]
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        said = " ".join(str(error).split())[:200]
        raise DataError(f"{path} is not a Parquet file that can be read: {said}") from error


def schema() -> "pa.Schema":
    """The eight published columns."""
    import pyarrow as pa

    text = pa.string()
    kinds = {"turns": pa.list_(text), "multiturn": pa.bool_()}
    return pa.schema([(name, kinds.get(name, text)) for name in COLUMNS])
