"""What a watcher of a run is told of every turn that ends: little enough to be sent between processes."""

from typing import NamedTuple

from speed_bench.types import Outcome, TurnRecord


class Ended(NamedTuple):
    """A turn that is in the journal."""

    key: tuple[int, int, str]
    """(seed, repeat, id)."""
    failed: bool
    num_output_tokens: int = 0
    num_steps: int | None = None
    """Decode steps, where they are known."""
    num_emitted: int = 0
    """Tokens of those steps."""
    finished_at_s: float = 0.0
    """Since the load began."""


def ended(outcome: Outcome) -> Ended:
    """What is told of an outcome."""
    if not isinstance(outcome, TurnRecord):
        return Ended(outcome.key, failed=True)
    num_steps = outcome.counts.num_steps if outcome.counts else None
    emitted = outcome.num_output_tokens - outcome.prefill_tokens if num_steps else 0
    return Ended(outcome.key, False, outcome.num_output_tokens, num_steps, emitted, outcome.finished_at_s)
