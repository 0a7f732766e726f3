"""What `speed-bench install --edition` leaves in the cache is what `load_dataset("speed-bench", …)` finds there.

Here the cache is read as `datasets` reads it; `tests/compat` asks three versions of `datasets` themselves.
"""

import importlib.util
import os
import resource
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import filelock
import orjson
import pytest
from command import speed_bench
from small_editions import write_edition

from speed_bench.data import cached
from speed_bench.data.configs import NUM_ROWS, choose
from speed_bench.data.editions import BUNDLED, load
from speed_bench.errors import CacheError, ConfigError, DataError
from speed_bench.install_data import data_folder, default, install, look, remove

pytest.importorskip("pyarrow")

STARTER = "starter"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return data_folder({"HF_HOME": str(tmp_path / "hf")})


@pytest.fixture(scope="module")
def edition(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_edition(tmp_path_factory.mktemp("edition"))


def starter(folder: Path, edition: str = "open", version: str = "0.0.9") -> Path:
    """The bundled small config under another name or version."""
    shutil.copytree(BUNDLED["open"], folder)
    manifest = orjson.loads((folder / "manifest.json").read_bytes())
    (folder / "manifest.json").write_bytes(orjson.dumps({**manifest, "edition": edition, "version": version}))
    return folder


def found_by_datasets(config: str, home: Path) -> cached.Contents | None:
    """What `load_dataset("speed-bench", config)` takes without a network: `_find_hash_in_cache` in short.

    Raises FileNotFoundError where that does, and asserts that what it takes is whole.
    """
    import pyarrow as pa

    paths = [path for path in home.glob(f"{config}/*/*") if path.is_dir() and path.name[0] != "."]
    for path in paths:
        assert orjson.loads((path / "dataset_info.json").read_bytes())["config_name"] == config
    if not paths:
        return None
    newest = max(paths, key=lambda path: path.stat().st_mtime)
    contents = cached.read(newest)
    with pa.OSFile(str(newest / "speed-bench-test.arrow")) as file:
        assert pa.ipc.open_stream(file).read_all().num_rows == contents.num_rows
    return contents


def put_foreign(home: Path, config: str) -> Path:
    """What another program's `load_dataset("/somewhere/speed-bench", config)` leaves, and newer than anything."""
    path = home / config / "0.0.0" / "0123456789abcdef"
    path.mkdir(parents=True)
    (path / "dataset_info.json").write_bytes(orjson.dumps({"config_name": config}))
    (path / "speed-bench-test.arrow").touch()
    os.utime(path, (4e9, 4e9))
    return path


def changes(done: list[tuple[str, str]]) -> set[str]:
    return {change for _, change in done}


@pytest.mark.parametrize(
    ("env", "folder"),
    [
        ({}, Path.home() / ".cache/huggingface/datasets"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/huggingface/datasets"),
        ({"XDG_CACHE_HOME": "/x", "HF_HOME": "~/h"}, Path.home() / "h/datasets"),
        ({"HF_HOME": "/h", "HF_DATASETS_CACHE": "/d"}, "/d"),
        ({"HF_DATASETS_CACHE": "~/d"}, Path.home() / "d"),
    ],
)
def test_the_cache_is_the_one_of_datasets(env: dict[str, str], folder: Path | str) -> None:
    assert data_folder(env) == Path(folder) / "speed-bench"


def test_an_edition_is_installed_as_its_manifest_names_it_and_a_second_time_nothing_changes(
    edition: Path, home: Path
) -> None:
    chosen = choose(str(edition))
    assert install(chosen, home) == [("qualitative", "installed"), ("throughput_1k", "installed")]
    for config in chosen.configs:
        found, dataset = found_by_datasets(config, home), load(str(edition), config)
        assert (found.edition, found.version, found.num_rows) == ("invented", "1.2", NUM_ROWS[config])
        assert found.manifest_sha256 == dataset.manifest_sha256
    before = {path: path.stat().st_mtime_ns for path in home.rglob("*")}
    assert changes(install(chosen, home)) == {"unchanged"}
    assert {path: path.stat().st_mtime_ns for path in home.rglob("*")} == before


def test_the_rows_are_those_of_the_edition_in_order(edition: Path, home: Path) -> None:
    import pyarrow as pa

    install(choose(str(edition), ["qualitative"]), home)
    (arrow,) = home.rglob("*.arrow")
    with pa.OSFile(str(arrow)) as file:
        table = pa.ipc.open_stream(file).read_all()
    assert table.schema.metadata is None, "what datasets >= 4 says of the columns is unreadable to 3"
    assert [tuple(row["turns"]) for row in table.to_pylist()] == [
        row.turns for row in load(str(edition), "qualitative").rows
    ]


def test_all_configs_of_an_edition_share_one_hash_so_that_a_call_without_a_config_is_refused_by_datasets(
    edition: Path, home: Path
) -> None:
    install(choose(str(edition), ["qualitative"]), home)
    install(choose(str(edition), ["throughput_1k"]), home)
    assert len({path.parts[-2:] for path in home.glob("*/*/*") if path.is_dir()}) == 1


class TestSizes:
    @pytest.mark.parametrize("config", NUM_ROWS)
    def test_a_published_name_stands_for_all_its_rows(self, tmp_path: Path, config: str) -> None:
        folder = write_edition(tmp_path / "few", [config], num_rows=79)
        with pytest.raises(DataError, match=f"invented 1.2 has 79 rows of {config}, which is never fewer than "):
            choose(str(folder))

    def test_a_smaller_config_is_installed_only_by_its_own_name(self, home: Path) -> None:
        with pytest.raises(DataError, match=r"has none of the configs qualitative, .*it has starter"):
            choose("open")
        assert install(choose("open", [STARTER]), home) == [(STARTER, "installed")]

    def test_the_bundled_edition_is_no_default_before_it_has_qualitative(self) -> None:
        has = "qualitative" in orjson.loads((BUNDLED["open"] / "manifest.json").read_bytes())["configs"]
        assert (default() is not None) == has

    def test_an_unknown_config_is_named_with_the_nearest(self, edition: Path) -> None:
        with pytest.raises(ConfigError, match="did you mean 'throughput_1k'"):
            choose(str(edition), ["thruput_1k"])

    def test_a_config_cannot_lead_out_of_the_cache(self, tmp_path: Path, home: Path) -> None:
        folder = starter(tmp_path / "evil")
        manifest = orjson.loads((folder / "manifest.json").read_bytes())
        manifest["configs"] = {"../../evil": manifest["configs"][STARTER]}
        (folder / "manifest.json").write_bytes(orjson.dumps(manifest))
        with pytest.raises(ConfigError, match=r"'../../evil' cannot be the name of a config"):
            choose(str(folder), ["../../evil"])
        with pytest.raises(ConfigError, match=r"'..' cannot be the name of a config"):
            remove(home, [".."], force=True)


class TestReplacing:
    def test_another_version_of_the_same_edition_makes_way_even_if_it_was_written_later(
        self, tmp_path: Path, home: Path
    ) -> None:
        install(choose(str(starter(tmp_path / "old")), [STARTER]), home)
        os.utime(look(home)[0].versions[0].path, (4e9, 4e9))
        assert install(choose("open", [STARTER]), home) == [(STARTER, "updated")]
        assert found_by_datasets(STARTER, home).version == "0.1.0"
        assert len(look(home)[0].versions) == 1

    def test_another_edition_is_replaced_only_when_forced(self, tmp_path: Path, home: Path) -> None:
        other = choose(str(starter(tmp_path / "other", "other")), [STARTER])
        install(other, home)
        assert install(choose("open", [STARTER]), home) == [(STARTER, "kept")]
        assert found_by_datasets(STARTER, home).edition == "other"
        assert install(choose("open", [STARTER]), home, force=True) == [(STARTER, "updated")]
        assert found_by_datasets(STARTER, home).edition == "open"

    def test_other_rows_under_the_same_name_and_version_are_another_edition(self, tmp_path: Path, home: Path) -> None:
        folder = write_edition(tmp_path / "one", ["chat"], num_rows=3)
        install(choose(str(folder), ["chat"]), home)
        changed = choose(str(write_edition(tmp_path / "two", ["chat"], num_rows=4)), ["chat"])
        assert install(changed, home) == [("chat", "kept")]
        assert install(changed, home, force=True) == [("chat", "updated")]

    def test_what_another_program_put_there_is_kept_unless_forced(self, home: Path) -> None:
        put_foreign(home, STARTER)
        chosen = choose("open", [STARTER])
        assert install(chosen, home) == remove(home) == [(STARTER, "kept")]
        assert install(chosen, home, force=True) == [(STARTER, "updated")]
        put_foreign(home, STARTER)
        assert not look(home)[0].current
        assert remove(home) == [(STARTER, "kept")]
        assert [version.contents for version in look(home)[0].versions] == [None]
        assert remove(home, force=True) == [(STARTER, "removed")]

    @pytest.mark.parametrize(
        "said", [None, [], {}, {"edition": "open"}, dict.fromkeys(cached.Contents.__annotations__, 1)]
    )
    def test_what_does_not_say_of_itself_what_we_say_is_not_ours(self, home: Path, said: object) -> None:
        path = put_foreign(home, STARTER)
        (path / "dataset_info.json").write_bytes(orjson.dumps({"config_name": STARTER, "speed_bench": said}))
        assert look(home)[0].versions[0].contents is None

    def test_a_config_that_joins_an_edition_takes_nothing_from_the_others(self, tmp_path: Path, home: Path) -> None:
        folder = write_edition(tmp_path / "grows", ["chat"], num_rows=3)
        install(choose(str(folder), ["chat"]), home)
        write_edition(folder, ["talk"], num_rows=2)
        chosen = choose(str(folder), ["chat", "talk"])
        assert install(chosen, home) == [("chat", "updated"), ("talk", "installed")]
        assert all(place.holds(chosen) for place in look(home))

    @pytest.mark.parametrize("damage", [b"", b"x"])
    def test_rows_that_were_damaged_in_the_cache_are_repaired(self, home: Path, damage: bytes) -> None:
        chosen = choose("open", [STARTER])
        install(chosen, home)
        (arrow,) = home.rglob("*.arrow")
        arrow.write_bytes(damage and arrow.read_bytes()[:-9] + damage * 9)
        assert not look(home)[0].current
        assert install(chosen, home) == [(STARTER, "updated")]
        assert found_by_datasets(STARTER, home).num_rows == 88


class TestUnfinished:
    @pytest.mark.parametrize("name", ["0123456789abcdef.incomplete", "0123456789abcdef"])
    def test_what_a_killed_program_began_breaks_every_load_until_it_is_installed_again(
        self, home: Path, name: str
    ) -> None:
        chosen = choose("open", [STARTER])
        install(chosen, home)
        left = home / STARTER / "0.0.0" / name
        left.mkdir(parents=True)
        with pytest.raises(FileNotFoundError):
            found_by_datasets(STARTER, home)
        assert not look(home)[0].current
        assert install(chosen, home) == [(STARTER, "updated")]
        assert found_by_datasets(STARTER, home)
        assert not left.parent.exists()

    def test_what_a_program_is_writing_is_left_to_it(self, home: Path) -> None:
        left = home / STARTER / "0.0.0" / "0123456789abcdef.incomplete"
        left.mkdir(parents=True)
        with (
            filelock.FileLock(left.with_name("0123456789abcdef_builder.lock")),
            pytest.raises(CacheError, match=r"incomplete is being written by another program; try again"),
        ):
            install(choose("open", [STARTER]), home)
        assert left.exists()
        install(choose("open", [STARTER]), home)
        assert found_by_datasets(STARTER, home)


def test_rows_that_are_not_those_of_the_manifest_replace_nothing(tmp_path: Path, home: Path) -> None:
    install(choose(str(starter(tmp_path / "old")), [STARTER]), home)
    folder = starter(tmp_path / "new", version="0.2.0")
    lines = (folder / "starter.jsonl").read_bytes().splitlines()
    (folder / "starter.jsonl").write_bytes(b"\n".join(lines[:-1]))
    with pytest.raises(DataError, match=f"row {orjson.loads(lines[-1])['question_id']} of starter in .* is missing"):
        install(choose(str(folder), [STARTER]), home)
    assert found_by_datasets(STARTER, home).version == "0.0.9"
    assert not list(home.glob(".part-*"))


def test_removing_takes_what_is_ours_and_the_locks_of_datasets(edition: Path, home: Path) -> None:
    assert remove(home) == []
    assert remove(home, ["qualitative"]) == [("qualitative", "absent")]
    install(choose(str(edition)), home)
    (home / "qualitative" / "1.2.0" / "0_builder.lock").touch()
    assert remove(home, ["qualitative"]) == [("qualitative", "removed")]
    assert [path.name for path in home.iterdir() if path.name[0] != "."] == ["throughput_1k"]
    assert remove(home) == [("throughput_1k", "removed")]
    assert [path.name for path in home.iterdir()] == [".speed-bench.lock"]


FULL = """
import resource, signal, sys
from pathlib import Path
from speed_bench.data.configs import choose
from speed_bench.install_data import install
chosen = choose("open", ["starter"])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
install(chosen, Path(sys.argv[1]))
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="needs a file size limit")
def test_when_there_is_no_room_left_what_was_there_stays_and_no_half_is_left(tmp_path: Path, home: Path) -> None:
    install(choose(str(starter(tmp_path / "old")), [STARTER]), home)
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_PROCESS")}
    done = subprocess.run([sys.executable, "-c", FULL, home], capture_output=True, text=True, env=env)
    assert (
        "speed-bench cannot be written: there is no room left; make room or rights, or set HF_DATASETS" in done.stderr
    )
    assert found_by_datasets(STARTER, home).version == "0.0.9"
    assert not list(home.glob(".part-*"))


KILL = """
import os, sys
from pathlib import Path
import pyarrow.ipc
from speed_bench.data.configs import choose
from speed_bench.install_data import install, look, remove
sys.path.insert(0, sys.argv[2])
from test_install_data import found_by_datasets, starter
root = Path(sys.argv[1])
old, new = choose(str(starter(root / "old")), ["starter"]), choose("open", ["starter"])

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
    home = root / str(number) / "speed-bench"
    install(old, home)
    child = os.fork()
    if child == 0:
        kill_before(number)
        install(new, home)
        os._exit(0)
    killed = os.waitpid(child, 0)[1]
    assert found_by_datasets("starter", home).version in ("0.0.9", "0.1.0"), number
    install(new, home)
    assert look(home)[0].holds(new), number
    remove(home)
    assert [path.name for path in home.iterdir()] == [".speed-bench.lock"], number
    if not killed:
        break
print(number)
"""


@pytest.mark.long
def test_killed_at_any_moment_the_old_or_the_new_rows_are_whole(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", KILL, tmp_path, Path(__file__).parent]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run(argv, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 15, "the kills fell into nothing"


def test_two_installs_at_once_both_succeed(edition: Path, home: Path) -> None:
    chosen = choose(str(edition), ["qualitative"])
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda _: install(chosen, home), range(2)))
    assert sorted(change for [(_, change)] in done) == ["installed", "unchanged"]


def test_a_cache_in_use_is_waited_for_and_then_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("speed_bench.install_data._LOCK_TIMEOUT_S", 0.1)
    home.mkdir(parents=True)
    with filelock.FileLock(home / ".speed-bench.lock"), pytest.raises(CacheError, match="is in use by another"):
        install(choose("open", [STARTER]), home)
    assert found_by_datasets(STARTER, home) is None


class TestVerb:
    def test_it_says_what_it_did_and_how_to_use_it(self, edition: Path, tmp_path: Path) -> None:
        said = speed_bench("install", "--edition", edition, env={"HF_HOME": tmp_path}, cwd=tmp_path).stdout
        for config in ("qualitative", "throughput_1k"):
            sha256 = load(str(edition), config).manifest_sha256
            assert f"installed  {config:<22}  invented 1.2, manifest {sha256}" in said
            assert f'load_dataset("speed-bench", "{config}")' in said
        assert "installed  speed_bench_acceptance" in said
        assert "HF_HUB_OFFLINE=1" in said
        assert ("pip install datasets" in said) == (importlib.util.find_spec("datasets") is None)

    def test_checking_is_for_ci(self, edition: Path, tmp_path: Path) -> None:
        env = {"HF_HOME": tmp_path}
        check = ("install", "--check", "--edition", edition)
        absent = speed_bench(*check, env=env, check=False)
        assert (absent.returncode, list(tmp_path.iterdir())) == (1, [])
        assert f"speed-bench install --edition {edition} makes them current" in absent.stdout
        speed_bench("install", "--edition", edition, "--config", "qualitative", env=env)
        assert speed_bench(*check, env=env, check=False).returncode == 1
        for asked in ((*check, "--config", "qualitative"), ("install", "--check")):
            lines = speed_bench(*asked, env=env).stdout.splitlines()
            sha256 = load(str(edition), "qualitative").manifest_sha256
            assert lines[-2].split() == ["qualitative", "invented", "1.2", "880", "yes", sha256]

    def test_of_an_edition_without_published_names_what_is_installed_is_checked(self, tmp_path: Path) -> None:
        env = {"HF_HOME": tmp_path / "hf"}
        mine = starter(tmp_path / "my prompts", edition="mine", version="1")
        check = ("install", "--check", "--edition", mine)
        none = speed_bench(*check, env=env, check=False)
        assert (none.returncode, "it has starter, which can be chosen by name" in none.stderr) == (2, True)
        speed_bench("install", "--edition", mine, "--config", STARTER, env=env)
        assert speed_bench(*check, env=env).stdout.splitlines()[-2].split()[:5] == [STARTER, "mine", "1", "88", "yes"]
        manifest = orjson.loads((mine / "manifest.json").read_bytes())
        (mine / "manifest.json").write_bytes(orjson.dumps({**manifest, "version": "2"}))
        later = speed_bench(*check, env=env, check=False)
        assert later.returncode == 1
        assert f"speed-bench install --edition '{mine}' --config starter makes them current" in later.stdout

    def test_what_is_kept_is_said_and_is_no_success(self, edition: Path, tmp_path: Path) -> None:
        env = {"HF_HOME": tmp_path}
        other = write_edition(tmp_path / "other", ["qualitative"], edition="other")
        speed_bench("install", "--edition", edition, env=env)
        done = speed_bench("install", "--edition", other, env=env, check=False)
        assert done.returncode == 1
        assert "kept       qualitative" in done.stdout
        assert "qualitative holds another edition, or another program's data; --force replaces it" in done.stdout
        asked = speed_bench("install", "--check", "--edition", other, env=env, check=False)
        assert asked.returncode == 1
        assert f"speed-bench install --edition {other} --force makes" in asked.stdout
        assert "updated    qualitative" in speed_bench("install", "--edition", other, "--force", env=env).stdout
        speed_bench("install", env=env)
        assert "removed    qualitative" in speed_bench("install", "--remove", "--config", "qualitative", env=env).stdout
        assert "removed    throughput_1k" in speed_bench("install", "--remove", env=env).stdout

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            (("--edition", "opn"), "unknown edition 'opn'; did you mean 'open'?"),
            (("--config", "qualitativ"), "unknown config 'qualitativ'"),
            (("--remove", "--edition", "open"), "--edition cannot be given with --remove"),
        ],
    )
    def test_what_cannot_be_is_a_sentence(self, tmp_path: Path, arguments: tuple[str, ...], sentence: str) -> None:
        done = speed_bench("install", *arguments, env={"HF_HOME": tmp_path}, check=False)
        assert (done.returncode, list(tmp_path.iterdir())) == (2, [])
        assert sentence in done.stderr
        assert "Traceback" not in done.stderr

    def test_without_pyarrow_it_says_what_to_install_and_changes_nothing(self, tmp_path: Path) -> None:
        code = "import sys; sys.modules['pyarrow'] = None\nfrom speed_bench.cli import main; main()"
        argv = [sys.executable, "-c", code, "install", "--edition", "open", "--config", STARTER]
        env = {**os.environ, "HF_HOME": str(tmp_path)}
        done = subprocess.run(argv, env=env, capture_output=True, text=True)
        assert done.returncode == 2
        assert "needs pyarrow; pip install datasets" in done.stderr
        assert not list(tmp_path.rglob("*.py"))
