"""The flags of `speed-bench run`: what is measured, on which prompts, under which load."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

OTHER_KEYS = {
    "url": "engine.url",
    "python": "engine.python",
    "launch": "engine.launch",
    "ramp_up": "ramp_up_s",
    "warmup": "warmup_s",
    "think_time": "think_time_s",
    "max_duration": "max_duration_s",
    "gpus": "num_gpus",
}
"""Flags whose setting has another name."""
_PER_PROTOCOL = "[default: per protocol, quick: {}]"
_WHAT: tuple[tuple[str, type, str, str], ...] = (
    ("--engine", str, "NAME", "What is measured; see `speed-bench engines`. [default: llama-cpp, or what --url is]"),
    ("--url", str, "URL", "Measure the server that runs there; nothing is started or stopped."),
    ("--python", str, "PATH", "The interpreter of the environment that the engine is installed in."),
    ("--launch", str, "COMMAND", "Starts the engine elsewhere: a command in which {command} is the engine's own."),
    ("--model", str, "MODEL", "A GGUF file, hf:org/repo/file.gguf; for GPU engines a folder or org/repo[@revision]."),
    ("--tokenizer", str, "NAME", "A Hugging Face tokenizer. [default: the model's own]"),
    ("--chat-template-args", str, "JSON", "What the chat template is given, such as '{enable_thinking: false}'."),
    ("--algorithm", str, "NAME", "How tokens are drafted: none, ngram, draft, eagle3, mtp, … [default: ngram]"),
    ("--draft", str, "MODEL", "The draft model or the heads, named like --model."),
    ("--draft-length", int, "K", "Most tokens drafted per step. [default: ngram and suffix 8, others 3]"),
)
_PROMPTS: tuple[tuple[str, type, str, str], ...] = (
    ("--edition", str, "NAME|PATH", "Which prompts, or random:<tokens>. [default: open]"),
    ("--config", str, "NAME", "Which part of the edition. [default: starter]"),
    ("--categories", str, "A,B,…", f"Only these. {_PER_PROTOCOL.format('all')}"),
    ("--limit-per-category", int, "N", f"Conversations of each category. {_PER_PROTOCOL.format(2)}"),
    ("--max-tokens", int, "N", f"Longest answer. {_PER_PROTOCOL.format(64)}"),
    ("--temperature", float, "T", f"0 is greedy. {_PER_PROTOCOL.format(0)}"),
    ("--history", str, "own|replay:RUN", "Whose answers later turns carry. [default: own, the model's]"),
)
_LOAD: tuple[tuple[str, type, str, str], ...] = (
    ("--num-prompts", int, "N", "Conversations in all, equally many of every category; not with --limit-per-category."),
    ("--arrivals", str, "KIND", "closed, or by the clock: constant, poisson, gamma, trace. [default: closed]"),
    ("--rate", float, "N", "By the clock: conversations per second."),
    ("--burstiness", float, "B", "Of gamma arrivals: 1 is Poisson, less comes in bursts. [default: 1]"),
    ("--trace", str, "FILE", "Of trace arrivals: the times at which conversations begin."),
    ("--ramp-up", float, "S", "Seconds in which streams begin, or the rate grows. [default: 0]"),
    ("--warmup", float, "S", "By the clock: the first seconds, which are in no steady number. [default: 0]"),
    ("--think-time", float, "S", "Seconds between an answer and the next turn. [default: 0]"),
    ("--max-duration", float, "S", "Seconds after which no turn begins any more. [default: none]"),
    ("--gpus", int, "N", "GPUs to divide Output TPS by. [default: the engine's parallel sizes]"),
    ("--workers", int, "N", "Processes of the client. [default: 1 per 256 streams, at most 1 per 2 cores]"),
)


def _options(settings: tuple[tuple[str, type, str, str], ...]) -> list[Callable[[F], F]]:
    return [click.option(name, type=kind, metavar=metavar, help=text) for name, kind, metavar, text in settings]


def config_options(command: F, *, several: bool = True) -> F:
    """The settings that everybody sets. None means: as the protocol, or the file, says.

    `several`: whether more than one concurrency may be given.
    """
    metavar, each = ("C[,C,…]", "; of several a run each") if several else ("C", "")
    concurrency = click.option(
        "--concurrency", metavar=metavar, help=f"Streams kept busy{each}. {_PER_PROTOCOL.format(1)}"
    )
    seeds = click.option(
        "--seed", "seeds", type=int, multiple=True, metavar="N", help=f"Repeatable. {_PER_PROTOCOL.format(0)}"
    )
    repeat = click.option(
        "--repeat-prompts", is_flag=True, default=None, help="With --num-prompts: more than there are, from the first."
    )
    slo = click.option(
        "--slo", multiple=True, metavar="TERM:pP=S", help="What goodput counts, as ttft_s:p95=0.5. Repeatable."
    )
    baseline = click.option(
        "--baseline/--no-baseline", default=None, help="Run again without speculation. [default: yes]"
    )
    options = [*_options(_WHAT), *_options(_PROMPTS), seeds, concurrency, *_options(_LOAD), repeat, slo, baseline]
    for option in reversed(options):
        command = option(command)
    return command


def settings_given(flags: dict[str, Any]) -> dict[str, Any]:
    """The settings that were given as flags, by dotted key."""
    return {OTHER_KEYS.get(key, key): value for key, value in flags.items() if value is not None and value != ()}
