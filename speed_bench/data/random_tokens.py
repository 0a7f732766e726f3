"""Prompts of random tokens, made up on the spot: the edition `random:<tokens>`.

They are no text that anybody writes. Experts of a model are loaded otherwise, and a drafter finds nothing to copy and
nothing to guess; yet they are what load generators send by default. The edition is there to measure what that distorts.
"""

import functools
import hashlib
import os
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np

from speed_bench.data import o200k
from speed_bench.data.editions import RANDOM
from speed_bench.data.lengths import cut
from speed_bench.data.o200k import decode
from speed_bench.errors import ConfigError, DataError
from speed_bench.types import Conversation

CONFIG: Final = "random"
"""Its only config, and the only category in it."""
NUM_ROWS: Final = 512
MOST_TOKENS: Final = 200_000
_SURPLUS: Final = 1.02
"""Ids drawn per token that is wanted. Encoded again, their text has 3 % more: few neighbours merge, more are split."""


def tokens_of(edition: str) -> int:
    """The length of the prompts of an edition. Raises ConfigError for a name that says none.

    >>> tokens_of("random:1000")
    1000
    """
    digits = re.fullmatch(r"[1-9][0-9]{0,5}", edition.removeprefix(RANDOM))
    if digits is None or int(digits[0]) > MOST_TOKENS:
        raise ConfigError(
            f"edition '{edition}' names no length; write random:<tokens>, with 1 to {MOST_TOKENS:,} o200k_base tokens, "
            "such as random:1000"
        )
    return int(digits[0])


def rows(isl: int, num_rows: int = NUM_ROWS, seed: int = 0) -> list[Conversation]:
    """Rows of exactly `isl` random tokens each. A row depends on `isl`, `seed` and its own number alone."""
    usable_ids()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda number: _row(isl, seed, number), range(num_rows)))


def _row(isl: int, seed: int, number: int) -> Conversation:
    name = f"random_{isl}_{seed}_{number}"
    return Conversation(
        question_id=hashlib.sha256(name.encode()).hexdigest()[:32],
        category=CONFIG,
        sub_category=None,
        turns=(_text(name, isl),),
        source="speed-bench/random",
        src_id=name,
        difficulty=None,
        multiturn=False,
    )


def _text(name: str, isl: int) -> str:
    """Random ids decoded, as many as it takes, and cut to `isl` tokens."""
    usable, drawn = usable_ids(), int(_SURPLUS * isl) + 8
    while True:
        bits = np.frombuffer(hashlib.shake_256(name.encode()).digest(8 * drawn), "<u8")
        try:
            return cut(decode(usable[bits % len(usable)].tolist()), isl)
        except DataError:  # too short
            drawn *= 2


@functools.cache
def usable_ids() -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """Ids that are text by themselves: no special tokens, no parts of characters, not white space alone."""
    encoder = o200k.encoding()
    special = {encoder.encode_single_token(token) for token in encoder.special_tokens_set}
    found = []
    for token in sorted(set(range(encoder.n_vocab)) - special):
        try:
            text = encoder.decode_single_token_bytes(token).decode()
        except (KeyError, UnicodeDecodeError):
            continue
        if text.strip():
            found.append(token)
    return np.array(found, np.int64)
