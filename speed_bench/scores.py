"""`scores.json` as types: what a run came to, in numbers that carry their own uncertainty.

A value that does not exist, or that its origin cannot know, is null and says why in `reason`; it is
never 0 and never NaN. What each number means is said by the function of its name in `acceptance`
and `serving`; here is only where it stands.
"""

from typing import Self

from pydantic import BaseModel, ConfigDict

from speed_bench.records import Lateness
from speed_bench.statistics import Interval

SCHEMA_VERSION = 1


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class Cell(_Model):
    """One number with its confidence interval."""

    value: float | None
    low: float | None = None
    """Bounds of the interval; null below 8 conversations, and where none is defined."""
    high: float | None = None
    n: int
    """Observations the value rests on: conversations for acceptance, turns for speed."""
    reason: str | None = None
    """Why there is no value."""

    @classmethod
    def of(cls, value: float, n: int, bounds: Interval | None = None) -> Self:
        """A value, with its interval where it has one."""
        low, high = bounds or (None, None)
        return cls(value=value, low=low, high=high, n=n)

    @classmethod
    def undefined(cls, reason: str) -> Self:
        """No value, because of `reason`; it rests on no observation."""
        return cls(value=None, n=0, reason=reason)


class Difference(Cell):
    """A mean of paired differences."""

    p_value: float | None = None
    """Two-sided, of no difference; null where there is no interval."""


class Distribution(_Model):
    """The mean of observations and their percentiles, in the unit that the name ends with."""

    value: float | None
    low: float | None = None
    """Bounds of the interval of the mean, over conversations; null below 8 of them."""
    high: float | None = None
    p50: float | None = None
    p90: float | None = None
    p95: float | None = None
    p99: float | None = None
    n: int
    """Observations: turns, tokens for `itl_s`, gaps for `step_gap_s`."""
    reason: str | None = None


class GroupScores(_Model):
    """All conversations of a run, or those of one category.

    A vector has one cell per position 1…K; where its origin cannot know it, one cell says so.
    """

    acceptance_length: Cell
    """The headline: mean of the conversations of a category, over all: mean of those means. Over all it
    is null where every turn of a category failed: a mean of the others would be of other text."""
    acceptance_length_conversation: Cell
    """Mean over all conversations; in a category the same as `acceptance_length`."""
    acceptance_length_pooled: Cell
    """All steps together, whichever conversation they are of."""
    acceptance_length_drafted: Cell
    acceptance_length_uncensored: Cell
    acceptance_length_specdec_bench: Cell
    """Mean over conversations, with one step of length 1 added per turn."""
    draft_acceptance_rate: Cell
    joint_acceptance_rate: list[Cell]
    conditional_acceptance_rate: list[Cell]
    output_tps: Cell
    """Over all: that of `serving`. In a category: output tokens / summed busy time, a turn being busy
    from its request to its last token; only where no two turns of the run overlap, as at concurrency
    1. It has no gaps between turns in it, so the categories are a little faster than the whole."""
    user_tps: Cell
    """Mean over turns."""
    isl: Cell
    """Input tokens of a finished turn, as the engine was sent them: mean over turns."""
    osl: Cell
    """Output tokens of a finished turn: mean over turns."""
    histogram: dict[int, int] | None
    """Decode steps per emitted length, without those that cannot be told apart."""
    num_conversations: int
    num_turns: int
    num_failures: int
    num_turns_without_steps: int
    """Turns that prefill answered alone. A conversation of only such turns is in no mean."""
    num_steps: int | None
    num_steps_unplaced: int
    """Of `num_steps`, those that are not told apart: not in the vectors nor in the histogram."""


class PartScores(_Model):
    """One part of the answers of a reasoning model, over the turns that can be split (`parts.split_turn`)."""

    acceptance_length: Cell
    """Mean of the conversations of a category that have a decode step in this part, over all: mean of those means."""
    acceptance_length_pooled: Cell
    draft_acceptance_rate: Cell
    joint_acceptance_rate: list[Cell]
    conditional_acceptance_rate: list[Cell]
    num_turns: int
    """Turns with a decode step in it."""
    num_steps: int
    num_tokens: int
    """Emitted by these steps: the last step of the thinking may go on into the answer."""


class Parts(_Model):
    """Thinking and answer of a reasoning model apart."""

    thinking: PartScores
    answer: PartScores
    num_turns_unsplit: int
    """Finished turns that are in neither part; `reason` says why. With none that can be split there is no number."""
    reason: str | None = None


class ServerScores(_Model):
    """Of all turns together, from the engine's own counters alone: what remains where turns have no counts of
    their own. It holds for no category, and has no interval."""

    acceptance_length_drafted: Cell
    draft_acceptance_rate: Cell


class Acceptance(_Model):
    """How many tokens a decode step emits, over all and per category."""

    overall: GroupScores
    categories: dict[str, GroupScores]
    server: ServerScores
    origins: dict[str, int]
    """Turns by where their counts come from: `engine`, `stream`, or `none` of their own. A turn that prefill
    answered alone needs none and is not here."""
    num_turns_steps_unknown: int
    """Turns whose number of decode steps is not known, as where an engine merged chunks."""
    parts: Parts | None = None
    """null where no turn has thinking, or how the model marks it is not known."""


class SloLimit(_Model):
    """One demand of a service level objective: so many in a hundred turns take at most so long."""

    term: str
    """`ttft_s`, `tpot_s` or `e2e_s`."""
    percentile: float
    limit_s: float


class Load(_Model):
    """What load a run was made under: the settings of these names in `load_config`."""

    arrivals: str = "closed"
    concurrency: int
    rate: float | None = None
    burstiness: float = 1.0
    trace: str | None = None
    ramp_up_s: float = 0.0
    warmup_s: float = 0.0
    think_time_s: float = 0.0
    max_duration_s: float | None = None
    num_gpus: int | None = None
    slo: tuple[SloLimit, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether conversations begin by the clock."""
        return self.arrivals != "closed"


class SloScores(SloLimit):
    """A demand, and what came of it."""

    value_s: Cell
    """The time at that percentile, failed turns counted as longer than any."""
    share: Cell
    """Of the turns that have such a time, and the failed ones, those within the limit."""
    met: bool | None
    """Whether the time at that percentile is within the limit; null where no turn has such a time."""


class Goodput(_Model):
    """What was served within the limits of an SLO, failed turns counted as outside them."""

    goodput_rps: Cell
    """Turns per second that kept all limits."""
    goodput_share: Cell
    """Of the finished and failed turns, those that kept all limits."""
    terms: list[SloScores]


class Steady(_Model):
    """Turns that began while the load was steady: in the span of `steady_output_tps`."""

    span_s: float
    """How long it was, of several segments in total."""
    num_turns: int
    user_tps: Distribution
    ttft_s: Distribution
    itl_s: Distribution
    tpot_s: Distribution
    e2e_s: Distribution
    goodput: Goodput | None = None


class ClientScores(_Model):
    """Our own client: what it cost, and whether it was too slow for what it measured."""

    num_workers: int | None = None
    cpu_us_per_read: float | None = None
    """CPU time of all its processes / reads that brought bytes of an answer."""
    lateness: Lateness | None = None
    """Of its event loops, the worst of the whole segments: what a chunk may have waited for its stamp."""
    limited: bool | None = None
    """Whether that could have moved a percentile by more than 1 %; null where it is not known."""
    reasons: list[str] = []
    """Which ones, and by how much."""


class Serving(_Model):
    """Speed, from the turns of whole segments only: an engine that was killed is not timed."""

    output_tps: Cell
    output_tps_per_gpu: Cell
    steady_output_tps: Cell
    """While the load was steady; null where that is shorter than 10 s, or than two turns a stream."""
    steady_output_tps_per_gpu: Cell
    user_tps: Distribution
    ttft_s: Distribution
    itl_s: Distribution
    tpot_s: Distribution
    e2e_s: Distribution
    step_gap_s: Distribution
    client_wait_s: Distribution
    """From when a turn was due until it was sent, in an open loop."""
    isl: Distribution
    osl: Distribution
    steady: Steady | None = None
    """null exactly where `steady_output_tps` is."""
    goodput: Goodput | None = None
    """null where no SLO was given, or no segment is whole."""
    client: ClientScores | None = None
    """null where no whole segment says anything of it."""
    clock_error_s: float | None = None
    """By how much clocks of several client machines may be off against each other; null: all times are of one."""
    energy_j_per_token: Cell
    """Of the GPUs."""
    cpu_energy_j_per_token: Cell
    """Of the processor packages."""
    peak_gpu_memory_bytes: int | None = None
    """The most in use at once, over all GPUs; null where the machine does not say."""
    num_turns: int
    """Finished turns in whole segments."""
    num_output_tokens: int
    """Of those turns, what prefill emitted and EOS included."""
    num_segments: int
    num_segments_used: int


class Comparison(_Model):
    """Against a run of the same turns, usually without speculation.

    Turns are paired by id and seed, and are alike when their prompts are: later turns of a
    conversation carry the model's own answers, so they differ once an answer does.
    """

    speedup_output_tps: Cell
    """Output TPS / output TPS of the baseline: a ratio of totals, the headline."""
    speedup_tpot: Cell
    """Decode time per token of the baseline, in total, / that of the run."""
    acceptance_length_difference: Difference
    """Acceptance length − the baseline's, by conversation, over the turns with the same prompt in both:
    mean of the conversations of a category, then of the categories."""
    identical_share: Cell
    """Of the turns with the same prompt in both, those with the same output ids."""
    common_prefix_tokens: Cell
    """Of the same turns, how many output ids agree before the first that differs: mean over turns."""
    paired_share: Cell
    """Of the run's finished turns, those with the same prompt in the baseline."""
    output_tps: Cell
    """The baseline's own."""
    tpot_s: Cell
    """The baseline's own: total decode time / total tokens after the first arrival."""
    num_turns: int
    """The baseline's finished turns."""
    num_failures: int


class Counts(_Model):
    """Verified counts; null where they are not known."""

    verify_steps: int | None
    drafted: int | None
    accepted: int | None


class Reconciliation(_Model):
    """Our counts of all turns against the engine's own counters."""

    turns: Counts
    engine: Counts
    equal: bool | None
    """null where nothing could be compared."""
    reason: str | None = None


class Bootstrap(_Model):
    """How the confidence intervals were drawn."""

    confidence_level: float
    resamples: int
    seed: int


class Scores(_Model):
    """All numbers of a run. Never recomputed downstream."""

    schema_version: int = SCHEMA_VERSION
    load: Load | None = None
    """null where the records are not those of a run."""
    acceptance: Acceptance
    serving: Serving
    baseline: Comparison | None
    reconciliation: Reconciliation
    bootstrap: Bootstrap
    num_conversations: int
    num_turns: int
    """Finished turns."""
    num_failures: int
    failures: dict[str, int]
    """How many turns failed, by stage and error, numbers and ids in it left out."""
    num_planned: int
