"""From what an engine says as it goes to the decode steps of a turn.

An engine that reports cumulative counts with every event (`Mark`) lets its decode steps be
told apart exactly, because a step that accepts a drafts emits a + 1 tokens. Where events are
missing (llama.cpp sends none for tokens that end inside a character) the number of steps is
still exact; which of them did what may not be, and such steps are left unplaced.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from speed_bench.engines.answers import Chunk, Mark
from speed_bench.errors import RequestFailed
from speed_bench.types import LastStep, SpecCounts, Step


@dataclass(slots=True)
class _Group:
    """Events of one step clock: the step they belong to, and steps before it that no event showed."""

    drafted: int
    accepted: int


def steps_from_marks(
    chunks: Sequence[Chunk], *, num_tokens: int, prefill_tokens: int = 1
) -> tuple[SpecCounts, LastStep]:
    """The decode steps of a turn and how sure its last one is, from marks (origin `engine`).

    `chunks` are the events in order, `num_tokens` all output tokens, of which prefill emitted
    the first `prefill_tokens`. Either every token has its event or no step is cut (llama.cpp never
    cuts one): with both, a cut step and a step that no event showed could not be told apart.
    Raises RequestFailed if the counts contradict each other.
    """
    last = next((chunk.mark for chunk in reversed(chunks) if chunk.mark), None)
    if last is None:
        raise RequestFailed("no event of the answer carries counts")
    walk = _Walk(prefill_tokens)
    for chunk in chunks:
        if chunk.mark and chunk.mark.num_tokens > prefill_tokens:
            walk.add(chunk.mark)
    if (last.drafted, last.accepted) != walk.totals:
        raise RequestFailed(f"the last event counts {last.accepted} of {last.drafted} drafts, those before it others")
    walk.settle(num_tokens)
    ended = any(chunk.finish_reason == "stop" for chunk in chunks)
    counts = SpecCounts(
        drafted=last.drafted,
        accepted=last.accepted,
        verify_steps=None if walk.unplaced else sum(1 for step in walk.steps if step.drafted),
        num_steps=len(walk.steps) + walk.unplaced,
        per_step=tuple(walk.steps),
        origin="engine",
        aligned=not walk.unplaced,
        unplaced_steps=walk.unplaced,
    )
    return counts, _last_step(walk, ended=ended)


def _last_step(walk: "_Walk", *, ended: bool) -> LastStep:
    """`cut` if more was accepted than shown; `unknown` if EOS may have been an accepted draft."""
    if not walk.last_is_placed:
        return "complete"
    step = walk.steps[-1]
    if step.emitted <= step.accepted:
        return "cut"
    return "unknown" if ended and step.drafted > step.accepted else "complete"


class _Walk:
    """Goes through the marks and settles groups of events wherever a step boundary is certain."""

    def __init__(self, prefill_tokens: int) -> None:
        self.steps: list[Step] = []
        self.unplaced = 0
        self.last_is_placed = False
        self._settled = prefill_tokens
        self._seen = prefill_tokens
        self._clock: float | None = None
        self._drafted = self._accepted = 0
        self._groups: list[_Group] = []

    @property
    def totals(self) -> tuple[int, int]:
        """(drafted, accepted) by the marks so far."""
        return self._drafted, self._accepted

    def add(self, mark: Mark) -> None:
        if mark.num_tokens == self._seen:
            return  # the closing event, which repeats the last count
        if mark.step_clock != self._clock:
            if mark.num_tokens == self._seen + 1:
                self.settle(self._seen)
            drafted, accepted = mark.drafted - self._drafted, mark.accepted - self._accepted
            if not 0 <= accepted <= drafted:
                raise RequestFailed(f"the engine's counts go backwards: drafted {drafted}, accepted {accepted}")
            self._groups.append(_Group(drafted, accepted))
            self._clock, self._drafted, self._accepted = mark.step_clock, mark.drafted, mark.accepted
        elif (mark.drafted, mark.accepted) != (self._drafted, self._accepted):
            raise RequestFailed("the engine's counts change within one decode step")
        self._seen = mark.num_tokens

    def settle(self, boundary: int) -> None:
        """Every group so far ends at token `boundary`: place their steps, or number them."""
        groups, self._groups = self._groups, []
        if not groups:
            return
        tokens = boundary - self._settled
        num_steps = tokens - sum(group.accepted for group in groups)
        self.last_is_placed = True
        if num_steps == len(groups):
            self.steps += [Step(group.drafted, group.accepted, group.accepted + 1) for group in groups]
        elif not any(group.drafted for group in groups):
            self.steps += [Step(0, 0, 1)] * num_steps
        elif num_steps > len(groups):
            self.unplaced += num_steps
            self.last_is_placed = False
        else:
            self._place_cut(groups, tokens)
        self._settled = boundary

    def _place_cut(self, groups: list[_Group], tokens: int) -> None:
        """Fewer tokens than accepted: the last step was cut before all of its tokens were shown."""
        *before, cut = groups
        shown = tokens - sum(group.accepted + 1 for group in before)
        if not 1 <= shown <= cut.accepted:
            raise RequestFailed(f"the engine says that {tokens} tokens hold {sum(g.accepted for g in groups)} accepted")
        self.steps += [Step(group.drafted, group.accepted, group.accepted + 1) for group in before]
        self.steps.append(Step(cut.drafted, cut.accepted, shown))
