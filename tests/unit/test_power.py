"""How many conversations a comparison needs."""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from command import speed_bench
from records import run_of, steps_of, turn

from speed_bench.errors import UndefinedMetric
from speed_bench.power import conversations_needed, detectable_difference, difference_sd, spreads_of, within_sd

RUN = Path(__file__).parent.parent / "recordings" / "run"


def test_only_the_spread_within_categories_is_noise():
    same_in_each = {("qa", str(number)): 1.0 for number in range(5)} | {
        ("math", str(number)): 3.0 for number in range(5)
    }
    assert within_sd(same_in_each) == (0.0, 10)


def test_the_variance_is_averaged_over_categories_not_over_conversations():
    wide = {("qa", str(number)): float(number % 2) for number in range(4)}
    narrow = {("math", str(number)): 0.0 for number in range(40)}
    assert within_sd(wide | narrow)[0] == pytest.approx(math.sqrt((1 / 3 + 0) / 2))


def test_a_category_of_one_is_left_out_and_without_another_there_is_no_spread():
    assert within_sd({("qa", "a"): 1.0, ("qa", "b"): 3.0, ("math", "c"): 9.0}) == (pytest.approx(math.sqrt(2)), 2)
    with pytest.raises(UndefinedMetric, match="no category has two conversations"):
        within_sd({("qa", "a"): 1.0, ("math", "c"): 9.0})


def test_categories_of_one_conversation_do_not_make_the_spread_less_certain():
    several = [turn(f"several-{number}/0", steps_of(number % 3), category="qa") for number in range(12)]
    single = [turn(f"single-{number}/0", steps_of(1), category=f"single {number}") for number in range(10)]
    spread = spreads_of([run_of(*several, *single)])[0]
    assert (spread.num_conversations, spread.num_categories) == (12, 11)
    assert spread.uncertainty == pytest.approx(1 / math.sqrt(2 * (12 - 1)))


def test_as_many_conversations_as_are_needed_detect_the_difference_and_one_fewer_do_not():
    num = conversations_needed(0.4, 0.05)
    assert detectable_difference(0.4, num) <= 0.05 < detectable_difference(0.4, num - 1)


def test_half_the_difference_needs_four_times_as_many_and_more_power_needs_more():
    assert conversations_needed(1.0, 0.05) == pytest.approx(4 * conversations_needed(1.0, 0.1), abs=4)
    assert conversations_needed(1.0, 0.1, power=0.9) > conversations_needed(1.0, 0.1)
    assert conversations_needed(1.0, 0.1, confidence_level=0.99) > conversations_needed(1.0, 0.1)
    assert conversations_needed(0.001, 1.0) == 8


def test_so_many_conversations_find_the_difference_as_often_as_promised():
    rng, num = np.random.default_rng(0), conversations_needed(0.5, 0.1)
    means = rng.normal(0.1, 0.5, size=(4000, num)).mean(axis=1)
    found = np.mean(np.abs(means) > 1.96 * 0.5 / math.sqrt(num))
    assert found == pytest.approx(0.8, abs=0.03)


def test_runs_that_move_together_differ_less():
    assert difference_sd(0.5, 0.0) > difference_sd(0.5, 0.5) > difference_sd(0.5, 1.0) == 0.0


def test_two_runs_give_the_spread_of_their_paired_differences():
    shown = speed_bench("power", RUN, RUN / "baseline", "--difference", "0.5").stdout
    sd = next(line for line in shown.splitlines() if "sd " in line).split("sd ")[1].split()[0]
    assert f" {conversations_needed(float(sd), 0.5)} (" in shown
    assert "the 22 conversations at hand can show a difference of" in shown


def test_one_run_gives_the_spread_of_another_that_correlates_with_it():
    shown = speed_bench("power", RUN).stdout
    assert all(f"correlation {r}" in shown for r in ("0", "0.5", "0.9"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "give one run folder, two of the same prompts, or --sd instead of them"),
        ((RUN, "--sd", "0.3"), "give one run folder, two of the same prompts, or --sd instead of them"),
        (("--sd", "0"), "--sd 0: it is a number of tokens per step above 0"),
        (("--sd", "nan"), "--sd nan: it is"),
        (("--sd", "0.3", "--power", "80"), "--power 80: a probability lies between 0 and 1"),
        (("--sd", "0.3", "--power", "0.05"), "--power 0.05 at --confidence 0.95: two equal drafters differ that often"),
        (("--sd", "1e308"), "--sd 1e+308: it is"),
        (("--sd", "0.3", "--difference", "-0.1"), "--difference -0.1: it is a number of tokens per step above 0"),
        (("nowhere",), "nowhere"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(arguments, sentence):
    done = speed_bench("power", *arguments, check=False)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_runs_of_other_prompts_are_refused(tmp_path: Path):
    other = Path(shutil.copytree(RUN, tmp_path / "other"))
    text = (other / "turns-0.jsonl").read_text("utf-8")
    (other / "turns-0.jsonl").write_text(text.replace('"prompt_sha256":"', '"prompt_sha256":"ff'), "utf-8")
    done = speed_bench("power", RUN, other, check=False)
    assert done.returncode == 2
    assert "the runs have no turn with the same input: were the prompts the same?" in done.stderr
