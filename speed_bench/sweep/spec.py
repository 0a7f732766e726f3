"""`sweep.yaml`: what a sweep varies, over which base."""

import itertools
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator

from speed_bench.config import OF_DRAFTS, RunConfig
from speed_bench.engine_config import Settings
from speed_bench.errors import ConfigError, brief, unknown
from speed_bench.settings_yaml import read_yaml

OF_THE_SWEEP = {"protocol": "protocol", "baseline": "baseline", "repeats": "repeats"}
"""What is said once for a whole sweep, beside `base` and `axes`."""


class SweepSpec(Settings):
    """The settings of a sweep. Its cells are what `plan.plan` makes of it."""

    protocol: str | None = None
    """None: the one that goes with the config of each cell."""
    base: dict[str, Any] = Field(default_factory=dict)
    """Settings of every cell, as in the file of a run: dotted, or nested under `engine`."""
    axes: dict[str, tuple[Any, ...]] = Field(default_factory=dict)
    """The values that are swept over; a cell is one of each. The name is that of a setting, which takes the value. A
    value that holds settings of its own sets all of them; its name may be any."""
    exclude: tuple[dict[str, Any], ...] = ()
    """Leaves out the cells whose settings are those of one entry, all of them. A list means any of its values."""
    repeats: int = Field(default=1, ge=1)
    """How many runs of every cell, that of the baseline included."""
    order: Literal["random", "listed"] = "random"
    """`random`: what changes with time, such as a machine that gets warm, falls on all cells alike. `listed`: as the
    axes say, the last one fastest, each baseline before the first cell that needs it."""
    seed: int = 0
    """Of the random order."""
    baseline: bool = True
    """Whether there is a cell without speculation for all that differ in nothing but speculation."""

    @field_validator("base", "axes", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise ValueError(f"it holds settings, one `key: value` a line, not {brief(value)}")
        return {str(key): each for key, each in value.items()}

    @field_validator("axes", mode="before")
    @classmethod
    def _lists(cls, axes: Any) -> Any:
        for name, values in axes.items() if isinstance(axes, Mapping) else ():
            if not isinstance(values, list | tuple):
                raise ValueError(f"{name} is no list: write `{name}: [{str(values)[:120]}, …]`, or put it under base")
            if not values:
                raise ValueError(f"{name} has no value; name one, or leave it out")
        return axes

    @field_validator("exclude", mode="before")
    @classmethod
    def _entries(cls, exclude: Any) -> Any:
        entries = exclude if isinstance(exclude, list | tuple) else [None]
        if not all(isinstance(entry, Mapping) and entry for entry in entries):
            raise ValueError(
                f"it is a list of settings, such as [{{algorithm: ngram, draft_length: 5}}], not {brief(exclude)}"
            )
        return exclude

    @property
    def num_combinations(self) -> int:
        """Runs before any is excluded, or found to be the same as another; baselines are not counted."""
        return self.repeats * _product(len(values) for values in self.axes.values())

    @property
    def swept(self) -> tuple[str, ...]:
        """The dotted keys that the axes set, in their order."""
        keys = (key for name, values in self.axes.items() for value in values for key in flat(_settings(name, value)))
        return tuple(dict.fromkeys(keys))

    def combinations(self) -> Iterator[dict[str, Any]]:
        """The settings of every cell over the base, by dotted key; the last axis varies fastest.

        Raises ConfigError for a key that is none, or that two axes set.
        """
        _refuse_unusable(self)
        for values in itertools.product(*self.axes.values()):
            settings = flat(self.base)
            for name, value in zip(self.axes, values, strict=True):
                settings |= flat(_settings(name, value))
            yield deepcopy(settings)


def read_spec(path: Path) -> SweepSpec:
    """Read `sweep.yaml`. Raises ConfigError."""
    try:
        data = read_yaml(path.read_text("utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {getattr(error, 'strerror', error)}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path} holds no sweep: axes, and what every cell has under base, are expected")
    return spec_of(data, str(path))


def spec_of(data: Mapping[Any, Any], where: str = "the sweep") -> SweepSpec:
    """A sweep from plain data. Raises ConfigError.

    >>> spec_of({"axes": {"draft_length": [1, 3], "concurrency": [1, 8]}}).num_combinations
    4
    """
    for key in data:
        if key not in SweepSpec.model_fields:
            raise ConfigError(f"{where}: {unknown('key', key, SweepSpec.model_fields)}{_belongs(key)}")
    try:
        return SweepSpec.model_validate(dict(data))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        sentence = first["msg"].removeprefix("Value error, ")
        got = "" if first["type"] == "value_error" else f" (got {brief(first['input'])})"
        raise ConfigError(f"{where}: {key}: {sentence}{got}") from error


def flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by dotted key: those of the engine, and of `engine.extra`, one by one.

    >>> flat({"engine": {"name": "vllm", "extra": {"seed": 1}}, "draft_length": 3})
    {'engine.name': 'vllm', 'engine.extra.seed': 1, 'draft_length': 3}
    """
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if key == "engine" and isinstance(value, str):
            found["engine.name"] = value
        elif key in ("engine", "engine.extra") and isinstance(value, Mapping):
            found |= flat({f"{key}.{name}": each for name, each in value.items()})
        else:
            found[key] = value
    return found


def is_of_drafts(key: str) -> bool:
    """Whether a setting says how drafts are made, so that it means nothing without speculation.

    >>> is_of_drafts("engine.ngram_max"), is_of_drafts("engine.tensor_parallel")
    (True, False)
    """
    last = key.rpartition(".")[2]
    return key in ("draft", "draft_length") or last in OF_DRAFTS or key.startswith("engine.extra.spec")


def _settings(name: str, value: Any) -> dict[str, Any]:
    """What one value of an axis sets."""
    if isinstance(value, Mapping) and not _takes_mapping(name):
        return {str(key): each for key, each in value.items()}
    return {name: value}


def _takes_mapping(name: str) -> bool:
    """Whether a mapping is the value of a setting, not several settings."""
    return name in ("engine", "chat_template_args") or name.startswith("engine.")


def _refuse_unusable(spec: SweepSpec) -> None:
    """Raise ConfigError for what cannot be set in a cell, and for what two axes set."""
    set_by: dict[str, str] = {}
    for name, values in spec.axes.items():
        for key in {key: None for value in values for key in flat(_settings(name, value))}:
            if (other := set_by.setdefault(key, name)) != name:
                raise ConfigError(f"the axes '{other}' and '{name}' both set {key}; let one of them do it")
    for key in [*flat(spec.base), *set_by, *(key for entry in spec.exclude for key in flat(entry))]:
        if key in OF_THE_SWEEP:
            raise ConfigError(f"{key} is said once for the whole sweep: write it beside base and axes")
        if key.partition(".")[0] not in RunConfig.model_fields:
            raise ConfigError(unknown("key", key, set(RunConfig.model_fields) - set(OF_THE_SWEEP)))


def _belongs(key: object) -> str:
    return "; settings of every cell stand under base" if str(key).partition(".")[0] in RunConfig.model_fields else ""


def _product(lengths: Iterator[int]) -> int:
    total = 1
    for length in lengths:
        total *= length
    return total
