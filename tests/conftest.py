"""Small real things that many tests need."""

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from shared_data import RANKS

from speed_bench.config import resolve
from speed_bench.provenance import DataFacts, ModelFacts, Provenance, TokenizerFacts, hardware
from speed_bench.runner.journal import RunFile
from speed_bench.types import SpecCounts, Step, TurnRecord

QUESTION = "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="session", autouse=True)
def ranks() -> Iterator[None]:
    """o200k_base from the folder beside the checkout; without it, in this process, one of single bytes."""
    if importlib.util.find_spec("tiktoken") is None:
        yield
        return
    import tiktoken

    from speed_bench.data import o200k

    with pytest.MonkeyPatch.context() as patch:
        if RANKS.is_dir():
            patch.setenv("TIKTOKEN_CACHE_DIR", str(RANKS))
        elif "TIKTOKEN_CACHE_DIR" not in os.environ:
            bytes_only = {bytes([value]): value for value in range(256)}
            of_bytes = tiktoken.Encoding("bytes", pat_str=r"\s+|\S+", mergeable_ranks=bytes_only, special_tokens={})
            patch.setattr(o200k, "encoding", lambda: of_bytes)
        yield


def turn_record(turn: int = 0, *, question: str = QUESTION, seed: int = 0, **changes: object) -> TurnRecord:
    """A turn of three tokens: one from prefill, two from a step that accepted one of three drafts."""
    counts = SpecCounts(3, 1, 1, 1, (Step(3, 1, 2),), "engine", aligned=True)
    fields = {
        "id": f"{question}/{turn}",
        "category": "qa",
        "seed": seed,
        "segment": 0,
        "slot": 0,
        "prompt_len": 4,
        "prompt_sha256": "00" * 32,
        "output_ids": (7, 8, 2),
        "prefill_tokens": 1,
        "sent_at_s": 0.5,
        "arrivals": ((1.0, 1), (1.5, 2)),
        "finished_at_s": 1.5,
        "finish_reason": "stop",
        "last_step": "unknown",
        "counts": counts,
    }
    return TurnRecord(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.fixture
def run_file() -> RunFile:
    """A `run.json` of one conversation with two turns."""
    config, protocol = resolve({})
    provenance = Provenance(
        model=ModelFacts(file="m.gguf", sha256="ab" * 32, num_bytes=1),
        draft=None,
        tokenizer=TokenizerFacts(template_sha256="cd" * 32, vocab_size=9, probes_sha256="12" * 32),
        data=DataFacts(edition="open", version="1", config="starter", manifest_sha256="ef" * 32, num_conversations=1),
        engine_version="1",
        versions={"python": "3"},
        hardware=hardware(),
    )
    return RunFile(config=config, protocol=protocol, provenance=provenance, num_turns_planned=2)


@pytest.fixture
def run_folder(tmp_path: Path, run_file: RunFile) -> Path:
    """A run folder that holds `run.json` and nothing else."""
    from speed_bench.runner.journal import write_run_file

    folder = tmp_path / "run"
    folder.mkdir()
    write_run_file(folder, run_file)
    return folder
