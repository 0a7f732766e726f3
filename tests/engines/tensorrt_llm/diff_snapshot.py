"""Run by the interpreter of an environment that has TensorRT-LLM: what no longer holds of the snapshot, as JSON.

    python diff_snapshot.py api-snapshot.json

Prints `{"version": …, "checks": {name of a check: [a line for every fact that has moved]}}`. Needs the standard library
and that package alone.
"""

import importlib
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from functools import partial
from pathlib import Path
from types import ModuleType, NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

SNAPSHOT: dict[str, Any] = {}


def module(name: str) -> ModuleType:
    """A module of the installed package."""
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


def arguments_of_the_engine(name: str) -> Iterator[str]:
    known = SNAPSHOT["llm_args"][name]
    found = field_facts(getattr(module("llmapi.llm_args"), name), known)
    yield from differences(name, known, found, all_of_it=False)


def kinds_of_speculation() -> Iterator[str]:
    kinds: dict[str, dict[str, object]] = {name: {} for name in decoding_configs()}
    known: dict[str, dict[str, object]] = {name: {} for name in SNAPSHOT["speculative"]}
    yield from differences("speculative", known, kinds, all_of_it=True)


def fields_of_speculation(kind: str) -> Iterator[str]:
    configs, known = decoding_configs(), SNAPSHOT["speculative"][kind]
    if kind not in configs:
        yield f"speculative.{kind}: is gone"
        return
    found = field_facts(configs[kind], known)
    inherited = {"decoding_type"} if kind == "base" else {"decoding_type", *SNAPSHOT["speculative"]["base"]}
    own = {name: facts for name, facts in found.items() if name in known or name not in inherited}
    yield from differences(kind, known, own, all_of_it=True)


def keys_that_speculation_needs(kind: str) -> Iterator[str]:
    config, keys = decoding_configs()[kind], SNAPSHOT["speculative_required"][kind]
    values = {key: {"max_draft_len": 2, "speculative_model": "draft"}[key] for key in keys}
    config(**values)
    for key in keys:
        try:
            config(**{other: value for other, value in values.items() if other != key})
        except ValueError as error:
            if not re.search("draft", str(error), re.IGNORECASE):
                yield f"{kind}: without {key} it says {error}"
        else:
            yield f"{kind}: does without {key}"


def options_of_the_server() -> Iterator[str]:
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
    yield from differences("trtllm-serve", known, found, all_of_it=False)


def fields_of_a_request() -> Iterator[str]:
    known = SNAPSHOT["completion_request"]
    found = field_facts(module("serve.openai_protocol").CompletionRequest, known)
    yield from differences("CompletionRequest", known, found, all_of_it=True)


def fields_of_an_answer(name: str) -> Iterator[str]:
    known = SNAPSHOT["completion_stream"][name]
    model = getattr(module("serve.openai_protocol"), name, None)
    if model is None:
        yield f"{name}: is gone"
    else:
        yield from differences(name, known, field_facts(model, known), all_of_it=True)


def routes() -> Iterator[str]:
    source = inspect.getsource(module("serve.openai_server"))
    paths = [route.split()[1] for route in SNAPSHOT["routes"]]
    yield from (f"{path}: is gone" for path in paths if f'"{path}"' not in source and f"'{path}'" not in source)


def counters() -> Iterator[str]:
    source = inspect.getsource(module("metrics.collector"))
    names = [metric["name"].removeprefix("trtllm_").removesuffix("_total") for metric in SNAPSHOT["prometheus"]]
    labels = {label for metric in SNAPSHOT["prometheus"] for label in metric["labels"]} - {"engine_type", "model_name"}
    yield from (f"{name}: is gone" for name in [*names, *sorted(labels)] if name not in source)


def checks() -> dict[str, Callable[[], Iterator[str]]]:
    """Every check by its name."""
    each = {
        "arguments of the engine": (arguments_of_the_engine, SNAPSHOT["llm_args"]),
        "fields of speculation": (fields_of_speculation, SNAPSHOT["speculative"]),
        "keys that speculation needs": (keys_that_speculation_needs, SNAPSHOT["speculative_required"]),
        "fields of an answer": (fields_of_an_answer, SNAPSHOT["completion_stream"]),
    }
    once = (kinds_of_speculation, options_of_the_server, fields_of_a_request, routes, counters)
    return {f"{name}: {of}": partial(check, of) for name, (check, several) in each.items() for of in several} | {
        check.__name__.replace("_", " "): check for check in once
    }


def lines_of(check: Callable[[], Iterator[str]]) -> list[str]:
    try:
        return list(check())
    except Exception as error:
        return [f"cannot be looked at: {error!r}"]


if __name__ == "__main__":
    SNAPSHOT.update(json.loads(Path(sys.argv[1]).read_text("utf-8")))
    version = getattr(importlib.import_module("tensorrt_llm"), "__version__", "unknown")
    told = {name: lines_of(check) for name, check in checks().items()}
    print(json.dumps({"version": version, "checks": told}))
