"""Lengths in o200k_base tokens, the unit of every length in the data.

The ranks are downloaded by tiktoken once, or read from the folder that TIKTOKEN_CACHE_DIR names.
"""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from speed_bench.errors import ConfigError, DataError

if TYPE_CHECKING:
    import tiktoken

NAME = "o200k_base"


@functools.cache
def encoding() -> "tiktoken.Encoding":
    """The encoder. Raises ConfigError without tiktoken, DataError where its ranks are not to be had."""
    try:
        import tiktoken
    except ModuleNotFoundError as error:
        raise ConfigError("token counts need tiktoken; pip install 'speed-bench[data]'") from error
    try:
        return tiktoken.get_encoding(NAME)
    except Exception as error:  # whatever its HTTP client raises
        raise DataError(
            f"tiktoken cannot get the ranks of {NAME}: {' '.join(str(error).split())[:200]}; it downloads them once: "
            "connect, or set TIKTOKEN_CACHE_DIR to a folder that holds them"
        ) from error


def encode(text: str) -> list[int]:
    """The token ids of a text; what looks like a special token is text."""
    return encoding().encode_ordinary(text)


def decode(ids: Sequence[int]) -> str:
    """The text of token ids; bytes that are no UTF-8 become U+FFFD, as in every builder of such prompts."""
    return encoding().decode(list(ids))


def count(text: str) -> int:
    """Tokens of a text."""
    return len(encode(text))
