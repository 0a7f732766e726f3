"""The flags of `speed-bench run` are settings, and every setting of a load is a flag."""

import pytest
from click.testing import CliRunner

from speed_bench.cli import cli
from speed_bench.cli.run import run
from speed_bench.cli.run_options import OTHER_KEYS, settings_given
from speed_bench.config import RunConfig, resolve
from speed_bench.engine_config import EngineSettings
from speed_bench.errors import ConfigError
from speed_bench.load_config import LoadConfig

OF_THE_COMMAND = {"protocol", "file", "sets", "out", "resume", "workers_on", "address"}
"""Flags that say how settings are given, and where things are."""
LOAD = {
    "--concurrency": ("concurrency", "8"),
    "--arrivals": ("arrivals", "gamma"),
    "--rate": ("rate", "2.5"),
    "--burstiness": ("burstiness", "0.5"),
    "--ramp-up": ("ramp_up_s", "3"),
    "--warmup": ("warmup_s", "4"),
    "--think-time": ("think_time_s", "0.5"),
    "--max-duration": ("max_duration_s", "60"),
    "--num-prompts": ("num_prompts", "9"),
    "--slo": ("slo", "ttft_s:p95=0.5"),
    "--gpus": ("num_gpus", "4"),
    "--workers": ("workers", "2"),
    "--repeat-prompts": ("repeat_prompts", None),
}


def given(arguments: list[str]) -> dict:
    """The settings of a command line, by key."""
    flags = run.make_context("run", arguments).params
    return settings_given({key: value for key, value in flags.items() if key not in OF_THE_COMMAND})


def test_every_flag_is_a_setting() -> None:
    for parameter in run.params:
        key = OTHER_KEYS.get(str(parameter.name), str(parameter.name))
        if key not in OF_THE_COMMAND:
            first, _, rest = key.partition(".")
            assert first in RunConfig.model_fields
            assert not rest or rest in EngineSettings.model_fields


def test_every_setting_of_a_load_has_a_flag() -> None:
    keys = {OTHER_KEYS.get(str(parameter.name), parameter.name) for parameter in run.params}
    assert set(LoadConfig.model_fields) - keys == {"prompts_per_stream"}


def test_the_flags_of_a_load_reach_its_settings() -> None:
    arguments = [part for flag, (_, value) in LOAD.items() for part in ([flag] if value is None else [flag, value])]
    config, _ = resolve(given([*arguments, "--max-tokens", "8"]) | {"limit_per_category": None})
    expected = {"concurrency": 8, "slo": ("ttft_s:p95=0.5",), "repeat_prompts": True, "arrivals": "gamma"}
    for key, value in LOAD.values():
        assert getattr(config, key) == (expected[key] if key in expected else float(value or 0)), key


def test_a_flag_that_is_not_given_sets_nothing() -> None:
    assert given([]) == {}
    assert given(["--trace", "times.txt"]) == {"trace": "times.txt"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("1,2,…,8", "such as 1,2,4; write every number out"),
        ("1,2,...,8", "write every number out"),
        ("1,,2", "a whole number is expected"),
        ("4,", "a whole number is expected"),
        ("eight", "a whole number is expected"),
        ("-1", "a whole number is expected"),
        ("1.5", "a whole number is expected"),
        ("²", "a whole number is expected"),
        ("2,4,2", "a number is given twice"),
    ],
)
def test_a_concurrency_that_is_none_is_refused(text: str, sentence: str) -> None:
    done = CliRunner().invoke(cli, ["run", "--engine", "simulator", "--concurrency", text])
    assert isinstance(done.exception, ConfigError)
    assert sentence in str(done.exception)


@pytest.mark.parametrize("verb", ["run", "sweep"])
def test_help_fits_and_ends_with_examples(verb: str) -> None:
    shown = CliRunner().invoke(cli, [verb, "--help"], terminal_width=110).output
    assert max(map(len, shown.splitlines())) <= 120
    assert "Examples:" in shown
    assert f"speed-bench {verb} " in shown.partition("Examples:")[2]


def test_help_names_the_protocol_of_loads() -> None:
    assert "throughput-v1" in CliRunner().invoke(cli, ["run", "--help"]).output
