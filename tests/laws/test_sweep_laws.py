"""What holds of every sweep, however it is written."""

import re
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from speed_bench.sweep.plan import plan
from speed_bench.sweep.spec import spec_of

VALUES = {
    "model": st.sampled_from(["a", "b/c", "hf:org/repo/file-Q8_0.gguf", "Ünicode näme/…", "x" * 300]),
    "draft_length": st.integers(1, 256),
    "concurrency": st.integers(1, 4096),
    "config": st.sampled_from(["starter", "throughput_1k", "a:b\\c"]),
    "temperature": st.sampled_from([0.0, 0.5, 1.0]),
    "max_tokens": st.integers(1, 9999),
    "algorithm": st.sampled_from(["none", "ngram", "mtp"]),
    "engine.ngram_max": st.integers(2, 9),
    "engine.extra.spec_x": st.text(max_size=5),
}


@st.composite
def specs(draw) -> dict:
    names = draw(st.lists(st.sampled_from(sorted(VALUES)), unique=True, max_size=4))
    axes = {name: draw(st.lists(VALUES[name], min_size=1, max_size=3)) for name in names}
    return {
        "base": {"engine": "vllm", "model": "m", "concurrency": 1},
        "axes": axes,
        "repeats": draw(st.integers(1, 3)),
        "order": draw(st.sampled_from(["random", "listed"])),
        "seed": draw(st.integers(0, 3)),
        "baseline": draw(st.booleans()),
    }


@given(specs())
@settings(max_examples=60, deadline=None)
def test_names_are_unique_stable_and_safe_as_file_names(spec: dict) -> None:
    cells = plan(spec_of(spec))
    names = [cell.name for cell in cells]
    assert len({name.lower() for name in names}) == len(names)
    assert names == [cell.name for cell in plan(spec_of(spec))]
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,250}", name) for name in names)


@given(specs())
@settings(max_examples=60, deadline=None)
def test_every_combination_is_measured_by_exactly_one_cell_of_each_repeat(spec: dict) -> None:
    cells = plan(spec_of(spec))
    for values in product(*spec["axes"].values()):
        wanted = dict(zip(spec["axes"], values, strict=True))
        if wanted.get("algorithm") == "none":
            wanted = {
                key: value
                for key, value in wanted.items()
                if key in ("model", "concurrency", "config", "max_tokens", "temperature")
            }
        for repeat in range(spec["repeats"]):
            found = [
                cell
                for cell in cells
                if cell.repeat == repeat
                and cell.config.algorithm == dict(zip(spec["axes"], values, strict=True)).get("algorithm", "ngram")
                and all(_value(cell.config, key) == value for key, value in wanted.items() if key != "algorithm")
            ]
            assert len({cell.name for cell in found}) == 1, wanted


@given(specs())
@settings(max_examples=60, deadline=None)
def test_every_cell_with_drafts_is_compared_with_what_it_would_be_without(spec: dict) -> None:
    cells = plan(spec_of(spec))
    by_name = {cell.name: cell for cell in cells}
    for cell in cells:
        if cell.config.algorithm != "none" and spec["baseline"]:
            other = by_name[cell.baseline]
            assert other.repeat == cell.repeat
            assert cell.config.without_speculation().difference(other.config) == {}
        else:
            assert cell.baseline is None


def _value(config, key: str):
    if key.startswith("engine.extra."):
        return config.engine.extra.get(key.removeprefix("engine.extra."))
    return getattr(config.engine, key.removeprefix("engine.")) if key.startswith("engine.") else getattr(config, key)
