"""The words of answers: ordinary tokens of a real vocabulary, with their text and their bytes in JSON.

Words are lower-case ASCII with a space before them, so that answers can be read, their text is the
concatenation of their tokens' texts, and nothing in it needs escaping in JSON.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from speed_bench.engines.simulator.truth import Vocabulary
from speed_bench.errors import ModelError
from speed_bench.gguf_file import read_gguf_header
from speed_bench.tokens import ChatTokenizer

_WORD = re.compile("[Ġ▁]([a-z]{2,})")
"""As vocabularies write them: byte-level BPE has Ġ for the space, SentencePiece ▁."""


@dataclass(frozen=True, slots=True)
class Lexicon:
    """A vocabulary, as the wire needs it."""

    vocabulary: Vocabulary
    texts: Mapping[int, bytes]
    """Of every word, and of EOS, which has none."""
    numbers: Mapping[int, bytes]
    """Their ids, written out."""
    eos_text: str
    """What EOS is called."""
    encode: Callable[[str], Sequence[int]]
    """Text -> ids, as the model's own tokenizer has them."""

    def text(self, ids: Iterable[int]) -> bytes:
        """The text of tokens of an answer, as it stands in JSON."""
        return b"".join([self.texts[token_id] for token_id in ids])

    def list(self, ids: Iterable[int]) -> bytes:
        """Ids of tokens of an answer, as they stand in a JSON list."""
        return b",".join([self.numbers[token_id] for token_id in ids])


def lexicon(words: Mapping[int, str], eos_id: int, eos_text: str, encode: Callable[[str], Sequence[int]]) -> Lexicon:
    """Of words by their ids.

    >>> made = lexicon({7: " seven", 3: " three"}, 2, "<eos>", lambda text: [])
    >>> made.text([3, 7, 2]), made.list([3, 7, 2])
    (b' three seven', b'3,7,2')
    """
    texts = {token_id: words[token_id].encode() for token_id in sorted(words)}
    return Lexicon(
        vocabulary=Vocabulary(np.array(list(texts), dtype=np.int64), eos_id),
        texts={**texts, eos_id: b""},
        numbers={token_id: str(token_id).encode() for token_id in (*texts, eos_id)},
        eos_text=eos_text,
        encode=encode,
    )


def lexicon_of_gguf(model: Path) -> Lexicon:
    """Of a model file, of which nothing else is read. Raises ModelError if it has no words."""
    metadata: Mapping[str, Any] = read_gguf_header(model).metadata
    tokens, eos_id = metadata.get("tokenizer.ggml.tokens", []), metadata.get("tokenizer.ggml.eos_token_id")
    words = {at: f" {found[1]}" for at, token in enumerate(tokens) if (found := _WORD.fullmatch(token))}
    if not words or eos_id is None:
        raise ModelError(f"model file '{model}' has no vocabulary with words and an end to answer with; give another")

    @cache
    def tokenizer() -> ChatTokenizer:
        return ChatTokenizer.from_gguf(model)

    return lexicon(words, int(eos_id), tokens[eos_id], lambda text: tokenizer().encode(text))
