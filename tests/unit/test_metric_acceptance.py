"""The acceptance module on plain lists: what each option does, and what it says to input that cannot be."""

import numpy as np
import pytest

from speed_bench.errors import MetricInputError, UndefinedMetric
from speed_bench.metrics.acceptance import compute

CATEGORIES = ["math", "math", "qa"]
CONVERSATIONS = ["a", "b", "c"]


def values(predictions, **options):
    return compute(predictions, **{"confidence_level": None, **options})


def test_the_average_is_chosen_by_name():
    run = {"predictions": [[4], [1, 1], [2, 2, 2, 2]], "categories": CATEGORIES}
    lengths = {
        name: values(**run, average=name)["acceptance_length"]
        for name in ("category", "conversation", "pooled", "specdec_bench")
    }
    assert lengths == {
        "category": ((4 + 1) / 2 + 2) / 2,
        "conversation": (4 + 1 + 2) / 3,
        "pooled": 14 / 7,
        "specdec_bench": pytest.approx((5 / 2 + 3 / 3 + 9 / 5) / 3),
    }
    assert values(**run)["average"] == "category"


def test_turns_of_one_conversation_are_pooled():
    apart = values([[4], [1, 1]])
    together = values([[4], [1, 1]], conversations=["a", "a"])
    assert apart["acceptance_length"] == 2.5
    assert together["acceptance_length"] == 2.0
    assert (apart["num_conversations"], together["num_conversations"]) == (2, 1)


def test_without_drafts_what_is_counted_of_them_is_none():
    found = values([[4, 1], [2]])
    assert found["acceptance_length"] == 2.25
    assert found["joint_acceptance_rate"] == [2 / 3, 1 / 3, 1 / 3]
    assert found["histogram"] == {1: 1, 2: 1, 3: 0, 4: 1}
    unknown = ("acceptance_length_drafted", "acceptance_length_uncensored", "draft_acceptance_rate")
    assert [found[name] for name in (*unknown, "conditional_acceptance_rate")] == [None] * 4


def test_a_draft_length_is_what_every_step_drafted():
    found = values([[4, 1], [2]], draft_length=3)
    assert found["draft_acceptance_rate"] == 4 / 9
    assert found["conditional_acceptance_rate"] == [2 / 3, 0.5, 1.0]
    assert found["acceptance_length_drafted"] == 7 / 3


def test_drafts_say_which_steps_were_plain_and_which_were_short():
    found = values([[4, 1, 1], [2]], drafted=[[3, 0, 2], [1]])
    assert found["draft_acceptance_rate"] == 4 / 6
    assert found["conditional_acceptance_rate"] == [2 / 3, 1.0, 1.0]
    assert found["acceptance_length_drafted"] == 7 / 3


def test_verified_counts_show_what_a_cut_hid():
    run = {"predictions": [[4, 2]], "drafted": [[3, 3]]}
    assert values(**run)["draft_acceptance_rate"] == 4 / 6
    assert values(**run, accepted=[[3, 3]])["draft_acceptance_rate"] == 1.0
    assert values(**run, accepted=[[3, 3]])["conditional_acceptance_rate"] == [1.0, 1.0, 1.0]
    assert values(**run, accepted=[[3, 3]])["acceptance_length"] == 3.0


def test_a_cut_leaves_unknown_how_many_drafts_were_right():
    for last_step, rates in (("cut", [1.0, 1.0, 1.0]), ("unknown", [1.0, 1.0, 1.0]), ("complete", [1.0, 0.5, 1.0])):
        found = values([[4, 2]], draft_length=3, last_step=last_step)
        assert found["conditional_acceptance_rate"] == rates
        assert (found["draft_acceptance_rate"] is None) == (last_step != "complete")
        assert found["acceptance_length"] == 3.0


def test_a_turn_without_a_step_hides_nothing_of_what_was_accepted():
    run = {"predictions": [[], [2]], "conversations": ["a", "a"], "last_step": ["unknown", "complete"]}
    assert values(**run, draft_length=3)["draft_acceptance_rate"] == 1 / 3


def test_a_one_token_answer_is_a_turn_without_steps():
    found = values([[], [2]], categories=["math", "qa"])
    assert (found["num_turns"], found["num_turns_without_steps"], found["num_steps"]) == (2, 1, 1)
    assert found["acceptance_length"] == 2.0
    assert found["per_category"]["math"]["acceptance_length"] is None
    assert found["per_category"]["math"]["num_steps"] == 0


def test_intervals_begin_at_eight_conversations_and_can_be_left_out():
    seven, eight = ([[1 + number % 3] * 4 for number in range(num)] for num in (7, 8))
    assert compute(seven, draft_length=3)["confidence_interval"]["acceptance_length"] is None
    found = compute(eight, draft_length=3)
    low, high = found["confidence_interval"]["acceptance_length"]
    assert low < found["acceptance_length"] < high
    narrow = compute(eight, draft_length=3, confidence_level=0.5)["confidence_interval"]["acceptance_length"]
    assert low < narrow[0] < narrow[1] < high
    assert len(found["confidence_interval"]["conditional_acceptance_rate"]) == 3
    assert compute(eight, confidence_level=None)["confidence_interval"] is None
    assert compute(eight)["confidence_interval"]["conditional_acceptance_rate"] is None


def test_a_position_without_a_trial_is_none_and_its_vector_is_not():
    found = values([[1]], draft_length=1, last_step="unknown")
    assert found["conditional_acceptance_rate"] == [None]
    assert values([[1, 1]], drafted=[[0, 0]])["conditional_acceptance_rate"] == []


def test_the_interval_of_equal_lengths_is_their_length_however_unequal_the_categories():
    found = compute([[1, 1]] * 10, categories=["a"] * 9 + ["b"])
    assert found["confidence_interval"]["acceptance_length"] == pytest.approx([1.0, 1.0])


def test_joint_rates_have_intervals_and_unequal_categories_weigh_the_same():
    predictions = [[1 + number % 4, 2] for number in range(12)] + [[3, 3]] * 2
    names = ["a"] * 12 + ["b"] * 2
    found = compute(predictions, categories=names)
    alone = compute(predictions[:12])["confidence_interval"]["acceptance_length"]
    expected = [(bound + 3.0) / 2 for bound in alone]  # category b is 3.0, whatever is drawn
    assert found["confidence_interval"]["acceptance_length"] == pytest.approx(expected, abs=0.03)
    assert all(
        bounds[0] <= rate <= bounds[1]
        for bounds, rate in zip(
            found["confidence_interval"]["joint_acceptance_rate"], found["joint_acceptance_rate"], strict=True
        )
    )


def test_numpy_arrays_of_integers_are_lists_of_integers():
    plain = values([[4, 1], [2, 2]], draft_length=3)
    assert values(np.array([[4, 1], [2, 2]]), draft_length=np.int64(3)) == plain
    assert values([np.array([4, 1], dtype=np.int32), (2, 2)], draft_length=3) == plain
    assert values([range(4, 5), [2]], conversations=np.array([7, 7])) == values([[4], [2]], conversations=[7, 7])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"predictions": []}, "predictions is empty: it takes one list of tokens emitted per decode step per turn"),
        ({"predictions": None}, "predictions is one list of tokens emitted per decode step per turn, not None"),
        ({"predictions": "12"}, "predictions is one list of tokens emitted per decode step per turn, not '12', a str"),
        ({"predictions": [3, 1]}, "predictions[0] is a list of tokens emitted per decode step, not 3"),
        ({"predictions": [[2], [3, 1.5]]}, "predictions[1][1] is 1.5, a float (request 1, step 1): tokens emitted"),
        ({"predictions": [[2], [3, 2.0]]}, "predictions[1][1] is 2.0, a float (request 1, step 1)"),
        ({"predictions": [["3"]]}, "predictions[0][0] is '3', a str (request 0, step 0)"),
        ({"predictions": [[True]]}, "predictions[0][0] is True, a bool (request 0, step 0)"),
        ({"predictions": [[None]]}, "predictions[0][0] is None (request 0, step 0)"),
        ({"predictions": [[float("nan")]]}, "predictions[0][0] is nan, a float (request 0, step 0)"),
        ({"predictions": [[2, 0]]}, "predictions[0][1] is 0 (request 0, step 1)"),
        ({"predictions": [[2, -1]]}, "predictions[0][1] is -1 (request 0, step 1)"),
        ({"predictions": [[2**40]]}, "predictions[0][0] is 1099511627776 (request 0, step 0)"),
        ({"predictions": np.array([[1.0, 2.0]])}, "predictions[0][0] is 1.0, a float (request 0, step 0)"),
        (
            {"draft_length": 3, "predictions": [[2], [5]]},
            "predictions[1][0] is 5 (request 1, step 0): a step that",
        ),
        ({"draft_length": 1.5}, "draft_length is 1.5, a float: tokens drafted per step are whole numbers from 0"),
        ({"drafted": [[3]]}, "drafted has 1 turns, predictions has 3"),
        ({"drafted": [[3], [3], [3]]}, "drafted[1] has 1 steps, predictions[1] has 2 (request 1)"),
        (
            {"drafted": [[0], [3, 3], [3]]},
            "predictions[0][0] is 2 (request 0, step 0): a step that",
        ),
        (
            {"drafted": [[9], [3, 3], [3]], "draft_length": 3},
            "drafted[0][0] is 9 (request 0, step 0): more",
        ),
        ({"accepted": [[1], [1, 1], [1]]}, "accepted is given without drafted"),
        (
            {"drafted": [[3], [3, 3], [3]], "accepted": [[1], [4, 0], [0]]},
            "accepted[1][0] is 4 (request 1, step 0): more than the 3 drafted",
        ),
        (
            {"drafted": [[3], [3, 3], [3]], "accepted": [[0], [0, 0], [0]]},
            "predictions[0][0] is 2 (request 0, step 0): a step that accepted 0 emits at most one more",
        ),
        (
            {"drafted": [[3], [3, 3], [3]], "accepted": [[1], [3, 0], [0]]},
            "predictions[1][0] is 1 (request 1, step 0): only the last step can show fewer than 3 + 1",
        ),
        ({"categories": ["math"]}, "categories has 1 entries for 3 turns"),
        ({"categories": ["math", None, "qa"]}, "categories[1] is None (request 1): it is a name, a string"),
        ({"categories": ["math", "", "qa"]}, "categories[1] is '', a str (request 1)"),
        ({"conversations": ["a", "b"]}, "conversations has 2 entries for 3 turns"),
        ({"conversations": ["a", "b", 1.5]}, "conversations[2] is 1.5, a float (request 2): an id is a string or"),
        (
            {"conversations": ["a", "a", "b"], "categories": ["math", "qa", "qa"]},
            "categories[1] is 'qa' (request 1), but an earlier turn of conversation 'a' is in 'math'",
        ),
        ({"average": "categories"}, "unknown average 'categories'; did you mean 'category'?"),
        ({"last_step": ["complete", "cutt", "cut"]}, "unknown last_step[1] 'cutt'; did you mean 'cut'?"),
        ({"last_step": "torn"}, "unknown last_step 'torn'"),
        ({"last_step": ["cut"], "draft_length": 3}, "last_step has 1 entries for 3 turns"),
        ({"last_step": "cut", "drafted": [[3], [3, 3], [0]]}, "predictions[2][0] is 1 (request 2, step 0): a cut step"),
        (
            {"drafted": [[3], [3, 3], [3]], "accepted": [[1], [1, 1], [0]], "last_step": "cut"},
            "predictions[0][0] is 2 (request 0, step 0): a cut step shows accepted drafts alone, and it accepted 1",
        ),
        ({"predictions": [np.array(3)]}, "predictions[0] is a list of tokens emitted per decode step, not array(3)"),
        ({"predictions": {"a": [1]}}, "predictions is one list of tokens emitted per decode step per turn, not {'a'"),
        ({"predictions": [[2], [5012, 3321]]}, "predictions[1][0] is 5012 (request 1, step 0)"),
        ({"resamples": 0}, "resamples is 0: resamples are whole numbers from 1"),
        ({"resamples": "10"}, "resamples is '10', a str"),
        ({"resamples": True}, "resamples is True, a bool"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 1.0}, "seed is 1.0, a float"),
        ({"confidence_level": 0.9999999999999999}, "confidence_level is 0.9999999999999999"),
        ({"confidence_level": 95}, "confidence_level is 95: it is a number between 0 and 1"),
        ({"confidence_level": float("nan")}, "confidence_level is nan"),
    ],
)
def test_input_that_cannot_be_is_refused_in_a_sentence_that_names_its_place(options, sentence):
    given = {"predictions": [[2], [1, 1], [1]], **options}
    with pytest.raises(MetricInputError) as refused:
        compute(**given)
    assert sentence in str(refused.value)
    assert isinstance(refused.value, ValueError)


@pytest.mark.parametrize("predictions", [[[]], [[], []]])
def test_input_without_a_decode_step_has_no_value(predictions):
    with pytest.raises(UndefinedMetric, match=f"no decode step in {len(predictions)} turns"):
        compute(predictions)
