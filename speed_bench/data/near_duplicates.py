"""Items whose texts say the same as those of an earlier one: word 5-grams, Jaccard similarity, computed exactly.

An item is a list of texts, the turns of a conversation. Two items are alike where their joined texts are, or where any
turn of one with at least `MIN_TURN_WORDS` words is like a turn or the whole of the other: a problem that stands alone
in one source and is half of a conversation in another is found, and a short follow-up ("Why is that?") is no copy.

Only pairs that can reach the threshold are compared. If |A ∩ B| ≥ t·|A ∪ B| and the grams of both are sorted by one
order, rarest first, then A and B share a gram among the first |A| - ⌈t|A|⌉ + 1 of A and the first |B| - ⌈t|B|⌉ + 1
of B (prefix filtering: Chaudhuri et al., ICDE 2006; Bayardo et al., WWW 2007). It loses no pair.
"""

import functools
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, combinations
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

NUM_WORDS: Final = 5
THRESHOLD: Final = 0.8
MIN_TURN_WORDS: Final = 20
_WORD: Final = re.compile(r"[^\W\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+|[^\s]")
"""A run of letters and digits; a sign; a kana or Chinese character, for those scripts do not part their words."""


class Removed(NamedTuple):
    """An item that was dropped for an earlier one."""

    dropped: str
    kept: str
    similarity: float
    """Jaccard similarity of their nearest texts; 1 where they differ in white space and letter case at most."""


def words(text: str) -> list[str]:
    """What a text is compared by, letter case aside.

    >>> words("If x<2, 我们 stop")
    ['if', 'x', '<', '2', ',', '我', '们', 'stop']
    """
    return _WORD.findall(text.casefold())


def near_duplicates(items: Mapping[str, Sequence[str]], threshold: float = THRESHOLD) -> list[Removed]:
    """Which items to drop, in their order: each that is alike to an earlier one that stays, with the first such.

    >>> near_duplicates({"a": ["How old is  the tree?"], "b": ["Why?"], "c": ["how old is the tree?"]})
    [Removed(dropped='c', kept='a', similarity=1.0)]
    """
    owners: list[int] = []
    units: list[list[str]] = []
    for owner, texts in enumerate(items.values()):
        compared = compared_texts(texts)
        units += compared
        owners += [owner] * len(compared)
    alike: dict[int, dict[int, float]] = defaultdict(dict)  # of a later item: earlier ones, and how alike they are
    for first, second, similarity in _alike(units, owners, threshold):
        earlier, later = sorted((owners[first], owners[second]))
        alike[later][earlier] = max(similarity, alike[later].get(earlier, 0.0))
    names, gone, removed = list(items), set[int](), []
    for later in sorted(alike):
        kept = min((earlier for earlier in alike[later] if earlier not in gone), default=None)
        if kept is not None:
            gone.add(later)
            removed.append(Removed(names[later], names[kept], alike[later][kept]))
    return removed


def compared_texts(texts: Sequence[str]) -> list[list[str]]:
    """The words of what is compared of an item: its whole, then each of its turns that is long enough."""
    turns = [words(text) for text in texts]
    whole = [word for turn in turns for word in turn]
    return [whole, *(turn for turn in turns if len(turns) > 1 and len(turn) >= MIN_TURN_WORDS)]


def _alike(units: Sequence[Sequence[str]], owners: Sequence[int], threshold: float) -> Iterator[tuple[int, int, float]]:
    """Pairs of texts of different items whose similarity reaches the threshold."""
    grams, starts = _grams(units)
    sizes = np.diff(starts)
    num_indexed = sizes - np.ceil(threshold * sizes - 1e-9).astype(np.int64) + 1
    within = np.arange(len(grams)) - np.repeat(starts[:-1], sizes)
    indexed = np.flatnonzero(within < np.repeat(num_indexed, sizes))
    indexed = indexed[np.bincount(grams[indexed])[grams[indexed]] > 1]
    by_gram = indexed[np.argsort(grams[indexed], kind="stable")]
    unit_of = np.repeat(np.arange(len(units)), sizes)[by_gram]
    groups = np.split(unit_of, np.flatnonzero(np.diff(grams[by_gram])) + 1)
    pairs = {
        (first, second)
        for group in groups
        for first, second in combinations(group.tolist(), 2)
        if owners[first] != owners[second]
    }

    @functools.cache
    def held(unit: int) -> frozenset[int]:
        return frozenset(grams[starts[unit] : starts[unit + 1]].tolist())

    for first, second in sorted(pairs):
        least, most = sorted((int(sizes[first]), int(sizes[second])))
        if least < threshold * most - 1e-9:
            continue
        shared = len(held(first) & held(second))
        similarity = shared / (least + most - shared)
        if similarity >= threshold:
            yield first, second, similarity


def _grams(units: Sequence[Sequence[str]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The different grams of each unit, one unit after another, and where each begins.

    A gram is a number: the rarer it is among all units, the smaller. Fewer words than a gram has are one gram.
    """
    known: defaultdict[str, int] = defaultdict()
    known.default_factory = known.__len__
    padded = [[*unit, *[""] * (NUM_WORDS - len(unit))] for unit in units]
    ids = np.fromiter(map(known.__getitem__, chain.from_iterable(padded)), np.int64)
    lengths = np.array([len(unit) for unit in padded], np.int64)
    num_windows = lengths - NUM_WORDS + 1
    unit_of = np.repeat(np.arange(len(units)), num_windows)
    before = np.cumsum(lengths) - lengths - (np.cumsum(num_windows) - num_windows)
    begins = np.arange(len(unit_of)) + before[unit_of]
    gram = _numbered([ids[begins + place] for place in range(NUM_WORDS)], len(known))
    num_grams = int(gram.max(initial=0)) + 1
    held = np.sort(unit_of * num_grams + gram)
    unit_of, gram = np.divmod(held[np.diff(held, prepend=-1) != 0], num_grams)
    frequency = np.bincount(gram, minlength=num_grams)
    rank = np.empty(num_grams, np.int64)
    rank[np.argsort(frequency, kind="stable")] = np.arange(num_grams)
    held = np.sort(unit_of * num_grams + rank[gram])
    starts = np.concatenate(([0], np.cumsum(np.bincount(unit_of, minlength=len(units)))))
    return held % num_grams, starts


def _numbered(columns: Sequence[NDArray[np.int64]], base: int) -> NDArray[np.int64]:
    """Equal rows of the columns, whose entries are below `base`, get equal numbers from 0 on, without gaps."""
    key, size = columns[0], base
    for column in columns[1:]:
        if size * base > np.iinfo(np.int64).max:
            key = np.unique(key, return_inverse=True)[1]
            size = int(key.max(initial=0)) + 1
        key = key * base + column
        size *= base
    return np.unique(key, return_inverse=True)[1]
