"""The settings of each engine: what is common to all first, then one model per engine."""

import os
import re
import shlex
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, field_validator, model_validator

from speed_bench.errors import ConfigError

API_KEY_VARIABLE: Final = "SPEED_BENCH_API_KEY"
"""The environment variable that holds the key of a server which asks for one. It is written nowhere."""
Scalar = bool | int | FiniteFloat | str
Probability = Annotated[float, Field(ge=0, le=1)]
Rates = Annotated[tuple[Probability, ...], Field(min_length=1)]


class Settings(BaseModel):
    """Frozen, and nothing that is not declared."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class EngineSettings(Settings):
    """What every engine takes: how it is started, or where it already runs."""

    name: str
    context_length: int | None = Field(default=None, ge=64)
    """Tokens of prompt and answer that one stream can hold; None: as the model has it."""
    url: str | None = None
    """Measure the server that runs there instead of starting one."""
    baseline_url: str | None = None
    """Where the same model runs without speculation, for the baseline of a run against `url`."""
    served_model: str | None = None
    """The name under which the server serves the model; None: the only one that it serves."""
    python: str | None = None
    """The interpreter of the environment that the engine is installed in; None: our own."""
    launch: str | None = None
    """A command template that starts it elsewhere, in which `{command}` stands for its command and `{port}`
    for its port, such as `docker run --rm --init --gpus all --network host --entrypoint env IMAGE {command}`."""
    host: str = "127.0.0.1"
    """Where a server that a run starts listens, and is reached."""
    port: int | None = Field(default=None, ge=1, le=65535)
    """None: a free one."""
    start_timeout_s: float = Field(default=600.0, gt=0)

    @field_validator("url", "baseline_url")
    @classmethod
    def _no_secret_in_url(cls, url: str | None) -> str | None:
        if url is not None and holds_secret(url):
            raise ValueError(
                "a url is recorded with the run, so it may not hold a password or a query; "
                f"put the key into the environment variable {API_KEY_VARIABLE}"
            )
        return url

    @field_validator("launch")
    @classmethod
    def _template(cls, launch: str | None) -> str | None:
        if launch is not None and "{command}" not in launch:
            raise ValueError("engine.launch does not say where the engine's command goes: {command}")
        try:
            shlex.split(launch or "")
        except ValueError as error:
            raise ValueError(f"engine.launch cannot be split into words ({error}): {launch}") from error
        return launch

    @property
    def attached(self) -> bool:
        """Whether the server is somebody else's: neither started nor stopped by a run."""
        return self.url is not None


class LlamaCppConfig(EngineSettings):
    """The embedded engine."""

    name: Literal["llama-cpp"] = "llama-cpp"
    context_length: int = Field(default=8192, ge=64)
    threads: int = Field(default=1, ge=1)
    """1 by default: more threads spin against whatever else the machine does, the client included."""
    ngram_size: int = Field(default=3, ge=1)
    """How many last tokens must have been seen before for `ngram` to propose what followed them."""
    start_timeout_s: float = Field(default=120.0, gt=0)
    extra: dict[str, Scalar] = {}
    """Any other parameter of llama.cpp by its own (dotted) name, passed on unchanged."""

    @field_validator("extra", mode="before")
    @classmethod
    def _plain_values(cls, value: Any) -> Any:
        for name, given in value.items() if isinstance(value, Mapping) else ():
            if not isinstance(given, bool | int | float | str):
                raise ValueError(f"engine.extra.{name}: a number, text or boolean is expected, not {given!r}")
        return value


class GpuEngineSettings(EngineSettings):
    """What the engines that serve large models take, in one spelling."""

    tensor_parallel: int = Field(default=1, ge=1)
    """GPUs that share every layer."""
    data_parallel: int = Field(default=1, ge=1)
    """Copies of the model."""
    expert_parallel: int = Field(default=1, ge=1)
    """GPUs that share the experts of a mixture."""
    memory_fraction: float | None = Field(default=None, gt=0, le=1)
    """Share of a GPU's memory for weights and cache, as the engine counts it; None: the engine's default."""
    prefix_cache: bool = False
    """Off: an answer may not depend on which prompts came before."""
    ngram_min: int = Field(default=2, ge=1)
    """Fewest last tokens that `ngram` looks for in the text so far."""
    ngram_max: int = Field(default=4, ge=1)
    """Most of them."""
    dtype: str | None = None
    """Of weights and activations; None: as the model has it."""
    extra: dict[str, Any] = {}
    """Any other setting of the engine by its own name, passed on unchanged."""

    @model_validator(mode="after")
    def _ngrams_fit(self) -> Self:
        if self.ngram_min > self.ngram_max:
            raise ValueError(f"engine.ngram_min {self.ngram_min} is above engine.ngram_max {self.ngram_max}")
        return self


class VllmConfig(GpuEngineSettings):
    """vLLM."""

    name: Literal["vllm"] = "vllm"


class SglangConfig(GpuEngineSettings):
    """SGLang."""

    name: Literal["sglang"] = "sglang"


class TensorRtLlmConfig(GpuEngineSettings):
    """TensorRT-LLM."""

    name: Literal["tensorrt-llm"] = "tensorrt-llm"
    request_stats: bool = False
    """Whether this version tells what each request drafted and accepted; older ones refuse the setting."""


class Fault(Settings):
    """Something that goes wrong in the simulator, on demand."""

    kind: Literal[
        "slow-start",
        "stall",
        "truncate",
        "merge",
        "early-usage",
        "http-5xx",
        "reset",
        "malformed",
        "wrong-counters",
        "crash",
    ]
    request: int | None = Field(default=None, ge=0)
    """The number of the request it happens to, in the order in which they come in; None: every one."""
    seconds: float = Field(default=1.0, ge=0)
    """How long, for `slow-start` and `stall`."""
    steps: int = Field(default=4, ge=2)
    """How many decode steps share an event, for `merge`."""


class SimulatorConfig(EngineSettings):
    """A server without a model, whose acceptance is known beforehand."""

    name: Literal["simulator"] = "simulator"
    context_length: int = Field(default=131072, ge=64)
    start_timeout_s: float = Field(default=60.0, gt=0)
    speaks: Literal["llama-cpp", "vllm", "sglang", "tensorrt-llm"] = "vllm"
    """Whose wire format it speaks, and so which dialect reads it."""
    seed: int = Field(default=0, ge=0)
    """Of the truth: equal seeds answer equal prompts equally, at any concurrency."""
    acceptance: Rates = (0.7, 0.6, 0.5)
    """Probability that draft 1, 2, … is right once those before it were; the last one holds from there on."""
    category_acceptance: dict[str, Rates] = {}
    """The same for single categories."""
    no_proposal: Probability = 0.0
    """Share of decode steps that have no proposal (`ngram` and `suffix` only)."""
    mean_output_tokens: float = Field(default=200.0, ge=1)
    """Of answers that end by themselves, EOS included; an answer may end inside a step."""
    step_ms: float = Field(default=5.0, ge=0)
    """Time of a decode step of one stream, the base of the step-time model."""
    step_ms_per_token: float = Field(default=0.05, ge=0)
    """Added for every token that a step verifies, over all streams in the batch."""
    step_ms_per_1k_context: float = Field(default=0.02, ge=0)
    """Added for every 1,000 tokens of context in the batch."""
    draft_ms: float = Field(default=0.3, ge=0)
    """Added for every drafted position."""
    prefill_ms_per_1k: float = Field(default=20.0, ge=0)
    """Time to prefill 1,000 prompt tokens."""
    speed: float = Field(default=1.0, gt=0)
    """How much faster than the model says the clock runs."""
    max_batch: int | None = Field(default=None, ge=1)
    """Requests that run at once; more wait for a place. None: as many as the run has streams."""
    request_stats: bool = False
    """Whether it tells what each request drafted and accepted where only newer versions do (TensorRT-LLM)."""
    faults: tuple[Fault, ...] = ()


ENGINE_CONFIGS: Final[dict[str, type[EngineSettings]]] = {
    "llama-cpp": LlamaCppConfig,
    "vllm": VllmConfig,
    "sglang": SglangConfig,
    "tensorrt-llm": TensorRtLlmConfig,
    "simulator": SimulatorConfig,
}
"""The settings of each engine, by its name."""
AnyEngineConfig = Annotated[
    LlamaCppConfig | VllmConfig | SglangConfig | TensorRtLlmConfig | SimulatorConfig, Field(discriminator="name")
]


def holds_secret(url: str) -> bool:
    """Whether a url has a place where keys are put: a user before its host, a query, a fragment.

    >>> holds_secret("http://me:key@host"), holds_secret("me:key@host"), holds_secret("http://host:80/a@b")
    (True, True, False)
    """
    return bool(re.search(r"^(\w+://)?[^/]*@|[?#]", url))


def api_key() -> str | None:
    """The key of a server that asks for one, from the environment; None if there is none.

    Raises ConfigError for what cannot stand in a header.
    """
    key = os.environ.get(API_KEY_VARIABLE, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(f"the environment variable {API_KEY_VARIABLE} holds characters that no key can have")
    return key or None
