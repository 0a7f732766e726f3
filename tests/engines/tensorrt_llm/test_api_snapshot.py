"""The recorded facts about TensorRT-LLM against the TensorRT-LLM that is installed.

`recordings/tensorrt-llm/api-snapshot.json` says what the dialect builds on: options, arguments and
fields, with types and defaults. These tests need the real package, which needs a GPU's libraries;
elsewhere they are skipped. A failure lists every fact that no longer holds.
"""

import importlib
import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from types import ModuleType, NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import orjson
import pytest

SNAPSHOT = orjson.loads((Path(__file__).parents[2] / "recordings" / "tensorrt-llm" / "api-snapshot.json").read_bytes())

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]


def module(name: str) -> ModuleType:
    """A module of the installed package; without one, the test is skipped."""
    why = "needs an installed TensorRT-LLM"
    pytest.importorskip("tensorrt_llm.llmapi.llm_args", reason=why, exc_type=ImportError)
    return importlib.import_module(f"tensorrt_llm.{name}")


def shown(annotation: object) -> str:
    """An annotation as the snapshot writes it: `int | null`, `list[str]`, `'auto' | 'trtllm'`."""
    origin, args = get_origin(annotation), get_args(annotation)
    if annotation in (None, NoneType):
        return "null"
    if origin is Annotated:
        return shown(args[0])
    if origin in (Union, UnionType):
        return " | ".join(sorted((shown(arg) for arg in args), key=lambda text: text == "null"))
    if origin is Literal:
        return " | ".join(repr(arg) for arg in args)
    if origin is not None:
        return f"{origin.__name__}[{', '.join(shown(arg) for arg in args)}]"
    return getattr(annotation, "__name__", str(annotation))


def plain(value: object) -> object:
    """A default as JSON would say it."""
    if isinstance(value, Enum):
        return None if value.name == "UNSET" else value.value
    return value


def field_facts(model: Any, known: Mapping[str, Any]) -> dict[str, dict[str, object]]:
    """What a pydantic class says of its fields, as far as the snapshot knows them."""
    facts = {}
    for name, info in model.model_fields.items():
        facts[name] = {"type": shown(info.annotation)}
        if "default" in known.get(name, {}):
            facts[name]["default"] = plain(info.get_default(call_default_factory=True))
    return facts


def differences(where: str, known: Mapping[str, Any], found: Mapping[str, Any], *, all_of_it: bool) -> Iterator[str]:
    """One line for each fact that does not hold; with `all_of_it`, also for each new name."""
    for name, facts in known.items():
        if name not in found:
            yield f"{where}.{name}: is gone"
            continue
        for fact, value in facts.items():
            now = found[name].get(fact)
            if now != value or isinstance(now, bool) != isinstance(value, bool):
                yield f"{where}.{name}: {fact} was {value!r}, is {now!r}"
    if all_of_it:
        yield from (f"{where}.{name}: is new" for name in found if name not in known)


def agree(lines: Iterable[str]) -> None:
    found = list(lines)
    if found:
        version = getattr(importlib.import_module("tensorrt_llm"), "__version__", "unknown")
        pytest.fail(
            "\n".join([f"TensorRT-LLM {version} against facts of {SNAPSHOT['version']}:", *found]), pytrace=False
        )


def decoding_configs() -> dict[str, Any]:
    """Every speculative config class under its decoding_type, and their base class as `base`."""
    base = module("llmapi.llm_args").DecodingBaseConfig
    found, waiting = {"base": base}, [base]
    while waiting:
        subclasses = waiting.pop().__subclasses__()
        waiting += subclasses
        for subclass in subclasses:
            kind = subclass.model_fields.get("decoding_type")
            if kind is not None and subclass.__module__.startswith("tensorrt_llm."):
                found[str(kind.default)] = subclass
    return found


@pytest.mark.parametrize("name", sorted(SNAPSHOT["llm_args"]))
def test_arguments_of_the_engine(name: str) -> None:
    known = SNAPSHOT["llm_args"][name]
    found = field_facts(getattr(module("llmapi.llm_args"), name), known)
    agree(differences(name, known, found, all_of_it=False))


def test_there_are_the_same_kinds_of_speculation() -> None:
    kinds = {name: {} for name in decoding_configs()}
    known = {name: {} for name in SNAPSHOT["speculative"]}
    agree(differences("speculative", known, kinds, all_of_it=True))


@pytest.mark.parametrize("kind", sorted(SNAPSHOT["speculative"]))
def test_fields_of_each_kind_of_speculation(kind: str) -> None:
    configs, known = decoding_configs(), SNAPSHOT["speculative"][kind]
    if kind not in configs:
        pytest.fail(f"speculative.{kind}: is gone", pytrace=False)
    found = field_facts(configs[kind], known)
    inherited = {"decoding_type"} if kind == "base" else {"decoding_type", *SNAPSHOT["speculative"]["base"]}
    own = {name: facts for name, facts in found.items() if name in known or name not in inherited}
    agree(differences(kind, known, own, all_of_it=True))


@pytest.mark.parametrize("kind", sorted(SNAPSHOT["speculative_required"]))
def test_keys_that_a_kind_of_speculation_needs(kind: str) -> None:
    config, keys = decoding_configs()[kind], SNAPSHOT["speculative_required"][kind]
    values = {key: {"max_draft_len": 2, "speculative_model": "draft"}[key] for key in keys}
    config(**values)
    for key in keys:
        with pytest.raises(ValueError, match=re.compile("draft", re.IGNORECASE)):
            config(**{other: value for other, value in values.items() if other != key})


def test_options_of_the_server() -> None:
    found: dict[str, dict[str, object]] = {}
    known = SNAPSHOT["serve_options"]
    for option in module("commands.serve").serve.params:
        facts = known.get(option.name, {})
        is_flag = getattr(option, "is_flag", False)
        choices = getattr(option.type, "choices", None)
        kind = "flag" if is_flag else option.type.name
        default = option.default() if callable(option.default) else plain(option.default)
        flags = {*option.opts, *option.secondary_opts}
        found[option.name] = {
            "argument": option.param_type_name == "argument",
            "type": kind if choices is None else " | ".join(sorted(str(plain(choice)) for choice in choices)),
            "flags": [flag for flag in facts.get("flags", ()) if flag in flags],
            "default": bool(default) if is_flag else default,
        }
    agree(differences("trtllm-serve", known, found, all_of_it=False))


def test_fields_of_a_completion_request() -> None:
    known = SNAPSHOT["completion_request"]
    found = field_facts(module("serve.openai_protocol").CompletionRequest, known)
    agree(differences("CompletionRequest", known, found, all_of_it=True))


@pytest.mark.parametrize("name", sorted(SNAPSHOT["completion_stream"]))
def test_fields_of_what_the_server_answers(name: str) -> None:
    known = SNAPSHOT["completion_stream"][name]
    model = getattr(module("serve.openai_protocol"), name, None)
    if model is None:
        pytest.fail(f"{name}: is gone", pytrace=False)
    agree(differences(name, known, field_facts(model, known), all_of_it=True))


def test_routes_are_still_named_in_the_server() -> None:
    source = inspect.getsource(module("serve.openai_server"))
    paths = [route.split()[1] for route in SNAPSHOT["routes"]]
    agree(f"{path}: is gone" for path in paths if f'"{path}"' not in source and f"'{path}'" not in source)


def test_counters_are_still_named_in_the_collector() -> None:
    source = inspect.getsource(module("metrics.collector"))
    names = [metric["name"].removeprefix("trtllm_").removesuffix("_total") for metric in SNAPSHOT["prometheus"]]
    labels = {label for metric in SNAPSHOT["prometheus"] for label in metric["labels"]} - {"engine_type", "model_name"}
    agree(f"{name}: is gone" for name in [*names, *sorted(labels)] if name not in source)
