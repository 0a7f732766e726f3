"""What came of the cells of a sweep: repeats together, the best draft length, the summary, the folder."""

import csv
import io
import random
import re
import shutil
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from records import steps_of, turn
from rich.console import Console

from speed_bench.cli import sweep as sweep_verb
from speed_bench.errors import ConfigError, EngineError, RunFolderError, UndefinedMetric
from speed_bench.provenance import Gpu
from speed_bench.records import Segment
from speed_bench.report.sweep import SweepProgress, duration, print_plan, print_summary
from speed_bench.report.sweep_curves import points_of, print_curves
from speed_bench.report.throughput import curves_of
from speed_bench.runner.journal import Journal, RunFile, make_folder, read_run_file, write_run_file
from speed_bench.scores import Cell as Value
from speed_bench.sweep.cells import Cell, SweepObserver
from speed_bench.sweep.folder import is_finished, opened, read_errors, read_sweep
from speed_bench.sweep.here import Here
from speed_bench.sweep.plan import plan
from speed_bench.sweep.prompts import asked
from speed_bench.sweep.repeats import mean_interval, over_runs, t_quantile
from speed_bench.sweep.results import Best, Summary
from speed_bench.sweep.running import run_sweep
from speed_bench.sweep.spec import SweepSpec, spec_of
from speed_bench.sweep.summary import SUMMARY, SUMMARY_CSV, summarise
from speed_bench.types import Failure, Step, TurnRecord

PROMPTS = 12
RECORDED = Path(__file__).parent.parent / "recordings" / "run"


def a_run_file() -> RunFile:
    """That of a recorded run."""
    return read_run_file(RECORDED)


class Silent:
    """A `SweepObserver` that keeps what it is told."""

    def __init__(self) -> None:
        self.ended: dict[str, str | None] = {}

    def begin(self, cell: Cell, num_turns: int, earlier: object) -> None:
        pass

    def turns(self, cell: Cell, num_done: int, num_failed: int) -> None:
        pass

    def end(self, cell: Cell, error: Exception | None) -> None:
        self.ended[cell.name] = None if error is None else str(error)


class Written:
    """A `Place` where every cell comes out as a function says: turns, or an error."""

    def __init__(self, run_file: RunFile, turns_of) -> None:
        self.run_file, self.turns_of = run_file, turns_of
        self.ran: list[str] = []

    def run(self, cells, sweep: Path, observer: SweepObserver) -> None:
        for cell in cells:
            self.ran.append(cell.name)
            try:
                write_run(cell, cell.folder(sweep), self.run_file, self.turns_of(cell))
            except EngineError as error:
                observer.end(cell, error)
            else:
                observer.end(cell, None)


def write_run(cell: Cell, folder: Path, like: RunFile, turns: list[TurnRecord], *, whole: bool = True) -> None:
    run = like.model_copy(
        update={
            "config": cell.config,
            "protocol": cell.protocol,
            "num_turns_planned": PROMPTS,
            "baseline_at": cell.baseline_at,
        }
    )
    make_folder(folder)
    write_run_file(folder, run)
    last = max(getattr(each, "segment", 0) for each in turns)
    with Journal(folder, run) as journal:
        for index in range(last + 1):
            journal.add_segment(Segment(index, "2025-01-01T00:00:00Z", "boot", None))
        for each in turns:
            journal.add(each)
        if whole:
            journal.add_segment(Segment(last, "2025-01-01T00:00:00Z", "boot", None, wall_s=99.0, whole=True))


def turns_at(
    step_s: float, *, drafted: int = 3, noise_s: float = 0.0, seed: int = 0, streams: int = 1
) -> list[TurnRecord]:
    """Streams that answer short and long prompts; a step takes `step_s`, give or take."""
    chance, free_at_s, turns = random.Random(seed), [0.0] * streams, []
    for number in range(PROMPTS):
        num_steps, slot = 3 + 5 * number % 31, free_at_s.index(min(free_at_s))
        steps = steps_of(*[1] * num_steps, drafted=drafted) if drafted else (Step(0, 0, 1),) * (2 * num_steps)
        took_s = step_s + chance.uniform(-noise_s, noise_s)
        turns.append(turn(f"{number:032x}/0", steps, at_s=free_at_s[slot], step_s=took_s, slot=slot))
        free_at_s[slot] = turns[-1].finished_at_s
    return turns


def summary_of(tmp_path: Path, run_file: RunFile, step_s_of, **spec) -> Summary:
    """A sweep over draft lengths 1, 3, 5 whose cells take `step_s_of(draft length, repeat)` a step."""
    given = spec_of({"axes": {"draft_length": [1, 3, 5]}, "order": "listed", "baseline": False, **spec})
    place = Written(run_file, lambda cell: step_s_of(cell.config.draft_length, cell.repeat))
    run_sweep(given, plan(given), tmp_path / "sweep", place, Silent())
    return summarise(tmp_path / "sweep")


def best_of(summary: Summary, metric: str = "output_tps") -> Best:
    [best] = [best for best in summary.best if best.metric == metric]
    return best


@pytest.mark.parametrize(("degrees", "t"), [(1, 12.7062), (2, 4.3027), (3, 3.1824), (10, 2.2281), (30, 2.0423)])
def test_students_t_is_that_of_the_tables(degrees: int, t: float) -> None:
    assert t_quantile(degrees) == pytest.approx(t, abs=5e-5)


def test_the_interval_of_three_runs_is_between_them_and_of_fewer_that_of_one() -> None:
    runs = [Value.of(value, 10, (value - 1, value + 2)) for value in (9.0, 10.0, 11.0)]
    three, two, one = over_runs(runs), over_runs(runs[:2]), over_runs(runs[:1])
    assert (three.low, three.high) == pytest.approx((10 - 4.3027 / 3**0.5, 10 + 4.3027 / 3**0.5), abs=1e-4)
    assert (two.value, two.low, two.high, two.between_runs) == (9.5, 8.5, 11.5, False)
    assert (one.value, one.low, one.high, one.n, one.num_runs) == (9.0, 8.0, 11.0, 10, 1)


def test_runs_without_a_value_are_not_counted_as_anything() -> None:
    runs = [Value.of(4.0, 10), Value.undefined("it was interrupted"), Value.of(6.0, 10)]
    assert (over_runs(runs).value, over_runs(runs).num_runs, over_runs(runs).low) == (5.0, 2, None)
    assert over_runs([runs[1]]).reason == "it was interrupted"
    assert over_runs([]).value is None
    with pytest.raises(UndefinedMetric):
        mean_interval([1.0])


def test_the_best_is_told_apart_over_the_same_turns_where_intervals_overlap(tmp_path: Path, run_file: RunFile) -> None:
    found = best_of(summary_of(tmp_path, run_file, lambda k, _: turns_at({1: 0.52, 3: 0.5, 5: 0.9}[k])))
    one, three, five = found.options
    assert one.value.high > three.value.low, "long and short prompts make wide intervals"
    assert (found.draft_length, found.not_told_apart) == (3, [3])
    assert (one.told_apart, one.by, five.told_apart) == (True, "turns", True)
    assert three.told_apart is None


def test_chance_tells_nothing_apart(tmp_path: Path, run_file: RunFile) -> None:
    def noisy(k: int, _: int) -> list[TurnRecord]:
        return turns_at({1: 0.501, 3: 0.5, 5: 1.5}[k], noise_s=0.2, seed=k)

    found = best_of(summary_of(tmp_path, run_file, noisy))
    assert set(found.not_told_apart) == {1, 3}


def test_less_time_per_token_is_better(tmp_path: Path, run_file: RunFile) -> None:
    found = best_of(summary_of(tmp_path, run_file, lambda k, _: turns_at({1: 0.4, 3: 0.5, 5: 0.3}[k])), "tpot_s")
    assert (found.draft_length, found.not_told_apart) == (5, [5])
    assert found.options[2].value.value == pytest.approx(0.15)


def test_what_differs_from_run_to_run_counts_where_there_are_three(tmp_path: Path, run_file: RunFile) -> None:
    spec, drift = {"axes": {"draft_length": [1, 3]}, "repeats": 3}, {0: 1.0, 1: 1.5, 2: 0.7}

    def side_by_side(k: int, repeat: int) -> list[TurnRecord]:
        return turns_at({1: 0.52, 3: 0.5}[k] * drift[repeat])

    found = best_of(summary_of(tmp_path, run_file, side_by_side, **spec))
    assert found.options[1].value.between_runs
    assert found.options[1].value.low < found.options[0].value.value, "what all runs of a repeat share widens both"
    assert (found.draft_length, found.not_told_apart, found.options[0].by) == (3, [3], "repeats")

    def at_random(k: int, repeat: int) -> list[TurnRecord]:
        return turns_at({1: 0.52, 3: 0.5}[k] * drift[(repeat + k) % 3])

    found = best_of(summary_of(tmp_path / "other", run_file, at_random, **spec))
    assert found.not_told_apart == [1, 3]


def test_each_load_has_its_own_best(tmp_path: Path, run_file: RunFile) -> None:
    spec = spec_of({"axes": {"draft_length": [1, 3], "concurrency": [1, 2]}, "baseline": False})

    def turns_of(cell: Cell) -> list[TurnRecord]:
        return turns_at(0.5 if (cell.config.draft_length == 3) == (cell.config.concurrency == 1) else 0.9)

    run_sweep(spec, plan(spec), tmp_path / "sweep", Written(run_file, turns_of), Silent())
    found = {best.settings["concurrency"]: best.draft_length for best in summarise(tmp_path / "sweep").best}
    assert found == {1: 3, 2: 1}


def test_a_resumed_cell_is_not_ranked_by_its_last_turns(tmp_path: Path, run_file: RunFile) -> None:
    """The last turns of the cell with draft length 5 are the only ones that are timed, and fast."""
    spec = spec_of({"axes": {"draft_length": [1, 3, 5], "concurrency": [1, 2]}, "order": "listed"})
    cells, folder = plan(spec), tmp_path / "sweep"

    def turns_of(cell: Cell) -> list[TurnRecord]:
        k, load = cell.config.draft_length or 0, cell.config.concurrency
        turns = turns_at({0: 0.22, 1: 0.5, 3: 0.6, 5: 0.1}[k] * load**0.5, drafted=k, streams=load)
        return [replace(each, segment=int(k == 5 and number >= 8)) for number, each in enumerate(turns)]

    run_sweep(spec, cells, folder, Written(run_file, turns_of), Silent())
    summary = summarise(folder)
    reason = "it was resumed, so its speed is of 4 of its 12 turns"
    assert [cell.not_compared for cell in summary.cells] == [None] * 6 + [reason] * 2
    for best in summary.best:
        assert (best.draft_length, best.not_told_apart) == (1, [1])
        assert best.options[2].value.reason == reason
    console = Console(record=True, width=200, file=io.StringIO())
    print_summary(summary, folder, console)
    shown = console.export_text()
    assert "told apart, without 5" in shown
    assert "none has more steady Output TPS throughout" in shown
    assert f"not compared {cells[-1].name}: {reason}" in shown
    points = points_of(summary.cells, folder)
    assert [point.drawn for point in points] == [True] * 6 + [False] * 2
    assert sum(map(len, curves_of(points)[1].values())) == 6


def test_a_resumed_repeat_is_in_no_mean(tmp_path: Path, run_file: RunFile) -> None:
    def turns_of(k: int, repeat: int) -> list[TurnRecord]:
        turns = turns_at(0.1 if (k, repeat) == (3, 1) else 0.5)
        return [replace(each, segment=int((k, repeat) == (3, 1) and n >= 8)) for n, each in enumerate(turns)]

    summary = summary_of(tmp_path, run_file, turns_of, axes={"draft_length": [1, 3]}, repeats=2)
    one, three = best_of(summary).options
    assert (three.value.value, three.value.num_runs, one.value.num_runs) == (one.value.value, 1, 2)
    console = Console(record=True, width=200, file=io.StringIO())
    print_summary(summary, tmp_path / "sweep", console)
    assert re.search(rf"^ 3 +{one.value.value:.2f} .* 1/2 *$", console.export_text(), re.MULTILINE)


def test_a_cell_in_which_turns_failed_that_others_finished_is_not_ranked(tmp_path: Path, run_file: RunFile) -> None:
    def turns_of(k: int, _: int) -> list:
        turns = turns_at({1: 0.5, 3: 0.6, 5: 0.1}[k])
        lost = [Failure(each.id, each.category, 0, 0, "request", "HTTP 500", 1.0) for each in turns]
        return [*lost[:1], *turns[1:9], *lost[9:]] if k == 5 else [*lost[:1], *turns[1:]]

    summary = summary_of(tmp_path, run_file, turns_of)
    assert [cell.not_compared for cell in summary.cells] == [None, None, "3 of its turns failed that others finished"]
    assert best_of(summary).draft_length == 1


def test_cells_of_several_machines_are_told(tmp_path: Path, run_file: RunFile) -> None:
    _, shown = on_two(run_file, tmp_path / "sweep", hardware=run_file.provenance.hardware)
    assert "kinds of machine" not in shown
    machine = run_file.provenance.hardware.model_copy(update={"cpu": "a slower one"})
    _, shown = on_two(run_file, tmp_path / "other", hardware=machine)
    assert "cells ran on 2 kinds of machine (" in shown


FAILING = spec_of(
    {"base": {"engine": "simulator", "algorithm": "mtp"}, "axes": {"draft_length": [1, 3, 5]}, "order": "listed"}
)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Written, Silent]:
    """A sweep in which the cell of draft length 3 fails."""

    def turns_of(cell: Cell) -> list[TurnRecord]:
        if cell.config.draft_length == 3:
            raise EngineError("the engine [is] gone")
        return turns_at(0.5, drafted=cell.config.draft_length or 0)

    folder = tmp_path_factory.mktemp("written") / "sweep"
    place, observer = Written(a_run_file(), turns_of), Silent()
    run_sweep(FAILING, plan(FAILING), folder, place, observer)
    return folder, place, observer


@pytest.fixture
def failing(written: tuple[Path, Written, Silent], tmp_path: Path) -> Path:
    """A copy of it, which a test may change."""
    return shutil.copytree(written[0], tmp_path / "failing")


def test_a_cell_that_fails_is_told_and_kept_and_the_others_go_on(written) -> None:
    folder, place, observer = written
    cells = plan(FAILING)
    assert place.ran == [cell.name for cell in cells]
    assert list(observer.ended.values()) == [None, None, "the engine [is] gone", None]
    assert read_errors(folder) == {cells[2].name: "the engine [is] gone"}
    summary = summarise(folder)
    assert [cell.state for cell in summary.cells] == ["finished", "finished", "failed", "finished"]
    assert (summary.cells[2].headline, summary.cells[2].error) == (None, "the engine [is] gone")


def test_a_list_of_errors_is_none(tmp_path: Path) -> None:
    (tmp_path / "errors.json").write_text("[]")
    with pytest.raises(RunFolderError, match=r"errors\.json cannot be used: .*; remove it"):
        read_errors(tmp_path)


def test_only_what_is_not_finished_is_run_again_and_then_it_has_not_failed(failing: Path) -> None:
    folder, cells = failing, plan(FAILING)
    before = {path: path.read_bytes() for path in folder.glob("cells/*/*.jsonl")}
    place = Written(a_run_file(), lambda _: turns_at(0.4))
    run_sweep(FAILING, cells, folder, place, Silent())
    assert place.ran == [cells[2].name]
    assert read_errors(folder) == {}
    assert all(path.read_bytes() == content for path, content in before.items())
    run_sweep(FAILING, cells, folder, place, Silent())
    assert place.ran == [cells[2].name], "now nothing is left"


def test_a_cell_is_compared_with_the_baseline_that_it_shares(failing: Path) -> None:
    folder, cells = failing, plan(FAILING)
    summary = summarise(folder)
    assert {cell.baseline for cell in summary.cells[1:]} == {cells[0].name}
    assert summary.cells[1].headline.speedup_output_tps.value == pytest.approx(2.0, rel=0.1)
    assert summary.cells[0].headline.speedup_output_tps.value is None
    assert best_of(summary).options[0].speedup.value == summary.cells[1].headline.speedup_output_tps.value


def test_a_cell_that_ended_before_its_baseline_is_compared_with_it_later(tmp_path: Path, run_file: RunFile) -> None:
    spec = spec_of({"axes": {"draft_length": [1]}, "order": "listed"})
    baseline, cell = plan(spec)
    place = Written(run_file, lambda cell: turns_at(0.5, drafted=cell.config.draft_length or 0))
    run_sweep(spec, [cell, baseline], tmp_path / "sweep", place, Silent())
    first = orjson.loads((cell.folder(tmp_path / "sweep") / "scores.json").read_bytes())
    assert first["baseline"] is None
    assert summarise(tmp_path / "sweep").cells[0].headline.speedup_output_tps.value > 1


class OnTwo(Written):
    """Everything without speculation is run somewhere else."""

    def __init__(self, here: RunFile, there: RunFile) -> None:
        super().__init__(here, lambda cell: turns_at(0.5, drafted=cell.config.draft_length or 0))
        self.there = there

    def run(self, cells, sweep: Path, observer: SweepObserver) -> None:
        plain = [cell for cell in cells if cell.config.algorithm == "none"]
        Written(self.there, self.turns_of).run(plain, sweep, observer)
        super().run([cell for cell in cells if cell not in plain], sweep, observer)


def of_another(run_file: RunFile, **facts) -> RunFile:
    return run_file.model_copy(update={"provenance": run_file.provenance.model_copy(update=facts)})


def on_two(run_file: RunFile, folder: Path, **facts) -> tuple[Summary, str]:
    """A cell and its baseline, of which `facts` are true instead; what is printed of them."""
    spec = spec_of({"axes": {"draft_length": [1]}})
    run_sweep(spec, plan(spec), folder, OnTwo(run_file, of_another(run_file, **facts)), Silent())
    console = Console(record=True, width=100, file=io.StringIO())
    summary = summarise(folder)
    print_summary(summary, folder, console)
    return summary, console.export_text()


def test_a_baseline_of_another_machine_or_engine_version_gives_no_speed_up(tmp_path: Path, run_file: RunFile) -> None:
    gpus = (Gpu(name="H100", memory_mib=81559, driver="550"),) * 2
    machine = run_file.provenance.hardware.model_copy(update={"cpu": "a slower one", "gpus": gpus})
    others = {
        "the baseline ran on another machine: a slower one, 2 x H100 (81559 MiB, driver 550); not": {
            "hardware": machine
        },
        "the baseline had another version of the engine: 0.0.1, not": {"engine_version": "0.0.1"},
    }
    for reason, facts in others.items():
        summary, shown = on_two(run_file, tmp_path / str(len(reason)), **facts)
        [cell] = [cell for cell in summary.cells if cell.baseline]
        assert cell.state == "finished"
        for speedup in (cell.headline.speedup_output_tps, cell.headline.speedup_tpot):
            assert speedup.value is None
            assert speedup.reason.startswith(reason)
        assert f"no speed-up in 1 cell: {reason}" in shown


def test_a_baseline_of_another_model_is_refused(tmp_path: Path, run_file: RunFile) -> None:
    model = run_file.provenance.model.model_copy(update={"sha256": "0" * 64})
    summary, _ = on_two(run_file, tmp_path / "sweep", model=model)
    [cell] = [cell for cell in summary.cells if cell.baseline]
    assert cell.state == "failed"
    assert "is no baseline of this run: it differs in the model's contents; remove the folder" in cell.error


def test_of_a_server_elsewhere_this_machine_says_nothing(tmp_path: Path, run_file: RunFile) -> None:
    machine = run_file.provenance.hardware.model_copy(update={"cpu": "a slower one"})
    place = OnTwo(run_file, of_another(run_file, hardware=machine))
    spec = attached({"engine.url": "http://k3:1", "draft_length": 3})
    run_sweep(spec, plan(spec), tmp_path / "sweep", place, Silent())
    assert all(cell.headline.speedup_tpot.value for cell in summarise(tmp_path / "sweep").cells if cell.baseline)


def test_a_cell_that_drafted_nothing_though_it_should_has_failed(tmp_path: Path, run_file: RunFile) -> None:
    spec = spec_of({"axes": {"draft_length": [1]}, "baseline": False})
    observer = Silent()
    run_sweep(spec, plan(spec), tmp_path / "sweep", Written(run_file, lambda _: turns_at(0.5, drafted=0)), observer)
    [error] = observer.ended.values()
    assert "not one token was drafted in 12 turns" in error
    [cell] = summarise(tmp_path / "sweep").cells
    assert (cell.state, cell.headline) == ("failed", None)


def test_a_baseline_that_drafts_is_none_and_its_cells_have_failed(tmp_path: Path, run_file: RunFile) -> None:
    spec = spec_of({"axes": {"draft_length": [1]}, "order": "listed"})
    observer = Silent()
    run_sweep(spec, plan(spec), tmp_path / "sweep", Written(run_file, lambda _: turns_at(0.5)), observer)
    first, second = observer.ended.values()
    assert "no speculation was asked for" in first
    assert "the baseline drafted" in second


def test_the_summary_lies_in_the_folder_for_people_and_programs(failing: Path) -> None:
    folder, cells = failing, plan(FAILING)
    summary = summarise(folder)
    assert Summary.model_validate_json((folder / SUMMARY).read_bytes()) == summary
    rows = list(csv.DictReader((folder / SUMMARY_CSV).read_text().splitlines()))
    assert [row["name"] for row in rows] == [cell.name for cell in cells]
    first = summary.cells[1].headline
    assert float(rows[1]["output_tps"]) == first.output_tps.value
    assert float(rows[1]["ttft_s_p99"]) == first.ttft_s.p99
    assert (rows[2]["state"], rows[2]["output_tps"], rows[2]["error"]) == ("failed", "", "the engine [is] gone")
    assert rows[0]["speedup_output_tps"] == "", "undefined is not zero"


def test_the_terminal_shows_all_of_it(failing: Path) -> None:
    folder, cells = failing, plan(FAILING)
    console = Console(record=True, width=100, file=io.StringIO())
    print_summary(summarise(folder), folder, console)
    shown = console.export_text()
    for words in (
        "algorithm  K",
        "mtp        1",
        "none       –",
        "best draft length by Output TPS",
        "best draft length by TPOT",
    ):
        assert words in shown, shown
    assert f"failed {cells[2].name}: the engine [is] gone" in shown
    assert "3 of 4 cells finished, 1 failed" in shown
    assert "1 failed" in shown
    assert "note: simulated" in shown
    assert f"sweep folder: {folder}" in shown


def test_settings_of_drafts_are_not_told_of_a_cell_without(tmp_path: Path, run_file: RunFile) -> None:
    spec = spec_of({"axes": {"engine.ngram_size": [2, 4]}, "order": "listed"})
    place = Written(run_file, lambda cell: turns_at(0.5, drafted=cell.config.draft_length or 0))
    run_sweep(spec, plan(spec), tmp_path / "sweep", place, Silent())
    summary = summarise(tmp_path / "sweep")
    assert summary.swept == ["algorithm", "engine.ngram_size"]
    assert [cell.settings["engine.ngram_size"] for cell in summary.cells] == [None, 2, 4]
    assert summary.best == [], "there is one draft length"


def test_a_draft_length_that_is_alone_is_no_winner(tmp_path: Path, run_file: RunFile) -> None:
    def fails(k: int, _: int) -> list[TurnRecord]:
        if k > 1:
            raise EngineError("gone")
        return turns_at(0.5)

    summary = summary_of(tmp_path, run_file, fails)
    console = Console(record=True, width=100, file=io.StringIO())
    print_summary(summary, tmp_path / "sweep", console)
    shown = console.export_text()
    assert "alone, without 3, 5" in shown
    assert "told apart" not in shown


def test_curves_take_each_load_at_its_best_draft_length_and_say_where_they_cross(
    tmp_path: Path, run_file: RunFile
) -> None:
    spec = spec_of({"axes": {"concurrency": [1, 4], "draft_length": [1, 3]}, "repeats": 2, "order": "listed"})

    def turns_of(cell: Cell) -> list[TurnRecord]:
        k, load = cell.config.draft_length or 0, cell.config.concurrency
        return turns_at({0: 0.25, 1: 0.4, 3: 0.3}[k] * load**0.5, drafted=k, streams=load)

    run_sweep(spec, plan(spec), tmp_path / "sweep", Written(run_file, turns_of), Silent())
    console = Console(record=True, width=200, file=io.StringIO())
    print_curves(summarise(tmp_path / "sweep"), tmp_path / "sweep", console)
    title, sentence = console.export_text().splitlines()
    assert title == "steady Output TPS against User TPS, each load at its best draft length"
    assert sentence.startswith("ngram and none cross nowhere from 3.33 to 4.00 User TPS")
    assert sentence.endswith("ngram has more steady Output TPS throughout")


def attached(*servers: dict) -> SweepSpec:
    """A sweep over servers that run already, under two loads."""
    base = {"engine": {"name": "simulator", "baseline_url": "http://plain:1"}, "algorithm": "mtp"}
    return spec_of({"base": base, "axes": {"server": list(servers), "concurrency": [1, 4]}, "order": "listed"})


def shown_of(spec: SweepSpec, folder: Path, run_file: RunFile) -> tuple[Summary, str]:
    """What is printed of such a sweep, with longer drafts slower; on a terminal."""

    def turns_of(cell: Cell) -> list[TurnRecord]:
        k, load = cell.config.draft_length or 0, cell.config.concurrency
        return turns_at(0.2 + 0.1 * k * load**0.5, drafted=k, streams=load)

    run_sweep(spec, plan(spec), folder, Written(run_file, turns_of), Silent())
    console = Console(record=True, width=200, file=io.StringIO(), force_terminal=True)
    summary = summarise(folder)
    print_summary(summary, folder, console)
    return summary, console.export_text()


def test_a_server_for_every_draft_length_has_a_best_one_and_one_curve(tmp_path: Path, run_file: RunFile) -> None:
    servers = [{"engine.url": f"http://k{k}:1", "draft_length": k} for k in (3, 5)]
    summary, shown = shown_of(attached(*servers), tmp_path / "sweep", run_file)
    assert [(best.draft_length, len(best.options)) for best in summary.best] == [(3, 2)] * 4
    assert "steady Output TPS against User TPS, each load at its best draft length" in shown
    assert "mtp and none" in shown


def test_servers_with_one_draft_length_are_not_taken_for_repeats(tmp_path: Path, run_file: RunFile) -> None:
    servers = [{"engine.url": f"http://{name}:1", "draft_length": k} for name in "ab" for k in (3, 5)]
    summary, _ = shown_of(attached(*servers), tmp_path / "sweep", run_file)
    assert {best.settings["engine.url"] for best in summary.best} == {"http://a:1", "http://b:1"}
    assert all(option.value.num_runs == 1 for best in summary.best for option in best.options)


def test_without_a_pace_there_is_no_curve(tmp_path: Path, run_file: RunFile) -> None:
    """Every answer arrives at once."""
    spec = spec_of({"axes": {"concurrency": [1, 4], "draft_length": [1]}, "baseline": False, "order": "listed"})

    def turns_of(cell: Cell) -> list[TurnRecord]:
        return [replace(each, arrivals=((each.finished_at_s, len(each.output_ids)),)) for each in turns_at(0.3)]

    run_sweep(spec, plan(spec), tmp_path / "sweep", Written(run_file, turns_of), Silent())
    console = Console(record=True, width=200, file=io.StringIO(), force_terminal=True)
    print_summary(summarise(tmp_path / "sweep"), tmp_path / "sweep", console)
    assert "against User TPS" not in console.export_text()


def test_what_is_printed_before_says_how_much_is_asked(tmp_path: Path) -> None:
    cells = plan(spec_of({"axes": {"draft_length": [1, 3]}, "order": "listed"}))
    console = Console(record=True, width=40, file=io.StringIO())
    print_plan(cells, asked(cells), console)
    shown = console.export_text()
    assert all(cell.name in shown for cell in cells), "a name is not cut where it does not fit"
    assert "3 cells, 1 of them without speculation; 81 turns; protocol quick" in shown


def test_another_sweep_in_the_same_folder_is_refused_and_named(tmp_path: Path) -> None:
    spec = spec_of({"axes": {"draft_length": [1, 3]}, "base": {"max_tokens": 8}})
    other = spec_of({"axes": {"draft_length": [1, 5]}, "base": {"max_tokens": 9}})
    with opened(tmp_path / "sweep", spec, plan(spec)):
        pass
    with pytest.raises(RunFolderError) as refused, opened(tmp_path / "sweep", other, plan(other)):
        pass
    assert "holds another sweep: base.max_tokens (was 8, is 9); axes.draft_length (was [1, 3], is [1, 5])" in str(
        refused.value
    )
    assert read_sweep(tmp_path / "sweep").spec == spec


def test_the_same_sweep_may_be_written_otherwise_and_made_otherwise(tmp_path: Path) -> None:
    spec = spec_of({"axes": {"draft_length": [1, 3]}, "base": {"engine": {"threads": 2}}})
    other = spec_of(
        {
            "axes": {"draft_length": [3, 1]},
            "base": {"engine.threads": 2, "engine.start_timeout_s": 5},
            "order": "listed",
        }
    )
    with opened(tmp_path / "sweep", spec, plan(spec)):
        pass
    with opened(tmp_path / "sweep", other, plan(other)):
        pass
    assert {cell.config.engine.start_timeout_s for cell in read_sweep(tmp_path / "sweep").planned()} == {5}


def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    spec = spec_of({})
    with pytest.raises(RunFolderError, match=r"holds other files \(thesis.tex"), opened(tmp_path, spec, plan(spec)):
        pass
    with pytest.raises(RunFolderError, match="is not the folder of a sweep"):
        read_sweep(tmp_path)
    (tmp_path / "sweep.json").write_text("{}")
    with pytest.raises(RunFolderError, match=r"sweep.json cannot be used: spec Field required"):
        read_sweep(tmp_path)


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    spec = spec_of({})
    with (
        opened(tmp_path / "sweep", spec, plan(spec)),
        pytest.raises(RunFolderError, match="in use"),
        opened(tmp_path / "sweep", spec, plan(spec)),
    ):
        pass


def test_a_cell_is_finished_when_all_turns_are_there_and_its_end_is_too(tmp_path: Path, run_file: RunFile) -> None:
    [cell] = plan(spec_of({"baseline": False}))
    folder, turns = tmp_path / "cell", turns_at(0.5)
    assert not is_finished(folder)
    write_run(cell, folder, run_file, turns[:-1])
    assert not is_finished(folder)
    with (folder / "turns-0.jsonl").open("ab") as journal:
        journal.write(b'{"turn": torn')
    assert not is_finished(folder)
    write_run(cell, tmp_path / "killed", run_file, turns, whole=False)
    assert not is_finished(tmp_path / "killed")
    write_run(cell, tmp_path / "whole", run_file, turns)
    assert is_finished(tmp_path / "whole")
    (folder / "segments.jsonl").write_text("nonsense\n")
    with pytest.raises(RunFolderError, match="journal that cannot be read"):
        is_finished(folder)


def test_a_cell_that_cannot_be_read_is_told_with_a_remedy_and_stops_no_other(failing: Path) -> None:
    cells, observer = plan(FAILING), Silent()
    (cells[0].folder(failing) / "segments.jsonl").write_text("nonsense\n")
    (cells[1].folder(failing) / "run.json").write_text("{}")
    SweepProgress(failing, cells, Console(file=io.StringIO()))
    Here().run(cells[:2], failing, observer)
    for cell, wrong in zip(cells, ("has a journal that cannot be read", "run.json cannot be used"), strict=False):
        assert wrong in observer.ended[cell.name]
        assert observer.ended[cell.name].endswith(f"; remove {cell.folder(failing)} to measure it again")


def test_cells_with_all_their_turns_that_are_no_result_are_to_be_removed(
    tmp_path: Path, run_file: RunFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = plan(FAILING)

    def turns_of(cell: Cell) -> list[TurnRecord]:
        if cell.config.draft_length == 3:
            raise EngineError("the engine is gone")
        return turns_at(0.5, drafted=cell.config.draft_length if cell.config.draft_length == 1 else 0)

    monkeypatch.setattr(sweep_verb, "_place", lambda *_: Written(run_file, turns_of))
    with pytest.raises(EngineError) as failed:
        sweep_verb.measure(FAILING, cells, tmp_path / "sweep", Console(file=io.StringIO()))
    folder = cells[3].folder(tmp_path / "sweep")
    assert str(failed.value) == (
        "2 of 4 cells failed, as said above; when the cause is gone, "
        f"remove {folder}, which has all its turns, and go on with: speed-bench sweep {tmp_path / 'sweep'}"
    )
    shutil.rmtree(folder)
    place = Written(run_file, lambda _: turns_at(0.5))
    run_sweep(FAILING, cells, tmp_path / "sweep", place, Silent())
    assert place.ran == [cells[2].name, cells[3].name]


def test_a_sweep_with_nothing_left_asks_for_no_place(tmp_path: Path, run_file: RunFile) -> None:
    class Gone:
        def run(self, cells, sweep: Path, observer: SweepObserver) -> None:
            raise ConfigError("no Ray cluster")

    spec = spec_of({"baseline": False})
    run_sweep(spec, plan(spec), tmp_path / "sweep", Written(run_file, lambda _: turns_at(0.5)), Silent())
    run_sweep(spec, plan(spec), tmp_path / "sweep", Gone(), Silent())


def test_a_cell_that_was_finished_on_another_machine_is_told(tmp_path: Path, run_file: RunFile) -> None:
    spec = spec_of({"baseline": False})
    [cell] = cells = plan(spec)
    run_sweep(spec, cells, tmp_path, Written(run_file, lambda _: turns_at(0.5)), Silent())
    folder = cell.folder(tmp_path)
    with Journal(folder, read_run_file(folder)) as journal:
        journal.add_segment(Segment(0, "2025-01-01T00:00:00Z", "boot", None, whole=True, machine="a quicker one"))
    console = Console(record=True, width=100, file=io.StringIO())
    print_summary(summarise(tmp_path), tmp_path, console)
    assert "in 1 cell speeds are of another machine than the run began on: a quicker one; not" in console.export_text()


def test_when_it_is_stopped_it_says_how_to_go_on(tmp_path: Path, run_file: RunFile) -> None:
    spec = spec_of({"axes": {"draft_length": [1, 3]}, "baseline": False, "order": "listed"})

    def turns_of(cell: Cell) -> list[TurnRecord]:
        if cell.config.draft_length == 3:
            raise KeyboardInterrupt
        return turns_at(0.5)

    folder = tmp_path / "a sweep"
    with pytest.raises(KeyboardInterrupt) as stopped:
        run_sweep(spec, plan(spec), folder, Written(run_file, turns_of), Silent())
    assert stopped.value.__notes__ == [
        "1 of 2 cells are finished, and every finished turn of the others is kept; "
        f"go on with: speed-bench sweep '{folder}'"
    ]
    assert [cell.state for cell in summarise(folder).cells] == ["finished", "waiting"]


def test_progress_counts_cells_and_estimates_what_is_left(tmp_path: Path) -> None:
    cells = plan(spec_of({"axes": {"draft_length": [1, 3]}, "order": "listed"}))
    now_s, console = [0.0], Console(record=True, width=120, file=io.StringIO())
    progress = SweepProgress(tmp_path, cells, console, side_by_side=True, now_s=lambda: now_s[0])
    progress.begin(cells[0], 10, ())
    now_s[0] = 30.0
    progress.turns(cells[0], 4, 1)
    progress.end(cells[0], ConfigError("no [such] model"))
    progress.begin(cells[1], 10, ())
    lines = console.export_text().splitlines()
    assert lines == [
        f"cell 1 of 3: {cells[0].name}",
        "0 of 3 cells done, 1 running: 4/10 turns, 1 failed",
        f"  failed {cells[0].name}: no [such] model",
        f"cell 2 of 3 (about 60 s left): {cells[1].name}",
    ]
    assert (duration(119), duration(121), duration(7300)) == ("119 s", "2 min", "2.0 h")
