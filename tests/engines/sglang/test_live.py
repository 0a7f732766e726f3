"""The real SGLang server on a CPU, measured as a user measures it; run by `make test-sglang`.

Its scheduler, its counting and its server are its own. It has no kernels for verification on a CPU, so those are
ours, in plain torch (`environments/sglang_stubs`), and know chains only.
"""

from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from command import speed_bench

from speed_bench.records import RunRecords
from speed_bench.runner.journal import read_records

pytestmark = [pytest.mark.sglang, pytest.mark.timeout(1200)]

ROOT = Path(__file__).parent.parent.parent.parent
MODELS = ROOT / "build" / "models"
SETTINGS = {
    "engine.context_length": 2048,
    "engine.dtype": "float32",
    "engine.memory_fraction": 0.5,
    "engine.extra.device": "cpu",
    "engine.extra.attention_backend": "torch_native",
    "engine.extra.max_total_tokens": 8192,
}
FLAGS = ["--engine", "sglang", "--python", ROOT / ".venv-sglang" / "bin" / "python"]
FLAGS += [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]


@pytest.fixture(autouse=True, scope="module")
def on_cpu() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SGLANG_USE_CPU_ENGINE", "1")
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


def measured(folder: Path, *arguments: object) -> tuple[RunRecords, dict]:
    """One run, every turn of which must have ended well, its counts those of the engine."""
    speed_bench("run", *FLAGS, *arguments, "--out", folder, timeout=1100)
    records, scores = read_records(folder), orjson.loads((folder / "scores.json").read_bytes())
    assert records.failures == ()
    assert {turn.counts.origin for turn in records.turns} == {"engine"}
    assert scores["reconciliation"]["equal"] is True
    [segment] = records.segments
    spent = segment.counters_after.since(segment.counters_before)
    assert spent.verify_steps == sum(turn.counts.verify_steps for turn in records.turns) > 0
    return records, scores


def test_a_draft_model_with_its_baseline(tmp_path: Path) -> None:
    drafting = ("--algorithm", "draft", "--draft", MODELS / "smollm2-draft")
    flags = ("--model", MODELS / "smollm2", *drafting, "--categories", "qa,math", "--max-tokens", 32)
    records, scores = measured(tmp_path / "run", *flags)
    for turn in records.turns:
        assert turn.counts.aligned
        assert turn.counts.plain_steps == 0
        assert {step.drafted for step in turn.counts.per_step} == {3}
    assert scores["baseline"]["identical_share"]["value"] == 1.0
    assert scores["acceptance"]["overall"]["acceptance_length"]["value"] > 1.2
    assert records.segments[0].engine["algorithm"] == "draft"
    assert records.segments[0].engine["draft_length"] == 3
    assert records.segments[0].engine["tokenizer_compared"] is True


def test_ngrams_at_several_streams_have_lengths_and_no_rates(tmp_path: Path) -> None:
    """Proposals that are missing are padded and verified all the same, so how many were drafted is not known."""
    flags = ("--model", MODELS / "tiny-llama", "--algorithm", "ngram", "--draft-length", 3, "--no-baseline")
    records, scores = measured(tmp_path / "run", *flags, "--concurrency", 4, "--categories", "qa,coding,math,stem")
    for turn in records.turns:
        assert turn.counts.drafted is None
        assert turn.counts.num_steps == turn.counts.verify_steps
    overall = scores["acceptance"]["overall"]
    assert overall["acceptance_length"]["value"] >= 1.0
    assert overall["draft_acceptance_rate"]["value"] is None
