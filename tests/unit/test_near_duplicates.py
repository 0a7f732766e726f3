"""Which texts count as saying the same."""

from source_records import THINGS, paragraph

from speed_bench.data.near_duplicates import MIN_TURN_WORDS, Removed, compared_texts, near_duplicates, words

STORY = (
    "The harbour master counts the boats every evening before the lamps are lit and writes the number into a book "
    "that nobody but his daughter has ever opened since the year of the long frost"
)
"""35 words: 31 grams."""


def test_letter_case_and_white_space_are_no_difference() -> None:
    assert near_duplicates({"a": [STORY], "b": [f"  {STORY.upper()}\n"]}) == [Removed("b", "a", 1.0)]


def test_similarity_is_that_of_the_sets_of_five_words_in_a_row() -> None:
    longer = STORY + " or so"  # two grams more
    assert near_duplicates({"a": [STORY], "b": [longer]}) == [Removed("b", "a", 31 / 33)]
    other = STORY.replace("lamps", "fires")  # five grams differ
    assert near_duplicates({"a": [STORY], "b": [other]}, 26 / 36) == [Removed("b", "a", 26 / 36)]
    assert near_duplicates({"a": [STORY], "b": [other]}) == []


def test_what_is_compared_with_must_itself_have_stayed() -> None:
    second, third = STORY + " or so", STORY + " or so they say"
    assert near_duplicates({"a": [STORY], "c": [third]}, 0.9) == []
    removed = near_duplicates({"a": [STORY], "b": [second], "c": [third]}, 0.9)
    assert removed == [Removed("b", "a", 31 / 33)]


def test_a_long_turn_is_found_wherever_it_stands_and_a_short_one_is_no_copy() -> None:
    other = paragraph(1)
    assert near_duplicates({"a": [STORY], "b": [other, STORY]}) == [Removed("b", "a", 1.0)]
    assert near_duplicates({"a": [other, "Why is that?"], "b": [STORY, "Why is that?"]}) == []
    long = " ".join(THINGS[:MIN_TURN_WORDS])
    assert len(compared_texts([long, "Why?", STORY])) == 2 + (len(words(long)) >= MIN_TURN_WORDS)


def test_two_turns_of_one_conversation_are_not_compared_with_each_other() -> None:
    assert near_duplicates({"a": [STORY, STORY]}) == []


def test_short_texts_are_compared_whole() -> None:
    items = {"a": ["Why?"], "b": ["why ?"], "c": ["Why"], "d": ["Who was it?"]}
    assert near_duplicates(items) == [Removed("b", "a", 1.0)]


def test_scripts_that_do_not_part_words_are_compared_by_characters() -> None:
    text = "港口的灯塔在每天日落之前由管理员的女儿点亮并记录在一本旧册子里"
    assert near_duplicates({"a": [text], "b": [text + "。"]}) == [Removed("b", "a", 27 / 28)]


def test_nothing_gives_nothing() -> None:
    assert near_duplicates({}) == []
    assert near_duplicates({"a": []}) == []


def test_100_copies_among_5000_prompts_are_found() -> None:
    removed = near_duplicates({f"{n}": [paragraph(n % 4900, 200)] for n in range(5000)})
    assert len(removed) == 100
