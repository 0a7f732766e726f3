"""Tokenizers and chat templates in the manner of reasoning models, small and our own."""

from collections.abc import Sequence
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from speed_bench.byte_vocabulary import ByteVocabulary
from speed_bench.gguf_chat import template_renderer
from speed_bench.tokens import ChatTokenizer

EOS = "<eos>"
MERGES = (("<", "/"), ("t", "h"), ("th", "i"), ("thi", "n"), ("thin", "k"), (">", "Ċ"), ("Ċ", "Ċ"), ("a", "b"))
"""So `</think>\\n` is `</`, `think`, `>\\n`: the closing marker ends inside a token."""

_USER = "<u>{{ m.content }}<a>"
_CHAT = "{% for m in messages %}{% if m.role == 'user' %}" + _USER + "{% else %}ANSWER<eos>{% endif %}{% endfor %}TAIL"


def template(answer: str, tail: str = "") -> str:
    """A chat template: how it writes an earlier answer `m`, and what it ends with."""
    return _CHAT.replace("ANSWER", answer).replace("TAIL", tail)


PLAIN = template("{{ m.content }}")
READS_FIELD = template(
    "{% if m.reasoning_content is string %}{% set text = m.content %}"
    "{% else %}{% set text = m.content.split('</think>')[-1].lstrip('\n') %}{% endif %}{{ text }}",
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}",
)
"""As Qwen3: takes inline thinking off, with the line breaks after it; or reads a field and leaves them."""
CUTS_CONTENT = template("{{ m.content.split('</think>')[-1] }}", "{{ '<think>\n' }}")
"""As DeepSeek-R1: opens the thinking in the prompt, takes it off an earlier answer, has no field."""
SHOWS_FIELD = template(
    "{% if m.reasoning_content %}<seed:think>{{ m.reasoning_content }}</seed:think>{% endif %}{{ m.content }}",
    "{% if thinking_budget == 0 %}<seed:think><seed:cot_budget_reflect>{% endif %}",
)
"""As Seed-OSS: earlier turns show their thinking; a budget of 0 opens it, and goes on."""
DROPS_FIELD = template("<think></think>{{ m.content }}")
"""As Kimi K2: names the markers, drops all earlier thinking, and would show what is inline."""
CHANNELS = template(
    "{% if '<|channel|>' in m.content %}{{ raise_exception('channel tags in the content') }}{% endif %}"
    "{% if 'thinking' in m and '<|channel|>' in m.thinking %}{{ raise_exception('channel tags') }}{% endif %}"
    "<|start|>assistant<|channel|>final<|message|>{{ m.content }}<|end|>",
    "<|start|>assistant",
)
"""As gpt-oss: refuses channel tags."""
PARTS = template(
    "{% if m.content|length == 0 %}{{ raise_exception('an answer must not be empty') }}{% endif %}"
    "{% if m.content is string %}{{ m.content }}{% else %}{% for part in m.content %}"
    "{% if part['type'] == 'thinking' %}[THINK]{{ part['thinking'] }}[/THINK]{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}"
)
"""As Ministral: an answer is a text or a list of parts, and never empty."""


def tokenizer_of(chat_template: str, special: Sequence[str] = (), added: Sequence[str] = ()) -> ChatTokenizer:
    """Bytes, a few merges, and tokens of their own for `special` (not in plain text) and `added` markers."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*letters, *("".join(pair) for pair in MERGES)]
    backend = Tokenizer(models.BPE({token: at for at, token in enumerate(tokens)}, list(MERGES)))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(
        [AddedToken(text, special=True, normalized=False) for text in (EOS, "<u>", "<a>", *special)]
    )
    backend.add_tokens([AddedToken(text, special=False, normalized=False) for text in added])
    vocabulary = ByteVocabulary(backend)
    render: Any = template_renderer("small", chat_template, {})
    return ChatTokenizer(
        source="small",
        template=chat_template,
        render=render,
        encode=lambda text: backend.encode(text, add_special_tokens=False).ids,
        decode=vocabulary.text,
        special=vocabulary.special,
        has_token=lambda text: backend.token_to_id(text) is not None,
        byte_vocabulary=vocabulary,
        vocab_size=backend.get_vocab_size(),
        eos_ids={backend.token_to_id(EOS)},
    )


HARMONY_TOKENS = tuple(f"<|{word}|>" for word in ("start", "channel", "constrain", "message", "end", "return", "call"))
