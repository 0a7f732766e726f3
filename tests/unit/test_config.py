"""Settings come from four places; a typo in any of them is a sentence that names it."""

from pathlib import Path

import pytest

from speed_bench.algorithms import ALGORITHMS, always_drafts
from speed_bench.config import EMBEDDED, ENGINE_CONFIGS, RunConfig, resolve
from speed_bench.engine_config import API_KEY_VARIABLE, api_key
from speed_bench.engines import ENGINES, dialect
from speed_bench.errors import ConfigError
from speed_bench.protocols import DEFAULT_PROTOCOL, PROTOCOLS


def test_without_anything_given_the_default_protocol_decides() -> None:
    config, protocol = resolve({})
    assert protocol.name == DEFAULT_PROTOCOL == "quick"
    assert (config.limit_per_category, config.max_tokens, config.concurrency, config.seeds) == (2, 64, 1, (0,))
    assert (config.algorithm, config.draft_length, config.baseline) == ("ngram", 8, True)
    assert (config.engine.name, config.model) == ("llama-cpp", "smollm2-135m-instruct")


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
        (
            {"flags": {"arrivals": "poisson", "rate": 2.0}},
            "in an open loop say how many conversations may be under way",
        ),
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
        ({"flags": {"algorithm": "ngramm"}}, "unknown algorithm 'ngramm'; did you mean 'ngram'? algorithms: "),
        ({"flags": {"engine": "vllm"}}, "engine 'vllm' needs a model: --model FOLDER, or org/repo of the"),
        ({"flags": {"engine": "sglang"}, "sets": ["engine.threads=2"]}, "unknown key 'engine.threads'"),
        ({"flags": {"chat_template_args": "{a: ["}}, "--chat-template-args is not YAML"),
        ({"flags": {"chat_template_args": "text"}}, "chat_template_args: Input should be a valid dictionary"),
        ({"flags": {"engine.launch": "docker run"}}, "engine.launch does not say where the engine's command goes"),
        ({"flags": {"engine.launch": "'{command}"}}, "engine.launch cannot be split into words (No closing quotation)"),
        ({"flags": {"engine": "tensorrt-llm", "model": "m", "algorithm": "pard"}}, "algorithm 'pard' needs"),
        ({"flags": {"engine": "vllm", "model": "m"}, "sets": ["engine.memory_fraction=0"]}, "engine.memory_fraction: "),
        ({"flags": {}, "sets": ["engine.url=3"]}, "engine.url: Input should be a valid string"),
        ({"flags": {"engine": "simulator"}, "sets": ["engine.faults=[{kind: fire}]"]}, "engine.faults.0.kind: Input"),
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


class TestEngines:
    @pytest.mark.parametrize("name", sorted(set(ENGINES) - set(EMBEDDED)))
    def test_one_that_serves_large_models_takes_the_same_settings(self, name: str) -> None:
        sets = ["engine.tensor_parallel=4", "engine.data_parallel=2", "engine.expert_parallel=8", "engine.dtype=half"]
        given = {"engine": name, "model": "org/m", "engine.python": "/v/bin/python", "engine.memory_fraction": 0.8}
        config, protocol = resolve(given, sets=[*sets, "engine.extra.a.b={c: [1]}"])
        engine = config.engine
        assert (engine.tensor_parallel, engine.data_parallel, engine.expert_parallel) == (4, 2, 8)
        assert (engine.dtype, engine.memory_fraction, engine.extra) == ("half", 0.8, {"a.b": {"c": [1]}})
        assert (engine.context_length, engine.prefix_cache, engine.attached) == (None, False, False)
        assert (config.model, protocol.name) == ("org/m", "quick")

    @pytest.mark.parametrize("name", sorted(ENGINES))
    def test_every_algorithm_of_an_engine_has_a_name_that_all_engines_share(self, name: str) -> None:
        assert set(dialect(name).ALGORITHMS) <= set(ALGORITHMS)
        assert {"none", "ngram"} <= set(dialect(name).ALGORITHMS)

    @pytest.mark.parametrize("algorithm", sorted(set(ALGORITHMS) - {"none"}))
    def test_the_draft_length_is_the_algorithms_own_unless_it_is_given(self, algorithm: str) -> None:
        given = {"engine": "simulator", "algorithm": algorithm}
        length = 8 if algorithm in ("ngram", "suffix") else 3
        assert resolve(given)[0].draft_length == length
        assert resolve({**given, "draft_length": 5})[0].draft_length == 5
        assert always_drafts(algorithm) == (length == 3)

    def test_what_is_not_known_does_not_always_draft(self) -> None:
        assert not always_drafts("none")
        assert not always_drafts("telepathy")


class TestAttached:
    URL = "http://node:8000"

    def detect(self, url: str) -> str:
        assert url == self.URL
        return "sglang"

    def test_the_server_says_which_engine_it_is_and_what_it_serves(self) -> None:
        config, _ = resolve({"engine.url": self.URL, "algorithm": "eagle3"}, detect=self.detect)
        assert (config.engine.name, config.engine.url, config.engine.attached) == ("sglang", self.URL, True)
        assert (config.model, config.draft, config.draft_length, config.baseline) == (None, None, None, False)

    def test_it_is_not_asked_when_the_engine_is_named(self) -> None:
        def never(url: str) -> str:
            raise AssertionError(url)

        config, _ = resolve({"engine": "vllm", "engine.url": self.URL, "algorithm": "none"}, detect=never)
        assert config.engine.name == "vllm"
        assert resolve({}, recorded=resolve({}), detect=never)[0].engine.name == "llama-cpp"

    def test_settings_of_the_engine_that_was_found_are_known(self) -> None:
        sets = [f"engine.url={self.URL}", "algorithm=none", "engine.tensor_parallel=2"]
        assert resolve({}, sets=sets, detect=self.detect)[0].engine.tensor_parallel == 2

    def test_how_it_drafts_must_be_said(self) -> None:
        with pytest.raises(ConfigError) as refused:
            resolve({"engine.url": self.URL}, detect=self.detect)
        assert str(refused.value) == (
            f"say what the server at {self.URL} drafts with: --algorithm NAME and --draft-length K; "
            "--algorithm none if it does not speculate"
        )

    def test_the_baseline_runs_where_it_is_said_to(self) -> None:
        flags = {"engine.url": self.URL, "algorithm": "mtp", "engine.baseline_url": "http://node:8001"}
        config, _ = resolve(flags, detect=self.detect)
        assert config.baseline
        baseline = config.without_speculation()
        assert (baseline.engine.url, baseline.engine.baseline_url) == ("http://node:8001", None)
        assert (baseline.algorithm, baseline.baseline) == ("none", False)
        assert set(config.difference(baseline)) == {"algorithm", "baseline"}

    def test_settings_of_speculation_are_not_the_baselines(self) -> None:
        flags = {"engine.name": "sglang", "model": "org/m", "algorithm": "eagle3", "draft": "org/d"}
        config, _ = resolve(flags, sets=("engine.extra.speculative_eagle_topk=4", "engine.extra.attention_backend=fa3"))
        assert config.without_speculation().engine.extra == {"attention_backend": "fa3"}

    def test_a_run_may_be_finished_against_another_url(self) -> None:
        before = resolve({"engine.url": self.URL, "algorithm": "ngram", "draft_length": 4}, detect=self.detect)
        config, protocol = resolve({"engine.url": "http://other:1"}, recorded=before)
        assert (config.engine.name, config.algorithm, config.draft_length) == ("sglang", "ngram", 4)
        assert before[0].difference(config) == {}
        assert protocol == before[1]

    @pytest.mark.parametrize(
        "url", ["http://me:hunter2@node:8000", "http://hunter2@node", "me:hunter2@node:8000", "http://node?key=hunter2"]
    )
    @pytest.mark.parametrize("key", ["url", "baseline_url"])
    @pytest.mark.parametrize("more", [{}, {"algorithm": "none"}, {"engine": "vllm"}])
    def test_a_url_with_a_secret_is_neither_asked_nor_shown(self, url: str, key: str, more: dict) -> None:
        def never(url: str) -> str:
            raise AssertionError(url)

        with pytest.raises(ConfigError) as refused:
            resolve({**more, f"engine.{key}": url}, detect=never)
        assert "may not hold a password or a query" in str(refused.value)
        assert f"put the key into the environment variable {API_KEY_VARIABLE}" in str(refused.value)
        assert "hunter2" not in str(refused.value)


def test_the_key_of_a_server_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(API_KEY_VARIABLE, raising=False)
    assert api_key() is None
    for given, used in (("", None), ("sk-1", "sk-1"), (" sk-1\n", "sk-1")):
        monkeypatch.setenv(API_KEY_VARIABLE, given)
        assert api_key() == used
    for odd in ("sk\nHost: x", "ключ", "a\x7f"):
        monkeypatch.setenv(API_KEY_VARIABLE, odd)
        with pytest.raises(ConfigError, match=f"{API_KEY_VARIABLE} holds characters that no key can have") as refused:
            api_key()
        assert odd not in str(refused.value)
