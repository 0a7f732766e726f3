"""Laws of the acceptance module on plain lists, and a slow second opinion on every value it returns."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speed_bench.errors import UndefinedMetric
from speed_bench.metrics.acceptance import compute

quick = settings(deadline=None, max_examples=100)


@st.composite
def runs(draw: st.DrawFn) -> dict:
    """Turns of conversations in categories; every last step may be complete, cut or unknown."""
    run = {"predictions": [], "drafted": [], "conversations": [], "categories": [], "last_step": []}
    for conversation in range(draw(st.integers(1, 5))):
        category = draw(st.sampled_from(["coding", "math", "qa"]))
        for _ in range(draw(st.integers(1, 3))):
            drafted = draw(st.lists(st.integers(0, 4), max_size=8))
            emitted = [1 + draw(st.integers(0, drafts)) for drafts in drafted]
            last_step = draw(st.sampled_from(["complete", "cut", "unknown"]))
            if last_step == "cut" and (not drafted or drafted[-1] == 0):
                last_step = "complete"
            if last_step == "cut":
                emitted[-1] = min(emitted[-1], drafted[-1])
            turn = (emitted, drafted, f"c{conversation}", category, last_step)
            for values, value in zip(run.values(), turn, strict=True):
                values.append(value)
    return run


def found(run: dict, **options) -> dict:
    return compute(**run, confidence_level=None, **options)


def has_steps(run: dict) -> bool:
    return any(run["predictions"])


def slow(run: dict) -> dict:
    """Every value from first principles, step by step, in fractions."""
    turns = list(zip(*run.values(), strict=True))
    grouped: dict[str, dict[str, list]] = {}
    for turn in turns:
        if turn[0]:
            grouped.setdefault(turn[3], {}).setdefault(turn[2], []).append(turn)

    def length(members: list, extra: int = 0) -> Fraction:
        steps = [tokens for member in members for tokens in member[0]]
        return Fraction(sum(steps) + extra, len(steps) + extra)

    def mean(values: list) -> Fraction:
        return sum(values, Fraction(0)) / len(values)

    prefills = {name: sum(turn[2] == name for turn in turns) for name in set(run["conversations"])}
    each = [length(members) for category in grouped.values() for members in category.values()]
    steps = [
        (tokens, drafts, turn[4] if place == len(turn[0]) else "complete")
        for turn in turns
        for place, (tokens, drafts) in enumerate(zip(turn[0], turn[1], strict=True), 1)
    ]
    conditional = []
    for k in range(1, max(drafts for _, drafts, _ in steps) + 1):
        outcomes = []
        for tokens, drafts, kind in steps:
            if drafts < k:
                continue
            shown = {"complete": tokens - 1, "cut": tokens, "unknown": tokens - 1}[kind]
            if shown >= k:
                outcomes.append(1)
            elif shown == k - 1 and kind == "complete":
                outcomes.append(0)
        conditional.append(mean(outcomes) if outcomes else None)
    verify = [step for step in steps if step[1]]
    rights, drafted = sum(tokens - 1 for tokens, _, _ in verify), sum(drafts for _, drafts, _ in verify)
    known = all(turn[4] == "complete" or not turn[0] for turn in turns)
    return {
        "category": mean([mean([length(members) for members in names.values()]) for names in grouped.values()]),
        "conversation": mean(each),
        "pooled": length(turns),
        "specdec_bench": mean(
            [length(members, prefills[name]) for names in grouped.values() for name, members in names.items()]
        ),
        "acceptance_length_drafted": 1 + mean([tokens - 1 for tokens, _, _ in verify]) if known and verify else None,
        "draft_acceptance_rate": Fraction(rights, drafted) if known and verify else None,
        "conditional_acceptance_rate": conditional,
        "joint_acceptance_rate": [
            mean([int(tokens > k) for tokens, _, _ in steps]) for k in range(1, len(conditional) + 1)
        ],
    }


def as_floats(value):
    if isinstance(value, list):
        return [as_floats(item) for item in value]
    return None if value is None else pytest.approx(float(value), rel=1e-12)


@quick
@given(runs().filter(has_steps))
def test_every_value_agrees_with_a_slow_second_implementation(run):
    expected = slow(run)
    for average in ("category", "conversation", "pooled", "specdec_bench"):
        assert found(run, average=average)["acceptance_length"] == as_floats(expected[average])
    values = found(run)
    for name in list(expected)[4:]:
        assert values[name] == as_floats(expected[name]), name


@quick
@given(runs().filter(has_steps), st.randoms(use_true_random=False))
def test_the_order_of_turns_changes_nothing_not_even_the_intervals(run, random):
    order = list(range(len(run["predictions"])))
    random.shuffle(order)
    shuffled = {name: [values[place] for place in order] for name, values in run.items()}
    assert compute(**shuffled, resamples=50) == compute(**run, resamples=50)


@quick
@given(runs().filter(has_steps))
def test_the_pooled_length_is_one_plus_the_sum_of_joint_rates(run):
    values = found(run)
    assert values["acceptance_length_pooled"] == pytest.approx(1 + sum(values["joint_acceptance_rate"]), rel=1e-12)
    assert values["joint_acceptance_rate"] == sorted(values["joint_acceptance_rate"], reverse=True)


@quick
@given(runs().filter(has_steps))
def test_counts_add_up_over_the_categories(run):
    values = found(run)
    parts = [
        compute(**{name: [each[place] for place in places] for name, each in run.items()}, confidence_level=None)
        for category in set(run["categories"])
        if (places := [at for at, name in enumerate(run["categories"]) if name == category])
        and any(run["predictions"][at] for at in places)
    ]
    assert sum(part["num_steps"] for part in parts) == values["num_steps"]
    assert values["num_steps"] == sum(values["histogram"].values())
    assert set(values["per_category"]) == set(run["categories"])
    for part in parts:
        (category,) = part["per_category"]
        assert values["per_category"][category] == part["per_category"][category]


@quick
@given(runs().filter(has_steps))
def test_values_lie_in_their_bounds(run):
    values = found(run)
    most = max(map(max, filter(None, run["drafted"]))) + 1
    assert 1 <= values["acceptance_length"] <= most
    assert values["acceptance_length_uncensored"] is None or 1 <= values["acceptance_length_uncensored"] <= most
    rates = [values["draft_acceptance_rate"], *values["conditional_acceptance_rate"], *values["joint_acceptance_rate"]]
    assert all(rate is None or 0 <= rate <= 1 for rate in rates)


@quick
@given(runs().filter(lambda run: not has_steps(run)))
def test_without_a_decode_step_there_is_no_value(run):
    with pytest.raises(UndefinedMetric, match="no decode step"):
        found(run)


# The last step of a turn, through the module: a limit falls anywhere in a step.

TRUE_RATES = (0.60, 0.70, 0.75)


@pytest.fixture(scope="module")
def cut_run() -> tuple[list[list[int]], list[str]]:
    """Answers of 4 to 24 tokens by a drafter with known rates, and whether each last step was cut."""
    rng = np.random.default_rng(11)
    accepted = iter(np.cumprod(rng.random((480_000, 3)) < TRUE_RATES, axis=1).sum(axis=1).tolist())
    predictions, kinds = [], []
    for limit in rng.integers(4, 25, size=20_000).tolist():
        emitted, left, right = [], limit - 1, 0
        while left:
            right = next(accepted)
            emitted.append(min(right + 1, left))
            left -= emitted[-1]
        predictions.append(emitted)
        kinds.append("cut" if emitted[-1] <= right else "complete")
    return predictions, kinds


@pytest.mark.parametrize(
    ("reading", "expected", "within"),
    [
        (lambda kinds: kinds, TRUE_RATES, 0.006),
        (lambda kinds: "unknown", TRUE_RATES, 0.006),
        (lambda kinds: "complete", (0.558, 0.649, 0.684), 0.006),
        (lambda kinds: ["unknown" if kind == "cut" else kind for kind in kinds], (0.582, 0.682, 0.736), 0.008),
    ],
    ids=["cuts known", "cuts unknown", "naive", "one less where cut"],
)
def test_of_four_readings_of_the_last_step_two_find_the_true_rates_and_two_are_biased(
    cut_run, reading, expected, within
):
    predictions, kinds = cut_run
    values = compute(predictions, draft_length=3, last_step=reading(kinds), confidence_level=None)
    assert values["conditional_acceptance_rate"] == pytest.approx(expected, abs=within)
