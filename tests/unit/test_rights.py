"""Whose text may be passed on."""

from collections.abc import Iterator
from typing import Any

import pytest
from hard_rows import row

from speed_bench.data.official import prepare
from speed_bench.data.official.resolvers import KINDS
from speed_bench.data.rights import IMPORT, closed_source, may_be_passed_on
from speed_bench.data.sources import SOURCES, File, HubDataset, HubFile, Source

SAID = {
    "open": {"url": "https://example.org/open", "redistributable": True},
    "closed": {"url": "https://example.org/closed", "redistributable": False},
}
MANIFEST = {"edition": "curated", "redistributable": True, "sources": SAID}
CLOSED = [each for each in SOURCES.values() if not each.redistributable]
REST = [each for each in SOURCES.values() if each.redistributable]


def addresses(source: Source) -> Iterator[str]:
    """Every address that a source or one of its files is known to have, with the revision, another, and none."""
    files = () if isinstance(source.origin, HubDataset) else source.origin
    found = [source.url, *(file.url for file in files if isinstance(file, File))]
    of_hub = [file for file in files if isinstance(file, HubFile)]
    found += [f"https://huggingface.co/datasets/{each.repo}/resolve/{each.revision}/{each.name}" for each in of_hub]
    for repo in (source.repo.replace("{python,java}", each) for each in ("python", "java")):
        found += [f"https://github.com/{repo}", f"https://hf-mirror.org/datasets/{repo}/tree/main", f"hf://{repo}@1"]
    for each in found:
        yield each
        if source.revision:
            yield from (each.replace(source.revision, "main"), each.replace(f"/{source.revision}", ""))


def names(source: Source) -> Iterator[str]:
    """What a source is called."""
    repo = source.repo.replace("{python,java}", "java")
    yield from (source.id, source.name, source.folder, repo, repo.rpartition("/")[2], repo.replace("/", "_"))


@pytest.mark.parametrize("source", CLOSED, ids=lambda each: each.id)
class TestASourceThatWeKnowToBeClosed:
    def test_is_known_by_every_name_and_address_in_any_case_and_among_other_words(self, source: Source) -> None:
        for name in [*names(source), *addresses(source)]:
            for column in (name, name.upper(), f"from {name}, shortened", name.replace("-", "_"), f"\t{name}\n"):
                assert closed_source(column), column
                assert not may_be_passed_on(row(0, "a", source=column), {"source_id": "open"}, MANIFEST), column

    def test_is_known_by_the_names_of_its_files(self, source: Source) -> None:
        for name in () if isinstance(source.origin, HubDataset) else source.names:
            assert closed_source(name), name
            assert closed_source(name.rpartition("/")[2].upper()), name

    def test_is_opened_by_no_manifest(self, source: Source) -> None:
        for said in ({"name": source.name}, {"url": source.url}):
            sources = {"mine": {**said, "redistributable": True}, source.id: {"redistributable": True}}
            manifest = {"edition": "mine", "redistributable": True, "sources": sources}
            for source_id in ("mine", source.id, source.id.upper()):
                assert not may_be_passed_on(row(0, "a", source="mine"), {"source_id": source_id}, manifest)


@pytest.mark.parametrize("source", REST, ids=lambda each: each.id)
def test_an_open_source_is_taken_for_no_closed_one(source: Source) -> None:
    assert [each for each in [*names(source), *addresses(source)] if closed_source(each)] == []


def test_the_marks_of_the_official_builder_name_the_same_sources() -> None:
    for kind in KINDS:
        assert (closed_source(f"https://any.host/{kind.mark}") is None) is SOURCES[kind.source].redistributable
    for column in ("https://opencompass.openxlab.space/utils/AdaLEval/stackselect_1k.json", "repobench_java"):
        assert (found := prepare.source_of(row(0, "a", source=column)))
        assert closed_source(column) == SOURCES[found].name


@pytest.mark.parametrize(
    "column", ["nvidia/SPEED-Bench", "hf.co/datasets/NVIDIA/speed-bench@1.1", "nvidia%2FSPEED-Bench"]
)
def test_the_published_rows_are_closed(column: str) -> None:
    assert closed_source(column) == "nvidia/SPEED-Bench"


@pytest.mark.parametrize(
    "column", ["speed-bench/open", "SPEED-Bench", "mine", "athletes", "chats.jsonl", "", "my spec"]
)
def test_other_texts_name_no_source_of_ours(column: str) -> None:
    assert closed_source(column) is None


@pytest.mark.parametrize(
    ("edition", "whole", "sources", "source_id", "goes"),
    [
        ("curated", False, SAID, "open", True),
        ("curated", False, SAID, "closed", False),
        ("curated", True, SAID, "closed", False),
        ("curated", True, SAID, None, False),
        ("curated", True, SAID, "unheard-of", False),
        ("curated", True, {"open": {"redistributable": "true"}}, "open", False),
        ("curated", True, {"open": True}, "open", False),
        ("curated", True, ["open"], "open", False),
        ("curated", True, SAID, ["open"], False),
        ("open", True, {}, None, True),
        ("open", True, None, None, True),
        ("open", "true", None, None, False),
        ("open", None, None, None, False),
        ("mine", True, SAID, "open", True),
        ("mine", False, SAID, "open", False),
        ("imported", False, {}, None, False),
        ("official", True, SAID, "open", False),
        ("curated", True, {"hle": {"redistributable": True}}, "hle", False),
    ],
)
def test_a_row_is_open_only_where_everything_says_so(
    edition: str, whole: Any, sources: Any, source_id: Any, goes: bool
) -> None:
    manifest = {"edition": edition, "redistributable": whole, "sources": sources}
    entry = {"source_id": source_id} if source_id is not None else {}
    assert may_be_passed_on(row(0, "a", source="mine"), entry, manifest) is goes


def test_rows_of_an_official_builder_stay_whatever_the_edition_is_called() -> None:
    manifest = {"edition": "mine", "redistributable": True, "builder": {"followed": "NVIDIA"}}
    assert not may_be_passed_on(row(0, "a", source="mine"), {}, manifest)


@pytest.mark.parametrize("edition", ["mine", "curated"])
def test_of_an_imported_edition_the_user_decides(edition: str) -> None:
    manifest = {"edition": edition, "builder": {"name": IMPORT}, "sources": SAID}
    for entry in ({}, {"source_id": "open"}):
        assert may_be_passed_on(row(0, "a", source="mine"), entry, {**manifest, "redistributable": True})
        assert not may_be_passed_on(row(0, "a", source="mine"), entry, {**manifest, "redistributable": False})
    assert not may_be_passed_on(row(0, "a"), {"source_id": "closed"}, {**manifest, "redistributable": True})
