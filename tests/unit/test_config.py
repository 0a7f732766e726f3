"""Settings come from four places; a typo in any of them is a sentence that names it."""

from pathlib import Path

import pytest

from speed_bench.config import DEFAULT_PROTOCOL, ENGINE_CONFIGS, PROTOCOLS, RunConfig, resolve
from speed_bench.engines import ENGINES
from speed_bench.errors import ConfigError


def test_without_anything_given_the_default_protocol_decides() -> None:
    config, protocol = resolve({})
    assert protocol.name == DEFAULT_PROTOCOL == "quick"
    assert (config.limit_per_category, config.max_tokens, config.concurrency, config.seeds) == (2, 64, 1, (0,))
    assert (config.algorithm, config.draft_length, config.baseline) == ("ngram", 8, True)


def test_flags_win_over_set_over_file_over_protocol(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("protocol: qualitative-v1\nmax_tokens: 1\nconcurrency: 2\ntemperature: 0.5\nengine: {threads: 2}\n")
    config, protocol = resolve({"max_tokens": 3}, file=file, sets=["max_tokens=2", "concurrency=4", "engine.port=9000"])
    assert (config.max_tokens, config.concurrency, config.temperature) == (3, 4, 0.5)
    assert (config.engine.threads, config.engine.port) == (2, 9000)
    assert config.config == "qualitative"
    assert (protocol.name, protocol.based_on) == ("custom", "qualitative-v1")
    assert protocol.overrides == ("concurrency", "max_tokens", "temperature")


def test_a_value_given_as_the_protocol_has_it_overrides_nothing() -> None:
    assert resolve({"max_tokens": 64})[1].name == "quick"


def test_a_resumed_run_keeps_what_is_not_given() -> None:
    before = resolve({"max_tokens": 5, "engine.threads": 2})
    config, protocol = resolve({"engine.port": 9000}, recorded=before)
    assert config.engine.port == 9000
    assert protocol == before[1]


def test_where_the_engine_listens_and_how_long_one_waits_is_no_difference() -> None:
    one, _ = resolve({"engine.port": 9000, "stall_timeout_s": 5.0, "engine.start_timeout_s": 5.0})
    other, _ = resolve({"engine.threads": 2})
    assert one.difference(other) == {"engine.threads": (1, 2)}


def test_another_algorithm_on_resuming_is_the_difference_that_is_named() -> None:
    before = resolve({"draft_length": 4})
    config, _ = resolve({"algorithm": "none"}, recorded=before)
    assert before[0].difference(config)["algorithm"] == ("ngram", "none")


def test_lists_may_be_written_as_people_write_them(tmp_path: Path) -> None:
    config, _ = resolve({"categories": "qa, math"}, sets=["seeds=3"])
    assert (config.categories, config.seeds) == (("qa", "math"), (3,))
    file = tmp_path / "run.yaml"
    file.write_text("categories: [qa, math]\nseeds: [1, 2]\nengine.threads: 2\n")
    config, _ = resolve({}, file=file)
    assert (config.categories, config.seeds, config.engine.threads) == (("qa", "math"), (1, 2), 2)


def test_parameters_of_the_engine_pass_under_their_own_dotted_names() -> None:
    config, _ = resolve({}, sets=["engine.extra.speculative.ngram_simple.min_hits=2"])
    assert config.engine.extra == {"speculative.ngram_simple.min_hits": 2}


def test_the_baseline_of_a_run_differs_in_speculation_alone() -> None:
    config, _ = resolve({"algorithm": "draft", "draft": "d.gguf"})
    assert set(config.difference(config.without_speculation())) == {"algorithm", "draft", "draft_length", "baseline"}
    assert resolve({"algorithm": "none"})[0].baseline is False


def test_every_engine_has_settings_and_every_protocol_fixes_known_keys() -> None:
    assert set(ENGINE_CONFIGS) == set(ENGINES)
    for fixed in PROTOCOLS.values():
        assert set(fixed) <= set(RunConfig.model_fields)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"flags": {"engine": "llama-cp"}}, "unknown engine 'llama-cp'; did you mean 'llama-cpp'?"),
        ({"flags": {}, "protocol": "quik"}, "unknown protocol 'quik'; did you mean 'quick'?"),
        ({"flags": {}, "sets": ["num_tokens=3"]}, "unknown key 'num_tokens'; did you mean 'max_tokens'?"),
        ({"flags": {}, "sets": ["engine.thread=3"]}, "unknown key 'engine.thread'; did you mean 'engine.threads'?"),
        ({"flags": {}, "sets": ["max_tokens"]}, "--set max_tokens: write it as key=value"),
        ({"flags": {}, "sets": ["max_tokens=[1"]}, "--set max_tokens=[1 is not YAML"),
        ({"flags": {}, "sets": ["engine.extra.n_batch=[1]"]}, "engine.extra.n_batch: a number, text or boolean"),
        ({"flags": {}, "sets": ["engine=3"]}, "engine holds settings of its own, not 3; write engine.NAME=VALUE"),
        ({"flags": {}, "sets": ["engine="]}, "engine holds settings of its own"),
        ({"flags": {}, "sets": ["engine.extra=3", "engine.extra.x=1"]}, "engine.extra holds settings of its own"),
        ({"flags": {}, "sets": ["engine={name: [x]}"]}, "unknown engine '['x']'"),
        ({"flags": {"seeds": (1, 1)}}, "a seed is given twice: 1, 1"),
        ({"flags": {"seeds": (-1,)}}, "seeds must lie in 0…4294967294"),
        ({"flags": {"seeds": (10**30,)}}, "seeds must lie in 0…4294967294"),
        ({"flags": {"temperature": float("inf")}}, "temperature: Input should be a finite number"),
        ({"flags": {}, "sets": ["stall_timeout_s=.nan"]}, "stall_timeout_s: Input should be a finite number"),
        ({"flags": {"max_tokens": 0}}, "max_tokens: Input should be greater than or equal to 1 (got 0)"),
        ({"flags": {}, "sets": ["max_tokens=many"]}, "max_tokens: Input should be a valid integer"),
        ({"flags": {"algorithm": "draft"}}, "algorithm 'draft' needs a draft model"),
        ({"flags": {"draft": "x.gguf"}}, "a draft model is given, but algorithm 'ngram' uses none"),
        ({"flags": {"algorithm": "none", "draft_length": 2}}, "algorithm 'none' drafts nothing"),
        ({"flags": {"history": "mine"}}, "history: String should match pattern"),
    ],
)
def test_what_cannot_be_used_is_a_sentence(given: dict, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(**given)
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize(
    "text", ["- a list", "engine: [1]", "protocol: [x]", "max_tokens: [", "!!python/object/apply:os.system [id]"]
)
def test_a_file_that_holds_no_settings_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"run\.yaml|engine holds settings|unknown protocol"):
        resolve({}, file=file)
    with pytest.raises(ConfigError, match="cannot be read"):
        resolve({}, file=tmp_path / "absent.yaml")
