"""The settings of a load: how many at once, or when, and what service is asked for."""

import re
from typing import Any, Final, Literal, NamedTuple

from pydantic import Field, field_validator

from speed_bench.engine_config import Settings
from speed_bench.errors import ConfigError
from speed_bench.serving import SLO_TERMS

_SLO = re.compile(r"(?P<term>\w+):p(?P<percentile>\d+(\.\d+)?)=(?P<limit>\S+)")

LONGEST_S: Final = 1e7
"""About four months: no load takes longer, nor is anything in it further apart."""
MOST_PROMPTS: Final = 1_000_000
"""Conversations of a run, the same ones over and over included."""

Arrivals = Literal["closed", "constant", "poisson", "gamma", "trace"]


class SloTerm(NamedTuple):
    """One demand of a service level objective: so many in a hundred requests take at most so long."""

    term: str
    """One of `SLO_TERMS`."""
    percentile: float
    """Above 0, at most 100."""
    limit_s: float


def slo_term(text: str) -> SloTerm:
    """Read `TERM:pPERCENTILE=SECONDS`. Raises ConfigError.

    >>> slo_term("ttft_s:p95=0.5")
    SloTerm(term='ttft_s', percentile=95.0, limit_s=0.5)
    """
    form = "write it as TERM:pPERCENTILE=SECONDS, such as ttft_s:p95=0.5"
    match = _SLO.fullmatch(text.strip())
    if not match:
        missing = " has no percentile" if re.fullmatch(r"\w+(:p?)?=\S+", text.strip()) else ""
        raise ConfigError(f"--slo '{text}'{missing}; {form}")
    term, percentile = match["term"], float(match["percentile"])
    if term not in SLO_TERMS:
        raise ConfigError(f"--slo '{text}': '{term}' is none of {', '.join(SLO_TERMS)}")
    try:
        limit_s = float(match["limit"])
    except ValueError:
        limit_s = float("nan")
    if not 0 < limit_s < float("inf"):
        raise ConfigError(f"--slo '{text}': '{match['limit']}' is no positive number of seconds; {form}")
    if not 0 < percentile <= 100:
        raise ConfigError(f"--slo '{text}': a percentile lies above 0 and is at most 100")
    return SloTerm(term, percentile, limit_s)


class LoadConfig(Settings):
    """How requests come: in a closed loop, as many at once as there are streams; or by the clock, in an open one."""

    concurrency: int = Field(ge=1, le=4096)
    """Streams. In a closed loop they are kept busy; in an open one no more conversations are under way at once, and one
    that is due meanwhile waits: its waiting is part of its latency."""
    arrivals: Arrivals = "closed"
    """`closed`: a stream that ends a conversation begins the next. Otherwise conversations begin by the clock:
    `constant`ly, as a `poisson` process, with `gamma` distributed gaps, or at the times of a `trace`."""
    rate: float | None = Field(default=None, gt=0)
    """Conversations per second of an open loop; not for a trace."""
    burstiness: float = Field(default=1.0, gt=0)
    """The shape of the gaps of `gamma`: 1 is Poisson, less comes in bursts, more is steadier. The squared
    coefficient of variation of the gaps is 1 / burstiness."""
    trace: str | None = None
    """The file with the arrival times of `trace`: seconds, one a line, or another of the forms of `read_trace`."""
    ramp_up_s: float = Field(default=0.0, ge=0, le=LONGEST_S)
    """Closed loop: the streams begin evenly spread over it. Open loop: the rate grows to its value over it."""
    warmup_s: float = Field(default=0.0, ge=0, le=LONGEST_S)
    """Open loop: what is scheduled before this is served and recorded, but is not in steady numbers."""
    think_time_s: float = Field(default=0.0, ge=0, le=LONGEST_S)
    """Between an answer and the next turn of its conversation."""
    max_duration_s: float | None = Field(default=None, gt=0, le=LONGEST_S)
    """After this no turn begins any more; those under way are finished. None: all conversations are run."""
    num_prompts: int | None = Field(default=None, ge=1, le=MOST_PROMPTS)
    """Conversations, the same number of every category; None: all."""
    prompts_per_stream: int | None = Field(default=None, ge=1)
    """Instead of `num_prompts`: so many per stream, at least 256, and no more than there are."""
    repeat_prompts: bool = False
    """Whether `num_prompts` may exceed the prompts that there are: then they are run again, from the first."""
    slo: tuple[str, ...] = ()
    """What goodput counts, such as `ttft_s:p95=0.5`: see `slo_term`."""
    num_gpus: int | None = Field(default=None, ge=1)
    """What Output TPS per GPU divides by; None: as the engine's parallel sizes say, where it is started by the run."""
    workers: int | None = Field(default=None, ge=1, le=256)
    """Processes of our client that share the streams; None: one per 256 streams, at most one per two cores."""

    @field_validator("slo", mode="before")
    @classmethod
    def _one_demand_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("slo")
    @classmethod
    def _readable(cls, slo: tuple[str, ...]) -> tuple[str, ...]:
        terms = [_checked(text) for text in slo]
        if len({term.term for term in terms}) < len(terms):
            raise ValueError(f"--slo names a time twice: {', '.join(slo)}")
        return slo

    @property
    def slo_terms(self) -> tuple[SloTerm, ...]:
        """The demands of `slo`."""
        return tuple(map(slo_term, self.slo))


def _checked(text: str) -> SloTerm:
    try:
        return slo_term(text)
    except ConfigError as error:
        raise ValueError(str(error)) from error


def check_load(load: LoadConfig) -> None:
    """Raise ValueError for settings that contradict each other."""
    if load.arrivals == "closed":
        if load.rate is not None:
            raise ValueError("--rate is of an open loop; say which: --arrivals constant, poisson or gamma")
        if load.trace is not None:
            raise ValueError("--trace is of an open loop; say so: --arrivals trace")
        if load.warmup_s:
            raise ValueError("--warmup is of an open loop; in a closed one the steady span begins by itself")
    elif load.arrivals == "trace":
        if load.trace is None:
            raise ValueError("--arrivals trace needs the file with the times: --trace FILE")
        if load.rate is not None or load.ramp_up_s:
            raise ValueError("a trace says when conversations begin; leave out --rate and --ramp-up")
    else:
        if load.rate is None:
            raise ValueError(f"--arrivals {load.arrivals} needs the conversations per second: --rate N")
        if load.rate < 1 / LONGEST_S:
            raise ValueError(f"--rate {load.rate:g}: the next conversation would begin in more than {LONGEST_S:,.0f} s")
        if load.trace is not None:
            raise ValueError(f"--trace is read with --arrivals trace, not with {load.arrivals}")
    if load.burstiness != 1.0 and load.arrivals != "gamma":
        raise ValueError("--burstiness is of --arrivals gamma")
    if load.max_duration_s is not None:
        if load.warmup_s >= load.max_duration_s:
            raise ValueError("--warmup is not over before --max-duration is: nothing would be left to measure")
        if load.ramp_up_s > load.max_duration_s:
            raise ValueError("--ramp-up is not over before --max-duration is: the load would never be reached")
    if load.num_prompts is not None and load.prompts_per_stream is not None:
        raise ValueError("num_prompts and prompts_per_stream exclude each other")
    if load.repeat_prompts and load.num_prompts is None:
        raise ValueError("--repeat-prompts says nothing without --num-prompts")
