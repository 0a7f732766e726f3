"""What people see while a run lasts, and when it has ended."""

import io
import itertools
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import turn_record
from records import run_of, steps_of, turn
from rich.console import Console

from speed_bench.provenance import ModelFacts
from speed_bench.records import Energy, Lateness, RunRecords, Segment
from speed_bench.report.terminal import LiveProgress, print_scores
from speed_bench.runner.outcomes import ended
from speed_bench.scores import Load, SloLimit
from speed_bench.scoring import score
from speed_bench.types import Failure, Outcome, TurnRecord

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
    assert f"4 tokens/s · {name} 2.00 · 1 failed" in text  # six in 1.5 s of load, however long the engine took to start
    assert "…" not in text
    assert ("ETA" in text) == (width is not None)


def test_where_there_is_no_terminal_a_line_comes_now_and_then() -> None:
    lines = watch([turn_record(n) for n in range(9)], width=None).splitlines()
    assert lines[0] == "speculation: 0/9 turns · – tokens/s · acceptance length –"
    assert 2 < len(lines) < 9


LOADED = Load(concurrency=4, num_gpus=2, slo=(SloLimit(term="e2e_s", percentile=90, limit_s=2.5),))


def told(run: RunRecords, load: Load | None = None, width: int = 100) -> str:
    text = io.StringIO()
    print_scores(score(run, load=load), Path("runs/mine"), MODEL, Console(file=text, width=width))
    return text.getvalue()


def one_after_the_other(num: int = 12, **segment) -> RunRecords:
    """Turns of 2 s and 5 tokens on one stream."""
    return run_of(*(turn(f"q{n:02}/0", steps_of(1, 1), at_s=2.0 * n) for n in range(num)), **segment)


def test_what_turns_waited_is_shown_where_they_met_each_other_or_the_clock() -> None:
    assert "TTFT" not in told(one_after_the_other())
    assert "TTFT" not in told(one_after_the_other(), Load(concurrency=1))
    lines = {line.split()[0]: line.split() for line in told(one_after_the_other(), LOADED).splitlines() if line.split()}
    assert lines["TTFT"] == ["TTFT", "ms", *["1000"] * 5, "12"]
    assert lines["ITL"] == ["ITL", "ms", *["250"] * 5, "48"]
    assert lines["E2E"] == ["E2E", "s", *["2.00"] * 5, "12"]
    assert lines["OSL"] == ["OSL", "tokens", *["5.00"] * 5, "12"]
    assert "wait" not in lines
    due = [turn(f"q{n}/0", steps_of(1), at_s=n + 0.5, scheduled_at_s=float(n)) for n in range(3)]
    by_clock = told(run_of(*due), Load(arrivals="poisson", rate=1.0, concurrency=1)).splitlines()
    assert [line.split()[2:] for line in by_clock if line.startswith(" wait ms")] == [[*["500"] * 5, "3"]]


def test_steady_percentiles_stand_beside_the_others_where_there_is_a_steady_state() -> None:
    steady = told(one_after_the_other(), LOADED.model_copy(update={"concurrency": 1, "arrivals": "constant"}))
    assert "steady p50" in steady
    assert "Output TPS while the load was steady (23 s, 11 turns): " in steady
    assert "no steady state: all 4 streams were busy together for less than 10 s" in told(one_after_the_other(), LOADED)


def test_an_slo_is_told_by_its_goodput_and_whether_each_demand_was_met() -> None:
    text = told(one_after_the_other(), LOADED)
    assert "goodput: 0.50 [0.50, 0.50] requests/s kept every limit (100.0% of 12)" in text
    assert "  e2e_s p90 is 2 s, limit 2.5 s, kept by 100.0%: met" in text
    assert "Output TPS per GPU (2): 1.2 [1.2, 1.2], steady –" in text
    strict = LOADED.model_copy(update={"slo": (SloLimit(term="ttft_s", percentile=50, limit_s=0.5),)})
    failed = replace(one_after_the_other(1), failures=(FAILURE, replace(FAILURE, id="c/0")))
    assert "  ttft_s p50 is not reached (2 of 3 turns brought no answer" in told(failed, strict)
    assert "limit 0.5 s, kept by 0.0%: not met" in told(failed, strict)


def test_energy_clocks_and_a_late_client_are_told_where_they_are_known() -> None:
    plain = told(one_after_the_other())
    for word in ("J per", "GiB", "clocks", "client_limited"):
        assert word not in plain
    used = Energy(gpu_j=120.0, cpu_j=30.0, peak_gpu_memory_bytes=3 * 2**30, num_gpus=1, span_s=24.0)
    text = told(one_after_the_other(energy=used, clock_error_s=0.0012, lateness=Lateness(*[0.02] * 5)))
    assert "2 J per output token (GPUs), 0.5 J per output token (CPU packages), at most 3.0 GiB of GPU memory" in text
    assert "their clocks agree within 1.2 ms, which the span of Output TPS carries" in text
    assert "client_limited: ttft_s p50 is 1000.0 ms, the client was late by 20.0 ms, and 7 more percentiles" in text
    assert "--workers" in text
