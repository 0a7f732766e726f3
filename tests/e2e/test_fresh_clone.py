"""A newcomer's first minutes: clone, `make run`, and the README shows what they see."""

import os
import re
import subprocess
import zipfile
from pathlib import Path

import orjson
import pytest

from speed_bench.data.schema import CATEGORIES
from speed_bench.runner.journal import read_records

ROOT = Path(__file__).parent.parent.parent

pytestmark = pytest.mark.long


def make(clone: Path, *arguments: str) -> str:
    """Run make as from a shell, even where make runs the tests."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(
        ["make", *arguments],
        cwd=clone,
        env=env,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("fresh") / "clone"
    subprocess.run(["git", "clone", "--quiet", ROOT, target], check=True)
    return target


@pytest.fixture(scope="module")
def shown(clone: Path) -> str:
    """What `make run` prints in a fresh clone with a fresh environment."""
    return make(clone, "run", "OUT=runs/first")


def test_the_default_run_is_exact_turn_by_turn(clone: Path, shown: str) -> None:
    folder = clone / "runs" / "first"
    records, scores = read_records(folder), orjson.loads((folder / "scores.json").read_bytes())
    assert records.failures == ()
    assert len(records.turns) == records.num_planned
    for turn in records.turns:
        assert (turn.counts.drafted, turn.counts.accepted) == (turn.engine_counts.drafted, turn.engine_counts.accepted)
    assert sum(turn.counts.drafted for turn in records.turns) > 0
    assert scores["reconciliation"]["equal"] is True
    assert scores["baseline"]["identical_share"]["value"] == 1.0
    assert scores["baseline"]["paired_share"]["value"] == 1.0
    assert set(scores["acceptance"]["categories"]) == set(CATEGORIES)
    assert orjson.loads((folder / "run.json").read_bytes())["protocol"]["name"] == "quick"


def shape(text: str) -> list[str]:
    """Lines with every number, interval and dash made alike."""
    lines = (re.sub(r"\s+", " ", re.sub(r"[\d.]+|–", "N", line)).strip() for line in text.splitlines())
    return [re.sub(r"( N)+", " N", line) for line in lines if line]


def test_the_readme_shows_what_the_command_prints(shown: str) -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    pasted = next(block for block in re.findall(r"```text\n(.*?)```", readme, re.DOTALL) if "overall" in block)
    of_the_day = ("turns · ", "setting up", "run folder", "client_limited")  # the last: a machine that is busy
    expected, printed = (
        [line for line in shape(text) if not any(each in line for each in of_the_day)] for text in (pasted, shown)
    )
    assert expected == printed


def test_setup_does_nothing_the_second_time(clone: Path, shown: str) -> None:
    assert "setting up" not in make(clone, "setup")


def test_flags_pass_through_make(clone: Path, shown: str) -> None:
    make(clone, "run", "OUT=runs/second", "ARGS=--categories qa --max-tokens 4 --algorithm none")
    run = orjson.loads((clone / "runs" / "second" / "run.json").read_bytes())
    assert run["config"]["categories"] == ["qa"]
    assert run["config"]["max_tokens"] == 4


def test_the_wheel_holds_the_prompts_and_nothing_else_of_the_repository(clone: Path, shown: str) -> None:
    pip = clone / ".venv" / "bin" / "pip"
    subprocess.run([pip, "wheel", "-q", "--no-deps", "-w", clone / "dist", clone], check=True)
    (wheel,) = (clone / "dist").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "speed_bench/data/open/starter.jsonl" in names
    assert "speed_bench/py.typed" in names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"speed_bench"}
