"""Whatever bytes a server answers or a disk gives back: a record, or an error that says so."""

from pathlib import Path

import orjson
import pytest
from conftest import turn_record
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from speed_bench.engines import dialect
from speed_bench.engines.answers import Drafting
from speed_bench.engines.http import Exchange
from speed_bench.errors import RequestFailed, RunFolderError
from speed_bench.runner.journal import Journal, RunFile, read_records
from speed_bench.runner.slices import at_once
from speed_bench.runner.turn import Asked, read_turn
from speed_bench.scoring import score
from speed_bench.types import Request, Sampling, TurnRecord

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
    work = read_turn(dialect(name), request, asked, exchange, name_unnamed=lambda ids, _: ids, engine_counts=None)
    return at_once(work)


def answers_with_a_record_or_an_error(name: str, mutations: list[tuple[float, int, bytes]]) -> None:
    try:
        record = read(name, mutate(STREAMS[name], mutations))
    except RequestFailed as error:
        assert str(error)
    else:
        assert record.counts is not None or name != "llama-cpp", "every event of it carries counts"
        assert record.counts is None or record.counts.num_steps is not None or record.counts.origin == "engine"


Changes = list[tuple[float, float, object]]
"""(which event, which of its values, what stands there instead)"""
VALUES = st.sampled_from([None, "x", "", -1, 0, 1, 7, 300, 1.5, 1e300, 10**11, True, [], [1, None], {}, {"x": 1}])


def leaves(value: object, path: tuple = ()) -> list[tuple]:
    """Where the values of a JSON document stand, its objects and lists included."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(leaf for key, each in inside for leaf in leaves(each, (*path, key)))]


def with_values(body: bytes, changes: Changes) -> bytes:
    """Some value of some event of a stream is another one."""
    lines = body.split(b"\n")
    at = [number for number, line in enumerate(lines) if line.startswith(b"data: {")]
    for which_event, which_leaf, value in changes:
        number = at[int(which_event * (len(at) - 1))]
        event = orjson.loads(lines[number][6:])
        found = leaves(event)[1:]
        *above, last = found[int(which_leaf * (len(found) - 1))]
        holder = event
        for key in above:
            holder = holder[key]
        holder[last] = value
        lines[number] = b"data: " + orjson.dumps(event)
    return b"\n".join(lines)


def can_be_recorded_and_scored(name: str, changes: Changes, folder: Path, run: RunFile) -> None:
    """What is taken for a turn can be read back, and scored; nothing else is taken."""
    try:
        turn = read(name, with_values(STREAMS[name], changes))
    except RequestFailed:
        return
    (folder / "turns-0.jsonl").unlink(missing_ok=True)
    with Journal(folder, run) as journal:
        journal.add(turn)
    records = read_records(folder)
    assert records.turns == (turn,)
    length = score(records).acceptance.overall.acceptance_length.value
    assert length is None or 1 <= length <= turn.num_output_tokens


CHANGE = st.tuples(st.floats(0, 1), st.floats(0, 1), VALUES)
values = given(st.sampled_from(sorted(STREAMS)), st.lists(CHANGE, min_size=1, max_size=2))


@few
@values
def test_a_value_of_another_kind(run_folder: Path, run_file: RunFile, name: str, changes: Changes) -> None:
    can_be_recorded_and_scored(name, changes, run_folder, run_file)


@pytest.mark.long
@settings(many, max_examples=5_000)
@values
def test_many_values_of_another_kind(run_folder: Path, run_file: RunFile, name: str, changes: Changes) -> None:
    can_be_recorded_and_scored(name, changes, run_folder, run_file)


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
