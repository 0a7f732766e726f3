"""A run on a simulator that it starts itself, with what the simulator knows of it: the truth, and when it happened."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import numpy.typing as npt
import orjson

from speed_bench.config import RunConfig, resolve
from speed_bench.engines.server import free_port
from speed_bench.records import RunRecords
from speed_bench.run_scores import score_folder
from speed_bench.runner import benchmark
from speed_bench.runner.journal import read_records
from speed_bench.runner.outcomes import Ended
from speed_bench.scores import Scores
from speed_bench.types import Outcome, Step, TurnRecord

NARROW_S = 0.001
"""More than it takes a byte to be read, there and back, when nothing else is to be done."""
FloatArray = npt.NDArray[np.float64]


class PageReader:
    """Watches a run, and reads the pages of its engine when the last turn has ended, while the engine still lives."""

    def __init__(self, url: str) -> None:
        self.pages: dict[str, Any] = {}
        self._url = url
        self._left = 0

    def begin(self, arm: str, num_turns: int, earlier: tuple[Outcome, ...]) -> None:
        self._left = num_turns - len(earlier)

    def outcome(self, turn: Ended) -> None:
        self._left -= 1
        if self._left == 0:
            self.pages = {name: page(self._url, name) for name in ("truth", "times", "load")}

    def end(self) -> None: ...


def page(url: str, name: str) -> Any:
    """What a simulator says of itself."""
    with urlopen(f"{url}/simulator/{name}", timeout=30) as answer:  # noqa: S310  (its own address)
        return orjson.loads(answer.read())


@dataclass(frozen=True)
class Told:
    """What the simulator says of one request."""

    number: int
    id: str
    prompt_len: int
    steps: tuple[Step, ...]
    arrived_s: float
    passes: tuple[int, ...]
    """The pass that brought each piece: prefill's first, then every step's."""
    sent_s: FloatArray

    @property
    def tokens_until(self) -> list[int]:
        """Tokens of the answer up to each piece."""
        return np.cumsum([1, *(step.emitted for step in self.steps)]).tolist()


@dataclass(frozen=True)
class TimedRun:
    """A run, its scores, and the simulator's own account of it. The simulator's times are seconds of one clock."""

    config: RunConfig
    records: RunRecords
    scores: Scores
    pages: dict[str, Any]

    @cached_property
    def told(self) -> list[Told]:
        """Every request in the order in which it came in, warm-up included."""
        truth = {each["number"]: each for each in self.pages["truth"]["requests"]}
        return [
            Told(
                timed["number"],
                timed["id"],
                truth[timed["number"]]["prompt_len"],
                tuple(Step(*step) for step in truth[timed["number"]]["steps"]),
                timed["arrived_s"],
                tuple(timed["passes"]),
                np.array(timed["sent_s"]),
            )
            for timed in sorted(self.pages["times"]["requests"], key=lambda each: each["number"])
        ]

    @cached_property
    def pairs(self) -> list[tuple[TurnRecord, Told]]:
        """Every turn of the journal with its request."""
        by_id = {told.id: told for told in self.told}
        return [(turn, by_id[turn.id]) for turn in self.records.turns]

    @cached_property
    def passes(self) -> dict[str, FloatArray]:
        """The columns of all passes."""
        assert self.pages["times"]["first_pass"] == 0
        return {name: np.array(column) for name, column in self.pages["times"]["passes"].items()}

    @cached_property
    def offset_s(self) -> float:
        """What to add to a time of the journal to have it on the simulator's clock.

        Nothing is read before it is sent, in either direction; between the two bounds that gives lies the truth.
        """
        lower = max(sent_s - at_s for turn, told in self.pairs for at_s, sent_s in pieces_of(turn, told))
        upper = min(told.arrived_s - turn.sent_at_s for turn, told in self.pairs)
        assert 0 <= upper - lower < NARROW_S, f"what is sent is read {upper - lower} s later at best"
        return (lower + upper) / 2


def arrivals_of(turn: TurnRecord, told: Told) -> list[tuple[float, float]]:
    """(when it was read, when the last piece in it was sent) of every arrival of a turn."""
    piece_of = {num: piece for piece, num in enumerate(told.tokens_until)}
    ends = np.cumsum([num for _, num in turn.arrivals]).tolist()
    return [(at_s, float(told.sent_s[piece_of[end]])) for (at_s, _), end in zip(turn.arrivals, ends, strict=True)]


def pieces_of(turn: TurnRecord, told: Told) -> list[tuple[float, float]]:
    """(when it was read, when it was sent) of every piece; one read may bring several."""
    ends = np.cumsum([num for _, num in turn.arrivals])
    reads = np.searchsorted(ends, told.tokens_until)
    return [(turn.arrivals[read][0], float(sent_s)) for read, sent_s in zip(reads, told.sent_s, strict=True)]


def timed_run(folder: Path, **flags: Any) -> TimedRun:
    """Measure and score."""
    port = free_port()
    reader = PageReader(f"http://127.0.0.1:{port}")
    settings = {"engine.name": "simulator", "engine.port": port, "algorithm": "mtp", "baseline": False, **flags}
    config, protocol = resolve(settings)
    benchmark.run(config, protocol, folder, observer=reader)
    return TimedRun(config, read_records(folder), score_folder(folder), reader.pages)
