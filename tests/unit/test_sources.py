"""The table of sources, and what a mirror has of them."""

import gzip
import hashlib
import importlib.util
import random
import re
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner
from shared_data import MIRROR, needs_mirror

from speed_bench.cli import cli
from speed_bench.data import tables
from speed_bench.data.configs import TIERS
from speed_bench.data.schema import CATEGORIES
from speed_bench.data.sources import SOURCES, File, HubDataset, HubFile, Source
from speed_bench.data.sources import library as libraries
from speed_bench.data.sources.library import Mirror
from speed_bench.data.sources.upstream import Upstream
from speed_bench.data.sources.web import ORIGINS
from speed_bench.errors import DataError

ROOT = Path(__file__).parent.parent.parent
COMMIT = re.compile(r"[0-9a-f]{40}")
ALL = pytest.mark.parametrize("source", SOURCES.values(), ids=lambda source: source.id)


def files(source: Source) -> tuple[File | HubFile, ...]:
    return () if isinstance(source.origin, HubDataset) else source.origin


def mirror(folder: Path, files: dict[str, bytes], **changes: object) -> Path:
    """A mirror of these files, by `<folder>/<path>`."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    listed = [{"path": name, "sha256": hashlib.sha256(data).hexdigest(), **changes} for name, data in files.items()]
    (folder / "MANIFEST.json").write_bytes(orjson.dumps({"files": listed}))
    return folder


def test_the_published_sources_are_all_there_and_ours_come_last() -> None:
    assert len(SOURCES) == 25
    assert list(SOURCES)[22:] == ["mt_bench", "gsm8k", "clapnq"]
    assert all(name == source.id for name, source in SOURCES.items())


@ALL
def test_a_source_is_pinned_or_says_that_it_is_not(source: Source) -> None:
    if source.revision is None:
        assert source.note
    elif source.id != "gutenberg":  # a repository per book
        assert COMMIT.fullmatch(source.revision)
        assert source.revision in source.url
    if isinstance(source.origin, HubDataset):
        assert source.origin.revision == source.revision
    for file in files(source):
        if isinstance(file, HubFile):
            assert file.revision == source.revision
        elif source.revision is not None:
            assert COMMIT.search(file.url)
            assert source.id == "gutenberg" or source.revision in file.url


@ALL
def test_files_of_the_web_are_at_origins_that_are_allowed_and_have_names_of_their_own(source: Source) -> None:
    web = [file for file in files(source) if isinstance(file, File)]
    assert {"/".join(file.url.split("/")[:3]) for file in web} <= ORIGINS
    assert len(set(source.names)) == len(source.names)
    assert all(file.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", file.sha256) for file in web)


@ALL
def test_what_a_source_feeds_are_categories_and_tiers(source: Source) -> None:
    assert source.feeds
    assert set(source.feeds) <= {*CATEGORIES, *TIERS}


def test_every_category_and_tier_is_fed() -> None:
    assert {each for source in SOURCES.values() for each in source.feeds} == {*CATEGORIES, *TIERS}


def test_only_these_may_be_passed_on() -> None:
    assert {source.id for source in SOURCES.values() if source.redistributable} == {
        "mtbench101",
        "humanevalpack",
        "mcif",
        "writingbench",
        "gutenberg",
        "mt_bench",
        "gsm8k",
        "clapnq",
    }


def test_the_gated_source_says_how_to_get_access() -> None:
    assert [source.id for source in SOURCES.values() if source.gated] == ["hle"]
    assert "https://huggingface.co/datasets/cais/hle" in str(SOURCES["hle"].access)
    assert "hf auth login" in str(SOURCES["hle"].access)


def test_each_config_of_opus_pairs_english_with_another_language() -> None:
    origin = SOURCES["opus100"].origin
    assert isinstance(origin, HubDataset)
    assert len(origin.configs) == 94
    assert {"de-en", "en-zh"} <= set(origin.configs)
    assert all("en" in config.split("-") and config == "-".join(sorted(config.split("-"))) for config in origin.configs)


def test_the_table_is_read_without_anything_heavy() -> None:
    code = "import sys, speed_bench.data.sources; print({name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not any(f"'{name}'" in loaded for name in ("datasets", "huggingface_hub", "pyarrow", "numpy", "orjson"))


@needs_mirror
def test_the_hashes_of_the_table_are_those_of_the_real_files() -> None:
    listed = {each["path"]: each for each in orjson.loads((MIRROR / "MANIFEST.json").read_bytes())["files"]}
    num_checked = 0
    for source in SOURCES.values():
        for file in files(source):
            entry = listed.get(f"{source.folder}/{file.name}") or listed.get(f"{source.folder}/{file.name}.gz")
            if isinstance(file, File) and entry and entry["transform"].startswith("verbatim"):
                content = (MIRROR / entry["path"]).read_bytes()
                whole = gzip.decompress(content) if entry["path"].endswith(".gz") else content
                assert hashlib.sha256(whole).hexdigest() == file.sha256, file.name
                num_checked += 1
    assert num_checked == 31


@needs_mirror
def test_a_real_mirror_is_listed_and_checked() -> None:
    done = CliRunner().invoke(cli, ["data", "sources", "--mirror", str(MIRROR), "--check"])
    assert done.exit_code == 0
    assert "files are what MANIFEST.json says" in done.output
    assert "belongs to no source" not in done.output


def test_the_tables_of_the_page_are_what_the_command_prints() -> None:
    page = (ROOT / "docs" / "data" / "sources.md").read_text("utf-8")
    shown = page.split("<!-- speed-bench data sources --markdown -->\n")[1].split("<!-- end -->")[0]
    assert shown.strip() == CliRunner().invoke(cli, ["data", "sources", "--markdown"]).output.strip()


def test_the_command_lists_every_source_and_what_a_mirror_has_of_it(tmp_path: Path) -> None:
    folder = mirror(tmp_path, {"gsm8k/test.jsonl": b'{"question": "How many?"}\n', "gsm8q/test.jsonl": b""})
    done = CliRunner().invoke(cli, ["data", "sources", "--mirror", str(folder)], env={"COLUMNS": "200"})
    lines = {line.split("│")[1].strip(): line.split("│") for line in done.output.splitlines() if line.startswith("│")}
    assert set(SOURCES) <= set(lines)
    assert lines["gsm8k"][-2].strip() == "1"
    assert lines["spec_bench"][-2].strip() == "–"
    assert f"{folder / 'gsm8q'} belongs to no source and is not read" in done.output.replace("\n", "")


def test_two_sources_of_one_folder_are_told_apart(tmp_path: Path) -> None:
    folder = mirror(tmp_path, {"adaleval/data/textsort_1k.json": b"[]"})
    done = CliRunner().invoke(cli, ["data", "sources", "--mirror", str(folder)], env={"COLUMNS": "200"})
    held = {line.split("│")[1].strip(): line.split("│")[-2].strip() for line in done.output.splitlines() if "│" in line}
    assert (held["adaleval_textsort"], held["adaleval_stackselect"]) == ("1", "–")


def test_a_mirror_with_another_file_than_it_says_is_found_out(tmp_path: Path) -> None:
    folder = mirror(tmp_path, {"gsm8k/test.jsonl": b"{}\n"})
    (folder / "gsm8k" / "test.jsonl").write_bytes(b"{ }\n")
    done = CliRunner().invoke(cli, ["data", "sources", "--mirror", str(folder), "--check"], standalone_mode=False)
    assert "is not the file that MANIFEST.json describes" in str(done.exception)


def test_checking_without_a_mirror_says_what_is_missing() -> None:
    done = CliRunner().invoke(cli, ["data", "sources", "--check"])
    assert done.exit_code == 2
    assert "--mirror DIR" in done.output


def test_a_mirror_asks_nobody_for_access(tmp_path: Path) -> None:
    assert Mirror(mirror(tmp_path, {})).check_access(["hle"]) is None


@pytest.mark.parametrize("seed", range(3))
def test_files_come_in_the_order_of_the_table_and_then_by_name_whatever_the_mirror_lists_first(
    tmp_path: Path, seed: int
) -> None:
    known = Upstream(tmp_path).files("adaleval")
    assert known[0] == "data/stackselect_1k.json"
    listed = [f"adaleval/{name}" for name in (*known, "data/z.json", "data/a.json")]
    random.Random(seed).shuffle(listed)
    folder = mirror(tmp_path, dict.fromkeys(listed, b"[]"))
    assert Mirror(folder).files("adaleval") == (*known, "data/a.json", "data/z.json")


@pytest.mark.parametrize(
    "path",
    [
        *("gsm8k//etc/passwd", "gsm8k/../../x", "./x/y", "../x", "/etc/passwd", "gsm8k/./x", "gsm8k/a\0b"),
        *("gsm8k/..\\x", "gsm8k", "gsm8k/", "", "."),
    ],
)
def test_a_path_that_is_not_inside_a_mirror_is_refused(tmp_path: Path, path: str) -> None:
    (tmp_path / "MANIFEST.json").write_bytes(orjson.dumps({"files": [{"path": path, "sha256": "00"}]}))
    with pytest.raises(DataError) as refused:
        Mirror(tmp_path)
    assert f"lists {path!r}: a path inside the mirror is <source>/<upstream path>" in str(refused.value)


def test_a_link_that_leads_out_of_a_mirror_is_not_followed(tmp_path: Path) -> None:
    folder = mirror(tmp_path / "mirror", {"gsm8k/test.jsonl": b'{"question": "How many?"}\n'})
    secret = tmp_path / "secret.jsonl"
    (folder / "gsm8k" / "test.jsonl").rename(secret)
    (folder / "gsm8k" / "test.jsonl").symlink_to(secret)
    with pytest.raises(DataError, match=r"test\.jsonl leads out of the mirror, and is not read"):
        Mirror(folder).records("gsm8k", "test.jsonl")
    (folder / "gsm8k" / "test.jsonl").unlink()
    (folder / "gsm8k" / "test.jsonl").symlink_to("test.jsonl")
    with pytest.raises(DataError, match=r"test\.jsonl cannot be read"):
        Mirror(folder).text("gsm8k", "test.jsonl")


def test_a_link_that_stays_in_a_mirror_and_one_to_all_of_it_are_followed(tmp_path: Path) -> None:
    folder = mirror(tmp_path / "mirror", {"gsm8k/test.jsonl": b'{"question": "How many?"}\n'})
    (folder / "gsm8k" / "test.jsonl").rename(folder / "kept")
    (folder / "gsm8k" / "test.jsonl").symlink_to(folder / "kept")
    (tmp_path / "other").symlink_to(folder)
    assert len(Mirror(tmp_path / "other").records("gsm8k", "test.jsonl")) == 1


def test_a_file_that_is_listed_twice_is_refused(tmp_path: Path) -> None:
    whole = b'{"question": "How many?"}\n'
    folder = mirror(tmp_path, {"gsm8k/test.jsonl": whole, "gsm8k/test.jsonl.gz": gzip.compress(whole)})
    with pytest.raises(DataError, match=r"lists gsm8k/test\.jsonl twice"):
        Mirror(folder)


def test_an_archive_that_unpacks_to_more_than_the_limit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libraries, "MAX_UNPACKED", 3_000_000)
    files = {
        "gutenberg/fits.txt.gz": gzip.compress(b"x" * 3_000_000),
        "gutenberg/bomb.txt.gz": gzip.compress(b"x" * 3_000_001),
    }
    held = Mirror(mirror(tmp_path, files))
    assert len(held.text("gutenberg", "fits.txt")) == 3_000_000
    with pytest.raises(DataError, match=r"bomb\.txt\.gz has more than 3,000,000 bytes when unpacked"):
        held.text("gutenberg", "bomb.txt")


@pytest.mark.parametrize("damage", [slice(-9), slice(0, 5), slice(10, None)])
def test_an_archive_that_is_damaged_is_refused(tmp_path: Path, damage: slice) -> None:
    whole = gzip.compress(bytes(range(256)) * 40)
    spoilt = whole[:12] + b"\xff" * 20 + whole[32:]
    for content in (whole[damage], spoilt):
        with pytest.raises(DataError, match=r"book\.txt\.gz cannot be unpacked: "):
            Mirror(mirror(tmp_path, {"gutenberg/book.txt.gz": content})).text("gutenberg", "book.txt")


@pytest.mark.skipif(importlib.util.find_spec("pyarrow") is None, reason="needs the data extra")
@pytest.mark.parametrize("repeated", [False, True], ids=["by_what_it_says", "by_what_comes_out"])
def test_a_parquet_file_of_more_than_the_limit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repeated: bool
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "test.parquet"
    texts = [
        ("x" if repeated else str(number % 10)) * 1000 + ("" if repeated else str(number)) for number in range(1000)
    ]
    pq.write_table(pa.table({"question": texts}), path)
    says = sum(pq.read_metadata(path).row_group(number).total_byte_size for number in range(1))
    assert (says < 100_000) == repeated
    assert len(tables.read_records(path)) == 1000
    monkeypatch.setattr(tables, "MAX_BYTES", 100_000)
    with pytest.raises(DataError, match=r"test\.parquet has more than 100,000 bytes when unpacked, and is not read"):
        tables.read_records(path)
