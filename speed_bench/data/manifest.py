"""What an edition is, to the byte: a hash of every row, its lengths, where it is from, and who made it from what."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple
from typing import Any

import orjson

from speed_bench.errors import DataError
from speed_bench.types import Conversation

Entry = Mapping[str, Any]
"""What a manifest says of a row."""


def turns_sha256(turns: Iterable[str]) -> str:
    """Of the JSON array of the turns, UTF-8, without spaces."""
    return hashlib.sha256(orjson.dumps(list(turns))).hexdigest()


def row_sha256(row: Conversation) -> str:
    """Of the JSON array of the eight columns in their published order, UTF-8, without spaces."""
    return hashlib.sha256(orjson.dumps(astuple(row))).hexdigest()


def describe_config(
    rows: Sequence[Conversation],
    num_tokens: Callable[[str], int],
    source_of: Callable[[Conversation], str | None] = lambda _: None,
) -> dict[str, Any]:
    """The manifest's entry of a config: totals, totals per category, and every row.

    `num_tokens` counts under o200k_base, `source_of` gives the key of the row's source in the manifest's `sources`.
    """
    entries = describe_rows(rows, num_tokens)
    members: dict[str, list[Conversation]] = {}
    for row in rows:
        if (source := source_of(row)) is not None:
            entries[row.question_id]["source_id"] = source
        members.setdefault(row.category, []).append(row)
    categories = {name: _totals(each, entries) for name, each in members.items()}
    sums = {key: sum(totals[key] for totals in categories.values()) for key in ("num_turns", "num_tokens_o200k")}
    return {"num_rows": len(rows), **sums, "categories": categories, "rows": entries}


def _totals(rows: Sequence[Conversation], entries: Mapping[str, Entry]) -> dict[str, Any]:
    """Of a category: counts, the lengths of its rows (all turns of a row together), and how many are of which kind.

    A kind that no row has is left out.
    """
    lengths = [sum(entries[row.question_id]["num_tokens_o200k"]) for row in rows]
    kinds = {
        "sources": Counter(entries[row.question_id].get("source_id") for row in rows),
        "sub_categories": Counter(row.sub_category for row in rows),
        "difficulties": Counter(row.difficulty for row in rows),
    }
    return {
        "num_rows": len(rows),
        "num_multiturn": sum(row.multiturn for row in rows),
        "num_turns": sum(len(row.turns) for row in rows),
        "num_tokens_o200k": sum(lengths),
        "min_tokens_o200k": min(lengths),
        "max_tokens_o200k": max(lengths),
        **{
            kind: {str(name): count for name, count in sorted(counts.items(), key=lambda each: str(each[0]))}
            for kind, every in kinds.items()
            if (counts := {name: count for name, count in every.items() if name is not None})
        },
    }


def describe_rows(rows: Iterable[Conversation], num_tokens: Callable[[str], int]) -> dict[str, dict[str, Any]]:
    """The manifest's entry of each row; `num_tokens` counts under o200k_base. Raises DataError for a repeated id."""
    entries: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row.question_id in entries:
            raise DataError(f"row {row.question_id} stands there twice")
        entries[row.question_id] = {
            "turns_sha256": turns_sha256(row.turns),
            "row_sha256": row_sha256(row),
            "num_tokens_o200k": [num_tokens(turn) for turn in row.turns],
        }
    return entries


def config_sha256(edition: str, version: str, config: str, entries: Mapping[str, Entry]) -> str:
    """What a result names its prompts by: edition, version, config, and the hash of every row in order.

    It does not depend on which other configs the folder holds, nor on how the manifest is laid out.
    """
    hashes = [[name, entry.get("row_sha256", entry["turns_sha256"])] for name, entry in entries.items()]
    return hashlib.sha256(orjson.dumps([edition, version, config, hashes])).hexdigest()


def differences(rows: Iterable[Conversation], described: Mapping[str, Entry]) -> list[tuple[str, str]]:
    """(question_id, what is wrong) of every row that is not the one described, and of every one that is missing."""
    found: list[tuple[str, str]] = []
    seen: set[str] = set()
    for row in rows:
        entry = described.get(row.question_id)
        if entry is None:
            found.append((row.question_id, "is not in its manifest"))
        elif row.question_id in seen:
            found.append((row.question_id, "stands there twice"))
        elif entry["turns_sha256"] != turns_sha256(row.turns):
            found.append((row.question_id, "is not the text that its manifest describes"))
        elif entry.get("row_sha256", row_sha256(row)) != row_sha256(row):
            found.append((row.question_id, "has the text that its manifest describes, but other columns"))
        seen.add(row.question_id)
    return [*found, *((name, "is missing") for name in described if name not in seen)]


def verify(rows: Iterable[Conversation], described: Mapping[str, Entry], where: str) -> None:
    """Raise DataError, which names the first row that is not the one described or is missing, and how many are."""
    if found := differences(rows, described):
        name, what = found[0]
        more = f", and {len(found) - 1} more row(s) differ" if len(found) > 1 else ""
        raise DataError(f"row {name} of {where} {what}{more}")
