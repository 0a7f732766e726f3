"""A known acceptance process: what an engine would count of conversations whose true rates are set here.

Each category has its own acceptance rate per draft position and its own mean answer length. Each
conversation has an effect that moves all its rates together (normal, on the logit scale); its
answers end at EOS (a constant hazard per token) or at `max_tokens`, so the last step of a turn may be
cut, and is counted by the `last_step` rules of `speed_bench.tally`. Given its conversation, a step
is independent of every other step.

Arrays are (conversations, replications): a column is one run of the benchmark.
"""

from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt

from speed_bench.types import LastStep

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

NUM_CATEGORIES = 11


@dataclass(frozen=True, slots=True)
class Process:
    """What generates the steps of a run. Rates are those of the middle conversation of a category."""

    name: str
    draft_length: int = 3
    rates: tuple[float, float] = (0.45, 0.85)
    """Acceptance rate at position 1: lowest and highest category, the others evenly between."""
    rate_drop: float = 0.03
    """What each further position has less."""
    effect_sd: float = 0.5
    """Of the conversation effect, in logits."""
    mean_tokens: tuple[float, float] = (100.0, 500.0)
    """Mean answer length before the limit: shortest and longest category."""
    length_slope: float = 0.2
    """How much longer the answers of easier conversations are: mean length times exp(slope · z)."""
    max_tokens: int = 1024
    second_turn_share: float = 0.25
    """Conversations that have a second turn."""
    proposal_share: float = 1.0
    """Steps that have a proposal; the others are plain. Below 1 it has the conversation effect, too."""
    last_step: LastStep = "cut"
    """What the origin knows of a step that was cut: `complete` all, `cut` the tokens shown;
    `unknown`: of no last step whether its last token was a draft."""
    drafter_correlation: float = 0.7
    """Of the conversation effects under this drafter and under another one."""


CHAIN_OF_3 = Process("draft of 3")
CHAIN_OF_7 = Process("draft of 7", draft_length=7, rates=(0.55, 0.9), last_step="complete")
N_GRAM = Process("n-gram", rates=(0.5, 0.8), proposal_share=0.3)
SHORT = Process("64 tokens", max_tokens=64, last_step="unknown")
PROCESSES = (CHAIN_OF_3, CHAIN_OF_7, N_GRAM, SHORT)
UNEVEN = Process(
    "uneven", 5, rates=(0.4, 0.9), effect_sd=1.0, mean_tokens=(30.0, 1000.0), length_slope=0.5, max_tokens=4096
)
"""Conversations that differ more, in rates and in length, than those of the other processes."""


@dataclass(frozen=True, slots=True)
class Conversations:
    """What a conversation brings whatever drafter reads it."""

    categories: IntArray
    """Index of the category per conversation (row)."""
    effects: FloatArray
    """Standard normal."""
    turns: tuple[IntArray, ...]
    """Decode tokens (output tokens minus the one of prefill) per turn; 0: no such turn."""


@dataclass(slots=True)
class Counts:
    """Sums over the steps of each conversation, as in `speed_bench.tally.Tally`. Those per position
    have a leading axis of positions."""

    num_turns: IntArray
    num_tokens: IntArray
    num_steps: IntArray
    verify_steps: IntArray
    accepted: IntArray
    """Before any cut."""
    trials: IntArray
    successes: IntArray
    reached: IntArray
    """Steps that emitted at least k + 1 tokens."""

    @classmethod
    def zeros(cls, process: Process, num_rows: int) -> "Counts":
        flat = (np.zeros(num_rows, dtype=np.int64) for _ in range(5))
        by_position = (np.zeros((process.draft_length, num_rows), dtype=np.int64) for _ in range(3))
        return cls(*flat, *by_position)

    def reshaped(self, shape: tuple[int, int]) -> "Counts":
        arrays = (getattr(self, field.name) for field in fields(self))
        return Counts(*(array.reshape(*array.shape[:-1], *shape) for array in arrays))

    @property
    def acceptance_length(self) -> FloatArray:
        """Of each conversation."""
        return self.num_tokens / self.num_steps


def category_names(num_categories: int, per_category: int) -> list[str]:
    """A name per conversation, category by category."""
    return [f"category {index:02}" for index in range(num_categories) for _ in range(per_category)]


def draw_conversations(
    process: Process, categories: IntArray, replications: int, rng: np.random.Generator
) -> Conversations:
    """Conversations of the given categories (0…10, one per row), drawn anew for each replication."""
    shape = (len(categories), replications)
    effects = rng.standard_normal(shape)
    # Lengths are out of step with rates, so that the easiest category is not the longest.
    rank = (categories * 4) % NUM_CATEGORIES / (NUM_CATEGORIES - 1)
    short, long = process.mean_tokens
    mean = (short * (long / short) ** rank)[:, None] * np.exp(process.length_slope * effects)
    first, second = (np.minimum(rng.geometric(1 / mean), process.max_tokens - 1) for _ in range(2))
    second[rng.random(shape) >= process.second_turn_share] = 0
    return Conversations(categories, effects, (first, second))


def other_drafter(
    process: Process, conversations: Conversations, rng: np.random.Generator, *, shift: float
) -> tuple[Process, Conversations]:
    """A drafter whose rates are lower by `shift`, reading the same conversations and the same answers."""
    shared = process.drafter_correlation
    own = rng.standard_normal(conversations.effects.shape)
    effects = shared * conversations.effects + np.sqrt(1 - shared**2) * own
    low, high = process.rates
    return replace(process, rates=(low - shift, high - shift)), replace(conversations, effects=effects)


def decode(process: Process, conversations: Conversations, rng: np.random.Generator) -> Counts:
    """All steps of all turns of the conversations under one drafter."""
    shape = conversations.effects.shape
    effects = process.effect_sd * conversations.effects.ravel()
    place = np.repeat(conversations.categories / (NUM_CATEGORIES - 1), shape[1])
    low, high = process.rates
    first = low + (high - low) * place
    rates = [_moved(first - process.rate_drop * position, effects) for position in range(process.draft_length)]
    proposed = None if process.proposal_share == 1 else _moved(np.full_like(first, process.proposal_share), effects)
    steps = _Steps(process, rates, proposed, Counts.zeros(process, effects.size), rng)
    for tokens in conversations.turns:
        steps.decode_turn(tokens.ravel())
    return steps.counts.reshaped(shape)


def _moved(rates: FloatArray, effects: FloatArray) -> FloatArray:
    """Rates with an effect added to their logits."""
    return 1 / (1 + np.exp(-effects) * (1 - rates) / rates)


@dataclass(slots=True)
class _Steps:
    """Draws steps for all rows at once, and counts them."""

    process: Process
    rates: list[FloatArray]
    proposed: FloatArray | None
    counts: Counts
    rng: np.random.Generator

    def decode_turn(self, tokens: IntArray) -> None:
        """Steps of one turn per row, until it has its tokens; rows with 0 tokens have no such turn.

        As many steps as cannot overshoot whatever they accept are drawn together, again and again;
        then one by one, since the last may be cut.
        """
        longest = self.process.draft_length + 1
        left = tokens.copy()
        rows = np.flatnonzero(left)
        self.counts.num_turns[rows] += 1
        self.counts.num_tokens += tokens
        while rows.size:
            together = left[rows] >= longest
            many, one = rows[together], rows[~together]
            left[many] -= self._many(many, left[many] // longest)
            left[one] -= self._one(one, left[one])
            rows = rows[left[rows] > 0]

    def _many(self, rows: IntArray, num_steps: IntArray) -> IntArray:
        """Tokens that `num_steps` whole steps emit."""
        counts = self.counts
        tried = num_steps if self.proposed is None else self.rng.binomial(num_steps, self.proposed[rows])
        counts.num_steps[rows] += num_steps
        counts.verify_steps[rows] += tried
        emitted = num_steps.copy()
        for position, rate in enumerate(self.rates):
            accepted = self.rng.binomial(tried, rate[rows])
            counts.trials[position, rows] += tried
            counts.successes[position, rows] += accepted
            counts.reached[position, rows] += accepted
            counts.accepted[rows] += accepted
            emitted += accepted
            tried = accepted
        return emitted

    def _one(self, rows: IntArray, left: IntArray) -> IntArray:
        """Tokens that one step emits which is cut after `left`, and counted by the rule of `last_step`."""
        counts = self.counts
        verify = np.ones(rows.size, dtype=bool) if self.proposed is None else self._coin(self.proposed[rows])
        accepted, going = np.zeros_like(left), verify.copy()
        for rate in self.rates:
            going &= self._coin(rate[rows])
            accepted += going
        emitted = np.minimum(accepted + 1, left)
        tried = np.where(verify, np.minimum(accepted + 1, self.process.draft_length), 0)
        succeeded = accepted.copy()
        if self.process.last_step == "cut":
            was_cut = accepted + 1 > left
            tried[was_cut] = succeeded[was_cut] = left[was_cut]
        elif self.process.last_step == "unknown":
            last = verify & (accepted + 1 >= left)
            tried[last] = succeeded[last] = left[last] - 1
        counts.num_steps[rows] += 1
        counts.verify_steps[rows] += verify
        counts.accepted[rows] += accepted
        for position in range(self.process.draft_length):
            counts.trials[position, rows] += tried > position
            counts.successes[position, rows] += succeeded > position
            counts.reached[position, rows] += emitted > position + 1
        return emitted

    def _coin(self, chance: FloatArray) -> npt.NDArray[np.bool_]:
        return self.rng.random(chance.size) < chance
