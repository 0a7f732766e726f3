"""The dialect of the simulator: a server without a model that plays another engine, and knows the truth.

It speaks the wire format of the engine that `engine.speaks` names, and that engine's own dialect reads it; here
is only what differs. Every request carries its own id (`speed_bench_request`), from which the simulator knows the
question and so the category; real engines never get that key.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import orjson

from speed_bench.engine_config import SimulatorConfig
from speed_bench.engines import Dialect, Wired, dialect, require_wired
from speed_bench.engines.server import Launch, interpreter, kept
from speed_bench.types import Request

if TYPE_CHECKING:
    from speed_bench.config import RunConfig

ALGORITHMS: Mapping[str, Wired] = {
    "none": Wired("every step emits one token", "simulated"),
    "ngram": Wired("drafts by acceptance and no_proposal", "simulated"),
    "suffix": Wired("drafts by acceptance and no_proposal", "simulated"),
    "draft": Wired("drafts by acceptance", "simulated"),
    "eagle3": Wired("drafts by acceptance", "simulated"),
    "mtp": Wired("drafts by acceptance", "simulated"),
}
DISTRIBUTIONS: Sequence[str] = ()
INSTALL = "part of speed-bench"
READS_GGUF = True
MODULE = "speed_bench.engines.simulator.server"
REQUEST_KEY = "speed_bench_request"
"""The key under which a request carries its own id."""


@dataclass(frozen=True, slots=True)
class Simulated:
    """The dialect of the engine that is played, but for how it is started and for the id in every request."""

    spoken: Dialect
    ALGORITHMS: ClassVar[Mapping[str, Wired]] = ALGORITHMS
    DISTRIBUTIONS: ClassVar[Sequence[str]] = DISTRIBUTIONS
    INSTALL: ClassVar[str] = INSTALL
    READS_GGUF: ClassVar[bool] = READS_GGUF

    def __getattr__(self, name: str) -> Any:
        return getattr(self.spoken, name)

    def launch(self, config: "RunConfig", *, model: str, draft: str | None, port: int, folder: Path) -> Launch:
        """The simulator's own process, or the command template that is to start it. A draft model is not read."""
        require_wired("simulator", ALGORITHMS, config.algorithm)
        settings = {
            "engine": config.engine.model_dump(mode="json", exclude_defaults=True),
            "algorithm": config.algorithm,
            "draft_length": config.draft_length,
            "concurrency": config.concurrency,
            "edition": config.edition,
            "config": config.config,
            "port": port,
            "model": model,
        }
        elsewhere = config.engine.python is not None or config.engine.launch is not None
        command = [
            interpreter(config.engine, ours=True),
            "-m",
            MODULE,
            orjson.dumps({**settings, "kept": elsewhere}).decode(),
        ]
        return Launch(kept(command, config.engine, port) if elsewhere else tuple(command))

    def payload(self, request: Request, served: str) -> tuple[str, dict[str, Any]]:
        """Request -> (path, JSON body), with the request's own id."""
        path, body = self.spoken.payload(request, served)
        return path, {**body, REQUEST_KEY: request.id}


def speaking(config: SimulatorConfig) -> Simulated:
    """The dialect that reads a simulator with these settings."""
    return Simulated(dialect(config.speaks))


def launch(config: "RunConfig", *, model: str, draft: str | None, port: int, folder: Path) -> Launch:
    """The simulator's own process."""
    assert isinstance(config.engine, SimulatorConfig)  # noqa: S101  (the name says so)
    return speaking(config.engine).launch(config, model=model, draft=draft, port=port, folder=folder)


def __getattr__(name: str) -> Any:
    """The rest of a dialect, as the engine has it that is played unless told otherwise."""
    if name.startswith("__"):
        raise AttributeError(name)
    return getattr(speaking(SimulatorConfig()), name)
