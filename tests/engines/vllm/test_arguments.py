"""Every command line that we start vLLM with, through its own parser; run by `make test-vllm`."""

import subprocess
from pathlib import Path

import orjson
import pytest

from speed_bench.algorithms import ALGORITHMS
from speed_bench.config import RunConfig, resolve
from speed_bench.engines import vllm

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300)]

HERE = Path(__file__).parent
PYTHON = HERE.parent.parent.parent / ".venv-vllm" / "bin" / "python"
EVERY_SETTING = {
    "engine.tensor_parallel": 2,
    "engine.data_parallel": 2,
    "engine.expert_parallel": 2,
    "engine.memory_fraction": 0.5,
    "engine.context_length": 4096,
    "engine.dtype": "float32",
    "engine.prefix_cache": True,
    "engine.extra.enforce_eager": True,
    "engine.extra.max_num_batched_tokens": 512,
}


def config_of(algorithm: str, **settings: object) -> RunConfig:
    draft = "org/draft@v1" if ALGORITHMS[algorithm].draft == "required" else None
    config, _ = resolve({"engine": "vllm", "model": "org/model@v2", "algorithm": algorithm, "draft": draft, **settings})
    return config


def words_of(config: RunConfig) -> list[str]:
    """What follows the name of the module."""
    launch = vllm.launch(config, model=str(config.model), draft=config.draft, port=8000, folder=HERE)
    return list(launch.argv[launch.argv.index("vllm.entrypoints.openai.api_server") + 1 :])


@pytest.fixture(scope="module")
def answers() -> dict:
    """What the real parser says of every algorithm, and of every setting."""
    configs = [config_of(algorithm) for algorithm in vllm.ALGORITHMS] + [config_of("none", **EVERY_SETTING)]
    asked = orjson.dumps([words_of(config) for config in configs])
    done = subprocess.run(
        [PYTHON, "-W", "ignore", HERE / "parse_arguments.py"], input=asked, capture_output=True, timeout=280, check=True
    )
    return orjson.loads(done.stdout.splitlines()[-1])


def test_every_command_line_is_accepted(answers: dict) -> None:
    assert [said for said in answers["parsed"] if isinstance(said, str)] == []


def test_speculation_is_spelt_as_it_is_there(answers: dict) -> None:
    for algorithm, said in zip(vllm.ALGORITHMS, answers["parsed"], strict=False):
        speculative = said.get("speculative_config")
        if algorithm == "none":
            assert speculative is None
            continue
        assert speculative["method"] in answers["methods"]
        assert set(speculative) <= set(answers["keys"])
        assert speculative["num_speculative_tokens"] == ALGORITHMS[algorithm].draft_length
        assert said["per_request_spec_decode_metrics"] == "detailed"
        if ALGORITHMS[algorithm].draft == "required":
            assert (speculative["model"], speculative["revision"]) == ("org/draft", "v1")


def test_settings_mean_there_what_they_mean_here(answers: dict) -> None:
    said = answers["parsed"][-1]
    assert (said["model"], said["revision"], said["served_model_name"]) == ("org/model", "v2", ["model"])
    assert (said["tensor_parallel_size"], said["data_parallel_size"], said["enable_expert_parallel"]) == (2, 2, True)
    assert (said["gpu_memory_utilization"], said["max_model_len"], said["dtype"]) == (0.5, 4096, "float32")
    assert (said["enable_prefix_caching"], said["enforce_eager"], said["max_num_batched_tokens"]) == (True, True, 512)
    assert answers["parsed"][0]["enable_prefix_caching"] is False
    assert answers["parsed"][0]["generation_config"] == "vllm"
