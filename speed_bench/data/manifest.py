"""What an edition is, to the byte: a hash of every row's turns, and who made it from what."""

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

import orjson

from speed_bench.errors import DataError
from speed_bench.types import Conversation


def turns_sha256(turns: Iterable[str]) -> str:
    """Of the JSON array of the turns, UTF-8, without spaces."""
    return hashlib.sha256(orjson.dumps(list(turns))).hexdigest()


def describe_rows(rows: Iterable[Conversation], num_tokens: Callable[[str], int]) -> dict[str, dict[str, Any]]:
    """The manifest's entry of each row; `num_tokens` counts under o200k_base."""
    return {
        row.question_id: {
            "turns_sha256": turns_sha256(row.turns),
            "num_tokens_o200k": [num_tokens(turn) for turn in row.turns],
        }
        for row in rows
    }


def verify(rows: Iterable[Conversation], described: dict[str, dict[str, Any]], where: str) -> None:
    """Raise DataError for the first row that is not the one described, and for rows that are missing."""
    left = dict(described)
    for row in rows:
        entry = left.pop(row.question_id, None)
        if entry is None:
            raise DataError(f"row {row.question_id} of {where} is not in its manifest, or stands there twice")
        if entry["turns_sha256"] != turns_sha256(row.turns):
            raise DataError(f"row {row.question_id} of {where} is not the text that its manifest describes")
    if left:
        raise DataError(f"{where} lacks {len(left)} row(s) of its manifest, the first is {next(iter(left))}")
