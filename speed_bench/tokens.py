"""Chat template to token ids and back: the only user of a tokenizer.

Every engine is given the same ids, so they are made here, once, from the model's own chat template
and vocabulary: of a GGUF file (no torch, no transformers) or of a Hugging Face tokenizer. The
template writes every special token, BOS included; none is added. `check_parity` compares the ids
with those of the engine before a run.
"""

import codecs
import hashlib
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from speed_bench.errors import TokenError
from speed_bench.models import hub_answers, read_gguf_header

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

    def __init__(
        self,
        *,
        source: str,
        template: str,
        render: Callable[[list[dict[str, Any]], Mapping[str, Any]], str],
        encode: Callable[[str], Sequence[int]],
        decode: Callable[[list[int]], str],
        byte_vocabulary: "ByteVocabulary | None",
        vocab_size: int,
        eos_ids: Iterable[int],
    ) -> None:
        self.source = source
        self.vocab_size = vocab_size
        self.eos_ids = frozenset(eos_ids)
        self.template_sha256 = hashlib.sha256(template.encode()).hexdigest()
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
        metadata = read_gguf_header(path).metadata
        tokenizer = _gguf_tokenizer(str(path), metadata)
        template = _gguf_template(str(path), metadata)
        byte_vocabulary = ByteVocabulary(tokenizer)
        return cls(
            source=str(path),
            template=template,
            render=_jinja_renderer(str(path), template, _gguf_special_texts(metadata)),
            encode=lambda text: tokenizer.encode(text, add_special_tokens=False).ids,
            decode=byte_vocabulary.text,
            byte_vocabulary=byte_vocabulary,
            vocab_size=tokenizer.get_vocab_size(),
            eos_ids=_gguf_eos_ids(metadata),
        )

    @classmethod
    def from_huggingface(
        cls, name_or_path: str, revision: str | None = None, trust_remote_code: bool = False
    ) -> "ChatTokenizer":
        """Of a folder or a Hub repository, read by `transformers.AutoTokenizer`.

        `trust_remote_code` runs Python code of the repository: only for repositories you trust.

        Raises:
            TokenError: transformers is not installed, or there is no tokenizer or chat template.
        """
        tokenizer = _load_huggingface(name_or_path, revision, trust_remote_code)
        try:
            template = str(tokenizer.get_chat_template())
        except ValueError:
            raise TokenError(f"tokenizer '{name_or_path}' has no chat template; give one that has") from None

        def render(messages: list[dict[str, Any]], template_args: Mapping[str, Any]) -> str:
            return str(
                tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False, **template_args)
            )

        backend = tokenizer.backend_tokenizer if tokenizer.is_fast else None
        byte_vocabulary = ByteVocabulary(backend) if backend is not None and _is_byte_level(backend) else None
        return cls(
            source=name_or_path,
            template=template,
            render=render,
            encode=lambda text: tokenizer.encode(text, add_special_tokens=False),
            decode=byte_vocabulary.text if byte_vocabulary else _library_decoder(tokenizer),
            byte_vocabulary=byte_vocabulary,
            vocab_size=len(tokenizer),
            eos_ids=_huggingface_eos_ids(tokenizer, name_or_path, revision),
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

    def decode(self, ids: Iterable[int | None]) -> str:
        """The text of ids: special, unnamed (None) and unknown ones are left out.

        A character that the last token leaves incomplete is dropped: an answer cut by its length
        limit ends before it. Bytes that are no UTF-8 elsewhere become U+FFFD.
        """
        return self._decode([token_id for token_id in ids if token_id is not None])

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
            f"{list(ours[at : at + 8])} here, {list(theirs[at : at + 8])} there; give the tokenizer of the engine's model"
        )


def _as_dict(message: Message) -> dict[str, Any]:
    if isinstance(message, Mapping):
        return dict(message)
    role, text = message
    return {"role": role, "content": text}


# --- byte-level BPE ------------------------------------------------------------------------------


@cache
def _byte_of_char() -> dict[str, int]:
    """GPT-2's alphabet: printable bytes stand for themselves, the others for characters from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + at): byte for at, byte in enumerate(others)}


class ByteVocabulary:
    """The bytes of every id of a byte-level BPE vocabulary, and the ids of bytes."""

    MAX_UNNAMED: Final = 16
    MAX_BYTES: Final = 64
    """Longest event whose tokens are looked for: a character has 4 bytes, so this is far more than occurs."""

    def __init__(self, tokenizer: "tokenizers.Tokenizer") -> None:
        byte_of_char = _byte_of_char()
        self._char_of_byte = {byte: char for char, byte in byte_of_char.items()}
        self._model = tokenizer.model
        self._bytes_of: dict[int, bytes] = {}
        self._id_of: dict[bytes, int] = {}
        for token, token_id in tokenizer.get_vocab(with_added_tokens=False).items():
            try:
                data = bytes([byte_of_char[char] for char in token])
            except KeyError:
                data = token.encode()
            self._bytes_of[token_id] = data
            self._id_of[data] = token_id
        for token_id, added in tokenizer.get_added_tokens_decoder().items():
            self._id_of.pop(self._bytes_of.get(token_id, b""), None)
            self._bytes_of[token_id] = b"" if added.special else added.content.encode()

    def text(self, ids: Sequence[int]) -> str:
        """See `ChatTokenizer.decode`."""
        data = b"".join([self._bytes_of.get(token_id, b"") for token_id in ids])
        return codecs.getincrementaldecoder("utf-8")("replace").decode(data)

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


# --- GGUF ----------------------------------------------------------------------------------------

_GPT2_SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SPLITS: Final = {
    "gpt-2": (_GPT2_SPLIT,),
    "llama-bpe": (_LLAMA3_SPLIT,),
    "qwen2": (_LLAMA3_SPLIT.replace("{1,3}", ""),),
    "smollm": (r"\p{N}", _GPT2_SPLIT),
}
"""How llama.cpp cuts a text into words, by `tokenizer.ggml.pre`: one regular expression after the other."""

_UNKNOWN, _CONTROL, _USER_DEFINED = 2, 3, 4  # of tokenizer.ggml.token_type

_END_TEXTS: Final = frozenset(
    "<|eot_id|> <|im_end|> <|end|> <|return|> <|call|> <end_of_turn> <|endoftext|> <|end_of_text|> <|eom_id|> <EOT>"
    " <|end_of_sentence|> <｜end▁of▁sentence｜> <end_of_utterance> </s>".split()
)
"""Special tokens that llama.cpp takes for the end of an answer whatever the metadata says."""


def _gguf_tokenizer(source: str, metadata: Mapping[str, Any]) -> "tokenizers.Tokenizer":
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

    kind, pre = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.pre")
    instead = "give the model's Hugging Face tokenizer instead"
    if kind != "gpt2":
        raise TokenError(
            f"'{source}' has a vocabulary of kind '{kind}', only byte-level BPE ('gpt2') is read; {instead}"
        )
    if pre not in _SPLITS:
        raise TokenError(f"'{source}' has pre-tokenizer '{pre}', known are {', '.join(sorted(_SPLITS))}; {instead}")
    try:
        tokens = metadata["tokenizer.ggml.tokens"]
        merges = [tuple(merge.split(" ", 1)) for merge in metadata["tokenizer.ggml.merges"]]
        vocabulary = {token: token_id for token_id, token in enumerate(tokens)}
        tokenizer = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=pre == "llama-bpe"))
        kinds = metadata["tokenizer.ggml.token_type"]
    # The library raises a bare Exception for merges that do not belong to the vocabulary.
    except Exception as error:
        raise TokenError(f"'{source}' has no usable vocabulary ({error}); {instead}") from error
    cuts = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in _SPLITS[pre]]
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*cuts, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    for token, token_kind in zip(tokens, kinds, strict=False):
        if token_kind in (_UNKNOWN, _CONTROL):
            tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False)])
        elif token_kind == _USER_DEFINED:
            tokenizer.add_tokens([AddedToken(token, special=False, normalized=False)])
    return tokenizer


def _gguf_template(source: str, metadata: Mapping[str, Any]) -> str:
    template = metadata.get("tokenizer.chat_template")
    if not isinstance(template, str):
        raise TokenError(f"'{source}' has no chat template (tokenizer.chat_template); give a chat model")
    return template


def _gguf_special_texts(metadata: Mapping[str, Any]) -> dict[str, str]:
    """What a template may call `bos_token`, `eos_token`, …"""
    tokens = metadata["tokenizer.ggml.tokens"]
    names = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
    ids = {name: metadata.get(f"tokenizer.ggml.{key}_token_id") for name, key in names.items()}
    return {name: tokens[token_id] for name, token_id in ids.items() if token_id is not None and token_id < len(tokens)}


def _gguf_eos_ids(metadata: Mapping[str, Any]) -> set[int]:
    kinds, tokens = metadata["tokenizer.ggml.token_type"], metadata["tokenizer.ggml.tokens"]
    named = [metadata.get(f"tokenizer.ggml.{key}_token_id") for key in ("eos", "eot", "eom")]
    known = [at for at, token in enumerate(tokens) if token in _END_TEXTS and kinds[at] in (_CONTROL, _USER_DEFINED)]
    return {token_id for token_id in named if token_id is not None} | set(known)


def _jinja_renderer(
    source: str, template: str, special_texts: Mapping[str, str]
) -> Callable[[list[dict[str, Any]], Mapping[str, Any]], str]:
    """Renders as transformers does: same whitespace rules, filters, functions and variables."""
    import json
    from datetime import datetime

    from jinja2 import TemplateError, nodes
    from jinja2.ext import Extension, loopcontrols
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %}` marks the assistant's text for training; here it only shows its body."""

        tags = frozenset({"generation"})

        def parse(self, parser: Parser) -> nodes.Node:
            line = next(parser.stream).lineno
            return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    def tojson(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, **options)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    try:
        compiled = environment.from_string(template)
    except TemplateError as error:
        raise TokenError(f"the chat template of '{source}' cannot be read: {error}; give another model file") from error

    def render(messages: list[dict[str, Any]], template_args: Mapping[str, Any]) -> str:
        variables = {"tools": None, "documents": None, **special_texts, **template_args}
        return compiled.render(messages=messages, add_generation_prompt=True, **variables)

    return render


# --- Hugging Face --------------------------------------------------------------------------------


def _load_huggingface(name_or_path: str, revision: str | None, trust_remote_code: bool) -> Any:
    import logging
    import sys

    # transformers greets a machine without torch with a warning; tokenizers do not need it.
    logging.getLogger("transformers").addFilter(lambda record: "PyTorch was not found" not in record.getMessage())
    try:
        from transformers import AutoTokenizer
    except ImportError:
        raise TokenError("a Hugging Face tokenizer needs transformers; pip install 'transformers>=5.0'") from None
    offline = not Path(name_or_path).is_dir() and not hub_answers(name_or_path, "tokenizer_config.json", revision)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            name_or_path, revision=revision, trust_remote_code=trust_remote_code, local_files_only=offline
        )
    # Files of any kind and, if trusted, code of the repository: it can fail in any way.
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise TokenError(f"cannot load the tokenizer '{name_or_path}': {reason}") from error
    tokenizer.model_max_length = sys.maxsize  # the limit is the engine's; here it would only warn
    return tokenizer


def _is_byte_level(backend: "tokenizers.Tokenizer") -> bool:
    from tokenizers import decoders, models

    return isinstance(backend.model, models.BPE) and isinstance(backend.decoder, decoders.ByteLevel)


def _library_decoder(tokenizer: Any) -> Callable[[list[int]], str]:
    def decode(ids: list[int]) -> str:
        text = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return str(text).rstrip("\ufffd")

    return decode


def _huggingface_eos_ids(tokenizer: Any, name_or_path: str, revision: str | None) -> set[int]:
    """The tokenizer's own, and those of the repository's generation settings, which engines honour."""
    from transformers import GenerationConfig

    try:
        settings = GenerationConfig.from_pretrained(name_or_path, revision=revision, local_files_only=True)
        more = settings.eos_token_id
    except (OSError, ValueError):
        more = None
    return {tokenizer.eos_token_id, *(more if isinstance(more, list) else [more])} - {None}
