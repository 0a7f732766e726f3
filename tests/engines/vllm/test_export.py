"""Exported prompts through the datasets of the real `vllm bench serve`; run by `make test-vllm`."""

import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

import orjson
import pytest
from hard_rows import MIXED

from speed_bench.data.exchange.exports import export, target
from speed_bench.types import Conversation

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300)]

HERE = Path(__file__).parent
ROOT = HERE.parent.parent.parent
PYTHON = ROOT / ".venv-vllm" / "bin" / "python"
TOKENIZER = ROOT / "build" / "models" / "tiny-llama"
ORDER = ("--skip-chat-template", "--disable-shuffle", "--num-prompts", "-1")


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The prompts of every file that it reads."""
    folder = tmp_path_factory.mktemp("exported")
    first = export(MIXED, "mine", target("vllm"), folder / "p.jsonl", turns="first", force=False)
    export(MIXED, "qualitative", target("nemo-skills"), folder / "qualitative.jsonl", turns=None, force=False)
    export(MIXED, "mine", target("jsonl"), folder / "rows.jsonl", turns=None, force=False)
    asked = {
        "as told": [*shlex.split(first.usage)[3:], "--skip-chat-template"],
        "templated": shlex.split(first.usage)[3:],
        "speed_bench": ["--dataset-name", "speed_bench", "--dataset-path", str(folder), *ORDER],
        "spec_bench": ["--dataset-name", "spec_bench", "--dataset-path", str(folder / "rows.jsonl"), *ORDER],
    }
    asked["a category"] = [*asked["spec_bench"], "--spec-bench-category", "qa"]
    done = subprocess.run(
        [PYTHON, "-W", "ignore", HERE / "read_prompts.py", TOKENIZER],
        input=orjson.dumps(list(asked.values())),
        capture_output=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return dict(zip(asked, orjson.loads(done.stdout.splitlines()[-1]), strict=True))


def test_the_command_that_is_printed_sends_every_first_turn_as_it_is_in_order(read: dict[str, list[str]]) -> None:
    assert read["as told"] == [row.turns[0] for row in MIXED]


def test_without_skip_chat_template_it_applies_the_template_itself(read: dict[str, list[str]]) -> None:
    assert holds(read["templated"], MIXED)


def test_its_own_speed_bench_reads_the_layout_of_nemo_skills_and_sends_first_turns(read: dict[str, list[str]]) -> None:
    assert read["speed_bench"] == [row.turns[0] for row in MIXED]


def test_its_spec_bench_reads_plain_rows_and_categories_and_always_applies_the_template(read: dict) -> None:
    assert holds(read["spec_bench"], MIXED)
    assert holds(read["a category"], [row for row in MIXED if row.category == "qa"])


def holds(prompts: list[str], rows: Sequence[Conversation]) -> bool:
    """Whether the prompts are the first turns of the rows in a chat template, which may strip them."""
    pairs = list(zip(prompts, [row.turns[0] for row in rows], strict=True))
    return all(text.strip() in prompt and len(prompt) > len(text) for prompt, text in pairs)
