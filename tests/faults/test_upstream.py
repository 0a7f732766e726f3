"""Servers that cut, refuse, redirect, fall silent or lie: a sentence each, and nothing half-fetched is kept."""

import errno
import hashlib
import io
import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from fake_hub import FakeHub, Repo

from speed_bench.data.sources import File, HubDataset, HubFile, Source
from speed_bench.data.sources.library import Mirror
from speed_bench.data.sources.shelf import Shelf
from speed_bench.data.sources.upstream import Upstream, open_library
from speed_bench.data.sources.web import Limits, Progress, Web
from speed_bench.errors import DataError

BODY = b"".join(b'{"question": "What is %d + 3?"}\n' % number for number in range(20_000))
SHA256 = hashlib.sha256(BODY).hexdigest()
FAST = Limits(silence_s=0.5, attempts=3, wait_s=0.01)


class Server:
    """Answers each request with the next of its answers, and keeps the last for all that follow."""

    def __init__(self, *answers: Callable[[BaseHTTPRequestHandler], None]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, str | None]] = []
        """Path and Range of each request."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.asked.append((self.path, self.headers["Range"]))
                self.close_connection = True
                outer.answers[min(len(outer.asked), len(outer.answers)) - 1](self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.origin = f"http://127.0.0.1:{self._server.server_port}"
        self.url = f"{self.origin}/test.jsonl"

    def __enter__(self) -> "Server":
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def gives(
    body: bytes = BODY, *, cut: int | None = None, etag: str | None = '"1"', headers: dict[str, str] | None = None
) -> Callable[[BaseHTTPRequestHandler], None]:
    """The file, or what follows the byte that is asked for; with `cut`, only up to that byte of it."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        start, status = 0, 200
        if (asked := request.headers["Range"]) and request.headers["If-Range"] == etag:
            start, status = int(asked.removeprefix("bytes=").rstrip("-")), 206
        request.send_response(status)
        for key, value in {"Content-Length": str(len(body) - start), "ETag": etag, **(headers or {})}.items():
            if value is not None:
                request.send_header(key, value)
        request.end_headers()
        request.wfile.write(body[start:cut])

    return answer


def says(status: int, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    """A status with an empty body."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for key, value in {"Content-Length": "0", **headers}.items():
            request.send_header(key, value)
        request.end_headers()

    return answer


def chunked(request: BaseHTTPRequestHandler, *, whole: bool = True) -> None:
    """The file without its length beforehand."""
    request.send_response(200)
    request.send_header("Transfer-Encoding", "chunked")
    request.end_headers()
    request.wfile.write(b"%x\r\n%b\r\n" % (len(BODY), BODY) + (b"0\r\n\r\n" if whole else b""))


def unmeasured(request: BaseHTTPRequestHandler) -> None:
    """A body that ends when the connection does: nobody can tell whether that was all."""
    request.send_response(200)
    request.end_headers()
    request.wfile.write(BODY)


def silent(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.send_header("Content-Length", str(len(BODY)))
    request.end_headers()
    time.sleep(1.0)


def source(origin: HubDataset | tuple[File | HubFile, ...], **changes: object) -> Source:
    facts = {
        "id": "sums",
        "name": "Sums",
        "url": "https://example.org/sums",
        "repo": "org/sums",
        "revision": "1" * 40,
        "licence": "MIT",
        "terms": "written for tests",
        "redistributable": True,
        "feeds": ("math",),
        "fields": ("question",),
        "src_id": "sums_<row>",
        "turns": "`question`",
        "origin": origin,
    }
    return Source(**{**facts, **changes})  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def library(folder: Path, server: Server, *, sha256: str | None = SHA256, limits: Limits = FAST, **more) -> Upstream:
    file = File("test.jsonl", server.url, sha256)
    return Upstream(folder / "shelf", [source((file,))], Web({server.origin}, limits, **more))


def refused(folder: Path, server: Server, **more) -> str:
    """The sentence with which a library refuses; nothing is kept then."""
    with pytest.raises(DataError) as caught:
        library(folder, server, **more).records("sums", "test.jsonl")
    assert [path for path in (folder / "shelf").glob("*") if path.suffix != ".lock"] == []
    return str(caught.value)


def test_a_file_is_fetched_once_and_kept_with_its_sha256(tmp_path: Path) -> None:
    with Server(gives()) as server:
        first = library(tmp_path, server)
        rows = first.records("sums", "test.jsonl")
        assert first.records("sums", "test.jsonl") is rows
    later = library(tmp_path, server)  # and nobody serves it any more
    assert later.records("sums", "test.jsonl") == rows
    assert len(rows) == 20_000
    assert rows[7].fields == {"question": "What is 7 + 3?"}
    assert later.files("sums") == ("test.jsonl",)
    assert later.facts("sums") == {
        "from": "upstream",
        "revision": "1" * 40,
        "files": {"test.jsonl": {"sha256": SHA256, "origin": server.url}},
    }
    assert len(server.asked) == 1


def test_nothing_is_fetched_before_it_is_asked_for(tmp_path: Path) -> None:
    with Server(gives()) as server:
        assert library(tmp_path, server).files("sums") == ("test.jsonl",)
        assert library(tmp_path, server).facts("sums")["files"] == {}
    assert server.asked == []


def test_a_download_that_is_cut_goes_on_where_it_was_cut(tmp_path: Path) -> None:
    with Server(gives(cut=300_000), gives(cut=500_000), gives()) as server:
        assert len(library(tmp_path, server).records("sums", "test.jsonl")) == 20_000
    assert [asked for _, asked in server.asked] == [None, "bytes=300000-", "bytes=500000-"]


@pytest.mark.parametrize("etag", [None, 'W/"1"'])
def test_without_a_name_for_every_byte_it_begins_again(tmp_path: Path, etag: str | None) -> None:
    with Server(gives(cut=300_000, etag=etag), gives(etag=etag)) as server:
        assert len(library(tmp_path, server).records("sums", "test.jsonl")) == 20_000
    assert [asked for _, asked in server.asked] == [None, None]


def test_a_file_that_changes_between_two_attempts_is_fetched_from_its_beginning(tmp_path: Path) -> None:
    with Server(gives(b"old " * 100_000, cut=300_000, etag='"0"'), gives(etag='"1"')) as server:
        assert len(library(tmp_path, server).records("sums", "test.jsonl")) == 20_000


def test_a_download_that_is_cut_every_time_is_given_up(tmp_path: Path) -> None:
    with Server(gives(cut=300_000, etag=None)) as server:
        said = refused(tmp_path, server)
    assert f"{server.url} could not be fetched in 3 attempts: " in said
    assert f"cut after 300,000 of {len(BODY):,} bytes" in said


def test_a_chunked_body_is_whole_or_refused(tmp_path: Path) -> None:
    with Server(lambda request: chunked(request, whole=False)) as server:
        assert "the connection was cut" in refused(tmp_path, server)
    with Server(chunked) as server:
        assert len(library(tmp_path, server).records("sums", "test.jsonl")) == 20_000


def test_a_body_of_which_nobody_says_how_long_it_is_is_refused(tmp_path: Path) -> None:
    with Server(unmeasured) as server:
        assert "does not say how long it is" in refused(tmp_path, server)


def test_a_server_that_falls_silent_is_given_up(tmp_path: Path) -> None:
    with Server(silent) as server:
        assert "the server fell silent" in refused(tmp_path, server, limits=Limits(silence_s=0.1, attempts=1))


def test_a_server_that_is_not_there_is_said(tmp_path: Path) -> None:
    with Server(gives()) as server:
        pass
    assert "in 3 attempts: Connection refused" in refused(tmp_path, server)


def test_an_answer_that_may_pass_is_asked_again(tmp_path: Path) -> None:
    with Server(says(503), says(429), gives()) as server:
        assert len(library(tmp_path, server).records("sums", "test.jsonl")) == 20_000
    with Server(says(503)) as server:
        assert "in 3 attempts: the server answered 503" in refused(tmp_path / "other", server)


@pytest.mark.parametrize(
    ("status", "sentence"),
    [(404, "there is no such file any more (404)"), (403, "refuses (403)"), (401, "asks for a login (401)")],
)
def test_a_refusal_is_not_asked_again(tmp_path: Path, status: int, sentence: str) -> None:
    with Server(says(status)) as server:
        assert sentence in refused(tmp_path, server)
    assert len(server.asked) == 1


def test_a_redirect_to_an_allowed_host_is_followed(tmp_path: Path) -> None:
    with Server(says(302, Location="/elsewhere.jsonl"), gives()) as server:
        assert len(library(tmp_path, server).records("sums", "test.jsonl")) == 20_000
    assert [path for path, _ in server.asked] == ["/test.jsonl", "/elsewhere.jsonl"]


def test_a_redirect_to_another_host_is_refused_before_that_is_asked(tmp_path: Path) -> None:
    with Server(gives()) as other, Server(says(302, Location=other.url)) as server:
        said = refused(tmp_path, server)
    assert f"{server.url} redirects elsewhere: {other.url} is not fetched" in said
    assert other.asked == []


def test_redirects_in_a_circle_end(tmp_path: Path) -> None:
    with Server(says(302, Location="/test.jsonl")) as server:
        assert "(302)" in refused(tmp_path, server)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "http://raw.githubusercontent.com/a", "https://evil.example/a"])
def test_other_schemes_and_hosts_are_never_asked(tmp_path: Path, url: str) -> None:
    with pytest.raises(DataError, match=r"is not fetched: sources are read from https://opencompass"):
        Web().fetch(url, tmp_path / "file")


def test_too_large_a_file_is_refused_by_what_is_said_of_it_and_by_what_comes(tmp_path: Path) -> None:
    small = Limits(max_bytes=1000, attempts=1)
    for answer in (gives(), chunked):
        with Server(answer) as server:
            assert "is larger than the 1,000 bytes" in refused(tmp_path, server, limits=small)


def test_another_file_than_the_one_that_is_known_is_refused(tmp_path: Path) -> None:
    with Server(gives(b'{"question": "Who?"}\n')) as server:
        assert "is not the file it was: its sha256 is " in (said := refused(tmp_path, server))
    assert said.endswith(f", not {SHA256}")


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[Progress] = []
    with Server(gives()) as server:
        library(tmp_path, server, progress=told.append).records("sums", "test.jsonl")
    assert told[-1] == Progress(server.url, len(BODY), len(BODY), "bytes")
    assert [each.done for each in told] == sorted(each.done for each in told)


def test_a_kept_file_that_was_changed_is_refused_with_what_to_delete(tmp_path: Path) -> None:
    with Server(gives()) as server:
        library(tmp_path, server).records("sums", "test.jsonl")
        [kept] = (tmp_path / "shelf").glob("*/content")
        kept.write_bytes(BODY[:-1])
        with pytest.raises(DataError, match=f"{kept} is not what was fetched from .*; delete {kept.parent}"):
            library(tmp_path, server).records("sums", "test.jsonl")
        (kept.parent / "about.json").write_bytes(b"{")
        with pytest.raises(DataError, match="is damaged; delete"):
            library(tmp_path, server).records("sums", "test.jsonl")
        for path in kept.parent.iterdir():
            path.unlink()
        kept.parent.rmdir()
        assert len(library(tmp_path, server).records("sums", "test.jsonl")) == 20_000


def test_what_a_killed_process_left_is_not_taken_for_a_file(tmp_path: Path) -> None:
    with Server(gives()) as server:
        library(tmp_path, server).records("sums", "test.jsonl")
        [place] = [path for path in (tmp_path / "shelf").iterdir() if path.is_dir()]
        (place / "about.json").unlink()
        (place / "content").write_bytes(BODY[:100])
        left = place.rename(place.with_name(f"{place.name}.part-0"))
        assert len(library(tmp_path, server).records("sums", "test.jsonl")) == 20_000
    assert not left.exists()


def test_two_that_want_the_same_file_fetch_it_once(tmp_path: Path) -> None:
    with Server(gives()) as server, ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: len(library(tmp_path, server).records("sums", "test.jsonl")), range(4)))
    assert found == [20_000] * 4
    assert len(server.asked) == 1


def test_a_full_disk_is_said_and_nothing_is_kept(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Server(gives()) as server:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # a write beyond it fails as on a full disk
        try:
            said = refused(tmp_path, server)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert "cannot be written: there is no room left; set XDG_CACHE_HOME" in said
        assert len(library(tmp_path, server).records("sums", "test.jsonl")) == 20_000


def test_a_cache_that_cannot_be_a_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "shelf").write_bytes(b"")
    with pytest.raises(DataError, match=f"cannot be written: {os.strerror(errno.EEXIST)}"):
        Shelf(tmp_path / "shelf").get("address", lambda path: {})


def test_what_is_not_utf_8_or_no_records_is_said(tmp_path: Path) -> None:
    with Server(gives(b"\xff\xfe")) as server, pytest.raises(DataError, match=r"test\.jsonl of sums is not UTF-8"):
        library(tmp_path, server, sha256=None).text("sums", "test.jsonl")
    with Server(gives(b"{}\n[]\n")) as server, pytest.raises(DataError, match=r"record 1 of .* is no object"):
        library(tmp_path, server, sha256=None).records("sums", "test.jsonl")


def test_a_name_that_is_not_known_is_met_with_the_nearest(tmp_path: Path) -> None:
    with Server(gives()) as server:
        held = library(tmp_path, server)
        with pytest.raises(DataError, match="unknown source 'sum'; did you mean 'sums'"):
            held.records("sum", "test.jsonl")
        with pytest.raises(DataError, match=r"unknown file 'tests\.jsonl'; did you mean 'test\.jsonl'"):
            held.records("sums", "tests.jsonl")


def test_a_source_without_a_revision_asks_for_a_mirror(tmp_path: Path) -> None:
    held = open_library(None)
    assert held.files("repobench") == ()
    with pytest.raises(DataError, match=r"RepoBench v1\.1 cannot be fetched, because no revision .*--mirror"):
        held.records("repobench", "python.jsonl")


def test_a_mirror_stands_in_for_all_of_it(tmp_path: Path) -> None:
    (tmp_path / "MANIFEST.json").write_text('{"files": []}')
    assert isinstance(open_library(tmp_path), Mirror)


# The Hub: in processes of their own, because huggingface_hub reads its endpoint when it is imported.

CARD = b"""---
configs:
- config_name: default
  data_files:
  - {split: train, path: data/train-*}
  - {split: test, path: data/test-*}
- config_name: hard
  data_files:
  - {split: test, path: hard/test-*}
---
"""


TEST = [{"question": f"What is {number} + 4?", "image": "x" * 50} for number in range(7)]


def parquet(rows: list[dict]) -> bytes:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file.getvalue()


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    """A Hub with one dataset of two configs, and a plain file in it."""
    files = {
        "README.md": CARD,
        "data/train-00000-of-00001.parquet": parquet([{"question": "not this", "image": ""}]),
        "data/test-00000-of-00002.parquet": parquet(TEST[:4]),
        "data/test-00001-of-00002.parquet": parquet(TEST[4:]),
        "hard/test-00000-of-00001.parquet": parquet(TEST[:1]),
        "plain.jsonl": b"".join(json.dumps(row).encode() + b"\n" for row in TEST),
    }
    with FakeHub() as hub:
        hub.repos["datasets/org/sums"] = Repo(None, [("initial commit", files)])
        yield hub


def dataset(hub: FakeHub, **changes) -> Source:
    revision = hub.repos["datasets/org/sums"].sha
    origin = HubDataset("org/sums", revision, ("default", "hard"), drop=("image", "not there"))
    return source(origin, revision=revision, **changes)


def plain(hub: FakeHub, drop: tuple[str, ...] = (), name: str = "plain.jsonl") -> Source:
    revision = hub.repos["datasets/org/sums"].sha
    return source((HubFile(name, "org/sums", revision, drop),), revision=revision)


def on_the_hub(hub: FakeHub, folder: Path, held: Source, expression: str, **environment: str) -> object:
    """The value of an expression about `library` in a new process, or the sentence that it was refused with."""
    program = f"""
import json, warnings
from pathlib import Path
from speed_bench.data.sources import File, HubDataset, HubFile, Source
from speed_bench.data.sources.upstream import Upstream
from speed_bench.data.sources.web import Limits, Web
from speed_bench.errors import SpeedBenchError
library = Upstream(Path({str(folder / "shelf")!r}), [{held!r}], Web(limits=Limits(max_bytes=10_000)))
try:
    print(json.dumps({expression}))
except SpeedBenchError as error:
    print(json.dumps("refused: " + str(error)))
"""
    changed = {**os.environ, "NO_PROXY": "127.0.0.1", **hub.environment(folder / "home"), **environment}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=changed, timeout=100)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


ROWS = "[dict(record.fields) for record in library.records('sums', '{}')]"


@pytest.mark.long
def test_rows_come_in_the_order_of_load_dataset_from_the_files_of_the_split_alone(hub: FakeHub, tmp_path: Path) -> None:
    held = dataset(hub)
    assert held.names == ("default/test", "hard/test")
    rows = on_the_hub(hub, tmp_path, held, ROWS.format("default/test"))
    assert rows == [{"question": row["question"]} for row in TEST]
    assert on_the_hub(hub, tmp_path, held, ROWS.format("hard/test")) == rows[:1]
    got = {path.rpartition("/")[2] for path in hub.requests if path.startswith("GET") and path.endswith(".parquet")}
    assert got == {"test-00000-of-00002.parquet", "test-00001-of-00002.parquet", "test-00000-of-00001.parquet"}
    assert not any("train" in path for path in hub.requests if path.startswith("GET /datasets"))

    hub.requests.clear()  # and from now on they are kept
    facts = on_the_hub(hub, tmp_path, held, f"({ROWS.format('default/test')}, library.facts('sums'))[1]")
    assert hub.requests == []
    lines = b"".join(json.dumps(row, separators=(",", ":")).encode() + b"\n" for row in rows)
    assert facts["revision"] == held.revision
    assert facts["files"] == {
        "default/test": {
            "sha256": hashlib.sha256(lines).hexdigest(),
            "origin": f"hf://datasets/org/sums@{held.revision}/default/test",
            "dropped": ["image", "not there"],
        }
    }


@pytest.mark.long
def test_a_dataset_that_is_too_large_lacks_the_split_or_is_damaged_is_refused(hub: FakeHub, tmp_path: Path) -> None:
    ask = ROWS.format("default/test")
    repo = hub.repos["datasets/org/sums"]
    repo.files["data/test-00001-of-00002.parquet"] = os.urandom(9_999)
    assert "more than the 10,000 that are taken" in str(on_the_hub(hub, tmp_path, dataset(hub), ask))
    repo.files["data/test-00001-of-00002.parquet"] = b"PAR1 and no more"
    damaged = str(on_the_hub(hub, tmp_path, dataset(hub), ask))
    assert damaged.startswith("refused: default/test of org/sums at")
    assert "Parquet" in damaged
    for name in [name for name in repo.files if name.startswith("data/test")]:
        del repo.files[name]
    assert "cannot be fetched" in str(on_the_hub(hub, tmp_path, dataset(hub), ask))
    assert list((tmp_path / "shelf").glob("*/content")) == []


def test_a_gated_source_says_how_to_get_access_before_any_work(hub: FakeHub, tmp_path: Path) -> None:
    held = dataset(hub, access="accept the terms on its page, then run `hf auth login`")
    ask = "library.check_access(['sums'])"
    assert on_the_hub(hub, tmp_path, held, ask) is None
    hub.repos["datasets/org/sums"].gated = True
    said = "refused: Sums is gated, and access to it was not granted here: accept the terms on its page, then run"
    assert str(on_the_hub(hub, tmp_path, held, ask)).startswith(said)
    assert str(on_the_hub(hub, tmp_path, held, ask, HF_TOKEN="")).startswith(said)
    assert on_the_hub(hub, tmp_path, held, "library.check_access(['another'])") is None
    assert "HF_HUB_OFFLINE forbids" in str(on_the_hub(hub, tmp_path, held, ask, HF_HUB_OFFLINE="1"))


@pytest.mark.long
def test_what_is_gated_gone_or_out_of_reach_is_a_sentence(hub: FakeHub, tmp_path: Path) -> None:
    ask = ROWS.format("plain.jsonl")
    where = "refused: plain.jsonl of org/sums at"
    offline = on_the_hub(hub, tmp_path, plain(hub), ask, HF_HUB_OFFLINE="1")
    assert str(offline).startswith(where)
    assert "HF_HUB_OFFLINE is set, and it was not fetched before" in str(offline)
    gone = source((HubFile("plain.jsonl", "org/sums", "0" * 40),))
    assert "has no such revision of it any more" in str(on_the_hub(hub, tmp_path, gone, ask))
    hub.repos["datasets/org/sums"].gated = True
    assert "access must be granted on its page" in str(on_the_hub(hub, tmp_path, plain(hub), ask))
    hub.repos["datasets/org/sums"].gated = False
    other = plain(hub, name="other.jsonl")
    assert "does not have that file" in str(on_the_hub(hub, tmp_path, other, ROWS.format("other.jsonl")))
    nobody = on_the_hub(hub, tmp_path, plain(hub), ask, HF_ENDPOINT="http://127.0.0.1:9")
    assert "is the Hub within reach?" in str(nobody)


def test_a_plain_file_is_fetched_once_and_checked_by_the_hash_of_the_hub(hub: FakeHub, tmp_path: Path) -> None:
    held = plain(hub)
    assert on_the_hub(hub, tmp_path, held, ROWS.format("plain.jsonl")) == TEST
    hub.requests.clear()
    assert on_the_hub(hub, tmp_path, held, ROWS.format("plain.jsonl"), HF_HUB_OFFLINE="1") == TEST
    assert hub.requests == []
    [blob] = (tmp_path / "home" / "hub").glob("datasets--org--sums/blobs/*")
    blob.write_bytes(blob.read_bytes()[:-1])
    assert "is not what the Hub gave; delete" in str(on_the_hub(hub, tmp_path, held, ROWS.format("plain.jsonl")))


@pytest.mark.long
def test_a_download_from_the_hub_that_is_cut_is_no_file(hub: FakeHub, tmp_path: Path) -> None:
    hub.cut["plain.jsonl"] = 100
    said = str(on_the_hub(hub, tmp_path, plain(hub), ROWS.format("plain.jsonl")))
    assert said.startswith("refused: plain.jsonl of org/sums at")
    hub.cut.clear()
    assert on_the_hub(hub, tmp_path, plain(hub), ROWS.format("plain.jsonl")) == TEST


@pytest.mark.long
def test_fields_that_no_prompt_needs_are_not_kept(hub: FakeHub, tmp_path: Path) -> None:
    held = plain(hub, drop=("image",))
    rows = on_the_hub(hub, tmp_path, held, ROWS.format("plain.jsonl"))
    assert rows == [{"question": row["question"]} for row in TEST]
    facts = on_the_hub(hub, tmp_path, held, f"({ROWS.format('plain.jsonl')}, library.facts('sums'))[1]")
    upstream = hub.repos["datasets/org/sums"].files["plain.jsonl"]
    assert facts["files"]["plain.jsonl"]["upstream_sha256"] == hashlib.sha256(upstream).hexdigest()
    assert facts["files"]["plain.jsonl"]["dropped"] == ["image"]


@pytest.mark.long
def test_rows_that_were_kept_without_a_column_do_not_stand_for_those_with_it(hub: FakeHub, tmp_path: Path) -> None:
    ask = ROWS.format("plain.jsonl")
    both = [[{key: row[key]} for row in TEST] for key in ("question", "image")]
    assert on_the_hub(hub, tmp_path, plain(hub, drop=("image",)), ask) == both[0]
    assert on_the_hub(hub, tmp_path, plain(hub, drop=("question",)), ask) == both[1]
    held = dataset(hub)
    ask = ROWS.format("default/test")
    assert on_the_hub(hub, tmp_path, held, ask) == both[0]
    assert (
        on_the_hub(hub, tmp_path, source(HubDataset("org/sums", str(held.revision), drop=("question",))), ask)
        == both[1]
    )


@pytest.mark.long
def test_too_large_a_file_and_a_line_that_is_no_record_are_refused(hub: FakeHub, tmp_path: Path) -> None:
    files = hub.repos["datasets/org/sums"].files
    files["plain.jsonl"] = b"{}\n{\n"
    said = on_the_hub(hub, tmp_path, plain(hub, drop=("image",)), ROWS.format("plain.jsonl"))
    assert "line 2 of plain.jsonl of org/sums is no record" in str(said)
    files["plain.jsonl"] = b"{}\n" * 4000
    said = on_the_hub(hub, tmp_path, plain(hub), ROWS.format("plain.jsonl"))
    assert "has 12,000 bytes, more than the 10,000 that are taken from the Hub" in str(said)
