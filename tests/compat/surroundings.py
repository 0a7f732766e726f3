"""Where the modules are, and a process that sees one cache of Hugging Face and nothing else of it."""

import os
import subprocess
import sys
from pathlib import Path

METRICS = Path(__file__).parent.parent.parent / "metrics"
NAMES = ("speed_bench_acceptance", "speed_bench_throughput", "speed_bench_speedup")


def clean_environment(home: Path, **more: str) -> dict[str, str]:
    """The environment without what steers the libraries of Hugging Face, with a cache of its own."""
    steering = ("HF_", "HUGGING", "XDG_CACHE", "GRADIO_")
    return {name: value for name, value in os.environ.items() if not name.startswith(steering)} | {
        "HF_HOME": str(home),
        **more,
    }


def speed_bench(*arguments: str, env: dict[str, str]) -> str:
    """What a verb prints, run with the command that the wheel installed."""
    command = Path(sys.executable).with_name("speed-bench")
    done = subprocess.run([command, *arguments], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
