"""The `curated` qualitative config: candidates, without duplicates, embedded, and 80 of each category selected.

Candidates and quotas come from `candidates` and `quotas`, the choice from `selection`; here they are put in a row, and
what came of it is measured.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from speed_bench.data import selection
from speed_bench.data.candidates import RECIPES, Pools, distinct, pools
from speed_bench.data.configs import ROWS_PER_CATEGORY
from speed_bench.data.embedding import embed, model_folder
from speed_bench.data.o200k import count, encoding
from speed_bench.data.progress import Progress, silent
from speed_bench.data.published import MEAN_TOKENS
from speed_bench.data.quotas import Quotas, quotas
from speed_bench.data.sources import SOURCES
from speed_bench.data.sources.library import Library
from speed_bench.errors import DataError
from speed_bench.types import Conversation

if TYPE_CHECKING:
    import numpy as np

OLDER: Final = SOURCES["spec_bench"]
"""The older benchmark whose categories are measured beside ours."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How to select; together with the pools it determines every row."""

    mode: Literal["capped", "published"] = "capped"
    """`capped`: quotas, a cap on any pair, many restarts, a bound. `published`: the plain published procedure."""
    seed: int = 0
    restarts: int = 200
    cap: float = 0.8
    """The highest cosine similarity of any two rows of a category."""
    allow_close_pairs: bool = False
    """Where the cap cannot be met: take the closest pairs that must be taken, and list them, instead of stopping."""
    pool_limit: int | None = None
    """At most so many candidates of a category, every kind in proportion to its quota; None: all."""
    without: tuple[str, ...] = ()
    """Sources that are not read."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """What came of one category."""

    category: str
    pool: tuple[Conversation, ...]
    """Candidates after duplicates were taken away."""
    vectors: "np.ndarray"
    """Of the pool, unit rows."""
    picks: tuple[int, ...]
    """Places in the pool."""
    facts: Mapping[str, Any]
    """For manifest and card."""

    @property
    def rows(self) -> list[Conversation]:
        """The picks in the order of their ids, which is none: the first so many are a fair sample."""
        return sorted((self.pool[each] for each in self.picks), key=lambda row: row.question_id)


@dataclass(frozen=True, slots=True)
class Curation:
    """All categories, and what a manifest says of how they were made."""

    chosen: tuple[Chosen, ...]
    about: Mapping[str, Any]

    @property
    def rows(self) -> list[Conversation]:
        """The rows of the config, by category."""
        return [row for each in self.chosen for row in each.rows]


def curate(
    library: Library, settings: Settings, *, embedder: str | None, cache: Path, progress: Progress = silent
) -> Curation:
    """Choose 80 rows of each category from what a library has.

    Raises DataError where a category has fewer than 80 candidates, or where the cap cannot be met.
    """
    import numpy as np

    encoding(), model_folder(embedder)  # what is missing is told now, not after the embeddings
    progress("candidates", 0, 1)
    found, kept = _candidates(library, settings)
    progress("candidates", 1, 1)
    limited = {category: limit(category, rows, settings.pool_limit) for category, rows in kept.rows.items()}
    older = {category: [row for row in rows if row.source == OLDER.url] for category, rows in found.rows.items()}
    every = [row for rows in (*limited.values(), *older.values()) for row in rows]
    embedded = embed([text_of(row) for row in every], embedder, cache, lambda *at: progress("embeddings", *at))
    vector_of = dict(zip((row.question_id for row in every), embedded.vectors, strict=True))
    chosen = []
    for number, (category, rows) in enumerate(limited.items()):
        progress("selection", number, len(limited))
        about = {
            "candidates": len(found.rows[category]),
            "duplicates": len(found.of[category]) - len(kept.of[category]),
            "older_benchmark": _similarity([vector_of[row.question_id] for row in older[category]]),
        }
        vectors = np.stack([vector_of[row.question_id] for row in rows])
        try:
            chosen.append(choose(category, rows, vectors, settings, about))
        except DataError as error:
            raise DataError(f"category {category}: {error}") from error
    progress("selection", len(limited), len(limited))
    everything = {
        "settings": asdict(settings),
        "embedder": dict(embedded.facts),
        "sources_left_out": dict(found.left_out),
        "selection": {each.category: dict(each.facts) for each in chosen},
        "lengths": {each.category: _compared_lengths(each) for each in chosen},
    }
    return Curation(tuple(chosen), everything)


def _candidates(library: Library, settings: Settings) -> tuple[Pools, Pools]:
    """All candidates, and those that are left without duplicates: enough of every category."""
    library.check_access([source for source in RECIPES if source not in settings.without])
    found = pools(library, settings.without)
    kept, _ = distinct(found)
    for category, rows in kept.rows.items():
        if len(rows) < ROWS_PER_CATEGORY:
            raise DataError(
                f"category {category} has {len(rows)} candidates after duplicates were taken away, and needs "
                f"{ROWS_PER_CATEGORY}; not read: {', '.join(found.left_out) or 'nothing'}"
            )
    return found, kept


def choose(
    category: str,
    pool: Sequence[Conversation],
    vectors: "np.ndarray",
    settings: Settings,
    about: Mapping[str, Any],
) -> Chosen:
    """Select 80 of a category's pool and measure the choice; `about` is what is known of it already."""
    share = quotas(category, pool, ROWS_PER_CATEGORY)
    ids = [row.question_id for row in pool]
    if settings.mode == "published":
        picked = selection.published(vectors, ROWS_PER_CATEGORY, settings.seed)
    else:
        picked = selection.select(
            vectors,
            ROWS_PER_CATEGORY,
            labels=[share.names[label] for label in share.labels],
            counts=dict(zip(share.names, share.counts, strict=True)),
            cap=settings.cap,
            restarts=settings.restarts,
            seed=settings.seed,
            allow_close_pairs=settings.allow_close_pairs,
            ids=ids,
        )
    facts = {
        **about,
        "pool": len(pool),
        "no_selection": len(pool) <= ROWS_PER_CATEGORY,
        **_measured(picked, ids),
        **({} if settings.mode == "published" else {"quotas": _described(share), "moved": list(share.moved)}),
    }
    return Chosen(category, tuple(pool), vectors, tuple(picked.chosen), facts)


def limit(category: str, pool: Sequence[Conversation], most: int | None) -> list[Conversation]:
    """At most so many of a pool: every kind of candidate in proportion to its quota, those of a kind by hash."""
    if most is None or len(pool) <= most:
        return list(pool)
    share = quotas(category, pool, most)
    left = list(share.counts)
    taken: set[str] = set()
    labelled = zip(share.labels, (row.question_id for row in pool), strict=True)
    for label, name in sorted(labelled, key=lambda each: sha256(each[1].encode()).digest()):
        if left[label]:
            left[label] -= 1
            taken.add(name)
    return [row for row in pool if row.question_id in taken]


def text_of(row: Conversation) -> str:
    """What is embedded: all turns of the user."""
    return "\n".join(row.turns)


def lengths(rows: Iterable[Conversation]) -> dict[str, float]:
    """Tokens of a row, all turns together: mean, and the quantiles that a reader asks for."""
    import numpy as np

    tokens = [sum(count(turn) for turn in row.turns) for row in rows]
    p10, p50, p90 = (float(each) for each in np.quantile(tokens, (0.1, 0.5, 0.9)))
    return {
        "mean": round(float(np.mean(tokens)), 1),
        "min": min(tokens),
        "p10": p10,
        "p50": p50,
        "p90": p90,
        "max": max(tokens),
    }


def _compared_lengths(chosen: Chosen) -> dict[str, float]:
    """How long the picks are, beside the pool that they are from and the published rows."""
    pool = lengths(chosen.pool)
    return {
        **lengths(chosen.rows),
        "pool_mean": pool["mean"],
        "pool_p50": pool["p50"],
        "published_mean": MEAN_TOKENS[chosen.category],
    }


def _measured(picked: selection.Selection, ids: Sequence[str]) -> dict[str, Any]:
    """Similarities as numbers of the manifest: four decimals, which the last bits of a processor do not move.

    The bound is rounded down and the gap up, so that they still hold.
    """
    return {
        "picked": len(picked.chosen),
        "mean_similarity": _rounded(picked.mean_similarity),
        "random": _rounded(picked.random_mean),
        "lower_bound": None if picked.lower_bound is None else math.floor(picked.lower_bound * 1e4) / 1e4,
        "gap": None if picked.gap is None else math.ceil(picked.gap * 1e4) / 1e4,
        "max_pair": None if picked.max_pair is None else _named(picked.max_pair, ids),
        "close_pairs": [_named(pair, ids) for pair in picked.close_pairs],
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _named(pair: selection.Pair, ids: Sequence[str]) -> list[str | float]:
    """Two question_ids and their similarity."""
    first, second, similarity = pair
    return [ids[first], ids[second], round(similarity, 4)]


def _similarity(vectors: Sequence["np.ndarray"]) -> dict[str, Any] | None:
    """Number of rows and the mean cosine similarity of two of them; None where there are no two."""
    import numpy as np

    if len(vectors) < 2:
        return None
    mean = selection.objective(np.stack(vectors), range(len(vectors)))
    return {"rows": len(vectors), "mean_similarity": round(mean, 4)}


def _described(share: Quotas) -> dict[str, int]:
    """How many rows of each stratum were asked for."""
    return {name: asked for name, asked in zip(share.names, share.counts, strict=True) if asked}
