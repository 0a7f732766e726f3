"""The function behind each module, and small input for it that uses most of its options."""

from typing import Any

from speed_bench.metrics import acceptance, speedup, throughput

TWO_ROWS = {"rows": ["a/0", "b/0"], "settings": {"temperature": 0, "max_tokens": 8, "concurrency": 1}}
ARRIVALS = [[[0.5, 1], [1.0, 3]], [[2.0, 4], [2.5, 1]]]
SMALL: dict[str, dict[str, Any]] = {
    "speed_bench_acceptance": {
        "predictions": [[4, 3, 1], [1, 2]],
        "drafted": [[3, 3, 0], [3, 2]],
        "accepted": [[3, 2, 0], [0, 2]],
        "last_step": ["complete", "cut"],
        "categories": ["math", "qa"],
    },
    "speed_bench_throughput": {
        "predictions": ARRIVALS,
        "start_s": [0.0, 0.5],
        "slots": [0, 1],
        "num_gpus": 2,
        "slo": {"ttft_s": 1.0},
    },
    "speed_bench_speedup": {
        "predictions1": [[5, None, 7, 8], [1, 2, 3, 4, 5]],
        "predictions2": [[5, 6, 7, 8], [1, 2, 9, 4, 5]],
        "run1": {**TWO_ROWS, "arrivals": ARRIVALS, "start_s": [0.0, 0.5], "steps": [[3], [4]]},
        "run2": {**TWO_ROWS, "arrivals": ARRIVALS, "start_s": [0.0, 0.5], "steps": [[1, 1, 1], [1, 3]]},
    },
}
FUNCTIONS = {
    "speed_bench_acceptance": acceptance.compute,
    "speed_bench_throughput": throughput.compute,
    "speed_bench_speedup": speedup.compute,
}
