"""Exported prompts through the datasets of the real `sglang.bench_serving`; run by `make test-sglang`."""

import subprocess
from pathlib import Path

import orjson
import pytest
from hard_rows import MIXED

from speed_bench.data.exchange.exports import export, target

pytestmark = [pytest.mark.sglang, pytest.mark.timeout(300)]

HERE = Path(__file__).parent
ROOT = HERE.parent.parent.parent
PYTHON = ROOT / ".venv-sglang" / "bin" / "python"
TOKENIZER = ROOT / "build" / "models" / "tiny-llama"


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """What each of its datasets makes of our files."""
    folder = tmp_path_factory.mktemp("exported")
    files = {"agentic-trace": "sglang", "openai": "sglang-openai", "speed-bench": "jsonl"}
    asked = []
    for dataset, name in files.items():
        to = target(name)
        path = folder / f"{name}{to.suffixes[0]}"
        export(MIXED, "mine", to, path, turns=None if to.all_turns else "first", force=False)
        asked.append({"dataset_name": dataset, "dataset_path": str(path), "num_prompts": len(MIXED)})
    done = subprocess.run(
        [PYTHON, "-W", "ignore", HERE / "read_prompts.py", TOKENIZER],
        input=orjson.dumps(asked),
        capture_output=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return dict(zip(files, orjson.loads(done.stdout.splitlines()[-1]), strict=True))


def test_an_agentic_trace_replays_every_turn_as_it_is_in_order(read: dict[str, dict]) -> None:
    assert read["agentic-trace"]["turn_by_turn"]
    assert read["agentic-trace"]["prompts"] == [
        [[{"role": "user", "content": turn}] for turn in row.turns] for row in MIXED
    ]


def test_chat_requests_hold_the_first_turn_and_nothing_else_reaches_the_server(read: dict[str, dict]) -> None:
    assert not read["openai"]["turn_by_turn"]
    assert read["openai"]["prompts"] == [[{"role": "user", "content": row.turns[0]}] for row in MIXED]
    assert read["openai"]["extra"] == [{}] * len(MIXED)


def test_its_speed_bench_reads_plain_rows_and_sends_first_turns_in_the_template_shuffled(read: dict) -> None:
    prompts = read["speed-bench"]["prompts"]
    assert len(prompts) == len(MIXED)
    for row in MIXED:
        assert any(row.turns[0].strip() in prompt for prompt in prompts), row.turns[0][:60]
