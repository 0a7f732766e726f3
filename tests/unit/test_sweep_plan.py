"""What a sweep's file comes to: its cells, their names, their order, and what is refused."""

from pathlib import Path

import pytest
import yaml

from speed_bench.config import resolve
from speed_bench.errors import ConfigError
from speed_bench.sweep.cells import Cell
from speed_bench.sweep.plan import plan
from speed_bench.sweep.prompts import asked
from speed_bench.sweep.spec import read_spec, spec_of

VLLM = {"name": "vllm", "tensor_parallel": 8}
EXAMPLE = {
    "base": {"engine": VLLM, "edition": "curated"},
    "axes": {
        "model": ["a", "org/b@main"],
        "drafter": [{"algorithm": "ngram"}, {"algorithm": "eagle3", "draft": "org/heads"}],
        "draft_length": [1, 3, 5],
        "concurrency": [1, 8, 64],
        "config": ["throughput_1k", "throughput_8k"],
    },
    "exclude": [{"algorithm": "ngram", "draft_length": 5}, {"concurrency": 64, "config": "throughput_8k"}],
    "repeats": 3,
}


def cells_of(**spec) -> list[Cell]:
    return plan(spec_of(spec))


def settings(cells: list[Cell], *names: str) -> list[tuple]:
    """Of the cells with speculation, in their order."""
    return [tuple(getattr(cell.config, name) for name in names) for cell in cells if cell.config.algorithm != "none"]


def test_the_cells_are_the_product_of_all_axes_less_what_is_excluded() -> None:
    cells = plan(spec_of(EXAMPLE))
    with_drafts = [cell for cell in cells if cell.config.algorithm != "none"]
    # 2 models x (2 drafters x 3 lengths - ngram at 5) x (3 concurrencies x 2 configs - 64 at 8k) x 3 repeats
    assert len(with_drafts) == 2 * 5 * 5 * 3
    assert len(cells) - len(with_drafts) == 2 * 5 * 3
    assert ("ngram", 5) not in settings(cells, "algorithm", "draft_length")
    assert (64, "throughput_8k") not in settings(cells, "concurrency", "config")
    assert all(cell.config.engine.tensor_parallel == 8 and cell.config.edition == "curated" for cell in cells)
    assert {cell.protocol.name for cell in cells} == {"throughput-v1"}


def test_names_say_what_is_measured() -> None:
    names = [cell.name for cell in plan(spec_of({**EXAMPLE, "order": "listed"}))]
    assert [name[:-9] for name in names[:2]] == ["a-none-c1-throughput_1k", "a-ngram-k1-c1-throughput_1k"]
    assert any(name.startswith("b-eagle3-k3-c64-throughput_1k-heads-") for name in names)
    assert sum(name.endswith("-r3") for name in names) == len(names) / 3


def test_a_name_does_not_depend_on_how_the_settings_are_written() -> None:
    nested = cells_of(base={"engine": {"name": "simulator", "seed": 3}}, axes={"draft_length": [2]})
    dotted = cells_of(base={"engine.name": "simulator", "engine.seed": 3, "draft_length": 2})
    assert [cell.name for cell in nested] == [cell.name for cell in dotted]


def test_a_name_does_not_depend_on_how_a_run_is_made() -> None:
    [here] = cells_of(base={"algorithm": "none"})
    [there] = cells_of(base={"algorithm": "none", "engine.port": 8100, "stall_timeout_s": 9, "workers": 2})
    [other] = cells_of(base={"algorithm": "none", "max_tokens": 65})
    assert here.name == there.name != other.name


def test_what_is_swept_over_tells_cells_apart_though_it_measures_the_same() -> None:
    cells = cells_of(base={"algorithm": "none"}, axes={"workers": [1, 2]})
    assert [cell.config.workers for cell in sorted(cells, key=lambda cell: cell.name)] in ([1, 2], [2, 1])


def test_what_comes_out_the_same_is_one_cell() -> None:
    cells = cells_of(axes={"algorithm": ["none", "ngram"], "draft_length": [1, 3]})
    assert sorted((cell.config.algorithm, cell.config.draft_length or 0) for cell in cells) == [
        ("ngram", 1),
        ("ngram", 3),
        ("none", 0),
    ]
    assert len(cells_of(axes={"draft_length": [8, 8]}, baseline=False)) == 1
    assert len(cells_of(axes={"drafter": [{}, {"draft_length": 8}]}, baseline=False)) == 1, "8 is the default"


def test_cells_that_differ_in_drafts_alone_share_a_baseline() -> None:
    cells = cells_of(
        base={"engine": VLLM, "model": "m"},
        axes={
            "drafter": [{"algorithm": "ngram", "engine.ngram_max": 6}, {"algorithm": "eagle3", "draft": "heads"}],
            "draft_length": [1, 3],
            "engine.extra.speculative_disable_by_batch_size": [4, 8],
            "concurrency": [1, 8],
        },
    )
    baselines = {cell.name: cell for cell in cells if cell.config.algorithm == "none"}
    assert sorted(cell.config.concurrency for cell in baselines.values()) == [1, 8]
    for cell in cells:
        if cell.name not in baselines:
            other = baselines[cell.baseline]
            assert other.config.concurrency == cell.config.concurrency
            assert cell.config.without_speculation().difference(other.config) == {}
            assert cell.baseline_at == f"../{other.name}"
            assert other.baseline is None
    assert not any(cell.config.baseline for cell in cells)


@pytest.mark.parametrize("name", ["model", "concurrency", "config", "max_tokens", "engine.tensor_parallel"])
def test_what_is_no_matter_of_drafts_has_a_baseline_of_its_own(name: str) -> None:
    values = {"model": ["a", "b"], "config": ["starter", "qualitative"]}.get(name, [2, 4])
    cells = cells_of(base={"engine": VLLM, "model": "m"}, axes={name: values, "draft_length": [1, 3]})
    assert len({cell.baseline for cell in cells if cell.baseline}) == 2


def test_each_repeat_is_compared_with_the_baseline_of_the_same_repeat() -> None:
    cells = cells_of(axes={"draft_length": [1, 3]}, repeats=2)
    repeat_of = {cell.name: cell.repeat for cell in cells}
    assert len(cells) == 6
    assert all(repeat_of[cell.baseline] == cell.repeat for cell in cells if cell.baseline)


def test_a_server_that_runs_has_a_baseline_only_if_there_is_another_one() -> None:
    attached = {"engine.name": "vllm", "engine.url": "http://a:1", "algorithm": "mtp", "draft_length": 2}
    [alone] = cells_of(base=attached)
    assert alone.baseline is None
    cells = cells_of(
        base={**attached, "engine.baseline_url": "http://b:1"}, axes={"algorithm": ["none", "mtp"], "draft_length": [2]}
    )
    urls = {cell.config.algorithm: cell.config.engine.url for cell in cells}
    assert urls == {"mtp": "http://a:1", "none": "http://b:1"}


def test_a_sweep_without_baseline_has_none() -> None:
    assert {cell.config.algorithm for cell in cells_of(axes={"draft_length": [1, 3]}, baseline=False)} == {"ngram"}


def test_the_engine_behind_a_url_is_asked_for_once() -> None:
    asked_for = []

    def detect(url: str) -> str:
        asked_for.append(url)
        return "sglang"

    base = {"engine.url": "http://a:1", "algorithm": "mtp"}
    cells = plan(spec_of({"base": base, "axes": {"concurrency": [1, 2, 4]}}), detect=detect)
    assert {cell.config.engine.name for cell in cells} == {"sglang"}
    assert asked_for == ["http://a:1"]


def test_listed_cells_come_as_the_axes_say_each_baseline_before_its_first_cell() -> None:
    cells = cells_of(axes={"concurrency": [1, 2], "draft_length": [1, 3]}, order="listed")
    assert settings(cells, "concurrency", "draft_length") == [(1, 1), (1, 3), (2, 1), (2, 3)]
    assert [cell.config.algorithm for cell in cells] == ["none", "ngram", "ngram"] * 2


def test_a_random_order_is_that_of_its_seed_and_every_repeat_is_whole_before_the_next() -> None:
    def names(**spec) -> list[str]:
        return [cell.name for cell in cells_of(axes={"draft_length": list(range(1, 9))}, repeats=2, **spec)]

    assert names() == names(seed=0) != names(seed=1)
    assert sorted(names(seed=1)) == sorted(names(order="listed"))
    assert [name.endswith("-r2") for name in names()] == [False] * 9 + [True] * 9
    first, second = names()[:9], [name.removesuffix("-r2") for name in names()[9:]]
    assert first != second, "what comes first in one repeat does not in the other"


@pytest.mark.parametrize(
    ("entry", "left"),
    [
        ({"concurrency": 1}, 4),
        ({"concurrency": [1, 2]}, 0),
        ({"concurrency": 1, "draft_length": 3}, 6),
        ({"concurrency": 1, "draft_length": [1, 3]}, 4),
        ({"engine": "llama-cpp", "concurrency": 2}, 4),
        ({"engine": {"threads": 1}, "concurrency": 2}, 4),
        ({"categories": "math", "concurrency": 2}, 6),
        ({"categories": ["math"], "concurrency": 2}, 6),
        ({"categories": "qa,math", "concurrency": 2}, 6),
        ({"seeds": 0, "draft_length": 1}, 4),
    ],
)
def test_an_entry_leaves_out_the_cells_that_have_all_of_its_settings(entry: dict, left: int) -> None:
    axes = {"concurrency": [1, 2], "draft_length": [1, 3], "categories": ["math", ["qa", "math"]]}
    spec = {"axes": axes, "exclude": [entry], "baseline": False}
    if left:
        assert len(cells_of(**spec)) == left
    else:
        with pytest.raises(ConfigError, match="no cell is left"):
            cells_of(**spec)


def test_an_exclusion_that_matches_nothing_is_told() -> None:
    told: list[str] = []
    plan(
        spec_of({"axes": {"draft_length": [1, 3]}, "exclude": [{"draft_length": 5}, {"draft_length": 3}]}),
        tell=told.append,
    )
    assert told == ["exclude {draft_length: 5} matches no cell"]


def test_the_settings_of_one_cell_do_not_leak_into_another() -> None:
    cells = cells_of(
        base={"engine": {"name": "llama-cpp", "extra": {"a": 1}}},
        axes={"more": [{"engine.extra.b": 2}, {"engine.extra.c": 3}]},
        baseline=False,
    )
    extras = sorted(sorted(cell.config.engine.extra) for cell in cells)
    assert extras == [["a", "b"], ["a", "c"]]


def test_a_mapping_is_a_value_where_a_setting_takes_one() -> None:
    cells = cells_of(
        axes={"engine": ["llama-cpp", {"name": "simulator", "seed": 2}], "chat_template_args": [{}, {"a": 1}]},
        baseline=False,
    )
    assert {cell.config.engine.name for cell in cells} == {"llama-cpp", "simulator"}
    assert len(cells) == 4


def test_all_settings_of_a_run_written_into_the_base_give_the_same_cells() -> None:
    config, protocol = resolve(
        {"engine": "simulator", "config": "throughput_1k", "slo": "ttft_s:p95=1", "max_tokens": 9, "concurrency": 2}
    )
    base = config.model_dump(mode="json", exclude={"baseline", "concurrency"})
    cells = plan(
        spec_of({"protocol": protocol.based_on, "base": base, "axes": {"concurrency": [1, 4]}, "order": "listed"})
    )
    again = [cell for cell in cells if cell.config.algorithm == "ngram"]
    assert [cell.config.concurrency for cell in again] == [1, 4]
    assert config.difference(again[0].config) == {"baseline": (True, False), "concurrency": (2, 1)}
    assert (again[0].protocol.based_on, again[0].protocol.overrides) == ("throughput-v1", ("max_tokens",))


def refusal(spec: dict, **most) -> str:
    with pytest.raises(ConfigError) as refused:
        plan(spec_of(spec), **most)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ({"axs": {}}, "unknown key 'axs'; did you mean 'axes'?"),
        ({"concurrency": [1]}, "unknown key 'concurrency'; keys: axes, base"),
        ({"draft_length": 3}, "settings of every cell stand under base"),
        ({"axes": {"concurrency": 8}}, "axes: concurrency is no list: write `concurrency: [8, …]`"),
        ({"axes": {"model": None}}, "axes: model is no list"),
        ({"axes": {"model": "abc"}}, "axes: model is no list"),
        ({"axes": {"concurrency": []}}, "axes: concurrency has no value"),
        ({"axes": [1]}, "axes: it holds settings, one `key: value` a line, not [1]"),
        ({"base": "vllm"}, "base: it holds settings"),
        ({"axes": {"drafft_length": [1]}}, "unknown key 'drafft_length'; did you mean 'draft_length'?"),
        ({"axes": {"engine.thread": [1]}}, "unknown key 'engine.thread'; did you mean 'engine.threads'?"),
        ({"axes": {"x": [{"concurency": 1}]}}, "unknown key 'concurency'; did you mean 'concurrency'?"),
        ({"base": {"modell": "m"}}, "unknown key 'modell'; did you mean 'model'?"),
        ({"base": {"engine": "vlm"}}, "unknown engine 'vlm'; did you mean 'vllm'?"),
        (
            {"axes": {"concurrency": [1, 0]}},
            "concurrency: Input should be greater than or equal to 1 (got 0) (in the cell",
        ),
        (
            {"axes": {"algorithm": ["ngram", "eagle3"]}},
            "needs a draft model: --draft FILE.gguf (in the cell algorithm eagle3)",
        ),
        (
            {"axes": {"a": [{"draft_length": 1}], "draft_length": [2]}},
            "the axes 'a' and 'draft_length' both set draft_length",
        ),
        ({"base": {"baseline": False}}, "baseline is said once for the whole sweep"),
        ({"axes": {"protocol": ["quick"]}}, "protocol is said once for the whole sweep"),
        ({"protocol": "quikc"}, "unknown protocol 'quikc'; did you mean 'quick'?"),
        ({"exclude": {"concurrency": 1}}, "exclude: it is a list of settings"),
        ({"exclude": [{}]}, "exclude: it is a list of settings"),
        ({"exclude": [{"concurency": 1}]}, "unknown key 'concurency'; did you mean 'concurrency'?"),
        ({"axes": {"config": ["throughput_1k"]}}, "the protocol does not say the concurrency; say it: --concurrency"),
        ({"repeats": 0}, "repeats: Input should be greater than or equal to 1 (got 0)"),
        ({"order": "shuffled"}, "order: Input should be 'random' or 'listed' (got 'shuffled')"),
        (
            {"axes": {"draft_length": [1, 3]}, "exclude": [{"draft_length": [1, 3]}, {"draft_length": 3}]},
            "no cell is left: of 2 combinations exclude leaves out {draft_length: [1, 3]} 2, {draft_length: 3} 1",
        ),
        (
            {"axes": {"concurrency": list(range(1, 102)), "draft_length": list(range(1, 101))}},
            "the sweep has 10,100 runs (101 concurrency x 100 draft_length x 1 repeats), the most is 10,000; "
            "leave something out, or allow them with --most 10100",
        ),
    ],
)
def test_what_is_no_sweep_is_refused_in_one_sentence(spec: dict, sentence: str) -> None:
    assert sentence in refusal(spec)


def test_a_million_cells_are_refused_before_any_of_them_is_made() -> None:
    axes = {name: [{"max_tokens": num} for num in range(1, 1001)] for name in ("a", "b", "c", "d")}
    assert "1,000,000,000,000 runs" in refusal({"axes": axes})


def test_as_many_cells_as_are_allowed_are_planned() -> None:
    axes = {"concurrency": [1, 2, 4]}
    assert "the most is 2" in refusal({"axes": axes}, most=2)
    assert len(plan(spec_of({"axes": axes, "baseline": False}), most=3)) == 3


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("axes: [", "sweep.yaml is not YAML"),
        ("- 1", "sweep.yaml holds no sweep"),
        ("", "sweep.yaml holds no sweep"),
        ("axes: {concurrency: 1}", "sweep.yaml: axes: concurrency is no list"),
    ],
)
def test_a_file_that_holds_no_sweep_is_named(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=sentence):
        read_spec(path)
    with pytest.raises(ConfigError, match=r"nowhere.yaml cannot be read: No such file"):
        read_spec(tmp_path / "nowhere.yaml")


def test_a_file_is_read_as_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump(EXAMPLE))
    assert [cell.name for cell in plan(read_spec(path))] == [cell.name for cell in plan(spec_of(EXAMPLE))]


def test_how_much_each_cell_asks_is_known_before() -> None:
    cells = cells_of(base={"limit_per_category": 1, "seeds": [0, 1]}, axes={"categories": ["math", ["math", "qa"]]})
    found = {cell.config.categories: asked([cell])[cell.name] for cell in cells}
    assert found[("math",)].num_conversations == 2
    assert found[("math", "qa")].num_conversations == 4
    assert all(each.num_turns >= each.num_conversations for each in found.values())


@pytest.mark.parametrize(
    ("base", "sentence"),
    [
        ({"categories": "maths"}, "unknown category 'maths'; did you mean 'math'?"),
        ({"edition": "opne"}, "unknown edition 'opne'; did you mean 'open'?"),
        (
            {"num_prompts": 9, "limit_per_category": None, "concurrency": 64},
            "--concurrency 64 is more than the 9 conversations",
        ),
        ({"algorithm": "suffix"}, "engine 'llama-cpp' has no algorithm 'suffix'"),
    ],
)
def test_a_cell_that_cannot_be_asked_is_named_before_any_is_run(base: dict, sentence: str) -> None:
    cells = cells_of(base=base, baseline=False)
    with pytest.raises(Exception, match=r"\(cell smollm2") as refused:
        asked(cells)
    assert sentence in str(refused.value)
