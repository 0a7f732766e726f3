"""The recorded facts about TensorRT-LLM against the TensorRT-LLM that is installed.

`recordings/tensorrt-llm/api-snapshot.json` says what the dialect builds on: options, arguments and fields, with types
and defaults. They are looked at by `diff_snapshot.py` in the interpreter that has the package: the one that
`SPEED_BENCH_TENSORRT_LLM_PYTHON` names, or this one. Elsewhere these tests are skipped. A failure lists every fact
that no longer holds.
"""

import os
import subprocess
import sys
from importlib import util
from pathlib import Path

import orjson
import pytest

SNAPSHOT = Path(__file__).parents[2] / "recordings" / "tensorrt-llm" / "api-snapshot.json"
KNOWN = orjson.loads(SNAPSHOT.read_bytes())
CHECKS = [
    *(f"arguments of the engine: {name}" for name in KNOWN["llm_args"]),
    *(f"fields of speculation: {kind}" for kind in KNOWN["speculative"]),
    *(f"keys that speculation needs: {kind}" for kind in KNOWN["speculative_required"]),
    *(f"fields of an answer: {name}" for name in KNOWN["completion_stream"]),
    *("kinds of speculation", "options of the server", "fields of a request", "routes", "counters"),
]

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def found() -> dict:
    """What has moved, by check."""
    python = os.environ.get("SPEED_BENCH_TENSORRT_LLM_PYTHON")
    if python is None and util.find_spec("tensorrt_llm") is None:
        pytest.skip("engine 'tensorrt-llm' is not installed here")
    script = Path(__file__).parent / "diff_snapshot.py"
    done = subprocess.run([python or sys.executable, script, SNAPSHOT], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return orjson.loads(done.stdout.splitlines()[-1])  # it may print more as it is imported


def test_every_fact_is_looked_at(found: dict) -> None:
    assert sorted(found["checks"]) == sorted(CHECKS)


@pytest.mark.parametrize("check", CHECKS)
def test_what_the_dialect_builds_on_still_holds(found: dict, check: str) -> None:
    if moved := found["checks"][check]:
        head = f"TensorRT-LLM {found['version']} against facts of {KNOWN['version']}:"
        pytest.fail("\n".join([head, *moved]), pytrace=False)
