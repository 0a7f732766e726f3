"""How the 80 rows of a category are shared out among kinds of candidates."""

from collections import Counter
from pathlib import Path

import pytest
from rows import row
from shared_data import MIRROR, needs_mirror
from source_records import write_mirror

from speed_bench.data.candidates import RECIPES, pools
from speed_bench.data.quotas import OTHER, ROWS, SHARES, Stratum, apportion, quotas, table
from speed_bench.data.schema import CATEGORIES
from speed_bench.data.sources import SOURCES
from speed_bench.data.sources.library import Mirror
from speed_bench.errors import ConfigError
from speed_bench.types import Conversation

PAGE = Path(__file__).parent.parent.parent / "docs" / "data" / "candidates.md"


def strata(*sources: str) -> list[Stratum]:
    return [each for shares in SHARES.values() for each in shares if each.source in sources]


def like(stratum: Stratum, number: int, category: str) -> Conversation:
    """A row that the stratum holds."""
    return row(
        number,
        *(["First?", "Second?"] if stratum.multiturn else []),
        category=category,
        source=SOURCES[stratum.source].url,
        sub_category=stratum.sub_categories[0] if stratum.sub_categories else None,
        difficulty=stratum.difficulty,
    )


def test_the_recipe_shares_out_80_rows_of_every_category_among_its_sources() -> None:
    assert tuple(SHARES) == CATEGORIES
    assert {category: sum(each.share for each in shares) for category, shares in SHARES.items()} == dict.fromkeys(
        CATEGORIES, ROWS
    )
    assert {each.source for shares in SHARES.values() for each in shares} == set(RECIPES)
    for category, shares in SHARES.items():
        assert all(category in SOURCES[each.source].feeds for each in shares)
        assert len({each.name for each in shares}) == len(shares)


def test_the_shares_are_those_that_are_known_of_the_published_rows() -> None:
    languages = Counter[str]()
    for each in SHARES["coding"]:
        languages[each.sub_categories[0] if each.sub_categories else "none"] += each.share
    assert languages == {"python": 27, "go": 13, "javascript": 11, "java": 10, "cpp": 9, "rust": 3, "none": 7}
    spoken = {code for each in SHARES["multilingual"] for name in each.sub_categories or () for code in name.split("-")}
    assert len({code.removesuffix("_math") for code in spoken} - {"en"}) == 23
    several = [each.share for each in strata("mtbench101")] + [
        each.share for shares in SHARES.values() for each in shares if each.multiturn
    ]
    dialogues = {"coding", "humanities", "math", "reasoning", "roleplay", "stem", "writing"}
    of_spec_bench = [each.share for name in dialogues for each in SHARES[name] if each.source == "spec_bench"]
    extraction = [each.share for each in SHARES["rag"] if each.sub_categories == ("extraction",)]
    assert sum(several) + sum(of_spec_bench) + sum(extraction) == 167


def test_every_kind_of_candidate_has_its_stratum(tmp_path: Path) -> None:
    found = pools(Mirror(write_mirror(tmp_path)))
    for category, pool in found.rows.items():
        shares = quotas(category, pool)
        assert shares.names[-1] == OTHER
        assert shares.sizes[-1] == 0
        assert shares.counts == shares.sizes  # no more than 80: no selection
        assert Counter(shares.labels) == {n: size for n, size in enumerate(shares.sizes) if size}


@pytest.mark.parametrize("category", CATEGORIES)
def test_where_there_is_enough_of_everything_the_counts_are_the_shares(category: str) -> None:
    pool = [
        like(each, 1000 * place + number, category)
        for place, each in enumerate(SHARES[category])
        for number in range(50)
    ]
    asked = quotas(category, pool)
    assert asked.counts == asked.shares
    assert asked.moved == ()


def test_what_a_missing_source_had_goes_to_the_others_and_is_told() -> None:
    pool = [like(each, 1000 * place + n, "qa") for place, each in enumerate(SHARES["qa"][:2]) for n in range(100)]
    asked = quotas("qa", pool)
    assert asked.counts == (57, 23, 0, 0)
    assert asked.moved == ("adaleval_stackselect: 10 rows by the recipe, no candidates; 10 went to the others",)


def test_a_candidate_of_no_stratum_is_taken_only_when_the_others_are_used_up() -> None:
    known = [like(SHARES["qa"][0], number, "qa") for number in range(60)]
    asked = quotas("qa", [*known, *(row(1000 + number) for number in range(60))])
    assert asked.counts == (60, 0, 0, 20)
    assert asked.labels == (0,) * 60 + (3,) * 60


def test_an_unknown_category_is_named() -> None:
    with pytest.raises(ConfigError, match="unknown category 'maths'; did you mean 'math'"):
        quotas("maths", [])


def test_the_page_shows_the_shares() -> None:
    shown = PAGE.read_text("utf-8").split("<!-- quotas -->\n")[1].split("\n<!-- end -->")[0]
    assert shown == table()


def test_a_full_stratum_hands_on_what_it_cannot_take_again_and_again() -> None:
    assert apportion([60, 10, 10], [5, 40, 100], 80) == (5, 38, 37)
    assert apportion([60, 10, 10], [5, 20, 100], 80) == (5, 20, 55)


@needs_mirror
def test_the_whole_mirror_fills_every_category() -> None:
    for category, pool in pools(Mirror(MIRROR)).rows.items():
        asked = quotas(category, pool)
        assert sum(asked.counts) == ROWS
        assert asked.sizes[-1] == 0
