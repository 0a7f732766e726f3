"""What `speed-bench install` leaves in the cache is what `evaluate.load` finds there, whatever was there before."""

import ast
import hashlib
import importlib.metadata
import importlib.util
import os
import resource
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import filelock
import pytest
from command import speed_bench

from speed_bench.data.editions import load
from speed_bench.errors import CacheError
from speed_bench.install import install, look, module_folder, modules_folder, remove
from speed_bench.metric_files import MetricModule, metric_modules

ROOT = Path(__file__).parent.parent.parent
MODULES = metric_modules()
ACCEPTANCE = MODULES[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "hf" / "modules" / "evaluate_modules" / "metrics"


def found_by_evaluate(name: str, folder: Path) -> bytes | None:
    """The code that `evaluate.load(name)` imports without a network: `CachedEvaluationModuleFactory` in short."""
    for kind in ("metric", "comparison", "measurement"):
        home = folder / f"evaluate-{kind}--{name}"
        if home.is_dir() and (versions := [path for path in home.iterdir() if len(path.name) == 64]):
            return max((path / f"{name}.py" for path in versions), key=lambda path: path.stat().st_mtime).read_bytes()
    return None


def put_version(folder: Path, module: MetricModule, code: bytes, version: str | None = None) -> Path:
    """A version of a module as an earlier speed-bench would have left it, or with any name; the newest of all."""
    home = module_folder(module, folder) / (version or hashlib.sha256(code).hexdigest())
    home.mkdir(parents=True, exist_ok=True)
    (home / "__init__.py").touch()
    (home / f"{module.name}.py").write_bytes(code)
    os.utime(home / f"{module.name}.py", (4e9, 4e9))
    return home


def held(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file with its time and inode."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.stat().st_ino)
        for path in folder.rglob("*")
        if path.suffix != ".lock"
    }


def changes(done: list[tuple[MetricModule, str]]) -> set[str]:
    return {change for _, change in done}


@pytest.mark.parametrize(
    ("env", "modules"),
    [
        ({}, Path.home() / ".cache/huggingface/modules"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/huggingface/modules"),
        ({"XDG_CACHE_HOME": "~/x"}, Path.home() / "x/huggingface/modules"),
        ({"XDG_CACHE_HOME": "/x", "HF_HOME": "~/h"}, Path.home() / "h/modules"),
        ({"HF_HOME": "/h", "HF_MODULES_CACHE": "/m"}, "/m"),
        ({"HF_MODULES_CACHE": "~/m"}, "~/m"),
        ({"HF_HOME": ""}, "modules"),
    ],
)
def test_the_cache_is_the_one_of_evaluate(env: dict[str, str], modules: Path | str) -> None:
    assert modules_folder(env) == Path(modules) / "evaluate_modules" / "metrics"


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_a_module_is_to_evaluate_what_its_code_says(module: MetricModule) -> None:
    classes = [node for node in ast.parse(module.code).body if isinstance(node, ast.ClassDef)]
    bases = {ast.unparse(base) for node in classes for base in node.bases}
    assert {base for base in bases if base.startswith("evaluate.")} == {f"evaluate.{module.kind.capitalize()}"}


def test_evaluate_finds_every_module_and_a_second_install_changes_nothing(folder: Path) -> None:
    assert changes(install(MODULES, folder)) == {"installed"}
    assert {module.name: found_by_evaluate(module.name, folder) for module in MODULES} == {
        module.name: module.code for module in MODULES
    }
    before = held(folder)
    assert changes(install(MODULES, folder)) == {"unchanged"}
    assert held(folder) == before


def test_every_folder_down_to_the_code_is_a_package(folder: Path) -> None:
    install(MODULES, folder)
    codes = list(folder.rglob("speed_bench_*.py"))
    assert len(codes) == 3
    for code in codes:
        assert all((parent / "__init__.py").exists() for parent in code.parents[:5])


def test_an_older_version_makes_way_even_if_it_was_written_later(folder: Path) -> None:
    put_version(folder, ACCEPTANCE, b"old = 1")
    assert found_by_evaluate(ACCEPTANCE.name, folder) == b"old = 1"
    assert not look(ACCEPTANCE, folder).current
    assert [change for _, change in install(MODULES, folder)] == ["updated", "installed", "installed"]
    assert found_by_evaluate(ACCEPTANCE.name, folder) == ACCEPTANCE.code
    put_version(folder, ACCEPTANCE, b"old = 1")
    assert not look(ACCEPTANCE, folder).current
    install(MODULES, folder)
    assert found_by_evaluate(ACCEPTANCE.name, folder) == ACCEPTANCE.code


@pytest.mark.parametrize("version", [None, ACCEPTANCE.sha256, "0" * 64])
def test_what_was_edited_is_kept_unless_forced(folder: Path, version: str | None) -> None:
    edited = put_version(folder, ACCEPTANCE, b"old = 1", version)
    (edited / "notes.txt").touch()
    assert look(ACCEPTANCE, folder).edited == (edited,)
    assert changes(install([ACCEPTANCE], folder)) == {"kept"}
    assert changes(remove([ACCEPTANCE], folder)) == {"kept"}
    assert found_by_evaluate(ACCEPTANCE.name, folder) == b"old = 1"
    assert changes(install([ACCEPTANCE], folder, force=True)) == {"updated"}
    assert found_by_evaluate(ACCEPTANCE.name, folder) == ACCEPTANCE.code


def test_a_module_that_was_imported_is_not_taken_for_edited(folder: Path) -> None:
    install([ACCEPTANCE], folder)
    compiled = module_folder(ACCEPTANCE, folder) / ACCEPTANCE.sha256 / "__pycache__"
    compiled.mkdir()
    (compiled / f"{ACCEPTANCE.name}.cpython-311.pyc").touch()
    assert look(ACCEPTANCE, folder).current
    assert changes(remove([ACCEPTANCE], folder)) == {"removed"}


@pytest.mark.parametrize("version", [ACCEPTANCE.sha256, "0" * 64])
def test_a_version_without_code_is_repaired(folder: Path, version: str) -> None:
    install([ACCEPTANCE], folder)
    (module_folder(ACCEPTANCE, folder) / version).mkdir(exist_ok=True)
    (module_folder(ACCEPTANCE, folder) / version / f"{ACCEPTANCE.name}.py").unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError):
        found_by_evaluate(ACCEPTANCE.name, folder)
    assert not look(ACCEPTANCE, folder).current
    assert changes(install([ACCEPTANCE], folder)) == {"updated"}
    assert found_by_evaluate(ACCEPTANCE.name, folder) == ACCEPTANCE.code


def test_removing_takes_our_folders_and_no_others(folder: Path) -> None:
    other = folder / "evaluate-metric--accuracy" / ("1" * 64) / "accuracy.py"
    other.parent.mkdir(parents=True)
    other.touch()
    assert changes(remove(MODULES, folder)) == {"absent"}
    install(MODULES, folder)
    assert changes(remove(MODULES, folder)) == {"removed"}
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == ["evaluate-metric--accuracy"]
    assert other.exists()
    assert changes(remove(MODULES, folder)) == {"absent"}


FULL = """
import resource, signal, sys
from pathlib import Path
from speed_bench.install import install
from speed_bench.metric_files import metric_modules
modules = metric_modules()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
install(modules, Path(sys.argv[1]))
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="needs a file size limit")
def test_when_there_is_no_room_left_what_was_there_stays_and_no_half_is_left(folder: Path) -> None:
    old = put_version(folder, ACCEPTANCE, b"old = 1")
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_PROCESS")}
    done = subprocess.run([sys.executable, "-c", FULL, folder], capture_output=True, text=True, env=env)
    assert "metrics cannot be written: there is no room left; make room or rights, or set HF_MODULES" in done.stderr
    assert found_by_evaluate(ACCEPTANCE.name, folder) == b"old = 1"
    assert sorted(path.name for path in old.parent.iterdir()) == [old.name, "__init__.py"]


KILL = """
import os, sys
from pathlib import Path
from speed_bench.install import install, look, remove
from speed_bench.metric_files import metric_modules
sys.path.insert(0, sys.argv[2])
from test_install import found_by_evaluate, put_version
module, root = metric_modules()[0], Path(sys.argv[1])

def kill_before(number):
    def count(event, arguments):
        nonlocal number
        if event.split(".")[0] in ("open", "os", "shutil"):
            number -= 1
            if number == 0:
                os._exit(9)
    sys.addaudithook(count)

number = 0
while True:
    number += 1
    folder = root / str(number) / "modules" / "evaluate_modules" / "metrics"
    old = put_version(folder, module, b"old = 1")
    child = os.fork()
    if child == 0:
        kill_before(number)
        install([module], folder)
        os._exit(0)
    killed = os.waitpid(child, 0)[1]
    assert found_by_evaluate(module.name, folder) in (b"old = 1", module.code), number
    install([module], folder)
    assert look(module, folder).current, number
    remove([module], folder)
    assert not old.parent.exists(), number
    if not killed:
        break
print(number)
"""


@pytest.mark.long
def test_killed_at_any_moment_the_old_or_the_new_module_is_whole(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", KILL, tmp_path, Path(__file__).parent]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
    done = subprocess.run(argv, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 15, "the kills fell into nothing"


def test_two_installs_at_once_both_succeed(tmp_path: Path) -> None:
    env = {"HF_MODULES_CACHE": tmp_path}
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: speed_bench("install", env=env), range(2)))
    speed_bench("install", "--check", env=env)


def test_a_cache_in_use_is_waited_for_and_then_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("speed_bench.install._LOCK_TIMEOUT_S", 0.1)
    folder.mkdir(parents=True)
    with filelock.FileLock(folder / ".speed-bench.lock"), pytest.raises(CacheError, match="is in use by another"):
        install(MODULES, folder)
    assert found_by_evaluate(ACCEPTANCE.name, folder) is None
    install(MODULES, folder)
    with filelock.FileLock(folder / ".speed-bench.lock"):
        assert changes(install(MODULES, folder)) == {"unchanged"}


def test_a_cache_that_cannot_be_read_is_named(folder: Path) -> None:
    install([ACCEPTANCE], folder)
    home = module_folder(ACCEPTANCE, folder)
    home.rename(home.with_suffix(".away"))
    home.touch()
    with pytest.raises(CacheError, match=f"{ACCEPTANCE.name} cannot be read"):
        look(ACCEPTANCE, folder)


class TestVerb:
    def test_it_says_what_it_did_and_how_to_use_it(self, tmp_path: Path) -> None:
        env = {"HF_MODULES_CACHE": tmp_path}
        said = speed_bench("install", env=env, cwd=tmp_path).stdout
        for module in MODULES:
            assert f"installed  {module.name}" in said
            assert f'evaluate.load("{module.name}")' in said
            assert found_by_evaluate(module.name, modules_folder({"HF_MODULES_CACHE": str(tmp_path)})) == module.code
        assert "HF_EVALUATE_OFFLINE=1" in said
        assert f"has {len(load('open', 'starter').rows)} of the 880 rows" in said
        assert ("pip install evaluate" in said) == (importlib.util.find_spec("evaluate") is None)

    def test_checking_is_for_ci(self, tmp_path: Path) -> None:
        env = {"HF_MODULES_CACHE": tmp_path}
        folder = modules_folder({"HF_MODULES_CACHE": str(tmp_path)})
        absent = speed_bench("install", "--check", env=env, check=False)
        assert (absent.returncode, list(tmp_path.iterdir())) == (1, [])
        install(MODULES, folder)
        lines = speed_bench("install", "--check", env=env).stdout.splitlines()
        assert lines[1].split() == [
            ACCEPTANCE.name,
            ACCEPTANCE.sha256[:12],
            "yes",
            str(module_folder(ACCEPTANCE, folder)),
        ]
        put_version(folder, ACCEPTANCE, b"old = 1")
        outdated = speed_bench("install", "--check", env=env, check=False)
        assert outdated.returncode == 1
        assert outdated.stdout.splitlines()[1].split()[1:3] == [hashlib.sha256(b"old = 1").hexdigest()[:12], "no"]
        put_version(folder, ACCEPTANCE, b"mine = 1", ACCEPTANCE.sha256)
        edited = speed_bench("install", "--check", env=env, check=False)
        assert edited.stdout.splitlines()[1].split()[2] == "edited"
        assert "install --force makes" in edited.stdout

    def test_what_is_kept_is_said_and_is_no_success(self, tmp_path: Path) -> None:
        env = {"HF_MODULES_CACHE": tmp_path}
        put_version(modules_folder({"HF_MODULES_CACHE": str(tmp_path)}), ACCEPTANCE, b"mine = 1", "0" * 64)
        for flags in ((), ("--remove",)):
            done = speed_bench("install", *flags, env=env, check=False)
            assert done.returncode == 1
            assert f"kept       {ACCEPTANCE.name}" in done.stdout
            assert f"evaluate-metric--{ACCEPTANCE.name} was edited; --force gives the edit up" in done.stdout
        assert f"removed    {ACCEPTANCE.name}" in speed_bench("install", "--remove", "--force", env=env).stdout

    def test_two_orders_at_once_are_refused(self, tmp_path: Path) -> None:
        done = speed_bench("install", "--check", "--remove", env={"HF_MODULES_CACHE": tmp_path}, check=False)
        assert done.returncode == 2
        assert "--check cannot be given with --remove or --force" in done.stderr

    def test_a_cache_that_cannot_be_written_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        done = speed_bench("install", env={"HF_MODULES_CACHE": tmp_path / "file" / "modules"}, check=False)
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert str(tmp_path / "file") in line
        assert "cannot be written: Not a directory; make room or rights, or set HF_MODULES_CACHE" in line

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    def test_a_read_only_cache_is_named_and_one_that_is_current_is_enough(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o500)
        done = speed_bench("install", env={"HF_MODULES_CACHE": tmp_path / "modules"}, check=False)
        assert done.returncode == 2
        assert "Permission denied; make room or rights" in done.stderr


@pytest.mark.long
def test_the_wheel_brings_the_modules_and_nothing_else(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", tmp_path, ROOT], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    unpacked = tmp_path / "unpacked"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(unpacked)
        names = set(archive.namelist())
    expected = {f"speed_bench/metric_modules/{module.name}/{file}" for module in MODULES for file in module.files}
    assert {name for name in names if "metric_modules" in name} == expected
    version = importlib.metadata.version("speed-bench")
    assert {name.partition("/")[0] for name in names} == {"speed_bench", f"speed_bench-{version}.dist-info"}
    assert not [name for name in names if "__pycache__" in name]
    code = "from speed_bench.metric_files import *; print(*(module.sha256 for module in metric_modules()), _root())"
    code = code.replace("import *", "import metric_modules, _root")
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(unpacked)}, cwd=tmp_path, capture_output=True
    )
    found = done.stdout.decode().split()
    assert found == [*(module.sha256 for module in MODULES), str(unpacked / "speed_bench" / "metric_modules")]
