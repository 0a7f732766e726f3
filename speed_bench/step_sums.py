"""What runs say of their decode steps: sums over each conversation, and the ratios that predictions are made of.

**Step time.** How long a decode step took: total decode time / decode steps, over the turns of whole segments, as

    (Σ last − first arrival) / (Σ tokens after the first arrival) · (tokens that steps emitted / decode steps)

Both factors are exact however many steps an arrival holds, so merged arrivals do not make steps longer; and without
speculation the second is 1. It makes t_ar · AL / t_sd the ratio of the decode times per token of the two runs,
which is `speedup_tpot` where they have the same turns.

**Prefill of others.** At a concurrency above 1 decoding also waits while new requests are prefilled, and that is part
of the step time, because it is part of what users wait for. In a closed loop it is so much for each *token*, not for
each step: while a stream emits so many, each of the others ends an answer and brings a new prompt, however few steps
that takes. It is told apart by the gaps between arrivals in which no other request was between being sent and its
first token:

    prefill_s = decode time per token − (mean of those gaps) · (gaps per token)
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from speed_bench.prediction import Estimate, acceptance_lengths
from speed_bench.records import RunRecords
from speed_bench.scores import Bootstrap
from speed_bench.serving import decode_span, step_gap_s, ttft_s
from speed_bench.statistics import FloatArray, Resampled
from speed_bench.tally import Tally, pool, tally_record
from speed_bench.timing import by_conversation, whole_segments
from speed_bench.types import TurnRecord

MIN_FREE_GAPS = 100
"""Of fewer gaps without anybody's prefill the mean is left to chance, and prefill is not told apart."""

RATIOS = (
    ("token_s", "decode_s", "decode_tokens"),
    ("acceptance_length", "step_tokens", "num_steps"),
    ("ttft_s", "ttft_s", "num_answered"),
    ("output_tokens", "output_tokens", "num_answered"),
    ("first_tokens", "first_tokens", "num_answered"),
    ("free_gap_s", "free_s", "num_free_gaps"),
    ("gaps_per_token", "num_gaps", "decode_tokens"),
)
"""Name, numerator, denominator."""


@dataclass(frozen=True, slots=True)
class StepSums:
    """One run, or several without speculation together: sums over each conversation."""

    names: tuple[tuple[str, str], ...]
    """(category, question) of each row."""
    columns: dict[str, FloatArray]
    """By name, one value per conversation."""
    joint: tuple[FloatArray, FloatArray]
    """(conversations, K): steps in which drafts 1…k were right, and all of them; or successes and trials at k, where
    steps are not told apart."""
    conditional: bool
    """Whether `joint` are successes and trials."""
    last: tuple[FloatArray, FloatArray]
    """(conversations, 1): successes and trials at the last position K."""
    tally: Tally
    num_turns: int
    """Timed ones: those that finished in a whole segment."""

    @property
    def depth(self) -> int:
        """The longest proposal, as far as it is known."""
        return int(self.joint[0].shape[1])

    @property
    def tells_prefill(self) -> bool:
        """Whether the prefill of others can be told apart from decoding."""
        return bool(self.columns["num_free_gaps"].sum() >= MIN_FREE_GAPS)


def sum_steps(runs: Sequence[RunRecords], draft_length: int | None = None) -> StepSums:
    """The sums of one run, or of several that are taken for one.

    `draft_length` is the most that its steps may draft, where that is known: none of them need have done so.
    """
    turns, tallies, gaps = list[TurnRecord](), list[Tally](), list[FloatArray]()
    for run in runs:
        for members in whole_segments(run):
            turns += members
            gaps += free_gaps(members)
    by_turn = {id(turn): gap for turn, gap in zip(turns, gaps, strict=True)}
    rows = by_conversation(turns)
    values: dict[str, list[float]] = {name: [] for pair in RATIOS for name in pair[1:]}
    for members in rows:
        tallies.append(pool(map(tally_record, members)))
        for name, value in _sums_of(members, [by_turn[id(turn)] for turn in members], tallies[-1]).items():
            values[name].append(value)
    total = pool(tallies)
    depth = max(len(total.reached or ()), len(total.trials or ()), draft_length or 0)
    successes, trials = (
        _by_position([getattr(each, name) for each in tallies], depth) for name in ("successes", "trials")
    )
    reached = _by_position([tally.reached for tally in tallies], depth)
    placed = np.array([[tally.num_placed_steps or 0] for tally in tallies], dtype=np.float64).reshape(-1, 1)
    return StepSums(
        names=tuple((members[0].category, members[0].question_id) for members in rows),
        columns={name: np.array(column, dtype=np.float64) for name, column in values.items()},
        joint=(successes, trials) if total.lengths is None else (reached, placed.repeat(depth, axis=1)),
        conditional=total.lengths is None,
        last=(successes[:, -1:], trials[:, -1:]) if depth else (0 * placed, 0 * placed),
        tally=total,
        num_turns=len(turns),
    )


def free_gaps(turns: Sequence[TurnRecord]) -> list[FloatArray]:
    """For each turn of a segment the gaps between its arrivals in which no other request was being prefilled.

    That is: none of them was between being sent and its first token.
    """
    waits = [(turn.sent_at_s, turn.sent_at_s + wait) for turn in turns if (wait := _ttft_s(turn)) is not None]
    starts, ends = _union(waits)
    found = []
    for turn in turns:
        times = np.array([at for at, num in turn.arrivals if num])
        before, after = times[:-1], times[1:]
        next_wait = np.searchsorted(ends, before, side="right")
        begins = np.append(starts, np.inf)[next_wait]
        found.append((after - before)[begins >= after])
    return found


Quantity = Callable[[FloatArray], FloatArray]
"""From ratios, (rows, ratios of all runs), to one value per row: of the runs as they are, and of every resample."""


class Ratios:
    """The ratios of several runs, and all of them resampled together, over the conversations of all.

    Of no run at all there are none, and what is estimated is a constant.
    """

    def __init__(self, runs: Sequence[StepSums], bootstrap: Bootstrap) -> None:
        self._bootstrap = bootstrap
        names = sorted({name for run in runs for name in run.names})
        row_of = {name: row for row, name in enumerate(names)}
        above, below = list[FloatArray](), list[FloatArray]()
        self.runs: list[Run] = []
        for run in runs:
            rows = [row_of[name] for name in run.names]
            self.runs.append(Run(run, offset=sum(block.shape[1] for block in above)))
            pairs = [(run.columns[over], run.columns[under]) for _, over, under in RATIOS]
            blocks = [*((over[:, None], under[:, None]) for over, under in pairs), run.last, run.joint]
            for over, under in blocks:
                above.append(_placed(over, rows, len(names)))
                below.append(_placed(under, rows, len(names)))
        self._values = np.empty((1, 0))
        self._resampled: Resampled | None = None
        if not names:
            return
        numerators, denominators = np.hstack(above), np.hstack(below)
        sums, bases = numerators.sum(axis=0), denominators.sum(axis=0)
        self._values = np.divide(sums, bases, out=np.full_like(sums, np.nan), where=bases != 0)[None]
        categories = [category for category, _ in names]
        self._resampled = Resampled.of(
            numerators, denominators, categories, resamples=bootstrap.resamples, seed=bootstrap.seed
        )

    def estimate(self, quantity: Quantity, num_conversations: int) -> Estimate | None:
        """A function of the ratios, with its bootstrap interval; None where it is undefined."""
        value = float(quantity(self._values)[0])
        if not np.isfinite(value):
            return None
        if self._resampled is None:
            return Estimate(value)
        bounds = self._resampled.map(lambda rows: quantity(rows)[:, None]).interval(
            num_conversations=num_conversations, confidence_level=self._bootstrap.confidence_level
        )
        return Estimate(value) if bounds is None else Estimate(value, *bounds)


@dataclass(frozen=True, slots=True)
class Run:
    """Where the ratios of one run stand among those of all, and what is made of them."""

    sums: StepSums
    offset: int

    def ratio(self, name: str) -> Quantity:
        """One of `RATIOS`."""
        column = self.offset + [each for each, _, _ in RATIOS].index(name)
        return lambda rows: rows[:, column]

    def acceptance_length(self, draft_length: int | None = None) -> Quantity:
        """As measured; or with another draft length, `prediction.acceptance_lengths`.

        A longer one goes on with the rate at the last position.
        """
        if draft_length is None:
            return self.ratio("acceptance_length")
        last = self.offset + len(RATIOS)
        joint = slice(last + 1, last + 1 + self.sums.depth)

        def lengths(rows: FloatArray) -> FloatArray:
            shares = np.cumprod(rows[:, joint], axis=1) if self.sums.conditional else rows[:, joint]
            return acceptance_lengths(shares, [draft_length], rows[:, last])[:, 0]

        return lengths

    def step_s(self) -> Quantity:
        """Step time: see the top of this file."""
        token_s, length = self.ratio("token_s"), self.ratio("acceptance_length")
        return lambda rows: token_s(rows) * length(rows)

    def prefill_s(self) -> Quantity:
        """Prefill of others, per token: see the top of this file."""
        token_s, gap_s, gaps = self.ratio("token_s"), self.ratio("free_gap_s"), self.ratio("gaps_per_token")
        return lambda rows: token_s(rows) - gap_s(rows) * gaps(rows)


def _sums_of(turns: Sequence[TurnRecord], gaps: Sequence[FloatArray], tally: Tally) -> dict[str, float]:
    spans = [decode_span(turn.arrivals) for turn in turns]
    waits = [wait for turn in turns if (wait := _ttft_s(turn)) is not None]
    decode_tokens, output_tokens = sum(num for _, num in spans), sum(turn.num_output_tokens for turn in turns)
    return {
        "decode_s": sum(span_s for span_s, _ in spans),
        "decode_tokens": decode_tokens,
        "step_tokens": tally.num_tokens,
        "num_steps": np.nan if tally.num_steps is None else tally.num_steps,
        "ttft_s": sum(waits),
        "num_answered": len(waits),
        "output_tokens": output_tokens,
        "first_tokens": output_tokens - decode_tokens,
        "free_s": float(sum(each.sum() for each in gaps)),
        "num_free_gaps": sum(map(len, gaps)),
        "num_gaps": sum(len(step_gap_s(turn.arrivals)) for turn in turns),
    }


def _ttft_s(turn: TurnRecord) -> float | None:
    return ttft_s(turn.sent_at_s, turn.arrivals)


def _union(spans: Iterable[tuple[float, float]]) -> tuple[FloatArray, FloatArray]:
    """(starts, ends) of the spans of time that are covered by any of these."""
    merged: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], end)
        else:
            merged.append((start, end))
    every = np.array(merged, dtype=np.float64).reshape(-1, 2)
    return every[:, 0], every[:, 1]


def _by_position(vectors: Sequence[Sequence[int] | None], depth: int) -> FloatArray:
    """(conversations, positions); 0 where it is not known, or shorter."""
    rows = np.zeros((len(vectors), depth))
    for row, vector in zip(rows, vectors, strict=True):
        row[: len(vector or ())] = vector or ()
    return rows


def _placed(values: FloatArray, rows: Sequence[int], num_rows: int) -> FloatArray:
    """These rows among those of all."""
    every = np.zeros((num_rows, values.shape[1]))
    every[rows] = values
    return every
