"""What a run folder says besides its turns: the lifetimes of engines, and what was measured around them."""

from dataclasses import dataclass, field

from speed_bench.types import Failure, Outcome, SpecCounts, TurnRecord


@dataclass(frozen=True, slots=True)
class Lateness:
    """By how much our event loop was late for what was due, in seconds: what a chunk may have waited for its stamp."""

    p50_s: float
    p90_s: float
    p95_s: float
    p99_s: float
    max_s: float


@dataclass(frozen=True, slots=True)
class ClientUse:
    """What our own client spent on a segment, over all its worker processes."""

    num_workers: int
    num_reads: int
    """Reads that brought bytes of an answer."""
    cpu_s: float
    """From the first request to the last record on disk."""


@dataclass(frozen=True, slots=True)
class Energy:
    """What the machine says it used while a segment was measured; None where it does not say."""

    gpu_j: float | None
    """Of all GPUs that were counted."""
    cpu_j: float | None
    """Of the processor packages (RAPL)."""
    peak_gpu_memory_bytes: int | None
    """The most that was in use at once, summed over the GPUs that were counted, other programs included."""
    num_gpus: int
    """GPUs that were counted."""
    span_s: float
    """Over how long."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One engine lifetime of a run. Times in its records are seconds since `started_at`."""

    index: int
    started_at: str
    """UTC, ISO 8601."""
    boot_id: str | None
    """Of the machine: two segments of one boot share a monotonic clock."""
    counters_before: SpecCounts | None
    """The engine's own counters after warm-up; None where it has none."""
    counters_after: SpecCounts | None = None
    """The same at its end; None when it died or could not be read."""
    wall_s: float | None = None
    """None while it is running, or when it was killed."""
    whole: bool = False
    """Whether it ended in order. Serving numbers come from whole segments only."""
    engine: dict[str, str | bool | int | float | None] = field(default_factory=dict)
    """The engine's effective settings, as it tells them."""
    lateness: Lateness | None = None
    """Of our own event loop while streams ran; None where it did not end in order. Of several workers, the worst."""
    client: ClientUse | None = None
    """None where it did not end in order."""
    energy: Energy | None = None
    """None where the machine has no meter that we can read."""
    unmetered: dict[str, str] = field(default_factory=dict)
    """Why a quantity of `energy` has no value, by its name."""
    load_ended_at_s: float | None = None
    """When the load ended: the last scheduled arrival of an open loop, or the time limit. None: with its last turn."""
    clock_error_s: float | None = None
    """By how much times of workers on different machines may be off against each other; None: all on one clock."""
    machine: str | None = None
    """`Hardware.kind` of what the client ran on; None in older journals."""


@dataclass(frozen=True, slots=True)
class RunRecords:
    """Everything that a run folder says of what happened."""

    turns: tuple[TurnRecord, ...]
    failures: tuple[Failure, ...]
    segments: tuple[Segment, ...]
    num_planned: int
    """Turns that the run set out to do."""

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """Finished and failed turns together."""
        return (*self.turns, *self.failures)
