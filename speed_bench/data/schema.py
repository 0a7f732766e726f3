"""The eight published columns, and one row read from or written to JSON."""

import re
from collections.abc import Mapping
from typing import Any

from speed_bench.errors import ConfigError, DataError
from speed_bench.types import Conversation

COLUMNS = ("question_id", "category", "sub_category", "turns", "source", "src_id", "difficulty", "multiturn")
CATEGORIES = (
    "coding",
    "humanities",
    "math",
    "multilingual",
    "qa",
    "rag",
    "reasoning",
    "roleplay",
    "stem",
    "summarization",
    "writing",
)
"""Of the `qualitative` and `starter` configs."""
PLACEHOLDER = "FULL BENCHMARK DATA SHOULD BE FETCHED FROM THE SOURCE USING SPECDEC_BENCH"
"""What published rows hold where their text may not be redistributed. It is not a prompt."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_KINDS: dict[str, Any] = {
    **dict.fromkeys(("question_id", "category", "source", "src_id"), str),
    **dict.fromkeys(("sub_category", "difficulty"), str | None),
    "multiturn": bool,
}
_KIND_NAMES = {str: "text", str | None: "text or null", bool: "true or false"}


def conversation(row: Any, where: str) -> Conversation:
    """A published row -> Conversation. Raises DataError, which names the row, for anything else."""
    if not isinstance(row, Mapping):
        raise DataError(f"{where} is not a row: an object with the columns {', '.join(COLUMNS)} is expected")
    name = row.get("question_id", where)
    missing = [column for column in COLUMNS if column not in row]
    surplus = [column for column in row if column not in COLUMNS]
    if missing or surplus:
        what = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"has unknown {', '.join(surplus)}"] * bool(surplus)
        raise DataError(f"row {name} of {where} {' and '.join(what)}; its columns must be {', '.join(COLUMNS)}")
    if not isinstance(row["turns"], list):
        raise DataError(f"row {name} of {where}: turns must be a list of strings")
    for column, kind in _KINDS.items():
        if not isinstance(row[column], kind):
            raise DataError(f"row {name} of {where}: {column} must be {_KIND_NAMES[kind]}, it is {row[column]!r:.80}")
    for turn in row["turns"]:
        if isinstance(turn, str) and turn.startswith(PLACEHOLDER):
            raise DataError(
                f"row {name} of {where} holds a placeholder, not its prompt; fetch the text from its source first"
            )
    try:
        return Conversation(**{**row, "turns": tuple(row["turns"])})
    except (ValueError, TypeError) as error:
        raise DataError(f"{where}: {error}") from error


def require_name(name: str, what: str = "a config", *, advice: str = "") -> None:
    """Refuse a name that cannot be a folder's, such as one that leads elsewhere, or that means something in YAML.

    >>> require_name("../etc", advice="give --config NAME")
    Traceback (most recent call last):
    speed_bench.errors.ConfigError: '../etc' cannot be the name of a config; letters, digits and _ - . can; give ...
    """
    if not _NAME.fullmatch(name):
        told = f"{name[:80]!r} cannot be the name of {what}; letters, digits and _ - . can"
        raise ConfigError(f"{told}; {advice}" if advice else told)
