"""`speed-bench predict`: which runs belong together, what is printed and written, and what is refused."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from closed_loop import closed_loop
from records import run_of

from speed_bench.cli.predict import predict
from speed_bench.comparison import compare
from speed_bench.config import resolve
from speed_bench.draft_lengths import Given
from speed_bench.errors import ConfigError, RunFolderError, SpeedBenchError
from speed_bench.prediction import Estimate
from speed_bench.records import RunRecords
from speed_bench.run_predictions import predict_runs
from speed_bench.runner.journal import Journal, RunFile, read_records, read_run_file, write_run_file, write_whole
from speed_bench.scores import Bootstrap
from speed_bench.scoring import score
from speed_bench.serving import tpot_total_s
from speed_bench.sweep.cells import Cell
from speed_bench.sweep.folder import SweepFile
from speed_bench.sweep.plan import plan
from speed_bench.sweep.spec import SweepSpec, spec_of
from speed_bench.types import Failure

RECORDED = Path(__file__).parent.parent / "recordings" / "run"
BOOTSTRAP = Bootstrap(confidence_level=0.95, resamples=200, seed=0)
NUMBERS = ("--acceptance-length", "2.12", "--t-ar", "19.6ms", "--t-sd", "25.9ms")


def run_predict(*arguments: object) -> None:
    """The verb in this process: an error for the user is raised."""
    predict.main([str(each) for each in arguments], standalone_mode=False)


def write_run(
    folder: Path, config, records: RunRecords, baseline_at: str | None = None, num_conversations: int = 20
) -> Path:
    """A run folder with these records, as if they had been measured under that config."""
    folder.mkdir(parents=True)
    provenance = read_run_file(RECORDED).provenance
    data = provenance.data.model_copy(update={"num_conversations": num_conversations})
    provenance = provenance.model_copy(update={"data": data})
    protocol = resolve({"max_tokens": 8})[1]
    file = RunFile(
        config=config,
        protocol=protocol,
        provenance=provenance,
        num_turns_planned=records.num_planned,
        baseline_at=baseline_at,
    )
    write_run_file(folder, file)
    with Journal(folder, file) as journal:
        for segment in records.segments:
            journal.add_segment(segment)
        for outcome in records.outcomes:
            journal.add(outcome)
    return folder


def settings_of(draft_length: int, **flags):
    drafts = {"algorithm": "mtp", "draft_length": draft_length} if draft_length else {"algorithm": "none"}
    return resolve({"engine": "simulator", "max_tokens": 256, "baseline": False, **drafts, **flags})[0]


@pytest.fixture(scope="module")
def loops() -> dict[int, RunRecords]:
    """Runs with draft lengths of 0 (none), 1 and 4 of the same turns."""
    return {k: closed_loop(k, streams=4, turns=40, prompt_tokens=500, conversations=20) for k in (0, 1, 4)}


@pytest.fixture(scope="module")
def runs(loops: dict[int, RunRecords], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as run folders, named after their draft length, none with a baseline of its own."""
    folder = tmp_path_factory.mktemp("runs")
    for k, records in loops.items():
        write_run(folder / f"k{k}", settings_of(k, concurrency=4), records)
    return folder


def test_numbers_alone_give_the_published_projection(capsys: pytest.CaptureFixture[str]):
    run_predict(*NUMBERS)
    shown = capsys.readouterr().out
    assert re.search(r"–\s+2\.12\s+25\.90\s+1\.60\s+1\.32\s+–", shown)
    assert "measured" not in shown
    assert "t_ar 19.60 ms" in shown


def test_what_a_number_may_be_off_by_is_in_the_interval(capsys: pytest.CaptureFixture[str]):
    run_predict("--acceptance-length", "2.12±0.05", "--t-ar", "19600+-200us", "--t-sd", "3=25.9 ms")
    assert re.search(r"3\s+2\.12 \[2\.07, 2\.17\]\s+25\.90\s+1\.60 \[1\.56, 1\.65\]", capsys.readouterr().out)


def test_times_of_several_draft_lengths_give_the_best_one(capsys: pytest.CaptureFixture[str]):
    run_predict("--rates", "0.7,0.6,0.5", "--t-ar", "19.6ms", "--t-sd", "1=22.1ms,3=25.9ms", "--extend-to", "4")
    shown = capsys.readouterr().out
    assert "best draft length: k = 3 (1.76x)" in shown
    assert re.search(r"2\*\s+2\.12\s+24\.00", shown)
    assert re.search(r"4\*\*\s+2\.43", shown)
    assert "\n*  not run" in shown
    assert "\n** beyond what was run" in shown


@pytest.mark.parametrize(("times", "last", "left_out"), [("1=30ms,3=22ms", 8, "9"), ("1=30±1ms,3=22±1ms", 7, "8, 9")])
def test_where_the_line_of_step_times_falls_to_0_there_is_no_row(
    capsys: pytest.CaptureFixture[str], times: str, last: int, left_out: str
):
    run_predict("--rates", "0.7,0.6,0.5", "--t-ar", "19.6ms", "--t-sd", times, "--extend-to", "9")
    shown = capsys.readouterr().out
    assert "t_sd is 34.00 − 4.000 · k ms (two points)" in shown
    assert re.findall(r"^ *(\d)\*\*", shown, re.MULTILINE) == [str(k) for k in range(4, last + 1)]
    assert f"k = {left_out}: left out, because the line of step times, or its interval, falls to 0 there" in shown


def test_the_examples_of_the_page_give_what_they_show(capsys: pytest.CaptureFixture[str]):
    """Those that need no run."""
    page = (Path(__file__).parent.parent.parent / "docs" / "predict.md").read_text("utf-8")
    examples = re.findall(r"^\$ speed-bench predict (--.*)\n((?:(?!\$ |```).*\n)*)", page, re.MULTILINE)
    assert len(examples) == 2
    for arguments, shown in examples:
        run_predict(*arguments.split())
        assert capsys.readouterr().out.rstrip() == shown.rstrip()


def test_a_drafter_that_never_pays_is_called_so(capsys: pytest.CaptureFixture[str]):
    run_predict("--rates", "0.1,0.1", "--t-ar", "10ms", "--t-sd", "1=12ms,2=13ms")
    assert "best draft length: k = 1 (0.92x: none pays)" in capsys.readouterr().out


def test_a_run_with_its_baseline_gives_what_was_measured(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    run_predict(RECORDED, "--json", tmp_path / "predicted.json")
    measured = compare(read_records(RECORDED), read_records(RECORDED / "baseline"), None)
    [found] = orjson.loads((tmp_path / "predicted.json").read_bytes())["predictions"]
    [row] = found["rows"]
    assert row["speedup"]["value"] == pytest.approx(measured.speedup_tpot.value)
    assert row["measured_speedup_tpot"]["value"] == pytest.approx(measured.speedup_tpot.value)
    assert row["speedup"]["low"] < row["speedup"]["value"] < row["speedup"]["high"]
    assert (row["draft_length"], row["num_conversations"]) == (8, 22)
    assert found["subject"]["algorithm"] == "ngram"
    assert "llama-cpp · smollm2-135m-instruct · ngram · open/starter · concurrency 1" in capsys.readouterr().out


def test_runs_of_one_load_are_put_together_with_the_run_without_speculation(runs: Path, loops: dict[int, RunRecords]):
    [outlook], left_out = predict_runs([runs / "k1", runs / "k0", runs / "k4"], Given(), bootstrap=BOOTSTRAP)
    rows = outlook.prediction.rows
    assert left_out == []
    assert [(row.draft_length, row.run) for row in rows] == [(1, "k1"), (2, None), (3, None), (4, "k4")]
    assert [row.acceptance_from for row in rows] == ["measured", "shorter", "shorter", "measured"]
    for row in (rows[0], rows[3]):
        measured = compare(loops[row.draft_length], loops[0], None).speedup_tpot.value
        assert row.speedup.value == pytest.approx(measured)
        assert row.measured_speedup_tpot.value == pytest.approx(measured)
    assert outlook.subject.input_tokens == 500
    assert outlook.prediction.prefill_s_per_token.value > 0


def test_runs_of_other_loads_and_other_drafters_are_apart(runs: Path, loops: dict[int, RunRecords], tmp_path: Path):
    write_run(tmp_path / "busier", settings_of(4, concurrency=8), loops[4])
    slower = closed_loop(0, streams=4, turns=40, prompt_tokens=500, conversations=20, step_ms=50)
    write_run(tmp_path / "busier-0", settings_of(0, concurrency=8), slower)
    write_run(tmp_path / "ngram", settings_of(4, concurrency=4, algorithm="ngram"), loops[4])
    every = [runs / "k0", runs / "k1", *(tmp_path / name for name in ("busier", "busier-0", "ngram"))]
    outlooks, _ = predict_runs(every, Given(), bootstrap=BOOTSTRAP)
    assert {(outlook.subject.concurrency, outlook.subject.algorithm) for outlook in outlooks} == {
        *((4, "mtp"), (8, "mtp"), (4, "ngram"))
    }
    assert all(len(outlook.prediction.rows) == 1 for outlook in outlooks)
    t_ar_s = {outlook.subject.concurrency: outlook.prediction.t_ar_s.value for outlook in outlooks}
    assert (t_ar_s[4] < 0.02, t_ar_s[8] > 0.05) == (True, True)


def test_how_many_prompts_and_where_the_server_was_make_no_difference(loops: dict[int, RunRecords], tmp_path: Path):
    fewer = run_of(*loops[0].turns[:30])
    write_run(tmp_path / "k4", settings_of(4, concurrency=4), loops[4])
    elsewhere = settings_of(0, concurrency=4, limit_per_category=1, seeds=(7,), **{"engine.port": 1234})
    write_run(tmp_path / "k0", elsewhere, fewer, num_conversations=15)
    [outlook], _ = predict_runs([tmp_path / "k4", tmp_path / "k0"], Given(), bootstrap=BOOTSTRAP)
    [row] = outlook.prediction.rows
    assert row.speedup.value > 1
    assert row.measured_speedup_tpot is None
    assert any("no measured speed-up, because they finished different turns" in note for note in outlook.notes)


def test_an_open_loop_is_called_by_its_arrivals_and_has_no_output_tps(
    loops: dict[int, RunRecords], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    for k, records in loops.items():
        write_run(tmp_path / f"k{k}", settings_of(k, concurrency=4, arrivals="poisson", rate=2.5), records)
    run_predict(*(tmp_path / f"k{k}" for k in loops), "--json", tmp_path / "predicted.json")
    shown = capsys.readouterr().out
    assert "poisson 2.5 a second, at most 4 at once · 500 input" in shown
    assert "prefill" not in shown
    [found] = orjson.loads((tmp_path / "predicted.json").read_bytes())["predictions"]
    assert {row["speedup_output_tps"] is None for row in found["rows"]} == {True}


def test_failed_turns_are_told(loops: dict[int, RunRecords], tmp_path: Path):
    lost = Failure("question-099/0", "math", 0, 0, "request", "HTTP 500", 1.0)
    write_run(tmp_path / "k4", settings_of(4, concurrency=4), replace(loops[4], failures=(lost,)))
    given = Given(t_ar_s=Estimate(tpot_total_s(record.arrivals for record in loops[0].turns)))
    [outlook], _ = predict_runs([tmp_path / "k4"], given, bootstrap=BOOTSTRAP)
    assert outlook.notes[0].startswith("k4: 1 turns failed")


def test_the_cells_of_a_sweep_are_found_with_the_baseline_they_share(
    loops: dict[int, RunRecords], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """A cell that was never run is named, and so is one that was put aside not taken for one."""
    cells = sweep_of(
        {"draft_length": [1, 2, 4]}, {"engine": "simulator", "algorithm": "mtp", "max_tokens": 256, "concurrency": 4}
    )
    for cell in cells:
        if cell.config.draft_length != 2:
            write_run(cell.folder(tmp_path), cell.config, loops[cell.config.draft_length or 0], cell.baseline_at)
    first = cells[0].folder(tmp_path)
    shutil.copytree(first, first.with_name(f"{first.name}.stopped-1"))
    write_sweep(tmp_path, cells)
    run_predict(tmp_path, "--json", tmp_path / "predicted.json")
    written = orjson.loads((tmp_path / "predicted.json").read_bytes())
    [found] = written["predictions"]
    assert [(row["draft_length"], row["run"] is None) for row in found["rows"]] == [
        *((1, False), (2, True), (3, True), (4, False))
    ]
    [sentence] = written["left_out"]
    assert "-k2-" in sentence
    assert "is left out: " in sentence
    shown = capsys.readouterr().out
    assert sentence in shown
    assert "note: simulated" in shown


def test_a_cell_that_drafted_nothing_is_left_out_and_a_run_refused(loops: dict[int, RunRecords], tmp_path: Path):
    base = {"engine": "simulator", "algorithm": "mtp", "max_tokens": 256, "concurrency": 4}
    cells = sweep_of({"draft_length": [1, 4]}, base)
    for cell in cells:
        write_run(
            cell.folder(tmp_path), cell.config, loops[1 if cell.config.draft_length == 1 else 0], cell.baseline_at
        )
    write_sweep(tmp_path, cells)
    [outlook], left_out = predict_runs([tmp_path], Given(), bootstrap=BOOTSTRAP)
    assert [row.draft_length for row in outlook.prediction.rows] == [1]
    assert [sentence.endswith("no run with speculation: not one token was drafted") for sentence in left_out] == [True]
    with pytest.raises(RunFolderError, match="not one token was drafted"):
        predict_runs([cells[-1].folder(tmp_path)], Given(), bootstrap=BOOTSTRAP)


def test_a_baseline_of_another_machine_predicts_nothing(loops: dict[int, RunRecords], tmp_path: Path):
    folder = write_run(tmp_path / "k4", settings_of(4, concurrency=4, baseline=True), loops[4])
    elsewhere = write_run(folder / "baseline", settings_of(0, concurrency=4), loops[0])
    text = (elsewhere / "run.json").read_text("utf-8")
    (elsewhere / "run.json").write_text(re.sub('"cpu": "[^"]*"', '"cpu": "a slower one"', text), "utf-8")
    with pytest.raises(RunFolderError, match="no baseline, because the baseline ran on another machine: a slower one"):
        predict_runs([folder], Given(), bootstrap=BOOTSTRAP)
    [outlook], _ = predict_runs([folder], Given(t_ar_s=Estimate(0.02)), bootstrap=BOOTSTRAP)
    assert outlook.prediction.rows[0].measured_speedup_tpot is None


def sweep_of(axes: dict, base: dict) -> list[Cell]:
    return plan(spec_of({"base": base, "axes": axes, "order": "listed"}))


def write_sweep(folder: Path, cells: list[Cell]) -> None:
    write_whole(folder / "sweep.json", SweepFile.of(SweepSpec(), cells).model_dump(mode="json"))


def test_measured_speedups_are_those_of_the_scores_where_there_are_any(
    loops: dict[int, RunRecords], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = write_run(tmp_path / "k4", settings_of(4, concurrency=4, baseline=True), loops[4])
    write_run(folder / "baseline", settings_of(0, concurrency=4), loops[0])
    scores = score(loops[4], loops[0], resamples=50)
    write_whole(folder / "scores.json", scores.model_dump(mode="json"))
    monkeypatch.setattr("speed_bench.run_predictions.compare", lambda *_: pytest.fail("they are there"))
    [outlook], _ = predict_runs([folder], Given(), bootstrap=BOOTSTRAP)
    [row] = outlook.prediction.rows
    assert row.measured_speedup_output_tps.value == scores.baseline.speedup_output_tps.value


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "nothing to predict from: name runs or a sweep"),
        (("--t-ar", "19.6"), "--t-ar 19.6: it has no unit; write it as 19.6ms"),
        (("--t-ar", "19.6min"), "'min' is no unit"),
        (("--t-ar", "fast"), "--t-ar fast: this is no number"),
        (("--t-ar", "-19.6ms"), "--t-ar -0.0196 s: how long a step takes is above 0"),
        (("--t-ar", "0ms"), "how long a step takes is above 0"),
        (("--t-ar", "2±3ms"), "by less than itself"),
        (("--t-sd", "three=26ms"), "'three' is no draft length"),
        (("--t-sd", "0=26ms"), "'0' is no draft length"),
        (("--t-sd", "3=26ms,3=27ms"), "two times for draft length 3"),
        (("--t-sd", "26ms,3=27ms"), "say of each which draft length it is of"),
        (("--rates", "0.5;0.4"), "one rate a position"),
        (("--rates", "0.5,1.4"), "--rates 1.4: a rate lies between 0 and 1"),
        (("--acceptance-length", "2.1ms"), "'ms' is no unit"),
        (("--acceptance-length", "0.9"), "a decode step emits at least one token"),
        (("--acceptance-length", "2", "--t-sd", "26ms"), "no step time without speculation"),
        ((*NUMBERS, "--extend-to", "9"), "--extend-to 9 needs the step times of two draft lengths"),
        (("nowhere",), "nowhere is neither a run folder nor that of a sweep"),
    ],
)
def test_what_cannot_be_used_is_said_in_a_sentence(arguments: tuple[str, ...], sentence: str):
    with pytest.raises(SpeedBenchError, match=re.escape(sentence)) as raised:
        run_predict(*arguments)
    assert "\n" not in str(raised.value)


def test_a_run_without_a_baseline_says_what_to_do(runs: Path):
    with pytest.raises(RunFolderError, match="k4 has no baseline: name a run without speculation"):
        predict_runs([runs / "k4"], Given(), bootstrap=BOOTSTRAP)


def test_a_run_without_speculation_alone_predicts_nothing(runs: Path):
    with pytest.raises(RunFolderError, match="k0 drafts, so there is no speed-up to predict"):
        predict_runs([runs / "k0"], Given(), bootstrap=BOOTSTRAP)


def test_a_baseline_that_drafted_is_refused(loops: dict[int, RunRecords], tmp_path: Path):
    folder = write_run(tmp_path / "k4", settings_of(4, concurrency=4, baseline=True), loops[4])
    write_run(folder / "baseline", settings_of(0, concurrency=4), loops[1])
    with pytest.raises(RunFolderError, match=r"baseline is no baseline: it drafted \(\d+ tokens\)"):
        predict_runs([folder], Given(), bootstrap=BOOTSTRAP)


def test_an_interrupted_run_is_refused(loops: dict[int, RunRecords], tmp_path: Path):
    cut = replace(loops[4], segments=(replace(loops[4].segments[0], whole=False),))
    with pytest.raises(RunFolderError, match="no finished turn that can be timed"):
        predict_runs([write_run(tmp_path / "k4", settings_of(4), cut)], Given(), bootstrap=BOOTSTRAP)


def resumed(records: RunRecords) -> RunRecords:
    """The same, as if its first turns had been finished before an interruption."""
    first, last = records.segments[0], replace(records.segments[0], index=1)
    turns = tuple(replace(each, segment=int(number >= 20)) for number, each in enumerate(records.turns))
    return replace(records, turns=turns, segments=(replace(first, whole=False), last))


def test_a_resumed_run_is_refused_and_a_resumed_cell_left_out(loops: dict[int, RunRecords], tmp_path: Path):
    base = {"engine": "simulator", "algorithm": "mtp", "max_tokens": 256, "concurrency": 4}
    cells = sweep_of({"draft_length": [1, 4]}, base)
    for cell in cells:
        did = loops[cell.config.draft_length or 0]
        is_last = cell.config.draft_length == 4
        write_run(cell.folder(tmp_path), cell.config, resumed(did) if is_last else did, cell.baseline_at)
    write_sweep(tmp_path, cells)
    [outlook], [left_out] = predict_runs([tmp_path], Given(), bootstrap=BOOTSTRAP)
    assert [row.draft_length for row in outlook.prediction.rows] == [1]
    assert "was resumed, so only 20 of its 40 turns are timed" in left_out
    with pytest.raises(RunFolderError, match="only 20 of its 40 turns are timed"):
        predict_runs([cells[-1].folder(tmp_path)], Given(), bootstrap=BOOTSTRAP)


def test_a_resumed_baseline_is_refused(loops: dict[int, RunRecords], tmp_path: Path):
    folder = write_run(tmp_path / "k4", settings_of(4, concurrency=4, baseline=True), loops[4])
    write_run(folder / "baseline", settings_of(0, concurrency=4), resumed(loops[0]))
    with pytest.raises(RunFolderError, match="baseline was resumed, so only 20 of its 40 turns are timed"):
        predict_runs([folder], Given(), bootstrap=BOOTSTRAP)


def test_a_run_whose_steps_are_not_known_needs_both_numbers(loops: dict[int, RunRecords], tmp_path: Path):
    blind = run_of(*(replace(record, counts=None) for record in loops[4].turns))
    write_run(tmp_path / "k4", settings_of(4, concurrency=4), blind)
    write_run(tmp_path / "k0", settings_of(0, concurrency=4), loops[0])
    with pytest.raises(SpeedBenchError, match="acceptance length of k4: not known from these runs"):
        predict_runs([tmp_path / "k4", tmp_path / "k0"], Given(), bootstrap=BOOTSTRAP)


def test_one_acceptance_length_is_refused_for_runs_of_several_draft_lengths(runs: Path):
    with pytest.raises(ConfigError, match="--acceptance-length is that of one draft length"):
        run_predict(runs / "k0", runs / "k1", runs / "k4", "--acceptance-length", "2")


@pytest.mark.parametrize("held", [b'{"spec": 1}\n', b"[1, 2]", b"not JSON"])
def test_a_file_that_no_prediction_wrote_is_not_written_over(tmp_path: Path, held: bytes) -> None:
    path = tmp_path / "sweep.json"
    path.write_bytes(held)
    with pytest.raises(RunFolderError, match="is there already and holds something else; choose another file"):
        run_predict(*NUMBERS, "--json", path)
    assert path.read_bytes() == held


def test_a_prediction_is_written_over_an_earlier_one_or_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "predicted.json"
    path.touch()
    for length in ("2.12", "2.2"):
        run_predict("--acceptance-length", length, "--t-ar", "20ms", "--t-sd", "30ms", "--json", path)
        [found] = orjson.loads(path.read_bytes())["predictions"]
        assert found["rows"][0]["acceptance_length"]["value"] == float(length)


def test_a_prediction_that_cannot_be_written_says_nothing_of_a_run(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError) as raised:
        run_predict(*NUMBERS, "--json", tmp_path / "nowhere" / "predicted.json")
    assert "No such file or directory; choose another file" in str(raised.value)
    assert "--resume" not in str(raised.value)


def test_more_tokens_than_a_step_of_that_draft_length_can_emit_are_refused() -> None:
    run_predict("--acceptance-length", "4", "--t-ar", "20ms", "--t-sd", "3=30ms")
    with pytest.raises(ConfigError, match="a decode step of draft length 3 emits at most 4 tokens"):
        run_predict("--acceptance-length", "4.1", "--t-ar", "20ms", "--t-sd", "3=30ms")
