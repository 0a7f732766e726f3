"""Whatever bytes a server answers or a disk gives back: a record, or an error that says so."""

from pathlib import Path

import pytest
from conftest import turn_record
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from speed_bench.engines import dialect
from speed_bench.engines.http import Exchange
from speed_bench.errors import RequestFailed, RunFolderError
from speed_bench.runner.journal import Journal, RunFile, read_records
from speed_bench.runner.turn import Asked, read_turn
from speed_bench.types import Drafting, Request, Sampling, TurnRecord

RECORDINGS = Path(__file__).parent.parent / "recordings"
STREAMS = {path.parent.name: path.read_bytes() for path in sorted(RECORDINGS.glob("*/emoji.sse"))}
INTERESTING = st.sampled_from(
    [b"", b"-1", b"0", b"1e999", b"null", b'"x"', b"[]", b"{}", b"9" * 30, b"\n\n", b"data: ", b"\x00", b"true", b"NaN"]
)
MUTATION = st.tuples(st.floats(0, 1), st.integers(0, 12), INTERESTING | st.binary(max_size=6))

few = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
many = settings(max_examples=20_000, deadline=None, suppress_health_check=list(HealthCheck))


def mutate(data: bytes, mutations: list[tuple[float, int, bytes]]) -> bytes:
    for where, length, new in mutations:
        start = int(where * len(data))
        data = data[:start] + new + data[start + length :]
    return data


def read(name: str, body: bytes) -> TurnRecord:
    request = Request("0" * 32 + "/0", (1,), Sampling(0, 48, 0))
    asked = Asked("qa", "00", 0, 0, Drafting(3, always=True))
    exchange = Exchange(1, 200, [(2, body[:1000]), (3, body[1000:])], 3)
    return read_turn(dialect(name), request, asked, exchange, name_unnamed=lambda ids, _: ids, engine_counts=None)


def answers_with_a_record_or_an_error(name: str, mutations: list[tuple[float, int, bytes]]) -> None:
    try:
        record = read(name, mutate(STREAMS[name], mutations))
    except RequestFailed as error:
        assert str(error)
    else:
        assert record.counts is not None or name != "llama-cpp", "every event of it carries counts"
        assert record.counts is None or record.counts.num_steps is not None or record.counts.origin == "engine"


streams = given(st.sampled_from(sorted(STREAMS)), st.lists(MUTATION, max_size=4))


@few
@streams
def test_a_spoilt_stream(name: str, mutations: list[tuple[float, int, bytes]]) -> None:
    answers_with_a_record_or_an_error(name, mutations)


@pytest.mark.long
@many
@streams
def test_many_spoilt_streams(name: str, mutations: list[tuple[float, int, bytes]]) -> None:
    answers_with_a_record_or_an_error(name, mutations)


@few
@given(st.lists(MUTATION, min_size=1, max_size=3))
def test_a_spoilt_journal(run_folder: Path, run_file: RunFile, mutations: list[tuple[float, int, bytes]]) -> None:
    path = run_folder / "turns-0.jsonl"
    path.unlink(missing_ok=True)
    with Journal(run_folder, run_file) as journal:
        journal.add(turn_record(0))
        journal.add(turn_record(1))
    path.write_bytes(mutate(path.read_bytes(), mutations))
    try:
        read_records(run_folder)
    except RunFolderError as error:
        assert "turns-0.jsonl" in str(error) or "times" in str(error)
