"""What a run needs before anything is started: engine, model, prompts, tokenizer, each found and checked."""

import asyncio
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from operator import itemgetter
from pathlib import Path

from speed_bench.checkpoints import find_checkpoint, split_revision
from speed_bench.config import RunConfig
from speed_bench.data.editions import Dataset, load, select
from speed_bench.engine_config import EngineSettings, api_key
from speed_bench.engines import Dialect, dialect_of, require_wired
from speed_bench.engines.http import Connection, Url
from speed_bench.engines.identity import Identity, identify
from speed_bench.engines.server import free_port
from speed_bench.errors import ConfigError, EngineError, TokenError
from speed_bench.gguf_file import check_gguf
from speed_bench.models import resolve_gguf, sha256_of
from speed_bench.protocols import MIN_PROMPTS
from speed_bench.provenance import (
    DataFacts,
    ModelFacts,
    Provenance,
    TokenizerFacts,
    checkpoint_facts,
    hardware,
    model_facts,
    schedule_sha256,
    versions,
)
from speed_bench.runner.conversation import Answers, check_first_turns_fit, turn_id
from speed_bench.runner.journal import read_records, read_run_file
from speed_bench.runner.schedule import arrival_times
from speed_bench.tokens import PROBES, ChatTokenizer, prompt_sha256
from speed_bench.types import Conversation

MEASURING_PACKAGES = ("httptools", "tokenizers", "numpy", "uvloop")
VERSION_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Model:
    """A model as its engine is told of it."""

    name: str
    facts: ModelFacts


@dataclass(frozen=True, slots=True)
class TokenizerSource:
    """Where a tokenizer is read from, here or in another process."""

    name: str
    """A GGUF file, or a Hugging Face folder or repository."""
    revision: str | None = None
    is_gguf: bool = False

    def load(self) -> ChatTokenizer:
        """Read it. Raises TokenError or ModelError."""
        if self.is_gguf:
            return ChatTokenizer.from_gguf(Path(self.name))
        return ChatTokenizer.from_huggingface(self.name, self.revision)


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything that is looked up once before anything is measured."""

    model: Model
    draft: Model | None
    tokenizer: ChatTokenizer
    tokenizer_source: TokenizerSource
    rows: tuple[Conversation, ...]
    """Conversations of the run, in order; one that is run again is there again."""
    times_s: tuple[float, ...] | None
    """When each begins, in an open loop."""
    replayed: Answers | None
    provenance: Provenance


def prepare(config: RunConfig) -> Inputs:
    """Find and check the engine, the model, the prompts and the tokenizer, before anything is started.

    Raises ConfigError, EngineError, ModelError, DataError or TokenError.
    """
    engine, speaks = config.engine, dialect_of(config.engine)
    if not engine.attached:
        require_wired(engine.name, speaks.ALGORITHMS, config.algorithm)
    identity = None
    version: str | None = None
    if engine.url is not None:
        identity = asyncio.run(_ask(speaks, Url.parse(engine.url), engine.served_model))
        said = identity.settings.get("version")
        version = None if said is None else str(said)
        if config.baseline and engine.baseline_url is not None:
            _check_baseline(speaks, engine.baseline_url, engine.served_model)
    else:
        version = engine_version(speaks, engine)
        free_port(engine.port, engine.host)  # one that is taken is told now, not when the folder is made
    dataset = load(config.edition, config.config)
    rows, times_s = under_load(select(dataset.rows, config.categories, config.limit_per_category), config)
    model = _served(identity, config, speaks) if identity else find_model(speaks, str(config.model))
    draft = find_model(speaks, config.draft) if config.draft and not identity else None
    source = _tokenizer_source(config, speaks, model, identity)
    tokenizer = _tokenizer(source, config)
    context_length = (identity and identity.context_length) or engine.context_length
    tokenizer.check_template_args(config.chat_template_args)
    check_first_turns_fit(rows, tokenizer, context_length, config.chat_template_args, attached=engine.attached)
    facts = _provenance(version, dataset, rows, model, draft, tokenizer)
    provenance = facts.model_copy(update={"schedule_sha256": schedule_sha256(times_s)})
    replayed = _replayed(config, rows, provenance, tokenizer)
    return Inputs(model, draft, tokenizer, source, rows, times_s, replayed, provenance)


def under_load(
    rows: tuple[Conversation, ...], config: RunConfig
) -> tuple[tuple[Conversation, ...], tuple[float, ...] | None]:
    """The conversations that a load leads, in their order, and when each begins in an open loop.

    Of every category the same number, or as near as that can be, and one after the other, so that the load is of the
    same mixture all the time.

    Raises ConfigError where more are asked for than there are.
    """
    if config.prompts_per_stream is None and config.num_prompts is None and config.arrivals == "closed":
        _require_enough(len(rows), config)
        return rows, None
    mixed = interleaved(rows)
    wanted = config.num_prompts or len(mixed)
    if config.prompts_per_stream is not None:
        wanted = min(len(mixed), max(MIN_PROMPTS, config.prompts_per_stream * config.concurrency))
    if wanted > len(mixed) and not config.repeat_prompts:
        raise ConfigError(
            f"--num-prompts {wanted} is more than the {len(mixed)} prompts of {config.edition}/{config.config}; "
            "add --repeat-prompts to run some of them again"
        )
    if config.arrivals == "closed":
        _require_enough(wanted, config)
    led = tuple(mixed[number % len(mixed)] for number in range(wanted))
    if config.arrivals == "closed":
        return led, None
    if len(config.seeds) > 1:
        raise ConfigError(f"in an open loop every conversation begins once: give one seed, not {len(config.seeds)}")
    times_s = tuple(map(float, arrival_times(config, wanted, seed=config.seeds[0])))
    if not times_s:
        raise ConfigError("no conversation begins within --max-duration; raise it, or --rate")
    return led[: len(times_s)], times_s


def _require_enough(num_prompts: int, config: RunConfig) -> None:
    """Every stream of a closed loop has something to do."""
    num_led = num_prompts * len(config.seeds)
    if num_led < config.concurrency:
        raise ConfigError(
            f"--concurrency {config.concurrency} is more than the {num_led} conversations of the run, so streams would "
            "idle; lower it, or add --num-prompts N --repeat-prompts to run prompts again"
        )


def interleaved(rows: Sequence[Conversation]) -> list[Conversation]:
    """One of every category in turn, each in its own order.

    >>> from speed_bench.data.editions import load
    >>> [row.category for row in interleaved(load("open", "starter").rows)[:3]]
    ['coding', 'humanities', 'math']
    """
    ranks: Counter[str] = Counter()
    placed = []
    for row in rows:
        placed.append((ranks[row.category], row))
        ranks[row.category] += 1
    return [row for _, row in sorted(placed, key=itemgetter(0))]


def engine_version(speaks: Dialect, engine: EngineSettings) -> str | None:
    """The version of an engine that is to be started. Raises EngineError if it is not installed there.

    None where it is launched elsewhere, and so cannot be looked up; and for one that has no package.
    """
    if engine.launch is not None or not speaks.DISTRIBUTIONS:
        return None
    elsewhere = engine.python
    found = installed(speaks) if elsewhere is None else _version_elsewhere(elsewhere, speaks.DISTRIBUTIONS)
    if found is None:
        where = f"in the environment of {engine.python}" if engine.python else "here"
        raise EngineError(
            f"engine '{engine.name}' is not installed {where}; {speaks.INSTALL}, "
            "or --python PATH to run it from another environment, or --url to attach"
        )
    return found


def installed(speaks: Dialect) -> str | None:
    """The version of an engine in this environment, None if it is not there."""
    for name in speaks.DISTRIBUTIONS:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def _version_elsewhere(python: str, distributions: Sequence[str]) -> str | None:
    code = (
        "import sys\nfrom importlib import metadata\nfor name in sys.argv[1:]:\n"
        "    try: print(metadata.version(name)); break\n    except metadata.PackageNotFoundError: pass"
    )
    try:
        done = subprocess.run(
            (python, "-c", code, *distributions),
            capture_output=True,
            text=True,
            timeout=VERSION_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        reason = error.strerror if isinstance(error, OSError) else "asked for its packages, it fails"
        raise ConfigError(f"engine.python: '{python}' is no Python interpreter that runs: {reason}") from error
    return done.stdout.strip() or None


async def _ask(speaks: Dialect, url: Url, wanted: str | None) -> Identity:
    connection = Connection(url, stall_timeout_s=30.0, api_key=api_key())
    try:
        return await identify(speaks, connection, wanted=wanted)
    finally:
        connection.close()


def _check_baseline(speaks: Dialect, url: str, served_model: str | None) -> None:
    """The server of the baseline, before the half of the run that does not need it."""
    told = asyncio.run(_ask(speaks, Url.parse(url), served_model)).settings.get("algorithm")
    if told not in (None, "none"):
        raise ConfigError(f"the server at engine.baseline_url says that it speculates ({told}): it is no baseline")


def find_model(speaks: Dialect, name: str) -> Model:
    """The model that an engine is to load."""
    if not speaks.READS_GGUF:
        checkpoint = find_checkpoint(name)
        with_revision = f"{checkpoint.name}@{checkpoint.revision}" if checkpoint.revision else checkpoint.name
        return Model(with_revision, checkpoint_facts(checkpoint))
    path = resolve_gguf(name)
    check_gguf(path)
    return Model(str(path), model_facts(path, sha256_of(path)))


def _served(identity: Identity, config: RunConfig, speaks: Dialect) -> Model:
    """A model that is only known by the name under which somebody serves it.

    Raises ConfigError where the server says that it loaded another one than `--model`.
    """
    name = config.model or identity.root or identity.served
    called = Path(split_revision(name)[0]).name.lower()
    stand_in = speaks.READS_GGUF or called.endswith(".gguf")  # which names a vocabulary
    told = (identity.root, identity.served)
    if identity.root is not None and not stand_in and not any(called in each.lower() for each in told if each):
        raise ConfigError(
            f"the server says that it loaded '{identity.root}' and serves it as '{identity.served}', not '{name}'; "
            "leave out --model, and if the tokenizer is not found there, name it with --tokenizer"
        )
    return Model(name, ModelFacts(file=Path(name).name if name.startswith("/") else name, sha256=None, num_bytes=None))


def _tokenizer_source(config: RunConfig, speaks: Dialect, model: Model, identity: Identity | None) -> TokenizerSource:
    """The model's own, unless another is named."""
    name = config.tokenizer or model.name
    if config.tokenizer is None and (speaks.READS_GGUF or name.lower().endswith(".gguf")):
        if identity is not None and not name.lower().endswith(".gguf") and config.model is None:
            raise TokenError(
                f"the server does not say where the tokenizer of '{name}' is; "
                "give --tokenizer NAME, or --model FILE.gguf"
            )
        return TokenizerSource(str(resolve_gguf(name) if identity else name), is_gguf=True)
    return TokenizerSource(*split_revision(name))


def _tokenizer(source: TokenizerSource, config: RunConfig) -> ChatTokenizer:
    try:
        return source.load()
    except TokenError as error:
        if config.tokenizer is not None or source.is_gguf:
            raise
        raise TokenError(f"{error}; name the model's tokenizer with --tokenizer NAME or FOLDER") from error


def _provenance(
    engine_version: str | None,
    dataset: Dataset,
    rows: tuple[Conversation, ...],
    model: Model,
    draft: Model | None,
    tokenizer: ChatTokenizer,
) -> Provenance:
    return Provenance(
        model=model.facts,
        draft=draft.facts if draft else None,
        tokenizer=TokenizerFacts(
            template_sha256=tokenizer.template_sha256,
            vocab_size=tokenizer.vocab_size,
            probes_sha256=prompt_sha256([token for probe in PROBES for token in tokenizer.encode(probe)]),
        ),
        data=DataFacts(
            edition=dataset.edition,
            version=dataset.version,
            config=dataset.config,
            manifest_sha256=dataset.manifest_sha256,
            num_conversations=len(rows),
        ),
        engine_version=engine_version,
        versions=versions(MEASURING_PACKAGES),
        hardware=hardware(),
    )


def _replayed(
    config: RunConfig, rows: tuple[Conversation, ...], provenance: Provenance, tokenizer: ChatTokenizer
) -> Answers | None:
    """The answers of the run that `history` names, all of those that later turns will need."""
    if config.history == "own":
        return None
    source = Path(config.history.removeprefix("replay:"))
    if read_run_file(source).provenance.tokenizer != provenance.tokenizer:
        raise ConfigError(f"--history {config.history}: that run was made with another tokenizer")
    turns = {(turn.seed, turn.id): turn for turn in read_records(source).turns}
    needed = ((seed, turn_id(row, turn)) for seed in config.seeds for row in rows for turn in range(len(row.turns) - 1))
    answers = {}
    for seed, name in needed:
        if (seed, name) not in turns:
            raise ConfigError(f"--history {config.history}: that run has no answer to turn {name} (seed {seed})")
        turn = turns[seed, name]
        answers[seed, name] = tokenizer.answer_message(turn.output_ids, turn.num_thinking_tokens)
    return answers
