"""The cards and docstrings say what is so: their examples are run, their tables name every argument and result."""

import doctest
import inspect
import json
import re
import sys
from typing import Any

import pytest
import yaml
from compat.examples import FUNCTIONS, SMALL
from compat.surroundings import METRICS, NAMES

COLORS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}


def card(name: str) -> tuple[dict[str, Any], str]:
    """Front matter and page."""
    _, front, page = (METRICS / name / "README.md").read_text("utf-8").split("---\n", 2)
    return yaml.safe_load(front), page


def assert_examples_hold(text: str, name: str, num_least: int, **names: Any) -> None:
    test = doctest.DocTestParser().get_doctest(text, names, name, None, 0)
    shown: list[str] = []
    results = doctest.DocTestRunner(verbose=False).run(test, out=shown.append)
    assert results.failed == 0, "".join(shown)
    assert results.attempted >= num_least


@pytest.mark.parametrize("name", NAMES)
def test_the_examples_of_the_card_hold(name: str, modules: dict[str, Any]):
    assert_examples_hold(card(name)[1], name, 5)


@pytest.mark.parametrize("name", NAMES)
def test_the_examples_of_the_module_hold(name: str, modules: dict[str, Any]):
    code = vars(sys.modules[type(modules[name]).__module__])
    assert_examples_hold(type(modules[name]).__doc__, name, 1, **code)
    assert_examples_hold(modules[name].inputs_description, name, 3)


@pytest.mark.parametrize("name", NAMES)
def test_the_json_of_the_card_is_its_example(name: str, modules: dict[str, Any]):
    (block,) = re.findall(r"```json\n(.*?)```", card(name)[1], re.DOTALL)
    given = json.loads(block)
    namespace: dict[str, Any] = {}
    first = re.search(r"```python\n(.*?)```", card(name)[1], re.DOTALL)[1]
    test = doctest.DocTestParser().get_doctest(first, namespace, name, None, 0)
    doctest.DocTestRunner().run(test, clear_globs=False)
    assert modules[name].compute(**given) == test.globs["found"]


@pytest.mark.parametrize("name", NAMES)
def test_the_card_and_the_module_name_every_argument_and_result(name: str, modules: dict[str, Any]):
    arguments = set(inspect.signature(FUNCTIONS[name]).parameters)
    results = set(FUNCTIONS[name](**SMALL[name]))
    page = card(name)[1]
    assert {word for word in arguments | results if f"`{word}`" not in page} == set()
    described = modules[name].inputs_description
    assert {word for word in arguments - {"resamples", "seed"} if f"    {word} (" not in described} == set()
    assert {word for word in results if f"`{word}`" not in described} == set()


@pytest.mark.parametrize("name", NAMES)
def test_the_front_matter_is_that_of_a_space(name: str, modules: dict[str, Any]):
    front, page = card(name)
    assert front["title"] == name
    assert front["tags"] == ["evaluate", modules[name].module_type]
    assert {front["colorFrom"], front["colorTo"]} <= COLORS
    assert (front["sdk"], front["app_file"], front["pinned"], front["license"]) == (
        "gradio",
        "app.py",
        False,
        "apache-2.0",
    )
    assert front["python_version"] == "3.11", "the oldest that the package runs on; a Space may have an older one"
    assert len(front["emoji"]) <= 2
    assert front["description"].strip()
    assert "2604.09557" in page
    assert "2604.09557" in modules[name].citation


def test_the_modules_share_one_app_one_gradio_and_one_list_of_requirements():
    for file in ("app.py", "requirements.txt"):
        assert len({(METRICS / name / file).read_bytes() for name in NAMES}) == 1
    assert len({card(name)[0]["sdk_version"] for name in NAMES}) == 1
