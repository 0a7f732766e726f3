"""Step times out of journals, and what they predict in closed loops whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest
from closed_loop import closed_loop
from records import run_of, steps_of, turn

from speed_bench.acceptance import acceptance_length
from speed_bench.comparison import compare
from speed_bench.draft_lengths import Arm, Given, predict
from speed_bench.errors import UndefinedMetric
from speed_bench.prediction import Estimate, break_even_rate
from speed_bench.records import RunRecords
from speed_bench.scores import Bootstrap
from speed_bench.serving import closed_loop_span, steady_output_tps, tpot_total_s
from speed_bench.step_sums import Ratios, free_gaps, sum_steps
from speed_bench.types import TurnRecord

BOOTSTRAP = Bootstrap(confidence_level=0.95, resamples=200, seed=0)


def arms_of(**runs: RunRecords) -> list[Arm]:
    """Runs named after their draft length: `k3`."""
    return [Arm(name, int(name[1:]), sum_steps([run], int(name[1:])), None) for name, run in runs.items()]


def ratio_of(run: RunRecords, what) -> float | None:
    ratios = Ratios([sum_steps([run])], BOOTSTRAP)
    found = ratios.estimate(what(ratios.runs[0]), 1)
    return found.value if found else None


def merged(record: TurnRecord) -> TurnRecord:
    """The same turn, two steps to an arrival."""
    first, *others = record.arrivals
    pairs = [others[at : at + 2] for at in range(0, len(others), 2)]
    return replace(record, arrivals=(first, *((pair[-1][0], sum(num for _, num in pair)) for pair in pairs)))


def test_step_time_is_total_decode_time_per_decode_step():
    run = run_of(turn("a/0", steps_of(3, 0, 1), step_s=0.5), turn("b/0", steps_of(2), step_s=2.5, at_s=10.0))
    assert ratio_of(run, lambda of: of.step_s()) == pytest.approx((3 * 0.5 + 2.5) / 4)
    assert ratio_of(run, lambda of: of.acceptance_length()) == pytest.approx(acceptance_length(sum_steps([run]).tally))


def test_arrivals_that_hold_several_steps_do_not_make_steps_longer():
    single = turn("a/0", steps_of(3, 0, 1, 2), step_s=0.5)
    assert len(merged(single).arrivals) == 3
    for record in (single, merged(single)):
        assert ratio_of(run_of(record), lambda of: of.step_s()) == pytest.approx(0.5)


def test_a_first_arrival_that_holds_a_step_besides_the_prefill_takes_its_time_out_with_its_tokens():
    record = turn("a/0", steps_of(*[1] * 50), step_s=0.5)
    (_, one), (at, two), *others = record.arrivals
    early = replace(record, arrivals=((at, one + two), *others))
    assert ratio_of(run_of(early), lambda of: of.step_s()) == pytest.approx(0.5)


def test_without_speculation_step_time_is_time_per_token():
    run = run_of(turn("a/0", steps_of(0, 0, 0, drafted=0)), turn("b/0", steps_of(0, drafted=0), step_s=2.0, at_s=9.0))
    total = tpot_total_s(record.arrivals for record in run.turns)
    assert ratio_of(run, lambda of: of.ratio("token_s")) == ratio_of(run, lambda of: of.step_s()) == total


def test_turns_of_an_interrupted_segment_are_not_timed():
    assert sum_steps([run_of(turn("a/0", steps_of(3)), whole=False)]).num_turns == 0


def test_steps_that_are_not_known_leave_the_step_time_undefined():
    blind = turn("a/0", steps_of(3, 1), counts=None)
    assert ratio_of(run_of(blind), lambda of: of.step_s()) is None
    with pytest.raises(UndefinedMetric, match="acceptance length of k3: not known"):
        predict(arms_of(k3=run_of(blind)), None, Given(t_ar_s=Estimate(0.5)), bootstrap=BOOTSTRAP, closed_loop=True)


def test_a_draft_length_that_was_never_reached_adds_nothing_to_the_acceptance_length():
    run = run_of(turn("a/0", steps_of(1, 0, 2, drafted=2)))
    ratios = Ratios([sum_steps([run], 8)], BOOTSTRAP)
    [sums] = ratios.runs
    lengths = [ratios.estimate(sums.acceptance_length(k), 1).value for k in (1, 2, 5, 8)]
    assert lengths == pytest.approx([5 / 3, 2.0, 2.0, 2.0])
    assert ratios.estimate(sums.acceptance_length(9), 1) is None, "no draft was tried at position 8"


def test_steps_that_are_not_told_apart_give_the_lengths_of_their_rates():
    """A histogram of what was accepted, of a turn whose last step was cut: rates are known, lengths are not."""
    record = turn("a/0", steps_of(2, 0, 1))
    told = replace(
        record.counts, per_step=None, aligned=False, histogram=(1, 1, 1), full_draft_length=2, drafted=6, accepted=3
    )
    cut = replace(record, output_ids=record.output_ids[:-1], arrivals=(*record.arrivals[:-1], (2.5, 1)), counts=told)
    sums = sum_steps([run_of(cut)], 2)
    ratios = Ratios([sums], BOOTSTRAP)
    assert sums.conditional
    lengths = [ratios.estimate(ratios.runs[0].acceptance_length(k), 1).value for k in (1, 2, 3)]
    assert lengths == pytest.approx([1 + 2 / 3, 1 + 2 / 3 + 1 / 3, 1 + 2 / 3 + 1 / 3 + 1 / 6])


def test_gaps_are_free_where_no_other_request_waits_for_its_first_token():
    long = turn("a/0", steps_of(0, 0, 0, 0, 0, 0), step_s=1.0)  # sent at 0, tokens at 1, 2, … 7
    other = turn("b/0", steps_of(0), at_s=3.5, step_s=0.25)  # waits from 3.5 to 4.5
    gaps, others = free_gaps([long, other])
    assert gaps.tolist() == [1.0, 1.0, 1.0, 1.0], "not those from 3 to 4 and from 4 to 5"
    assert others.tolist() == [0.25]


def test_one_own_prompt_does_not_count_as_another_ones_prefill():
    [gaps] = free_gaps([turn("a/0", steps_of(1, 1))])
    assert len(gaps) == 2


@pytest.fixture(scope="module")
def alone() -> dict[int, RunRecords]:
    """The same turns without speculation, and with draft lengths of 1, 3 and 5; one after the other."""
    return {k: closed_loop(k, streams=1, turns=48, prompt_tokens=150, step_ms=20) for k in (0, 1, 3, 5)}


@pytest.fixture(scope="module")
def together() -> dict[int, RunRecords]:
    """The same at a concurrency of 16, with prompts whose prefill takes as long as several steps."""
    return {k: closed_loop(k, turns=144, prompt_tokens=4000, step_ms=10) for k in (0, 1, 3, 5)}


@pytest.fixture(params=["alone", "together"])
def loops(request: pytest.FixtureRequest) -> dict[int, RunRecords]:
    return request.getfixturevalue(request.param)


def test_runs_of_the_shortest_and_the_longest_predict_those_between(loops: dict[int, RunRecords]):
    found = predict(
        arms_of(k1=loops[1], k5=loops[5]), sum_steps([loops[0]]), Given(), bootstrap=BOOTSTRAP, closed_loop=True
    )
    expected = next(row for row in found.rows if row.draft_length == 3)
    measured = compare(loops[3], loops[0], None)
    assert (expected.acceptance_from, expected.step_time_from) == ("shorter", "line")
    assert expected.speedup.value == pytest.approx(measured.speedup_tpot.value, rel=0.02)
    assert expected.speedup.low < measured.speedup_tpot.value < expected.speedup.high
    assert expected.speedup_output_tps.value == pytest.approx(steady_ratio(loops[3], loops[0]), rel=0.02)
    assert expected.step_time_s.value == pytest.approx(ratio_of(loops[3], lambda of: of.step_s()), rel=0.01)


def steady_ratio(run: RunRecords, baseline: RunRecords) -> float:
    """Output TPS while all streams are busy, of a run / of its baseline."""
    steady = []
    for records in (run, baseline):
        span = closed_loop_span((each.slot, each.sent_at_s, each.arrivals) for each in records.turns)
        assert span
        steady.append(steady_output_tps((span, [each.arrivals for each in records.turns])))
    return steady[0] / steady[1]


def test_of_a_draft_length_that_was_run_the_prediction_is_the_measured_ratio_of_totals(loops: dict[int, RunRecords]):
    [row] = predict(arms_of(k3=loops[3]), sum_steps([loops[0]]), Given(), bootstrap=BOOTSTRAP, closed_loop=True).rows
    measured = compare(loops[3], loops[0], BOOTSTRAP).speedup_tpot
    assert row.speedup.value == pytest.approx(measured.value)
    assert (row.speedup.low, row.speedup.high) == (
        pytest.approx(measured.low, rel=0.01),
        pytest.approx(measured.high, rel=0.01),
    )
    [row] = predict(arms_of(k3=loops[3]), sum_steps([loops[0]]), Given(), bootstrap=BOOTSTRAP).rows
    assert row.speedup.value == pytest.approx(measured.value)
    assert row.speedup_output_tps is None, "the streams of another load are not always busy"


def test_the_prefill_of_others_is_so_much_for_every_token_whatever_is_drafted(together: dict[int, RunRecords]):
    each = {k: ratio_of(run, lambda of: of.prefill_s()) for k, run in together.items()}
    assert max(each.values()) < 1.03 * min(each.values())
    mean_output_tokens = np.mean([record.num_output_tokens for record in together[0].turns])
    one_prompt_of_each_other_stream_s = 15 * 0.020 * 4 / mean_output_tokens
    assert each[0] == pytest.approx(one_prompt_of_each_other_stream_s, rel=0.15)


def test_alone_nobody_waits_for_the_prefill_of_others(alone: dict[int, RunRecords]):
    found = predict(
        arms_of(k1=alone[1], k3=alone[3], k5=alone[5]),
        sum_steps([alone[0]]),
        Given(),
        bootstrap=BOOTSTRAP,
        closed_loop=True,
    )
    assert found.prefill_s_per_token.value == pytest.approx(0.0, abs=1e-12)
    assert found.line.per_draft_token_s == pytest.approx(
        0.00035, rel=0.01
    )  # 0.3 ms to draft a token, 0.05 to verify it
    assert found.line.residual_s < 1e-5


def test_a_line_that_takes_prefill_for_part_of_the_step_promises_too_much(together: dict[int, RunRecords]):
    """Why it is told apart: what a step emits, and so how much prefill it sees, is no line over draft lengths."""
    baseline, ends = sum_steps([together[0]]), arms_of(k1=together[1], k5=together[5])
    apart = predict(ends, baseline, Given(), bootstrap=BOOTSTRAP, closed_loop=True)
    for arm in ends:
        arm.sums.columns["num_free_gaps"][:] = 0
    mixed = predict(ends, baseline, Given(), bootstrap=BOOTSTRAP, closed_loop=True)
    measured = compare(together[3], together[0], None).speedup_tpot.value
    expected, naive = (next(row for row in each.rows if row.draft_length == 3).speedup.value for each in (apart, mixed))
    assert mixed.prefill_s_per_token is None
    assert expected == pytest.approx(measured, rel=0.015)
    assert naive > 1.05 * measured


def test_where_prompts_come_by_the_clock_their_prefill_stays_in_the_step_time(together: dict[int, RunRecords]):
    arms, baseline = arms_of(k1=together[1], k5=together[5]), sum_steps([together[0]])
    found = predict(arms, baseline, Given(), bootstrap=BOOTSTRAP)
    whole = [ratio_of(together[k], lambda of: of.step_s()) for k in (1, 5)]
    between = next(row for row in found.rows if row.draft_length == 3)
    assert (found.prefill_s_per_token, between.step_time_s.value) == (None, pytest.approx(sum(whole) / 2))


def test_at_the_break_even_length_the_speedup_is_1_prefill_included(together: dict[int, RunRecords]):
    arms, baseline = arms_of(k5=together[5]), sum_steps([together[0]])
    [row] = predict(arms, baseline, Given(), bootstrap=BOOTSTRAP, closed_loop=True).rows
    given = Given(acceptance_length=Estimate(row.break_even_acceptance_length))
    [even] = predict(arms, baseline, given, bootstrap=BOOTSTRAP, closed_loop=True).rows
    assert even.speedup.value == pytest.approx(1.0, abs=0.01)
    assert row.break_even_rate == pytest.approx(break_even_rate(1.0, row.break_even_acceptance_length, 5))


def test_steps_without_a_proposal_are_in_the_prediction():
    loops = {k: closed_loop(k, streams=1, turns=32, prompt_tokens=100, no_proposal=0.4) for k in (0, 2, 3, 5)}
    found = predict(
        arms_of(k2=loops[2], k5=loops[5]), sum_steps([loops[0]]), Given(), bootstrap=BOOTSTRAP, closed_loop=True
    )
    expected = next(row for row in found.rows if row.draft_length == 3)
    assert expected.speedup.value == pytest.approx(compare(loops[3], loops[0], None).speedup_tpot.value, rel=0.03)


def test_given_numbers_stand_in_for_what_runs_say_and_bring_their_own_error(alone: dict[int, RunRecords]):
    arms, baseline = arms_of(k3=alone[3]), sum_steps([alone[0]])
    [own] = predict(arms, baseline, Given(), bootstrap=BOOTSTRAP, closed_loop=True).rows
    exact, rough = Estimate(0.01), Estimate(0.01, 0.008, 0.012)
    [sharp] = predict(arms, None, Given(t_ar_s=exact), bootstrap=BOOTSTRAP, closed_loop=True).rows
    [wide] = predict(arms, None, Given(t_ar_s=rough), bootstrap=BOOTSTRAP, closed_loop=True).rows
    assert (
        sharp.speedup.value
        == wide.speedup.value
        == pytest.approx(0.01 / (own.step_time_s.value / own.acceptance_length.value))
    )
    assert sharp.speedup.high - sharp.speedup.low < 0.2 * (wide.speedup.high - wide.speedup.low)
    [timed] = predict(
        arms, None, Given(t_ar_s=exact, t_sd_s={None: Estimate(0.02)}), bootstrap=BOOTSTRAP, closed_loop=True
    ).rows
    assert (timed.draft_length, timed.acceptance_from, timed.step_time_from) == (3, "measured", "given")
    assert timed.speedup.value == pytest.approx(own.acceptance_length.value / 2)
    vague = Given(t_ar_s=exact, t_sd_s={None: Estimate(0.02, 0.01, 0.03)})
    [row] = predict(arms, None, vague, bootstrap=BOOTSTRAP, closed_loop=True).rows
    assert row.speedup.low < 0.7 * row.speedup.value


def test_given_times_are_taken_with_the_acceptance_of_the_run_of_each_draft_length(alone: dict[int, RunRecords]):
    arms = arms_of(k1=alone[1], k5=alone[5])
    times = {1: Estimate(0.021), 3: Estimate(0.023), 5: Estimate(0.026)}
    rows = predict(arms, None, Given(t_ar_s=Estimate(0.02), t_sd_s=times), bootstrap=BOOTSTRAP).rows
    assert [row.acceptance_from for row in rows] == ["measured", "shorter", "shorter", "shorter", "measured"]
    assert [row.step_time_from for row in rows] == ["given", "line", "given", "line", "given"]
    assert rows[0].acceptance_length.value == ratio_of(alone[1], lambda of: of.acceptance_length())
