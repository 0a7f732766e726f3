"""What a run is: its settings, from wherever they are given.

Settings come from four places, later ones win: the protocol, `--file run.yaml`,
`--set key=value`, flags. A setting that a protocol fixes and something else changes makes the
run `custom`: measured and recorded all the same, never ranked.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from speed_bench.algorithms import ALGORITHMS
from speed_bench.engine_config import ENGINE_CONFIGS, AnyEngineConfig, LlamaCppConfig, Settings, holds_secret
from speed_bench.errors import ConfigError, brief, unknown
from speed_bench.load_config import LoadConfig, check_load
from speed_bench.models import EMBEDDED_MODEL
from speed_bench.protocols import PROTOCOLS, broken_rules, default_protocol
from speed_bench.settings_yaml import read_yaml

DEFAULT_ENGINE = "llama-cpp"
MAX_SEED = 2**32 - 2
"""2^32 − 1 means "choose one" to llama.cpp."""
HOW_NOT_WHAT = (
    *(f"engine.{name}" for name in ("host", "port", "url", "baseline_url", "python", "start_timeout_s")),
    "stall_timeout_s",
    "workers",
)
"""Keys that change how a run is made, not what it measures: a run may be resumed with others."""
HOW_MANY = ("limit_per_category", "num_prompts", "prompts_per_stream")
"""Ways of saying how many conversations there are: one that is given stands in for the protocol's own."""
OF_DRAFTS = ("ngram_size", "ngram_min", "ngram_max", "acceptance", "category_acceptance", "no_proposal", "draft_ms")
"""Settings of engines that say how drafts are made: without speculation they change nothing."""
EMBEDDED = ("llama-cpp", "simulator")
"""Engines that use the embedded model unless told otherwise."""


class RunConfig(LoadConfig):
    """Everything that decides what is measured. Two runs with equal configs do the same."""

    engine: AnyEngineConfig = LlamaCppConfig()
    model: str | None = None
    """llama.cpp: the embedded model, a GGUF file, or `hf:org/repo/file.gguf`. Other engines: a folder, or
    `org/repo[@revision]` of the Hugging Face Hub. None, with `engine.url`: whatever is served there."""
    tokenizer: str | None = None
    """A Hugging Face tokenizer (name or folder); None: the model's own."""
    chat_template_args: dict[str, Any] = Field(default_factory=dict)
    """What the chat template is given besides the messages, such as `enable_thinking: false`."""
    algorithm: str = "ngram"
    """How tokens are drafted; `none` measures without speculation."""
    draft: str | None = None
    """The draft model, or the heads, named like `model`."""
    draft_length: int | None = Field(default=None, ge=1, le=256)
    """Most tokens drafted per step; the default is that of the algorithm."""
    edition: str = "open"
    config: str = "starter"
    categories: tuple[str, ...] | None = None
    """None: all."""
    limit_per_category: int | None = Field(default=None, ge=1)
    """Conversations per category, the first ones; None: all."""
    max_tokens: int = Field(ge=1)
    ignore_eos: bool = False
    """Whether every answer goes on to `max_tokens`."""
    temperature: float = Field(ge=0)
    seeds: tuple[int, ...] = Field(min_length=1)
    """Every conversation is run once per seed."""
    warmup_per_slot: int = Field(ge=0)
    """Requests per stream before anything is recorded."""
    history: str = Field(pattern=r"^(own|replay:.+)$")
    """What later turns carry: the model's `own` answers, or `replay:RUN`, another run's."""
    baseline: bool = True
    """Whether the same turns are run again without speculation."""
    stall_timeout_s: float = Field(default=300.0, gt=0)
    """A request that brings nothing for this long has failed."""

    @field_validator("chat_template_args", mode="before")
    @classmethod
    def _read_mapping(cls, value: Any) -> Any:
        return read_yaml(value, "--chat-template-args") if isinstance(value, str) else value

    @field_validator("categories", mode="before")
    @classmethod
    def _split_at_commas(cls, value: Any) -> Any:
        return tuple(name.strip() for name in value.split(",") if name.strip()) if isinstance(value, str) else value

    @field_validator("seeds", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, int) else value

    @field_validator("seeds")
    @classmethod
    def _usable_seeds(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"a seed is given twice: {', '.join(map(str, seeds))}")
        if not all(0 <= seed <= MAX_SEED for seed in seeds):
            raise ValueError(f"seeds must lie in 0…{MAX_SEED}, which every engine takes: {', '.join(map(str, seeds))}")
        return seeds

    @field_validator("engine", mode="before")
    @classmethod
    def _engine_by_name(cls, value: Any) -> Any:
        value = {"name": value} if isinstance(value, str) else value
        if not isinstance(value, Mapping):
            return value
        value = {"name": DEFAULT_ENGINE, **value}
        if str(value["name"]) not in ENGINE_CONFIGS:
            raise ValueError(unknown("engine", value["name"], ENGINE_CONFIGS))
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.categories == ():
            raise ValueError("--categories names no category; leave it out for all of them")
        if self.algorithm not in ALGORITHMS:
            raise ValueError(unknown("algorithm", self.algorithm, ALGORITHMS))
        check_load(self)
        if self.limit_per_category is not None and (self.num_prompts or self.prompts_per_stream):
            other = "--num-prompts" if self.num_prompts else "prompts_per_stream"
            raise ValueError(f"--limit-per-category and {other} exclude each other")
        takes = ALGORITHMS[self.algorithm].draft
        starts_model = not self.engine.attached and self.engine.name != "simulator"
        if takes == "required" and self.draft is None and starts_model:
            kind = "FILE.gguf" if self.engine.name == "llama-cpp" else "NAME"
            raise ValueError(f"algorithm '{self.algorithm}' needs a draft model: --draft {kind}")
        if takes == "none" and self.draft is not None:
            raise ValueError(f"a draft model is given, but algorithm '{self.algorithm}' uses none; --algorithm draft?")
        if self.algorithm == "none" and self.draft_length is not None:
            raise ValueError("algorithm 'none' drafts nothing; leave out --draft-length")
        if self.model is None and self.engine.name not in EMBEDDED and not self.engine.attached:
            raise ValueError(
                f"engine '{self.engine.name}' needs a model: --model FOLDER, or org/repo of the Hugging Face Hub"
            )
        return self

    def without_speculation(self) -> "RunConfig":
        """The baseline of this run: the same turns, nothing drafted."""
        engine = self.engine
        if engine.attached:
            engine = engine.model_copy(update={"url": engine.baseline_url, "baseline_url": None})
        if extra := getattr(engine, "extra", None):
            others = {name: value for name, value in extra.items() if not name.startswith("spec")}
            engine = engine.model_copy(update={"extra": others})
        fields = type(engine).model_fields
        engine = engine.model_copy(update={name: fields[name].get_default() for name in OF_DRAFTS if name in fields})
        nothing = {"algorithm": "none", "draft": None, "draft_length": None, "baseline": False}
        return self.model_copy(update={"engine": engine, **nothing})

    def difference(self, other: "RunConfig") -> dict[str, tuple[Any, Any]]:
        """The dotted keys in which two configs measure different things, with both values."""
        mine, theirs = _flat(self.model_dump()), _flat(other.model_dump())
        keys = [key for key in mine | theirs if mine.get(key) != theirs.get(key) and key not in HOW_NOT_WHAT]
        return {key: (mine.get(key), theirs.get(key)) for key in keys}


class Protocol(Settings):
    """Under which rules a run was made."""

    name: str
    """One of `PROTOCOLS`, or `custom`."""
    based_on: str
    overrides: tuple[str, ...] = ()
    """What was changed, in a custom run."""


def resolve(
    flags: Mapping[str, Any],
    *,
    file: Path | None = None,
    sets: Iterable[str] = (),
    protocol: str | None = None,
    recorded: tuple[RunConfig, Protocol] | None = None,
    detect: Callable[[str], str] | None = None,
) -> tuple[RunConfig, Protocol]:
    """Settings from everywhere -> what is run, and under which protocol.

    `flags` holds only what the user gave, under (dotted) config keys. What a resumed run has
    `recorded` stands in for everything that is not given. `detect` tells which engine is behind a url.

    >>> config, protocol = resolve({"max_tokens": 8})
    >>> config.concurrency, protocol.name, protocol.overrides
    (1, 'custom', ('max_tokens',))
    """
    given: dict[str, Any] = {}
    for key, value in (_read_file(file) if file else {}).items():
        _put(given, str(key), value)
    named_in_file = given.pop("protocol", None)
    for item in sets:
        key, equals, value = item.partition("=")
        if not equals:
            raise ConfigError(f"--set {item}: write it as key=value")
        _put(given, key.strip(), read_yaml(value, f"--set {item}"))
    for key, value in flags.items():
        _put(given, key, value)
    if str(given.get("edition", "")).startswith("random:"):
        given.setdefault("config", "random")  # the only one that editions of random tokens have
    named = protocol or named_in_file or (recorded[1].based_on if recorded else default_protocol(given.get("config")))
    if not isinstance(named, str) or named not in PROTOCOLS:
        raise ConfigError(unknown("protocol", named, PROTOCOLS))
    _settle_engine(given, recorded, detect)
    _check_keys(given, RunConfig)
    fixed = PROTOCOLS[named]
    if any(given.get(key) is not None for key in HOW_MANY):
        given |= {key: None for key in HOW_MANY if key not in given}
    before = recorded[0].model_dump() if recorded else {}
    if recorded and given.get("algorithm", before["algorithm"]) != before["algorithm"]:
        before |= {"draft": None, "draft_length": None}
    settings = _with_defaults(_validated({**fixed, **before, **given}))
    if settings.arrivals != "closed" and "concurrency" not in {**before, **given}:
        raise ConfigError(
            "in an open loop say how many conversations may be under way at once, of which the engine is told, too: "
            "--concurrency N"
        )
    changed = {key for key, value in fixed.items() if getattr(settings, key) != value}
    overrides = tuple(sorted(changed | broken_rules(named, settings.config, settings.categories, settings.concurrency)))
    return settings, Protocol(name="custom" if overrides else named, based_on=named, overrides=overrides)


def _settle_engine(
    given: dict[str, Any], recorded: tuple[RunConfig, Protocol] | None, detect: Callable[[str], str] | None
) -> None:
    """Which engine the settings are of: as named, as recorded, or as detected behind a url."""
    engine = given.get("engine", {})
    before = recorded[0].engine.model_dump() if recorded else {}
    if engine and engine.get("name", before.get("name")) == before.get("name"):
        given["engine"] = engine = {**before, **engine}
    url = engine.get("url")
    if not isinstance(url, str) or holds_secret(url):
        return  # there is none, or validation refuses it: until then it is neither asked nor shown
    if "name" not in engine and detect is not None:
        engine["name"] = detect(url)
    if "algorithm" not in given and recorded is None:
        raise ConfigError(
            f"say what the server at {url} drafts with: --algorithm NAME and --draft-length K; "
            "--algorithm none if it does not speculate"
        )


def _with_defaults(settings: RunConfig) -> RunConfig:
    """What follows from other settings: the draft length, the embedded model, whether there can be a baseline."""
    engine, changes = settings.engine, dict[str, Any]()
    if settings.draft_length is None and not engine.attached:
        changes["draft_length"] = ALGORITHMS[settings.algorithm].draft_length
    if settings.model is None and engine.name in EMBEDDED and not engine.attached:
        changes["model"] = EMBEDDED_MODEL.key
    if settings.algorithm == "none" or (engine.attached and engine.baseline_url is None):
        changes["baseline"] = False
    return settings.model_copy(update=changes)


def _validated(data: Mapping[str, Any]) -> RunConfig:
    try:
        return RunConfig.model_validate(data)
    except ValidationError as error:
        problems = []
        for problem in error.errors():
            key = ".".join(str(part) for part in problem["loc"] if part not in ENGINE_CONFIGS)
            sentence = problem["msg"].removeprefix("Value error, ")
            if problem["type"] == "missing":  # of the settings above it, which the protocol does not fix
                problems.append(f"the protocol does not say the {key}; say it: --{key.replace('_', '-')}")
            elif key and problem["type"] != "value_error":
                problems.append(f"{key}: {sentence} (got {brief(problem['input'])})")
            else:
                problems.append(sentence)
        raise ConfigError("; ".join(problems)) from error


def _read_file(path: Path) -> dict[str, Any]:
    try:
        data = read_yaml(path.read_text("utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--file {path} cannot be read: {getattr(error, 'strerror', error)}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path} does not hold settings: one `key: value` a line is expected")
    return data


def _put(data: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key. `engine.extra.*` is one level: its own names may hold dots."""
    first, *rest = key.split(".")
    if first != "engine":
        data[key] = value
        return
    engine = data.setdefault("engine", {})
    match rest:
        case []:
            engine.update(_as_settings("engine", {"name": value} if isinstance(value, str) else value))
        case ["extra", *names] if names:
            _as_settings("engine.extra", engine.setdefault("extra", {}))[".".join(names)] = value
        case names:
            engine[".".join(names)] = value


def _as_settings(key: str, value: Any) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{key} holds settings of its own, not {brief(value)}; write {key}.NAME=VALUE")
    return value


def _check_keys(data: Mapping[str, Any], model: type[BaseModel], prefix: str = "") -> None:
    for key, value in data.items():
        if key not in model.model_fields:
            known = [prefix + name for name in model.model_fields] + ["protocol"] * (not prefix)
            raise ConfigError(unknown("key", prefix + str(key), known))
        if key == "engine" and isinstance(value, Mapping):
            _check_keys(value, ENGINE_CONFIGS.get(str(value.get("name")), LlamaCppConfig), "engine.")


def _flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, Mapping) and key == "engine":
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
