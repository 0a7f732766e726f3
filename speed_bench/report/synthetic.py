"""What random prompts show beside what real ones show, and by how much they overstate it."""

from collections.abc import Mapping

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from speed_bench.config import Protocol, RunConfig
from speed_bench.overstatement import Compared, Measured
from speed_bench.provenance import ModelFacts
from speed_bench.report.serving import NONE
from speed_bench.report.terminal import SMALL_MODEL_BYTES
from speed_bench.scores import Cell

_ROWS = {
    "output_tps": ("Output TPS", 1.0, 1),
    "steady_output_tps": ("steady Output TPS", 1.0, 1),
    "user_tps": ("User TPS, mean", 1.0, 1),
    "ttft_s": ("TTFT, mean ms", 1e3, 1),
    "acceptance_length": ("acceptance length", 1.0, 2),
    "speedup_output_tps": ("speed-up, Output TPS", 1.0, 2),
    "isl": ("ISL, mean tokens", 1.0, 0),
    "osl": ("OSL, mean tokens", 1.0, 0),
}
"""What a number is called, what it is multiplied by, and its digits."""
_CLAIMS = {
    "output_tps": "Output TPS",
    "acceptance_length": "the acceptance length",
    "speedup_output_tps": "the speed-up over the baseline",
}
"""The numbers that the last sentences are about."""
MUCH = 1.1
"""Prompts that differ in length by more are not the same load."""


def print_introduction(
    config: RunConfig, rules: Protocol, random_edition: str, num_prompts: int, console: Console
) -> None:
    """What will be compared."""
    drafts = f"{config.algorithm}{f' (draft length {config.draft_length})' if config.draft_length else ''}"
    prompts = f"{num_prompts} prompts of {config.edition}/{config.config}, and as many of {random_edition}"
    console.print(
        f"{config.engine.name} · {config.model or config.engine.url} · {drafts} · concurrency {config.concurrency} · "
        f"protocol {rules.name} · {prompts}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def print_lengths(real: float, random: float, num_tokens: int, console: Console) -> None:
    """Said before anything is measured: that prompts of equal length in o200k_base tokens are not so for a model."""
    if 1 / MUCH <= random / real <= MUCH:
        return
    alike = max(1, round(num_tokens * real / random))
    console.print(
        f"[yellow]for this model's tokenizer random prompts have {random:,.0f} tokens and real ones {real:,.0f}, so "
        f"they cost another prefill and another context; --random-tokens {alike} makes them alike[/]",
        highlight=False,
        soft_wrap=True,
    )


def print_overstatement(
    numbers: Mapping[str, Compared],
    real: Measured,
    random: Measured,
    config: RunConfig,
    model: ModelFacts,
    random_edition: str,
    console: Console,
) -> None:
    """The table, the sentences that it comes to, and what they rest on."""
    console.print(_table(numbers, real, random, config, random_edition))
    lines = [_sentence(label, numbers[name].overstated) for name, label in _CLAIMS.items() if name in numbers]
    lines += [*_missing(numbers), *_failed(real, random), *_lengths_of_answers(numbers, config), _method(real)]
    if config.engine.name == "simulator":
        lines.append("note: simulated: nothing here is a result of any model or engine")
    elif model.num_bytes is not None and model.num_bytes < SMALL_MODEL_BYTES:
        lines.append("note: on a model this small speculation rarely pays; read acceptance here, not throughput")
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)


def _table(
    numbers: Mapping[str, Compared], real: Measured, random: Measured, config: RunConfig, random_edition: str
) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0))
    table.add_column(f"\n{real.scores.bootstrap.confidence_level:.0%} interval below", no_wrap=True)
    for heading in (f"real\n{config.config}", f"random\n{random_edition}", "random\nagainst real"):
        table.add_column(escape(heading), justify="right", no_wrap=True)
    for name, found in _shown(numbers).items():
        label, factor, digits = _ROWS[name]
        cells = [_spelled(each, f",.{digits}f", factor) for each in (found.real, found.random)]
        table.add_row(label, *map(escape, (*cells, _spelled(found.overstated, "+.1f", 100.0, "%"))))
    table.add_section()
    table.add_row("conversations", *(str(each.scores.num_conversations) for each in (real, random)), "")
    return table


def _shown(numbers: Mapping[str, Compared]) -> dict[str, Compared]:
    """In their order, but for those that neither run has."""
    rows = {name: numbers[name] for name in _ROWS if name in numbers}
    return {name: found for name, found in rows.items() if (found.real.value, found.random.value) != (None, None)}


def _spelled(cell: Cell, form: str, factor: float, unit: str = "") -> str:
    """The value, and its interval on a line of its own.

    >>> _spelled(Cell.of(0.25, 9), "+.1f", 100.0, "%")
    '+25.0%'
    """
    if cell.value is None:
        return NONE
    value = f"{cell.value * factor:{form}}{unit}"
    if cell.low is None or cell.high is None:
        return value
    return f"{value}\n[{cell.low * factor:{form}}, {cell.high * factor:{form}}]"


def _sentence(label: str, cell: Cell) -> str:
    """What one number comes to: over, under, or not to be told apart."""
    if cell.value is None:
        return f"[yellow]by how much random prompts overstate {label} is not known: {escape(str(cell.reason))}[/]"
    verb, sign = ("overstate", 1) if cell.value >= 0 else ("understate", -1)
    said = f"random prompts {verb} {label} by {abs(cell.value):.1%}"
    if cell.low is None or cell.high is None:
        return f"[bold]{said}[/] (no interval: too few conversations)"
    bounds = sorted((sign * cell.low, sign * cell.high))
    said = f"[bold]{said} {escape(f'[{bounds[0]:.1%}, {bounds[1]:.1%}]')}[/]"
    return f"{said}, which may be chance" if cell.low <= 0 <= cell.high else said


def _missing(numbers: Mapping[str, Compared]) -> list[str]:
    """Why a number that is in the table, and in no sentence, has no value."""
    unsaid = {name: found for name, found in _shown(numbers).items() if name not in _CLAIMS}
    return [
        f"{_ROWS[name][0]}: {NONE} ({escape(str(found.overstated.reason))})"
        for name, found in unsaid.items()
        if found.overstated.value is None
    ]


def _failed(real: Measured, random: Measured) -> list[str]:
    return [
        f"[bold red]{each.scores.num_failures} turns failed on {name} prompts[/]"
        for name, each in (("real", real), ("random", random))
        if each.scores.num_failures
    ]


def _lengths_of_answers(numbers: Mapping[str, Compared], config: RunConfig) -> list[str]:
    """Answers end by themselves, and otherwise on noise: part of what a throughput differs in."""
    real, random = numbers["osl"].real.value, numbers["osl"].random.value
    if config.ignore_eos or real is None or random is None:
        return []
    return [
        f"answers differ too: {real:,.0f} tokens on real prompts, {random:,.0f} on random ones, as the model says "
        "where they end; --set ignore_eos=true makes all of them --max-tokens long"
    ]


def _method(real: Measured) -> str:
    level = f"{real.scores.bootstrap.confidence_level:.0%}"
    return (
        f"{level} intervals: the prompts of the two are not paired, so conversations are drawn from each side by itself"
    )
