"""Runs on the simulator, in this process: settings in, records out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from speed_bench.config import resolve
from speed_bench.records import RunRecords
from speed_bench.runner import benchmark
from speed_bench.runner.journal import read_records
from speed_bench.runner.outcomes import Ended
from speed_bench.types import Outcome

FAST = {"engine": "simulator", "algorithm": "mtp", "categories": "math,qa", "baseline": False, "engine.speed": 20.0}


class Watching:
    """Keeps what a run tells, and may act on it."""

    def __init__(self, act: Callable[[int], None] = lambda _: None) -> None:
        self.act = act
        self.ended: list[Ended] = []

    def begin(self, arm: str, num_turns: int, earlier: tuple[Outcome, ...]) -> None:
        self.num_planned, self.earlier = num_turns, earlier

    def outcome(self, turn: Ended) -> None:
        self.ended.append(turn)
        self.act(len(self.ended))

    def end(self) -> None: ...


def simulated(folder: Path, *, resume: bool = False, watching: Watching | None = None, **flags: Any) -> RunRecords:
    """Run it whole, and read what is in its folder."""
    config, protocol = resolve({**FAST, **flags})
    benchmark.run(config, protocol, folder, resume=resume, observer=watching or Watching())
    return read_records(folder)
