"""Texts of an exact number of tokens, and what the published builder makes of them."""

import pytest
from shared_data import needs_o200k

from speed_bench.data import lengths
from speed_bench.data.lengths import PADDING, cut, exactly, first_ids, official_cut, padding_share
from speed_bench.data.o200k import count, counts, decode, encode
from speed_bench.errors import DataError

FAMILY = "👩\u200d👩\u200d👧\u200d👦"
PROSE = "The ferry left late that night, and nobody on the quay could say why it had waited. "


def test_a_long_text_is_cut_and_nothing_is_added() -> None:
    text = 300 * PROSE
    assert count(exactly(text, 1000)) == 1000
    assert text.startswith(exactly(text, 1000))


def test_a_text_of_the_right_length_stays_as_it_is() -> None:
    assert exactly(PROSE, count(PROSE)) == PROSE


def test_a_short_text_is_followed_by_lines_of_padding() -> None:
    padded = exactly("Why did the ferry wait?", 100)
    assert count(padded) == 100
    assert padded.startswith(f"Why did the ferry wait?\n{PADDING}{PADDING}")


def test_nothing_is_padding_alone() -> None:
    assert exactly("", 60).startswith(PADDING)
    assert count(exactly("", 60)) == 60


@needs_o200k
def test_a_cut_that_falls_into_a_character_is_filled_up() -> None:
    assert exactly(FAMILY, 4) != decode(encode(FAMILY)[:4])
    assert [count(exactly(FAMILY, tokens)) for tokens in range(1, 11)] == list(range(1, 11))
    assert all("\ufffd" not in exactly(FAMILY, tokens) for tokens in range(1, 11))


def test_padding_that_says_nothing_is_refused_where_it_is_needed() -> None:
    assert exactly(PROSE, 5, padding="") in PROSE
    with pytest.raises(DataError, match="without padding"):
        exactly("Why?", 50, padding="")
    with pytest.raises(ValueError, match="1 is the least"):
        exactly("Why?", 0)


def test_a_cut_leaves_room_for_its_tail() -> None:
    made = cut(300 * PROSE, 500, " …\n\n")
    assert count(made) == 500
    assert made.endswith(" …\n\n")
    assert PROSE * 3 in made
    with pytest.raises(DataError, match="cannot be cut to 500"):
        cut("Why?", 500)


def test_the_builders_bytes_are_the_first_tokens_of_the_text_or_of_the_padded_text() -> None:
    line = "Over to you.\n"
    long = 300 * PROSE
    assert official_cut(long, 200, line) == decode(encode(long)[:200])
    assert official_cut("Why?", 90, line) == decode(encode("Why?" + 90 * line)[:90])


@needs_o200k
def test_the_builders_bytes_may_have_another_count() -> None:
    assert count(official_cut("\U0001201f" * 9, 2, PADDING)) != 2
    assert count(exactly("\U0001201f" * 9, 2)) == 2


def test_the_share_of_padding_is_what_the_text_leaves() -> None:
    assert padding_share(300 * PROSE, 1000) == 0
    assert padding_share("", 10) == 1
    assert padding_share(PROSE, 4 * count(PROSE)) == 0.75


def test_of_a_long_text_only_the_beginning_is_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[int] = []
    text = 6000 * PROSE

    def watched(text: str) -> list[int]:
        encoded.append(len(text))
        return encode(text)

    monkeypatch.setattr(lengths, "encode", watched)
    ids = first_ids(text, 1000)
    assert sum(encoded) < len(text) / 10
    assert ids[:1000] == encode(text[:20_000])[:1000]


def test_a_run_of_spaces_that_the_encoder_cannot_take_is_refused() -> None:
    with pytest.raises(DataError, match="spaces in a row"):
        exactly(" " * 2_000_000, 30_000)


def test_many_texts_are_counted_at_once() -> None:
    assert counts(["Why?", PROSE, ""]) == [count("Why?"), count(PROSE), 0]
