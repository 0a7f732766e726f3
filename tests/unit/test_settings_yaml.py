"""YAML from users: plain data or one sentence, whatever is in it."""

import pytest

from speed_bench.errors import ConfigError
from speed_bench.settings_yaml import read_yaml

NINE = "[" + ", ".join(["*{0}"] * 9) + "]"
BOMB = "x: [&a [1, 2, 3, 4, 5, 6, 7, 8, 9], " + ", ".join(
    f"&{name} {NINE.format(before)}" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: [", "f.yaml is not YAML: while parsing"),
        ("!!python/object/apply:os.system ['false']", "f.yaml is not YAML: could not determine a constructor"),
        ("a: 2020-13-45", "f.yaml is not YAML: month must be in 1..12"),
        ("a: " + "9" * 9999, "f.yaml is not YAML: Exceeds the limit"),
        ("[" * 5000, "f.yaml is nested too deeply to be settings"),
        (f"{BOMB}]", "f.yaml unfolds to more than 100,000 values, which no settings are"),
        ("a: &a [1, *a]", "f.yaml unfolds to more than 100,000 values"),
        ("a: 1\nb: {c: 1,\n  d: 2, c: 3}", "f.yaml, line 2: 'c' is there twice; leave one of them out"),
        ("? [a, b]\n: 3", "f.yaml is not YAML: while constructing a mapping"),
    ],
)
def test_what_cannot_be_settings_is_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read_yaml(text, "f.yaml")
    assert str(raised.value).startswith(sentence)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("", None),
        ("3", 3),
        ("a: {b: [1, .5, yes, ~, ü]}", {"a": {"b": [1, 0.5, True, None, "ü"]}}),
        ("x: &x {a: 1, b: 2}\ny: {<<: *x, b: 3}", {"x": {"a": 1, "b": 2}, "y": {"a": 1, "b": 3}}),
    ],
)
def test_plain_data_is_read_and_what_is_merged_may_be_set_again(text: str, data: object) -> None:
    assert read_yaml(text, "f.yaml") == data
