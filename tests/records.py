"""Runs made of decode steps: what was accepted, step by step, is all that a test has to say."""

from dataclasses import replace

from speed_bench.records import RunRecords, Segment
from speed_bench.types import Failure, SpecCounts, Step, TurnRecord


def steps_of(*accepted: int, drafted: int = 3) -> tuple[Step, ...]:
    return tuple(Step(drafted, right, right + 1) for right in accepted)


def counts_of(steps: tuple[Step, ...]) -> SpecCounts:
    return SpecCounts(
        drafted=sum(step.drafted for step in steps),
        accepted=sum(step.accepted for step in steps),
        verify_steps=sum(step.drafted > 0 for step in steps),
        num_steps=len(steps),
        per_step=steps,
        origin="engine",
        aligned=True,
    )


def turn(
    name: str,
    steps: tuple[Step, ...] = (),
    *,
    category: str = "math",
    at_s: float = 0.0,
    step_s: float = 0.5,
    **changes,
) -> TurnRecord:
    """A turn whose prefill emits one token 1 s after its request, and a step every `step_s` after that."""
    arrivals = [(at_s + 1.0, 1)]
    arrivals += [(at_s + 1.0 + step_s * number, step.emitted) for number, step in enumerate(steps, 1)]
    record = TurnRecord(
        id=name,
        category=category,
        seed=0,
        segment=0,
        slot=0,
        prompt_len=10,
        prompt_sha256=f"sha-{name}",
        output_ids=tuple(range(1 + sum(step.emitted for step in steps))),
        prefill_tokens=1,
        sent_at_s=at_s,
        arrivals=tuple(arrivals),
        finished_at_s=arrivals[-1][0],
        finish_reason="length",
        last_step="complete",
        counts=counts_of(steps),
    )
    return replace(record, **changes)


def run_of(*turns: TurnRecord, failures: tuple[Failure, ...] = (), **segment) -> RunRecords:
    only = Segment(0, "2025-01-01T00:00:00Z", "boot", None, wall_s=100.0, **{"whole": True, **segment})
    return RunRecords(turns, failures, (only,), num_planned=len(turns) + len(failures))
