"""Several loads side by side: the tables, the curve, and where two arms change places."""

import io
from dataclasses import replace

import pytest
from records import run_of, steps_of, turn
from rich.console import Console

from speed_bench import pareto
from speed_bench.records import Energy, Lateness, RunRecords
from speed_bench.report.curve import draw_curves
from speed_bench.report.throughput import Point, crossing_lines, curves_of, print_points
from speed_bench.scores import Load, Scores, SloLimit
from speed_bench.scoring import score
from speed_bench.types import TurnRecord

TIERS = ("low_entropy", "mixed", "high_entropy")
SLO = (SloLimit(term="ttft_s", percentile=95, limit_s=2.0),)


def served(
    num_streams: int, *, accepted: int, step_s: float, num_steps: int = 20, num: int = 3, **segment
) -> RunRecords:
    """Every stream leads `num` turns, one after the other, each of 1 s and so many steps."""
    length_s = 1.0 + num_steps * step_s

    def made(stream: int, number: int) -> TurnRecord:
        name, category = f"s{stream:02}n{number}/0", TIERS[(stream + number) % 3]
        steps = steps_of(*[accepted] * num_steps, drafted=3 if accepted else 0)
        return replace(turn(name, steps, category=category, at_s=number * length_s, step_s=step_s), slot=stream)

    return run_of(*(made(stream, number) for stream in range(num_streams) for number in range(num)), **segment)


def series(
    loads: tuple[int, ...] = (1, 4, 16), *, drafted_slows: float = 0.4, load: dict | None = None, **shape
) -> list[Point]:
    """Drafts that double the pace of a stream, and cost more the more streams there are; and none."""
    points = []
    for num in loads:
        settings = Load(concurrency=num, **(load or {}))
        plain = served(num, accepted=0, step_s=0.02 * (1 + 0.01 * num), **shape)
        drafted = served(num, accepted=1, step_s=0.02 * (1 + drafted_slows * num), **shape)
        points.append(Point(num, "ngram", score(drafted, plain, load=settings)))
        points.append(Point(num, "none", score(plain, load=settings)))
    return points


def shown(points: list[Point], *, width: int = 100, terminal: bool = False, **options) -> str:
    text = io.StringIO()
    print_points(points, Console(file=text, width=width, force_terminal=terminal, color_system=None), **options)
    return text.getvalue()


def row(text: str, load: str, arm: str, which: int = 0) -> list[str]:
    """The cells of the row of a load and an arm, of the first or the second table."""
    return [line.split() for line in text.splitlines() if line.split()[:2] == [load, arm]][which]


@pytest.fixture(scope="module")
def points() -> list[Point]:
    return series()


def test_a_row_of_each_load_and_arm_says_what_its_scores_say(points: list[Point]) -> None:
    text = shown(points)
    scores = points[2].scores
    found = row(text, "4", "ngram")
    assert found[2] == f"{scores.serving.output_tps.value:.1f}"[:4]
    assert found[3] == "–"
    assert found[4] == f"{scores.serving.user_tps.p50:.1f}"
    assert found[5] == f"{scores.baseline.speedup_output_tps.value:.2f}x"
    assert found[-2:] == ["2.00", "12"]
    assert row(text, "4", "none")[5] == "–"
    assert row(text, "4", "ngram", 1)[2:] == ["1000", "1000", "26.0", "26.0", "26.0", "2.04", "2.04", "10.0", "41.0"]
    assert row(text, "4", "ngram", 2)[2:] == ["2.00", "2.00", "2.00"]  # of each tier
    assert "none" not in text.split("low_entropy")[1].splitlines()[4]


def test_rows_are_in_the_order_of_the_load_with_the_plain_arm_last(points: list[Point]) -> None:
    lines = [
        line.split()[:2] for line in shown(points[::-1]).splitlines() if line.split()[1:2] in (["ngram"], ["none"])
    ]
    assert lines[:6] == [[load, arm] for load in ("1", "4", "16") for arm in ("ngram", "none")]


def test_no_line_of_the_tables_is_cut_or_wider_than_100_columns_with_all_that_there_can_be() -> None:
    energy = Energy(gpu_j=1234.5, cpu_j=None, peak_gpu_memory_bytes=1, num_gpus=1, span_s=1.0)
    rich = series((1, 32), load={"num_gpus": 8, "slo": SLO}, num=1, energy=energy)
    named = [replace(point, arm="eagle3 K=7" if point.arm == "ngram" else "none") for point in rich]
    text = shown(named, width=200)
    assert "…" not in text
    tables = text.split("cross")[0]
    assert max(map(len, tables.splitlines())) <= 100
    for heading in ("goodput", "J per", "per", "speed-up"):
        assert heading in tables
    assert all(row(text, "32", "eagle3", which)[2] == "K=7" for which in range(3))


@pytest.mark.parametrize("width", [60, 80])
def test_on_a_narrow_terminal_tables_are_split_and_nothing_is_cut(width: int) -> None:
    energy = Energy(gpu_j=1234.5, cpu_j=None, peak_gpu_memory_bytes=1, num_gpus=1, span_s=1.0)
    rich = series((1, 32), load={"num_gpus": 8, "slo": SLO}, num=4, energy=energy)
    text = shown(rich, width=width, terminal=True)
    assert "…" not in text
    tables = text.split("Output TPS per GPU")[0]
    assert max(map(len, tables.splitlines())) <= width
    scores = rich[2].scores
    cells = [each for which in range(tables.count("arm")) for each in row(tables, "32", "ngram", which)[2:]]
    whole = shown(rich, width=100)
    assert cells == [each for which in range(whole.count("arm")) for each in row(whole, "32", "ngram", which)[2:]]
    assert f"{scores.baseline.speedup_output_tps.high:.2f}]" in cells


def test_what_was_not_measured_has_no_column(points: list[Point]) -> None:
    text = shown(points)
    for heading in ("goodput", "J per", "GPU"):
        assert heading not in text
    qualitative = [Point(1, "ngram", many_categories()), Point(2, "ngram", many_categories())]
    assert "c0" not in shown(qualitative)


def many_categories() -> Scores:
    return score(run_of(*(turn(f"q{n}/0", steps_of(1), category=f"c{n}", at_s=2.0 * n) for n in range(5))))


def test_the_curve_is_drawn_on_a_terminal_or_where_it_is_asked_for(points: list[Point]) -> None:
    assert "●" not in shown(points)
    assert "●" not in shown(points, terminal=True, curve=False)
    for text in (shown(points, terminal=True), shown(points, curve=True)):
        assert "● ngram   ○ none" in text
        assert text.count("●") == text.count("○") == 4
        assert max(map(len, text.split("┌")[1].split("┘")[0].splitlines())) <= 100


def test_a_single_load_has_neither_a_curve_nor_a_crossing(points: list[Point]) -> None:
    text = shown(points[:2], terminal=True)
    assert "●" not in text
    assert "cross" not in text


def test_a_curve_is_of_the_steady_rate_and_per_gpu_only_where_all_its_points_have_them(points: list[Point]) -> None:
    measure, arms = curves_of(points)
    assert (measure.name, [point.concurrency for point in arms["ngram"]]) == ("Output TPS", [1, 4, 16])
    first = points[0].scores.serving
    assert arms["ngram"][0] == pareto.Point(first.user_tps.p50, first.output_tps.value, 1)
    long = series((1, 2), load={"num_gpus": 2}, num=12)
    measure, arms = curves_of(long)
    assert measure.name == "steady Output TPS per GPU"
    serving = long[0].scores.serving
    assert arms["ngram"][0][:2] == (serving.steady.user_tps.p50, serving.steady_output_tps.value / 2)
    assert curves_of([*long, *series((4,), load={"num_gpus": 2})])[0].name == "Output TPS per GPU"
    interrupted = Point(8, "none", score(served(1, accepted=1, step_s=0.1, whole=False)))
    assert curves_of([*long, interrupted]) == curves_of(long)


def test_a_crossing_is_a_sentence_with_the_loads_on_both_sides(points: list[Point]) -> None:
    _, arms = curves_of(points)
    [crossing] = pareto.crossings(arms["ngram"], arms["none"]).crossings
    text = shown(points)
    assert f"ngram and none cross at {crossing.user_tps:.1f} User TPS and {crossing.output_tps:.1f} Output TPS" in text
    assert "(concurrency 1 to 4 of ngram, 1 to 4 of none); ngram has more for users that are faster" in text


def test_an_arm_that_is_above_throughout_is_said_to_be() -> None:
    ahead = series(drafted_slows=0.08)
    assert "ngram and none cross nowhere" in shown(ahead)
    assert "ngram has more Output TPS throughout" in shown(ahead)


def test_arms_that_share_no_pace_are_told_to_be_measured_under_more_loads() -> None:
    arms = {"a": [pareto.Point(1.0, 5.0, 1)], "none": [pareto.Point(2.0, 4.0, 1)]}
    assert list(crossing_lines(arms, "Output TPS")) == [
        "a and none have no User TPS in common: measure them under more loads to see where they cross"
    ]
    same = {"a": arms["a"], "b": arms["a"]}
    assert list(crossing_lines(same, "Output TPS")) == [
        "a and b are equal from 1.00 to 1.00 User TPS, the range that both cover"
    ]
    assert list(crossing_lines({**same, "c": arms["a"]}, "Output TPS")) == []


def test_a_client_that_was_too_late_is_starred_and_explained_once() -> None:
    late = series((1, 4), lateness=Lateness(*[0.05] * 5))
    text = shown(late)
    assert row(text, "4*", "none")
    assert text.count("client_limited") == 1
    assert "* client_limited, 4 of 4 runs (4 none: ttft_s p50 is 1000.0 ms, the client was late by 50.0 ms)" in text


def test_an_open_loop_is_named_by_its_rate() -> None:
    def scores(rate: float) -> Scores:
        turns = [turn(f"q{n}/0", steps_of(1), at_s=n / rate, scheduled_at_s=n / rate) for n in range(4)]
        return score(run_of(*turns), load=Load(arrivals="poisson", rate=rate, concurrency=64))

    text = shown([Point(64, "ngram", scores(rate)) for rate in (2.5, 0.5)])
    assert [line.split()[0] for line in text.splitlines() if "ngram" in line] == ["0.5/s", "2.5/s"] * 2
    text = shown([Point(num, "ngram", scores(2.5)) for num in (64, 8)])
    assert [line.split()[:2] for line in text.splitlines() if "ngram" in line] == [
        ["2.5/s", "≤8"],
        ["2.5/s", "≤64"],
    ] * 2


def test_a_drawing_has_every_point_where_it_belongs() -> None:
    arms = {"a": [pareto.Point(10.0, 100.0, 2), pareto.Point(100.0, 10.0, 1)], "b": [pareto.Point(31.6, 31.6, 1)]}
    lines = draw_curves(arms, across="User TPS", up="Output TPS", width=60).splitlines()
    assert lines[0] == "Output TPS"
    marks = [(at, line.index("●")) for at, line in enumerate(lines[:-1]) if "●" in line]
    assert marks[0][0] < marks[1][0]
    assert marks[0][1] < marks[1][1]
    middle = next((at, line.index("○")) for at, line in enumerate(lines[:-1]) if "○" in line)
    assert middle[0] == pytest.approx((marks[0][0] + marks[1][0]) / 2, abs=1)
    assert middle[1] == pytest.approx((marks[0][1] + marks[1][1]) / 2, abs=1)
    assert max(map(len, lines)) <= 60
    assert lines[-1] == "● a   ○ b"
