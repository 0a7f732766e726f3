"""The settings of a load: what can be asked for, what contradicts itself, and that the page about load says it all."""

from pathlib import Path

import pytest

from speed_bench.config import resolve
from speed_bench.errors import ConfigError
from speed_bench.load_config import LoadConfig, SloTerm, slo_term
from speed_bench.protocols import MAX_CONCURRENCY, MIN_PROMPTS, PROTOCOLS

PAGE = Path(__file__).parent.parent.parent / "docs" / "load.md"
OPEN = {"arrivals": "poisson", "rate": 2.0}


def refusal(**settings) -> str:
    with pytest.raises(ConfigError) as refused:
        resolve(settings)
    return str(refused.value)


def test_a_load_is_a_closed_loop_of_all_prompts_unless_said_otherwise() -> None:
    load = LoadConfig(concurrency=4)
    assert load.arrivals == "closed"
    assert (load.rate, load.trace, load.max_duration_s, load.num_prompts, load.workers, load.num_gpus) == (None,) * 6
    assert (load.ramp_up_s, load.warmup_s, load.think_time_s, load.slo_terms) == (0.0, 0.0, 0.0, ())
    assert not load.repeat_prompts


@pytest.mark.parametrize(
    "settings",
    [
        {"ramp_up_s": 2.0, "max_duration_s": 60.0, "think_time_s": 1.0},
        OPEN | {"ramp_up_s": 10.0, "warmup_s": 20.0, "max_duration_s": 60.0},
        OPEN | {"ramp_up_s": 60.0, "max_duration_s": 60.0},
        {"arrivals": "constant", "rate": 0.5},
        {"arrivals": "gamma", "rate": 0.5, "burstiness": 0.25},
        {"arrivals": "trace", "trace": "times.txt", "warmup_s": 5.0, "max_duration_s": 60.0},
        {"limit_per_category": None, "num_prompts": 40, "repeat_prompts": True},
    ],
)
def test_what_goes_together_is_taken_as_it_is(settings: dict) -> None:
    config, protocol = resolve({"concurrency": 1, **settings})
    assert {key: getattr(config, key) for key in settings} == settings
    assert protocol.name == "custom" or not set(settings) & set(PROTOCOLS["quick"])


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"rate": 2.0}, "--rate is of an open loop; say which: --arrivals constant, poisson or gamma"),
        ({"trace": "t"}, "--trace is of an open loop; say so: --arrivals trace"),
        ({"warmup_s": 2.0}, "--warmup is of an open loop; in a closed one the steady span begins by itself"),
        ({"arrivals": "trace"}, "--arrivals trace needs the file with the times: --trace FILE"),
        (
            {"arrivals": "trace", "trace": "t", "rate": 2.0},
            "a trace says when conversations begin; leave out --rate and --ramp-up",
        ),
        (
            {"arrivals": "trace", "trace": "t", "ramp_up_s": 2.0},
            "a trace says when conversations begin; leave out --rate and --ramp-up",
        ),
        ({"arrivals": "gamma"}, "--arrivals gamma needs the conversations per second: --rate N"),
        (OPEN | {"trace": "t"}, "--trace is read with --arrivals trace, not with poisson"),
        (OPEN | {"burstiness": 0.5}, "--burstiness is of --arrivals gamma"),
        ({"burstiness": 0.5}, "--burstiness is of --arrivals gamma"),
        (
            OPEN | {"warmup_s": 60.0, "max_duration_s": 60.0},
            "--warmup is not over before --max-duration is: nothing would be left to measure",
        ),
        (
            OPEN | {"ramp_up_s": 61.0, "max_duration_s": 60.0},
            "--ramp-up is not over before --max-duration is: the load would never be reached",
        ),
        (
            {"ramp_up_s": 61.0, "max_duration_s": 60.0},
            "--ramp-up is not over before --max-duration is: the load would never be reached",
        ),
        (
            {"limit_per_category": None, "num_prompts": 4, "prompts_per_stream": 4},
            "num_prompts and prompts_per_stream exclude each other",
        ),
        ({"repeat_prompts": True}, "--repeat-prompts says nothing without --num-prompts"),
        (
            {"num_prompts": 4, "limit_per_category": 1},
            "--limit-per-category and --num-prompts exclude each other",
        ),
        (
            {"prompts_per_stream": 4, "limit_per_category": 1},
            "--limit-per-category and prompts_per_stream exclude each other",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_a_sentence(settings: dict, sentence: str) -> None:
    assert refusal(**settings) == sentence


@pytest.mark.parametrize("value", [0, -1.5, float("nan"), float("inf"), "fast"])
@pytest.mark.parametrize("key", ["rate", "burstiness", "max_duration_s"])
def test_a_rate_a_shape_or_a_limit_is_positive_and_finite(key: str, value: float | str) -> None:
    assert f"{key}: " in refusal(**{"arrivals": "gamma", "rate": 1.0, key: value})


def test_a_rate_so_low_that_the_next_conversation_would_not_begin_is_refused() -> None:
    assert refusal(arrivals="poisson", rate=1e-300).startswith("--rate 1e-300: the next conversation would begin in")
    assert resolve({"concurrency": 1, "arrivals": "poisson", "rate": 1e-6})[0].rate == 1e-6


@pytest.mark.parametrize("value", [-0.5, float("nan"), float("inf"), "soon"])
@pytest.mark.parametrize("key", ["ramp_up_s", "warmup_s", "think_time_s"])
def test_a_span_is_not_negative(key: str, value: float | str) -> None:
    assert f"{key}: " in refusal(**OPEN, **{key: value})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("concurrency", 0),
        ("concurrency", 4097),
        ("concurrency", 1.5),
        ("num_prompts", 0),
        ("num_prompts", 10**24),
        ("think_time_s", 1e300),
        ("max_duration_s", 1e300),
        ("prompts_per_stream", 0),
        ("num_gpus", 0),
        ("workers", 0),
        ("workers", 257),
        ("arrivals", "poison"),
        ("slo", 3),
    ],
)
def test_a_value_that_cannot_be_is_named_with_its_key(key: str, value: object) -> None:
    said = refusal(**{"limit_per_category": None, key: value})
    assert said.startswith(f"{key}: ")
    assert said.endswith(f"(got {value!r})")


@pytest.mark.parametrize(
    ("text", "term"),
    [
        ("ttft_s:p95=0.5", SloTerm("ttft_s", 95.0, 0.5)),
        (" tpot_s:p99.9=5e-2\n", SloTerm("tpot_s", 99.9, 0.05)),
        ("e2e_s:p100=30", SloTerm("e2e_s", 100.0, 30.0)),
    ],
)
def test_an_slo_is_a_time_a_percentile_and_seconds(text: str, term: SloTerm) -> None:
    assert slo_term(text) == term


HOW = "write it as TERM:pPERCENTILE=SECONDS, such as ttft_s:p95=0.5"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("ttft_s=0.5", f"--slo 'ttft_s=0.5' has no percentile; {HOW}"),
        ("ttft_s:=0.5", f"--slo 'ttft_s:=0.5' has no percentile; {HOW}"),
        ("ttft_s:p=0.5", f"--slo 'ttft_s:p=0.5' has no percentile; {HOW}"),
        ("", f"--slo ''; {HOW}"),
        ("ttft_s:p95", f"--slo 'ttft_s:p95'; {HOW}"),
        ("ttft_s:p-5=1", f"--slo 'ttft_s:p-5=1'; {HOW}"),
        ("ttft_s:p95 = 1", f"--slo 'ttft_s:p95 = 1'; {HOW}"),
        ("ttft_s:p95<0.5", f"--slo 'ttft_s:p95<0.5'; {HOW}"),
        ("ttft:p95=0.5", "--slo 'ttft:p95=0.5': 'ttft' is none of ttft_s, tpot_s, e2e_s"),
        ("ttft_s:p95=500ms", f"--slo 'ttft_s:p95=500ms': '500ms' is no positive number of seconds; {HOW}"),
        ("ttft_s:p95=0", f"--slo 'ttft_s:p95=0': '0' is no positive number of seconds; {HOW}"),
        ("ttft_s:p95=-1", f"--slo 'ttft_s:p95=-1': '-1' is no positive number of seconds; {HOW}"),
        ("ttft_s:p95=nan", f"--slo 'ttft_s:p95=nan': 'nan' is no positive number of seconds; {HOW}"),
        ("ttft_s:p95=inf", f"--slo 'ttft_s:p95=inf': 'inf' is no positive number of seconds; {HOW}"),
        ("ttft_s:p0=1", "--slo 'ttft_s:p0=1': a percentile lies above 0 and is at most 100"),
        ("ttft_s:p101=1", "--slo 'ttft_s:p101=1': a percentile lies above 0 and is at most 100"),
        ("ttft_s:p0.0=1", "--slo 'ttft_s:p0.0=1': a percentile lies above 0 and is at most 100"),
    ],
)
def test_an_slo_that_cannot_be_read_says_how_it_is_written(text: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as refused:
        slo_term(text)
    assert str(refused.value) == sentence
    assert refusal(slo=text) == sentence


def test_several_demands_are_kept_in_order_but_one_time_is_not_demanded_twice() -> None:
    demands = ("tpot_s:p50=0.05", "ttft_s:p95=0.5")
    assert resolve({"slo": list(demands)})[0].slo_terms == (SloTerm("tpot_s", 50, 0.05), SloTerm("ttft_s", 95, 0.5))
    assert refusal(slo=(*demands, "ttft_s:p50=0.1")).startswith("--slo names a time twice: tpot_s:p50=0.05, ")


def table(heading: str) -> list[list[str]]:
    """The rows of the first table below a heading of the page, without its head."""
    section = PAGE.read_text("utf-8").split(f"\n{heading}\n", 1)[1].split("\n## ")[0]
    rows = [line.strip("|").split(" | ") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def shown(value: object) -> str:
    """A value as a table of the page shows it."""
    match value:
        case None | ():
            return "none"
        case bool():
            return "yes" if value else "no"
        case str():
            return f"`{value}`"
        case int() | float():
            return f"{value:g}"
    return ", ".join(map(str, value))


FLAGS = {
    "ramp_up_s": "--ramp-up",
    "warmup_s": "--warmup",
    "think_time_s": "--think-time",
    "max_duration_s": "--max-duration",
    "num_gpus": "--gpus",
    "prompts_per_stream": "–",
}
"""Of settings whose flag is not their name."""


def test_the_page_about_load_has_every_setting_once_with_its_flag_and_default() -> None:
    rows = table("## Settings")
    defaults = LoadConfig(concurrency=1).model_dump() | {"concurrency": "per protocol"}
    assert [key.strip("`") for _, key, _, _ in rows] == list(LoadConfig.model_fields)
    for flag, key, default, _ in rows:
        name = key.strip("`")
        assert flag.strip("`").split()[0] == FLAGS.get(name, f"--{name.replace('_', '-')}")
        assert default.split(":")[0].strip("`") == shown(defaults[name]).strip("`"), name


def test_the_page_about_load_shows_the_protocol_as_it_is() -> None:
    told = {key.strip("`"): value for key, value in table("## The protocol `throughput-v1`")}
    fixed = PROTOCOLS["throughput-v1"]
    assert set(told) == {*fixed, "config", "categories", "concurrency"}
    assert {key: told[key].split(":")[0] for key in fixed} == {key: shown(value) for key, value in fixed.items()}
    assert told["concurrency"].startswith(f"1 to {MAX_CONCURRENCY},")
    assert f"at least {MIN_PROMPTS}," in told["prompts_per_stream"]


@pytest.mark.parametrize("config", ["starter", "throughput_1k"])
@pytest.mark.parametrize("key", ["limit_per_category", "num_prompts", "prompts_per_stream"])
def test_a_number_of_prompts_stands_in_for_that_of_the_protocol_however_it_says_it(config: str, key: str) -> None:
    settings, protocol = resolve({"config": config, "concurrency": 2, key: 7})
    found = {name: getattr(settings, name) for name in ("limit_per_category", "num_prompts", "prompts_per_stream")}
    assert {name for name, value in found.items() if value is not None} == {key}
    assert found[key] == 7
    assert protocol.name == "custom"
