"""Whatever an engine did, and however it merged its chunks, what is told from its report is true or left open."""

import random
from itertools import accumulate

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from records import turn

from speed_bench.engines.answers import Chunk, Drafting, SpecReport
from speed_bench.engines.reports import (
    combined,
    decode_sizes,
    from_histogram,
    from_sizes,
    from_steps,
    steps_from_report,
)
from speed_bench.errors import RequestFailed
from speed_bench.tally import tally_record, tally_steps
from speed_bench.types import SpecCounts, Step, TurnRecord

K = 3


@st.composite
def turns(draw: st.DrawFn, *, plain: bool) -> list[Step]:
    """The decode steps of a turn, the last of which may be cut; with or without plain ones among them."""
    wanted = draw(st.integers(1, 40))
    steps, num_tokens = [], 0
    while num_tokens < wanted:
        drafted = K if not plain or draw(st.booleans()) else 0
        accepted = draw(st.integers(0, drafted))
        steps.append(Step(drafted, accepted, min(accepted + 1, wanted - num_tokens)))
        num_tokens += steps[-1].emitted
    return steps


def turn_of_counts(counts: SpecCounts, num_tokens: int) -> TurnRecord:
    """A turn whose decode steps emitted so many tokens."""
    ids = (7,) * (num_tokens + 1)
    return turn("0" * 32 + "/0", counts=counts, output_ids=ids, arrivals=((1.0, len(ids)),), finished_at_s=1.0)


def merged(sizes: list[int], rng: random.Random) -> list[int]:
    """The same tokens in fewer chunks: each the sum of one to three neighbours."""
    together, rest = [], list(sizes)
    while rest:
        num = rng.choice((1, 1, 2, 3))
        together.append(sum(rest[:num]))
        rest = rest[num:]
    return together


def reported(steps: list[Step]) -> list[tuple[int, int]]:
    """What vLLM lists."""
    return [(step.drafted, step.accepted) for step in steps if step.drafted]


def histogram(steps: list[Step]) -> tuple[int, ...]:
    """What SGLang lists."""
    return tuple(sum(step.drafted > 0 and step.accepted == at for step in steps) for at in range(K + 1))


@settings(max_examples=200)
@given(turns(plain=True))
def test_a_chunk_per_step_tells_every_step(steps: list[Step]) -> None:
    counts = from_steps([step.emitted for step in steps], reported(steps), always=False)
    assert sorted(counts.per_step) == sorted(steps)
    assert counts.num_steps == len(steps)
    assert [step.emitted for step in counts.per_step] == [step.emitted for step in steps]
    if counts.aligned:
        assert list(counts.per_step) == steps


@settings(max_examples=200)
@given(turns(plain=False), st.randoms(use_true_random=False))
def test_merged_chunks_change_nothing_where_every_step_drafts(steps: list[Step], rng: random.Random) -> None:
    sizes = [step.emitted for step in steps]
    whole = from_steps(sizes, reported(steps), always=True)
    assert from_steps(merged(sizes, rng), reported(steps), always=True) == whole
    assert list(whole.per_step) == steps
    assert whole.aligned


@settings(max_examples=300)
@given(turns(plain=True), st.randoms(use_true_random=False))
def test_merged_chunks_never_change_verified_counts_and_tell_no_false_number_of_steps(
    steps: list[Step], rng: random.Random
) -> None:
    sizes = [step.emitted for step in steps]
    assume(steps[-1].emitted == steps[-1].accepted + 1)  # a cut step in a merged last chunk can look whole
    counts = from_steps(merged(sizes, rng), reported(steps), always=False)
    assert (counts.drafted, counts.accepted, counts.verify_steps) == (
        sum(step.drafted for step in steps),
        sum(step.accepted for step in steps),
        sum(step.drafted > 0 for step in steps),
    )
    assert counts.num_steps in (len(steps), None)
    tally, truth = tally_record(turn_of_counts(counts, sum(sizes))), tally_steps(steps)
    assert (tally.trials, tally.successes) == (truth.trials, truth.successes)
    assert tally.num_steps == counts.num_steps
    if counts.num_steps is not None:
        assert tally.lengths == truth.lengths
    else:
        assert tally.lengths is None


@settings(max_examples=200)
@given(turns(plain=False), st.randoms(use_true_random=False))
def test_a_histogram_is_put_in_order_by_chunks_and_never_in_a_false_one(steps: list[Step], rng: random.Random) -> None:
    sizes = [step.emitted for step in steps]
    report = SpecReport(
        verify_steps=len(steps),
        drafted=K * len(steps),
        accepted=sum(step.accepted for step in steps),
        histogram=histogram(steps),
    )
    drafting = Drafting(K, always=True)
    assert list(from_histogram(sizes, report, drafting).per_step) == steps
    counts = from_histogram(merged(sizes, rng), report, drafting)
    assert (counts.verify_steps, counts.accepted, counts.num_steps) == (len(steps), report.accepted, len(steps))
    tally, truth = tally_record(turn_of_counts(counts, sum(sizes))), tally_steps(steps)
    assert (tally.trials, tally.successes) == (truth.trials, truth.successes)
    assert tally.lengths in (truth.lengths, None)


@settings(max_examples=200)
@given(turns(plain=True), st.randoms(use_true_random=False))
def test_chunks_alone_are_steps_only_where_the_engine_ran_as_often(steps: list[Step], rng: random.Random) -> None:
    sizes = [step.emitted for step in steps]
    counts = from_sizes(sizes, len(steps) + 1, Drafting(K))
    assert counts.emitted == tuple(sizes)
    assert (counts.drafted, counts.accepted) == (None, None)
    fewer = merged(sizes, rng)
    if len(fewer) < len(sizes):
        assert from_sizes(fewer, len(steps) + 1, Drafting(K)) is None
    assert from_sizes(sizes, None, Drafting(K)) is None


@given(st.lists(st.integers(0, 5), min_size=1), st.integers(0, 2))
def test_what_prefill_emitted_is_taken_from_the_front(sizes: list[int], prefill: int) -> None:
    decoded = decode_sizes(sizes, prefill)
    assert sum(decoded) == max(0, sum(sizes) - prefill)
    assert 0 not in decoded
    boundaries = {at - prefill for at in accumulate(sizes)}
    assert set(accumulate(decoded)) <= boundaries


def test_without_speculation_every_token_is_a_step_however_chunks_come() -> None:
    chunks = [Chunk((1, 2, 3)), Chunk((4,), finish_reason="length", report=SpecReport(num_tokens=4))]
    counts, last_step = steps_from_report(chunks, num_tokens=4, drafting=Drafting(0))
    assert (counts.num_steps, counts.drafted, last_step) == (3, 0, "complete")


def test_a_report_that_contradicts_itself_is_a_failed_request() -> None:
    report = SpecReport(num_tokens=4, num_iterations=2, verify_steps=3, drafted=9, accepted=0, histogram=(3, 0, 0, 0))
    with pytest.raises(RequestFailed, match="contradicts"):
        steps_from_report([Chunk((1, 2, 3, 4), report=report)], num_tokens=4, drafting=Drafting(3, always=True))


@pytest.mark.parametrize(
    ("sizes", "report"),
    [
        ([1] * 11, SpecReport(histogram=(100, 0, 0, 0))),  # more steps than tokens
        ([1, 50], SpecReport(histogram=(2, 0, 0, 0), num_iterations=3)),  # more tokens than steps can hold
        ([1, 3], SpecReport(histogram=(0, 0, 0, 2))),  # more accepted than its last step can have hidden
    ],
)
def test_a_histogram_that_contradicts_the_tokens_is_a_failed_request(sizes: list[int], report: SpecReport) -> None:
    chunks = [Chunk((1,) * size) for size in sizes]
    with pytest.raises(RequestFailed):
        steps_from_report([*chunks, Chunk((), report=report)], num_tokens=sum(sizes), drafting=Drafting(3, always=True))


def test_an_engine_that_reports_drafts_and_ran_less_often_than_it_has_tokens_did_not_report() -> None:
    chunks = [Chunk((1,)), *[Chunk((1,) * 4)] * 3, Chunk((), report=SpecReport(num_tokens=13, num_iterations=4))]
    counts, _ = steps_from_report(chunks, num_tokens=13, drafting=Drafting(3, reported=True))
    assert counts is not None
    assert counts.emitted == (4, 4, 4)


def test_of_two_reports_the_later_wins_and_neither_forgets() -> None:
    said = combined([SpecReport(num_iterations=2), None, SpecReport(num_iterations=3), SpecReport(num_tokens=9)])
    assert (said.num_iterations, said.num_tokens) == (3, 9)
