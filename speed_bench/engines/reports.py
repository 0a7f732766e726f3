"""From what an engine says once of a whole request, and the sizes of its chunks, to the decode steps of a turn.

The counts of a report are the engine's own and exact (origin `engine`). What they leave open, the chunks may
tell: an engine sends a chunk after every decode step, unless it falls behind and merges several. So chunks
are steps only where they fit the report one to one; where they do not, what they would have told is None.
Chunks without any report are steps (origin `stream`) only where the engine says how often its model ran.
"""

from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

from speed_bench.engines.answers import Chunk, Drafting, SpecReport
from speed_bench.errors import RequestFailed
from speed_bench.types import LastStep, SpecCounts, Step

PerStep = Sequence[tuple[int, int]]
"""(drafted, accepted) of verification steps, in order."""
_SAID = tuple(each.name for each in fields(SpecReport))


def steps_from_report(
    chunks: Sequence[Chunk], *, num_tokens: int, drafting: Drafting, prefill_tokens: int = 1
) -> tuple[SpecCounts | None, LastStep]:
    """The acceptance of a turn and how sure its last step is; None where nothing can be told of it.

    Raises RequestFailed if the report contradicts itself or the tokens.
    """
    report = combined([chunk.report for chunk in chunks])
    in_steps = num_tokens - prefill_tokens
    if drafting.draft_length == 0 and not report.verify_steps:
        return _plain(in_steps), "complete"
    sizes = decode_sizes([len(chunk.token_ids) for chunk in chunks], prefill_tokens)
    if report.per_step is not None:
        return from_steps(sizes, report.per_step, always=drafting.always), "complete"
    if report.histogram is not None:
        return from_histogram(sizes, report, drafting), "complete"
    if in_steps == 0:
        return _plain(0), "complete"
    if drafting.reported and report.num_iterations in (None, in_steps + 1):
        return SpecCounts(0, 0, 0, in_steps, (Step(0, 0, 1),) * in_steps, "engine", aligned=True), "complete"
    return from_sizes(sizes, report.num_iterations, drafting), "unknown"


def combined(reports: Iterable[SpecReport | None]) -> SpecReport:
    """What all events of a request say together; of two that say the same thing, the later."""
    said: dict[str, Any] = {}
    for report in reports:
        if report is not None:
            said |= {name: value for name in _SAID if (value := getattr(report, name)) is not None}
    return SpecReport(**said)


def decode_sizes(sizes: Sequence[int], prefill_tokens: int) -> list[int]:
    """Tokens of each chunk without what prefill emitted, chunks of nothing left out.

    >>> decode_sizes([1, 3, 0, 1], 1), decode_sizes([4, 1], 1)
    ([3, 1], [3, 1])
    """
    left, decoded = prefill_tokens, []
    for size in sizes:
        from_prefill = min(left, size)
        left -= from_prefill
        if size > from_prefill:
            decoded.append(size - from_prefill)
    return decoded


def _plain(num_steps: int) -> SpecCounts:
    """Without speculation a step emits one token, however chunks come."""
    return SpecCounts(0, 0, 0, num_steps, (Step(0, 0, 1),) * num_steps, "stream", aligned=True)


# --- every verification step is reported -----------------------------------------------------------


def from_steps(sizes: Sequence[int], per_step: PerStep, *, always: bool) -> SpecCounts:
    """Of steps that are all reported, before any cut, but without the plain ones between them (vLLM).

    With V reported steps of aᵢ accepted tokens, N tokens from decode steps and p plain steps, the last
    reported step was cut by c = Σ(aᵢ + 1) + p − N tokens, 0 ≤ c ≤ a_V. Chunks that fit the steps one to one
    give p and c; else p is known only where one value fits, or where every step drafts.
    """
    num_tokens = sum(sizes)
    totals = (sum(drafted for drafted, _ in per_step), sum(accepted for _, accepted in per_step), len(per_step))
    fitted = fit(sizes, per_step)
    if fitted is not None:
        steps, aligned = fitted
        return SpecCounts(*totals, len(steps), tuple(steps), "engine", aligned=aligned)
    whole = sum(accepted + 1 for _, accepted in per_step)
    most_cut = per_step[-1][1] if per_step else 0
    least_cut = max(0, whole - num_tokens)
    if least_cut > most_cut:
        raise RequestFailed(f"the engine reports steps of {whole} tokens, {num_tokens} came from decode steps")
    if always and whole >= num_tokens:
        most_cut = least_cut
    verified = [Step(drafted, accepted, accepted + 1) for drafted, accepted in per_step]
    if least_cut < most_cut:
        return SpecCounts(*totals, None, tuple(verified), "engine", aligned=False)
    if least_cut:
        drafted, accepted, emitted = verified[-1]
        verified[-1] = Step(drafted, accepted, emitted - least_cut)
    num_plain = num_tokens - whole + least_cut
    steps = [Step(0, 0, 1)] * num_plain + verified
    return SpecCounts(*totals, len(steps), tuple(steps), "engine", aligned=num_plain == 0)


def fit(sizes: Sequence[int], per_step: PerStep) -> tuple[list[Step], bool] | None:
    """Steps and chunks one to one: the steps, and whether it is certain which chunk is which; None if they do not fit.

    A chunk of several tokens is a step that accepted some; between two of those, chunks of one token are
    plain steps or steps that accepted none. Only the last reported step may show fewer tokens than it
    emitted, and only in the last chunk.

    The one mistake left: where the last chunk alone is merged, and its step cut, both at once may look like a
    whole step.

    >>> fit([3, 1], [(3, 2), (3, 0)])
    ([Step(drafted=3, accepted=2, emitted=3), Step(drafted=3, accepted=0, emitted=1)], True)
    >>> fit([4, 1], [(3, 2), (3, 0)])
    """
    right = [at for at, (_, accepted) in enumerate(per_step) if accepted]
    long = [at for at, size in enumerate(sizes) if size > 1]
    if len(long) == len(right) - 1 and right[-1] == len(per_step) - 1 and sizes and sizes[-1] == 1:
        long.append(len(sizes) - 1)  # cut to its first token
    if len(long) != len(right):
        return None
    steps: list[Step] = []
    certain = True
    chunk_before = step_before = -1
    for chunk, step in zip([*long, len(sizes)], [*right, len(per_step)], strict=True):
        wrong = per_step[step_before + 1 : step]
        num_plain = chunk - chunk_before - 1 - len(wrong)
        if num_plain < 0:
            return None
        certain &= not (wrong and num_plain)
        steps += [Step(0, 0, 1)] * num_plain
        steps += [Step(drafted, 0, 1) for drafted, _ in wrong]
        if chunk < len(sizes):
            drafted, accepted = per_step[step]
            may_be_cut = step == len(per_step) - 1 and chunk == len(sizes) - 1
            if sizes[chunk] != accepted + 1 and not (may_be_cut and sizes[chunk] <= accepted):
                return None
            steps.append(Step(drafted, accepted, sizes[chunk]))
        chunk_before, step_before = chunk, step
    return steps, certain


# --- only how many steps accepted how much is reported ---------------------------------------------


def from_histogram(sizes: Sequence[int], report: SpecReport, drafting: Drafting) -> SpecCounts:
    """Of reported steps without an order (SGLang), whose order the chunks may tell.

    Chunks fit where as many have 2, 3, … tokens as steps accepted 1, 2, …; the last may be shorter than its
    step. Then steps are in order, each with its accepted tokens; what each drafted is known only where
    all drafted the full length.
    """
    histogram = report.histogram or ()
    num_steps, accepted = sum(histogram), sum(at * steps for at, steps in enumerate(histogram))
    if report.verify_steps not in (None, num_steps) or report.accepted not in (None, accepted):
        raise RequestFailed(f"the engine's report contradicts itself: {report}")
    most = max((at for at, steps in enumerate(histogram) if steps), default=0)
    if not num_steps <= sum(sizes) or num_steps + accepted - sum(sizes) > most:
        raise RequestFailed(
            f"the engine reports {num_steps} steps that accepted {accepted}, {sum(sizes)} tokens came from decode steps"
        )
    length = drafting.draft_length or report.draft_length
    full = length if length and report.drafted == num_steps * length and len(histogram) <= length + 1 else None
    decode_steps = None if report.num_iterations is None else report.num_iterations - 1
    if decode_steps is not None and not (num_steps <= decode_steps and sum(sizes) <= decode_steps + accepted):
        raise RequestFailed(f"the engine's report contradicts its {sum(sizes)} tokens from decode steps: {report}")
    in_order = _order(sizes, histogram)
    if decode_steps not in (None, len(sizes)):
        in_order = None
    if in_order is not None and full is not None and len(sizes) == num_steps:
        steps = tuple(Step(full, right, size) for right, size in zip(in_order, sizes, strict=True))
        return SpecCounts(report.drafted, accepted, num_steps, num_steps, steps, "engine", aligned=True)
    if in_order is not None:
        decode_steps = len(sizes)
    elif decode_steps is None and drafting.always and num_steps + accepted >= sum(sizes):
        decode_steps = num_steps
    return SpecCounts(
        report.drafted,
        accepted,
        num_steps,
        decode_steps,
        None,
        "engine",
        aligned=in_order is not None,
        emitted=None if in_order is None else tuple(sizes),
        histogram=tuple(histogram),
        full_draft_length=full,
    )


def _order(sizes: Sequence[int], histogram: Sequence[int]) -> list[int] | None:
    """Accepted tokens of the step behind each chunk, plain steps being 0; None where chunks and steps do not fit.

    >>> _order([3, 1, 2], [1, 0, 2]), _order([4, 2], [1, 0, 2])
    ([2, 0, 2], None)
    """
    missing = dict(enumerate(histogram))
    for size in sizes[:-1]:
        missing[size - 1] = missing.get(size - 1, 0) - 1
    num_plain = len(sizes) - sum(histogram)
    missing[0] = missing.get(0, 0) + num_plain
    left = [accepted for accepted, steps in missing.items() if steps]
    if num_plain < 0 or not sizes or len(left) != 1 or missing[left[0]] != 1 or left[0] < sizes[-1] - 1:
        return None if sizes or any(histogram) else []
    return [*(size - 1 for size in sizes[:-1]), left[0]]


# --- nothing of single steps is reported -----------------------------------------------------------


def from_sizes(sizes: Sequence[int], num_iterations: int | None, drafting: Drafting) -> SpecCounts | None:
    """Of chunks alone, where they can be checked: as many as the model ran, none longer than a step can be."""
    longest = None if drafting.draft_length is None else drafting.draft_length + 1
    if num_iterations is None or num_iterations != len(sizes) + 1 or (longest and max(sizes) > longest):
        return None
    if drafting.always and drafting.draft_length:
        steps = tuple(Step(drafting.draft_length, size - 1, size) for size in sizes)
        drafted, accepted = sum(step.drafted for step in steps), sum(step.accepted for step in steps)
        return SpecCounts(drafted, accepted, len(steps), len(steps), steps, "stream", aligned=True)
    return SpecCounts(None, None, None, len(sizes), None, "stream", aligned=True, emitted=tuple(sizes))
