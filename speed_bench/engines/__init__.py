"""Engines: a name maps to the import path of its dialect. Listing them imports none.

A dialect is a module of pure functions (the `Dialect` protocol), tested on recorded bytes.
"""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from speed_bench.errors import ConfigError, unknown
from speed_bench.types import Chunk, LastStep, Request, SpecCounts

if TYPE_CHECKING:
    from speed_bench.config import RunConfig
    from speed_bench.engines.server import Launch

ENGINES = {"llama-cpp": "speed_bench.engines.llama_cpp"}


class Dialect(Protocol):
    """What the runner needs to know of an engine."""

    ALGORITHMS: Sequence[str]
    INSTALL: str
    HEALTH: str
    METRICS: str
    INFO: str
    PREFILL_TOKENS: int
    """Output tokens that prefill emits; they are not a decode step."""
    CLOSES_AFTER_STREAM: bool
    """Whether a stream's connection is of no further use; a new one is opened before the next is timed."""

    def installed(self) -> str | None:
        """Its version in this environment, None if it is not there."""

    def launch(self, config: "RunConfig", *, model: Path, draft: Path | None, port: int) -> "Launch":
        """Engine config -> argv, env. Raises for an algorithm that is not wired."""

    def payload(self, request: Request) -> tuple[str, dict[str, Any]]:
        """Request -> (path, JSON body)."""

    def parse(self, event: bytes, num_seen: int) -> Chunk:
        """One event -> Chunk; `num_seen` output tokens came before it."""

    def count(self, chunks: Sequence[Chunk], num_tokens: int) -> tuple[SpecCounts, LastStep]:
        """All chunks of a turn -> its acceptance."""

    def counters(self, metrics_text: str) -> SpecCounts:
        """Server metrics -> the engine's own counts since it started."""

    def describe(self, info: Mapping[str, Any]) -> dict[str, Any]:
        """Server info -> effective settings, for provenance."""

    def tokenize_payload(self, text: str) -> tuple[str, dict[str, Any]]:
        """Text -> the request that asks the engine for its ids."""

    def tokenize_answer(self, body: bytes) -> list[int]:
        """The answer to `tokenize_payload` -> ids."""


def dialect(name: str) -> Dialect:
    """The dialect of an engine; raises ConfigError with the nearest name if there is none."""
    if name not in ENGINES:
        raise ConfigError(unknown("engine", name, ENGINES))
    return cast(Dialect, importlib.import_module(ENGINES[name]))
