"""Acceptance of thinking and answer apart: which turns are in it, and what is said where they cannot be split."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from records import counts_of, run_of, steps_of, turn
from rich.console import Console

from speed_bench.errors import RunFolderError, UndefinedMetric
from speed_bench.parts import split_turn
from speed_bench.provenance import ModelFacts
from speed_bench.records import RunRecords
from speed_bench.report.terminal import print_scores
from speed_bench.scores import Cell, Scores
from speed_bench.scoring import score
from speed_bench.tally import tally_steps
from speed_bench.types import Failure, SpecCounts, Step, TurnRecord

NO_PLACE = "1 turns: their steps cannot be placed in the text"


def thinking(name: str, *accepted: int, num: int, **changes: object) -> TurnRecord:
    """A turn of which the first `num` output tokens are thinking; the first token is prefill's."""
    return replace(turn(name, steps_of(*accepted)), num_thinking_tokens=num, **changes)


def shown(run: RunRecords) -> str:
    text = io.StringIO()
    model = ModelFacts(file="m.gguf", sha256="00", num_bytes=1)
    print_scores(score(run), Path("runs/a"), model, Console(file=text, width=100))
    return text.getvalue()


def test_the_step_that_closes_the_thinking_is_a_step_of_it():
    steps = steps_of(3, 3, 1)  # prefill: token 0, steps begin at 1, 5 and 9
    for num, first in ((0, 0), (1, 0), (2, 1), (5, 1), (6, 2), (9, 2), (10, 3), (11, 3)):
        parts = split_turn(thinking("a/0", 3, 3, 1, num=num))
        assert (parts.thinking.num_steps, parts.answer.num_steps) == (first, 3 - first)
        if 0 < first < 3:
            assert parts.thinking == tally_steps(steps[:first])
            assert parts.answer == tally_steps(steps[first:])


def test_what_was_accepted_beyond_a_cut_is_of_the_part_that_ends_the_turn():
    steps = (Step(3, 3, 4), Step(3, 3, 2))
    record = turn("a/0", steps, counts=counts_of(steps), last_step="cut")
    parts = split_turn(replace(record, num_thinking_tokens=3))
    assert (parts.thinking.accepted, parts.answer.accepted) == (3, 3)
    assert (parts.thinking.trials, parts.answer.trials) == ((1, 1, 1), (1, 1, 0))
    unsure = replace(counts_of(steps), accepted=None)
    parts = split_turn(replace(record, counts=unsure, num_thinking_tokens=3))
    assert (parts.thinking.accepted, parts.answer.accepted) == (3, None)


def test_verification_steps_that_only_the_engine_counted_are_of_the_part_that_ends_the_turn():
    counts = replace(counts_of(steps_of(3, 1)), verify_steps=None)
    engine = SpecCounts(6, 4, 2, None, None, "server", aligned=False)
    parts = split_turn(thinking("a/0", 3, 1, num=2, counts=counts, engine_counts=engine))
    assert (parts.thinking.verify_steps, parts.answer.verify_steps) == (1, 1)


def test_a_turn_that_prefill_answered_alone_is_in_no_part():
    parts = split_turn(replace(turn("a/0"), num_thinking_tokens=1))
    assert (parts.thinking.num_steps, parts.answer.num_steps) == (0, 0)


def test_plain_steps_that_were_not_counted_leave_no_place():
    counts = replace(counts_of(steps_of(3, 1)), num_steps=None)
    with pytest.raises(UndefinedMetric, match="cannot be placed"):
        split_turn(thinking("a/0", 3, 1, num=2, counts=counts))


def test_counts_that_are_smaller_than_those_of_the_steps_are_not_shared_out():
    counts = replace(counts_of(steps_of(3, 1)), drafted=2, accepted=2)
    with pytest.raises(UndefinedMetric, match="smaller than those of their steps"):
        split_turn(thinking("a/0", 3, 1, num=2, counts=counts))


def test_a_turn_that_contradicts_itself_is_named():
    with pytest.raises(RunFolderError, match="turn a/0 cannot be scored"):
        split_turn(thinking("a/0", 1, num=1, counts=counts_of(steps_of(1, 1))))


def test_each_part_has_its_own_headline_and_rates():
    run = run_of(
        thinking("a/0", 3, 3, 0, num=2),
        thinking("b/0", 1, 0, num=2),
        replace(thinking("c/0", 2, 2, num=0), category="qa"),
    )
    parts = score(run).acceptance.parts
    assert parts.thinking.acceptance_length == Cell(value=(4 + 2) / 2, n=2)
    assert parts.answer.acceptance_length.value == ((5 / 2 + 1) / 2 + 3) / 2
    assert parts.answer.acceptance_length.n == 3
    assert parts.thinking.draft_acceptance_rate.value == pytest.approx(4 / 6)
    assert parts.answer.acceptance_length_pooled.value == (5 + 1 + 6) / 5
    assert [cell.value for cell in parts.thinking.conditional_acceptance_rate] == [1.0, 0.5, 1.0]
    assert [cell.value for cell in parts.answer.joint_acceptance_rate] == [3 / 5, 3 / 5, 1 / 5]
    assert (parts.thinking.num_turns, parts.thinking.num_steps, parts.thinking.num_tokens) == (2, 2, 6)
    assert (parts.answer.num_turns, parts.answer.num_steps, parts.answer.num_tokens) == (3, 5, 12)
    assert (parts.num_turns_unsplit, parts.reason) == (0, None)


def test_parts_have_intervals_from_eight_conversations():
    run = run_of(*(thinking(f"q{n}/0", n % 4, 3, n % 2, num=2) for n in range(8)))
    for part in (score(run).acceptance.parts.thinking, score(run).acceptance.parts.answer):
        assert part.acceptance_length.low <= part.acceptance_length.value <= part.acceptance_length.high


def test_without_thinking_there_are_no_parts():
    for num in (None, 0):
        run = run_of(thinking("a/0", 2, num=num))
        assert score(run).acceptance.parts is None
        assert "thinking" not in shown(run)


def test_thinking_that_was_never_closed_leaves_the_answer_undefined():
    parts = score(run_of(thinking("a/0", 2, 1, num=6))).acceptance.parts
    assert parts.thinking.acceptance_length.value == 2.5
    assert parts.answer.acceptance_length == Cell.undefined("no decode steps")
    assert (parts.answer.num_turns, parts.answer.num_steps) == (0, 0)


def test_an_origin_that_cannot_place_steps_gives_a_reason_and_no_number():
    counts = replace(counts_of(steps_of(2, 2)), aligned=False)
    run = run_of(thinking("a/0", 2, 2, num=2, counts=counts))
    parts = score(run).acceptance.parts
    assert (parts.num_turns_unsplit, parts.reason) == (1, NO_PLACE)
    for part in (parts.thinking, parts.answer):
        assert part.acceptance_length == part.draft_acceptance_rate == Cell.undefined(NO_PLACE)
        assert part.joint_acceptance_rate == part.conditional_acceptance_rate == [Cell.undefined(NO_PLACE)]
        assert part.num_steps == 0
    assert f"thinking and answer apart: not available ({NO_PLACE})" in shown(run)
    assert "\n  thinking" not in shown(run)


def test_turns_that_cannot_be_split_are_counted_and_left_out_of_both_parts():
    unplaced = replace(counts_of(steps_of(2)), num_steps=2, unplaced_steps=1, aligned=False)
    run = run_of(
        thinking("a/0", 3, 1, num=2),
        thinking("b/0", 2, 0, num=2, counts=unplaced),
        thinking("c/0", 2, num=None),
        thinking("d/0", 2, num=None),
    )
    parts = score(run).acceptance.parts
    assert (parts.thinking.num_steps, parts.answer.num_steps) == (1, 1)
    assert parts.num_turns_unsplit == 3
    assert parts.reason == f"2 turns: where their thinking ends is not recorded; {NO_PLACE}"
    assert f"thinking and answer leave out 3 turns ({parts.reason})" in shown(run)


def test_lengths_alone_give_the_lengths_of_both_parts():
    counts = SpecCounts(None, None, None, 2, None, "stream", aligned=True, emitted=(3, 2))
    parts = score(run_of(thinking("a/0", 2, 1, num=2, counts=counts))).acceptance.parts
    assert (parts.thinking.acceptance_length.value, parts.answer.acceptance_length.value) == (3.0, 2.0)
    assert parts.thinking.joint_acceptance_rate[0].value == 1.0
    assert parts.thinking.draft_acceptance_rate == Cell.undefined("not available from this origin")


def test_a_lost_category_leaves_no_headline_of_a_part_either():
    lost = Failure("b/0", "qa", 0, 0, "request", "reset", 1.0)
    parts = score(run_of(thinking("a/0", 2, 1, num=2), failures=(lost,))).acceptance.parts
    assert parts.thinking.acceptance_length == Cell.undefined("no turn of qa finished")
    assert parts.thinking.acceptance_length_pooled.value == 3.0


def test_the_terminal_shows_both_parts_under_the_whole():
    lines = shown(run_of(thinking("a/0", 3, 1, num=2))).splitlines()
    rows = [line.split() for line in lines]
    at = next(number for number, row in enumerate(rows) if row[:1] == ["overall"])
    assert rows[at + 1] == ["thinking", "4.00", "1.00", "1.00", "1.00", "1.00", "–", "–", "1"]
    assert rows[at + 2] == ["answer", "2.00", "0.33", "1.00", "0.00", "–", "–", "–", "1"]


def test_scores_with_parts_survive_their_json_and_scores_without_are_read():
    scores = score(run_of(thinking("a/0", 3, 1, num=2)))
    assert Scores.model_validate_json(scores.model_dump_json()) == scores
    before = scores.model_dump()
    del before["acceptance"]["parts"]
    assert Scores.model_validate(before).acceptance.parts is None
