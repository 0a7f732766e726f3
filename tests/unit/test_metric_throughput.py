"""The throughput module on plain lists."""

import numpy as np
import pytest

from speed_bench.errors import MetricInputError, UndefinedMetric
from speed_bench.metrics.throughput import compute, pairs

TWO = {"predictions": [[(0.5, 1), (1.0, 3)], [(2.0, 4)]], "start_s": [0.0, 0.5]}


def closed_loop(num_turns: int, *, streams: int = 2, step_s: float = 1.0) -> dict:
    """Streams that each send one request after the other: one token after a step, then three."""
    run = {"predictions": [], "start_s": [], "slots": []}
    for stream in range(streams):
        for number in range(num_turns):
            start_s = number * 3 * step_s + stream * 0.1
            run["predictions"].append([(start_s + step_s, 1), (start_s + 3 * step_s, 3)])
            run["start_s"].append(start_s)
            run["slots"].append(stream)
    return run


def test_throughputs_are_of_the_whole_span_and_per_gpu():
    found = compute(**TWO, num_gpus=4)
    assert (found["output_tps"], found["output_tps_per_gpu"]) == (4.0, 1.0)
    assert compute(**TWO)["output_tps_per_gpu"] is None
    assert (found["num_requests"], found["num_output_tokens"]) == (2, 8)


def test_latencies_have_a_mean_percentiles_and_a_number_of_observations():
    found = compute(**TWO)
    assert found["ttft_s"]["mean"] == 1.0
    assert (found["ttft_s"]["n"], found["tpot_s"]["n"], found["itl_s"]["n"]) == (2, 1, 3)
    assert found["e2e_s"]["p50"] == 1.25
    assert set(found["itl_s"]) == {"mean", "p50", "p90", "p95", "p99", "n"}


def test_the_steady_state_needs_to_know_the_streams():
    run = closed_loop(6)
    found = compute(**run)
    assert found["output_tps"] == pytest.approx(48 / 18.1)
    assert found["steady_output_tps"] == pytest.approx((4 * 12 - 2 - 3) / (18.0 - 1.1))
    del run["slots"]
    assert compute(**run)["steady_output_tps"] is None
    assert compute(**run)["confidence_interval"]["output_tps"] is None


def test_a_short_run_has_no_steady_state():
    assert compute(**closed_loop(3))["steady_output_tps"] is None


def test_goodput_counts_requests_that_kept_every_limit():
    assert compute(**TWO)["goodput_rps"] is None
    assert compute(**TWO, slo={"ttft_s": 1.5})["goodput_rps"] == 1.0
    assert compute(**TWO, slo={"ttft_s": 1.5, "e2e_s": 1.0})["goodput_rps"] == 0.5
    assert compute(**TWO, slo={"tpot_s": np.float32(0.1)})["goodput_rps"] == 0.5
    assert compute([[(0.0, 1)]], start_s=[0.0], slo={"ttft_s": 1})["goodput_rps"] is None


def test_means_have_intervals_over_conversations():
    run = closed_loop(10)
    intervals = compute(**run)["confidence_interval"]
    assert intervals["ttft_s"] == pytest.approx([1.0, 1.0])
    assert intervals["output_tps"] == pytest.approx([80 / 30.1] * 2)
    pooled = compute(**run, conversations=[f"c{number % 4}" for number in range(20)])["confidence_interval"]
    assert pooled["ttft_s"] is None
    assert compute(**run, confidence_level=None)["confidence_interval"] is None


def test_what_was_stored_as_floats_becomes_whole_again():
    assert compute(pairs([[[0.5, 1.0], [1.0, 3.0]], [[2.0, 4.0]]]), start_s=[0.0, 0.5]) == compute(**TWO)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"predictions": []}, "predictions is empty"),
        ({"predictions": [[(0.5, 1)], 3]}, "predictions[1] is a list of arrivals [time_s, num_tokens], not 3"),
        ({"predictions": [[(0.5, 1)], [2.0]]}, "predictions[1][0] is a pair [time_s, num_tokens], not 2.0, a float"),
        ({"predictions": [[(0.5, 1)], [(2.0, 1, 1)]]}, "predictions[1][0] has 3 values (request 1)"),
        ({"predictions": [[(0.5, 1)], [(2.0, 1.0)]]}, "predictions[1][0][1] is 1.0, a float (request 1, arrival 0)"),
        ({"predictions": [[(0.5, 1)], [(2.0, 0)]]}, "predictions[1][0][1] is 0 (request 1, arrival 0)"),
        ({"predictions": [[(0.5, 1)], [("2", 1)]]}, "predictions[1][0][0] is '2', a str (request 1)"),
        ({"predictions": [[(0.5, 1)], [(float("nan"), 1)]]}, "predictions[1][0][0] is nan, a float (request 1)"),
        (
            {"predictions": [[(0.5, 1)], [(2.0, 1), (1.0, 1)]]},
            "predictions[1][1] is at 1.0 s, before the arrival at 2.0 s",
        ),
        ({"start_s": [0.0]}, "start_s has 1 entries for 2 turns"),
        ({"start_s": [0.0, True]}, "start_s[1] is True, a bool (request 1)"),
        ({"start_s": [0.0, 2.5]}, "start_s[1] is 2.5 s (request 1), after its first arrival at 2.0 s"),
        ({"predictions": [[(10**400, 1)], []], "start_s": [0.0, 0.0]}, "(request 0): a time is seconds, below 1e11"),
        ({"predictions": [[(0.5, 10**9)], []]}, "predictions[0][0][1] is 1000000000 (request 0, arrival 0)"),
        ({"slots": [3, 3]}, "slots[1] is 3 (request 1), a stream whose request 0 had not ended"),
        ({"seeds": [0, 0.5]}, "seeds[1] is 0.5, a float (request 1)"),
        ({"slots": [0, -1]}, "slots[1] is -1 (request 1)"),
        ({"num_gpus": 0}, "num_gpus is 0: numbers of GPUs are whole numbers from 1"),
        ({"slo": {"ttft": 1.0}}, "unknown slo term 'ttft'; did you mean 'ttft_s'?"),
        ({"slo": {"ttft_s": -1.0}}, "slo['ttft_s'] is -1.0: a limit is a number of seconds above 0"),
        ({"slo": 1.0}, "slo is a dict with limits in seconds"),
    ],
)
def test_input_that_cannot_be_is_refused_in_a_sentence_that_names_its_place(options, sentence):
    with pytest.raises(MetricInputError) as refused:
        compute(**{**TWO, **options})
    assert sentence in str(refused.value)


def test_requests_without_a_token_have_no_value():
    with pytest.raises(UndefinedMetric, match="no token arrived in 2 requests"):
        compute([[], []], start_s=[0.0, 0.0])
    assert compute([[(1.0, 2)], []], start_s=[0.0, 0.0])["num_requests_without_tokens"] == 1
