"""Models that engines load themselves: which one a name stands for, and what tells it apart."""

import hashlib
import os
from pathlib import Path

import pytest
from fake_hub import FakeHub, Repo

from speed_bench.checkpoints import SAMPLE_BYTES, Checkpoint, find_checkpoint, split_revision
from speed_bench.engines import dialect
from speed_bench.errors import ModelError
from speed_bench.provenance import ModelFacts
from speed_bench.runner.preparation import find_model

COMMIT = "a" * 40


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder that could be a model."""
    folder = tmp_path / "my-model"
    (folder / "original").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(100))
    (folder / "original" / "more.bin").write_bytes(bytes(10))
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The local cache of the Hub, which does not answer; it holds `org/model` at a commit that `main` is."""
    import huggingface_hub.constants as constants

    hub = tmp_path / "hub"
    folder = hub / "models--org--model"
    (folder / "snapshots" / COMMIT).mkdir(parents=True)
    (folder / "snapshots" / COMMIT / "config.json").write_text("{}")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(hub))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/{revision}/{filename}")
    return hub


class TestFolder:
    def test_it_is_told_apart_by_the_files_in_it(self, model: Path) -> None:
        found = find_checkpoint(str(model))
        assert (found.name, found.revision, found.num_bytes) == (str(model), None, 102)
        digest = hashlib.sha256()
        for name, data in (("config.json", b"{}"), ("model.safetensors", bytes(100))):
            digest.update(f"{name}\0{len(data)}\0".encode() + data + data)  # a small file is its own first and last MiB
        assert found.sampled_sha256 == digest.hexdigest()

    def test_where_it_lies_and_how_it_is_named_makes_no_difference(
        self, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        found = find_checkpoint(str(model))
        monkeypatch.setenv("HOME", str(tmp_path))
        assert find_checkpoint("~/my-model") == found
        monkeypatch.chdir(tmp_path)
        assert find_checkpoint("./my-model") == found
        moved = model.rename(tmp_path / "org@v1")
        assert find_checkpoint(str(moved)) == Checkpoint(str(moved), None, found.sampled_sha256, found.num_bytes)

    @pytest.mark.parametrize(
        ("at", "is_seen"),
        [(0, True), (SAMPLE_BYTES - 1, True), (SAMPLE_BYTES, False), (-SAMPLE_BYTES, True), (-1, True)],
    )
    def test_another_byte_at_either_end_is_another_model(self, model: Path, at: int, is_seen: bool) -> None:
        weights = bytearray(3 * SAMPLE_BYTES)
        (model / "model.safetensors").write_bytes(weights)
        before = find_checkpoint(str(model)).sampled_sha256
        weights[at] ^= 1
        (model / "model.safetensors").write_bytes(weights)
        assert (find_checkpoint(str(model)).sampled_sha256 != before) == is_seen

    def test_another_name_or_length_is_another_model(self, model: Path) -> None:
        found = {find_checkpoint(str(model)).sampled_sha256}
        (model / "model.safetensors").rename(model / "other.safetensors")
        found.add(find_checkpoint(str(model)).sampled_sha256)
        os.truncate(model / "other.safetensors", 99)
        found.add(find_checkpoint(str(model)).sampled_sha256)
        assert len(found) == 3

    def test_it_goes_into_the_record_without_its_path(self, model: Path) -> None:
        found = find_model(dialect("vllm"), str(model))
        checkpoint = find_checkpoint(str(model))
        assert found.name == str(model)
        assert found.facts == ModelFacts(
            file="my-model", sha256=None, num_bytes=102, sampled_sha256=checkpoint.sampled_sha256
        )

    def test_one_without_a_model_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError) as refused:
            find_checkpoint(str(tmp_path))
        assert str(refused.value) == (
            f"folder '{tmp_path}' holds no config.json, so no model; "
            "give a folder with config.json, or org/repo[@revision] of the Hugging Face Hub"
        )


class TestRepository:
    def test_a_name_is_split_from_its_revision(self, model: Path) -> None:
        assert split_revision("org/repo@refs/pr/1") == ("org/repo", "refs/pr/1")
        assert split_revision("org/repo@") == ("org/repo", None)
        assert split_revision(str(model)) == (str(model), None)
        assert split_revision(str(model.rename(model.with_name("m@1")))) == (str(model.with_name("m@1")), None)

    def test_without_the_hub_the_commit_is_that_of_the_cache(self, cache: Path) -> None:
        assert find_checkpoint("org/model") == Checkpoint("org/model", COMMIT, None, None)
        assert find_checkpoint("org/model@main").revision == COMMIT
        assert find_model(dialect("vllm"), "org/model").name == f"org/model@{COMMIT}"

    def test_what_is_not_in_the_cache_either_is_as_it_was_given(self, cache: Path) -> None:
        assert find_checkpoint("org/other") == Checkpoint("org/other", None, None, None)
        assert find_checkpoint("org/model@v1").revision == "v1"
        assert find_model(dialect("vllm"), "org/other").name == "org/other"
        assert find_model(dialect("vllm"), "org/model@v1").name == "org/model@v1"

    def test_a_commit_needs_nobody(self, cache: Path) -> None:
        assert find_checkpoint(f"org/other@{'b' * 40}").revision == "b" * 40

    def test_the_hub_tells_the_commit(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import huggingface_hub.constants as constants

        with FakeHub() as hub:
            hub.repos["models/org/model"] = Repo(None, [("first", {"config.json": b"{}"})])
            monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
            monkeypatch.setattr(constants, "ENDPOINT", hub.url)
            template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
            monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
            assert find_checkpoint("org/model").revision == hub.repos["models/org/model"].sha
            assert find_checkpoint("org/absent") == Checkpoint("org/absent", None, None, None)

    @pytest.mark.parametrize(
        "name",
        ["llama", "a/b/c", "org/re po", "./nowhere", "../nowhere", "~/nowhere", "/no/where", "org/", "hf:org/r/m.gguf"],
    )
    def test_what_is_neither_a_folder_nor_a_repository_is_named(self, name: str) -> None:
        with pytest.raises(ModelError) as refused:
            find_checkpoint(name)
        assert str(refused.value) == (
            f"model '{name}' is not there; "
            "this engine takes a folder with config.json, or org/repo[@revision] of the Hugging Face Hub"
        )

    def test_a_file_is_named_as_one(self, model: Path) -> None:
        file = model / "config.json"
        with pytest.raises(ModelError, match="is a file; this engine takes a folder with config"):
            find_checkpoint(str(file))
