"""What every engine is started with: our settings in its own words."""

import importlib
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from speed_bench.algorithms import ALGORITHMS
from speed_bench.config import RunConfig, resolve
from speed_bench.engines import dialect, keeper
from speed_bench.engines.llama_cpp_server import parameters
from speed_bench.engines.server import Launch
from speed_bench.errors import EngineError
from speed_bench.models import resolve_gguf
from speed_bench.types import Request, Sampling

SNAPSHOT = orjson.loads((Path(__file__).parent.parent / "recordings/tensorrt-llm/api-snapshot.json").read_bytes())
SERVERS = ("vllm", "sglang", "tensorrt-llm")
"""Engines that are started by a command of theirs."""
MODEL, DRAFT = "org/model@1a2b", "org/draft@3c4d"


def config(engine: str, algorithm: str = "none", **flags: Any) -> RunConfig:
    """A run at concurrency 4; with a draft model where the algorithm must have one."""
    if ALGORITHMS[algorithm].draft == "required":
        flags = {"draft": "org/draft", **flags}
    given = {"engine": engine, "model": "org/model", "algorithm": algorithm, "concurrency": 4, "seeds": (7, 8)}
    return resolve({**given, **flags})[0]


def launch(engine: str, algorithm: str = "none", *, model: str = MODEL, **flags: Any) -> Launch:
    """As a run starts it, at port 8123."""
    run = config(engine, algorithm, **flags)
    draft = DRAFT if run.draft else None
    return dialect(engine).launch(run, model=model, draft=draft, port=8123, folder=Path("/run"))


def words(engine: str, algorithm: str = "none", **flags: Any) -> list[str]:
    """The engine's own command, without its keeper."""
    _, script, *command = launch(engine, algorithm, **flags).argv
    assert script == keeper.__file__
    return command


def options(command: list[str]) -> dict[str, str | bool]:
    """Flag -> value; True for a bare one."""
    found: dict[str, str | bool] = {}
    for word, after in zip(command, [*command[1:], "--"], strict=True):
        if word.startswith("--"):
            assert word not in found, f"{word} is given twice"
            found[word] = True if after.startswith("--") else after
    return found


def settings(engine: str, algorithm: str = "none", **flags: Any) -> dict[str, Any]:
    """All that the engine is told, under its own names: flags, and for TensorRT-LLM the options file too."""
    told: dict[str, Any] = dict(options(words(engine, algorithm, **flags)))
    for text in launch(engine, algorithm, **flags).files.values():
        told |= yaml.safe_load(text)
    return told


SPECULATION = {
    ("vllm", "none"): None,
    ("vllm", "ngram"): {
        "method": "ngram",
        "num_speculative_tokens": 8,
        "prompt_lookup_min": 2,
        "prompt_lookup_max": 4,
    },
    ("vllm", "suffix"): {
        "method": "suffix",
        "num_speculative_tokens": 8,
        "suffix_decoding_max_cached_requests": 0,
    },
    ("vllm", "draft"): {"method": "draft_model", "num_speculative_tokens": 3, "model": "org/draft", "revision": "3c4d"},
    ("vllm", "eagle"): {"method": "eagle", "num_speculative_tokens": 3, "model": "org/draft", "revision": "3c4d"},
    ("vllm", "eagle3"): {"method": "eagle3", "num_speculative_tokens": 3, "model": "org/draft", "revision": "3c4d"},
    ("vllm", "mtp"): {"method": "mtp", "num_speculative_tokens": 3},
    ("vllm", "medusa"): {"method": "medusa", "num_speculative_tokens": 3, "model": "org/draft", "revision": "3c4d"},
    ("vllm", "pard"): {
        "method": "draft_model",
        "parallel_drafting": True,
        "num_speculative_tokens": 3,
        "model": "org/draft",
        "revision": "3c4d",
    },
    ("vllm", "dflash"): {"method": "dflash", "num_speculative_tokens": 3, "model": "org/draft", "revision": "3c4d"},
    ("sglang", "none"): {},
    ("sglang", "ngram"): {
        "algorithm": "NGRAM",
        "num-draft-tokens": "9",
        "ngram-min-bfs-breadth": "1",
        "ngram-max-bfs-breadth": "1",
    },
    ("sglang", "draft"): {
        "algorithm": "STANDALONE",
        "num-draft-tokens": "4",
        "num-steps": "3",
        "eagle-topk": "1",
        "draft-model-path": "org/draft",
        "draft-model-revision": "3c4d",
    },
    ("sglang", "mtp"): {"algorithm": "NEXTN", "num-draft-tokens": "4", "num-steps": "3", "eagle-topk": "1"},
    ("tensorrt-llm", "none"): None,
    ("tensorrt-llm", "ngram"): {
        "decoding_type": "NGram",
        "max_draft_len": 8,
        "max_matching_ngram_size": 4,
        "is_public_pool": False,
    },
    ("tensorrt-llm", "suffix"): {"decoding_type": "SA", "max_draft_len": 8, "enable_global_pool": False},
    ("tensorrt-llm", "draft"): {
        "decoding_type": "Draft_Target",
        "max_draft_len": 3,
        "speculative_model": "org/draft",
    },
    ("tensorrt-llm", "mtp"): {"decoding_type": "MTP", "max_draft_len": 3},
}
"""What each engine is told of speculation, by algorithm. Heads are told like a draft model, but for their name."""
for name, spelling in (("eagle", "EAGLE"), ("eagle3", "EAGLE3"), ("dflash", "DFLASH")):
    SPECULATION["sglang", name] = {**SPECULATION["sglang", "draft"], "algorithm": spelling}
for name, spelling in (("eagle3", "Eagle3"), ("dflash", "DFlash"), ("pard", "PARD")):
    SPECULATION["tensorrt-llm", name] = {**SPECULATION["tensorrt-llm", "draft"], "decoding_type": spelling}


def speculation(engine: str, algorithm: str, **flags: Any) -> Any:
    """What the engine is told of it."""
    told = settings(engine, algorithm, **flags)
    if engine == "vllm":
        return orjson.loads(told["--speculative-config"]) if "--speculative-config" in told else None
    if engine == "sglang":
        prefix = "--speculative-"
        return {flag.removeprefix(prefix): value for flag, value in told.items() if flag.startswith(prefix)}
    return told.get("speculative_config")


class TestSpeculation:
    def test_every_algorithm_of_every_engine_is_in_the_table(self) -> None:
        assert set(SPECULATION) == {(engine, each) for engine in SERVERS for each in dialect(engine).ALGORITHMS}

    @pytest.mark.parametrize(("engine", "algorithm"), SPECULATION)
    def test_it_is_told_in_the_engines_own_words(self, engine: str, algorithm: str) -> None:
        assert speculation(engine, algorithm) == SPECULATION[engine, algorithm]

    @pytest.mark.parametrize(
        ("engine", "length"),
        [
            ("vllm", ("num_speculative_tokens", 5)),
            ("sglang", ("num-steps", "5")),
            ("tensorrt-llm", ("max_draft_len", 5)),
        ],
    )
    def test_the_draft_length_is_passed_on(self, engine: str, length: tuple) -> None:
        key, value = length
        told = speculation(engine, "eagle3", draft_length=5)
        assert told[key] == value
        assert told.get("num-draft-tokens", "6") == "6", "SGLang counts the bonus token too"

    @pytest.mark.parametrize("engine", SERVERS)
    def test_a_draft_model_may_be_given_where_the_model_has_its_own_heads(self, engine: str) -> None:
        assert "org/draft" in speculation(engine, "mtp", draft="org/draft").values()

    @pytest.mark.parametrize("engine", SERVERS)
    def test_an_algorithm_that_is_not_wired_raises_with_the_list(self, engine: str) -> None:
        wired = dialect(engine).ALGORITHMS
        for name in [*(set(ALGORITHMS) - set(wired)), "telepathy"]:
            odd = config(engine).model_copy(update={"algorithm": name, "draft_length": 3})
            with pytest.raises(EngineError) as refused:
                dialect(engine).launch(odd, model="m", draft=None, port=1, folder=Path("/run"))
            assert str(refused.value) == f"engine '{engine}' has no algorithm '{name}'; it has {', '.join(wired)}"

    def test_a_revision_that_an_engine_cannot_be_told_is_refused(self) -> None:
        with pytest.raises(
            EngineError, match="takes no revision of a draft model, as in 'org/draft@v1'; give a folder"
        ):
            launch("tensorrt-llm", "eagle3", draft="org/draft@v1")


COMMANDS = {
    "vllm": ("-m", "vllm.entrypoints.openai.api_server"),
    "sglang": ("-m", "sglang.launch_server"),
    "tensorrt-llm": ("trtllm-serve", "org/model"),
}
PLAIN = {
    "vllm": {
        "--model": "org/model",
        "--revision": "1a2b",
        "--served-model-name": "model",
        "--host": "127.0.0.1",
        "--port": "8123",
        "--max-num-seqs": "4",
        "--tensor-parallel-size": "1",
        "--no-enable-prefix-caching": True,
        "--seed": "7",
        "--generation-config": "vllm",
    },
    "sglang": {
        "--model-path": "org/model",
        "--revision": "1a2b",
        "--served-model-name": "model",
        "--host": "127.0.0.1",
        "--port": "8123",
        "--max-running-requests": "4",
        "--tp-size": "1",
        "--disable-radix-cache": True,
        "--random-seed": "7",
        "--stream-interval": "1",
        "--enable-metrics": True,
    },
    "tensorrt-llm": {
        "--host": "127.0.0.1",
        "--port": "8123",
        "--max_batch_size": "4",
        "--tp_size": "1",
        "--revision": "1a2b",
        "--extra_llm_api_options": "/run/trtllm-serve.yaml",
        "return_perf_metrics": True,
        "stream_interval": 1,
        "kv_cache_config": {"enable_block_reuse": False},
    },
}
"""All that is told without speculation when nothing is asked for."""
ASKED = {
    "engine.context_length": 4096,
    "engine.tensor_parallel": 4,
    "engine.data_parallel": 2,
    "engine.expert_parallel": 8,
    "engine.memory_fraction": 0.75,
    "engine.prefix_cache": True,
    "engine.dtype": "bfloat16",
    "engine.host": "0.0.0.0",  # noqa: S104
}
TOLD = {
    "vllm": {
        "--max-model-len": "4096",
        "--tensor-parallel-size": "4",
        "--data-parallel-size": "2",
        "--enable-expert-parallel": True,
        "--gpu-memory-utilization": "0.75",
        "--enable-prefix-caching": True,
        "--dtype": "bfloat16",
        "--host": "0.0.0.0",  # noqa: S104
    },
    "sglang": {
        "--context-length": "4096",
        "--tp-size": "4",
        "--dp-size": "2",
        "--ep-size": "8",
        "--mem-fraction-static": "0.75",
        "--dtype": "bfloat16",
        "--host": "0.0.0.0",  # noqa: S104
    },
    "tensorrt-llm": {
        "--max_seq_len": "4096",
        "--tp_size": "4",
        "enable_attention_dp": True,
        "--ep_size": "8",
        "--kv_cache_free_gpu_memory_fraction": "0.75",
        "kv_cache_config": {"enable_block_reuse": True},
        "dtype": "bfloat16",
        "--host": "0.0.0.0",  # noqa: S104
    },
}
"""What `ASKED` changes."""
OFF = {"vllm": "--no-enable-prefix-caching", "sglang": "--disable-radix-cache", "tensorrt-llm": None}
"""What keeps the prefix cache off, where that is a flag."""


@pytest.mark.parametrize("engine", SERVERS)
class TestSettings:
    def test_without_anything_asked_for_this_is_all(self, engine: str) -> None:
        assert settings(engine) == PLAIN[engine]
        first = words(engine)[:2] if engine == "tensorrt-llm" else words(engine)[1:3]
        assert tuple(first) == COMMANDS[engine]

    def test_what_is_asked_for_is_told_and_nothing_else_changes(self, engine: str) -> None:
        assert settings(engine, **ASKED) == {
            flag: value for flag, value in (PLAIN[engine] | TOLD[engine]).items() if flag != OFF[engine]
        }

    def test_a_folder_has_no_revision(self, engine: str, tmp_path: Path) -> None:
        folder = tmp_path / "my@model"
        folder.mkdir()
        command = words(engine, model=str(folder))
        assert str(folder) in command
        assert "--revision" not in command
        assert options(command).get("--served-model-name", "my@model") == "my@model"

    def test_any_setting_of_the_engine_is_passed_on_unchanged_and_wins(self, engine: str) -> None:
        mine = {"trust_remote_code": True, "max_seqs_x": 3, "a": "text", "nested": {"b": [1]}, "dtype": "float8"}
        told = settings(engine, **{"engine.extra": mine, "engine.dtype": "bfloat16"})
        if engine == "tensorrt-llm":
            assert {name: told[name] for name in mine} == mine
        else:
            added = {"--trust-remote-code": True, "--max-seqs-x": "3", "--a": "text", "--nested": '{"b":[1]}'}
            assert told == PLAIN[engine] | added | {"--dtype": "float8"}

    def test_a_setting_of_ours_can_be_left_to_the_engine(self, engine: str) -> None:
        name = "stream_interval" if engine != "vllm" else "seed"
        told = settings(engine, **{"engine.extra": {name: None}})
        assert set(PLAIN[engine]) - set(told) == {name if engine == "tensorrt-llm" else f"--{name.replace('_', '-')}"}

    def test_another_environment_is_named_by_its_interpreter(self, engine: str, tmp_path: Path) -> None:
        (tmp_path / "trtllm-serve").touch()
        python = str(tmp_path / "python")
        first = words(engine, **{"engine.python": python})[0]
        assert first == (str(tmp_path / "trtllm-serve") if engine == "tensorrt-llm" else python)
        elsewhere = words(engine, **{"engine.python": "/env/bin/python"})[0]
        assert elsewhere == ("trtllm-serve" if engine == "tensorrt-llm" else "/env/bin/python")

    def test_launched_elsewhere_it_is_started_with_what_is_there(self, engine: str) -> None:
        plain, elsewhere = words(engine), words(engine, **{"engine.launch": "ssh node {command}"})
        first = "trtllm-serve" if engine == "tensorrt-llm" else "python3"
        assert elsewhere == ["ssh", "node", first, *plain[1:]]


def test_vllm_is_asked_for_the_counts_of_every_request_where_it_speculates() -> None:
    flag = "--per-request-spec-decode-metrics"
    told = {algorithm: settings("vllm", algorithm).get(flag) for algorithm in dialect("vllm").ALGORITHMS}
    assert told == {algorithm: None if algorithm == "none" else "detailed" for algorithm in told}


def test_what_vllm_would_send_home_it_does_not() -> None:
    assert launch("vllm").env == {"VLLM_NO_USAGE_STATS": "1"}


class TestTensorRtLlmSnapshot:
    """Every name that we use exists in the interface that was recorded."""

    FLAGS = frozenset(flag for option in SNAPSHOT["serve_options"].values() for flag in option.get("flags", ()))

    @pytest.mark.parametrize("flags", [{}, ASKED])
    def test_flags(self, flags: dict) -> None:
        assert set(options(words("tensorrt-llm", **flags))) <= self.FLAGS

    @pytest.mark.parametrize("flags", [{}, {**ASKED, "engine.request_stats": True}])
    def test_options(self, flags: dict) -> None:
        told = yaml.safe_load(next(iter(launch("tensorrt-llm", "ngram", **flags).files.values())))
        assert set(told) <= set(SNAPSHOT["llm_args"]["TorchLlmArgs"])
        assert set(told["kv_cache_config"]) <= set(SNAPSHOT["llm_args"]["KvCacheConfig"])
        assert ("per_request_spec_decode_stats" in told) == bool(flags), "older versions refuse it"

    @pytest.mark.parametrize("algorithm", sorted(set(dialect("tensorrt-llm").ALGORITHMS) - {"none"}))
    def test_speculation(self, algorithm: str) -> None:
        told = speculation("tensorrt-llm", algorithm)
        kind = told.pop("decoding_type")
        assert set(told) <= {*SNAPSHOT["speculative"]["base"], *SNAPSHOT["speculative"][kind]}
        assert set(SNAPSHOT["speculative_required"].get(kind, ())) <= set(told)

    def test_requests(self) -> None:
        _, body = dialect("tensorrt-llm").payload(Request("q/0", (1, 2), Sampling(0.0, 8, 0, (2,), False)), "m")
        assert set(body) <= set(SNAPSHOT["completion_request"])
        assert set(body["stream_options"]) <= set(SNAPSHOT["completion_stream"]["StreamOptions"])
        defaults = {name: SNAPSHOT["completion_request"][name].get("default") for name in ("n", "min_tokens", "echo")}
        assert defaults == {"n": 1, "min_tokens": 0, "echo": False}, "what is left out is plain"

    def test_what_is_read_of_events(self) -> None:
        stream = SNAPSHOT["completion_stream"]
        assert {"choices", "usage"} <= set(stream["CompletionStreamResponse"])
        choice = {"text", "token_ids", "finish_reason", "avg_decoded_tokens_per_iter", "speculative_decoding"}
        assert choice <= set(stream["CompletionResponseStreamChoice"])
        said = {"num_spec_steps", "total_draft_tokens", "total_accepted_draft_tokens", "acceptance_histogram"}
        assert said <= set(stream["SpeculativeDecodingStats"])
        assert "completion_tokens" in stream["UsageInfo"]

    def test_routes(self) -> None:
        speaks = dialect("tensorrt-llm")
        path, _ = speaks.payload(Request("q/0", (1,), Sampling(0.0, 8, 0)), "m")
        asked = {
            f"GET {speaks.HEALTH}",
            f"GET {speaks.METRICS}",
            f"GET {speaks.INFO}",
            "GET /v1/models",
            f"POST {path}",
        }
        assert asked <= set(SNAPSHOT["routes"])

    def test_counters(self) -> None:
        names = {metric["name"]: metric["labels"] for metric in SNAPSHOT["prometheus"]}
        read = importlib.import_module("speed_bench.engines.tensorrt_llm").counters
        for drafted, accepted in (("drafted", "accepted"), ("num_draft", "num_accepted")):
            text = ""
            for kind, num in ((drafted, 3), (accepted, 2)):
                labels = names[f"trtllm_spec_decode_{kind}_tokens_total"]
                shown = ",".join(f'{label}="0"' for label in labels)
                text += f"trtllm_spec_decode_{kind}_tokens_total{{{shown}}} {num}.0\n"
            assert (read(text).drafted, read(text).accepted) == (3, 2)


class TestLlamaCpp:
    """The embedded engine takes its settings as JSON, and sets them on the real package's own class."""

    def told(self, algorithm: str, **flags: Any) -> dict[str, Any]:
        model = str(resolve_gguf("smollm2-135m-instruct"))
        run = config("llama-cpp", algorithm, **flags)
        draft = model if run.draft else None
        argv = dialect("llama-cpp").launch(run, model=model, draft=draft, port=8123, folder=Path("/run")).argv
        return orjson.loads(argv[-1])

    @pytest.mark.parametrize("algorithm", dialect("llama-cpp").ALGORITHMS)
    def test_the_real_package_takes_every_wired_algorithm(self, algorithm: str) -> None:
        xllamacpp = pytest.importorskip("xllamacpp")
        told = self.told(algorithm, **({} if algorithm == "none" else {"draft_length": 5}))
        made = parameters(told)
        assert (made.n_parallel, made.n_ctx, made.port, made.cache_prompt) == (4, 4 * 8192, 8123, False)
        if algorithm == "none":
            assert list(made.speculative.types) == [xllamacpp.common_speculative_type.COMMON_SPECULATIVE_TYPE_NONE]
            return
        kind = getattr(xllamacpp.common_speculative_type, f"COMMON_SPECULATIVE_TYPE_{told['type']}")
        assert list(made.speculative.types) == [kind]
        assert (made.speculative.draft.n_max, made.speculative.ngram_simple.size_m) == (5, 5)
        assert (made.speculative.draft.mparams.path == told["model"]) == (ALGORITHMS[algorithm].draft == "required")

    def test_any_parameter_of_its_own_is_passed_on(self) -> None:
        pytest.importorskip("xllamacpp")
        made = parameters(
            self.told("ngram", **{"engine.extra": {"n_batch": 64, "speculative.ngram_simple.min_hits": 2}})
        )
        assert (made.n_batch, made.speculative.ngram_simple.min_hits) == (64, 2)
        with pytest.raises(SystemExit, match=r"llama\.cpp has no parameter 'n_nonsense'"):
            parameters(self.told("none", **{"engine.extra": {"n_nonsense": 1}}))

    def test_an_algorithm_that_is_not_wired_raises_with_the_list(self) -> None:
        odd = config("llama-cpp").model_copy(update={"algorithm": "suffix"})
        with pytest.raises(
            EngineError, match=r"has no algorithm 'suffix'; it has none, ngram, draft, eagle3, mtp, dflash$"
        ):
            dialect("llama-cpp").launch(odd, model="m", draft=None, port=1, folder=Path("/run"))
