"""The run folder holds whole lines only, whatever happened while they were written."""

import os
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import turn_record

from speed_bench.config import resolve
from speed_bench.errors import RunFolderError
from speed_bench.records import Segment
from speed_bench.runner.journal import (
    Journal,
    RunFile,
    clear_unless_kept,
    locked,
    make_folder,
    read_records,
    read_run_file,
    write_run_file,
    write_whole,
)
from speed_bench.types import Failure, SpecCounts

FAILURE = Failure(turn_record().question_id + "/1", "qa", 0, 0, "request", "HTTP 503", 2.0)


def test_what_is_written_is_read_back_equal(run_folder: Path, run_file: RunFile) -> None:
    counters = SpecCounts(3, 1, 1, None, None, "server", aligned=False, per_position=(1, 0, 0))
    segment = Segment(0, "2026-01-01T00:00:00+00:00", "boot", counters)
    turn = turn_record(output_ids=(7, None, 2), engine_counts=counters)
    with Journal(run_folder, run_file) as journal:
        journal.add_segment(segment)
        journal.add(turn)
        journal.add(FAILURE)
        journal.add_segment(replace(segment, counters_after=counters, wall_s=2.5, whole=True))
    records = read_records(run_folder)
    assert records.turns == (turn,)
    assert records.failures == (FAILURE,)
    assert records.segments == (replace(segment, counters_after=counters, wall_s=2.5, whole=True),)
    assert records.num_planned == 2
    assert read_run_file(run_folder) == run_file


@pytest.mark.parametrize("cut", [1, 20, 200])
def test_a_torn_last_line_is_passed_over_and_cut_off_on_opening(run_folder: Path, run_file: RunFile, cut: int) -> None:
    path = run_folder / "turns-0.jsonl"
    with Journal(run_folder, run_file) as journal:
        journal.add(turn_record(0))
        whole = path.stat().st_size
        journal.add(turn_record(1))
    os.truncate(path, path.stat().st_size - cut)
    assert read_records(run_folder).turns == (turn_record(0),)
    with Journal(run_folder, run_file) as journal:
        assert path.stat().st_size == whole
        journal.add(turn_record(1))
    assert read_records(run_folder).turns == (turn_record(0), turn_record(1))


def test_a_spoilt_line_in_the_middle_is_named_not_skipped(run_folder: Path) -> None:
    (run_folder / "turns-0.jsonl").write_text('{"turn":{"id":"x"}}\n')
    with pytest.raises(RunFolderError, match=r"turns-0\.jsonl:1 is not a line of a journal"):
        read_records(run_folder)


def test_a_turn_that_stands_there_twice_is_an_error(run_folder: Path, run_file: RunFile) -> None:
    with Journal(run_folder, run_file) as journal:
        journal.add(turn_record())
        journal.add(turn_record())
    with pytest.raises(RunFolderError, match="2 times"):
        read_records(run_folder)


def test_a_folder_in_use_and_a_folder_with_other_things_are_refused(run_folder: Path, tmp_path: Path) -> None:
    make_folder(run_folder)
    other = tmp_path / "photos"
    other.mkdir()
    (other / "cat.jpg").touch()
    with pytest.raises(RunFolderError, match=r"holds other files \(cat.jpg"):
        make_folder(other)
    with pytest.raises(RunFolderError, match="cannot be made"):
        make_folder(other / "cat.jpg" / "run")
    with locked(run_folder), pytest.raises(RunFolderError, match="in use by another run"), locked(run_folder):
        pass


@pytest.mark.parametrize("left", [b"", b'{"turn":{"id":"torn'])
def test_a_run_with_a_turn_is_never_overwritten_and_one_without_makes_way(
    run_folder: Path, run_file: RunFile, left: bytes
) -> None:
    with Journal(run_folder, run_file) as journal:
        journal.add(turn_record())
    with pytest.raises(RunFolderError, match="already holds a run; add --resume"):
        clear_unless_kept(run_folder)
    assert len(read_records(run_folder).turns) == 1
    (run_folder / "turns-0.jsonl").write_bytes(left)
    clear_unless_kept(run_folder)
    assert list(run_folder.iterdir()) == []


def test_a_change_is_named(run_file: RunFile) -> None:
    config, protocol = resolve({"max_tokens": 9, "engine.threads": 2})
    data = run_file.provenance.data.model_copy(update={"manifest_sha256": "11" * 32})
    model = run_file.provenance.model.model_copy(update={"sha256": "22" * 32})
    provenance = run_file.provenance.model_copy(update={"data": data, "model": model})
    changed = run_file.model_copy(update={"config": config, "protocol": protocol, "provenance": provenance})
    assert run_file.changes(changed) == [
        "engine.threads (was 1, is 2)",
        "max_tokens (was 64, is 9)",
        "the prompts (manifest was efefefefefef, is 111111111111)",
        "the model file's contents",
    ]
    assert run_file.changes(run_file) == []


def test_speeds_of_a_server_are_not_of_the_machine_of_its_client(run_file: RunFile) -> None:
    timed = [Segment(0, "", None, None, whole=True, machine="another")]
    served, _ = resolve({"engine": "vllm", "engine.url": "http://a:1", "algorithm": "none", "model": "m"})
    assert "another" in run_file.timed_elsewhere(timed)
    assert run_file.model_copy(update={"config": served}).timed_elsewhere(timed) is None


@pytest.mark.parametrize("text", ["", "{}", '{"schema_version": 1, "config": 3}'])
def test_a_run_json_that_is_not_one_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(RunFolderError, match=r"run\.json cannot be used"):
        read_run_file(tmp_path)
    with pytest.raises(RunFolderError, match="is not a run folder"):
        read_run_file(tmp_path / "absent")


FILL = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from conftest import turn_record
from speed_bench.runner.journal import Journal, read_run_file
folder = Path(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1500, resource.RLIM_INFINITY))
with Journal(folder, read_run_file(folder)) as journal:
    for turn in range(100):
        journal.add(turn_record(turn))
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="needs a file size limit")
def test_when_there_is_no_room_left_whole_turns_are_kept_and_the_error_says_so(run_folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FILL, run_folder, Path(__file__).parent.parent], capture_output=True, text=True
    )
    assert (
        "turns-0.jsonl cannot be written: there is no room left; make room or rights, then finish with --resume"
        in done.stderr
    )
    kept = read_records(run_folder).turns
    assert 0 < len(kept) < 100
    assert (run_folder / "turns-0.jsonl").read_bytes().endswith(b"}\n")


def test_a_whole_file_is_there_or_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    write_whole(path, {"a": 1})
    with pytest.raises(TypeError):
        write_whole(path, {"a": object()})
    assert path.read_text() == '{\n  "a": 1\n}\n'
    with pytest.raises(RunFolderError, match="cannot be written"):
        write_whole(tmp_path / "absent" / "scores.json", {})


def test_the_run_file_can_be_rewritten_in_place(run_folder: Path, run_file: RunFile) -> None:
    write_run_file(run_folder, run_file)
    assert read_run_file(run_folder) == run_file
