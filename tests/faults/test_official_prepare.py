"""`speed-bench data prepare` killed, or on a full disk, and then run again."""

import importlib.util
import os
import resource
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
from command import num_lines, wait_until
from official import BUILDER, QUALITATIVE, SHA256, plain, write_mirror

from speed_bench.data.official.prepare import partial_path

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(importlib.util.find_spec("datasets") is None, reason="needs the data extra"),
]

PREPARE = f"""
import resource, sys, time
from speed_bench.data.official import builder_file
from speed_bench.data.official.partial import Partial

builder_file.SHA256 = {SHA256!r}  # of the invented builder
kept, pause = Partial.keep, float(sys.argv.pop(1))
Partial.keep = lambda *given: (kept(*given), time.sleep(pause))
if limit := int(sys.argv.pop(1)):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
from speed_bench.cli import main
main()
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a mirror, a builder file and 880 published rows."""
    (tmp_path / "speed.py").write_text(BUILDER)
    write_mirror(tmp_path / "mirror")
    every = [*QUALITATIVE, *(plain(number) for number in range(880 - len(QUALITATIVE)))]
    (tmp_path / "qualitative.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in every))
    return tmp_path


def prepare(place: Path, out: str, pause_s: float = 0.0, limit: int = 0) -> subprocess.Popen[str]:
    given = ("--rows", place / "qualitative.jsonl", "--builder-file", place / "speed.py", "--mirror", place / "mirror")
    verb = ("data", "prepare", "--config", "qualitative", "--out", place / out)
    argv = [sys.executable, "-c", PREPARE, pause_s, limit, *verb, *given]
    pythonpath = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_PROCESS")}
    return subprocess.Popen(
        [str(each) for each in argv],
        env={**env, "PYTHONPATH": pythonpath},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_killed_in_the_middle_and_run_again_it_gives_the_bytes_of_an_uninterrupted_run(place: Path) -> None:
    whole = prepare(place, "whole")
    assert whole.wait(timeout=120) == 0, whole.communicate()
    waiting = partial_path(place / "out", "qualitative", "1.1")
    killed = prepare(place, "out", pause_s=0.2)
    wait_until(lambda: num_lines(waiting) >= 5)
    killed.kill()
    killed.communicate()
    assert not (place / "out").exists()
    before = num_lines(waiting)
    assert before < len(QUALITATIVE)
    again = prepare(place, "out")
    assert again.wait(timeout=120) == 0, again.communicate()
    assert contents(place / "out") == contents(place / "whole")
    assert not waiting.exists()
    for process in (whole, again):
        process.communicate()


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="needs a file size limit")
def test_a_full_disk_ends_it_with_a_sentence_and_keeps_what_was_resolved(place: Path) -> None:
    full = prepare(place, "out", limit=4096)
    _, said = full.communicate(timeout=120)
    assert full.returncode == 2
    assert "there is no room left; what was resolved before is kept" in said
    assert "Traceback" not in said
    assert not (place / "out").exists()
    again = prepare(place, "out")
    _, said = again.communicate(timeout=120)
    assert again.returncode == 0, said
