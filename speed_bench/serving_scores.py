"""How fast a run was under its load, over all and while the load was steady.

What a number means is said in `serving`, which turns it is of in `timing`.
"""

from collections.abc import Callable, Sequence

import numpy.typing as npt

from speed_bench.client_scores import client_scores, clock_error_s, energy_j_per_token, peak_gpu_memory_bytes
from speed_bench.goodput import run_goodput, steady_goodput
from speed_bench.records import RunRecords, Segment
from speed_bench.scores import Bootstrap, Cell, Distribution, Load, Serving, Steady
from speed_bench.serving import (
    MIN_STEADY_S,
    Span,
    closed_loop_span,
    e2e_s,
    itl_s,
    open_loop_span,
    steady_output_tps,
    step_gap_s,
    tpot_s,
    ttft_s,
    user_tps,
)
from speed_bench.timing import (
    by_conversation,
    defined,
    distribution,
    in_open_loop,
    no_turn,
    run_output_tps,
    steady_tokens_cell,
    timed_segments,
)
from speed_bench.types import Outcome, TurnRecord

_Values = Callable[[TurnRecord], npt.ArrayLike]
_STEADY: dict[str, _Values] = {
    "user_tps": lambda turn: defined([user_tps(turn.arrivals)]),
    "ttft_s": lambda turn: defined([ttft_s(turn.start_s, turn.arrivals)]),
    "itl_s": lambda turn: itl_s(turn.arrivals),
    "tpot_s": lambda turn: defined([tpot_s(turn.arrivals)]),
    "e2e_s": lambda turn: defined([e2e_s(turn.start_s, turn.arrivals)]),
}
_OVERALL: dict[str, _Values] = _STEADY | {
    "step_gap_s": lambda turn: step_gap_s(turn.arrivals),
    "isl": lambda turn: [turn.prompt_len],
    "osl": lambda turn: [turn.num_output_tokens],
}
_SEEN_BY_CLIENT = ("ttft_s", "e2e_s", "step_gap_s")
_NO_GPUS = "the number of GPUs is not known; say it with --gpus N"
_NOT_SCHEDULED = "in a closed loop a turn is due when its stream is free"
_Spans = Sequence[tuple[Span, Segment, Sequence[TurnRecord]]]


def serving_scores(run: RunRecords, bootstrap: Bootstrap | None, load: Load | None = None) -> Serving:
    """The distribution of each time over the turns of whole segments, or the reason why there is none.

    `load` says how many streams there were, how long the warm-up was, and what is asked for; without it the
    streams are those that finished a turn, and there was no warm-up.
    """
    segments = timed_segments(run)
    turns = [turn for _, members in segments for turn in members]
    reason = "no turn has such a value" if turns else no_turn(run)
    conversations = by_conversation(turns)
    found = {name: distribution(conversations, values, reason, bootstrap) for name, values in _OVERALL.items()}
    spans = _steady_spans(segments, load)
    num_tokens, num_gpus = sum(turn.num_output_tokens for turn in turns), load.num_gpus if load else None
    whole, steady = run_output_tps(run, bootstrap), _steady_output_tps(spans, turns, load, reason, bootstrap)
    return Serving(
        output_tps=whole,
        output_tps_per_gpu=_per_gpu(whole, num_gpus),
        steady_output_tps=steady,
        steady_output_tps_per_gpu=_per_gpu(steady, num_gpus),
        **found,
        client_wait_s=_client_wait_s(turns, reason, bootstrap),
        steady=_steady(run, spans, load, bootstrap),
        goodput=run_goodput(run, load.slo if load else (), bootstrap),
        client=client_scores(run, {name: found[name] for name in _SEEN_BY_CLIENT}),
        clock_error_s=clock_error_s(run),
        energy_j_per_token=energy_j_per_token(run, num_tokens, len(turns), "gpu_j"),
        cpu_energy_j_per_token=energy_j_per_token(run, num_tokens, len(turns), "cpu_j"),
        peak_gpu_memory_bytes=peak_gpu_memory_bytes(run),
        num_turns=len(turns),
        num_output_tokens=num_tokens,
        num_segments=len(run.segments),
        num_segments_used=sum(segment.whole for segment in run.segments),
    )


def _steady_spans(segments: Sequence[tuple[Segment, Sequence[TurnRecord]]], load: Load | None) -> _Spans:
    """The steady span of each segment that has one, with the turns of the segment."""
    spans = []
    for segment, turns in segments:
        if in_open_loop(turns):
            span = open_loop_span(
                [(turn.start_s, turn.arrivals) for turn in turns],
                warmed_up_at_s=max(load.warmup_s, load.ramp_up_s) if load else 0.0,
                ended_at_s=segment.load_ended_at_s,
            )
        else:
            span = closed_loop_span(
                [(turn.slot, turn.sent_at_s, turn.arrivals) for turn in turns],
                num_streams=load.concurrency if load else None,
                ended_at_s=segment.load_ended_at_s,
            )
        if span:
            spans.append((span, segment, turns))
    return spans


def _steady_output_tps(
    spans: _Spans, turns: Sequence[TurnRecord], load: Load | None, reason: str, bootstrap: Bootstrap | None
) -> Cell:
    value = steady_output_tps(*((span, [turn.arrivals for turn in members]) for span, _, members in spans))
    if value is not None:
        return steady_tokens_cell(value, by_conversation(turns), bootstrap)
    if not turns:
        return Cell.undefined(reason)
    if in_open_loop(turns):
        few = "for fewer than twice the turns that were under way on average"
        return Cell.undefined(
            f"from the end of warm-up to the last arrival it was less than {MIN_STEADY_S:g} s, or {few}"
        )
    streams = f"all {load.concurrency} streams" if load and load.concurrency > 1 else "all streams"
    return Cell.undefined(
        f"{streams} were busy together for less than {MIN_STEADY_S:g} s, or for fewer than two turns each"
    )


def _steady(run: RunRecords, spans: _Spans, load: Load | None, bootstrap: Bootstrap | None) -> Steady | None:
    """Of the turns that began in the steady spans, followed to their ends, wherever these are.

    Leaving out those that ended later would leave out long ones.
    """
    if not spans:
        return None
    span_of = {segment.index: span for span, segment, _ in spans}

    def began(outcome: Outcome) -> bool:
        start, end = span_of.get(outcome.segment, (0.0, 0.0))
        return start <= outcome.start_s < end  # whose end may be the next arrival

    turns = [turn for _, _, members in spans for turn in members if began(turn)]
    failures = [failure for failure in run.failures if began(failure)]
    span_s, conversations = sum(end - start for (start, end), _, _ in spans), by_conversation(turns)
    return Steady(
        span_s=span_s,
        num_turns=len(turns),
        **{
            name: distribution(conversations, values, "no turn that began in it has such a value", bootstrap)
            for name, values in _STEADY.items()
        },
        goodput=steady_goodput(turns, failures, load.slo if load else (), span_s, bootstrap),
    )


def _client_wait_s(turns: Sequence[TurnRecord], reason: str, bootstrap: Bootstrap | None) -> Distribution:
    """From when a turn was due until it was sent; only the clock says when a turn is due."""
    if turns and not in_open_loop(turns):
        return Distribution(value=None, n=0, reason=_NOT_SCHEDULED)

    def waited_s(turn: TurnRecord) -> list[float]:
        return [] if turn.scheduled_at_s is None else [turn.sent_at_s - turn.scheduled_at_s]

    return distribution(by_conversation(turns), waited_s, reason, bootstrap)


def _per_gpu(cell: Cell, num_gpus: int | None) -> Cell:
    """The same per GPU, with its interval."""
    if cell.value is None:
        return cell
    if num_gpus is None:
        return Cell.undefined(_NO_GPUS)
    bounds = {
        name: None if bound is None else bound / num_gpus for name, bound in (("low", cell.low), ("high", cell.high))
    }
    return cell.model_copy(update={"value": cell.value / num_gpus, **bounds})
