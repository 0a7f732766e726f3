"""Engines: a name maps to the import path of its dialect. Listing them imports none.

A dialect is a module of pure functions (the `Dialect` protocol), tested on recorded bytes.
"""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

from speed_bench.engines.answers import Chunk, Drafting
from speed_bench.errors import ConfigError, EngineError, unknown
from speed_bench.types import LastStep, Request, SpecCounts

if TYPE_CHECKING:
    from speed_bench.config import RunConfig
    from speed_bench.engine_config import EngineSettings
    from speed_bench.engines.server import Launch

ENGINES = {
    "llama-cpp": "speed_bench.engines.llama_cpp",
    "vllm": "speed_bench.engines.vllm",
    "sglang": "speed_bench.engines.sglang",
    "tensorrt-llm": "speed_bench.engines.tensorrt_llm",
    "simulator": "speed_bench.engines.simulator",
}
Checked = Literal["live on CPU", "real package", "snapshot", "simulated"]


@dataclass(frozen=True, slots=True)
class Wired:
    """How an engine does an algorithm."""

    spelling: str
    """In the engine's own words."""
    checked: Checked
    """What the tests hold it against: the engine itself, running here; the real package's argument parser and
    classes; a snapshot of its published interface."""


def require_wired(engine: str, wired: Mapping[str, Wired], algorithm: str) -> None:
    """Raises EngineError, with the list of what is wired, for an algorithm that is not.

    >>> require_wired("toy", {"none": Wired("nothing", "simulated")}, "none")
    """
    if algorithm not in wired:
        raise EngineError(f"engine '{engine}' has no algorithm '{algorithm}'; it has {', '.join(wired)}")


class Dialect(Protocol):
    """What the runner needs to know of an engine."""

    ALGORITHMS: Mapping[str, Wired]
    DISTRIBUTIONS: Sequence[str]
    """Python packages that bring it, any of which will do; none: it is always there."""
    INSTALL: str
    OWNED_BY: str
    """What `/v1/models` says of who serves them."""
    HEALTH: str
    METRICS: str
    INFO: str
    PREFILL_TOKENS: int
    """Output tokens that prefill emits; they are not a decode step."""
    CLOSES_AFTER_STREAM: bool
    """Whether a stream's connection is of no further use; a new one is opened before the next is timed."""
    READS_GGUF: bool
    """Whether its models are GGUF files; else they are Hugging Face repositories or folders."""

    def launch(self, config: "RunConfig", *, model: str, draft: str | None, port: int, folder: Path) -> "Launch":
        """Engine config -> argv, env, files. Raises for an algorithm that is not wired."""

    def payload(self, request: Request, served: str) -> tuple[str, dict[str, Any]]:
        """Request -> (path, JSON body); `served` is the name under which the model is served."""

    def parse(self, event: bytes, num_seen: int) -> Chunk | None:
        """One event -> Chunk, None if it only says that the stream ends; `num_seen` output tokens came before it."""

    def count(self, chunks: Sequence[Chunk], num_tokens: int, drafting: Drafting) -> tuple[SpecCounts | None, LastStep]:
        """All chunks of a turn -> its acceptance; None where the engine tells nothing that can be trusted."""

    def counters(self, metrics_text: str) -> SpecCounts:
        """Server metrics -> the engine's own counts since it started."""

    def describe(self, info: Mapping[str, Any], card: Mapping[str, Any]) -> dict[str, Any]:
        """Server info and its entry of `/v1/models` -> effective settings, for provenance, without paths.

        `context_length`, `version`, `algorithm` (one of ours, or several that it does not tell apart, as in
        `eagle/mtp`) and `draft_length` where the engine tells them.
        """

    def tokenize_payload(self, text: str, served: str) -> tuple[str, dict[str, Any]] | None:
        """Text -> the request that asks the engine for its ids; None if it cannot be asked."""

    def tokenize_answer(self, body: bytes) -> list[int]:
        """The answer to `tokenize_payload` -> ids."""


def dialect(name: str) -> Dialect:
    """The dialect of an engine; raises ConfigError with the nearest name if there is none."""
    if name not in ENGINES:
        raise ConfigError(unknown("engine", name, ENGINES))
    return cast(Dialect, importlib.import_module(ENGINES[name]))


def dialect_of(engine: "EngineSettings") -> Dialect:
    """The dialect that speaks with an engine of these settings: the simulator's depends on whom it plays."""
    speaks = dialect(engine.name)
    return cast(Dialect, speaks.speaking(engine)) if hasattr(speaks, "speaking") else speaks
