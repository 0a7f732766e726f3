"""The speed-up module on plain lists: two runs of the same rows, or a refusal that names the difference."""

import pytest

from speed_bench.errors import MetricInputError
from speed_bench.metrics.speedup import compute

SETTINGS = {"temperature": 0.0, "max_tokens": 8, "concurrency": 1}


def run(num: int = 10, *, step_s: float = 1.0, tokens_per_step: int = 1, **changes) -> dict:
    """Turns of one prefill token and four decoded ones, one after the other."""
    starts = [number * 10.0 for number in range(num)]
    steps = [[tokens_per_step] * (4 // tokens_per_step)] * num
    described = {
        "rows": [f"q{number}/0" for number in range(num)],
        "settings": SETTINGS,
        "start_s": starts,
        "arrivals": [
            [(start_s + 1.0, 1), *((start_s + 1.0 + step_s * at, n) for at, n in enumerate(row, 1))]
            for start_s, row in zip(starts, steps, strict=True)
        ],
        "steps": steps,
    }
    return {**described, **changes}


def outputs(num: int = 10) -> list[list[int]]:
    return [[number, 1, 2, 3, 4] for number in range(num)]


def compared(run1=None, run2=None, *, first=None, second=None, **options) -> dict:
    ours, theirs = run1 or run(step_s=0.5, tokens_per_step=2), run2 or run()
    return compute(first or outputs(), second or outputs(), run1=ours, run2=theirs, **options)


def test_both_speed_ups_the_difference_in_acceptance_and_the_same_tokens():
    found = compared()
    assert found["speedup_tpot"] == pytest.approx(4.0)
    assert found["speedup_output_tps"] == pytest.approx((90 + 5) / (90 + 2))
    assert found["acceptance_length_difference"] == 1.0
    assert (found["identical_share"], found["common_prefix_tokens"], found["paired_share"]) == (1.0, 5.0, 1.0)
    assert (found["num_turns"], found["num_conversations"]) == (10, 10)


def test_every_mean_has_an_interval_and_the_difference_a_p_value():
    found = compared()
    assert found["confidence_interval"]["speedup_tpot"] == pytest.approx([4.0, 4.0])
    assert found["confidence_interval"]["acceptance_length_difference"] == pytest.approx([1.0, 1.0])
    assert 0 < found["p_value"] < 0.01
    none = compared(confidence_level=None)
    assert (none["confidence_interval"], none["p_value"]) == (None, None)
    assert compared(run1=run(), run2=run())["p_value"] == 1.0


def test_an_interval_of_the_speed_up_in_output_tps_needs_to_know_the_streams():
    assert compared()["confidence_interval"]["speedup_output_tps"] is None
    slots = {"slots": [0] * 10}
    found = compared(run(step_s=0.5, tokens_per_step=2, **slots), run(**slots))
    assert found["confidence_interval"]["speedup_output_tps"] is not None


def test_rows_are_paired_by_name_not_by_place():
    there = run()
    back = {key: value if key == "settings" else value[::-1] for key, value in run().items()}
    assert compared(run1=there, run2=back, second=outputs()[::-1])["identical_share"] == 1.0
    assert compared(run1=there, run2=back)["identical_share"] == 0.0


def test_outputs_are_the_same_up_to_the_first_id_that_was_seen_to_differ():
    second = [[*ids[:3], 9, 9] for ids in outputs()]
    second[0] = [0, None, 2, 3, 4]
    second[1] = [1, 1, 2]
    shorter = run()
    shorter["arrivals"] = [*shorter["arrivals"]]
    shorter["arrivals"][1] = shorter["arrivals"][1][:3]
    shorter["steps"] = [[1, 1] if at == 1 else row for at, row in enumerate(shorter["steps"])]
    found = compared(run2=shorter, second=second)
    assert found["identical_share"] == 0.1
    assert found["common_prefix_tokens"] == (5 + 9 * 3) / 10


def test_turns_with_other_inputs_are_compared_in_speed_alone():
    prompts = [f"sha{number}" for number in range(10)]
    other = ["other" if number < 4 else prompt for number, prompt in enumerate(prompts)]
    found = compared(run(step_s=0.5, tokens_per_step=2, prompts=prompts), run(prompts=other))
    assert found["paired_share"] == 0.6
    assert found["speedup_tpot"] == pytest.approx(4.0)


def test_without_arrivals_or_steps_their_values_are_none():
    bare = {"rows": run()["rows"], "settings": SETTINGS}
    found = compared(bare, bare)
    assert found["identical_share"] == 1.0
    for name in ("speedup_output_tps", "speedup_tpot", "acceptance_length_difference", "p_value"):
        assert found[name] is None
    one_sided = compared(run(), bare)
    assert (one_sided["speedup_tpot"], one_sided["acceptance_length_difference"]) == (None, None)


def test_the_difference_is_a_mean_of_category_means():
    rows = {"categories": ["math"] * 8 + ["qa"] * 2}
    slow, fast = run(), run(tokens_per_step=2, step_s=0.5)
    mixed = {key: [*fast[key][:8], *slow[key][8:]] if isinstance(fast[key], list) else fast[key] for key in fast}
    assert compared(mixed, slow, **rows)["acceptance_length_difference"] == 0.5


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"rows": [f"q{number}/0" for number in range(9)] + ["x/0"]},
            "the rows differ: 1 are in run1 alone, the first is 'q9/0'",
        ),
        ({"rows": ["q0/0"] * 10}, "run2 has row 'q0/0' twice"),
        ({"rows": ["q0/0"]}, "run2['rows'] has 1 entries for 10 turns"),
        ({"rows": None}, "run2 has no 'rows'"),
        ({"settings": {**SETTINGS, "temperature": 1.0}}, "the runs differ in temperature: 0.0 in run1, 1.0 in run2"),
        ({"settings": {**SETTINGS, "concurrency": 32}}, "the runs differ in concurrency: 1 in run1, 32 in run2"),
        ({"settings": {**SETTINGS, "top_p": 0.9}}, "the runs differ in top_p: nothing in run1, 0.9 in run2"),
        ({"settings": {"temperature": 0.0, "max_tokens": 8}}, "run2['settings'] has no concurrency or request_rate"),
        ({"settings": 3}, "run2['settings'] is a dict of sampling and load, not 3"),
        ({"arrivals": None}, "run2 has only one of 'arrivals' and 'start_s'"),
        ({"slots": [0] * 10, "arrivals": None, "start_s": None}, "run2 has 'slots' without 'arrivals'"),
        ({"arrival": []}, "unknown key of run2 'arrival'; did you mean 'arrivals'?"),
        (
            {"arrivals": [[(101.0, 5)]] * 9 + [[(101.0, 4)]]},
            "run2['arrivals'][9] holds 4 tokens (request 9), its output has 5",
        ),
        ({"steps": [[2, 2]] * 9 + [[2, 4]]}, "run2['steps'][9] emit 6 tokens (request 9), its output has 5"),
        ({"steps": [[2, 2]] * 9 + [[2, 0]]}, "run2['steps'][9][1] is 0 (request 9, step 1)"),
    ],
)
def test_runs_that_differ_are_refused_and_the_difference_is_named(changes, sentence):
    with pytest.raises(MetricInputError) as refused:
        compared(run2=run(**changes))
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    ("second", "sentence"),
    [
        (outputs(9), "the rows differ: predictions1 has 10 turns, predictions2 has 9"),
        ([[1.5]], "predictions2[0][0] is 1.5, a float (request 0, token 0): output token ids are whole numbers from 0"),
        ([[True]], "predictions2[0][0] is True, a bool"),
    ],
)
def test_outputs_that_cannot_be_are_refused(second, sentence):
    with pytest.raises(MetricInputError) as refused:
        compared(second=second)
    assert sentence in str(refused.value)


def test_a_run_is_a_dict():
    with pytest.raises(MetricInputError, match="run1 is a dict with rows"):
        compute(outputs(), outputs(), run1=3, run2=run())
