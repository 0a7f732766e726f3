"""How a run was served, for people: latencies, what an SLO came to, energy, and whether our client was on time."""

from collections.abc import Iterator
from typing import Final

from rich import box
from rich.markup import escape
from rich.table import Table

from speed_bench.scores import Cell, ClientScores, Distribution, Goodput, Scores, Serving, SloScores

NONE: Final = "–"
GIB: Final = 2**30
REASONS_SHOWN: Final = 1
_ROWS: Final = (
    ("TTFT ms", "ttft_s", 1e3),
    ("ITL ms", "itl_s", 1e3),
    ("TPOT ms", "tpot_s", 1e3),
    ("E2E s", "e2e_s", 1.0),
    ("wait ms", "client_wait_s", 1e3),
    ("User TPS", "user_tps", 1.0),
    ("ISL tokens", "isl", 1.0),
    ("OSL tokens", "osl", 1.0),
)


def number(cell: Cell, digits: int = 2, factor: float = 1.0) -> str:
    """A cell's value, or a dash: undefined is not zero."""
    return NONE if cell.value is None else f"{cell.value * factor:.{digits}f}"


def interval(cell: Cell, digits: int = 2) -> str:
    """The value with its bounds, where it has them, for a console that reads markup."""
    if cell.value is None or cell.low is None or cell.high is None:
        return number(cell, digits)
    return f"{cell.value:.{digits}f} \\[{cell.low:.{digits}f}, {cell.high:.{digits}f}]"


def is_loaded(scores: Scores) -> bool:
    """Whether requests met each other, or the clock: else what a table of latencies says is in the other one."""
    return scores.load is not None and (scores.load.concurrency > 1 or scores.load.is_open)


def latency_table(serving: Serving) -> Table:
    """Times and lengths of turns: means and percentiles over all turns, and over those of the steady span."""
    steady = serving.steady
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0))
    table.add_column("per turn", no_wrap=True)
    for heading in ("mean", "p50", "p90", "p95", "p99", *(("steady p50", "p99") if steady else ()), "n"):
        table.add_column(f" {heading}", justify="right", no_wrap=True)
    for label, name, factor in _ROWS:
        found: Distribution = getattr(serving, name)
        if found.value is None and name == "client_wait_s":
            continue
        values = [found.value, found.p50, found.p90, found.p95, found.p99]
        if steady:
            part: Distribution | None = getattr(steady, name, None)
            values += [part.p50 if part else None, part.p99 if part else None]
        table.add_row(label, *(_short(value, factor) for value in values), f" {found.n}")
    return table


def _short(value: float | None, factor: float) -> str:
    """Two digits at least, about four at most.

    >>> _short(0.01234, 1e3), _short(0.5, 1e3), _short(1234.5, 1.0), _short(0.0141, 1.0), _short(None, 1.0)
    (' 12.3', ' 500', ' 1234', ' 0.014', ' –')
    """
    if value is None:
        return f" {NONE}"
    scaled = value * factor
    size = abs(scaled)
    digits = 3 if size < 0.1 else 2 if size < 10 else 1 if size < 100 else 0
    return f" {scaled:.{digits}f}"


def serving_lines(scores: Scores) -> Iterator[str]:
    """What is not in the table: the steady rate, the rate per GPU, what came of the SLO."""
    serving = scores.serving
    if is_loaded(scores):
        steady = serving.steady_output_tps
        if serving.steady:
            during = f"{serving.steady.span_s:.0f} s, {serving.steady.num_turns} turns"
            yield f"Output TPS while the load was steady ({during}): {interval(steady, 1)}"
        else:
            yield f"no steady state: {steady.reason}"
    if serving.output_tps_per_gpu.value is not None and scores.load:
        yield (
            f"Output TPS per GPU ({scores.load.num_gpus}): {interval(serving.output_tps_per_gpu, 1)}, "
            f"steady {number(serving.steady_output_tps_per_gpu, 1)}"
        )
    if serving.goodput:
        yield _goodput_line(serving.goodput, "goodput")
        yield from map(_term, serving.goodput.terms)
    if serving.steady and serving.steady.goodput:
        yield _goodput_line(serving.steady.goodput, "goodput while the load was steady")


def _goodput_line(goodput: Goodput, name: str) -> str:
    rate, share = interval(goodput.goodput_rps), goodput.goodput_share
    return f"{name}: {rate} requests/s kept every limit ({_percent(share)} of {share.n})"


def _term(term: SloScores) -> str:
    value, limit = term.value_s.value, f"limit {term.limit_s:g} s"
    shown = f"is {value:.3g} s" if value is not None else f"is not reached ({term.value_s.reason})"
    text = f"  {term.term} p{term.percentile:g} {shown}, {limit}, kept by {_percent(term.share)}"
    return f"{text}: met" if term.met else f"[yellow]{text}: not met[/]"


def _percent(share: Cell) -> str:
    return NONE if share.value is None else f"{share.value:.1%}"


def machine_lines(serving: Serving) -> Iterator[str]:
    """Energy and memory where the machine says, clocks where there are several, our client where it was late."""
    if energy := _energy(serving):
        yield energy
    if serving.clock_error_s is not None:
        yield (
            f"clients on several machines: their clocks agree within {1e3 * serving.clock_error_s:.1f} ms, "
            "which the span of Output TPS carries; times of a single turn are of one clock"
        )
    if serving.client and serving.client.limited:
        yield client_line(serving.client)


def _energy(serving: Serving) -> str | None:
    parts = [
        f"{cell.value:.3g} J per output token ({what})"
        for cell, what in ((serving.energy_j_per_token, "GPUs"), (serving.cpu_energy_j_per_token, "CPU packages"))
        if cell.value is not None
    ]
    if serving.peak_gpu_memory_bytes is not None:
        parts.append(f"at most {serving.peak_gpu_memory_bytes / GIB:.1f} GiB of GPU memory in use")
    return ", ".join(parts) or None


def client_line(client: ClientScores) -> str:
    """What our client could have moved, by how much, and what to do about it."""
    reasons = client.reasons
    more = f", and {len(reasons) - REASONS_SHOWN} more percentiles" if len(reasons) > REASONS_SHOWN else ""
    return (
        f"[yellow]client_limited: {escape('; '.join(reasons[:REASONS_SHOWN]))}{more}: such percentiles are not the "
        "engine's alone; use more --workers, fewer streams or another machine for the client[/]"
    )
