"""Laws of exact lengths, over texts that tokenizers find hard."""

import math

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from shared_data import needs_o200k

from speed_bench.data.lengths import SEAM, cut, exactly, first_ids, official_cut, padding_share
from speed_bench.data.o200k import count, decode, encode

pytestmark = needs_o200k

FRAGMENTS = (
    *("a quiet harbour ", "don't ", "WE'LL", "Ünïcödé ", "l'été ", "x", "I", "42", "1234567", "ʰ", "ǅ"),
    *("👩\u200d👩\u200d👧\u200d👦", "👍🏽", "🇫🇮🇪🇪", "😀", "\u200d", "\ufe0f", "e\u0301", "\u0301\u0302\u0303", "ก็ำ"),
    *("سلام دنیا ", "שָׁלוֹם ", "\u202eabc\u202c", "漢字かな交じり文。", "한국어 ", "ภาษาไทย"),
    *("def f(x):\n\treturn [x ** 2]\n\n", "{x.__class__}", "<|endoftext|>", "//", "/\n", "!!", "…", '"', "`" * 3),
    *(" ", "  ", "    ", "\t", "\n", "\n\n", "\r\n", " \n", "\u00a0", "\u3000", "\u2028", "\x85", "\x1c", "\x00"),
    *("a" * 70, "=" * 90, " " * 130, "\n" * 40, "字" * 30),
)
TEXTS = st.one_of(
    st.text(max_size=300),
    st.lists(st.sampled_from(FRAGMENTS), max_size=60).map("".join),
    st.builds(
        lambda few, times: "".join(few) * times, st.lists(st.sampled_from(FRAGMENTS), max_size=4), st.integers(1, 99)
    ),
)
LONG = st.builds(
    lambda text, size: text * (size // max(1, len(text)) + 1),
    TEXTS.filter(lambda text: len(text) > 3),
    st.integers(1, 60_000),
)
QUICK = settings(deadline=None, suppress_health_check=list(HealthCheck))


@given(text=TEXTS, num_tokens=st.integers(1, 400))
@settings(QUICK, max_examples=300)
def test_exactly_is_exact(text: str, num_tokens: int) -> None:
    made = exactly(text, num_tokens)
    assert count(made) == num_tokens
    kept = made.removesuffix(" ." * 8) if text.startswith(made) else made
    while kept and not (text.startswith(kept) or kept.startswith(text)):
        assert kept.endswith((" .", ".")), "what is neither text nor padding is filler"
        kept = kept[:-1].removesuffix(" ") if kept.endswith(" .") else kept[:-1]


@pytest.mark.parametrize("bucket", [1, 2, 8, 16, 32])
def test_exactly_is_exact_in_every_bucket(bucket: int) -> None:
    @given(text=st.one_of(TEXTS, LONG))
    @settings(QUICK, max_examples=max(4, 24 // bucket))
    def law(text: str) -> None:
        assert count(exactly(text, 1000 * bucket)) == 1000 * bucket

    law()


@pytest.mark.long
@pytest.mark.parametrize("bucket", [1, 2, 8, 16, 32])
def test_exactly_is_exact_in_every_bucket_whatever_the_text(bucket: int) -> None:
    @given(text=st.one_of(TEXTS, LONG, LONG.map(lambda text: 4 * text)))
    @settings(QUICK, max_examples=200)
    def law(text: str) -> None:
        assert count(exactly(text, 1000 * bucket)) == 1000 * bucket

    law()


@given(
    text=TEXTS, share=st.floats(0.1, 1), tail=st.sampled_from(["", "\n", " …\n\n", "\n\n=== What to do ===\nGo on."])
)
@settings(QUICK, max_examples=200)
def test_a_cut_with_its_tail_is_exact(text: str, share: float, tail: str) -> None:
    num_tokens = count(tail) + int(share * count(text))
    assume(num_tokens > 0)
    made = cut(text, num_tokens, tail)
    assert count(made) == num_tokens
    assert made.endswith(tail)


@given(text=TEXTS)
@settings(QUICK, max_examples=200)
def test_tokens_add_up_at_a_seam(text: str) -> None:
    whole = encode(text)
    for seam in SEAM.finditer(text):
        assert encode(text[: seam.end()]) + encode(text[seam.end() :]) == whole


@given(before=TEXTS, after=TEXTS)
@settings(QUICK, max_examples=100)
def test_a_heading_after_a_line_feed_is_at_a_seam(before: str, after: str) -> None:
    first, second = f"{before}\n\n", f"=== Part ===\n{after}"
    assert count(first + second) == count(first) + count(second)


@given(text=TEXTS, num_tokens=st.integers(1, 400))
@settings(QUICK, max_examples=200)
def test_the_first_tokens_of_a_text_are_those_of_the_whole_text(text: str, num_tokens: int) -> None:
    assert first_ids(text, num_tokens)[:num_tokens] == encode(text)[:num_tokens]
    line = "Over to you.\n"
    padded = text + line * math.ceil(max(0, num_tokens - count(text)) / count(line))
    assert official_cut(text, num_tokens, line) == decode(encode(padded)[:num_tokens])


@given(text=TEXTS, num_tokens=st.integers(1, 400))
@settings(QUICK, max_examples=100)
def test_the_share_of_padding_is_between_nothing_and_all(text: str, num_tokens: int) -> None:
    share = padding_share(text, num_tokens)
    assert 0 <= share <= 1
    assert (share == 0) == (count(text) >= num_tokens)
