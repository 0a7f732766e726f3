"""Random prompts against real ones: ratios and their intervals, which prompts they are, and what is said of them."""

import io
import random as randomness
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command import speed_bench
from records import run_of, steps_of, turn
from rich.console import Console
from small_editions import write_edition

from speed_bench.config import resolve
from speed_bench.data.editions import load
from speed_bench.data.o200k import count
from speed_bench.engine_config import SimulatorConfig
from speed_bench.engines.simulator.settings import ServerSettings
from speed_bench.errors import ConfigError, RunFolderError, SpeedBenchError
from speed_bench.overstatement import Compared, Measured, overstatement
from speed_bench.provenance import ModelFacts
from speed_bench.records import RunRecords
from speed_bench.report.synthetic import print_lengths, print_overstatement
from speed_bench.runner.journal import RunFile, write_run_file
from speed_bench.scores import Cell
from speed_bench.scoring import score
from speed_bench.statistics import Interval
from speed_bench.synthetic import (
    Synthetic,
    num_tokens,
    open_comparison,
    random_flags,
    random_length,
    require_alike,
    require_comparable,
    write_comparison,
)


def conversations(rate: float, num: int = 40, *, seed: int = 0, step_s: float = 0.5, side: str = "real") -> RunRecords:
    """Conversations of one turn, one after the other, whose drafts are right at this rate; two categories."""
    rng, turns, at_s = np.random.default_rng(seed), [], 0.0
    for number in range(num):
        accepted = np.minimum(rng.geometric(1 - rate, size=rng.integers(6, 14)) - 1, 3)
        made = turn(
            f"{side}{number}/0",
            steps_of(*map(int, accepted)),
            category=("math", "qa")[number % 2],
            at_s=at_s,
            step_s=step_s,
        )
        turns.append(made)
        at_s = made.finished_at_s
    return run_of(*turns)


def measured(records: RunRecords, baseline: RunRecords | None = None) -> Measured:
    return Measured(records, baseline, score(records, baseline, resamples=500))


@pytest.fixture(scope="module")
def real() -> Measured:
    return measured(conversations(0.4), conversations(0.0, seed=0))


@pytest.fixture(scope="module")
def random() -> Measured:
    return measured(conversations(0.7, 60, seed=1, side="random"))


def test_a_number_is_the_ratio_of_the_two_scores_less_one(real: Measured, random: Measured) -> None:
    found = overstatement(real, random)
    pairs = {
        "output_tps": [each.scores.serving.output_tps for each in (real, random)],
        "user_tps": [each.scores.serving.user_tps for each in (real, random)],
        "ttft_s": [each.scores.serving.ttft_s for each in (real, random)],
        "acceptance_length": [each.scores.acceptance.overall.acceptance_length for each in (real, random)],
        "osl": [each.scores.serving.osl for each in (real, random)],
        "isl": [each.scores.serving.isl for each in (real, random)],
    }
    assert set(found) - set(pairs) == {"steady_output_tps"}, "only one of the two has a baseline"
    for name, (ours, theirs) in pairs.items():
        assert found[name].overstated.value == pytest.approx(theirs.value / ours.value - 1), name
        assert (found[name].real.value, found[name].random.value) == (ours.value, theirs.value)
        assert (found[name].real.low, found[name].random.high) == (ours.low, theirs.high)
    assert found["acceptance_length"].overstated.n == 100


@pytest.mark.parametrize("name", ["acceptance_length", "user_tps", "osl"])
def test_the_width_of_an_interval_is_that_of_two_independent_runs(real: Measured, random: Measured, name: str) -> None:
    found = overstatement(real, random)[name]
    relative = [(side.high - side.low) / side.value for side in (found.real, found.random)]
    ratio = 1 + found.overstated.value
    expected = ratio * np.hypot(*relative)
    assert found.overstated.high - found.overstated.low == pytest.approx(expected, rel=0.15)
    assert found.overstated.low < found.overstated.value < found.overstated.high


def test_the_same_run_twice_is_no_difference_and_its_interval_is_not_a_point(real: Measured) -> None:
    found = overstatement(real, real)
    assert {each.overstated.value for each in found.values() if each.overstated.value is not None} == {0.0}
    for name in ("acceptance_length", "output_tps", "speedup_output_tps", "user_tps"):
        cell = found[name].overstated
        assert cell.low < -0.01 < 0.01 < cell.high, f"{name}: the two sides were drawn together"


def test_twice_as_fast_a_run_overstates_throughput_by_all_of_it_and_acceptance_by_nothing() -> None:
    slow, fast = (measured(conversations(0.5, step_s=step_s)) for step_s in (1.0, 0.5))
    found = overstatement(slow, fast)
    assert found["user_tps"].overstated.value == pytest.approx(1.0)
    assert found["acceptance_length"].overstated.value == 0.0
    assert 0 < found["output_tps"].overstated.value < 1, "the prefill is as slow as before"


def test_the_order_of_the_journal_changes_nothing(real: Measured, random: Measured) -> None:
    turns = list(real.records.turns)
    randomness.Random(3).shuffle(turns)
    shuffled = replace(real.records, turns=tuple(turns))
    assert overstatement(Measured(shuffled, real.baseline, real.scores), random) == overstatement(real, random)


def test_the_steady_rate_is_compared_where_both_have_one() -> None:
    slow, fast = (measured(conversations(0.5, step_s=step_s)) for step_s in (1.0, 0.5))
    cell = overstatement(slow, fast)["steady_output_tps"].overstated
    before, after = (each.scores.serving.steady_output_tps.value for each in (slow, fast))
    assert cell.value == pytest.approx(after / before - 1)
    assert cell.low < cell.value < cell.high


def test_a_speed_up_is_compared_with_a_speed_up(real: Measured) -> None:
    other = measured(conversations(0.7, seed=1), conversations(0.0, seed=1))
    found = overstatement(real, other)["speedup_output_tps"]
    ours, theirs = (each.scores.baseline.speedup_output_tps.value for each in (real, other))
    assert found.overstated.value == pytest.approx(theirs / ours - 1)
    assert found.overstated.low < found.overstated.value < found.overstated.high


def test_what_one_side_does_not_have_has_no_ratio_and_the_reason_names_the_side(real: Measured) -> None:
    unknown = [replace(each, counts=None) for each in conversations(0.7, side="random").turns[:1]]
    rest = conversations(0.7, side="random").turns[1:]
    found = overstatement(real, measured(run_of(*unknown, *rest)))["acceptance_length"].overstated
    assert found.value is None
    assert found.reason.startswith("random prompts: ")
    interrupted = conversations(0.7, side="random")
    unfinished = replace(interrupted, segments=(replace(interrupted.segments[0], whole=False),))
    rates = overstatement(measured(unfinished), real)
    assert rates["output_tps"].overstated.reason == "real prompts: no segment of the run is whole: it was interrupted"
    assert rates["acceptance_length"].overstated.value is not None


def test_fewer_than_eight_conversations_on_either_side_have_no_interval(real: Measured) -> None:
    few = measured(conversations(0.7, 7, side="random"))
    for found in (overstatement(real, few), overstatement(few, real)):
        cell = found["acceptance_length"].overstated
        assert cell.value is not None
        assert (cell.low, cell.high) == (None, None)


@pytest.mark.long
def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    rates, held = (0.4, 0.7), {"acceptance_length": 0, "user_tps": 0}
    lengths = [sum(rate**k for k in range(4)) for rate in rates]
    truth = lengths[1] / lengths[0] - 1
    for number in range(100):
        real, random = (measured(conversations(rate, seed=2 * number + side)) for side, rate in enumerate(rates))
        found = overstatement(real, random)
        for name in held:
            held[name] += found[name].overstated.low <= truth <= found[name].overstated.high
    assert {name: 0.88 < num / 100 < 1 for name, num in held.items()} == dict.fromkeys(held, True)


def test_random_prompts_are_as_long_as_real_ones(tmp_path: Path) -> None:
    config, _ = resolve({"config": "throughput_16k", "edition": "nowhere", "concurrency": 8})
    assert num_tokens(config, ()) == 16_000, "a throughput config promises it"
    folder = write_edition(tmp_path / "edition", ("qualitative",), num_rows=11)
    config, _ = resolve({"config": "qualitative", "edition": str(folder)})
    rows = load(str(folder), "qualitative").rows
    told = num_tokens(config, rows)
    assert told > 1
    assert num_tokens(config, rows[:1]) != told, "of the rows that are asked, not of all"


def test_a_row_without_counts_in_its_manifest_is_counted(tmp_path: Path) -> None:
    pytest.importorskip("tiktoken")
    folder = write_edition(tmp_path / "edition", ("qualitative",), num_rows=11)
    manifest = (folder / "manifest.json").read_text("utf-8").replace('"num_tokens_o200k"', '"counted_otherwise"')
    (folder / "manifest.json").write_text(manifest, "utf-8")
    config, _ = resolve({"config": "qualitative", "edition": str(folder)})
    rows = load(str(folder), "qualitative").rows[:1]
    first, second = map(count, rows[0].turns)
    assert num_tokens(config, rows) == round((2 * first + second) / 2)


def test_a_comparison_that_goes_on_keeps_its_length() -> None:
    config, _ = resolve({"config": "throughput_1k", "concurrency": 8})
    assert random_length(None, None, config, ()) == 1000
    assert random_length(None, 7, config, ()) == 7
    begun = Synthetic(random_edition="random:400", numbers=None)
    assert random_length(begun, None, config, ()) == random_length(begun, 400, config, ()) == 400
    with pytest.raises(ConfigError, match="--random-tokens 500: the comparison began with 400"):
        random_length(begun, 500, config, ())


def test_as_many_random_prompts_as_real_ones_take_their_place() -> None:
    flags = {"config": "throughput_8k", "edition": "curated", "concurrency": 8}
    _, rules = resolve(flags)
    random, _ = resolve({**flags, **random_flags(8000, 256)}, protocol=rules.based_on)
    assert (random.edition, random.config, random.num_prompts) == ("random:8000", "random", 256)
    assert (random.concurrency, random.max_tokens, random.prompts_per_stream) == (8, 4096, None)
    categories = resolve({"categories": "math", **random_flags(100, 2)})[0].categories
    assert categories is None, "they have one of their own"
    with pytest.raises(ConfigError, match="asks 1024 real prompts, and random:8000 has 512; lower --concurrency"):
        random_flags(8000, 1024)


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ConfigError, match="edition 'random:10' is of random tokens; name the real prompts"):
        require_comparable(resolve({"edition": "random:10"})[0])
    with pytest.raises(ConfigError, match="in an open loop the arrivals say how much is served"):
        require_comparable(resolve({"arrivals": "poisson", "rate": 2.0, "concurrency": 4})[0])
    require_comparable(resolve({})[0])


def test_two_runs_that_differ_in_more_than_their_prompts_are_refused(run_file: RunFile) -> None:
    other = resolve({**random_flags(100, 22)}, protocol="quick")
    random = run_file.model_copy(update={"config": other[0], "protocol": other[1]})
    require_alike(run_file, random)
    faster = random.config.model_copy(update={"draft_length": 3})
    with pytest.raises(RunFolderError, match=r"differ in more than their prompts \(draft_length\)"):
        require_alike(run_file, random.model_copy(update={"config": faster}))
    newer = run_file.provenance.model_copy(update={"engine_version": "2"})
    with pytest.raises(RunFolderError, match=r"\(engine_version\)"):
        require_alike(run_file, random.model_copy(update={"provenance": newer}))


def test_a_folder_holds_one_comparison(tmp_path: Path, run_file: RunFile) -> None:
    out = tmp_path / "out"
    assert open_comparison(out, resume=False) is None
    with pytest.raises(RunFolderError, match="holds no comparison to finish"):
        open_comparison(out, resume=True)
    begun = Synthetic(random_edition="random:9", numbers=None)
    write_comparison(out, begun)
    assert open_comparison(out, resume=True) == begun
    assert open_comparison(out, resume=False) is None, "nothing was measured"
    (out / "real").mkdir()
    write_run_file(out / "real", run_file)
    with pytest.raises(RunFolderError, match="already holds a comparison; add --resume"):
        open_comparison(out, resume=False)
    (out / "synthetic.json").write_text("{}")
    with pytest.raises(RunFolderError, match="cannot be used: Field required"):
        open_comparison(out, resume=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes").touch()
    with pytest.raises(RunFolderError, match="holds other files"):
        open_comparison(tmp_path / "other", resume=False)


def test_what_was_not_measured_yet_is_not_resumed_with_other_settings(tmp_path: Path) -> None:
    write_comparison(tmp_path / "out", Synthetic(random_edition="random:9", numbers=None))
    done = speed_bench("synthetic", "--out", tmp_path / "out", "--resume", check=False)
    assert done.returncode == 2
    assert done.stderr == (
        f"error: {tmp_path / 'out'}: nothing was measured yet; leave out --resume, and give its settings again\n"
    )


def test_the_simulator_takes_the_acceptance_of_random_prompts_beside_that_of_real_ones() -> None:
    def categories(edition: str, config: str, *named: str) -> set[str]:
        engine = SimulatorConfig(category_acceptance=dict.fromkeys(named, (0.5,)))
        settings = ServerSettings(port=0, model="m.gguf", engine=engine, edition=edition, config=config)
        return set(settings.categories().values())

    assert "coding" in categories("open", "starter", "coding", "random")
    assert categories("random:2", "random", "coding", "random") == {"random"}
    for edition, config, named in [
        ("open", "starter", ("codign", "random")),
        ("open", "starter", ("ranodm",)),
        ("random:2", "random", ("coding",)),
    ]:
        with pytest.raises(SpeedBenchError, match="which are no categories of"):
            categories(edition, config, *named)


def said(real: Measured, random: Measured, numbers: dict[str, Compared] | None = None, **flags: object) -> str:
    """What is printed, on 80 columns."""
    console = Console(file=io.StringIO(), width=80)
    config, _ = resolve({"engine": "simulator", "algorithm": "mtp", **flags})
    model = ModelFacts(file="m.gguf", sha256=None, num_bytes=None)
    numbers = overstatement(real, random) if numbers is None else numbers
    print_overstatement(numbers, real, random, config, model, "random:135", console)
    return console.file.getvalue()


def test_the_table_has_both_sides_with_their_intervals_and_fits(real: Measured, random: Measured) -> None:
    text = said(real, random)
    for label in ("Output TPS", "User TPS, mean", "TTFT, mean ms", "acceptance length", "ISL", "OSL"):
        assert label in text
    assert "…" not in text
    assert "speed-up" not in text, "there is no baseline on one side"
    found = overstatement(real, random)["acceptance_length"]
    assert f"{found.real.value:.2f}" in text
    assert f"[{found.random.low:.2f}, {found.random.high:.2f}]" in text
    assert f"random prompts overstate the acceptance length by {found.overstated.value:.1%}" in text
    assert "the prompts of the two are not paired" in text
    assert "nothing here is a result of any model or engine" in text


@pytest.mark.parametrize(
    ("cell", "sentence"),
    [
        (Cell.of(0.225, 9, Interval(0.18, 0.27)), "overstate Output TPS by 22.5% [18.0%, 27.0%]\n"),
        (Cell.of(-0.1, 9, Interval(-0.15, -0.05)), "understate Output TPS by 10.0% [5.0%, 15.0%]\n"),
        (Cell.of(0.02, 9, Interval(-0.01, 0.05)), "overstate Output TPS by 2.0% [-1.0%, 5.0%], which may be chance"),
        (Cell.of(0.5, 9), "overstate Output TPS by 50.0% (no interval: too few conversations)"),
        (Cell.undefined("real prompts: why"), "by how much random prompts overstate Output TPS is not known: real pro"),
    ],
)
def test_what_it_comes_to_is_a_sentence(real: Measured, random: Measured, cell: Cell, sentence: str) -> None:
    numbers = overstatement(real, random)
    numbers["output_tps"] = numbers["output_tps"].model_copy(update={"overstated": cell})
    assert sentence in said(real, random, numbers)


def test_lengths_of_answers_are_said_unless_they_are_fixed(real: Measured, random: Measured) -> None:
    osl = [each.scores.serving.osl.value for each in (real, random)]
    sentence = f"answers differ too: {osl[0]:,.0f} tokens on real prompts, {osl[1]:,.0f} on random ones"
    assert sentence in said(real, random)
    assert "ignore_eos" in said(real, random)
    assert "answers differ" not in said(real, random, ignore_eos=True)


def test_prompts_that_are_longer_for_the_model_are_told_before_the_run() -> None:
    def told(real: float, random: float) -> str:
        console = Console(file=io.StringIO(), width=80)
        print_lengths(real, random, 1000, console)
        return console.file.getvalue()

    assert told(1000, 1090) == ""
    assert "random prompts have 2,500 tokens and real ones 1,000" in told(1000, 2500)
    assert "--random-tokens 400 makes them alike" in told(1000, 2500)
    assert "--random-tokens 1250" in told(1000, 800)
