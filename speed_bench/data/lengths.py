"""Texts of an exact number of o200k_base tokens, and the published builder's approximate ones.

**Where a text may be cut without changing what comes before.** The encoder splits a text with a regular expression,
from left to right, and encodes each piece alone. A place is a *seam* if every piece ends or begins there, whatever
follows:

- before a space that follows a character which is no white space: no alternative of the expression goes on with a
  space after anything else, and none looks further than the white space that it stands in;
- after a line feed that is followed by neither white space nor a slash: runs of white space end with their last line
  feed, and punctuation takes up line feeds and slashes behind it, nothing else.

So `count(a + b) == count(a) + count(b)` where a and b meet at a seam, and a long text need not be encoded beyond the
first seam behind the tokens that are wanted.
"""

import re
from typing import Final

from speed_bench.data import o200k
from speed_bench.data.o200k import count, decode, encode
from speed_bench.errors import DataError

PADDING: Final = "Now begin your reply.\n"
"""What fills a text of `exactly` that is too short."""
SEAM: Final = re.compile(r"\S(?= )|\n(?=[^\s/])")
"""Matches the character before a seam. What Python takes for white space includes all that the encoder does."""
_FILLER: Final = " ."
"""One token behind anything: it begins at a seam, or takes one space of the run that it ends."""
_CHARACTERS_PER_TOKEN: Final = 6
_PRINTED: Final = frozenset(range(0x21, 0x7F))
_SLASH: Final = ord("/")
_LEEWAY: Final = 24
"""Bytes before the wanted end that are encoded again at every try."""
_WALK: Final = 2048
"""Tokens to look back for a seam before the whole text is encoded again at every try."""


def exactly(text: str, num_tokens: int, padding: str = PADDING) -> str:
    """The text cut, or padded, so that encoding it gives exactly `num_tokens`.

    It is cut between two characters. Where the tokens of the cut text are fewer than wanted, because the cut fell into
    a character of several tokens, single tokens ` .` follow. A text that is too short is followed by lines of
    `padding`, the last of which may be cut.
    """
    if num_tokens < 1:
        raise ValueError(f"{num_tokens} tokens cannot be had; 1 is the least")
    ids = first_ids(text, num_tokens)
    if len(ids) < num_tokens and not padding:
        raise DataError(f"a text of {len(ids)} tokens cannot have {num_tokens} without padding")
    if len(ids) < num_tokens:
        text += "" if not text or text.endswith("\n") else "\n"
        repeats = (num_tokens - len(ids)) // count(padding) + 2
        while len(ids) < num_tokens:  # once, but for a padding whose repetitions merge
            ids, repeats = first_ids(text + repeats * padding, num_tokens), 2 * repeats
    return _exact(ids, num_tokens, "")


def cut(text: str, num_tokens: int, tail: str = "") -> str:
    """The beginning of a text, then `tail`, together exactly `num_tokens`. Raises DataError for a text too short."""
    ids = first_ids(text, num_tokens)
    if len(ids) + count(tail) < num_tokens:
        raise DataError(f"a text of {len(ids)} tokens cannot be cut to {num_tokens}")
    return _exact(ids, num_tokens, tail)


def official_cut(text: str, num_tokens: int, padding: str) -> str:
    """What the published builder makes of a text: the first tokens, decoded.

    A text that is too short gets `padding`, as often as its own length in tokens says, and is then cut: one token less
    than wanted where its beginning merged with the end of the text. Encoding the result again may give another number,
    as where the cut fell into a character, which is why the manifest records it. `padding` is the builder's own line,
    which is read from the builder.
    """
    ids = first_ids(text, num_tokens)
    if len(ids) < num_tokens:
        repeats = -(-(num_tokens - len(ids)) // count(padding))
        ids = first_ids(text + padding * repeats, num_tokens)
    return decode(ids[:num_tokens])


def padding_share(text: str, num_tokens: int) -> float:
    """Which share of `num_tokens` is padding once the text has been brought to that length."""
    return max(0.0, 1 - len(first_ids(text, num_tokens)) / num_tokens)


def first_ids(text: str, num_tokens: int) -> list[int]:
    """At least the first `num_tokens` of `encode(text)`, or all of them, without encoding all of a long text."""
    size = _CHARACTERS_PER_TOKEN * num_tokens + _LEEWAY
    while seam := SEAM.search(text, size) if size < len(text) else None:
        if len(ids := encode(text[: seam.end()])) >= num_tokens:
            return ids
        size *= 4
    return encode(text)


def _exact(ids: list[int], num_tokens: int, tail: str) -> str:
    """The longest beginning of the text of `ids` that is exactly `num_tokens` together with `tail`.

    Between the last seam and the end one character after the other is given up, and what is then missing is filled;
    with everything given up the filler alone fits, so there always is one.
    """
    bytes_of = o200k.encoding().decode_bytes(ids[: max(0, num_tokens - count(tail))])
    num_before, at = _last_seam(ids, num_tokens - count(tail), bytes_of)
    before, rest = bytes_of[:at].decode(errors="replace"), bytes_of[at:].decode(errors="ignore")
    for stop in range(len(rest), -1, -1):
        missing = num_tokens - num_before - count(rest[:stop] + tail)
        if missing == 0:
            return f"{before}{rest[:stop]}{tail}"
        for fillers in range(missing, missing + count(tail) + 1) if missing > 0 else ():  # the last may join the tail
            filled = f"{rest[:stop]}{_FILLER * fillers}{tail}"
            if count(filled) == num_tokens - num_before:
                return before + filled
    raise DataError(f"a text cannot be brought to {num_tokens} tokens")


def _last_seam(ids: list[int], num_tokens: int, text: bytes) -> tuple[int, int]:
    """Tokens and bytes before the last seam that leaves some leeway to the end of `text`, the first tokens; or (0, 0).

    Among bytes only printed ASCII characters are taken for what is no white space.
    """
    at, token = len(text), o200k.encoding().decode_single_token_bytes
    for index in range(min(num_tokens, len(ids)) - 1, max(0, num_tokens - _WALK), -1):
        at -= len(token(ids[index]))
        if len(text) - at < _LEEWAY:
            continue
        last, following = text[at - 1], text[at]
        spaced = last in _PRINTED and following == ord(" ")
        new_line = last == ord("\n") and following in _PRINTED and following != _SLASH
        if spaced or new_line:
            return index, at
    return 0, 0
