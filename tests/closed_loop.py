"""A closed loop against the simulator's own step-time model, on its own clock: no sockets, no waiting, no noise.

Streams that are always busy, answers whose lengths come from a seed and are the same with and without speculation, and
drafts that are right with given rates. What comes out are the records of a run.
"""

from dataclasses import dataclass, field

import numpy as np
from records import counts_of, run_of

from speed_bench.engine_config import SimulatorConfig
from speed_bench.engines.simulator.batch import Work, pass_ms
from speed_bench.records import RunRecords
from speed_bench.types import Step, TurnRecord


@dataclass
class Stream:
    """What one of the streams is at."""

    number: int
    slot: int
    sent_at_s: float
    num_tokens: int
    arrivals: list[tuple[float, int]] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)

    @property
    def seen(self) -> int:
        return sum(num for _, num in self.arrivals)


def closed_loop(
    draft_length: int,
    *,
    rates: tuple[float, ...] = (0.8, 0.7, 0.65, 0.6, 0.55),
    streams: int = 16,
    turns: int = 128,
    prompt_tokens: int = 1000,
    mean_output_tokens: int = 64,
    seed: int = 0,
    conversations: int = 32,
    no_proposal: float = 0.0,
    **settings,
) -> RunRecords:
    """The records of a run; a draft length of 0 is one without speculation."""
    config, rng = SimulatorConfig(**settings), np.random.default_rng((seed, draft_length))
    lengths = np.random.default_rng(0).geometric(1 / mean_output_tokens, size=turns).clip(8, 4 * mean_output_tokens)
    waiting, busy, records, now_s = list(range(turns)), dict[int, Stream](), list[TurnRecord](), 0.0
    while waiting or busy:
        for slot in range(streams):
            if slot not in busy and waiting:
                number = waiting.pop(0)
                busy[slot] = Stream(number, slot, now_s, int(lengths[number]))
        works = []
        for stream in busy.values():
            if stream.arrivals:
                drafted = 0 if rng.random() < no_proposal else draft_length
                right = rng.random(drafted) < rates[:drafted]
                accepted = drafted if right.all() else int(np.argmin(right))
                emitted = min(accepted + 1, stream.num_tokens - stream.seen)
                stream.steps.append(Step(drafted, accepted, emitted))
                works.append(Work(0, drafted + 1, prompt_tokens + stream.seen, drafted))
            else:
                works.append(Work(prefill_tokens=prompt_tokens))
        now_s += pass_ms(config, _together(works)) / 1000
        for slot, stream in list(busy.items()):
            stream.arrivals.append((now_s, stream.steps[-1].emitted if stream.arrivals else 1))
            if stream.seen == stream.num_tokens:
                records.append(_record(stream, conversations, prompt_tokens))
                del busy[slot]
    return run_of(*records)


def _together(works: list[Work]) -> Work:
    return Work(
        sum(work.prefill_tokens for work in works),
        sum(work.verified_tokens for work in works),
        sum(work.context_tokens for work in works),
        max(work.draft_length for work in works),
    )


def _record(stream: Stream, conversations: int, prompt_tokens: int) -> TurnRecord:
    question, turn = stream.number % conversations, stream.number // conversations
    return TurnRecord(
        id=f"question-{question:03}/{turn}",
        category=("math", "qa")[question % 2],
        seed=0,
        segment=0,
        slot=stream.slot,
        prompt_len=prompt_tokens,
        prompt_sha256=f"sha-{stream.number}",
        output_ids=tuple(range(stream.num_tokens)),
        prefill_tokens=1,
        sent_at_s=stream.sent_at_s,
        arrivals=tuple(stream.arrivals),
        finished_at_s=stream.arrivals[-1][0],
        finish_reason="length",
        last_step="complete",
        counts=counts_of(tuple(stream.steps)),
    )
