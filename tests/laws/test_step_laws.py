"""Whatever an engine did, and however few events it sent, its decode steps are counted exactly."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from speed_bench.engines.answers import Chunk, Mark
from speed_bench.engines.steps import steps_from_marks
from speed_bench.types import Step

steps = st.builds(
    lambda drafted, share: Step(drafted, round(drafted * share), round(drafted * share) + 1),
    st.integers(0, 8),
    st.floats(0, 1),
)


def events(truth: list[Step], held: set[int], finish: str) -> tuple[list[Chunk], int]:
    """The events of an engine that took these steps and sent none for the tokens in `held`."""
    chunks, num_tokens, drafted, accepted = [Chunk((0,), mark=Mark(1, 0.001, 0, 0))], 1, 0, 0
    for clock, step in enumerate(truth, 1):
        drafted, accepted = drafted + step.drafted, accepted + step.accepted
        for _ in range(step.emitted):
            num_tokens += 1
            if num_tokens not in held:
                chunks.append(Chunk((0,), mark=Mark(num_tokens, float(clock), drafted, accepted)))
    chunks.append(Chunk((), finish_reason=finish, mark=Mark(num_tokens, float(len(truth) or 0.001), drafted, accepted)))
    return chunks, num_tokens


@given(st.lists(steps, max_size=40))
def test_every_step_is_found_when_every_token_has_its_event(truth: list[Step]) -> None:
    chunks, num_tokens = events(truth, set(), "length")
    counts, last_step = steps_from_marks(chunks, num_tokens=num_tokens)
    assert list(counts.per_step) == truth
    assert counts.aligned
    assert counts.verify_steps == sum(step.drafted > 0 for step in truth)
    assert last_step == "complete"


@settings(max_examples=300)
@given(st.lists(steps, min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_totals_stay_exact_and_nothing_false_is_placed_when_events_are_missing(
    truth: list[Step], rng: random.Random
) -> None:
    num_tokens = 1 + sum(step.emitted for step in truth)
    held = {token for token in range(2, num_tokens) if rng.random() < 0.3}
    chunks, num_tokens = events(truth, held, "length")
    counts, _ = steps_from_marks(chunks, num_tokens=num_tokens)
    assert counts.num_steps == len(truth)
    assert counts.drafted == sum(step.drafted for step in truth)
    assert counts.accepted == sum(step.accepted for step in truth)
    placed, rest = list(counts.per_step), list(truth)
    for step in placed:
        rest.remove(step)
    assert len(rest) == counts.unplaced_steps
    if counts.aligned:
        assert placed == truth
        assert counts.verify_steps == sum(step.drafted > 0 for step in truth)
    else:
        assert counts.verify_steps is None


@given(st.lists(steps, max_size=10), st.integers(1, 8), st.data())
def test_a_step_that_accepted_more_than_was_shown_is_cut(
    before: list[Step], accepted: int, data: st.DataObject
) -> None:
    shown = data.draw(st.integers(1, accepted))
    truth = [*before, Step(8, accepted, shown)]
    chunks, num_tokens = events(truth, set(), "stop")
    counts, last_step = steps_from_marks(chunks, num_tokens=num_tokens)
    assert list(counts.per_step) == truth
    assert last_step == "cut"


@given(st.lists(steps, max_size=10), st.integers(0, 7))
def test_after_eos_a_refused_draft_and_an_accepted_eos_look_alike(before: list[Step], accepted: int) -> None:
    chunks, num_tokens = events([*before, Step(8, accepted, accepted + 1)], set(), "stop")
    assert steps_from_marks(chunks, num_tokens=num_tokens)[1] == "unknown"
    chunks, num_tokens = events([*before, Step(accepted, accepted, accepted + 1)], set(), "stop")
    assert steps_from_marks(chunks, num_tokens=num_tokens)[1] == "complete"
