"""A run folder is copied as it grows: nothing twice, nothing torn, nothing that is no part of a run."""

import random
import shutil
from pathlib import Path

import pytest
from conftest import turn_record

from speed_bench.errors import RunFolderError
from speed_bench.records import Segment
from speed_bench.runner.journal import Journal, read_records, read_run_file, set_aside, write_run_file
from speed_bench.sweep import shipping
from speed_bench.sweep.shipping import Copy, Held, Parcel, news
from speed_bench.types import Failure


@pytest.fixture
def there(tmp_path: Path, run_file) -> Path:
    folder = tmp_path / "there"
    folder.mkdir()
    write_run_file(folder, run_file)
    return folder


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    folder = tmp_path / "here"
    folder.mkdir()
    return Copy(folder)


def ship(there: Path, copy: Copy) -> list[Parcel]:
    """All that is missing."""
    sent: list[Parcel] = []
    while parcels := news(there, copy.held):
        copy.take(parcels)
        sent += parcels
    return sent


def begin_segment(index: int = 0) -> Segment:
    return Segment(index, "2026-01-01T00:00:00", None, None)


def failure(turn: int) -> Failure:
    return Failure(f"{'0123456789abcdef' * 2}/{turn}", "qa", 0, 0, "request", "it\nbroke", 1.0)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_copy_of_a_growing_folder_is_the_folder(there, copy):
    journal = Journal(there, read_run_file(there))
    with journal:
        journal.add_segment(begin_segment())
        for turn in range(5):
            journal.add(turn_record(turn))
            with (there / "engine-0.log").open("ab") as log:
                log.write(b"half a l" if turn % 2 else b"ine\n")
            ship(there, copy)
            assert contents(copy.folder) == contents(there)
    assert copy.num_outcomes == 5
    assert read_records(copy.folder) == read_records(there)


def test_what_is_there_is_not_sent_again(there, copy):
    journal = Journal(there, read_run_file(there))
    with journal:
        journal.add(turn_record(0))
        ship(there, copy)
        size = (there / "turns-0.jsonl").stat().st_size
        journal.add(turn_record(1))
    (parcel,) = ship(there, copy)
    assert (parcel.name, parcel.at, len(parcel.data)) == ("turns-0.jsonl", size, size)
    assert news(there, copy.held) == []


def test_a_line_that_is_being_written_waits_for_its_end(there, copy):
    with (there / "turns-0.jsonl").open("wb", buffering=0) as file:
        file.write(b'{"turn": 1}\n{"tu')
        ship(there, copy)
        assert (copy.folder / "turns-0.jsonl").read_bytes() == b'{"turn": 1}\n'
        assert news(there, copy.held) == []
        file.write(b'rn": 2}\n')
        ship(there, copy)
    assert (copy.folder / "turns-0.jsonl").read_bytes() == b'{"turn": 1}\n{"turn": 2}\n'


def test_an_answer_that_is_lost_is_asked_for_again(there, copy):
    (there / "turns-0.jsonl").write_bytes(b'{"turn": 1}\n')
    lost = news(there, copy.held)
    assert news(there, copy.held) == lost
    copy.take(lost)
    assert copy.num_outcomes == 1


def test_an_answer_that_comes_twice_is_refused_rather_than_doubled(there, copy):
    (there / "turns-0.jsonl").write_bytes(b'{"turn": 1}\n')
    ship(there, copy)
    with (there / "turns-0.jsonl").open("ab") as file:
        file.write(b'{"turn": 2}\n')
    parcels = news(there, copy.held)
    copy.take(parcels)
    with pytest.raises(RunFolderError, match=r"turns-0\.jsonl is not as it was left here"):
        copy.take(parcels)
    assert copy.num_outcomes == 2


def test_failures_are_counted_among_the_turns(there, copy):
    journal = Journal(there, read_run_file(there))
    with journal:
        for outcome in (failure(0), turn_record(1), failure(2), failure(3), turn_record(4)):
            journal.add(outcome)
    ship(there, copy)
    assert (copy.num_outcomes, copy.num_failures) == (5, 3)
    assert (Copy(copy.folder).num_outcomes, Copy(copy.folder).num_failures) == (5, 3)


def test_a_copy_that_is_taken_up_again_loses_its_torn_line_and_gets_it_anew(there, copy):
    (there / "turns-0.jsonl").write_bytes(b'{"turn": 1}\n{"turn": 2}\n')
    ship(there, copy)
    with (copy.folder / "turns-0.jsonl").open("rb+") as file:
        file.truncate(15)  # as if it had been killed while it wrote
    again = Copy(copy.folder)
    assert (copy.folder / "turns-0.jsonl").read_bytes() == b'{"turn": 1}\n'
    assert [parcel.data for parcel in again.parcels() if parcel.name == "turns-0.jsonl"] == [b'{"turn": 1}\n']
    assert again.num_outcomes == 1
    ship(there, again)
    assert contents(again.folder) == contents(there)


def test_another_machine_goes_on_from_the_copy(there, copy, tmp_path):
    (there / "turns-0.jsonl").write_bytes(b'{"turn": 1}\n')
    (there / "engine-0.log").write_bytes(b"up\n")
    ship(there, copy)
    other = tmp_path / "other"
    other.mkdir()
    Copy(other).take(copy.parcels())
    assert contents(other) == contents(copy.folder)
    assert news(other, copy.held) == []
    with (other / "turns-0.jsonl").open("ab") as file:
        file.write(b'{"turn": 2}\n')
    ship(other, copy)
    assert copy.num_outcomes == 2


def test_what_is_set_aside_is_there_before_it_is_gone_where_it_was(there, copy):
    journal = Journal(there, read_run_file(there))
    with journal:
        journal.add_segment(begin_segment())
        journal.add(turn_record(0))
    ship(there, copy)
    set_aside(there)
    parcels = news(there, copy.held)
    first_gone = min(number for number, parcel in enumerate(parcels) if parcel.data is None)
    assert {parcel.name for parcel in parcels[:first_gone]} == {
        "interrupted-1/turns-0.jsonl",
        "interrupted-1/segments.jsonl",
    }
    copy.take(parcels)
    assert contents(copy.folder) == contents(there)
    assert copy.num_outcomes == 0
    with (there / "turns-0.jsonl").open("ab") as file:
        file.write(b'{"turn": 9}\n')
    ship(there, copy)
    assert copy.num_outcomes == 1


def test_a_journal_that_was_begun_anew_replaces_the_old_one_even_where_it_is_longer(there, copy):
    (there / "turns-0.jsonl").write_bytes(b'{"turn": 1}\n')
    ship(there, copy)
    (there / "turns-0.jsonl").write_bytes(b'{"turn": 7}\n{"turn": 8}\n{"turn": 9}\n')
    ship(there, copy)
    assert contents(copy.folder) == contents(there)
    assert copy.num_outcomes == 3


def test_no_turn_is_in_a_copy_before_its_segment_wherever_it_stops(there, copy, tmp_path, monkeypatch):
    monkeypatch.setattr(shipping, "CHUNK_BYTES", 700)
    journal = Journal(there, read_run_file(there))
    with journal:
        for index in range(3):
            journal.add_segment(begin_segment(index))
            for turn in range(2):
                journal.add(turn_record(2 * index + turn, segment=index))
    while parcels := news(there, copy.held):
        for parcel in parcels:
            copy.take([parcel])
            if (copy.folder / "turns-0.jsonl").exists():
                records = read_records(copy.folder)
                assert {turn.segment for turn in records.turns} <= {segment.index for segment in records.segments}
    assert contents(copy.folder) == contents(there)


def test_a_turn_that_is_written_while_files_are_read_waits_for_its_segment(there, copy, monkeypatch):
    read, run = shipping._missing, read_run_file(there)

    def read_and_go_on(*arguments):
        found = read(*arguments)
        with Journal(there, run) as journal:
            index = len(read_records(there).segments)
            journal.add_segment(begin_segment(index))
            journal.add(turn_record(index, segment=index))
        return found

    with Journal(there, run) as journal:
        journal.add_segment(begin_segment(0))
        journal.add(turn_record(0))
    monkeypatch.setattr(shipping, "_missing", read_and_go_on)
    for _ in range(3):
        copy.take(news(there, copy.held))
        records = read_records(copy.folder)
        assert {turn.segment for turn in records.turns} < {segment.index for segment in records.segments}


def test_a_line_longer_than_a_chunk_is_sent_whole(there, copy, monkeypatch):
    monkeypatch.setattr(shipping, "CHUNK_BYTES", 64)
    lines = b"".join(b'{"turn": "%s"}\n' % (b"x" * length) for length in (3, 500, 20, 64, 1000))
    (there / "turns-0.jsonl").write_bytes(lines)
    ship(there, copy)
    assert (copy.folder / "turns-0.jsonl").read_bytes() == lines
    assert copy.num_outcomes == 5


@pytest.mark.parametrize(
    "name",
    [
        "../turns-0.jsonl",
        "/etc/passwd",
        "turns-0.jsonl/../../x",
        "turns-0.jsonl\n",
        "interrupted-1/../run.json",
        "interrupted-1/interrupted-1/run.json",
        "turns-٣.jsonl",
        ".lock",
        "engine.pid",
        "run.json.part",
        "RUN.JSON",
        "",
    ],
)
@pytest.mark.parametrize("data", [b"x\n", None])
def test_a_name_that_no_run_has_is_refused(copy, name, data):
    before = contents(copy.folder.parent)
    with pytest.raises(RunFolderError, match="that no run has"):
        copy.take([Parcel(name, 0, data)])
    assert contents(copy.folder.parent) == before


def test_what_is_no_part_of_a_run_stays_where_it_is(there, copy):
    for name in ("engine.pid", ".lock", "core.123", "run.json.part"):
        (there / name).write_text("x")
    (there / "turns-7.jsonl").mkdir()
    assert {parcel.name for parcel in ship(there, copy)} == {"run.json"}


def test_a_copy_that_cannot_be_written_keeps_what_it_had(there, copy, monkeypatch):
    (there / "turns-0.jsonl").write_bytes(b'{"turn": 1}\n')
    ship(there, copy)
    before = contents(copy.folder)
    with (there / "turns-0.jsonl").open("ab") as file:
        file.write(b'{"turn": 2}\n')
    (copy.folder / "turns-0.jsonl").chmod(0o400)
    shutil.move(copy.folder / "turns-0.jsonl", copy.folder / "turns-0.jsonl.bak")
    (copy.folder / "turns-0.jsonl").mkdir()
    with pytest.raises(RunFolderError, match=r"turns-0\.jsonl cannot be written"):
        copy.take(news(there, copy.held))
    (copy.folder / "turns-0.jsonl").rmdir()
    shutil.move(copy.folder / "turns-0.jsonl.bak", copy.folder / "turns-0.jsonl")
    (copy.folder / "turns-0.jsonl").chmod(0o600)
    assert contents(copy.folder) == before
    ship(there, copy)
    assert copy.num_outcomes == 2


def test_any_order_of_growing_and_asking_gives_the_same_folder(there, copy):
    order = random.Random(5)
    lines = dict.fromkeys(("turns-0.jsonl", "turns-1.jsonl", "segments.jsonl", "engine-0.log"), 0)
    for _ in range(300):
        name = order.choice(list(lines))
        with (there / name).open("ab") as file:
            file.write(order.choice([b'{"turn": %d}\n' % lines[name], b'{"turn": ', b"5}\n"]))
        lines[name] += 1
        if order.random() < 0.3:
            copy.take(news(there, copy.held))
        if order.random() < 0.05:
            copy = Copy(copy.folder)
    for name in lines:
        with (there / name).open("ab") as file:
            file.write(b"\n")
    ship(there, copy)
    assert contents(copy.folder) == contents(there)


@pytest.mark.parametrize("name", ["run.json", "turns-0.jsonl"])
def test_held_says_less_of_a_file_that_is_shorter(tmp_path, name):
    (tmp_path / "file").write_bytes(b"abc")
    with (tmp_path / "file").open("rb") as file:
        assert shipping.held_of(file, name, 3) == shipping.held_of(file, name, 10)
        assert shipping.held_of(file, name, 2) != shipping.held_of(file, name, 3)
        assert shipping.held_of(file, name, 0) == Held(0, 0)


def test_a_file_that_is_sent_whole_is_sent_again_when_its_beginning_has_changed(there, copy):
    ending = b"the same" * shipping.ENDING_BYTES
    (there / "run.json").write_bytes(b"1" + ending)
    ship(there, copy)
    (there / "run.json").write_bytes(b"2" + ending)
    ship(there, copy)
    assert contents(copy.folder) == contents(there)


def test_a_copy_whose_torn_line_is_long_says_that_it_has_what_stands_before_it(there, copy):
    (there / "turns-0.jsonl").write_bytes(b'{"turn": 1}\n')
    ship(there, copy)
    held = copy.held
    with (copy.folder / "turns-0.jsonl").open("ab") as file:
        file.write(b"x" * 2 * shipping.ENDING_BYTES)
    assert Copy(copy.folder).held == held
