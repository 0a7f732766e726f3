"""Laws of arrival times: what holds for every rate, ramp and seed, and what draws must come to on average.

Averages are compared at fixed seeds, and may be off by five standard errors of the estimate: each test says what
that is.
"""

import json
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speed_bench.errors import ConfigError
from speed_bench.load_config import LoadConfig
from speed_bench.runner.schedule import arrival_times, read_trace

quick = settings(max_examples=80, deadline=None)
NUM = 20_000
STANDARD_ERRORS = 5

seeds = st.integers(0, 2**32 - 2)
loads = st.builds(
    lambda arrivals, rate, ramp_up_s, burstiness: LoadConfig(
        concurrency=1, arrivals=arrivals, rate=rate, ramp_up_s=ramp_up_s, burstiness=burstiness
    ),
    st.sampled_from(["constant", "poisson", "gamma"]),
    st.floats(0.01, 1000),
    st.sampled_from([0.0, 0.5, 60.0]),
    st.floats(0.05, 20),
)


def cumulative(times: np.ndarray, load: LoadConfig) -> np.ndarray:
    """How many arrivals are due by each time: the integral of the rate, by its definition."""
    climbed = np.minimum(times, load.ramp_up_s)
    ramp = climbed**2 / (2 * load.ramp_up_s) if load.ramp_up_s else 0.0
    return load.rate * (ramp + np.maximum(times - load.ramp_up_s, 0.0))


def gaps_of(arrivals: str, rate: float, seed: int, burstiness: float = 1.0) -> np.ndarray:
    load = LoadConfig(concurrency=1, arrivals=arrivals, rate=rate, burstiness=burstiness)
    return np.diff(arrival_times(load, NUM + 1, seed=seed))


@quick
@given(load=loads, num=st.integers(0, 300), seed=seeds)
def test_there_are_as_many_as_asked_for_and_they_ascend(load: LoadConfig, num: int, seed: int) -> None:
    times = arrival_times(load, num, seed=seed)
    assert len(times) == num
    assert np.isfinite(times).all()
    assert (np.diff(times, prepend=0.0) >= 0).all()


@quick
@given(load=loads, num=st.integers(0, 100), more=st.integers(0, 100), seed=seeds)
def test_a_longer_schedule_begins_with_the_shorter_one(load: LoadConfig, num: int, more: int, seed: int) -> None:
    longer = arrival_times(load, num + more, seed=seed)
    assert longer[:num].tolist() == arrival_times(load, num, seed=seed).tolist()


@quick
@given(load=loads, seed=seeds, share=st.floats(0.01, 1.2))
def test_a_time_limit_takes_off_what_would_begin_at_or_after_it(load: LoadConfig, seed: int, share: float) -> None:
    times = arrival_times(load, 50, seed=seed)
    limit_s = times[-1] * share
    cut = arrival_times(load.model_copy(update={"max_duration_s": limit_s}), 50, seed=seed)
    assert cut.tolist() == [at for at in times.tolist() if at < limit_s]


@quick
@given(load=loads, seed=seeds)
def test_on_the_cumulative_rate_a_ramp_leaves_the_process_as_it_is(load: LoadConfig, seed: int) -> None:
    steady = load.model_copy(update={"ramp_up_s": 0.0, "rate": 1.0})
    ramped = cumulative(arrival_times(load, 200, seed=seed), load)
    assert ramped == pytest.approx(arrival_times(steady, 200, seed=seed), rel=1e-9, abs=1e-9)


@quick
@given(load=loads, seed=seeds)
def test_after_the_ramp_the_gaps_are_those_of_the_full_rate(load: LoadConfig, seed: int) -> None:
    times = arrival_times(load, 300, seed=seed)
    unit = arrival_times(load.model_copy(update={"ramp_up_s": 0.0, "rate": 1.0}), 300, seed=seed)
    after = times >= load.ramp_up_s
    assert np.diff(times[after]) * load.rate == pytest.approx(np.diff(unit[after]), abs=1e-9 * (load.rate * times[-1]))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("arrivals", "burstiness"), [("poisson", 1.0), ("gamma", 0.1), ("gamma", 0.5), ("gamma", 1.0), ("gamma", 8.0)]
)
def test_the_mean_gap_is_one_over_the_rate(arrivals: str, burstiness: float, seed: int) -> None:
    """The mean of n gaps has the standard error 1 / (rate · √(n · burstiness))."""
    for rate in (0.2, 40.0):
        gaps = gaps_of(arrivals, rate, seed, burstiness)
        assert gaps.mean() * rate == pytest.approx(1, abs=STANDARD_ERRORS / math.sqrt(NUM * burstiness))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("arrivals", "burstiness"), [("poisson", 1.0), ("gamma", 0.1), ("gamma", 0.5), ("gamma", 1.0), ("gamma", 8.0)]
)
def test_the_squared_coefficient_of_variation_is_one_over_the_burstiness(
    arrivals: str, burstiness: float, seed: int
) -> None:
    """Of n gamma gaps of shape b its estimate has the standard error √(2 (1 + 1/b) / n) / b, by the delta method."""
    gaps = gaps_of(arrivals, 3.0, seed, burstiness)
    bound = STANDARD_ERRORS * math.sqrt(2 * (1 + 1 / burstiness) / NUM) / burstiness
    assert gaps.var() / gaps.mean() ** 2 == pytest.approx(1 / burstiness, abs=bound)


@pytest.mark.parametrize("seed", range(4))
def test_poisson_counts_of_neighbouring_spans_vary_as_much_as_their_mean_and_independently(seed: int) -> None:
    """The index of dispersion of k spans has the standard error √(2/k), their autocorrelation 1/√k."""
    load = LoadConfig(concurrency=1, arrivals="poisson", rate=5.0)
    counts, _ = np.histogram(arrival_times(load, NUM, seed=seed), bins=np.arange(0.0, 3801.0))
    num_spans = len(counts)
    assert counts.var() / counts.mean() == pytest.approx(1, abs=STANDARD_ERRORS * math.sqrt(2 / num_spans))
    neighbours = np.corrcoef(counts[:-1], counts[1:])[0, 1]
    assert neighbours == pytest.approx(0, abs=STANDARD_ERRORS / math.sqrt(num_spans))


@pytest.mark.parametrize("seed", range(4))
def test_a_poisson_ramp_brings_rate_times_half_its_length_and_then_the_rate(seed: int) -> None:
    """Counts of a Poisson process have the standard deviation √mean."""
    load = LoadConfig(concurrency=1, arrivals="poisson", rate=50.0, ramp_up_s=200.0)
    times = arrival_times(load, NUM, seed=seed)
    for begin_s, end_s, expected in ((0, 200, 5000), (0, 100, 1250), (190, 200, 487.5), (200, 250, 2500)):
        count = ((times >= begin_s) & (times < end_s)).sum()
        assert count == pytest.approx(expected, abs=STANDARD_ERRORS * math.sqrt(expected))


@quick
@given(rate=st.floats(0.1, 500), ramp_up_s=st.floats(0.1, 100))
def test_a_constant_ramp_brings_exactly_that_many(rate: float, ramp_up_s: float) -> None:
    expected = rate * ramp_up_s / 2
    load = LoadConfig(concurrency=1, arrivals="constant", rate=rate, ramp_up_s=ramp_up_s)
    times = arrival_times(load, math.ceil(expected) + 3, seed=0)
    assert (times < ramp_up_s * (1 - 1e-9)).sum() <= math.ceil(expected) <= (times < ramp_up_s * (1 + 1e-9)).sum()
    assert np.diff(times)[-1] == pytest.approx(1 / rate)


moments = st.lists(st.integers(0, 10**9), min_size=1, max_size=30).map(sorted)


@quick
@given(seconds=st.lists(st.floats(0, 1e6), min_size=1, max_size=30).map(sorted))
def test_a_written_trace_of_seconds_is_read_back_exactly(
    seconds: list[float], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "seconds"
    path.write_text("\n".join(map(repr, [0.0, *seconds])))
    assert read_trace(path).tolist() == [0.0, *seconds]


@quick
@given(millis=moments)
def test_every_form_of_one_trace_gives_the_same_times(
    millis: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    began = datetime(2024, 5, 10, tzinfo=UTC)
    forms = {
        "seconds": [str(at / 1000) for at in millis],
        "json-s": [json.dumps({"timestamp_s": at / 1000}) for at in millis],
        "json-ms": [json.dumps({"timestamp_ms": at}) for at in millis],
        "csv": ["TIMESTAMP,ContextTokens", *(f"{began + timedelta(milliseconds=at)},7" for at in millis)],
    }
    expected = [(at - millis[0]) / 1000 for at in millis]
    for name, lines in forms.items():
        assert read_trace(written(tmp_path_factory, name, lines)).tolist() == pytest.approx(expected, abs=1e-6)


@quick
@given(millis=st.lists(st.integers(0, 10**6), min_size=2, max_size=30))
def test_a_clock_that_goes_backwards_is_refused_at_its_first_step_back(
    millis: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = written(tmp_path_factory, "shuffled", map(str, millis))
    back = next((number for number, at in enumerate(millis) if at < millis[number - 1] and number), None)
    if back is None:
        assert len(read_trace(path)) == len(millis)
    else:
        with pytest.raises(ConfigError, match=f"line {back + 1}: .*backwards"):
            read_trace(path)


def written(tmp_path_factory: pytest.TempPathFactory, name: str, lines) -> Path:
    path = tmp_path_factory.getbasetemp() / name
    path.write_text("\n".join(lines))
    return path
