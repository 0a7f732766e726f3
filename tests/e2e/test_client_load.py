"""The measurement of our client beside others runs, and writes what it promises; how fast anything is, is not asked."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "client_load.py"
SMALL = ("--streams", "4", "--rounds", "2", "--chunks", "5", "9", "--runs", "1", "--peers", "none")


@pytest.mark.long
def test_every_chunk_of_a_small_load_is_matched_with_when_it_was_sent(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    done = subprocess.run(
        [sys.executable, SCRIPT, *SMALL, "--json", figures], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(figures.read_text("utf-8"))
    assert found["cpu_ratio_aiperf"] is None
    assert found["cpu_ratio_aiohttp"] is None
    assert 0 <= found["ttft_error_ms"]["p50"] <= found["ttft_error_ms"]["p99"]
    assert found["chunk_lag_ms"]["p50"] <= found["chunk_lag_ms"]["p99"]
    assert found["median_gap_ratio"] > 0
    assert found["start_s"] > 0
    assert "| speed-bench | 1 |" in done.stdout
    assert "4 streams, a chunk every 20 ms" in done.stdout


def test_a_peer_that_nobody_knows_is_a_sentence() -> None:
    done = subprocess.run([sys.executable, SCRIPT, "--peers", "curl"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "'curl' is none of aiohttp, aiperf, guidellm, vllm" in done.stderr
