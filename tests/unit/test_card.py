"""The dataset card: what it says, what it leaves out, and that no manifest can break it."""

import re
from typing import Any

import pytest
import yaml
from huggingface_hub import DatasetCard
from hypothesis import given, settings
from hypothesis import strategies as st

from speed_bench.data.card import card, licence_note, link
from speed_bench.data.configs import NUM_ROWS
from speed_bench.data.editions import BUNDLED, read_manifest
from speed_bench.data.schema import CATEGORIES, COLUMNS, PLACEHOLDER
from speed_bench.errors import ConfigError

HOSTILE = [
    "a | b",
    "two\nlines",
    "---",
    "x\n---\nlicense: mit\n---\n",
    "`code` ``` fence",
    "{{ 7 * 7 }} {% for x in y %} {{ config.__class__ }}",
    "<script>alert(1)</script>",
    "# heading",
    "- item",
    "1. item",
    ": yaml: [x, {y}]",
    "!!python/object:os.system",
    "\x1b[2J\x00\u202e",
    "](javascript:alert(1))",
    "",
]


def manifest(**changes: Any) -> dict[str, Any]:
    """What `write_config` says of a small edition that was curated."""
    totals = {"num_rows": 2, "num_multiturn": 1, "num_turns": 3, "num_tokens_o200k": 30}
    qualitative = {
        "about": {
            "selection": {
                "coding": {"pool": 2418, "picked": 80, "mean_similarity": 0.0802951, "lower_bound": 0.0798},
                "math": {"pool": 80, "picked": 80, "max_pair": ["0" * 32, "1" * 32, 0.79], "close_pairs": []},
            },
            "seed": 7,
            "notes": ["one", "two"],
        },
        **totals,
        "categories": {
            "coding": {
                **totals,
                "min_tokens_o200k": 10,
                "max_tokens_o200k": 20,
                "sources": {"tides": 2},
                "difficulties": {"easy": 1, "hard": 1},
            },
            "multilingual": {**totals, "sub_categories": {"fr_math": 1, "german": 1}},
        },
        "rows": {"0" * 32: {"turns_sha256": "ab", "source_id": "tides"}, "1" * 32: {"source_id": "moons"}},
    }
    return {
        "edition": "curated",
        "version": "2",
        "licence": "CC-BY-4.0",
        "redistributable": True,
        "source": "chosen",
        "tokenizer": "o200k_base",
        "builder": {"name": "curate", "seed": 0},
        "sources": {
            "tides": {
                "name": "Tides",
                "url": "https://example.org/tides",
                "revision": "abc",
                "licence": "MIT",
                "terms": "all of it",
                "redistributable": True,
            },
            "moons": {"name": "Moons", "redistributable": False},
        },
        "configs": {"throughput_1k": {"rows": {}}, "qualitative": qualitative},
        **changes,
    }


def masking(described: dict[str, Any]) -> dict[str, Any]:
    """The same manifest with its second row masked."""
    described["configs"]["qualitative"]["rows"]["1" * 32]["masked"] = True
    return described


def front_and_page(page: str) -> tuple[dict[str, Any], str]:
    """What the Hub reads, and what people do."""
    assert page.startswith("---\n")
    front, rest = page.removeprefix("---\n").split("\n---\n", 1)
    parsed = yaml.safe_load(front)
    assert DatasetCard(page).data.to_dict() == parsed
    return parsed, rest


def test_the_front_matter_is_what_every_major_of_datasets_loads() -> None:
    front, _ = front_and_page(card(manifest()))
    assert front["configs"] == [
        {"config_name": "throughput_1k", "data_files": [{"split": "test", "path": "throughput_1k/test-*.parquet"}]},
        {
            "config_name": "qualitative",
            "default": True,
            "data_files": [{"split": "test", "path": "qualitative/test-*.parquet"}],
        },
    ]
    (features,) = [each["features"] for each in front["dataset_info"] if each["config_name"] == "qualitative"]
    assert tuple(each["name"] for each in features) == COLUMNS
    assert {"name": "turns", "sequence": "string"} in features
    assert front["language"] == ["en", "de", "fr"]
    assert (front["license"], front["size_categories"]) == ("cc-by-4.0", ["n<1K"])
    assert front["pretty_name"] == "SPEED-Bench, edition curated 2"
    assert "extra_gated_prompt" not in front


@pytest.mark.parametrize(
    ("licence", "fields"),
    [
        ("Apache-2.0", {"license": "apache-2.0"}),
        (
            "NVIDIA Evaluation Dataset License",
            {
                "license": "other",
                "license_name": "nvidia-evaluation-dataset-license",
                "license_link": "LICENSE.md",
            },
        ),
        (None, {"license": "other", "license_name": "unknown", "license_link": "LICENSE.md"}),
    ],
)
def test_a_licence_that_the_hub_does_not_know_is_named_and_linked(licence: str | None, fields: dict[str, str]) -> None:
    front, _ = front_and_page(card(manifest(licence=licence)))
    assert {key: value for key, value in front.items() if key.startswith("license")} == fields


def test_the_composition_comes_from_the_manifest_with_the_published_means_beside_it() -> None:
    _, page = front_and_page(card(manifest()))
    assert "| `coding` | 2 | 3 | 50% | 15 | 10 | 20 | 218 | tides 2 |" in page
    assert "| `coding` | – | easy 1, hard 1 |" in page
    assert "| | pool | picked | mean similarity | lower bound | max pair |" in page
    assert "| `coding` | 2,418 | 80 | 0.080295 | 0.0798 | – |" in page
    assert "| `math` | 80 | 80 | – | – | 0.79 |" in page
    assert "`manifest.json` also has `close_pairs`.\n" in page
    assert "- seed: 7\n- notes: one; two\n" in page
    assert "| [Tides](https://example.org/tides) (`tides`) | `abc` | MIT | yes | 1 | 0 |" in page
    assert "| Moons (`moons`) | – | – | no | 1 | 0 |" in page
    assert 'load_dataset("/path/to/this/folder", "qualitative", split="test")' in page


def test_of_a_masked_edition_it_says_how_to_get_the_text() -> None:
    front, page = front_and_page(card(masking(manifest(redistributable=False)), "org/name"))
    assert "placeholder" in front["extra_gated_prompt"]
    assert PLACEHOLDER in page
    assert "speed-bench data curate --config qualitative --out DIR" in page
    assert 'load_dataset("org/name", "qualitative", split="test")' in page
    assert "| Moons (`moons`) | – | – | no | 0 | 1 |" in page
    assert "1 rows come from" in licence_note(masking(manifest()))


def test_a_folder_with_text_that_may_not_be_passed_on_says_so() -> None:
    front, page = front_and_page(card(manifest(redistributable=False)))
    assert "do not upload the folder itself" in page
    assert "extra_gated_prompt" in front


@pytest.mark.parametrize("edition", ["open", "curated", "official", "imported", "random:8000", "mine"])
def test_every_edition_has_a_card_even_if_its_manifest_says_little(edition: str) -> None:
    bare = {"edition": edition, "version": "1", "configs": {"chat": {"rows": {"0" * 32: {"turns_sha256": "ab"}}}}}
    for described in (manifest(edition=edition), masking(manifest(edition=edition)), bare):
        front, page = front_and_page(card(described))
        assert "\n\n\n" not in page
        assert "Undefined" not in page
        assert front["configs"]
        assert licence_note(described).startswith("# Licences of SPEED-Bench")
    assert ("23 %" in card(bare)) == edition.startswith("random")
    assert "Undefined" not in licence_note(bare, "org/name")


def test_the_card_of_the_bundled_edition_lists_all_its_configs() -> None:
    described = read_manifest(BUNDLED["open"])
    front, page = front_and_page(card(described))
    assert [each["config_name"] for each in front["configs"]] == list(described["configs"])
    assert {f"`{category}`" for category in CATEGORIES} <= set(re.findall(r"`\w+`", page))
    assert {"en", "zh", "ar", "hi"} <= set(front["language"])


def everywhere(value: Any, said: str) -> Any:
    """A manifest in which every text, and every key of ours that is free in form, is this."""
    if isinstance(value, dict):
        return {key: everywhere(each, said) for key, each in value.items()}
    return [said] * len(value) if isinstance(value, list) else said if isinstance(value, str) else value


@settings(max_examples=60, deadline=None)
@given(said=st.sampled_from(HOSTILE) | st.text(max_size=30), repo=st.sampled_from([None, "org/name"]))
def test_no_value_of_a_manifest_changes_the_form_of_the_card(said: str, repo: str | None) -> None:
    calm, hostile = manifest(), everywhere(manifest(), said)
    hostile["edition"] = calm["edition"]  # it decides which paragraphs there are
    for key in ("categories", "about"):
        hostile["configs"]["qualitative"][key] = {
            **calm["configs"]["qualitative"][key],
            said: calm["configs"]["qualitative"][key][{"categories": "coding", "about": "selection"}[key]],
        }
    hostile["sources"][said] = {"name": said, "url": f"https://example.org/{said}", "licence": said}
    front, page = front_and_page(card(hostile, repo))
    assert list(front)[:2] == ["pretty_name", "license"]
    assert set(front) <= {*front_and_page(card(calm, repo))[0], "license_name", "license_link", "extra_gated_prompt"}
    assert [each["config_name"] for each in front["configs"]] == ["throughput_1k", "qualitative"]
    table = [line for line in page.splitlines() if line.startswith("|")]
    widths = [len(re.findall(r"(?<!\\)\|", line)) for line in table]
    for line, width, above in zip(table[1:], widths[1:], widths, strict=False):
        assert width == above or line.startswith(("| config", "| category", "| column", "| source", "| |")), line
    headings = [line for line in page.splitlines() if line.startswith("#")]
    assert [line for line in headings if line.startswith("## ")] == [
        line for line in front_and_page(card(calm, repo))[1].splitlines() if line.startswith("## ")
    ]
    prose = re.sub(r"`[^`\n]*`", "", page)
    assert "<script" not in prose
    assert not re.search(r"(?<!\\)\]\((?!https://)", prose)


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "a b", "x\n---", "-x", "ä"])
def test_a_config_whose_name_is_no_folder_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be the name of a config"):
        card({"edition": "mine", "version": "1", "configs": {name: {"rows": {}}}})


def test_only_addresses_of_the_web_become_links() -> None:
    assert link("https://example.org/a?b=c#d", "here") == "[here](https://example.org/a?b=c#d)"
    for url in ("javascript:alert(1)", "https://example.org/) x", "https://a\nb", None, 7, "http://[::1]"):
        assert link(url, "here") == "here"


def test_the_published_configs_are_those_of_the_schema() -> None:
    described = {name: {"rows": {}} for name in NUM_ROWS}
    front, _ = front_and_page(card({"edition": "official", "version": "1", "configs": described}))
    assert [each["config_name"] for each in front["configs"]] == list(NUM_ROWS)
    assert [each["config_name"] for each in front["configs"] if each.get("default")] == ["qualitative"]
