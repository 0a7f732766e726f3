"""Published rows: masked or not, from a file or a folder, and nothing else is taken for one."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from official import QUALITATIVE, plain

from speed_bench.data.official import rows
from speed_bench.errors import ConfigError, DataError


def write(path: Path, records: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(orjson.dumps(each) + b"\n" for each in records))
    return path


def test_rows_come_from_a_file_or_from_a_folder_of_configs(tmp_path: Path) -> None:
    published = [plain(1), *QUALITATIVE]
    file = write(tmp_path / "qualitative.jsonl", published)
    assert rows.read("qualitative", "1.1", file).rows == rows.read("qualitative", "1.1", tmp_path).rows
    assert [row.masked for row in rows.read("qualitative", "1.1", file).rows] == [False, *[True] * len(QUALITATIVE)]
    assert list(rows.read("qualitative", "1.1", file).files) == ["qualitative.jsonl"]


def test_parquet_of_any_number_of_files_is_read_in_their_order(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pytest.importorskip("pyarrow").Table.from_pylist([plain(number) for number in range(4)])
    (tmp_path / "qualitative").mkdir()
    for number in (1, 0):
        parquet.write_table(
            table.slice(2 * number, 2), tmp_path / "qualitative" / f"test-0000{number}-of-00002.parquet"
        )
    read = rows.read("qualitative", "1.0", tmp_path)
    assert [row.src_id for row in read.rows] == [f"spec_bench_{number}" for number in range(4)]
    assert len(read.files) == 2


def test_what_stands_after_the_placeholder_is_the_template() -> None:
    assert rows.parse(QUALITATIVE[0], "-").template == "Sum {{up}}:\n{article}"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"question_id": "xyz"}, "32 hex"),
        ({"turns": []}, "no turns"),
        ({"turns": "a"}, "must be a list"),
        ({"turns": [1]}, "no turns, or an empty one"),
        ({"multiturn": "yes"}, "multiturn must be"),
        ({"source": None}, "source must be text"),
        ({"extra": 1}, "unknown extra"),
    ],
)
def test_what_is_no_row_is_refused_by_its_id(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    file = write(tmp_path / "rows.jsonl", [plain(1), {**plain(2), **changes}])
    with pytest.raises(DataError) as error:
        rows.read("qualitative", "1.1", file)
    assert said in str(error.value)
    assert changes.get("question_id", plain(2)["question_id"]) in str(error.value)


@pytest.mark.parametrize(
    ("content", "said"), [(b"[1]\n", "is not a row"), (b"{", "is not JSON lines"), (b'{"question_id": 1}\n', "lacks")]
)
def test_a_file_of_something_else_is_refused(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(content)
    with pytest.raises(DataError, match=said):
        rows.read("qualitative", "1.1", tmp_path / "rows.jsonl")


def test_corrupt_parquet_a_missing_file_and_another_suffix_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "rows.parquet").write_bytes(b"PAR1 and nothing")
    with pytest.raises(DataError, match="not a Parquet file"):
        rows.read("qualitative", "1.1", tmp_path / "rows.parquet")
    with pytest.raises(DataError, match="--rows takes"):
        rows.read("qualitative", "1.1", tmp_path / "rows.jsonl")
    with pytest.raises(ConfigError, match="a folder is expected"):
        rows.read("qualitative", "1.1", tmp_path / "rows.csv")


def test_a_row_that_stands_twice_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "rows.jsonl", [plain(1), QUALITATIVE[0], plain(1)])
    with pytest.raises(DataError, match=f"row {plain(1)['question_id']} stands twice"):
        rows.read("qualitative", "1.1", file)
