"""The bootstrap of a closed loop replays it with other conversations."""

import heapq
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speed_bench.replay import Loop, replayed_span_s, resample_output_tps


def loop(tokens, busy_s, *, num_streams=1, order=None) -> Loop:
    values = [np.asarray(each, dtype=float) for each in (tokens, busy_s)]
    tokens, busy_s = (each[:, None] if each.ndim == 1 else each for each in values)
    tasks = [(row, column) for row in range(tokens.shape[0]) for column in range(tokens.shape[1])]
    return Loop(tokens, busy_s, np.array(order or tasks), num_streams)


def bounds(draws) -> tuple[float, float]:
    return tuple(np.quantile(draws, [0.025, 0.975]))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.integers(1, 6))
def test_a_replay_gives_every_task_to_the_stream_that_is_free_first(durations_s, num_streams):
    free = [0.0] * num_streams
    for duration_s in durations_s:
        heapq.heappush(free, heapq.heappop(free) + duration_s)
    assert replayed_span_s(np.array([durations_s], dtype=float), num_streams).tolist() == [max(free)]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 20)), min_size=1, max_size=30), st.integers(1, 6))
def test_a_replay_of_an_open_loop_begins_no_task_before_it_is_due(tasks, num_streams):
    due_s = np.cumsum([gap_s for _, gap_s in tasks])
    free = [0.0] * num_streams
    for (duration_s, _), at_s in zip(tasks, due_s, strict=True):
        heapq.heappush(free, max(heapq.heappop(free), float(at_s)) + duration_s)
    durations_s = np.array([[duration_s for duration_s, _ in tasks]], dtype=float)
    assert replayed_span_s(durations_s, num_streams, due_s.astype(float)).tolist() == [max(free)]


def test_where_the_schedule_rules_the_span_the_spread_is_that_of_the_tokens():
    rng = np.random.default_rng(4)
    tokens = rng.integers(5, 50, 60)
    rare = replace(loop(tokens, tokens / 50, num_streams=4), due_s=np.arange(60) * 10.0)
    found = resample_output_tps([(rare, 100.0)], ["qa"] * 60, resamples=4000, seed=0)
    assert found.draws.std() == pytest.approx(100.0 * tokens.std(ddof=1) / tokens.mean() / np.sqrt(60), rel=0.05)
    assert found.left_out.mean() == pytest.approx(100.0, rel=0.01)


def test_draws_are_in_proportion_to_the_throughput_that_was_measured():
    same = loop([10] * 9, [2] * 9, num_streams=4)
    assert np.unique(resample_output_tps([(same, 12.0)], ["qa"] * 9, resamples=50, seed=0).draws).tolist() == [12.0]


def test_streams_that_went_in_step_are_drawn_around_what_was_measured():
    """The first answer of each stream waits for the prefill of the others, by its place and not by what it is."""
    waits = np.where(np.arange(64) < 16, np.arange(64) % 16, 0.0)
    in_step = loop([10] * 64, 20.0 + waits - np.where(np.arange(64) >= 48, np.arange(64) % 16, 0.0), num_streams=16)
    draws = resample_output_tps([(in_step, 7.0)], ["qa"] * 64, resamples=500, seed=0).draws
    low, high = bounds(draws)
    assert low < 7.0 < high
    assert draws.mean() == pytest.approx(7.0)


def test_the_end_of_a_run_is_in_the_interval_when_streams_share_it():
    rng = np.random.default_rng(0)
    tokens = 1 + rng.geometric(1 / 100, 64)
    alone, together = (
        resample_output_tps([(loop(tokens, tokens / 50, num_streams=c), 1.0)], ["qa"] * 64, resamples=500, seed=0).draws
        for c in (1, 16)
    )
    assert alone.std() < 1e-12
    assert together.std() > 0.05


def test_two_loops_are_drawn_together_and_keep_their_ratio():
    rng = np.random.default_rng(0)
    tokens, busy_s = rng.integers(1, 9, 40), rng.random(40) + 0.5
    both = [(loop(tokens, busy_s, num_streams=4), 30.0), (loop(tokens, 2 * busy_s, num_streams=4), 15.0)]
    draws = resample_output_tps(both, ["qa", "math"] * 20, resamples=100, seed=0).draws
    assert draws[:, 0] / draws[:, 1] == pytest.approx(2.0)
    assert draws[:, 0].std() > 0


def test_with_one_stream_the_spread_is_that_of_a_ratio_of_sums():
    rng = np.random.default_rng(1)
    tokens, busy_s = rng.integers(5, 50, 60), rng.gamma(9, 0.1, 60)
    value = tokens.sum() / busy_s.sum()
    draws = resample_output_tps([(loop(tokens, busy_s), value)], ["qa"] * 60, resamples=4000, seed=0).draws[:, 0]
    residuals = (tokens - value * busy_s) / busy_s.mean()
    assert draws.std() == pytest.approx(residuals.std(ddof=1) / np.sqrt(60), rel=0.05)


def test_what_is_left_out_one_at_a_time_is_on_the_scale_of_the_throughput():
    rng = np.random.default_rng(3)
    tokens, busy_s = rng.integers(5, 50, 60), rng.gamma(9, 0.1, 60)
    found = resample_output_tps([(loop(tokens, busy_s, num_streams=4), 500.0)], ["qa"] * 60, resamples=10, seed=0)
    assert found.left_out.mean() == pytest.approx(500.0, rel=0.01)
    assert found.left_out.std() > 0


def test_the_spread_is_right_with_two_conversations_in_a_category():
    rng = np.random.default_rng(2)
    tokens, names = 100 + rng.normal(0, 5, 240), [f"c{index}" for index in range(120) for _ in range(2)]
    draws = resample_output_tps([(loop(tokens, np.ones(240)), 1.0)], names, resamples=2000, seed=0).draws[:, 0]
    within = tokens.reshape(120, 2).var(axis=1, ddof=1).mean()
    assert draws.std() == pytest.approx(np.sqrt(within / 240) / tokens.mean(), rel=0.06)


def test_all_runs_of_a_conversation_are_drawn_together():
    tokens = np.array([[10.0, 10.0]] * 4 + [[20.0, 20.0]] * 4)
    once = resample_output_tps([(loop(tokens[:, 0], np.ones(8)), 1.0)], ["qa"] * 8, resamples=2000, seed=0).draws
    twice = resample_output_tps([(loop(tokens, np.ones((8, 2))), 1.0)], ["qa"] * 8, resamples=2000, seed=0).draws
    assert bounds(twice) == pytest.approx(bounds(once))
