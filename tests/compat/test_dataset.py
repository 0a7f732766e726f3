"""`load_dataset("speed-bench", …)` after `speed-bench install --edition`, the builder class, the folder of an edition,
and a clone that has the name of the dataset."""

import importlib
import importlib.metadata
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from compat.surroundings import clean_environment, speed_bench
from small_editions import write_edition

from speed_bench.data.configs import NUM_ROWS, choose
from speed_bench.data.editions import load
from speed_bench.install_data import install

ROOT = Path(__file__).parent.parent.parent
SCRIPT = ROOT / "dataset_scripts" / "speed_bench_dataset.py"
MAJOR = int(importlib.metadata.version("datasets").partition(".")[0])
CONFIGS = ("qualitative", "throughput_1k")

EXACT_CALLS = """
from datasets import load_dataset
import json
qualitative = load_dataset("speed-bench", "qualitative")
throughput = load_dataset("speed-bench", "throughput_1k")
print(json.dumps([qualitative["test"].num_rows, qualitative["test"][879], throughput["test"].num_rows]))
"""


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache of datasets in which nothing is."""
    return tmp_path / "datasets"


@pytest.fixture(scope="module")
def builder() -> Iterator[Any]:
    """The class of the script, imported as a module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPT.parent)
        yield importlib.import_module(SCRIPT.stem).SpeedBench


def rows(edition: Path, config: str) -> list[dict[str, Any]]:
    """What a load must give."""
    return [{**asdict(row), "turns": list(row.turns)} for row in load(str(edition), config).rows]


def by_name(config: str | None, **options: Any) -> Any:
    from datasets import load_dataset

    return load_dataset("speed-bench", config, **options)


def install_into(cache: Path, edition: Path, *configs: str, force: bool = False) -> set[str]:
    """What happened to the configs of an edition that is installed in a cache of datasets."""
    return {change for _, change in install(choose(str(edition), configs), cache / "speed-bench", force=force)}


@pytest.mark.parametrize("config", CONFIGS)
def test_the_exact_calls_give_the_rows_of_the_edition(config: str, edition: Path):
    loaded = by_name(config)
    assert list(loaded) == ["test"]
    assert loaded["test"].num_rows == NUM_ROWS[config]
    assert loaded["test"].to_list() == rows(edition, config)


@pytest.mark.parametrize(
    "options",
    [{}, {"streaming": True}, {"download_mode": "force_redownload"}, {"revision": "v9"}, {"keep_in_memory": True}],
    ids=str,
)
def test_every_way_to_call_gives_the_same_rows(options: dict[str, Any], edition: Path):
    assert list(by_name("qualitative", split="test", **options)) == rows(edition, "qualitative")


def test_a_part_of_the_split_can_be_asked_for(edition: Path):
    assert by_name("qualitative", split="test[80:82]").to_list() == rows(edition, "qualitative")[80:82]


def test_rows_can_be_mapped_and_the_rows_stay_what_they_are(edition: Path):
    loaded = by_name("throughput_1k", split="test")
    assert loaded.map(lambda row: {"num_turns": len(row["turns"])})[0]["num_turns"] == 2
    assert by_name("throughput_1k", split="test").to_list() == rows(edition, "throughput_1k")


def test_the_columns_are_text_and_a_list_of_text_and_a_truth():
    from datasets import Features, Sequence, Value

    loaded = by_name("qualitative", split="test")
    text, flag = Value("string"), Value("bool")
    columns = ("question_id", "category", "sub_category", "turns", "source", "src_id", "difficulty", "multiturn")
    kinds = {"turns": Sequence(text), "multiturn": flag}
    assert loaded.features == Features({name: kinds.get(name, text) for name in columns})


@pytest.mark.parametrize("config", CONFIGS)
def test_the_info_says_edition_version_licence_and_manifest_hash(config: str, edition: Path):
    info = by_name(config, split="test").info
    sha256 = load(str(edition), config).manifest_sha256
    assert f"config {config} of the edition invented 1.2. Manifest sha256: {sha256}." in info.description
    assert (str(info.version), info.license, info.config_name) == ("1.2.0", "CC0-1.0", config)
    assert info.splits["test"].num_examples == NUM_ROWS[config]


def test_without_a_config_datasets_says_which_there_are():
    with pytest.raises(
        ValueError, match="multiple 'speed-bench' configurations in the cache: qualitative, throughput_1k"
    ):
        by_name(None)


def test_what_a_killed_load_left_breaks_the_name_until_it_is_installed_again(cache: Path, edition: Path):
    install_into(cache, edition)
    left = cache / "speed-bench" / "qualitative" / "0.0.0" / "0123456789abcdef.incomplete"
    left.mkdir(parents=True)
    with pytest.raises((OSError, ValueError)):
        by_name("qualitative", cache_dir=str(cache))
    assert install_into(cache, edition) == {"updated", "unchanged"}
    assert by_name("qualitative", cache_dir=str(cache))["test"].num_rows == 880


def test_a_newer_version_of_an_edition_takes_the_name(cache: Path, tmp_path: Path):
    for version in ("9.0", "10.0", "0.1"):
        folder = write_edition(tmp_path / version, ["qualitative"], version=version)
        assert install_into(cache, folder) <= {"installed", "updated"}
        loaded = by_name("qualitative", split="test", cache_dir=str(cache))
        assert f"invented {version}." in loaded.info.description


def test_another_edition_takes_the_name_only_when_forced(cache: Path, edition: Path, tmp_path: Path):
    other = write_edition(tmp_path / "other", ["qualitative"], edition="other")
    install_into(cache, edition, "qualitative")
    assert install_into(cache, other) == {"kept"}
    assert by_name("qualitative", cache_dir=str(cache))["test"].to_list() == rows(edition, "qualitative")
    assert install_into(cache, other, force=True) == {"updated"}
    assert by_name("qualitative", cache_dir=str(cache))["test"].to_list() == rows(other, "qualitative")


def test_a_folder_of_that_name_that_was_loaded_by_its_path_has_the_name_until_forced(
    cache: Path, edition: Path, tmp_path: Path
):
    from datasets import load_dataset

    install_into(cache, edition, "qualitative")
    other = write_edition(tmp_path / "speed-bench", ["qualitative"], edition="other")
    assert load_dataset(str(other), "qualitative", cache_dir=str(cache))["test"].to_list() == rows(other, "qualitative")
    assert by_name("qualitative", cache_dir=str(cache))["test"].to_list() == rows(other, "qualitative")
    assert install_into(cache, edition, "qualitative") == {"kept"}
    assert install_into(cache, edition, "qualitative", force=True) == {"updated"}
    assert by_name("qualitative", cache_dir=str(cache))["test"].to_list() == rows(edition, "qualitative")


@pytest.mark.parametrize("config", CONFIGS)
def test_the_folder_of_an_edition_loads_by_its_card(config: str, cache: Path, edition: Path):
    from datasets import load_dataset

    assert load_dataset(str(edition), config, cache_dir=str(cache))["test"].to_list() == rows(edition, config)


class TestBuilder:
    @pytest.mark.parametrize("config", CONFIGS)
    def test_it_builds_an_edition(self, builder: Any, config: str, cache: Path, edition: Path):
        made = builder(config_name=config, data_dir=str(edition), cache_dir=str(cache))
        made.download_and_prepare()
        loaded = made.as_dataset(split="test")
        assert loaded.to_list() == rows(edition, config)
        assert load(str(edition), config).manifest_sha256 in loaded.info.description
        assert loaded.features == by_name(config, split="test").features
        assert list(made.as_streaming_dataset(split="test")) == rows(edition, config)

    def test_it_has_the_six_configs(self, builder: Any):
        sizes = ("1k", "2k", "8k", "16k", "32k")
        assert list(builder.builder_configs) == ["qualitative", *(f"throughput_{size}" for size in sizes)]

    def test_what_it_prepares_as_speed_bench_has_the_bare_name(self, builder: Any, cache: Path, edition: Path):
        made = builder(
            config_name="qualitative", data_dir=str(edition), cache_dir=str(cache), dataset_name="speed-bench"
        )
        made.download_and_prepare()
        assert by_name("qualitative", cache_dir=str(cache))["test"].to_list() == rows(edition, "qualitative")

    def test_an_edition_that_was_built_again_is_not_taken_from_the_cache(
        self, builder: Any, cache: Path, tmp_path: Path
    ):
        folder = tmp_path / "edition"
        for edition in ("one", "two"):
            write_edition(folder, ["qualitative"], edition=edition)
            made = builder(config_name="qualitative", data_dir=str(folder), cache_dir=str(cache))
            made.download_and_prepare()
            assert made.as_dataset(split="test").to_list() == rows(folder, "qualitative")
            shutil.rmtree(folder)

    def test_rows_that_are_not_those_of_the_manifest_are_refused(
        self, builder: Any, cache: Path, edition: Path, tmp_path: Path
    ):
        folder, other = tmp_path / "edition", write_edition(tmp_path / "other", ["qualitative"], edition="other")
        shutil.copytree(edition, folder)
        shutil.copytree(other / "qualitative", folder / "qualitative", dirs_exist_ok=True)
        made = builder(config_name="qualitative", data_dir=str(folder), cache_dir=str(cache))
        with pytest.raises(Exception) as refused:
            made.download_and_prepare()
        assert "is not the text that its manifest describes" in str(refused.value.__cause__ or refused.value)
        assert not list(cache.rglob("dataset_info.json"))

    def test_too_few_rows_are_refused(self, builder: Any, cache: Path, tmp_path: Path):
        few = write_edition(tmp_path / "few", ["qualitative"], num_rows=88)
        with pytest.raises(
            ValueError if False else Exception, match="has 88 rows of qualitative, which is never fewer"
        ):
            builder(config_name="qualitative", data_dir=str(few), cache_dir=str(cache))

    @pytest.mark.parametrize("config", CONFIGS)
    def test_it_loads_as_a_script_where_scripts_still_run(self, config: str, cache: Path, edition: Path):
        from datasets import load_dataset

        options = {"data_dir": str(edition), "cache_dir": str(cache)}
        if MAJOR >= 4:
            with pytest.raises(RuntimeError, match="Dataset scripts are no longer supported"):
                load_dataset(str(SCRIPT), config, **options)
        else:
            loaded = load_dataset(str(SCRIPT), config, trust_remote_code=True, **options)
            assert loaded["test"].to_list() == rows(edition, config)


class TestClone:
    @pytest.fixture
    def clone(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """What git would check out, in a folder named as the dataset; the working directory is the one above."""
        names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True).stdout.split("\0")
        if not names[0]:
            pytest.skip("not a checkout of git")
        for name in filter(None, names):
            target = tmp_path / "speed-bench" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).is_file():
                shutil.copyfile(ROOT / name, target)
        monkeypatch.chdir(tmp_path)
        return tmp_path / "speed-bench"

    @pytest.mark.parametrize("config", NUM_ROWS)
    def test_it_is_not_taken_for_the_rows(self, config: str, clone: Path):
        with pytest.raises(FileNotFoundError, match=r"here. This folder is the code, .*after: speed-bench install"):
            by_name(config)

    def test_its_own_rows_are_found(self, clone: Path, cache: Path):
        assert by_name("starter", cache_dir=str(cache))["test"].to_list() == rows(Path("open"), "starter")


def test_in_a_fresh_directory_of_an_offline_process_they_answer_at_once(home: Path, tmp_path: Path, edition: Path):
    env = clean_environment(home, HF_HUB_OFFLINE="1")
    done = subprocess.run([sys.executable, "-c", EXACT_CALLS], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [880, rows(edition, "qualitative")[879], 1536]
    assert list(tmp_path.iterdir()) == []


def test_the_verb_tells_what_is_installed(home: Path, edition: Path):
    said = speed_bench("install", "--check", "--edition", str(edition), env=clean_environment(home))
    for config in CONFIGS:
        sha256 = load(str(edition), config).manifest_sha256
        assert [config, "invented", "1.2", str(NUM_ROWS[config]), "yes", sha256] in map(str.split, said.splitlines())
