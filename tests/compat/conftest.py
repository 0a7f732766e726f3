"""Metrics and prompts inside an environment with one version of the Hugging Face libraries: `make test-compat`.

The package is installed there as a wheel. Everything of Hugging Face that runs in this process looks at a fresh cache
that `speed-bench install` filled, and at no network. Where `evaluate` is not installed nothing here is collected.
"""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from compat.surroundings import clean_environment, speed_bench
from small_editions import write_edition

collect_ignore_glob = [] if importlib.util.find_spec("evaluate") else ["test_*.py"]


@pytest.fixture(scope="session")
def edition(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an edition of invented rows."""
    return write_edition(tmp_path_factory.mktemp("edition"))


@pytest.fixture(scope="session")
def home(edition: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh HF_HOME in which the modules and the edition are installed."""
    folder = tmp_path_factory.mktemp("hf")
    speed_bench("install", "--edition", str(edition), env=clean_environment(folder))
    return folder


@pytest.fixture(scope="session", autouse=True)
def unreachable_hub(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[str]]:
    """The exact call where nothing says that there is no network. It tries for ~25 s, beside all tests."""
    code = 'from datasets import load_dataset; print(load_dataset("speed-bench", "qualitative")["test"].num_rows)'
    argv, empty = [sys.executable, "-c", code], tmp_path_factory.mktemp("empty")
    env = clean_environment(home, HF_ENDPOINT="http://127.0.0.1:9")
    with subprocess.Popen(argv, cwd=empty, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as call:
        yield call
        call.kill()


@pytest.fixture(scope="session", autouse=True)
def offline(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """This process works in an empty directory, on the fresh cache, without a network."""
    assert not {"datasets", "evaluate", "huggingface_hub"} & set(sys.modules), "imported before the cache was set"
    with pytest.MonkeyPatch.context() as patch:
        for name in set(os.environ) - set(clean_environment(home)):
            patch.delenv(name)
        patch.setenv("HF_HOME", str(home))
        patch.setenv("HF_EVALUATE_OFFLINE", "1")
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        patch.chdir(tmp_path_factory.mktemp("empty"))
        yield


@pytest.fixture(scope="session")
def modules(offline: None) -> dict[str, Any]:
    """The modules by name, loaded by the bare names."""
    import evaluate

    return {
        "speed_bench_acceptance": evaluate.load("speed_bench_acceptance"),
        "speed_bench_throughput": evaluate.load("speed_bench_throughput"),
        "speed_bench_speedup": evaluate.load("speed_bench_speedup"),
    }


@pytest.fixture(scope="session")
def in_memory(modules: dict[str, Any]) -> dict[str, Any]:
    """The same, keeping their input in memory. For tests in which `_compute` raises: on disk, `evaluate` then leaves a
    locked file, for which the next call waits 1 s."""
    return {name: type(module)(keep_in_memory=True) for name, module in modules.items()}
