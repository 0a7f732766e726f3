"""Laws of thinking and answer: what holds wherever an output is cut in two, in tokens and in decode steps."""

from dataclasses import replace
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reasoners import CHANNELS, HARMONY_TOKENS, READS_FIELD, tokenizer_of
from records import counts_of, run_of, turn

from speed_bench.errors import UndefinedMetric
from speed_bench.parts import split_turn
from speed_bench.reasoning import recorded_state, split
from speed_bench.scoring import score
from speed_bench.tally import Tally, pool, tally_record
from speed_bench.types import SpecCounts, Step, TurnRecord

quick = settings(max_examples=120, deadline=None)
steps = st.integers(0, 5).flatmap(
    lambda drafted: st.integers(0, drafted).map(lambda right: Step(drafted, right, right + 1))
)
THINK = ("<think>", "</think>")


@st.composite
def turns(draw: st.DrawFn, name: str = "a/0") -> TurnRecord:
    """A turn of a reasoning model: its last step cut or not, its thinking of any length."""
    described = draw(st.lists(steps, min_size=1, max_size=12))
    last_step = draw(st.sampled_from(["complete", "cut", "unknown"]))
    if last_step == "cut" and described[-1].accepted:
        last = described[-1]
        described[-1] = last._replace(emitted=draw(st.integers(1, last.accepted)))
    num_tokens = 1 + sum(step.emitted for step in described)
    counts = counts_of(tuple(described))
    if last_step != "complete" and draw(st.booleans()):
        counts = replace(counts, accepted=None)
    record = turn(name, tuple(described), counts=counts, last_step=last_step)
    return replace(record, num_thinking_tokens=draw(st.integers(0, num_tokens)))


def summed(tallies: list[Tally]) -> Tally:
    """Of tallies that are of the same turn."""
    return replace(pool(tallies), num_turns=1)


@quick
@given(record=turns())
def test_both_parts_together_are_the_turn(record: TurnRecord) -> None:
    parts = split_turn(record)
    assert summed([parts.thinking, parts.answer]) == tally_record(record)
    assert parts.thinking.num_turns == min(1, parts.thinking.num_steps)
    assert parts.answer.num_turns == min(1, parts.answer.num_steps)


@quick
@given(record=turns())
def test_a_step_is_of_the_part_in_which_its_first_token_lies(record: TurnRecord) -> None:
    starts = accumulate((step.emitted for step in record.counts.per_step[:-1]), initial=record.prefill_tokens)
    num_thinking = sum(start < record.num_thinking_tokens for start in starts)
    parts = split_turn(record)
    assert (parts.thinking.num_steps, parts.answer.num_steps) == (
        num_thinking,
        len(record.counts.per_step) - num_thinking,
    )
    too_far = parts.thinking.num_tokens - max(0, record.num_thinking_tokens - record.prefill_tokens)
    assert 0 <= too_far < max((step.emitted for step in record.counts.per_step), default=1) or num_thinking == 0


@quick
@given(record=turns())
def test_with_only_lengths_the_same_steps_are_in_the_same_part(record: TurnRecord) -> None:
    lengths = tuple(step.emitted for step in record.counts.per_step)
    counts = SpecCounts(None, None, None, len(lengths), None, "stream", aligned=True, emitted=lengths)
    known, bare = split_turn(record), split_turn(replace(record, counts=counts))
    assert summed([bare.thinking, bare.answer]) == tally_record(replace(record, counts=counts))
    for mine, theirs in ((known.thinking, bare.thinking), (known.answer, bare.answer)):
        assert (mine.num_steps, mine.num_tokens) == (theirs.num_steps, theirs.num_tokens)


@quick
@given(record=turns())
def test_where_steps_have_no_place_nothing_is_said(record: TurnRecord) -> None:
    for counts in (replace(record.counts, aligned=False), None):
        with pytest.raises(UndefinedMetric, match="cannot be placed"):
            split_turn(replace(record, counts=counts))
    with pytest.raises(UndefinedMetric, match="not recorded"):
        split_turn(replace(record, num_thinking_tokens=None))


@settings(max_examples=25, deadline=None)
@given(data=st.data(), num=st.integers(1, 4))
def test_the_scores_of_both_parts_add_up_to_the_run(data: st.DataObject, num: int) -> None:
    run = run_of(*(data.draw(turns(f"{number}/0")) for number in range(num)))
    scores = score(run, resamples=10).acceptance
    if not any(each.num_thinking_tokens for each in run.turns):
        assert scores.parts is None
        return
    thinking, answer = scores.parts.thinking, scores.parts.answer
    assert thinking.num_steps + answer.num_steps == scores.overall.num_steps
    both = sum(part.acceptance_length_pooled.value * part.num_steps for part in (thinking, answer) if part.num_steps)
    assert both == pytest.approx(scores.overall.acceptance_length_pooled.value * scores.overall.num_steps)
    assert (scores.parts.num_turns_unsplit, scores.parts.reason) == (0, None)


# In tokens

WORDS = [*THINK, "</", "think", ">\n", "<", "think>", "a", "ab", " ", "\n", "é", "👩", "<eos>"]
one_token = tokenizer_of(READS_FIELD, special=THINK)
several = tokenizer_of(READS_FIELD)
harmony = tokenizer_of(CHANNELS, special=HARMONY_TOKENS)
harmony_words = [*HARMONY_TOKENS, "assistant", "analysis", "commentary", "final", " to=x", "a", "👩", "<eos>"]
outputs = st.one_of(
    *(
        st.tuples(st.just(tokenizer), st.lists(st.sampled_from(words), max_size=20).map("".join))
        for tokenizer, words in ((one_token, WORDS), (several, WORDS), (harmony, harmony_words))
    )
)
states = st.sampled_from(["open", "closed", None])


@settings(max_examples=400, deadline=None)
@given(given_output=outputs, state=states, unnamed=st.sets(st.integers(0, 40), max_size=3))
def test_the_recorded_number_finds_the_same_parts_without_the_prompt(given_output, state, unnamed) -> None:
    tokenizer, text = given_output
    ids = [None if at in unnamed else token for at, token in enumerate(tokenizer.encode(text))]
    found = split(tokenizer.reasoning, ids, state, tokenizer._marked)
    again = split(tokenizer.reasoning, ids, recorded_state(found.num_thinking_tokens), tokenizer._marked)
    assert 0 <= found.num_thinking_tokens <= len(ids)
    assert again == found


@settings(max_examples=300, deadline=None)
@given(given_output=outputs, state=states)
def test_the_boundary_is_the_first_token_with_which_the_marker_is_whole(given_output, state) -> None:
    tokenizer, text = given_output
    known, ids = tokenizer.reasoning, tokenizer.encode(text)
    found = split(known, ids, state, tokenizer._marked)
    num = found.num_thinking_tokens
    if not 0 < num < len(ids):
        return
    assert split(known, ids[:num], recorded_state(num), tokenizer._marked).thinking == found.thinking
    before = split(known, ids[: num - 1], "open", tokenizer._marked)
    assert (before.num_thinking_tokens, before.answer) == (num - 1, "")


@quick
@given(thinking=st.text(max_size=12), answer=st.text(max_size=12), cut=st.integers(0, 60))
def test_an_answer_that_was_cut_has_as_much_thinking_as_was_shown(thinking: str, answer: str, cut: int) -> None:
    ids = one_token.encode(f"{thinking}</think>{answer}")
    prompt = one_token.encode("<u>Hi<a><think>\n")
    whole = one_token.num_thinking_tokens(prompt, ids)
    assert whole == len(one_token.encode(thinking)) + 1
    assert one_token.num_thinking_tokens(prompt, ids[:cut]) == min(cut, whole)
