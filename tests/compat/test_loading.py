"""How `evaluate.load` finds the modules: by bare name, as `org/name`, by path. What it says without the package."""

import functools
import importlib.metadata
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
from compat.surroundings import METRICS, NAMES, clean_environment, speed_bench
from fake_hub import FakeHub

import speed_bench as package

BARE_NAMES = """
import evaluate, json
acceptance = evaluate.load("speed_bench_acceptance")
throughput = evaluate.load("speed_bench_throughput")
speedup = evaluate.load("speed_bench_speedup")
run = {"rows": ["a/0"], "settings": {"temperature": 0, "max_tokens": 8, "concurrency": 1}}
print(json.dumps([
    acceptance.compute(predictions=[[4, 3], [1]])["acceptance_length"],
    throughput.compute(predictions=[[[0.5, 1], [1.0, 3]]], start_s=[0.0])["output_tps"],
    speedup.compute(predictions1=[[5, 6]], predictions2=[[5, 6]], run1=run, run2=run)["identical_share"],
]))
"""


@functools.cache
def without_network() -> tuple[str, ...]:
    """What runs a command in an empty network of its own; nothing where the machine does not allow that."""
    for command in (("unshare", "-n"), ("unshare", "-rn")):
        try:
            if subprocess.run([*command, "true"], capture_output=True).returncode == 0:
                return command
        except FileNotFoundError:
            break
    return ()


def run(code: str, folder: Path, env: dict[str, str], prefix: tuple[str, ...] = ()) -> str:
    """What a new interpreter in a folder prints."""
    done = subprocess.run([*prefix, sys.executable, "-c", code], cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_this_environment_is_what_its_name_says():
    datasets = importlib.metadata.version("datasets")
    assert Path(sys.prefix).name in (f".venv-datasets-{datasets.rpartition('.')[0]}", ".venv")
    assert importlib.util.find_spec("torch") is None
    if Path(sys.prefix).name != ".venv":
        assert Path(package.__file__).is_relative_to(sys.prefix), "the wheel is tested, not the checkout"


@pytest.mark.parametrize("more", [{}, {"HF_EVALUATE_OFFLINE": "1"}], ids=["as-it-is", "HF_EVALUATE_OFFLINE"])
def test_bare_names_load_in_an_empty_directory_without_a_network(tmp_path: Path, more: dict[str, str]):
    home, empty = tmp_path / "hf", tmp_path / "empty"
    empty.mkdir()
    speed_bench("install", env=clean_environment(home))
    prefix = without_network()
    unreachable = {} if prefix else {"HF_ENDPOINT": "http://127.0.0.1:9"}
    found = run(BARE_NAMES, empty, clean_environment(home, **unreachable, **more), prefix)
    assert json.loads(found) == [(3.5 + 1) / 2, 4.0, 1.0]


def test_what_is_installed_is_the_code_of_the_checkout(home: Path):
    for name in NAMES:
        (installed,) = home.rglob(f"{name}.py")
        assert installed.read_bytes() == (METRICS / name / f"{name}.py").read_bytes()


def test_a_name_with_an_owner_loads_from_a_space(tmp_path: Path):
    code = BARE_NAMES.replace('load("', 'load("some-org/')
    with FakeHub() as hub:
        env = clean_environment(tmp_path) | hub.environment(tmp_path)
        speed_bench("publish", "metrics", "--repo", "some-org", env=env)
        assert json.loads(run(code, tmp_path, env)) == [(3.5 + 1) / 2, 4.0, 1.0]


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_and_a_file_load_by_path(name: str):
    import evaluate

    for path in (METRICS / name, METRICS / name / f"{name}.py"):
        module = evaluate.load(str(path))
        assert module.name == name
        assert module.module_type == ("comparison" if name == "speed_bench_speedup" else "metric")


@pytest.mark.parametrize("name", NAMES)
def test_without_the_package_it_says_what_to_install(name: str, monkeypatch: pytest.MonkeyPatch):
    import evaluate

    monkeypatch.setitem(sys.modules, "speed_bench", None)
    with pytest.raises(ImportError, match="pip install speed_bench'"):
        evaluate.load(str(METRICS / name))
