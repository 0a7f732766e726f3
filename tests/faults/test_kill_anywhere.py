"""kill -9 at twenty random moments, and the run comes to the same."""

import random
import time
from pathlib import Path

import pytest
from command import engine_pids, kill, outcome, speed_bench, start, wait_until

from speed_bench.runner.journal import read_records

SMALL = ("--categories", "qa,math,stem", "--limit-per-category", 2, "--max-tokens", 16)
NUM_KILLS = 20


@pytest.mark.long
def test_twenty_kills_lose_nothing_repeat_nothing_and_leave_nothing(tmp_path: Path) -> None:
    began = time.monotonic()
    speed_bench("run", *SMALL, "--out", tmp_path / "whole")
    whole_s = time.monotonic() - began
    expected = outcome(tmp_path / "whole")
    rng = random.Random(20261124)
    folder, kills, rounds = tmp_path / "run-0", 0, 0
    resumed: tuple[str, ...] = ()
    while kills < NUM_KILLS:
        repeated = () if resumed and rng.random() < 0.5 else SMALL  # a resumed run knows its settings
        process = start("run", *repeated, "--out", folder, *resumed)
        time.sleep(rng.uniform(0.05, whole_s * 0.5))
        if process.poll() is None:
            kill(process)
            kills += 1
            wait_until(lambda: not engine_pids(tmp_path), timeout_s=10)
            if (folder / "run.json").exists():
                known = {turn.id for turn in read_records(folder).turns}
                assert known <= {turn[1] for turn in expected["turns"]}
            resumed = ("--resume",) if (folder / "run.json").exists() else ()
        else:  # it was done before it could be killed: check it, and start another
            process.communicate()
            assert process.returncode == 0
            assert outcome(folder) == expected
            rounds += 1
            folder, resumed = tmp_path / f"run-{rounds}", ()
    speed_bench("run", *SMALL, "--out", folder, *resumed)
    assert outcome(folder) == expected
    assert engine_pids(tmp_path) == []
