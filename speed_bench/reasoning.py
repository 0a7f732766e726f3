"""Where the thinking of a reasoning model ends, in tokens, and what later turns carry of it.

A model writes its thinking between two markers, or in channels before the last one (harmony, gpt-oss). The prompt may
have opened the thinking already, so that only the closing marker is in the output; or it has closed it, where thinking
is switched off. `FORMATS` is the list of markers, `docs/reasoning.md` says it in words.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

PromptState = Literal["open", "closed"] | None
"""Whether the prompt has opened the thinking, has closed it, or leaves it to the model (None)."""

Decode = Callable[[Sequence[int]], str]
"""Ids to text in which the format's own marks are shown and every other special token is not."""

Render = Callable[[list[dict[str, Any]]], str]
"""A chat as the model's template writes it; raises where the template refuses it."""

TAIL_TOKENS: Final = 32
"""Of a prompt, so many tokens at its end are looked at: more than any marker and the space after it."""

_EMPTY_PARTS: Final = [{"type": "text", "text": ""}]
_PROBE_THINKING, _PROBE_ANSWER = "PROBE-OF-THINKING", "PROBE-OF-ANSWER"


@dataclass(frozen=True, slots=True)
class Split:
    """An output in its two parts."""

    num_thinking_tokens: int
    """Output tokens up to the closing marker, that included: 0 without thinking, all of them where thinking was not
    closed. The token that holds the marker's last character is the last one."""
    thinking: str
    """The text between the markers."""
    answer: str
    """The text after them, without special tokens."""


@dataclass(frozen=True, slots=True)
class ReasoningFormat:
    """How a family of models marks its thinking. Patterns are regular expressions over the text with the marks."""

    name: str
    opens: str
    """What thinking begins with, at the start of an output."""
    closes: str
    """What it ends with."""
    opened: str
    """How a prompt ends that has opened it."""
    closed: str
    """How a prompt ends after which there is none."""
    written: tuple[str, str]
    """Both markers, as they are written around thinking."""
    tokens: tuple[str, ...]
    """Single tokens of a vocabulary that is made for this format."""
    marks: frozenset[str]
    """Special tokens that are to be shown: what the patterns look for."""
    around: tuple[str, ...] = ()
    """Marks around the answer, which are no part of its text."""
    channels: bool = False
    """Whether thinking is the `analysis` channel of several."""


def _between(
    opens: str, closes: str, *, name: str, label: str = "", then: str = "", around: Iterable[str] = ()
) -> ReasoningFormat:
    """Thinking between two markers. `label` follows the first one in the output, `then` may follow it in a prompt."""
    begin, end = re.escape(opens), re.escape(closes)
    return ReasoningFormat(
        name=name,
        opens=rf"{begin}(?:{re.escape(label)})?",
        closes=end,
        opened=rf"{begin}(?:{re.escape(label)})?(?:{re.escape(then)})?\s*\Z",
        closed=rf"{end}\s*\Z",
        written=(opens + label, closes),
        tokens=(opens, closes),
        marks=frozenset({opens, closes, *around}),
        around=tuple(around),
    )


_HEADER_END = r"[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>"
_HARMONY = ReasoningFormat(
    name="harmony",
    opens=r"(?: to=[^<]*)?<\|channel\|>(?:analysis|commentary)",
    closes=rf"<\|channel\|>final{_HEADER_END}",
    opened=r"<\|channel\|>analysis<\|message\|>\s*\Z",
    closed=r"<\|channel\|>final<\|message\|>\s*\Z",
    written=("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),
    tokens=("<|start|>", "<|channel|>", "<|message|>", "<|end|>"),
    marks=frozenset(f"<|{word}|>" for word in ("start", "channel", "constrain", "message", "end", "return", "call")),
    channels=True,
)
_MESSAGE = re.compile(rf"<\|channel\|>(\w+){_HEADER_END}(.*?)(?=<\|(?:start|channel|end|return|call)\|>|\Z)", re.DOTALL)
_MESSAGE_END = re.compile(r"<\|(?:start|end|return|call)\|>")

FORMATS: Final[tuple[ReasoningFormat, ...]] = (
    _HARMONY,
    _between("<think>", "</think>", name="think"),
    _between("[THINK]", "[/THINK]", name="mistral"),
    _between(
        "<|START_THINKING|>",
        "<|END_THINKING|>",
        name="cohere",
        around=("<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|START_TEXT|>", "<|END_TEXT|>"),
    ),
    _between("<seed:think>", "</seed:think>", name="seed", then="<seed:cot_budget_reflect>"),
    _between("<|channel>", "<channel|>", name="gemma", label="thought\n"),
    _between("◁think▷", "◁/think▷", name="kimi-vl"),
    _between("<|inner_prefix|>", "<|inner_suffix|>", name="apertus"),
    _between("<mm:think>", "</mm:think>", name="minimax-m3"),
    _between("<longcat_think>", "</longcat_think>", name="longcat"),
    _between(
        "Here are my reasoning steps:\n", "[BEGIN FINAL RESPONSE]", name="apriel", around=("[END FINAL RESPONSE]",)
    ),
)


def detect(template: str, has_token: Callable[[str], bool]) -> ReasoningFormat | None:
    """The format that a chat template names, or whose marks are single tokens of the vocabulary; None if none is.

    A template that names the closing marker decides before a vocabulary that holds it: vocabularies are shared by
    models that think and models that do not.
    """

    def fit(known: ReasoningFormat) -> tuple[bool, bool]:
        return known.written[1] in template, all(map(has_token, known.tokens))

    best = max(FORMATS, key=fit)
    return best if any(fit(best)) else None


def prompt_state(known: ReasoningFormat, tail: str) -> PromptState:
    """What the end of a prompt says of the thinking that follows it.

    >>> prompt_state(FORMATS[1], "<|assistant|><think>\\n")
    'open'
    """
    if re.search(known.opened, tail):
        return "open"
    return "closed" if re.search(known.closed, tail) else None


def recorded_state(num_thinking_tokens: int) -> PromptState:
    """The state with which `split` finds the recorded number again, without the prompt."""
    return "open" if num_thinking_tokens else "closed"


def split(known: ReasoningFormat, output_ids: Sequence[int | None], state: PromptState, decode: Decode) -> Split:
    """Thinking and answer of an output.

    There is thinking if the prompt has opened it or the output begins with it; and also if only the closing marker
    occurs, the prompt said nothing, and something comes before it: some models leave the first one out. The boundary
    is exact in tokens, whether a marker is one token or several. Ids that are not known (None) count where they stand.
    """
    places = [at for at, token_id in enumerate(output_ids) if token_id is not None]
    ids = [token_id for token_id in output_ids if token_id is not None]
    text = decode(ids)
    begin = re.match(rf"\s*{known.opens}", text)
    end = re.search(known.closes, text)
    before = text[: end.start()] if end else text
    if state != "open" and begin is None:
        if end and not before.strip():
            return Split(0, "", _answer(known, text[end.end() :]))
        if end is None or state == "closed" or re.search(known.opens, before):
            return Split(0, "", _answer(known, text))
    thinking = _thinking(known, before, begin)
    if end is None:
        return Split(len(output_ids), thinking, "")
    head, stop = text[: end.end()], end.end()
    num_ids = bisect_left(range(len(ids)), True, key=lambda num: decode(ids[:num])[:stop] == head)
    return Split(places[num_ids - 1] + 1, thinking, _answer(known, text[stop:]))


def _thinking(known: ReasoningFormat, text: str, begin: re.Match[str] | None) -> str:
    if not known.channels:
        return text[begin.end() if begin else 0 :]
    if begin is None:
        text = known.written[0] + text
    return "\n".join(body for channel, body in _MESSAGE.findall(text) if channel == "analysis")


def _answer(known: ReasoningFormat, text: str) -> str:
    """What is left once marks of the answer's own are taken off."""
    if known.channels:
        return _MESSAGE_END.split(text, maxsplit=1)[0]
    for mark in known.around:
        text = text.replace(mark, "")
    return text


@dataclass(frozen=True, slots=True)
class History:
    """How an earlier answer is handed to a chat template, which then decides what of it a later turn shows."""

    inline: bool = False
    """Whether the template takes the thinking out of the content by itself, and so is given the text as written."""
    keys: tuple[str, ...] = ()
    """Else: the keys beside the content in which it looks for thinking."""
    empty_in_parts: bool = False
    """Whether an empty answer is handed over as a list of one empty text: some templates refuse an empty text."""

    @classmethod
    def of(cls, template: str, known: ReasoningFormat | None, render: Render) -> "History":
        """What a template wants: read from its text, and tried out on it."""
        names = ("reasoning_content", "reasoning", "thinking")
        keys = [name for name in names if re.search(rf"\.{name}\b|['\"]{name}['\"]", template)] if known else []

        def shown(content: Any) -> str | None:
            chat = [("user", "a"), ("assistant", content), ("user", "b")]
            try:
                return render([{"role": role, "content": text} for role, text in chat])
            # A template is a foreign program: it can fail in any way.
            except Exception:
                return None

        probe = _inline(known, _PROBE_THINKING, _PROBE_ANSWER) if known and not known.channels else None
        whole = None if probe is None else shown(probe)
        inline = whole is not None and _PROBE_ANSWER in whole and _PROBE_THINKING not in whole
        refused = shown("") is None and shown(_EMPTY_PARTS) is not None
        return cls(inline=inline, keys=tuple(keys), empty_in_parts=refused)

    def message(self, known: ReasoningFormat | None, said: Split) -> dict[str, Any]:
        """The assistant's message of an earlier turn.

        The content is the answer; thinking goes where the template looks for it, or nowhere.
        """
        message: dict[str, Any] = {"role": "assistant", "content": said.answer}
        if known and said.num_thinking_tokens:
            if self.inline and known.written[1] not in said.answer:
                message["content"] = _inline(known, said.thinking, said.answer)
            else:
                message |= dict.fromkeys(self.keys, said.thinking)
        if not message["content"] and self.empty_in_parts:
            message["content"] = _EMPTY_PARTS
        return message


def _inline(known: ReasoningFormat, thinking: str, answer: str) -> str:
    opens, closes = known.written
    return opens + thinking + closes + answer
