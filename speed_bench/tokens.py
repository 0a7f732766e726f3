"""Chat template to token ids and back: the only user of a tokenizer.

Every engine is given the same ids, so they are made here, once, from the model's own chat template
and vocabulary: of a GGUF file (no torch, no transformers) or of a Hugging Face tokenizer. The
template writes every special token, BOS included; none is added. `check_parity` compares the ids
with those of the engine before a run.
"""

import hashlib
import re
import struct
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from speed_bench.byte_vocabulary import ByteVocabulary
from speed_bench.errors import TokenError
from speed_bench.gguf_chat import build_tokenizer, chat_template, end_ids, special_texts, template_renderer
from speed_bench.gguf_file import read_gguf_header
from speed_bench.models import hub_answers
from speed_bench.reasoning import TAIL_TOKENS, History, ReasoningFormat, Split, detect, prompt_state, recorded_state
from speed_bench.reasoning import split as split_output

if TYPE_CHECKING:
    import tokenizers

Message = tuple[str, str] | Mapping[str, Any]
"""(role, text), or what a chat template takes: a mapping with `role` and `content`."""

PROBES: Final = (
    "<|im_start|>user\nWhat is 2+2?<|im_end|>\n<|im_start|>assistant\n",
    "In 1969, 3.14159 and 1234567890; ²³ ½ ٣٤",
    "a  b   c\t\td\n\n\n  e \r\n f",
    "naïve café, Ångström, ẞ, e\u0301",
    "日本語のテキスト、汉字和한국어",
    "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇫🇷",
    "def f(x):\n\tif x > 0:\n        return {'a': x ** 2}  # don't\n",
    "مرحبا بالعالم، كيف حالك؟",
    "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft",
    "trailing spaces   ",
)
"""Texts on which tokenizers are known to differ."""


def prompt_sha256(ids: Sequence[int]) -> str:
    """SHA-256 over the little-endian uint32 ids: equal hashes are equal inputs.

    >>> prompt_sha256([1, 2])[:16]
    '34fb5c825de7ca4a'
    """
    return hashlib.sha256(struct.pack(f"<{len(ids)}I", *ids)).hexdigest()


class ChatTokenizer:
    """A model's chat template and vocabulary. Made by `from_gguf` or `from_huggingface`.

    >>> from speed_bench.models import resolve_gguf
    >>> tokenizer = ChatTokenizer.from_gguf(resolve_gguf("smollm2-135m-instruct"))
    >>> tokenizer.encode("Hello<|im_end|>")
    (19556, 2)
    >>> tokenizer.decode(tokenizer.chat_ids([("user", "Hi")]))[-18:]
    'user\\nHi\\nassistant\\n'
    """

    source: str
    """The file or name it was made from."""
    vocab_size: int
    """Ids that have a text, special ones included; a model may have more rows than that."""
    eos_ids: frozenset[int]
    """Ids that end an answer."""
    template_sha256: str
    """Of the chat template's text, UTF-8."""
    reasoning: ReasoningFormat | None
    """How its model marks its thinking; None: by nothing that is known here."""

    def __init__(
        self,
        *,
        source: str,
        template: str,
        render: Callable[[list[dict[str, Any]], Mapping[str, Any]], str],
        encode: Callable[[str], Sequence[int]],
        decode: Callable[[list[int], Collection[str]], str],
        special: Collection[str],
        has_token: Callable[[str], bool],
        byte_vocabulary: ByteVocabulary | None,
        vocab_size: int,
        eos_ids: Iterable[int],
    ) -> None:
        self.source = source
        self.vocab_size = vocab_size
        self.eos_ids = frozenset(eos_ids)
        self.template_sha256 = hashlib.sha256(template.encode()).hexdigest()
        self.reasoning = detect(template, has_token)
        self._template = template
        self._special = special
        self._render = render
        self._encode = encode
        self._decode = decode
        self._byte_vocabulary = byte_vocabulary

    @classmethod
    def from_gguf(cls, path: Path) -> "ChatTokenizer":
        """Of a GGUF file with a byte-level BPE vocabulary whose pre-tokenizer is known here.

        Raises:
            ModelError: the file cannot be read.
            TokenError: another kind of vocabulary, or no usable chat template.
        """
        source, metadata = str(path), read_gguf_header(path).metadata
        tokenizer = build_tokenizer(source, metadata)
        template = chat_template(source, metadata)
        byte_vocabulary = ByteVocabulary(tokenizer)
        return cls(
            source=source,
            template=template,
            render=template_renderer(source, template, special_texts(metadata)),
            encode=lambda text: tokenizer.encode_batch_fast([text], add_special_tokens=False)[0].ids,  # without the GIL
            decode=byte_vocabulary.text,
            special=byte_vocabulary.special,
            has_token=lambda text: tokenizer.token_to_id(text) is not None,
            byte_vocabulary=byte_vocabulary,
            vocab_size=tokenizer.get_vocab_size(),
            eos_ids=end_ids(metadata),
        )

    @classmethod
    def from_huggingface(cls, name_or_path: str, revision: str | None = None) -> "ChatTokenizer":
        """Of a folder or a Hub repository, read by `transformers.AutoTokenizer`.

        Code in the repository is never run.

        Raises:
            TokenError: transformers is not installed, or there is no tokenizer or chat template.
        """
        offline = Path(name_or_path).is_dir() or not hub_answers(name_or_path, "tokenizer_config.json", revision)
        tokenizer = _load_huggingface(name_or_path, revision, offline)
        try:
            template = str(tokenizer.get_chat_template())
        except ValueError:
            raise TokenError(f"tokenizer '{name_or_path}' has no chat template; give one that has") from None

        def render(messages: list[dict[str, Any]], template_args: Mapping[str, Any]) -> str:
            return str(
                tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False, **template_args)
            )

        backend = getattr(tokenizer, "backend_tokenizer", None)
        byte_vocabulary = ByteVocabulary(backend) if backend is not None and _is_byte_level(backend) else None
        vocabulary, special = tokenizer.get_vocab(), _special_texts(tokenizer)
        return cls(
            source=name_or_path,
            template=template,
            render=render,
            encode=lambda text: tokenizer.encode(text, add_special_tokens=False),
            decode=byte_vocabulary.text if byte_vocabulary else _library_decoder(tokenizer, special),
            special=frozenset(special.values()),
            has_token=vocabulary.__contains__,
            byte_vocabulary=byte_vocabulary,
            vocab_size=len(tokenizer),
            eos_ids=_huggingface_eos_ids(tokenizer, name_or_path, revision, offline),
        )

    def chat_text(self, messages: Sequence[Message], template_args: Mapping[str, Any] | None = None) -> str:
        """The conversation as the template writes it, up to where the assistant begins to answer.

        Raises:
            TokenError: the template refuses the conversation; the message says why.
        """
        as_dicts = [_as_dict(message) for message in messages]
        try:
            return self._render(as_dicts, template_args or {})
        # A template is a foreign program: it can fail in any way.
        except Exception as error:
            raise TokenError(f"the chat template of '{self.source}' refuses the conversation: {error}") from error

    def check_template_args(self, template_args: Mapping[str, Any]) -> None:
        """Raise TokenError for an argument that the chat template does not name: it would be ignored, silently."""
        names = set(re.findall(r"[A-Za-z_]\w*", self._template))
        for name in template_args:
            if name not in names:
                nearest = get_close_matches(name, names, n=1)
                hint = f"did you mean '{nearest[0]}'?" if nearest else "leave it out"
                raise TokenError(f"the chat template of '{self.source}' knows no argument '{name}'; {hint}")

    def chat_ids(self, messages: Sequence[Message], template_args: Mapping[str, Any] | None = None) -> tuple[int, ...]:
        """The ids of `chat_text`: what an engine is sent.

        Special tokens written in a message count as special, as in every engine's chat endpoint.
        """
        return self.encode(self.chat_text(messages, template_args))

    def encode(self, text: str) -> tuple[int, ...]:
        """The ids of a text. Special tokens in it are parsed; none is added."""
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise TokenError(f"a text has half a surrogate pair at character {error.start}: not Unicode") from None
        return tuple(self._encode(text))

    def decode(self, ids: Iterable[int | None], shown: Collection[str] = ()) -> str:
        """The text of ids: special, unnamed (None) and unknown ones are left out, but for the special ones in `shown`.

        A character that the last token leaves incomplete is dropped: an answer cut by its length
        limit ends before it. Bytes that are no UTF-8 elsewhere become U+FFFD.
        """
        return self._decode([token_id for token_id in ids if token_id is not None], shown)

    def num_thinking_tokens(self, prompt_ids: Sequence[int], output_ids: Sequence[int | None]) -> int | None:
        """How many of the output tokens are thinking (`reasoning.Split`); None if its format is not known."""
        if self.reasoning is None:
            return None
        state = prompt_state(self.reasoning, self.decode(prompt_ids[-TAIL_TOKENS:], self._special))
        return split_output(self.reasoning, output_ids, state, self._marked).num_thinking_tokens

    def answer_message(self, output_ids: Sequence[int | None], num_thinking_tokens: int | None) -> dict[str, Any]:
        """The message with which later turns carry an answer, as this chat template takes it.

        `num_thinking_tokens` is what was counted when it came. Where it is None, the content is all of its text.
        """
        if self.reasoning is None or num_thinking_tokens is None:
            said = Split(0, "", self.decode(output_ids))
        else:
            said = split_output(self.reasoning, output_ids, recorded_state(num_thinking_tokens), self._marked)
        return self._history.message(self.reasoning, said)

    @cached_property
    def _history(self) -> History:
        return History.of(self._template, self.reasoning, lambda messages: self._render(messages, {}))

    def _marked(self, ids: Sequence[int]) -> str:
        return self.decode(ids, self.reasoning.marks if self.reasoning else ())

    def name_unnamed(self, token_ids: tuple[int | None, ...], text: str) -> tuple[int | None, ...]:
        """The ids of an event in which only the last token is named, told from the event's text.

        llama.cpp holds back the tokens that end inside a character and sends their text with the
        token that completes it, naming only that one. The bytes of `text` before that token are
        split into as many tokens as are unnamed, each ending inside a character. If the split that
        the vocabulary's own merges give has that many, it is taken; otherwise the only one that
        fits; if none or several fit, the ids are returned as they came. A name can be wrong only
        if the model wrote a character in other tokens than its vocabulary's own, though in as many.

        Vocabularies that are not byte-level BPE leave the ids as they came.
        """
        if None not in token_ids or self._byte_vocabulary is None:
            return token_ids
        return self._byte_vocabulary.name_unnamed(token_ids, text)


def check_parity(
    tokenizer: ChatTokenizer, tokenize: Callable[[str], Sequence[int]], probes: Sequence[str] = PROBES
) -> None:
    """Raise unless the engine makes the same ids of every probe, and of a turn in the model's template.

    Args:
        tokenizer: Ours.
        tokenize: The engine's own, with special tokens parsed and none added
            (llama.cpp: `/tokenize` with `parse_special`).
        probes: What to compare.

    Raises:
        TokenError: with the first text that differs and both ids from the first difference on.
    """
    for probe in (*probes, tokenizer.chat_text([("user", "Hello, world")])):
        ours, theirs = tokenizer.encode(probe), tuple(tokenize(probe))
        if ours == theirs:
            continue
        pairs = zip(ours, theirs, strict=False)
        at = next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(ours), len(theirs)))
        raise TokenError(
            f"the tokenizer '{tokenizer.source}' and the engine differ on {probe!r}: from token {at} on "
            f"{list(ours[at : at + 8])} here, {list(theirs[at : at + 8])} there; give that of its model"
        )


def _as_dict(message: Message) -> dict[str, Any]:
    if isinstance(message, Mapping):
        return dict(message)
    role, text = message
    return {"role": role, "content": text}


# --- Hugging Face --------------------------------------------------------------------------------


def _load_huggingface(name_or_path: str, revision: str | None, offline: bool) -> Any:
    import logging
    import sys

    # transformers greets a machine without torch with a warning; tokenizers do not need it.
    logging.getLogger("transformers").addFilter(lambda record: "PyTorch was not found" not in record.getMessage())
    try:
        from transformers import AutoTokenizer
    except ImportError:
        raise TokenError("a Hugging Face tokenizer needs transformers; pip install 'transformers>=5.0'") from None
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            name_or_path, revision=revision, trust_remote_code=False, local_files_only=offline
        )
    # Files of any kind: it can fail in any way.
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise TokenError(f"cannot load the tokenizer '{name_or_path}': {reason}") from error
    tokenizer.model_max_length = sys.maxsize  # the limit is the engine's; here it would only warn
    return tokenizer


def _is_byte_level(backend: "tokenizers.Tokenizer") -> bool:
    from tokenizers import decoders, models

    return isinstance(backend.model, models.BPE) and isinstance(backend.decoder, decoders.ByteLevel)


def _special_texts(tokenizer: Any) -> dict[int, str]:
    """What the library leaves out of a text, by id."""
    added = {token_id: str(token) for token_id, token in tokenizer.added_tokens_decoder.items() if token.special}
    return dict(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True)) | added


def _library_decoder(tokenizer: Any, special: Mapping[int, str]) -> Callable[[list[int], Collection[str]], str]:
    def decode(ids: list[int], shown: Collection[str]) -> str:
        if shown:
            ids = [token_id for token_id in ids if special.get(token_id) in {None, *shown}]
        text = tokenizer.decode(ids, skip_special_tokens=not shown, clean_up_tokenization_spaces=False)
        return str(text).rstrip("\ufffd")

    return decode


def _huggingface_eos_ids(tokenizer: Any, name_or_path: str, revision: str | None, offline: bool) -> set[int]:
    """The tokenizer's own, and those of the repository's generation settings, which engines honour."""
    from transformers import GenerationConfig

    try:
        more = GenerationConfig.from_pretrained(
            name_or_path, revision=revision or "main", local_files_only=offline
        ).eos_token_id
    except (OSError, ValueError):
        more = None
    return {tokenizer.eos_token_id, *(more if isinstance(more, list) else [more])} - {None}
