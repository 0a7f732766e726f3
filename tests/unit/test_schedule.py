"""When conversations begin in an open loop: by a rate, or at the times of a trace that somebody wrote."""

import json
import time
from pathlib import Path

import numpy as np
import pytest

from speed_bench.errors import ConfigError
from speed_bench.load_config import LoadConfig
from speed_bench.runner.schedule import arrival_times, read_trace

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9951690,396,109
2023-11-16 18:16:00.0000000,900,200
"""


def load(**changes) -> LoadConfig:
    return LoadConfig(**{"concurrency": 8, "arrivals": "poisson", "rate": 4.0, **changes})


def write(tmp_path: Path, content: str | bytes, name: str = "trace") -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_constant_arrivals_begin_at_once_and_come_evenly() -> None:
    assert arrival_times(load(arrivals="constant"), 5, seed=0).tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_arrivals_of_a_process_do_not_begin_at_once() -> None:
    assert arrival_times(load(), 1, seed=0)[0] > 0


def test_over_the_ramp_the_first_half_has_a_quarter_of_the_arrivals() -> None:
    times = arrival_times(load(arrivals="constant", rate=10.0, ramp_up_s=20.0), 200, seed=0)
    assert [(times < at_s).sum() for at_s in (10.0, 20.0, 21.0, 22.0)] == [25, 100, 110, 120]


def test_the_same_seed_gives_the_same_times_and_another_seed_others() -> None:
    first, again, other = (arrival_times(load(), 20, seed=seed) for seed in (3, 3, 4))
    assert first.tolist() == again.tolist()
    assert not set(first) & set(other)


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 2])
def test_the_times_are_of_draws_that_nothing_else_makes_from_the_seed(seed: int) -> None:
    gaps = np.diff(arrival_times(load(rate=1.0), 10, seed=seed), prepend=0.0)
    others = [np.random.default_rng(words).standard_gamma(1.0, 10) for words in (seed, [seed], [seed, 0])]
    others += [np.random.default_rng(words).exponential(size=10) for words in (seed, [seed, 0])]
    assert not any(np.isclose(gaps, drawn, rtol=1e-6).any() for drawn in others)


def test_gamma_of_shape_one_is_poisson() -> None:
    assert arrival_times(load(arrivals="gamma"), 9, seed=5).tolist() == arrival_times(load(), 9, seed=5).tolist()


def test_nothing_begins_when_the_time_is_over() -> None:
    times = arrival_times(load(arrivals="constant", max_duration_s=1.0), 100, seed=0)
    assert times.tolist() == [0.0, 0.25, 0.5, 0.75]  # the one at 1.0 would be no longer in time
    assert arrival_times(load(rate=0.001, max_duration_s=1.0), 10, seed=0).tolist() == []


def test_a_closed_loop_has_no_arrival_times() -> None:
    with pytest.raises(ValueError, match="closed loop"):
        arrival_times(load(arrivals="closed", rate=None), 3, seed=0)


def test_without_a_rate_there_is_nothing_to_arrive_by() -> None:
    with pytest.raises(ValueError, match="without a rate"):
        arrival_times(load(rate=None), 3, seed=0)


@pytest.mark.parametrize(("num", "found"), [(0, []), (2, [0.0, 1.5]), (3, [0.0, 1.5, 4.0]), (9, [0.0, 1.5, 4.0])])
def test_of_a_trace_the_first_are_taken_or_as_many_as_there_are(tmp_path: Path, num: int, found: list[float]) -> None:
    path = write(tmp_path, "1.0\n2.5\n5.0\n")
    assert arrival_times(load(arrivals="trace", rate=None, trace=str(path)), num, seed=0).tolist() == found


def test_a_trace_ends_with_the_time_limit_too(tmp_path: Path) -> None:
    trace = load(arrivals="trace", rate=None, trace=str(write(tmp_path, "1\n2\n3\n4\n")), max_duration_s=2.0)
    assert arrival_times(trace, 9, seed=0).tolist() == [0.0, 1.0]


def test_what_comes_after_the_last_time_that_is_needed_is_not_read(tmp_path: Path) -> None:
    path = write(tmp_path, "1\n2\nnonsense\n")
    assert read_trace(path, 2).tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("content", "times_s"),
    [
        ("0\n0.5\n0.5\n2\n", [0.0, 0.5, 0.5, 2.0]),
        ("# seconds\n\n  10\r\n11.5  \n\n# the end", [0.0, 1.5]),
        ("\ufeff3\n4\n", [0.0, 1.0]),
        ("\ufeff# by hand\n3\n4\n", [0.0, 1.0]),
        ("1e2\n1.5e2\n", [0.0, 50.0]),
        ('{"timestamp_s": 1}\n{"timestamp_s": 1.25, "input_length": 7}\n', [0.0, 0.25]),
        ('# Mooncake\n{"timestamp_ms": 27482, "hash_ids": [46]}\n\n{"timestamp_ms": 30535}\n', [0.0, 3.053]),
        ('{"timestamp_ms": 1753780607550, "timestamp": "x"}\n{"timestamp_ms": 1753780607551}', [0.0, 0.001]),
        (AZURE, [0.0, 4.314579, 13.31941]),
        ("Tokens,TIMESTAMP\n7,2024-05-10 23:59:59.5+00:00\n7,2024-05-11 01:00:00+01:00\n", [0.0, 0.5]),
        ('"TIMESTAMP","Text"\n"2024-05-10 00:00:00","a, b"\n"2024-05-10 00:01:00","c"\n', [0.0, 60.0]),
    ],
)
def test_a_trace_is_read_in_each_of_its_forms(tmp_path: Path, content: str, times_s: list[float]) -> None:
    assert read_trace(write(tmp_path, content)).tolist() == pytest.approx(times_s, abs=2e-6)


def test_dates_without_a_zone_know_no_summer_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "TIMESTAMP\n2024-03-31 01:30:00\n2024-03-31 03:30:00\n")  # Berlin leaves out two to three
    with monkeypatch.context() as berlin:
        berlin.setenv("TZ", "Europe/Berlin")
        time.tzset()
        assert read_trace(path).tolist() == [0.0, 7200.0]
    time.tzset()


FORMS = "a trace is a number of seconds a line"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "holds no time; a trace is"),
        ("# only\n\n", "holds no time; a trace is"),
        ("TIMESTAMP\n", "holds no time; a trace is"),
        ("1\n# two\nsoon\n", f"line 3: 'soon' is no number of seconds; {FORMS}"),
        ("0.0 12 34\n", "line 1: '0.0 12 34' is no number of seconds"),
        ("Timestamp,Model\n1,gpt\n", "line 1: 'Timestamp,Model' is no number of seconds"),
        ("[0.0, 1.0]", "line 1: '[0.0, 1.0]' is no number of seconds"),
        ("x" * 500, f"line 1: '{'x' * 39}…' is no number of seconds"),
        ("0\x1b[2J\n", r"line 1: '0\x1b[2J' is no number of seconds"),
        ("0\nnan\n", "line 2: 'nan' is no time: it is not finite"),
        ("0\n1e999\n", "line 2: '1e999' is no time: it is not finite"),
        ("0\n1e300\n", "line 2: its time is more than 1e+07 s after the first one"),
        ("-1\n0\n", "line 1: '-1' is no time: it is negative"),
        ("1\n2\n1.5\n", "line 3: its time is earlier than that of the line before: the clock goes backwards"),
        (b"0\n\xff\xfe\n", "line 2: it is not UTF-8 text"),
        ('{"timestamp": 3}\n', "line 1: its 'timestamp' does not say its unit; rename it to 'timestamp_s'"),
        ('{"time": 3}\n', "line 1: it has no key timestamp_s or timestamp_ms"),
        ('{"timestamp_s": 3, "timestamp_ms": 3000}\n', "line 1: it has timestamp_s and timestamp_ms; keep one of them"),
        ('{"timestamp_s": 3}\n{"timestamp_ms": 3000}\n', "line 2: it has no number under 'timestamp_s'"),
        ('{"timestamp_s": 3}\n{"timestamp_s": "4"}\n', "line 2: it has no number under 'timestamp_s'"),
        ('{"timestamp_s": true}\n', "line 1: it has no number under 'timestamp_s'"),
        ('{"timestamp_s": 3}\n4\n', "line 2: '4' is no JSON object"),
        ('{"timestamp_s": 3}\n{"timestamp_s": 4', """line 2: '{"timestamp_s": 4' is no JSON object"""),
        ('{"timestamp_s": 3}\n{"a": ' + "[" * 99_999, "is no JSON object"),
        ('{"timestamp_s": NaN}\n', "line 1: 'nan' is no time: it is not finite"),
        ('{"timestamp_s": 1' + "0" * 400 + "}\n", "is no time: it is not finite"),
        ('{"timestamp_ms": -1}\n', "line 1: '-1' is no time: it is negative"),
        ('{"timestamp_ms": 2}\n{"timestamp_ms": 1}\n', "line 2: its time is earlier than that of the line before"),
        (f"{AZURE}yesterday,1,1\n", "line 5: 'yesterday' is no date with a time, such as 2024-05-10 00:00:00.25"),
        ("Tokens,TIMESTAMP\n7\n", "line 2: it has no column TIMESTAMP, which the header names"),
        (f"{AZURE}2023-11-16 18:15:59,1,1\n", "line 5: its time is earlier than that of the line before"),
        ("TIMESTAMP,Text\n" + "x" * 200_000, "is no line of CSV"),
    ],
)
def test_a_trace_that_cannot_be_read_is_a_sentence_with_file_and_line(
    tmp_path: Path, content: str | bytes, sentence: str
) -> None:
    path = write(tmp_path, content)
    with pytest.raises(ConfigError) as refused:
        read_trace(path)
    said = str(refused.value)
    assert said.startswith(f"--trace {path}")
    assert sentence in said
    assert "\n" not in said
    assert len(said) < len(str(path)) + 250


@pytest.mark.parametrize(("name", "why"), [("missing", "No such file or directory"), ("", "Is a directory")])
def test_a_file_that_cannot_be_opened_is_named_with_the_reason(tmp_path: Path, name: str, why: str) -> None:
    path = tmp_path / name
    with pytest.raises(ConfigError, match=f"--trace {path} cannot be read: {why}"):
        read_trace(path)


def test_a_bare_timestamp_can_be_told_its_unit(tmp_path: Path) -> None:
    """What the page about load advises for the traces of Mooncake."""
    rows = [{"timestamp": at, "input_length": 655, "hash_ids": [46, 47]} for at in (0, 10535, 27482)]
    lines = "\n".join(map(json.dumps, rows))
    with pytest.raises(ConfigError, match="does not say its unit"):
        read_trace(write(tmp_path, lines))
    assert read_trace(write(tmp_path, lines.replace('"timestamp"', '"timestamp_ms"'))).tolist() == [0, 10.535, 27.482]
