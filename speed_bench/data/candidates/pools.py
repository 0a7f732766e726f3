"""The candidates of every category, from all the sources that a library has."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple

from speed_bench.data.candidates import coding, dialogues, passages, questions, roles
from speed_bench.data.candidates.candidate import Candidate
from speed_bench.data.near_duplicates import Removed, near_duplicates
from speed_bench.data.schema import CATEGORIES
from speed_bench.data.sources import SOURCES
from speed_bench.data.sources.library import Library, Record
from speed_bench.errors import ConfigError, DataError, unknown
from speed_bench.types import Conversation


class Recipe(NamedTuple):
    """How a source becomes candidates."""

    candidates: Callable[[Sequence[Record]], Iterator[Candidate]]
    """A pure function of the records. It raises DataError for one that is not as its source publishes it."""
    files: str = ""
    """A pattern found in the upstream paths that are read."""


RECIPES: Final[Mapping[str, Recipe]] = MappingProxyType(
    {
        "spec_bench": Recipe(dialogues.spec_bench),
        "humanevalpack": Recipe(coding.humanevalpack),
        "livecodebench": Recipe(coding.livecodebench),
        "code_contests": Recipe(coding.code_contests),
        "hle": Recipe(questions.hle),
        "gsm8k": Recipe(questions.gsm8k),
        "mmath": Recipe(questions.mmath),
        "mmlu_pro": Recipe(questions.mmlu_pro, r"test"),
        "adaleval_stackselect": Recipe(questions.stackselect, r"stackselect_1k"),
        "mtbench101": Recipe(dialogues.mtbench101),
        "opus100": Recipe(dialogues.opus100, rf"(^|/)(({'|'.join(sorted(dialogues.OPUS_LANGUAGES))})-?){{2}}/"),
        "writingbench": Recipe(dialogues.writingbench, r"benchmark_all"),
        "creative_writing_v3": Recipe(dialogues.creative_writing),
        "rolebench": Recipe(roles.rolebench, r"role_specific/test|desc\.json"),
        "coser": Recipe(roles.coser, r"(^|/)test_set"),
        "chatrag_bench": Recipe(passages.chatrag, r"(^|/)(hybridial|sqa)/"),
        "clapnq": Recipe(passages.clapnq),
        "cnn_dailymail": Recipe(passages.cnn_dailymail),
        "bamboo": Recipe(passages.bamboo, r"(showspred|meetingpred)_\d+k"),
        "gutenberg": Recipe(passages.gutenberg, r"\.txt$"),
    }
)
"""Source -> how it becomes candidates, in the order in which its candidates stand in a pool. Where two say the same,
the earlier source stays: Spec-Bench, which others are parts of, comes first."""
UNREADABLE: Final[Mapping[str, str]] = MappingProxyType({"mcif": "its published fields are not known"})
"""Sources of the published recipe that cannot be read -> why."""


@dataclass(frozen=True, slots=True)
class Pools:
    """What may be picked from."""

    of: Mapping[str, tuple[Candidate, ...]]
    """category -> its candidates, by recipe and then by record; every category is there, if only with none."""
    left_out: Mapping[str, str]
    """Sources of the recipe that nothing is from -> why."""

    @property
    def rows(self) -> dict[str, tuple[Conversation, ...]]:
        """The same, as rows."""
        return {category: tuple(each.row for each in pool) for category, pool in self.of.items()}

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources that candidates are from, in the order of `SOURCES`."""
        used = {each.source for pool in self.of.values() for each in pool}
        return tuple(source for source in SOURCES if source in used)


def pools(library: Library, without: Collection[str] = ()) -> Pools:
    """The candidates of all sources but those in `without`.

    Raises DataError for a record that is not as published, and where two records of a source go by one id and differ;
    ConfigError for a source in `without` that is not in `SOURCES`.
    """
    for source in without:
        if source not in SOURCES:
            raise ConfigError(unknown("source", source, SOURCES))
    of: dict[str, list[Candidate]] = {category: [] for category in CATEGORIES}
    left_out = dict(UNREADABLE)
    seen: dict[str, Candidate] = {}
    for source, recipe in RECIPES.items():
        if source in without:
            left_out[source] = "left out on request"
            continue
        records = _records(library, source, recipe.files)
        if not records:
            left_out[source] = "not in this library"
        for each in recipe.candidates(records):
            first = seen.setdefault(each.row.question_id, each)
            if first is each:
                of[each.row.category].append(each)
            elif first != each:
                raise DataError(f"{source} has two different records that go by '{each.row.src_id}'")
    return Pools({category: tuple(pool) for category, pool in of.items()}, left_out)


def distinct(every: Pools) -> tuple[Pools, list[Removed]]:
    """The pools without candidates that say the same as another one of any category.

    A prompt that two categories could have stays in the one with fewer candidates, which needs it more; categories of
    one size go by their name. Within a category the earlier one stays.
    """
    order = sorted(CATEGORIES, key=lambda category: (len(every.of[category]), category))
    texts = {each.row.question_id: each.texts for category in order for each in every.of[category]}
    removed = near_duplicates(texts)
    gone = {each.dropped for each in removed}
    kept = {
        category: tuple(each for each in pool if each.row.question_id not in gone)
        for category, pool in every.of.items()
    }
    return Pools(kept, every.left_out), removed


def _records(library: Library, source: str, pattern: str) -> list[Record]:
    folder = SOURCES[source].folder
    records: list[Record] = []
    for file in library.files(folder):
        if not re.search(pattern, file):
            continue
        if file.endswith(".txt"):
            records.append(Record(folder, file, 0, {"text": library.text(folder, file)}))
        else:
            records.extend(library.records(folder, file))
    return records
