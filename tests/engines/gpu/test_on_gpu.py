"""The three engines on a GPU, each with every way of drafting that there is a small model for; run by `make test-gpu`.

`docs/gpu-tests.md` says what is needed and what is checked. An engine that is not installed is skipped by name.
"""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest
from command import speed_bench

from speed_bench.algorithms import ALGORITHMS
from speed_bench.config import resolve
from speed_bench.engines import dialect
from speed_bench.errors import SpeedBenchError
from speed_bench.provenance import gpus
from speed_bench.records import RunRecords
from speed_bench.runner.journal import read_records
from speed_bench.runner.preparation import engine_version

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(3600)]

TARGET = os.environ.get("SPEED_BENCH_GPU_MODEL", "Qwen/Qwen3-1.7B")
DRAFTS = {
    "draft": os.environ.get("SPEED_BENCH_GPU_DRAFT", "Qwen/Qwen3-0.6B"),
    "eagle3": os.environ.get("SPEED_BENCH_GPU_EAGLE3", "AngelSlim/Qwen3-1.7B_eagle3"),
}
MTP_TARGET = os.environ.get("SPEED_BENCH_GPU_MTP_MODEL")
"""A model with multi-token prediction of its own; all of them are large, so there is no default."""
DRAFT_LENGTH = 3
FLAGS = ("--limit-per-category", 2, "--max-tokens", 128, "--draft-length", DRAFT_LENGTH)
ORIGIN = {"vllm": "engine", "sglang": "engine", "tensorrt-llm": "stream"}
COMPARED = {"vllm": ("drafted", "accepted", "verify_steps"), "sglang": ("verify_steps",), "tensorrt-llm": ()}
"""What an engine counts itself, in every version; newer ones of TensorRT-LLM count more."""


@dataclass(frozen=True)
class Case:
    """An engine with a way of drafting."""

    engine: str
    algorithm: str

    @property
    def model(self) -> str | None:
        return MTP_TARGET if self.algorithm == "mtp" else TARGET

    def arguments(self, python: str | None) -> list[str]:
        words = ["--engine", self.engine, "--model", str(self.model), "--algorithm", self.algorithm]
        if self.algorithm in DRAFTS:
            words += ["--draft", DRAFTS[self.algorithm]]
        return words + (["--python", python] if python else [])


CASES = [
    Case(engine, algorithm)
    for engine in ORIGIN
    for algorithm in ("ngram", "draft", "eagle3", "mtp")
    if algorithm in dialect(engine).ALGORITHMS
]


@pytest.fixture(params=CASES, ids=lambda case: f"{case.engine}-{case.algorithm}")
def case(request: pytest.FixtureRequest) -> tuple[Case, str | None]:
    """The case, and the interpreter of its engine; skipped where there is no GPU, engine or model."""
    chosen: Case = request.param
    python = os.environ.get(f"SPEED_BENCH_{chosen.engine.upper().replace('-', '_')}_PYTHON")
    config, _ = resolve({"engine": chosen.engine, "model": chosen.model or "any/model", "engine.python": python})
    try:
        engine_version(dialect(chosen.engine), config.engine)
    except SpeedBenchError as error:
        if python is not None:
            raise  # it was named, so it is meant to be there
        pytest.skip(str(error))
    if not gpus():
        pytest.skip(f"{chosen.engine}: no GPU here")
    if chosen.model is None:
        pytest.skip(f"{chosen.engine}: name a model with multi-token prediction in SPEED_BENCH_GPU_MTP_MODEL")
    return chosen, python


def measured(folder: Path, chosen: Case, python: str | None, *more: object) -> tuple[RunRecords, dict]:
    """One run, which must have ended in order with every turn."""
    speed_bench("run", *chosen.arguments(python), *FLAGS, *more, "--out", folder, timeout=3400)
    records = read_records(folder)
    assert records.failures == ()
    origins = Counter(turn.counts and turn.counts.origin for turn in records.turns if turn.num_output_tokens > 1)
    assert origins[ORIGIN[chosen.engine]] > origins.total() / 2
    others = set(origins) - {ORIGIN[chosen.engine]}
    assert others <= ({None} if chosen.engine == "tensorrt-llm" else set()), "merged chunks leave it without counts"
    return records, orjson.loads((folder / "scores.json").read_bytes())


def agrees_with_the_engine(chosen: Case, records: RunRecords, scores: dict) -> None:
    """The sums of all turns and the differences of the engine's own counters are the same."""
    equal = scores["reconciliation"]["equal"]
    assert equal is True if COMPARED[chosen.engine] else equal is not False, scores["reconciliation"]
    [segment] = records.segments
    for name in COMPARED[chosen.engine]:
        spent = segment.counters_after.since(segment.counters_before)
        assert getattr(spent, name) == sum(getattr(turn.counts, name) for turn in records.turns)


def test_one_stream_is_counted_exactly_and_against_a_baseline(case: tuple[Case, str | None], tmp_path: Path) -> None:
    chosen, python = case
    records, scores = measured(tmp_path / "run", chosen, python)
    told = 0
    for turn in records.turns:
        counts = turn.counts
        if counts is None or counts.num_steps is None or (counts.per_step is None and counts.emitted is None):
            continue  # chunks that were merged do not tell the steps
        told += 1
        emitted = counts.emitted or [step.emitted for step in counts.per_step]
        assert sum(emitted) == turn.num_output_tokens - turn.prefill_tokens
        if ALGORITHMS[chosen.algorithm].always_drafts:
            assert counts.plain_steps == 0
    assert told > len(records.turns) / 2
    agrees_with_the_engine(chosen, records, scores)
    assert scores["acceptance"]["overall"]["acceptance_length"]["value"] > 1
    assert scores["baseline"]["speedup_output_tps"]["value"] > 0
    assert records.segments[0].engine["version"]


def test_many_streams_are_counted_as_exactly_as_one(case: tuple[Case, str | None], tmp_path: Path) -> None:
    chosen, python = case
    records, scores = measured(tmp_path / "run", chosen, python, "--concurrency", 16, "--no-baseline")
    agrees_with_the_engine(chosen, records, scores)
    if chosen.engine == "vllm":
        assert scores["acceptance"]["server"]["acceptance_length_drafted"]["value"] > 1


def test_speculation_leaves_greedy_answers_nearly_alone(case: tuple[Case, str | None], tmp_path: Path) -> None:
    """Rounding differs with the batch, so answers may part; but not early, and not most of them at once."""
    chosen, python = case
    _, scores = measured(tmp_path / "run", chosen, python, "--max-tokens", 32)
    assert scores["baseline"]["common_prefix_tokens"]["value"] > 16
