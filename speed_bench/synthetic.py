"""The same load on real prompts and on random ones: which two runs that takes, and what must not differ."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from speed_bench.config import RunConfig
from speed_bench.data.editions import RANDOM, config_entries, folder_of, read_manifest
from speed_bench.data.random_tokens import CONFIG, NUM_ROWS, tokens_of
from speed_bench.errors import ConfigError, RunFolderError
from speed_bench.overstatement import SCHEMA_VERSION, Compared
from speed_bench.runner.journal import RunFile, is_run, write_whole
from speed_bench.types import Conversation

REAL: Final = "real"
RANDOM_PROMPTS: Final = "random"
RESULT: Final = "synthetic.json"
_OTHER_PROMPTS: Final = {
    *("edition", "config", "categories", "limit_per_category"),
    *("num_prompts", "prompts_per_stream", "repeat_prompts"),
}
"""Settings in which the two runs differ: which prompts, and how they are picked."""


class Synthetic(BaseModel):
    """`synthetic.json`: what the two run folders beside it come to."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    schema_version: int = SCHEMA_VERSION
    random_edition: str
    """Decided when the comparison begins, and kept when it goes on."""
    numbers: dict[str, Compared] | None
    """See `overstatement`; None until both runs are there."""


def open_comparison(out: Path, *, resume: bool) -> Synthetic | None:
    """What a folder knows of a comparison; None for a new one.

    Raises RunFolderError if it holds anything else, and for one that was begun unless it is to be resumed.
    """
    path = out / RESULT
    try:
        if path.exists():
            begun = Synthetic.model_validate_json(path.read_bytes())
            if not resume and any(is_run(out / name) for name in (REAL, RANDOM_PROMPTS)):
                raise RunFolderError(
                    f"{out} already holds a comparison; add --resume to finish it, or choose another --out"
                )
            return begun if resume else None
        others = sorted(each.name for each in out.iterdir()) if out.exists() else []
    except ValidationError as error:
        raise RunFolderError(f"{path} cannot be used: {error.errors()[0]['msg']}") from error
    except OSError as error:
        raise RunFolderError(f"{error.filename} cannot be read: {error.strerror}") from error
    if others:
        raise RunFolderError(f"{out} holds other files ({others[0]}, …); choose an empty or a new --out")
    if resume:
        raise RunFolderError(f"{out} holds no comparison to finish; leave out --resume to start it")
    return None


def write_comparison(out: Path, result: Synthetic) -> None:
    """Write `synthetic.json`. Raises RunFolderError if it cannot be written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(f"{out} cannot be made: {error.strerror}") from error
    write_whole(out / RESULT, result.model_dump(mode="json"))


def random_length(begun: Synthetic | None, wanted: int | None, config: RunConfig, rows: Sequence[Conversation]) -> int:
    """How many tokens random prompts have: as asked, as it was when the comparison began, or as the real ones have.

    Raises ConfigError for another length than it began with.
    """
    if begun is None:
        return num_tokens(config, rows) if wanted is None else wanted
    length = tokens_of(begun.random_edition)
    if wanted not in (None, length):
        raise ConfigError(f"--random-tokens {wanted}: the comparison began with {length}; leave it out")
    return length


def require_comparable(config: RunConfig) -> None:
    """Raise ConfigError for a load on which random prompts cannot be held against real ones."""
    if config.edition.startswith(RANDOM):
        raise ConfigError(
            f"edition '{config.edition}' is of random tokens; name the real prompts, such as --edition open"
        )
    if config.arrivals != "closed":
        raise ConfigError(
            "in an open loop the arrivals say how much is served, whatever the prompts are; leave out --arrivals"
        )


def random_flags(num_tokens: int, num_prompts: int) -> dict[str, Any]:
    """The settings that put as many random prompts of this length in the place of the real ones.

    Raises ConfigError for more prompts than there are.
    """
    if num_prompts > NUM_ROWS:
        raise ConfigError(
            f"this load asks {num_prompts} real prompts, and {RANDOM}{num_tokens} has {NUM_ROWS}; "
            f"lower --concurrency, or add --num-prompts {NUM_ROWS}"
        )
    one_by_one = {"categories": None, "limit_per_category": None, "prompts_per_stream": None, "repeat_prompts": False}
    return {"edition": f"{RANDOM}{num_tokens}", "config": CONFIG, "num_prompts": num_prompts, **one_by_one}


def num_tokens(config: RunConfig, rows: Sequence[Conversation]) -> int:
    """How long real prompts are, in o200k_base tokens: what a throughput config promises, else what its manifest says.

    Of several turns in a row each carries those before it: see `mean_carried`.
    """
    if bucket := re.fullmatch(r"throughput_(\d+)k", config.config):
        return int(bucket[1]) * 1000
    folder = folder_of(config.edition)
    entries = config_entries(read_manifest(folder), config.config, folder)
    told = [entries[row.question_id].get("num_tokens_o200k") for row in rows]
    if all(isinstance(each, list) for each in told):
        return max(1, round(mean_carried(each for each in told if each)))
    from speed_bench.data.o200k import counts

    return max(1, round(mean_carried(counts(row.turns) for row in rows)))


def mean_carried(lengths: Iterable[Sequence[int]]) -> float:
    """Mean over turns of the user's tokens in a request: those of the turn and of the turns before it.

    Takes the lengths of the turns of each conversation.

    >>> mean_carried([[100], [50, 30]])
    76.66666666666667
    """
    carried = [sum(each[: turn + 1]) for each in lengths for turn in range(len(each))]
    return sum(carried) / len(carried)


def require_alike(real: RunFile, random: RunFile) -> None:
    """Raise RunFolderError where two runs differ in more than their prompts."""
    changed = [key for key in real.config.difference(random.config) if key not in _OTHER_PROMPTS]
    mine, theirs = real.provenance, random.provenance
    changed += [
        name
        for name in ("model", "draft", "tokenizer", "engine_version")
        if getattr(mine, name) != getattr(theirs, name)
    ]
    if real.protocol.based_on != random.protocol.based_on:
        changed.append("protocol")
    if changed:
        raise RunFolderError(
            f"the two runs differ in more than their prompts ({', '.join(changed)}); measure them anew"
        )
