"""What a run says of those who served it: whether our own client was on time, and what the machine used."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeVar

from speed_bench.records import Lateness, RunRecords, Segment
from speed_bench.scores import Cell, ClientScores, Distribution
from speed_bench.serving import PERCENTILES

MOVED_SHARE = 0.01
"""A lateness of more than this share of a time has moved it."""
RESOLUTION_S = 0.0002
"""By less our own lateness cannot be told from none."""

T = TypeVar("T")


def client_scores(run: RunRecords, times: Mapping[str, Distribution]) -> ClientScores | None:
    """What our client was to a run, and to these of its `times`; None where no whole segment tells anything.

    It is `limited` where at any percentile of any of the times its lateness at the same percentile is more than
    1 % of that time, and more than 0.2 ms: then a percentile may be the client's and not the engine's.
    """
    told = [segment.client for segment in run.segments if segment.whole and segment.client]
    late = client_lateness(run)
    if not told and late is None:
        return None
    num_reads = sum(use.num_reads for use in told)
    reasons = [] if late is None else _moved(late, times)
    return ClientScores(
        num_workers=max((use.num_workers for use in told), default=None),
        cpu_us_per_read=1e6 * sum(use.cpu_s for use in told) / num_reads if num_reads else None,
        lateness=late,
        limited=None if late is None else bool(reasons),
        reasons=reasons,
    )


def client_lateness(run: RunRecords) -> Lateness | None:
    """How late our own event loop was: the highest of each over the whole segments; None where none of them says."""
    told = [segment.lateness for segment in run.segments if segment.whole and segment.lateness]
    if not told:
        return None
    return Lateness(*(max(getattr(each, name) for each in told) for name in Lateness.__dataclass_fields__))


def _moved(late: Lateness, times: Mapping[str, Distribution]) -> list[str]:
    """The percentiles that our lateness could have moved by more than 1 %, a phrase each."""
    found = []
    for name, distribution in times.items():
        for rank in PERCENTILES:
            value_s, late_s = getattr(distribution, f"p{rank}"), getattr(late, f"p{rank}_s")
            if value_s is not None and late_s > max(RESOLUTION_S, MOVED_SHARE * value_s):
                found.append(f"{name} p{rank} is {1e3 * value_s:.1f} ms, the client was late by {1e3 * late_s:.1f} ms")
    return found


def clock_error_s(run: RunRecords) -> float | None:
    """The largest of the whole segments; None where all their times are of one clock."""
    return max(_told(run, lambda segment: segment.clock_error_s), default=None)


def energy_j_per_token(run: RunRecords, num_tokens: int, num_turns: int, quantity: Literal["gpu_j", "cpu_j"]) -> Cell:
    """Energy of the whole segments / output tokens of their finished turns, in joules.

    What failed turns took, and an idle machine takes, is in it. Undefined where a whole segment does not say.
    """
    whole = [segment for segment in run.segments if segment.whole]
    found = [None if segment.energy is None else getattr(segment.energy, quantity) for segment in whole]
    known = [each for each in found if each is not None]
    if not whole or not num_tokens:
        return Cell.undefined("no turn of it finished in a whole segment")
    if len(known) < len(found):
        why = (segment.unmetered.get(quantity) for segment in whole)
        return Cell.undefined(next(filter(None, why), "this machine does not say what it used"))
    return Cell.of(sum(known) / num_tokens, num_turns)


def peak_gpu_memory_bytes(run: RunRecords) -> int | None:
    """The most GPU memory in use at once in any whole segment; None where none says."""
    told = _told(run, lambda segment: segment.energy)
    return max((num for energy in told if (num := energy.peak_gpu_memory_bytes) is not None), default=None)


def _told(run: RunRecords, value_of: Callable[[Segment], T | None]) -> Sequence[T]:
    return [value for segment in run.segments if segment.whole and (value := value_of(segment)) is not None]
