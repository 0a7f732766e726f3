"""The six configs that are published, and how many rows each has. What is smaller has another name."""

from typing import Final

from speed_bench.data.schema import CATEGORIES
from speed_bench.errors import DataError

QUALITATIVE: Final = "qualitative"
ROWS_PER_CATEGORY: Final = 80
TIERS: Final = ("low_entropy", "mixed", "high_entropy")
"""The categories of every `throughput_…` config."""
ROWS_PER_TIER: Final = 512
BUCKETS: Final = (1, 2, 8, 16, 32)
"""Lengths of the throughput configs, in thousands of o200k_base tokens."""

NUM_ROWS: Final = {
    QUALITATIVE: len(CATEGORIES) * ROWS_PER_CATEGORY,
    **{f"throughput_{k}k": len(TIERS) * ROWS_PER_TIER for k in BUCKETS},
}
"""The fewest rows that a config of each published name has."""


def require_whole(config: str, num_rows: int, where: str) -> None:
    """Refuse a config that has a published name and fewer rows than that name promises.

    >>> require_whole("qualitative", 88, "edition open")
    Traceback (most recent call last):
    speed_bench.errors.DataError: edition open has 88 rows of qualitative, which is never fewer than 880; ...
    """
    if num_rows < NUM_ROWS.get(config, 1):
        raise DataError(
            f"{where} has {num_rows} rows of {config}, which is never fewer than {NUM_ROWS.get(config, 1)}; "
            "give the missing rows, or the config another name"
        )
