"""Acceptance from the tokens that every decode step emitted: what `speed_bench_acceptance` computes."""

from collections.abc import Hashable, Sequence
from typing import Any, get_args

from speed_bench.acceptance import histogram
from speed_bench.acceptance_scores import acceptance_cells
from speed_bench.errors import MetricInputError, UndefinedMetric
from speed_bench.metrics import inputs
from speed_bench.metrics.records import bounds_of, intervals_of
from speed_bench.scores import Bootstrap
from speed_bench.tally import Tally, pool, tally_emitted, tally_turn
from speed_bench.types import LastStep

AVERAGES = {
    "category": "acceptance_length",
    "conversation": "acceptance_length_conversation",
    "pooled": "acceptance_length_pooled",
    "specdec_bench": "acceptance_length_specdec_bench",
}
"""Which score is the acceptance length under each average."""

_EMITTED = "tokens emitted per decode step"
_Lists = list[list[int]]


def check(predictions: object) -> _Lists:
    """Tokens emitted per decode step, one list per turn. Raises MetricInputError for anything else."""
    return inputs.counts("predictions", predictions, least=1, what=_EMITTED)


def compute(
    predictions: Sequence[Sequence[int]],
    *,
    drafted: Sequence[Sequence[int]] | None = None,
    accepted: Sequence[Sequence[int]] | None = None,
    categories: Sequence[str] | None = None,
    conversations: Sequence[Hashable] | None = None,
    draft_length: int | None = None,
    average: str = "category",
    confidence_level: float | None = 0.95,
    last_step: LastStep | Sequence[LastStep] = "complete",
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Acceptance lengths and rates of turns, with intervals, as plain numbers.

    `predictions` holds for every turn the tokens that each of its decode steps emitted, without what
    prefill emitted: empty for an answer of one token. `drafted`, of the same shape, holds what each step
    drafted, 0 for a plain step, and `accepted` what verification accepted of it, before any cut; without
    it, a step accepted what it emitted, less one. Without `drafted`, every step is taken to have drafted
    `draft_length` tokens; with neither, nothing that is counted of drafts is known. `conversations` names
    the conversation of each turn (default: each turn its own), `categories` its category. `last_step` says
    what is known of the last step of the turns, one word for all or one per turn: see `tally_turn`.

    Returns `acceptance_length` under the chosen `average`, the other metrics by the name of the function
    in `speed_bench.acceptance` that defines them, `histogram`, counts, `confidence_interval` ([low, high]
    by metric; None below 8 conversations) and `per_category` (the same for each category). A value that
    the input cannot give is None. Raises MetricInputError for a value that cannot be, and UndefinedMetric
    where no turn has a decode step.

    >>> found = compute([[4, 3], [1, 4, 1]], draft_length=3, categories=["math", "qa"])
    >>> found["acceptance_length"], found["acceptance_length_pooled"]
    (2.75, 2.6)
    >>> found["conditional_acceptance_rate"]
    [0.6, 1.0, 0.6666666666666666]
    """
    tallies = _tallies(check(predictions), drafted, accepted, draft_length, last_step)
    choice = AVERAGES[inputs.choice("average", average, AVERAGES)]
    bootstrap = inputs.bootstrap(confidence_level, resamples, seed)
    groups = _conversations(tallies, conversations, categories)
    if not any(tally.num_steps for tally in tallies):
        raise UndefinedMetric(f"acceptance: no decode step in {len(tallies)} turns")
    by_category: dict[str, list[list[Tally]]] = {}
    for category, turns in groups:
        by_category.setdefault(category, []).append(turns)
    return {
        **_group(groups, choice, bootstrap),
        "average": average,
        "per_category": None
        if categories is None
        else {
            category: _group([(category, turns) for turns in members], choice, bootstrap)
            for category, members in by_category.items()
        },
    }


def _tallies(emitted: _Lists, drafted: Any, accepted: Any, draft_length: Any, last_step: Any) -> list[Tally]:
    """The tally of each turn; raises for a step that cannot be."""
    if draft_length is not None:
        draft_length = inputs.whole(
            "draft_length", draft_length, 0, "tokens drafted per step", most=inputs.MOST_PER_STEP
        )
    if drafted is None and accepted is not None:
        raise MetricInputError(
            "accepted is given without drafted: how many were accepted says little without of how many"
        )
    if drafted is not None:
        drafted = inputs.counts("drafted", drafted, least=0, what="tokens drafted per step")
        inputs.same_shape("drafted", drafted, "predictions", emitted)
    if accepted is not None:
        accepted = inputs.counts("accepted", accepted, least=0, what="tokens accepted per step")
        inputs.same_shape("accepted", accepted, "predictions", emitted)
    words = _last_steps(last_step, len(emitted))
    tallies = []
    for request, tokens in enumerate(emitted):
        if drafted is None and draft_length is None:
            tallies.append(tally_emitted(tokens))
            continue
        drafts = [draft_length] * len(tokens) if drafted is None else drafted[request]
        rights = None if accepted is None else accepted[request]
        _check_steps(request, tokens, drafts, rights, draft_length, words[request])
        tallies.append(_tally(tokens, drafts, rights, words[request]))
    return tallies


def _last_steps(last_step: Any, num: int) -> list[LastStep]:
    """What is known of the last step of each turn, from one word for all or one per turn."""
    if isinstance(last_step, str):
        return [inputs.choice("last_step", last_step, get_args(LastStep))] * num
    words = inputs.per_turn("last_step", last_step, num, "words")
    return [inputs.choice(f"last_step[{request}]", word, get_args(LastStep)) for request, word in enumerate(words)]


def _check_steps(
    request: int, emitted: list[int], drafted: list[int], accepted: list[int] | None, most: int | None, last_step: str
) -> None:
    """Raises MetricInputError for the first step whose numbers contradict each other."""

    def wrong(name: str, step: int, value: int, why: str) -> MetricInputError:
        return MetricInputError(f"{name}[{request}][{step}] is {value} (request {request}, step {step}): {why}")

    for step, (tokens, drafts) in enumerate(zip(emitted, drafted, strict=True)):
        is_last = step == len(emitted) - 1
        if most is not None and drafts > most:
            raise wrong("drafted", step, drafts, f"more than the draft length of {most}")
        if tokens > drafts + 1:
            raise wrong("predictions", step, tokens, f"a step that drafted {drafts} emits at most {drafts + 1}")
        if accepted is not None:
            if accepted[step] > drafts:
                raise wrong("accepted", step, accepted[step], f"more than the {drafts} drafted")
            if tokens > accepted[step] + 1:
                raise wrong(
                    "predictions", step, tokens, f"a step that accepted {accepted[step]} emits at most one more"
                )
            if tokens <= accepted[step] and not is_last:
                raise wrong("predictions", step, tokens, f"only the last step can show fewer than {accepted[step]} + 1")
        if is_last and last_step == "cut" and tokens > (drafts if accepted is None else accepted[step]):
            known = f"drafted {drafts}" if accepted is None else f"accepted {accepted[step]}"
            raise wrong("predictions", step, tokens, f"a cut step shows accepted drafts alone, and it {known}")


def _tally(emitted: list[int], drafted: list[int], accepted: list[int] | None, last_step: LastStep) -> Tally:
    rights = [tokens - 1 for tokens in emitted] if accepted is None else accepted
    is_known = accepted is not None or last_step == "complete" or not emitted
    return tally_turn(
        list(zip(drafted, rights, emitted, strict=True)),
        num_tokens=sum(emitted),
        num_steps=len(emitted),
        verify_steps=sum(drafts > 0 for drafts in drafted),
        drafted=sum(drafted),
        accepted=sum(rights) if is_known else None,
        last_step=last_step,
    )


def _conversations(tallies: list[Tally], conversations: Any, categories: Any) -> list[tuple[str, list[Tally]]]:
    """(category, tallies of the turns) of each conversation, in an order that does not depend on that of the turns."""
    turns: dict[Hashable, tuple[str, list[Tally]]] = {}
    for tally, (name, category) in zip(tallies, inputs.units(conversations, categories, len(tallies)), strict=True):
        turns.setdefault(name, (category, []))[1].append(tally)
    ordered = sorted(turns.items(), key=lambda item: (item[1][0], isinstance(item[0], str), item[0]))
    return [group for _, group in ordered]


def _group(groups: Sequence[tuple[str, list[Tally]]], choice: str, bootstrap: Bootstrap | None) -> dict[str, Any]:
    """The numbers of a group of conversations."""
    turns = [tally for _, members in groups for tally in members]
    total = pool(turns)
    cells = acceptance_cells([pool(members) for _, members in groups], [name for name, _ in groups], bootstrap)
    chosen = {"acceptance_length": cells.values[choice]} | {
        name: cell for name, cell in cells.values.items() if name not in AVERAGES.values()
    }
    chosen["acceptance_length_pooled"] = cells.values["acceptance_length_pooled"]
    known = {
        "joint_acceptance_rate": bool(total.num_steps) and total.lengths is not None,
        "conditional_acceptance_rate": bool(total.num_steps) and total.trials is not None,
    }
    vectors = {name: vector if known[name] else None for name, vector in cells.vectors.items()}
    return {
        **{name: cell.value for name, cell in chosen.items()},
        **{name: None if vector is None else [cell.value for cell in vector] for name, vector in vectors.items()},
        "histogram": None if total.lengths is None else histogram(total),
        "confidence_interval": None
        if bootstrap is None
        else intervals_of(chosen)
        | {name: None if vector is None else list(map(bounds_of, vector)) for name, vector in vectors.items()},
        "num_conversations": len(groups),
        "num_turns": len(turns),
        "num_turns_without_steps": sum(tally.num_steps == 0 for tally in turns),
        "num_steps": total.num_steps,
    }
