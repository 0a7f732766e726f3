"""Rows as Parquet files that datasets 3, 4 and 5 read, and back.

They are written without the schema metadata of Hugging Face, whose `List` datasets 3 does not know.
"""

from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from speed_bench.data.schema import COLUMNS, conversation
from speed_bench.errors import ConfigError, DataError
from speed_bench.types import Conversation

if TYPE_CHECKING:
    import pyarrow as pa

MAX_BYTES: Final = 4 << 30
"""Bytes that the rows of a file may have when unpacked."""
_ROW_GROUP: Final = 128


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
    """The rows of any Parquet file, as they are.

    Raises DataError for one that has more than `MAX_BYTES`: by what it says itself, and, as a value that is repeated is
    stored once, by what comes out.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError as error:
        raise ConfigError(f"{path.name} is Parquet; pip install 'speed-bench[data]' to read it") from error
    try:
        with pq.ParquetFile(path) as file:
            groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
            _require_bounded(path, sum(group.total_byte_size for group in groups))
            records: list[dict[str, Any]] = []
            num_bytes = 0
            for batch in file.iter_batches(_ROW_GROUP):
                num_bytes += batch.nbytes
                _require_bounded(path, num_bytes)
                records += batch.to_pylist()
            return records
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        said = " ".join(str(error).split())[:200]
        raise DataError(f"{path} is not a Parquet file that can be read: {said}") from error


def _require_bounded(path: Path, num_bytes: int) -> None:
    if num_bytes > MAX_BYTES:
        raise DataError(f"{path} has more than {MAX_BYTES:,} bytes when unpacked, and is not read; split it")


def schema() -> "pa.Schema":
    """The eight published columns."""
    import pyarrow as pa

    text = pa.string()
    kinds = {"turns": pa.list_(text), "multiturn": pa.bool_()}
    return pa.schema([(name, kinds.get(name, text)) for name in COLUMNS])
