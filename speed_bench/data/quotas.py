"""How many of the 80 rows of a category each kind of candidate gives: sources, languages, difficulty, number of turns.

A category's candidates are parted into strata. Every stratum has a share of the 80 rows, made after what the published
rows are made of as far as that is known: 167 of 880 rows with several turns; in `coding` Python 27, Go 13, JavaScript
11, Java 10, C++ 9 and Rust 3; in `multilingual` 23 languages besides English. A share that a stratum cannot fill goes
to the others in proportion to theirs, by largest remainders, and what was moved is told.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from types import MappingProxyType
from typing import Final, NamedTuple

from speed_bench.data.sources import SOURCES
from speed_bench.errors import ConfigError, unknown
from speed_bench.types import Conversation

ROWS: Final = 80


class Stratum(NamedTuple):
    """Candidates of one kind, and how many of the 80 rows are theirs. What is None may be anything."""

    share: int
    source: str
    sub_categories: tuple[str, ...] | None = None
    difficulty: str | None = None
    multiturn: bool | None = None

    @property
    def name(self) -> str:
        """What tells it from the others of its category."""
        parts = (
            self.source,
            None if self.sub_categories is None else " or ".join(self.sub_categories),
            self.difficulty,
            {None: None, True: "several turns", False: "one turn"}[self.multiturn],
        )
        return ", ".join(part for part in parts if part is not None)

    def holds(self, row: Conversation) -> bool:
        """Whether a candidate is of this kind."""
        return (
            row.source == SOURCES[self.source].url
            and (self.sub_categories is None or row.sub_category in self.sub_categories)
            and self.difficulty in (None, row.difficulty)
            and self.multiturn in (None, row.multiturn)
        )


def _each(share: int, source: str, *sub_categories: str, difficulty: str | None = None) -> tuple[Stratum, ...]:
    return tuple(Stratum(share, source, (each,), difficulty) for each in sub_categories)


_OPUS: Final = ("bn", "cs", "de", "el", "fi", "he", "hi", "id", "it", "nl", "pl", "ru", "tr", "uk")

SHARES: Final[Mapping[str, tuple[Stratum, ...]]] = MappingProxyType(
    {
        "coding": (
            *_each(10, "humanevalpack", "python"),
            *_each(13, "humanevalpack", "go"),
            *_each(11, "humanevalpack", "javascript"),
            *_each(10, "humanevalpack", "java"),
            *_each(9, "humanevalpack", "cpp"),
            *_each(3, "humanevalpack", "rust"),
            *(Stratum(3, "livecodebench", ("python",), level) for level in ("easy", "medium", "hard")),
            Stratum(6, "code_contests", ("python",), "easy"),
            Stratum(2, "code_contests", ("python",), "medium"),
            Stratum(7, "spec_bench", difficulty="medium"),
        ),
        "humanities": (
            Stratum(40, "hle", difficulty="hard"),
            *_each(7, "mmlu_pro", "history", "philosophy", difficulty="medium"),
            *_each(6, "mmlu_pro", "law", "psychology", "economics", difficulty="medium"),
            Stratum(8, "spec_bench", difficulty="medium"),
        ),
        "math": (
            Stratum(40, "hle", difficulty="hard"),
            Stratum(8, "mmath", ("en_math",), "hard"),
            Stratum(4, "mmath", ("en_math",), "medium"),
            Stratum(10, "mmlu_pro", ("math",), "medium"),
            Stratum(4, "gsm8k", difficulty="easy", multiturn=False),
            Stratum(6, "gsm8k", difficulty="easy", multiturn=True),
            Stratum(6, "spec_bench", difficulty="medium"),
            Stratum(2, "spec_bench", difficulty="easy"),
        ),
        "multilingual": (
            *_each(5, "mmath", *(f"{code}_math" for code in ("ar", "es", "fr", "ja", "ko", "pt", "th", "vi", "zh"))),
            *(Stratum(2, "opus100", (f"{code}-en", f"en-{code}")) for code in _OPUS),
            Stratum(7, "spec_bench", ("de-en",)),
        ),
        "qa": (
            Stratum(50, "spec_bench"),
            Stratum(20, "clapnq"),
            Stratum(10, "adaleval_stackselect"),
        ),
        "rag": (
            Stratum(40, "spec_bench", ("rag",)),
            Stratum(8, "spec_bench", ("extraction",)),
            Stratum(4, "clapnq", multiturn=False),
            Stratum(8, "clapnq", multiturn=True),
            Stratum(10, "chatrag_bench", multiturn=False),
            Stratum(10, "chatrag_bench", multiturn=True),
        ),
        "reasoning": (
            Stratum(25, "mtbench101", ("general",)),
            Stratum(35, "mtbench101", ("mathematical",)),
            Stratum(6, "mmlu_pro", multiturn=False),
            Stratum(6, "mmlu_pro", multiturn=True),
            Stratum(8, "spec_bench"),
        ),
        "roleplay": (
            Stratum(44, "rolebench", multiturn=False),
            Stratum(10, "rolebench", multiturn=True),
            Stratum(16, "coser"),
            Stratum(10, "spec_bench"),
        ),
        "stem": (
            Stratum(40, "hle", difficulty="hard"),
            *_each(6, "mmlu_pro", "physics", "chemistry", "biology", difficulty="medium"),
            *_each(5, "mmlu_pro", "engineering", "computer science", difficulty="medium"),
            *_each(4, "mmlu_pro", "health", difficulty="medium"),
            Stratum(8, "spec_bench", difficulty="medium"),
        ),
        "summarization": (
            Stratum(40, "cnn_dailymail"),
            Stratum(10, "spec_bench"),
            Stratum(12, "bamboo"),
            Stratum(10, "gutenberg"),
            Stratum(8, "clapnq"),
        ),
        "writing": (
            *_each(
                9,
                "writingbench",
                "Academic & Engineering",
                "Advertising & Marketing",
                "Education",
                "Finance & Business",
                "Literature & Arts",
                "Politics & Law",
            ),
            Stratum(16, "creative_writing_v3"),
            Stratum(10, "spec_bench"),
        ),
    }
)
"""category -> strata. A candidate belongs to the first that holds it; what none holds is a stratum of share 0."""
OTHER: Final = "others"


class Quotas(NamedTuple):
    """How many rows to select of which candidates."""

    labels: tuple[int, ...]
    """The stratum of each candidate, in the order of the pool."""
    counts: tuple[int, ...]
    """Rows to select of each stratum; together k, or all candidates where there are no more than k."""
    names: tuple[str, ...]
    """Of each stratum."""
    shares: tuple[int, ...]
    """Rows that the recipe gives to each stratum."""
    sizes: tuple[int, ...]
    """Candidates of each stratum."""

    @property
    def moved(self) -> tuple[str, ...]:
        """Sentences about the strata that had fewer candidates than their share."""
        return tuple(
            f"{name}: {share} rows by the recipe, {size or 'no'} candidates; {share - count} went to the others"
            for name, share, size, count in zip(self.names, self.shares, self.sizes, self.counts, strict=True)
            if count < share
        )


def quotas(category: str, pool: Sequence[Conversation], k: int = ROWS) -> Quotas:
    """The strata of a category's candidates, and how many of each are to be selected.

    Raises ConfigError for a category without a recipe.
    """
    if category not in SHARES:
        raise ConfigError(unknown("category", category, SHARES, plural="categories"))
    strata = SHARES[category]
    labels = tuple(next((n for n, each in enumerate(strata) if each.holds(row)), len(strata)) for row in pool)
    sizes = tuple(labels.count(label) for label in range(len(strata) + 1))
    shares = (*(each.share for each in strata), 0)
    names = (*(each.name for each in strata), OTHER)
    return Quotas(labels, apportion(shares, sizes, k), names, shares, sizes)


def table() -> str:
    """The shares of every stratum, in Markdown."""
    lines = [f"| {category} | {each.share} | {each.name} |" for category, strata in SHARES.items() for each in strata]
    return "\n".join(("| category | rows | of |", "|---|---|---|", *lines))


def apportion(shares: Sequence[int], sizes: Sequence[int], k: int) -> tuple[int, ...]:
    """Parts of k in proportion to the shares, none above its size: together k, or all where the sizes are less.

    What does not fit is shared out anew among the rest; strata of share 0 get what is left when all others are full,
    in proportion to their sizes. Fractions go to the largest remainders, of equal ones to the first.

    >>> apportion([40, 30, 10], [0, 100, 12], 80)
    (0, 68, 12)
    >>> apportion([1, 1, 1], [9, 9, 9], 8)
    (3, 3, 2)
    """
    counts = [0] * len(shares)
    for weights in (shares, [0 if share else size for share, size in zip(shares, sizes, strict=True)]):
        open_strata = [each for each, weight in enumerate(weights) if weight and sizes[each]]
        left = k - sum(counts)
        while left and open_strata:
            total = sum(weights[each] for each in open_strata)
            parts = {each: Fraction(left * weights[each], total) for each in open_strata}
            full = [each for each in open_strata if parts[each] >= sizes[each]]
            if not full:
                for each in open_strata:
                    counts[each] = int(parts[each])
                rest = left - sum(counts[each] for each in open_strata)
                for each in sorted(open_strata, key=lambda each: counts[each] - parts[each])[:rest]:
                    counts[each] += 1
                break
            for each in full:
                counts[each] = sizes[each]
                left -= sizes[each]
            open_strata = [each for each in open_strata if each not in full]
    return tuple(counts)
