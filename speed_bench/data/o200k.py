"""Lengths in o200k_base tokens, the unit of every length in the data.

The ranks are downloaded by tiktoken once, or read from the folder that TIKTOKEN_CACHE_DIR names.
"""

import functools
import os
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from speed_bench.errors import ConfigError, DataError

if TYPE_CHECKING:
    import tiktoken

NAME: Final = "o200k_base"
_MOST_SPACES: Final = 900_000
"""Of a longer run of spaces the encoder's regular expression overflows its stack."""


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
            f"tiktoken cannot get the ranks of {NAME} ({type(error).__name__}); it downloads them once: connect, or "
            "set TIKTOKEN_CACHE_DIR to a folder that holds them"
        ) from error


def encode(text: str) -> list[int]:
    """The token ids of a text; what looks like a special token is text."""
    if len(text) > _MOST_SPACES and any(len(run[0]) > _MOST_SPACES for run in re.finditer(r"\s+", text)):
        raise DataError(f"a text with more than {_MOST_SPACES} spaces in a row cannot be encoded; it is no prompt")
    return encoding().encode_ordinary(text)


def decode(ids: Sequence[int]) -> str:
    """The text of token ids; bytes that are no UTF-8 become U+FFFD, as in every builder of such prompts."""
    return encoding().decode(list(ids))


def count(text: str) -> int:
    """Tokens of a text."""
    return len(encode(text))


def counts(texts: Iterable[str]) -> list[int]:
    """Tokens of each text, on all cores: the encoder works outside the interpreter's lock."""
    encoding()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(count, texts))
