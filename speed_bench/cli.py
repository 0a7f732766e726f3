"""The verbs. Everything heavy is imported inside them, so that `--help` answers at once."""

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from speed_bench.errors import EngineError, RunFolderError, SpeedBenchError

if TYPE_CHECKING:
    from speed_bench.scores import Reconciliation, Scores

F = TypeVar("F", bound=Callable[..., Any])

ENGINE_FLAGS = {"url": "engine.url", "python": "engine.python", "launch": "engine.launch"}
"""Flags that set a setting of the engine."""
RUN_EXAMPLES = """
\b
Examples:
  speed-bench run                                   the embedded model, n-gram drafts, 2 conversations per category
  speed-bench run --categories coding,math --max-tokens 128
  speed-bench run --model llama.gguf --algorithm draft --draft small.gguf --draft-length 4
  speed-bench run --out my-run --resume             finish a run that was stopped
  speed-bench run --file run.yaml --set engine.threads=2
  speed-bench run --engine vllm --python ~/vllm/bin/python --model meta-llama/Llama-3.3-70B-Instruct \\
      --algorithm eagle3 --draft yuhuili/EAGLE3-LLaMA3.3-Instruct-70B --set engine.tensor_parallel=4
  speed-bench run --url http://gpu-node:8000 --algorithm eagle3 --draft-length 3      a server that runs already
"""


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="speed-bench")
def cli() -> None:
    """Measure speculative decoding: exact acceptance, fair timing, results that others can check."""


def _config_options(command: F) -> F:
    """The settings that everybody sets. None means: as the protocol, or the file, says."""
    per_protocol = "[default: per protocol, quick: {}]"
    settings: list[tuple[str, type, str, str]] = [
        (
            "--engine",
            str,
            "NAME",
            "What is measured; see `speed-bench engines`. [default: llama-cpp, or what --url is]",
        ),
        ("--url", str, "URL", "Measure the server that runs there; nothing is started or stopped."),
        ("--python", str, "PATH", "The interpreter of the environment that the engine is installed in."),
        ("--launch", str, "COMMAND", "Starts the engine elsewhere: a command in which {command} is the engine's own."),
        (
            "--model",
            str,
            "MODEL",
            "A GGUF file, hf:org/repo/file.gguf; for GPU engines a folder or org/repo[@revision].",
        ),
        ("--tokenizer", str, "NAME", "A Hugging Face tokenizer. [default: the model's own]"),
        ("--chat-template-args", str, "JSON", "What the chat template is given, such as '{enable_thinking: false}'."),
        ("--algorithm", str, "NAME", "How tokens are drafted: none, ngram, draft, eagle3, mtp, … [default: ngram]"),
        ("--draft", str, "MODEL", "The draft model or the heads, named like --model."),
        ("--draft-length", int, "K", "Most tokens drafted per step. [default: ngram and suffix 8, others 3]"),
        ("--edition", str, "NAME|PATH", "Which prompts. [default: open]"),
        ("--config", str, "NAME", "Which part of the edition. [default: starter]"),
        ("--categories", str, "A,B,…", f"Only these. {per_protocol.format('all')}"),
        ("--limit-per-category", int, "N", f"Conversations. {per_protocol.format(2)}"),
        ("--max-tokens", int, "N", f"Longest answer. {per_protocol.format(64)}"),
        ("--temperature", float, "T", f"0 is greedy. {per_protocol.format(0)}"),
        ("--concurrency", int, "C", f"Streams kept busy. {per_protocol.format(1)}"),
        ("--history", str, "own|replay:RUN", "Whose answers later turns carry. [default: own, the model's]"),
    ]
    options = [click.option(name, type=kind, metavar=metavar, help=text) for name, kind, metavar, text in settings]
    options += [
        click.option(
            "--seed", "seeds", type=int, multiple=True, metavar="N", help=f"Repeatable. {per_protocol.format(0)}"
        ),
        click.option("--baseline/--no-baseline", default=None, help="Run again without speculation. [default: yes]"),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@cli.command(short_help="Measure a model with and without speculation.", epilog=RUN_EXAMPLES)
@_config_options
@click.option("--protocol", metavar="NAME", help="quick, qualitative-v1, qualitative-t1-v1. [default: quick]")
@click.option("--file", type=click.Path(path_type=Path), metavar="YAML", help="Settings; flags win over it.")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Any setting, such as engine.threads=2.")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="The run folder. [default: runs/<time>-…]")
@click.option("--resume", is_flag=True, help="Finish the run in --out; it keeps what is done.")
def run(
    protocol: str | None, file: Path | None, sets: tuple[str, ...], out: Path | None, resume: bool, **flags: Any
) -> None:
    """Measure, and write a run folder with every turn, the scores and what they depend on."""
    from rich.console import Console

    from speed_bench import config as settings
    from speed_bench.engines import identity
    from speed_bench.report.terminal import LiveProgress, print_scores
    from speed_bench.runner import benchmark, journal

    if resume and out is None:
        raise click.UsageError("--resume needs --out DIR: the run folder to finish")
    given = {ENGINE_FLAGS.get(key, key): value for key, value in flags.items() if value is not None and value != ()}
    recorded = None
    if resume and out is not None and journal.is_run(out):
        before = journal.read_run_file(out)
        recorded = (before.config, before.protocol)
    config, rules = settings.resolve(
        given, file=file, sets=sets, protocol=protocol, recorded=recorded, detect=identity.detect
    )
    folder = out or _new_folder(f"{config.engine.name}-{config.algorithm}")
    console = Console()
    console.print(
        f"{config.engine.name} · {config.model or config.engine.url} · {config.algorithm}"
        f"{f' (draft length {config.draft_length})' if config.draft_length else ''} · "
        f"{config.edition}/{config.config} · protocol {rules.name}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    benchmark.run(config, rules, folder, resume=resume, observer=LiveProgress(console))
    scores = _score(folder)
    simulated = config.engine.name == "simulator"
    print_scores(scores, folder, journal.read_run_file(folder).provenance.model, console, simulated=simulated)
    _refuse_other_than_asked(scores, config.algorithm)


@cli.command(short_help="Compute the scores of a run folder again.")
@click.argument("run_folder", type=click.Path(path_type=Path), metavar="RUN")
def score(run_folder: Path) -> None:
    """Compute the scores of a run folder again, from its journal alone.

    \b
    Example:
      speed-bench score runs/my-run
    """
    from rich.console import Console

    from speed_bench.report.terminal import print_scores
    from speed_bench.runner.journal import read_run_file

    run = read_run_file(run_folder)
    simulated = run.config.engine.name == "simulator"
    scores = _score(run_folder)
    print_scores(scores, run_folder, run.provenance.model, Console(), simulated=simulated)
    _refuse_other_than_asked(scores, run.config.algorithm)


@cli.command(short_help="List what can be measured here, and how to install it.")
@click.option("--markdown", is_flag=True, help="How each engine spells each algorithm, as a table of the docs.")
def engines(markdown: bool) -> None:
    """List the engines: which are installed here, which algorithms each has, how to install them.

    \b
    Examples:
      speed-bench engines
      speed-bench engines --markdown      algorithm by engine, and how each pair was checked
    """
    from rich.console import Console

    from speed_bench.report import engines as listing
    from speed_bench.runner.preparation import installed

    if markdown:
        click.echo("\n".join(listing.markdown()))
        return
    Console().print(listing.table({name: installed(speaks) for name, speaks in listing.dialects().items()}))


@cli.command(short_help="Make evaluate.load find the metrics by name, offline, from any directory.")
@click.option("--check", is_flag=True, help="Show what is installed; exit code 1 if a module is missing or outdated.")
@click.option("--remove", "removing", is_flag=True, help="Take the modules out of the cache again.")
@click.option("--force", is_flag=True, help="Replace or remove edited modules too, which are kept otherwise.")
def install(check: bool, removing: bool, force: bool) -> None:
    """Put the metric modules where `evaluate` looks up bare names: the cache of the Hugging Face libraries.

    \b
    Examples:
      speed-bench install              then: evaluate.load("speed_bench_acceptance")
      speed-bench install --check      exit code 1 if a module is missing or outdated
      speed-bench install --remove
    """
    import os

    from speed_bench import install as cache
    from speed_bench.metric_files import metric_modules
    from speed_bench.report import installed

    if check and (removing or force):
        raise click.UsageError("--check cannot be given with --remove or --force: it looks, they change")
    modules, folder = metric_modules(), cache.modules_folder(os.environ)
    if check:
        places = [cache.look(module, folder) for module in modules]
        for line in (*installed.table(places), installed.data_sentence()):
            click.echo(line)
        sys.exit(0 if all(place.current for place in places) else 1)
    changes = (cache.remove if removing else cache.install)(modules, folder, force=force)
    advice = () if removing else (*installed.usage(modules, folder), installed.data_sentence())
    for line in (*installed.summary(changes, folder), *advice):
        click.echo(line)
    if any(change == "kept" for _, change in changes):
        sys.exit(1)


@cli.group(short_help="Put the metrics on the Hugging Face Hub.")
def publish() -> None:
    """Put what others use on the Hugging Face Hub, with the token of HF_TOKEN or of `hf auth login`."""


@publish.command(name="metrics", short_help='One Space per metric, so that evaluate.load("ORG/…") works for everyone.')
@click.option("--repo", "org", required=True, metavar="ORG", help="The organization or user that owns the Spaces.")
@click.option("--dry-run", is_flag=True, help="List what would go where; needs no token and no network.")
def publish_metrics(org: str, dry_run: bool) -> None:
    """Make or update one Space per metric module. A Space that holds the same files is left as it is.

    \b
    Examples:
      speed-bench publish metrics --repo my-org --dry-run
      speed-bench publish metrics --repo my-org
    """
    from speed_bench import publish as hub
    from speed_bench.metric_files import metric_modules

    spaces = hub.spaces(org, metric_modules())
    if dry_run:
        for line in hub.listing(spaces):
            click.echo(line)
        return
    for space, change in hub.publish(spaces):
        click.echo(f"{change:<9}  {space.url}")
    click.echo(f'use: evaluate.load("{spaces[0].repo_id}")')


@cli.command(short_help="How many conversations it takes to tell two drafters apart.")
@click.argument("runs", nargs=-1, type=click.Path(path_type=Path), metavar="[RUN [OTHER]]")
@click.option("--sd", type=float, metavar="SD", help="Instead of runs: sd of the paired difference in a category.")
@click.option(
    "--difference", "differences", type=float, multiple=True, metavar="D", help="Repeatable. [default: 0.02, 0.05, 0.1]"
)
@click.option("--power", default=0.8, show_default=True, metavar="P", help="Probability of finding the difference.")
@click.option("--confidence", default=0.95, show_default=True, metavar="C", help="Level of the interval.")
def power(
    runs: tuple[Path, ...], sd: float | None, differences: tuple[float, ...], power: float, confidence: float
) -> None:
    """How many conversations it takes to tell two drafters apart by their acceptance length.

    From two runs of the same prompts: what the paired differences between them spread. From one run: what
    its own lengths spread, for another drafter whose lengths correlate with them by 0, 0.5 or 0.9.

    \b
    Examples:
      speed-bench power runs/eagle3 runs/ngram
      speed-bench power runs/eagle3 --difference 0.03
      speed-bench power --sd 0.3 --power 0.9
    """
    from rich.console import Console

    from speed_bench.power import Spread, spreads_of
    from speed_bench.report.power import print_power
    from speed_bench.runner.journal import read_records

    if (sd is None) == (not runs) or len(runs) > 2:
        raise click.UsageError("give one run folder, two of the same prompts, or --sd instead of them")
    for name, value in (("--power", power), ("--confidence", confidence)):
        if not 0 < value < 1:
            raise click.UsageError(f"{name} {value:g}: a probability lies between 0 and 1")
    for name, value in (*(("--difference", each) for each in differences), *([("--sd", sd)] if sd is not None else [])):
        if not 1e-6 <= value <= 1e6:
            raise click.UsageError(f"{name} {value:g}: it is a number of tokens per step above 0, from 1e-6 to 1e6")
    if power <= 1 - confidence:
        raise click.UsageError(
            f"--power {power:g} at --confidence {confidence:g}: two equal drafters differ that often"
        )
    print_power(
        [Spread("as given", sd)] if sd is not None else spreads_of([read_records(run) for run in runs]),
        differences or (0.02, 0.05, 0.1),
        power=power,
        confidence_level=confidence,
        console=Console(),
    )


def _new_folder(name: str) -> Path:
    stem = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{name}"
    taken = [stem, *(f"{stem}-{number}" for number in range(2, 100))]
    return next(path for path in (Path("runs") / each for each in taken) if not path.exists())


def _score(folder: Path) -> "Scores":
    from speed_bench.reconciliation import reconcile
    from speed_bench.runner.benchmark import BASELINE
    from speed_bench.runner.journal import is_run, read_records, read_run_file, write_whole
    from speed_bench.scoring import score as score_records

    records, config, baseline = read_records(folder), read_run_file(folder).config, None
    if config.baseline and is_run(folder / BASELINE):
        if changed := config.without_speculation().difference(read_run_file(folder / BASELINE).config):
            raise RunFolderError(f"{folder / BASELINE} is no baseline of this run: it differs in {', '.join(changed)}")
        baseline = read_records(folder / BASELINE)
    speculated = _drafted(reconcile(baseline)) if baseline else None
    scores = score_records(records, None if speculated else baseline)
    write_whole(folder / "scores.json", scores.model_dump(mode="json"))
    if speculated:
        raise EngineError(
            f"the baseline drafted ({speculated}), so it is none: its server speculates, or a setting of "
            f"engine.extra makes it; {folder / 'scores.json'} is without it"
        )
    return scores


def _drafted(found: "Reconciliation") -> str | None:
    """What says that something was drafted; None where nothing does."""
    for side in (found.turns, found.engine):
        if side.drafted:
            return f"{side.drafted} tokens"
        if side.verify_steps:
            return f"in {side.verify_steps} verification steps"
    return None


def _refuse_other_than_asked(scores: "Scores", algorithm: str) -> None:
    """A run that asked for speculation and had none is not a result, nor is the opposite."""
    if algorithm == "none":
        if drafted := _drafted(scores.reconciliation):
            raise EngineError(f"no speculation was asked for (algorithm 'none'), but the engine drafted ({drafted})")
        return
    turns, engine = scores.reconciliation.turns, scores.reconciliation.engine
    said = (turns.drafted, turns.verify_steps, engine.drafted, engine.verify_steps)
    first = next((num for num in said if num is not None), None)
    length = scores.acceptance.overall.acceptance_length.value
    if first is None and (length is None or length <= 1):
        click.echo("whether anything was drafted cannot be told: neither the turns nor the engine say", err=True)
    if first == 0:
        raise EngineError(
            f"speculation was asked for (algorithm '{algorithm}'), but not one token was drafted in {scores.num_turns} "
            "turns: either the engine ran without it, or the answers are too short for it (raise --max-tokens)"
        )


def main() -> None:
    """Run a verb; an error for the user is one sentence and exit code 2, any other keeps its traceback."""
    try:
        cli(standalone_mode=False)
    except click.exceptions.Abort as aborted:  # what click makes of Ctrl-C
        _say("stopped", aborted.__cause__)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except SpeedBenchError as error:
        _say(f"error: {error}", error)
        sys.exit(2)


def _say(sentence: str, error: BaseException | None) -> None:
    """What went wrong, then what is kept and how to go on."""
    for line in (sentence, *getattr(error, "__notes__", ())):
        click.echo(line, err=True)


if __name__ == "__main__":
    main()
