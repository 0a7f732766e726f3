"""The bytes of every id of a byte-level BPE vocabulary, and the ids of bytes.

In such a vocabulary a token is any run of bytes, so a character can be spread over several tokens.
"""

import codecs
from collections.abc import Collection, Sequence
from functools import cache
from itertools import accumulate
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import tokenizers


@cache
def _byte_of_char() -> dict[str, int]:
    """GPT-2's alphabet: printable bytes stand for themselves, the others for characters from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + at): byte for at, byte in enumerate(others)}


class ByteVocabulary:
    """Made of a `tokenizers.Tokenizer` whose model is BPE and whose decoder is ByteLevel."""

    MAX_UNNAMED: Final = 16
    MAX_BYTES: Final = 64
    """Longest event whose tokens are looked for: a character has 4 bytes, so this is far more than occurs."""

    def __init__(self, tokenizer: "tokenizers.Tokenizer") -> None:
        byte_of_char = _byte_of_char()
        self._char_of_byte = {byte: char for char, byte in byte_of_char.items()}
        self._model = tokenizer.model
        self._bytes_of: dict[int, bytes] = {}
        self._id_of: dict[bytes, int] = {}
        self._special: dict[int, str] = {}
        for token, token_id in tokenizer.get_vocab(with_added_tokens=False).items():
            if all(char in byte_of_char for char in token):
                self._bytes_of[token_id] = data = bytes([byte_of_char[char] for char in token])
                self._id_of[data] = token_id
            else:
                self._bytes_of[token_id] = token.encode()
        for token_id, added in tokenizer.get_added_tokens_decoder().items():
            self._id_of.pop(self._bytes_of.get(token_id, b""), None)
            self._bytes_of[token_id] = b"" if added.special else added.content.encode()
            if added.special:
                self._special[token_id] = added.content

    @property
    def special(self) -> frozenset[str]:
        """The special tokens, as they are written."""
        return frozenset(self._special.values())

    def text(self, ids: Sequence[int], shown: Collection[str] = ()) -> str:
        """See `ChatTokenizer.decode`."""
        pieces = [self._bytes_of.get(token_id, b"") for token_id in ids]
        if shown:
            special = [self._special.get(token_id, "") for token_id in ids]
            pieces = [text.encode() if text in shown else data for text, data in zip(special, pieces, strict=True)]
        return codecs.getincrementaldecoder("utf-8")("replace").decode(b"".join(pieces))

    def name_unnamed(self, token_ids: tuple[int | None, ...], text: str) -> tuple[int | None, ...]:
        """See `ChatTokenizer.name_unnamed`."""
        *unnamed, last = token_ids
        data = text.encode("utf-8", "replace")
        last_bytes = b"" if last is None else self._bytes_of.get(last, b"")
        is_held_back = (
            not any(token_id is not None for token_id in unnamed) and last_bytes and data.endswith(last_bytes)
        )
        if not is_held_back or len(unnamed) > self.MAX_UNNAMED or len(data) > self.MAX_BYTES:
            return token_ids
        cuts = {at for at in range(1, len(data)) if data[at] & 0xC0 == 0x80}
        ids = self._split(data[: -len(last_bytes)], len(unnamed), cuts)
        return token_ids if ids is None else (*ids, last)

    def _split(self, data: bytes, num: int, cuts: set[int]) -> tuple[int, ...] | None:
        """`num` ids whose bytes are `data`, each ending at one of `cuts`; None if none or several fit."""
        splits: dict[int, list[tuple[int, ...]]] = {0: [()]}  # by bytes used, two of each at most
        for _ in range(num):
            longer: dict[int, list[tuple[int, ...]]] = {}
            for start, found in splits.items():
                for end in cuts:
                    token_id = self._id_of.get(data[start:end]) if start < end <= len(data) else None
                    if token_id is not None:
                        longer[end] = (longer.get(end, []) + [(*ids, token_id) for ids in found])[:2]
            splits = longer
        fitting = splits.get(len(data), [])
        if len(fitting) < 2:
            return fitting[0] if fitting else None
        merged = [token.id for token in self._model.tokenize("".join([self._char_of_byte[byte] for byte in data]))]
        ends = set(accumulate(len(self._bytes_of[token_id]) for token_id in merged))
        return tuple(merged) if len(merged) == num and ends <= cuts else None
