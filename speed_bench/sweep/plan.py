"""From a sweep's settings to its cells: what is run, under which names, in which order."""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import orjson

from speed_bench.config import HOW_NOT_WHAT, Protocol, RunConfig, resolve
from speed_bench.errors import ConfigError
from speed_bench.sweep.cells import Cell
from speed_bench.sweep.spec import SweepSpec, flat, is_of_drafts

MOST_CELLS = 10_000
"""More are a slip, unless they are asked for."""
NAMED = ("model", "algorithm", "draft_length", "concurrency", "config")
"""The settings that every name begins with."""
LONGEST_NAME = 160
"""Characters of a name without its hash: file systems take 255 bytes."""


def plan(
    spec: SweepSpec,
    *,
    most: int = MOST_CELLS,
    tell: Callable[[str], None] | None = None,
    detect: Callable[[str], str] | None = None,
) -> list[Cell]:
    """The cells of a sweep in the order in which they are run; equal specs give equal cells.

    What comes out the same after all settings are known is one cell. `tell` is given a sentence for an exclusion that
    matches nothing; `detect` says which engine is behind a url. Raises ConfigError for settings that cannot be, for
    more than `most` combinations, and where nothing is left.

    >>> from speed_bench.sweep.spec import spec_of
    >>> spec = spec_of({"axes": {"draft_length": [1, 3]}, "order": "listed"})
    >>> [cell.name[:-9] for cell in plan(spec)]  # without the hash
    ['smollm2-135m-instruct-none-c1-starter', 'smollm2-135m-instruct-ngram-k1-c1-starter', \
'smollm2-135m-instruct-ngram-k3-c1-starter']
    """
    if spec.num_combinations > most:
        lengths = [f"{len(values)} {name}" for name, values in spec.axes.items()] + [f"{spec.repeats} repeats"]
        raise ConfigError(
            f"the sweep has {spec.num_combinations:,} runs ({' x '.join(lengths)}), the most is {most:,}; "
            f"leave something out, or allow them with --most {spec.num_combinations}"
        )
    swept = spec.swept
    runs = [_Run.of(config, protocol, swept) for config, protocol in _kept(spec, tell, detect)]
    measured = {run.identity: run for run in runs}
    needed: dict[str, _Run | None] = {}
    for identity, run in measured.items():
        needed[identity] = run.baseline(swept) if spec.baseline else None
    every: dict[str, _Run] = {}
    for identity, run in measured.items():
        if (other := needed[identity]) is not None:
            every[other.identity] = other  # of an attached engine only the baseline knows the right server
        every.setdefault(identity, run)
    names = _names(list(every.values()), swept)
    cells = []
    for repeat in range(spec.repeats):
        of_repeat = []
        for identity, run in every.items():
            other = needed.get(identity)
            cell = Cell(
                name=_repeated(names[identity], repeat),
                config=run.config.model_copy(update={"baseline": False}),
                protocol=run.protocol,
                repeat=repeat,
                baseline=None if other is None else _repeated(names[other.identity], repeat),
            )
            of_repeat.append(cell)
        if spec.order == "random":
            of_repeat.sort(key=lambda cell: hashlib.sha256(f"{spec.seed}|{cell.name}".encode()).digest())
        cells += of_repeat
    return cells


@dataclass(frozen=True, slots=True)
class _Run:
    """One set of settings, whichever combinations lead to it."""

    config: RunConfig
    protocol: Protocol
    identity: str
    """Hash over everything that is measured."""

    @classmethod
    def of(cls, config: RunConfig, protocol: Protocol, swept: Sequence[str]) -> "_Run":
        settings = flat(config.model_copy(update={"baseline": False}).model_dump(mode="json"))
        measured = {key: value for key, value in settings.items() if key not in HOW_NOT_WHAT or key in swept}
        text = orjson.dumps({**measured, "protocol": protocol.based_on}, option=orjson.OPT_SORT_KEYS)
        return cls(config, protocol, hashlib.sha256(text).hexdigest())

    def baseline(self, swept: Sequence[str]) -> "_Run | None":
        """The run that it is compared with; None where there cannot be one."""
        return _Run.of(self.config.without_speculation(), self.protocol, swept) if self.config.baseline else None


def _kept(
    spec: SweepSpec, tell: Callable[[str], None] | None, detect: Callable[[str], str] | None
) -> list[tuple[RunConfig, Protocol]]:
    """What is left of all combinations after the exclusions."""
    kept, left_out = [], Counter[int]()
    entries = [flat(entry) for entry in spec.exclude]
    detect = cache(detect) if detect else None
    for settings in spec.combinations():
        config, protocol = _resolved(spec, settings, detect)
        resolved = flat(config.model_dump(mode="json"))
        hits = [number for number, entry in enumerate(entries) if _matches(entry, resolved)]
        left_out.update(hits)
        if not hits:
            kept.append((config, protocol))
    for number, entry in enumerate(spec.exclude):
        if not left_out[number] and tell is not None:
            tell(f"exclude {_shown(entry)} matches no cell")
    if not kept:
        by = ", ".join(f"{_shown(entry)} {left_out[number]}" for number, entry in enumerate(spec.exclude))
        num = spec.num_combinations // spec.repeats
        raise ConfigError(f"no cell is left: of {num} combinations exclude leaves out {by}; leave out less")
    return kept


def _resolved(
    spec: SweepSpec, settings: dict[str, Any], detect: Callable[[str], str] | None
) -> tuple[RunConfig, Protocol]:
    """Settings of a combination -> what is run. Without speculation there is no draft, whatever other axes say."""
    if settings.get("algorithm") == "none":
        settings = {key: value for key, value in settings.items() if key not in ("draft", "draft_length")}
    try:
        config, protocol = resolve(settings, protocol=spec.protocol, detect=detect)
    except ConfigError as error:
        cell = ", ".join(f"{key} {str(settings[key])[:120]}" for key in spec.swept if key in settings)
        raise ConfigError(f"{error}{f' (in the cell {cell})' if cell else ''}") from error
    if config.algorithm == "none" and not config.engine.attached:
        config = config.without_speculation()  # settings of drafts make no cells of it
    return config, protocol


def _matches(entry: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    return all(_equals(value, settings.get(key)) for key, value in entry.items())


def _equals(wanted: Any, value: Any) -> bool:
    """Whether a setting has a value, or one of several; a setting that is a list may be given as one is in flags."""
    if isinstance(value, list):
        several = wanted.split(",") if isinstance(wanted, str) else wanted
        return value == (several if isinstance(several, list) else [wanted])
    return value in wanted if isinstance(wanted, list) else bool(value == wanted)


def _shown(entry: Mapping[str, Any]) -> str:
    return "{" + ", ".join(f"{key}: {value}" for key, value in entry.items()) + "}"


def _names(runs: Sequence[_Run], swept: Sequence[str]) -> dict[str, str]:
    """A name for each identity: readable, then as much of the hash as tells all apart."""
    readable = {run.identity: _readable(run.config, swept) for run in runs}
    for digits in (8, 16, 64):
        names = {identity: f"{name}-{identity[:digits]}" for identity, name in readable.items()}
        if len({name.lower() for name in names.values()}) == len(names):
            break
    return names


def _readable(config: RunConfig, swept: Sequence[str]) -> str:
    """What is in the name for people."""
    settings = flat(config.model_dump(mode="json"))
    length = "" if config.draft_length is None else f"k{config.draft_length}"
    model = _slug(_last(config.model or config.engine.served_model or "served"))
    words = [model, config.algorithm, length, f"c{config.concurrency}", _slug(config.config)]
    for key in swept:
        value, last = settings.get(key), key.rpartition(".")[2]
        means_nothing = config.algorithm == "none" and is_of_drafts(key)
        if key not in NAMED and isinstance(value, str | int | float) and not means_nothing:
            words.append(_slug(f"{'' if key == 'draft' else last}{_last(str(value))}"))
    return "-".join(word for word in words if word)[:LONGEST_NAME]


def _last(name: str) -> str:
    """Of a path or a name on the Hub its last part, without revision and ending.

    >>> _last("hf:org/repo/small-Q8_0.gguf"), _last("meta-llama/Llama-3.3-70B@main")
    ('small-Q8_0', 'Llama-3.3-70B')
    """
    return name.rstrip("/").rpartition("/")[2].partition("@")[0].removesuffix(".gguf")


def _slug(text: str) -> str:
    """As a part of a file's name.

    >>> _slug("random:1000 π")
    'random_1000'
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._")[:40]


def _repeated(name: str, repeat: int) -> str:
    return name if repeat == 0 else f"{name}-r{repeat + 1}"
