"""Predictions as tables for people, and whole for programs."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson
from rich.console import Console

from speed_bench.errors import RunFolderError, cause
from speed_bench.prediction import Estimate, Expected, Prediction, Source
from speed_bench.report.columns import Column, print_columns
from speed_bench.report.serving import NONE
from speed_bench.run_predictions import Outlook, Subject
from speed_bench.runner.journal import write_whole

SCHEMA_VERSION = 1
MARKS: dict[Source, str] = {"measured": "", "given": "", "shorter": "*", "line": "*", "extrapolated": "**"}
"""What stands behind a number that was neither measured nor given."""
EXPLAINED = (
    ("*", "not run: acceptance as of a longer draft length that was, cut short; step time from a line between others"),
    ("**", "beyond what was run: it holds only if acceptance, or the line of step times, goes on as it ends"),
)


def print_outlooks(outlooks: Sequence[Outlook], left_out: Sequence[str], console: Console) -> None:
    """A table for each drafter under each load, and what is to be known of it."""

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    for outlook in outlooks:
        if outlook.subject:
            say(headline(outlook.subject))
        _print_rows(outlook.prediction, console)
        for line in (*_sentences(outlook), *(f"note: {note}" for note in outlook.notes)):
            say(line)
        say("")
    marks = {MARKS[source] for outlook in outlooks for row in outlook.prediction.rows for source in _sources(row)}
    for mark, meaning in EXPLAINED:
        if mark in marks:
            say(f"{mark:<2} {meaning}")
    if any(outlook.subject and outlook.subject.engine == "simulator" for outlook in outlooks):
        say("note: simulated: nothing here is a result of any model or engine")
    for sentence in left_out:
        say(sentence)


def write_outlooks(outlooks: Sequence[Outlook], left_out: Sequence[str], path: Path) -> None:
    """Everything as JSON, times in seconds. Raises RunFolderError where it cannot be written to `path`."""
    check_target(path)
    predictions = []
    for outlook in outlooks:
        best = outlook.prediction.best
        predictions.append(
            {
                "subject": asdict(outlook.subject) if outlook.subject else None,
                **asdict(outlook.prediction),
                "best_draft_length": best.draft_length if best else None,
                "notes": outlook.notes,
            }
        )
    try:
        write_whole(path, {"schema_version": SCHEMA_VERSION, "predictions": predictions, "left_out": left_out})
    except RunFolderError as error:  # its own sentence tells how a run is finished
        why = cause(error.__cause__) if isinstance(error.__cause__, OSError) else str(error)
        raise RunFolderError(f"--json {path} cannot be written: {why}; choose another file") from error


def check_target(path: Path) -> None:
    """Raise RunFolderError where a file is that no earlier prediction wrote, such as one of the run itself."""
    try:
        held = path.read_bytes() if path.exists() else b""
        if not held or "predictions" in orjson.loads(held):
            return
    except (OSError, ValueError, TypeError):
        pass
    raise RunFolderError(f"--json {path} is there already and holds something else; choose another file")


def headline(subject: Subject) -> str:
    """What a prediction is of, in a line."""
    load = f"concurrency {subject.concurrency}"
    if subject.arrivals != "closed":
        rate = f" {subject.rate:g} a second" if subject.rate else ""
        load = f"{subject.arrivals}{rate}, at most {subject.concurrency} at once"
    draft = f" ({subject.draft})" if subject.draft else ""
    return (
        f"{subject.engine} · {subject.model} · {subject.algorithm}{draft} · {subject.edition}/{subject.config} · "
        f"{load} · {subject.input_tokens:,.0f} input and {subject.output_tokens:,.0f} output tokens"
    )


def _print_rows(prediction: Prediction, console: Console) -> None:
    """A row for every draft length, the best one bold."""
    rows = prediction.rows
    shown = [column for column in _COLUMNS if column.always or any(column.cell(row) != NONE for row in rows)]
    columns = [
        Column(each.heading, [each.cell(row) for row in rows], with_previous=each.with_previous) for each in shown
    ]
    styles = ["bold" if row is prediction.best else "" for row in rows]
    print_columns(columns, console, num_keys=1, gap=1, row_styles=styles)


@dataclass(frozen=True, slots=True)
class _Column:
    heading: str
    cell: Callable[[Expected], str]
    always: bool = True
    """Or only where some row has it."""
    with_previous: bool = False


def _draft_length(row: Expected) -> str:
    marks = (MARKS[row.acceptance_from], MARKS[row.step_time_from])
    return NONE if row.draft_length is None else f"{row.draft_length}{max(marks)}"


def _break_even(row: Expected) -> str:
    return NONE if row.break_even_acceptance_length is None else f"{row.break_even_acceptance_length:.2f}"


def _break_even_rate(row: Expected) -> str:
    return NONE if row.break_even_rate is None else f"{row.break_even_rate:.2f}"


_COLUMNS = (
    _Column("k\n", _draft_length),
    _Column("acceptance\nlength", lambda row: _interval(row.acceptance_length)),
    _Column("t_sd\nms", lambda row: f"{1e3 * row.step_time_s.value:.2f}"),
    _Column("speed-up\nexpected", lambda row: _interval(row.speedup)),
    _Column("mea-\nsured", lambda row: _value(row.measured_speedup_tpot), always=False, with_previous=True),
    _Column("Output\nTPS", lambda row: _value(row.speedup_output_tps), always=False),
    _Column("mea-\nsured", lambda row: _value(row.measured_speedup_output_tps), always=False, with_previous=True),
    _Column("break-\neven", _break_even),
    _Column("rate\n", _break_even_rate, with_previous=True),
)


def _sentences(outlook: Outlook) -> Iterator[str]:
    prediction = outlook.prediction
    without = f"t_ar {_ms(prediction.t_ar_s)} ms"
    prefill = prediction.prefill_s_per_token
    apart = prefill is not None and outlook.subject is not None and outlook.subject.concurrency > 1
    if prefill and apart:
        without += f"; of every decoded token {_ms(prefill)} ms are prefill of other requests"
    yield without
    if line := prediction.line:
        off = "two points" if line.residual_s is None else f"residual {1e3 * line.residual_s:.3f} ms"
        sign = "−" if line.per_draft_token_s < 0 else "+"
        fitted = f"{1e3 * line.base_s:.2f} {sign} {1e3 * abs(line.per_draft_token_s):.3f} · k"
        yield f"t_sd{', prefill of others apart,' if apart else ''} is {fitted} ms ({off})"
    if prediction.beyond_line:
        lengths = ", ".join(map(str, prediction.beyond_line))
        yield f"k = {lengths}: left out, because the line of step times, or its interval, falls to 0 there"
    if nums := {row.num_conversations for row in prediction.rows if row.num_conversations}:
        yield f"n: {', '.join(f'{num:,}' for num in sorted(nums))} conversations; intervals are 95 % ones, over them"
    if best := prediction.best:
        pays = f"{best.speedup.value:.2f}x" if best.speedup.value > 1 else f"{best.speedup.value:.2f}x: none pays"
        low = best.speedup.low or best.speedup.value
        close = [str(row.draft_length) for row in prediction.rows if row is not best and row.speedup.value >= low]
        within = f"; within its interval: {', '.join(close)}" if close else ""
        yield f"best draft length: k = {best.draft_length} ({pays}){within}"


def _sources(row: Expected) -> tuple[Source, Source]:
    return row.acceptance_from, row.step_time_from


def _value(estimate: Estimate | None) -> str:
    return NONE if estimate is None else f"{estimate.value:.2f}"


def _interval(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return _value(estimate)
    return f"{estimate.value:.2f} \\[{estimate.low:.2f}, {estimate.high:.2f}]"


def _ms(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return f"{1e3 * estimate.value:.2f}"
    return f"{1e3 * estimate.value:.2f} [{1e3 * estimate.low:.2f}, {1e3 * estimate.high:.2f}]"
