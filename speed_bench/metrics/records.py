"""Plain lists as the records that a run is made of, so that both are scored by the same functions."""

from collections.abc import Hashable, Mapping, Sequence

from speed_bench.records import RunRecords, Segment
from speed_bench.scores import Cell, Distribution
from speed_bench.types import SpecCounts, TurnRecord


def turn_of(
    index: int,
    conversation: Hashable,
    *,
    start_s: float,
    arrivals: Sequence[tuple[float, int]],
    slot: int = 0,
    seed: int = 0,
    category: str = "all",
    output_ids: Sequence[int | None] | None = None,
    steps: Sequence[int] | None = None,
    prompt: Hashable = "",
) -> TurnRecord:
    """The record of one request. `steps` are the tokens that each decode step emitted, where they are known."""
    name = f"{conversation:012d}" if isinstance(conversation, int) else str(conversation)
    ids = (None,) * sum(num for _, num in arrivals) if output_ids is None else tuple(output_ids)
    counts = None if steps is None else SpecCounts(None, None, None, len(steps), None, "stream", aligned=False)
    return TurnRecord(
        id=f"{name}/{index}",
        category=category,
        seed=seed,
        segment=0,
        slot=slot,
        prompt_len=0,
        prompt_sha256=repr(prompt),
        output_ids=ids,
        prefill_tokens=len(ids) - (0 if steps is None else sum(steps)),
        sent_at_s=start_s,
        arrivals=tuple(arrivals),
        finished_at_s=arrivals[-1][0] if arrivals else start_s,
        finish_reason="",
        last_step="unknown",
        counts=counts,
    )


def run_of(turns: Sequence[TurnRecord]) -> RunRecords:
    """All of them in one engine lifetime that ended in order."""
    segment = Segment(0, "", None, None, whole=True)
    return RunRecords(tuple(turns), (), (segment,), num_planned=len(turns))


def intervals_of(cells: Mapping[str, Cell | Distribution]) -> dict[str, list[float] | None]:
    """[low, high] by name; None where there is no interval."""
    return {name: bounds_of(cell) for name, cell in cells.items()}


def bounds_of(cell: Cell | Distribution) -> list[float] | None:
    """[low, high], or None."""
    return None if cell.low is None or cell.high is None else [cell.low, cell.high]
