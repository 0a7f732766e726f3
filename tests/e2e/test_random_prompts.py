"""A run on random tokens, as a user makes it."""

from pathlib import Path

import orjson
import pytest
from command import speed_bench
from shared_data import needs_o200k

pytestmark = pytest.mark.long


@needs_o200k
def test_a_run_on_random_tokens_is_labelled_on_the_terminal_and_in_its_folder(tmp_path: Path) -> None:
    out = tmp_path / "run"
    flags = ("--engine", "simulator", "--edition", "random:50", "--max-tokens", 16, "--no-baseline")
    said = speed_bench("run", *flags, "--out", out).stdout
    label = "prompts are random tokens"
    assert label in said
    assert label in speed_bench("score", out).stdout
    run = orjson.loads((out / "run.json").read_bytes())
    assert (run["provenance"]["data"]["edition"], run["provenance"]["data"]["config"]) == ("random:50", "random")


def test_an_edition_of_random_tokens_without_a_length_is_refused_in_a_sentence(tmp_path: Path) -> None:
    done = speed_bench(
        "run", "--engine", "simulator", "--edition", "random:many", "--out", tmp_path / "run", check=False
    )
    assert done.returncode == 2
    assert "write random:<tokens>" in done.stderr
    assert "Traceback" not in done.stderr
