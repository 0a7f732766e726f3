"""Random prompts against real ones on the simulator, where it is known by how much they overstate."""

from pathlib import Path

import orjson
import pytest
from command import kill, num_lines, speed_bench, start, wait_until
from shared_data import needs_o200k
from small_editions import write_edition

from speed_bench.runner.journal import read_records, read_run_file

pytestmark = [pytest.mark.long, needs_o200k]

RATES = {"real": 0.5, "random": 0.8}
DRAFT_LENGTH = 3
TOLERANCE = 0.10
"""Of a ratio, relative: 22 conversations of 20 to 30 steps know it to about 4 %, the rest is for a busy machine."""
MODEL = {"acceptance": [RATES["real"]], "category_acceptance": {"random": [RATES["random"]]}}
PACE = {"step_ms": 8, "step_ms_per_token": 0, "step_ms_per_1k_context": 0, "draft_ms": 0, "prefill_ms_per_1k": 0}
"""Every pass takes the same time, so that steps are all that a throughput depends on."""


def flags(tmp_path: Path, num_rows: int = 22) -> list[object]:
    edition = write_edition(tmp_path / "edition", ("qualitative",), num_rows=num_rows)
    engine = [f"engine.{key}={orjson.dumps(value).decode()}" for key, value in (MODEL | PACE).items()]
    load = ["--concurrency", 4, "--max-tokens", 64, "--protocol", "quick", "--set", "ignore_eos=true"]
    sets = [word for setting in engine for word in ("--set", setting)]
    prompts = ["--edition", edition, "--config", "qualitative"]
    return ["--engine", "simulator", "--algorithm", "mtp", "--draft-length", DRAFT_LENGTH, *prompts, *load, *sets]


def numbers(out: Path) -> dict[str, dict[str, dict[str, float]]]:
    return orjson.loads((out / "synthetic.json").read_bytes())["numbers"]


def test_what_the_simulator_overstates_comes_out(tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = speed_bench("synthetic", *flags(tmp_path), "--out", out).stdout
    lengths = {side: sum(rate**k for k in range(DRAFT_LENGTH + 1)) for side, rate in RATES.items()}
    truth = lengths["random"] / lengths["real"]
    found = numbers(out)
    for name in ("acceptance_length", "user_tps"):
        assert 1 + found[name]["overstated"]["value"] == pytest.approx(truth, rel=TOLERANCE), name
    for name in ("output_tps", "speedup_output_tps"):
        cell = found[name]["overstated"]
        assert 0.2 < cell["low"] < cell["value"] < cell["high"], name
    assert found["osl"]["real"]["value"] == found["osl"]["random"]["value"] == 64
    assert "random prompts overstate the acceptance length by" in said
    assert "answers differ" not in said
    for side, edition in (("real", "invented"), ("random", "random:")):
        run = read_run_file(out / side)
        assert run.provenance.data.edition.startswith(edition)
        assert run.provenance.data.num_conversations == 22
        assert (out / side / "baseline" / "run.json").exists()


def test_a_comparison_that_was_killed_goes_on_and_is_measured_once(tmp_path: Path) -> None:
    out, given = tmp_path / "out", [*flags(tmp_path, 11), "--no-baseline"]
    process = start("synthetic", *given, "--random-tokens", 12, "--out", out)
    wait_until(lambda: num_lines(out / "real" / "turns-0.jsonl") >= 4)
    kill(process)
    kept = [each.id for each in read_records(out / "real").turns]
    assert orjson.loads((out / "synthetic.json").read_bytes())["numbers"] is None
    again = speed_bench("synthetic", *given, "--out", out, check=False)
    assert (again.returncode, "already holds a comparison; add --resume" in again.stderr) == (2, True)
    speed_bench("synthetic", "--out", out, "--resume")
    records = read_records(out / "real")
    assert len(records.segments) == 2
    assert [each.id for each in records.turns][: len(kept)] == kept
    assert read_run_file(out / "random").config.edition == "random:12", "as it began"
    once = numbers(out)
    speed_bench("synthetic", "--out", out, "--resume")
    assert numbers(out) == once
    assert len(read_records(out / "random").segments) == 1
