"""Published numbers come out of published counts.

The launch run: Llama-3.3-70B with EAGLE3, draft length 3, concurrency 32, 1,138 turns (arXiv
2604.09557). Its counts follow the convention of specdec_bench: every turn adds a step of length 1
for what prefill emitted.
"""

import pytest

from speed_bench.acceptance import (
    acceptance_length,
    acceptance_length_drafted,
    acceptance_length_specdec_bench,
    acceptance_length_uncensored,
    conditional_acceptance_rate,
    histogram,
    joint_acceptance_rate,
)
from speed_bench.metrics.acceptance import compute
from speed_bench.statistics import category_mean
from speed_bench.tally import Tally, tally_histogram, tally_turn

HISTOGRAM = {1: 57385, 2: 36968, 3: 24441, 4: 61182}
NUM_TURNS = 1138
PER_CATEGORY = {
    "coding": 3.0001,
    "humanities": 2.3699,
    "math": 2.4710,
    "multilingual": 1.7277,
    "qa": 2.3184,
    "rag": 2.7502,
    "reasoning": 2.6142,
    "roleplay": 2.0407,
    "stem": 2.4306,
    "summarization": 2.6026,
    "writing": 2.6364,
}


@pytest.fixture
def with_prefill() -> Tally:
    return tally_histogram(HISTOGRAM, draft_length=3)


@pytest.fixture
def without_prefill() -> Tally:
    return tally_histogram({**HISTOGRAM, 1: HISTOGRAM[1] - NUM_TURNS}, draft_length=3, num_turns=NUM_TURNS)


def test_the_published_rates(with_prefill):
    published = [0.681151931368627, 0.6984444208791836, 0.7145509968116043]
    assert conditional_acceptance_rate(with_prefill) == pytest.approx(published, abs=1e-12)


def test_the_published_histogram_and_its_joint_rates(with_prefill):
    assert with_prefill.num_steps == 179_976
    assert histogram(with_prefill) == HISTOGRAM
    assert joint_acceptance_rate(with_prefill) == pytest.approx([0.68115, 0.47575, 0.33995], abs=5e-6)


def test_the_pooled_length_and_the_mean_output(with_prefill):
    assert acceptance_length(with_prefill) == pytest.approx(2.49684, abs=5e-6)
    assert acceptance_length_uncensored(with_prefill) == pytest.approx(acceptance_length(with_prefill), rel=1e-12)
    assert with_prefill.num_tokens / NUM_TURNS == pytest.approx(394.8787, abs=5e-5)


def test_without_the_prefill_entries_the_length_and_the_first_rate_are_higher(without_prefill):
    assert acceptance_length(without_prefill) == pytest.approx(2.5064, abs=5e-5)
    assert conditional_acceptance_rate(without_prefill)[0] == pytest.approx(0.6855, abs=5e-5)


def test_the_specdec_bench_convention_puts_the_prefill_entries_back(with_prefill, without_prefill):
    assert acceptance_length_specdec_bench(without_prefill) == acceptance_length(with_prefill)


def test_the_published_overall_length_is_the_mean_of_the_categories():
    assert category_mean(list(PER_CATEGORY.values()), list(PER_CATEGORY)) == pytest.approx(2.4511, abs=5e-5)


@pytest.mark.parametrize("output_tokens", [106, 107])
def test_the_drafted_length_comes_from_verified_counts_not_from_output_tokens(output_tokens):
    """SGLang's example: 43 verify steps, 63 correct drafts; how many tokens were output is beside the point."""
    by_accepted = [11, 14, 11, 4, 0, 3]
    accepted = sum(number * steps for number, steps in enumerate(by_accepted))
    verify_steps = sum(by_accepted)
    assert (accepted, verify_steps) == (63, 43)
    turn = tally_turn(
        None,
        num_tokens=output_tokens,
        num_steps=verify_steps,
        verify_steps=verify_steps,
        drafted=verify_steps * 5,
        accepted=accepted,
    )
    assert acceptance_length_drafted(turn) == pytest.approx(1 + 63 / 43)
    assert acceptance_length_drafted(turn) == pytest.approx(2.4651, abs=5e-5)


def test_the_same_example_as_a_histogram():
    tally = tally_histogram({number + 1: num for number, num in enumerate([11, 14, 11, 4, 0, 3])}, draft_length=5)
    assert acceptance_length(tally) == pytest.approx(106 / 43)
    assert conditional_acceptance_rate(tally) == pytest.approx([32 / 43, 18 / 32, 7 / 18, 3 / 7, 1.0])


def test_the_published_table_comes_out_of_requests_in_the_peers_convention():
    """Each category as one request of 10,000 steps, what prefill emitted among them, with the published length."""
    predictions = []
    for published in PER_CATEGORY.values():
        num_steps, num_tokens = 9_999, round(published * 10_000) - 1
        longer = num_tokens - num_steps * (num_tokens // num_steps)
        predictions.append([num_tokens // num_steps + 1] * longer + [num_tokens // num_steps] * (num_steps - longer))
    found = compute(predictions, categories=list(PER_CATEGORY), average="specdec_bench", confidence_level=None)
    assert found["acceptance_length"] == pytest.approx(2.4511, abs=5e-5)
    twice = {"predictions": [*predictions, predictions[0]], "categories": [*PER_CATEGORY, "coding"]}
    over_requests = compute(**twice, average="specdec_bench", confidence_level=None)["acceptance_length"]
    assert over_requests == pytest.approx((sum(PER_CATEGORY.values()) + PER_CATEGORY["coding"]) / 12, abs=1e-12)
    lengths = {name: group["acceptance_length"] for name, group in found["per_category"].items()}
    assert lengths == pytest.approx(PER_CATEGORY, abs=1e-12)
    ours = compute(predictions, categories=list(PER_CATEGORY), confidence_level=None)
    assert ours["acceptance_length"] > found["acceptance_length"]


def test_the_published_rates_come_out_of_the_module_too():
    steps = [length for length, num in HISTOGRAM.items() for _ in range(num)]
    found = compute([steps], draft_length=3, confidence_level=None)
    published = [0.681151931368627, 0.6984444208791836, 0.7145509968116043]
    assert found["conditional_acceptance_rate"] == pytest.approx(published, abs=1e-12)
    assert found["histogram"] == HISTOGRAM


PAPER_TABLE_1 = {
    "coding": 3.00,
    "humanities": 2.34,
    "math": 2.45,
    "multilingual": 1.71,
    "qa": 2.35,
    "rag": 2.76,
    "reasoning": 2.61,
    "roleplay": 2.04,
    "stem": 2.39,
    "summarization": 2.59,
    "writing": 2.63,
}
"""Llama-3.3-70B with EAGLE3 in table 1 of arXiv 2604.09557; its mean is given as 2.44."""


def test_the_mean_of_the_table_is_the_unweighted_mean_of_its_categories():
    assert category_mean(list(PAPER_TABLE_1.values()), list(PAPER_TABLE_1)) == pytest.approx(2.44, abs=0.005)


def test_two_publications_of_the_same_pair_agree_within_the_stated_tolerance():
    assert max(abs(PAPER_TABLE_1[name] - PER_CATEGORY[name]) for name in PER_CATEGORY) <= 0.05
