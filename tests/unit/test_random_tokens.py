"""The edition of random tokens: exact, the same for everybody, and labelled as what it is."""

import io
from pathlib import Path

import pytest
from conftest import turn_record
from rich.console import Console
from shared_data import needs_o200k

from speed_bench.config import resolve
from speed_bench.data.editions import folder_of, load
from speed_bench.data.o200k import count
from speed_bench.data.random_tokens import rows, tokens_of
from speed_bench.errors import ConfigError
from speed_bench.provenance import ModelFacts
from speed_bench.records import RunRecords, Segment
from speed_bench.report.terminal import print_scores
from speed_bench.scoring import score


@pytest.mark.parametrize("isl", [1, 2, 50, 1000])
def test_every_prompt_has_exactly_the_tokens_asked_for(isl: int) -> None:
    made = rows(isl, num_rows=16)
    assert {count(row.turns[0]) for row in made} == {isl}
    assert {(row.category, row.sub_category, row.multiturn) for row in made} == {("random", None, False)}
    assert len({row.question_id for row in made}) == 16


@needs_o200k
def test_a_prompt_has_no_padding_and_no_half_characters() -> None:
    made = rows(300, num_rows=16)
    assert len({row.turns[0] for row in made}) == 16
    assert all("\ufffd" not in row.turns[0] and "reply" not in row.turns[0][-30:] for row in made)


def test_a_row_depends_on_its_length_its_seed_and_its_number_alone() -> None:
    assert rows(60, num_rows=4) == rows(60, num_rows=9)[:4]
    assert rows(60, num_rows=4, seed=1) != rows(60, num_rows=4)
    assert rows(61, num_rows=4) != rows(60, num_rows=4)


@needs_o200k
def test_everybody_has_the_same_prompts() -> None:
    dataset = load("random:40", "random")
    assert (dataset.edition, dataset.version, dataset.config, len(dataset.rows)) == ("random:40", "1", "random", 512)
    assert dataset.manifest_sha256 == "189cac8506f71488e8ff4cf765bebe9de32ecc1b2905f0b7462df35b22b7c5a6"


@pytest.mark.parametrize("name", ["random:abc", "random:0", "random:", "random:-5", "random:1e3", "random:200001"])
def test_a_length_that_cannot_be_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"write random:<tokens>, with 1 to 200,000"):
        load(name, "random")
    with pytest.raises(ConfigError, match=r"made up on the spot"):
        folder_of(name)


def test_the_edition_has_one_config() -> None:
    assert tokens_of("random:200000") == 200_000
    with pytest.raises(ConfigError, match=r"edition random:40 has one config, 'random', and no 'starter'"):
        load("random:40", "starter")


def test_its_config_need_not_be_given() -> None:
    config, _ = resolve({"edition": "random:40"})
    assert (config.edition, config.config) == ("random:40", "random")
    config, protocol = resolve({"edition": "random:40"}, protocol="qualitative-v1")
    assert (config.config, protocol.name, protocol.overrides) == ("random", "custom", ("config",))
    assert resolve({"edition": "open"})[0].config == "starter"
    assert resolve({"edition": "random:40", "config": "starter"})[0].config == "starter", "load refuses it by name"


@pytest.mark.parametrize("random_prompts", [True, False])
def test_results_on_random_tokens_say_so(random_prompts: bool) -> None:
    segment = Segment(0, "2026-01-01T00:00:00Z", None, None, whole=True)
    run = RunRecords((turn_record(),), (), (segment,), num_planned=1)
    shown = io.StringIO()
    model = ModelFacts(file="m.gguf", sha256="00", num_bytes=1)
    print_scores(score(run), Path("runs/a"), model, Console(file=shown), random_prompts=random_prompts)
    assert ("prompts are random tokens" in shown.getvalue()) == random_prompts
