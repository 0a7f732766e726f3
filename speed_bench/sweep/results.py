"""`summary.json` as types: the numbers of all cells, and the best draft length of each group of them."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from speed_bench.scores import Cell, Distribution
from speed_bench.sweep.folder import State
from speed_bench.sweep.repeats import OverRuns

SCHEMA_VERSION = 1

Metric = Literal["output_tps", "tpot_s"]
ToldBy = Literal["intervals", "repeats", "turns"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class Headline(_Model):
    """What one run came to: a choice of its `scores.json`, under the same names."""

    acceptance_length: Cell
    draft_acceptance_rate: Cell
    output_tps: Cell
    output_tps_per_gpu: Cell
    steady_output_tps: Cell
    steady_output_tps_per_gpu: Cell
    goodput_rps: Cell
    user_tps: Distribution
    ttft_s: Distribution
    itl_s: Distribution
    tpot_s: Distribution
    e2e_s: Distribution
    isl: Distribution
    osl: Distribution
    energy_j_per_token: Cell
    cpu_energy_j_per_token: Cell
    peak_gpu_memory_bytes: int | None
    speedup_output_tps: Cell
    speedup_tpot: Cell
    counts_equal: bool | None
    """Whether what was drafted and accepted equals the engine's own counts; null where that was not checked."""
    client_limited: bool | None
    """Whether our own client could have moved a percentile by more than 1 %; null where that is not known."""
    num_turns: int
    num_turns_timed: int
    """Of these, the ones in whole segments: those that speed is of."""
    num_failures: int


class CellResult(_Model):
    """One cell of the sweep, one run."""

    name: str
    settings: dict[str, Any]
    """Model, algorithm, draft length, concurrency, config, and whatever else is swept over, by dotted key."""
    repeat: int
    baseline: str | None
    """The cell that it is compared with."""
    state: State
    error: str | None = None
    """Why it failed."""
    doubt: str | None = None
    """What nobody can tell of it, though it has not failed."""
    not_compared: str | None = None
    """Which turns are missing in its speed, so that it is in no choice of the best and on no curve."""
    machine: str | None = None
    """Processor and GPUs that it ran on; null where it has no scores, and where its server may be elsewhere."""
    headline: Headline | None = None
    """null where it is not finished, or has failed."""


class Option(_Model):
    """A draft length that was measured."""

    draft_length: int
    value: OverRuns
    speedup: OverRuns
    """Over the runs without speculation, in the same measure."""
    told_apart: bool | None = None
    """Whether it is worse than the best by more than chance; null for the best itself, and without a value."""
    by: ToldBy | None = None
    """What says so: intervals that do not overlap; the ratio to the best over repeats made side by side; the ratio
    over the same turns."""


class Best(_Model):
    """The best draft length of cells that differ in nothing else."""

    settings: dict[str, Any]
    metric: Metric
    draft_length: int | None
    """The one with the best value; null where none has one."""
    not_told_apart: list[int]
    """Those that may be as good, the best itself among them, in order. One: it is told apart from all."""
    options: list[Option]


class Summary(_Model):
    """`summary.json`."""

    schema_version: int = SCHEMA_VERSION
    swept: list[str]
    """Dotted keys in which cells differ."""
    cells: list[CellResult]
    best: list[Best]
