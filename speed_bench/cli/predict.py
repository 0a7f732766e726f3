"""`speed-bench predict`."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from speed_bench.cli.group import cli
from speed_bench.errors import ConfigError

if TYPE_CHECKING:
    from speed_bench.prediction import Estimate

_UNITS_S = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6}
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_QUANTITY = re.compile(rf"(?P<value>{_NUMBER})\s*(?:(?:±|\+/?-)\s*(?P<half>{_NUMBER}))?\s*(?P<unit>[a-zµ]*)")


@cli.command(short_help="The speed-up to expect at every draft length, and what breaks even.")
@click.argument("runs", nargs=-1, type=click.Path(path_type=Path), metavar="[RUN|SWEEP]…")
@click.option("--acceptance-length", metavar="AL[±H]", help="Tokens per decode step, instead of what runs accepted.")
@click.option("--rates", metavar="R1,R2,…", help="Conditional acceptance rates at positions 1, 2, …, instead of that.")
@click.option("--t-ar", metavar="TIME", help="Step time without speculation, as 19.6ms or 19.6±0.2ms.")
@click.option("--t-sd", metavar="TIME|K=TIME,…", help="Step time with it; of several draft lengths as 1=22ms,3=26ms.")
@click.option("--extend-to", type=click.IntRange(1, 256), metavar="K", help="Draft lengths beyond what was accepted.")
@click.option("--json", "out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="All numbers.")
def predict(
    runs: tuple[Path, ...],
    acceptance_length: str | None,
    rates: str | None,
    t_ar: str | None,
    t_sd: str | None,
    extend_to: int | None,
    out: Path | None,
) -> None:
    """The speed-up to expect: S = t_ar · AL / t_sd, from acceptance and step times.

    From runs, or the cells of sweeps, of one or several draft lengths, each with its baseline or together with runs
    without speculation; or from numbers, which stand in for what runs say.

    \b
    Examples:
      speed-bench predict runs/eagle3-k1 runs/eagle3-k3 runs/eagle3-k7
      speed-bench predict sweeps/llama --json llama.json
      speed-bench predict --acceptance-length 2.12 --t-ar 19.6ms --t-sd 25.9ms
      speed-bench predict --rates 0.7,0.6,0.5 --t-ar 19.6ms --t-sd 1=22.1ms,3=25.9ms
      speed-bench predict runs/eagle3-k3 --t-ar 19.6±0.3ms --t-sd 25.9±0.5ms
    """
    from rich.console import Console

    from speed_bench.draft_lengths import Given
    from speed_bench.draft_lengths import predict as predict_from
    from speed_bench.report.predict import check_target, print_outlooks, write_outlooks
    from speed_bench.run_predictions import Outlook, predict_runs
    from speed_bench.scores import Bootstrap

    given = Given(
        acceptance_length=None if acceptance_length is None else _length(acceptance_length),
        rates=() if rates is None else _rates(rates),
        t_ar_s=None if t_ar is None else _time_s("--t-ar", t_ar),
        t_sd_s={} if t_sd is None else _times_s(t_sd),
    )
    if out is not None:
        check_target(out)
    bootstrap = Bootstrap(confidence_level=0.95, resamples=2000, seed=0)
    if runs:
        outlooks, left_out = predict_runs(runs, given, bootstrap=bootstrap, extend_to=extend_to or 0)
    elif given == Given():
        raise ConfigError(
            "nothing to predict from: name runs or a sweep, or give --acceptance-length or --rates, --t-ar and --t-sd"
        )
    else:
        found = predict_from([], None, given, bootstrap=bootstrap, extend_to=extend_to or 0)
        outlooks, left_out = [Outlook(None, found)], []
    print_outlooks(outlooks, left_out, Console())
    if out is not None:
        write_outlooks(outlooks, left_out, out)


def _quantity(name: str, text: str, units: dict[str, float]) -> "Estimate":
    """A number, with what it may be off by where it says so."""
    from speed_bench.prediction import Estimate

    match = _QUANTITY.fullmatch(text.strip())
    form = "write it as 19.6ms or 19.6±0.2ms" if "ms" in units else "write it as 2.12 or 2.12±0.05"
    if not match:
        raise ConfigError(f"{name} {text}: this is no number; {form}")
    if match["unit"] not in units:
        what = f"'{match['unit']}' is no unit of it" if match["unit"] else "it has no unit"
        raise ConfigError(f"{name} {text}: {what}; {form}")
    scale = units[match["unit"]]
    value = float(match["value"]) * scale
    if match["half"] is None:
        return Estimate(value)
    half = float(match["half"]) * scale
    if not 0 <= half < value:
        raise ConfigError(f"{name} {text}: it may be off by 0 or more, and by less than itself")
    return Estimate(value, value - half, value + half)


def _length(text: str) -> "Estimate":
    return _quantity("--acceptance-length", text, {"": 1.0})


def _time_s(name: str, text: str) -> "Estimate":
    return _quantity(name, text, _UNITS_S)


def _times_s(text: str) -> dict[int | None, "Estimate"]:
    """By draft length."""
    found: dict[int | None, Estimate] = {}
    for part in text.split(","):
        length, equals, time = part.rpartition("=")
        if equals and not (length.strip().isdecimal() and 1 <= int(length) <= 256):
            raise ConfigError(f"--t-sd {part}: '{length}' is no draft length; write it as 3=25.9ms")
        key = int(length) if equals else None
        if key in found:
            raise ConfigError(f"--t-sd {text}: two times for {f'draft length {key}' if key else 'one draft length'}")
        found[key] = _time_s("--t-sd", time)
    if None in found and len(found) > 1:
        raise ConfigError(f"--t-sd {text}: say of each which draft length it is of, as in 1=22.1ms,3=25.9ms")
    return found


def _rates(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(each) for each in text.split(","))
    except ValueError as error:
        raise ConfigError(f"--rates {text}: write it as 0.7,0.6,0.5, one rate a position") from error
