"""What people see while a run lasts, and when it has ended."""

import io
import itertools
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import turn_record
from rich.console import Console

from speed_bench.provenance import ModelFacts
from speed_bench.report.terminal import LiveProgress, print_scores
from speed_bench.runner.outcomes import ended
from speed_bench.scoring import score
from speed_bench.types import Failure, Outcome, RunRecords, Segment, TurnRecord

MODEL = ModelFacts(file="m.gguf", sha256="00", num_bytes=1)
FAILURE = Failure("b/0", "rag", 0, 0, "request", "HTTP 503: [busy]", 1.0)


def records(*outcomes: Outcome) -> RunRecords:
    turns = tuple(each for each in outcomes if isinstance(each, TurnRecord))
    failures = tuple(each for each in outcomes if isinstance(each, Failure))
    segment = Segment(0, "2026-01-01T00:00:00Z", None, None, whole=True)
    return RunRecords(turns, failures, (segment,), num_planned=len(outcomes))


def shown(run: RunRecords, baseline: RunRecords | None = None, width: int = 80) -> str:
    text = io.StringIO()
    folder = Path("runs/[red]mine")
    print_scores(score(run, baseline), folder, MODEL, Console(file=text, width=width))
    return text.getvalue()


def watch(outcomes: list[Outcome], *, width: int | None, earlier: tuple[Outcome, ...] = ()) -> str:
    """What a run prints on a terminal of some width, or where there is none."""
    text = io.StringIO()
    seconds = itertools.count()
    console = Console(file=text, force_terminal=width is not None, width=width or 80, color_system=None)
    progress = LiveProgress(console, now_s=lambda: next(seconds) * 3.0)
    progress.begin("speculation", len(outcomes) + len(earlier), earlier)
    for outcome in outcomes:
        progress.outcome(ended(outcome))
    progress.end()
    return text.getvalue()


def test_no_line_of_the_table_is_cut_at_80_columns() -> None:
    many = [turn_record(question=f"{n:032x}", category="summarization") for n in range(12)]
    text = shown(records(*many))
    assert "…" not in text
    assert "summarization 2.00 [2.00, 2.00]" in text
    assert max(map(len, text.splitlines()[:6])) <= 80


def test_names_and_paths_are_shown_as_they_are() -> None:
    text = shown(records(turn_record(category="[bold]odd")))
    assert "[bold]odd" in text
    assert "run folder: runs/[red]mine" in text


def test_failures_say_why_and_a_lost_category_leaves_no_headline() -> None:
    text = shown(records(turn_record(), FAILURE, replace(FAILURE, id="b/1")))
    assert "1 of 3 turns finished, 2 failed" in text
    assert "2 x request: HTTP 503: [busy]" in text
    assert "no overall acceptance length: no turn of rag finished" in text


def test_a_comparison_names_both_speed_ups_and_what_the_baseline_lost() -> None:
    baseline = records(turn_record(arrivals=((1.0, 1), (2.0, 2)), finished_at_s=2.0), FAILURE)
    text = shown(records(turn_record()), baseline)
    assert "1 turns of the baseline failed" in text
    assert "1.50x in Output TPS, 2.00x in decode time per token" in text
    assert "100.0% of 1 (same prompt in both: 100.0% of 1)" in text
    assert "read acceptance here, not speed-up" in text


def test_counts_that_differ_from_the_engines_are_loud() -> None:
    turn = turn_record()
    wrong = replace(turn.counts, accepted=0, per_step=None, aligned=False, num_steps=None)
    assert "DEGRADED: counts differ from the engine's own" in shown(records(replace(turn, engine_counts=wrong)))


@pytest.mark.parametrize(("width", "name"), [(120, "acceptance length"), (80, "AL"), (None, "acceptance length")])
def test_progress_tells_turns_pace_and_acceptance_and_counts_earlier_turns(width: int | None, name: str) -> None:
    text = watch([turn_record(1), FAILURE, turn_record(2)], width=width, earlier=(turn_record(0),))
    assert "4/4 turns" in text
    assert f"tokens/s · {name} 2.00 · 1 failed" in text
    assert "…" not in text
    assert ("ETA" in text) == (width is not None)


def test_where_there_is_no_terminal_a_line_comes_now_and_then() -> None:
    lines = watch([turn_record(n) for n in range(9)], width=None).splitlines()
    assert lines[0] == "speculation: 0/9 turns · – tokens/s · acceptance length –"
    assert 2 < len(lines) < 9
