"""The tokenizer and the chat template that a GGUF file carries, read as llama.cpp reads them.

Pure functions of the file's metadata (`speed_bench.gguf_file.read_gguf_header`); `speed_bench.tokens`
puts them together. Neither torch nor transformers is needed.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from speed_bench.errors import TokenError

if TYPE_CHECKING:
    import tokenizers

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
    {"<|endoftext|>", "<|end_of_text|>", "<|end|>", "<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<end_of_turn>"}
    | {"<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<end_of_utterance>", "</s>", "<eos>", "<turn|>"}
    | {"<|tool_response>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]"}
)
"""Tokens at which llama.cpp ends an answer whatever the metadata says."""


def build_tokenizer(source: str, metadata: Mapping[str, Any]) -> "tokenizers.Tokenizer":
    """The byte-level BPE that gives llama.cpp's ids: no normalisation, special tokens parsed.

    Raises:
        TokenError: another kind of vocabulary, or a pre-tokenizer that is not known here.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

    kind, pre = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.pre")
    instead = "give the model's Hugging Face tokenizer instead"
    if kind != "gpt2":
        raise TokenError(f"'{source}' has a '{kind}' vocabulary, only byte-level BPE ('gpt2') is read; {instead}")
    if pre not in _SPLITS:
        raise TokenError(f"'{source}' has pre-tokenizer '{pre}', known are {', '.join(sorted(_SPLITS))}; {instead}")
    try:
        tokens, kinds = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
        merges = [tuple(merge.split(" ", 1)) for merge in metadata["tokenizer.ggml.merges"]]
        vocabulary = {token: token_id for token_id, token in enumerate(tokens)}
        tokenizer = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=pre == "llama-bpe"))
    # The library raises a bare Exception for merges that do not belong to the vocabulary.
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise TokenError(f"'{source}' has no usable vocabulary ({reason}); {instead}") from error
    cuts = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in _SPLITS[pre]]
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*cuts, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    special = [token for token, kind in zip(tokens, kinds, strict=False) if kind in (_UNKNOWN, _CONTROL)]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    added = [token for token, kind in zip(tokens, kinds, strict=False) if kind == _USER_DEFINED]
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in added])
    return tokenizer


def chat_template(source: str, metadata: Mapping[str, Any]) -> str:
    """The default chat template; a `TokenError` if the file has none."""
    template = metadata.get("tokenizer.chat_template")
    if not isinstance(template, str):
        raise TokenError(f"'{source}' has no chat template (tokenizer.chat_template); give a chat model")
    return template


def special_texts(metadata: Mapping[str, Any]) -> dict[str, str]:
    """What a template may call `bos_token`, `eos_token`, `unk_token` and `pad_token`."""
    tokens = metadata["tokenizer.ggml.tokens"]
    names = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
    ids = {name: metadata.get(f"tokenizer.ggml.{key}_token_id") for name, key in names.items()}
    return {name: tokens[token_id] for name, token_id in ids.items() if token_id is not None and token_id < len(tokens)}


def end_ids(metadata: Mapping[str, Any]) -> set[int]:
    """The ids at which llama.cpp ends an answer: those that the metadata names, and well-known texts."""
    by_text = {token: at for at, token in enumerate(metadata["tokenizer.ggml.tokens"]) if token in _END_TEXTS}
    if {"<|return|>", "<|call|>"} <= by_text.keys() or {"<|calls|>", "<|flush|>"} <= by_text.keys():
        by_text.pop("<|end|>", None)  # there it ends a part of the answer
    kinds = ("eos", "eot", "eom", "fim_pad", "fim_rep", "fim_sep")
    named = [metadata.get(f"tokenizer.ggml.{kind}_token_id") for kind in kinds]
    return {token_id for token_id in named if token_id is not None} | set(by_text.values())


def template_renderer(
    source: str, template: str, special: Mapping[str, str]
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

        tags = {"generation"}  # noqa: RUF012 (as jinja2 declares it)

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
        variables = {"tools": None, "documents": None, **special, **template_args}
        return compiled.render(messages=messages, add_generation_prompt=True, **variables)

    return render
