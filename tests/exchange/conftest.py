"""Drivers run in the environment of the tool that they drive, not in this one."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

collect_ignore = ["read_aiperf.py", "read_guidellm.py", "read_hub_name.py"]
HERE = Path(__file__).parent
ROOT = HERE.parent.parent


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str, Any], Any]:
    """Ask a driver in an environment of its own; skipped where that is not installed."""

    def ask(environment: str, driver: str, asked: Any) -> Any:
        python = ROOT / environment / "bin" / "python"
        if not python.exists():
            pytest.skip(f"{environment} is not there: make {environment}/.ready")
        home = tmp_path_factory.mktemp("home")
        env = {"HF_HOME": str(home), "HOME": str(home), "HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin"}
        done = subprocess.run(
            [python, "-W", "ignore", HERE / driver],
            input=orjson.dumps(asked),
            capture_output=True,
            timeout=110,
            env=env,
            cwd=home,
        )
        assert done.returncode == 0, done.stderr.decode()[-2000:]
        return orjson.loads(done.stdout.splitlines()[-1])

    return ask
