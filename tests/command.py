"""`speed-bench` as a user runs it: a process of its own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import orjson
import psutil

from speed_bench.records import RunRecords
from speed_bench.runner.journal import read_records

SPEED_BENCH = (sys.executable, "-m", "speed_bench.cli")


def speed_bench(
    *arguments: object,
    check: bool = True,
    timeout: float = 300,
    env: Mapping[str, object] | None = None,
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a verb to its end, with `env` added to the environment.

    With `check`, an exit code other than 0 fails the test and shows why.
    """
    argv = [*SPEED_BENCH, *map(str, arguments)]
    changed = {**os.environ, **{name: str(value) for name, value in (env or {}).items()}}
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL, env=changed, cwd=cwd
    )
    if check:
        assert done.returncode == 0, f"{' '.join(argv)}\n{done.stdout}\n{done.stderr}"
    return done


def start(*arguments: object) -> subprocess.Popen[str]:
    """Start a verb and let it run. Its coverage is not measured: a killed process leaves a torn data file.

    It takes SIGINT as from a terminal: a shell that starts the tests in its background would have them ignore it.
    """
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_PROCESS")}
    return subprocess.Popen(
        [*SPEED_BENCH, *map(str, arguments)],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_until(condition, timeout_s: float = 60.0) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def num_lines(path: Path) -> int:
    """Whole lines of a file that may not be there yet."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


def engine_pids(folder: Path) -> list[int]:
    """Engines that were started for a run folder (or its baseline) and still live."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        line = " ".join(process.info["cmdline"] or ())
        if "llama_cpp_server.py" in line and process.info["status"] != psutil.STATUS_ZOMBIE:
            log = Path(f"/proc/{process.pid}/fd/1")
            if log.exists() and str(folder) in str(log.readlink()):
                found.append(process.pid)
    return found


def kill(process: subprocess.Popen[str]) -> None:
    """kill -9, and nothing else."""
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    process.stderr.close()


def outcome(folder: Path) -> dict:
    """What must not depend on how often a run was stopped: its turns and its acceptance."""
    records: RunRecords = read_records(folder)
    baseline = read_records(folder / "baseline").turns if (folder / "baseline").exists() else ()
    return {
        "baseline": sorted((turn.seed, turn.id, turn.prompt_sha256, turn.output_ids) for turn in baseline),
        "turns": sorted((turn.seed, turn.id, turn.prompt_sha256, turn.output_ids) for turn in records.turns),
        "counts": sorted(
            (turn.id, turn.counts.drafted, turn.counts.accepted, turn.last_step) for turn in records.turns
        ),
        "failures": records.failures,
        "acceptance": without_speed(orjson.loads((folder / "scores.json").read_bytes())["acceptance"]),
    }


def without_speed(acceptance: dict) -> dict:
    """Acceptance without the columns that are measured in time."""
    groups = {"overall": acceptance["overall"], **acceptance["categories"]}
    return {
        name: {key: value for key, value in group.items() if key not in ("output_tps", "user_tps")}
        for name, group in groups.items()
    }
