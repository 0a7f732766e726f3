"""What speculation is expected to do with every draft length, from runs of some of them or from given numbers.

A draft length that was run has its own acceptance and its own step time. For another one they are taken from those
that were: acceptance from the steps of the next longer one, cut short (`prediction.acceptance_lengths`), and the step
time from a least-squares line, to which the prefill of others is added for the tokens that a step emits (`step_sums`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from speed_bench import prediction
from speed_bench.errors import ConfigError, UndefinedMetric
from speed_bench.prediction import Estimate, Expected, Line, Prediction, Source, StepTimeLine
from speed_bench.scores import Bootstrap, Cell, Comparison
from speed_bench.statistics import FloatArray
from speed_bench.step_sums import Quantity, Ratios, Run, StepSums


@dataclass(frozen=True, slots=True)
class Given:
    """Numbers that stand in for what runs say, or for runs."""

    acceptance_length: Estimate | None = None
    rates: tuple[float, ...] = ()
    """Conditional acceptance rates at positions 1…K."""
    t_ar_s: Estimate | None = None
    t_sd_s: Mapping[int | None, Estimate] = field(default_factory=dict)
    """By draft length; None: whichever it was."""

    def __post_init__(self) -> None:
        for rate in self.rates:
            if not 0 <= rate <= 1:
                raise ConfigError(f"--rates {rate:g}: a rate lies between 0 and 1")
        if self.acceptance_length and self.rates:
            raise ConfigError("--acceptance-length and --rates both say how much is accepted; leave out one of them")
        times = [("--t-ar", self.t_ar_s), *(("--t-sd", each) for each in self.t_sd_s.values())]
        for name, time in times:
            if time is not None and not time.value > 0:
                raise ConfigError(f"{name} {time.value:g} s: how long a step takes is above 0")
        if self.acceptance_length and not self.acceptance_length.value >= 1:
            raise ConfigError(
                f"--acceptance-length {self.acceptance_length.value:g}: a decode step emits at least one token"
            )
        for length in self.t_sd_s:
            if self.acceptance_length and length and self.acceptance_length.value > length + 1:
                raise ConfigError(
                    f"--acceptance-length {self.acceptance_length.value:g}: a decode step of draft length {length} "
                    f"emits at most {length + 1} tokens"
                )


@dataclass(frozen=True, slots=True)
class Arm:
    """One run with speculation."""

    name: str
    draft_length: int
    sums: StepSums
    comparison: Comparison | None
    """With its baseline, where it has one."""


def predict(
    arms: Sequence[Arm],
    baseline: StepSums | None,
    given: Given,
    *,
    bootstrap: Bootstrap,
    extend_to: int = 0,
    closed_loop: bool = False,
) -> Prediction:
    """What to expect of every draft length that was run and, from two of them on, of every other one up to the longest.

    All arms had one load, which `closed_loop` says is one of streams that are always busy; `baseline` are all runs
    without speculation under it. In another load prompts come by the clock: their prefill takes a share of the time,
    which scales every step alike, so there it is left in the step time. What is `given` stands in for what runs say.
    Draft lengths up to `extend_to` may be longer than what was run: then the last rate goes on. Raises ConfigError
    where something is missing.
    """
    return _Predictor(arms, baseline, given, extend_to, closed_loop, bootstrap).prediction()


@dataclass(frozen=True, slots=True)
class _Point:
    """What is known of the time with one draft length."""

    draft_length: int | None
    decode_s: Quantity
    """Of a step, without the prefill of others where that is told apart."""
    prefill_s: Quantity
    """Of others, per token."""
    source: Source
    ttft_s: Quantity | None = None
    given: Estimate | None = None
    """The step time, where it was given."""
    arm: Arm | None = None
    run: Run | None = None


class _Predictor:
    """What all draft lengths have in common."""

    def __init__(
        self,
        arms: Sequence[Arm],
        baseline: StepSums | None,
        given: Given,
        extend_to: int,
        closed_loop: bool,
        bootstrap: Bootstrap,
    ) -> None:
        self.given, self.extend_to, self.closed_loop = given, extend_to, closed_loop
        self.ratios = Ratios([*(arm.sums for arm in arms), *([baseline] if baseline else [])], bootstrap)
        self.num = min((len(run.sums.names) for run in self.ratios.runs), default=0)
        self.arms = list(zip(arms, self.ratios.runs, strict=False))
        self.baseline = self.ratios.runs[-1] if baseline else None
        self.t_ar = self._t_ar()
        told = [closed_loop and not given.t_sd_s and arm.sums.tells_prefill for arm in arms]
        self.tells_prefill = bool(told) and all(told)
        self.points = self._points()
        self.longest = len(given.rates) or max((arm.draft_length for arm in arms), default=0)
        lengths = [point.draft_length for point in self.points if point.draft_length is not None]
        self.line = Line(tuple(lengths)) if len(set(lengths)) > 1 else None
        if self.line and given.acceptance_length:
            raise ConfigError("--acceptance-length is that of one draft length, and here are several; give --rates")

    def prediction(self) -> Prediction:
        others = [(point, self._takes_time(point)) for point in self._others()]
        points = [*self.points, *(point for point, takes_time in others if takes_time)]
        return Prediction(
            t_ar_s=self.given.t_ar_s or self._estimate(self.t_ar, "step time without speculation"),
            prefill_s_per_token=self.ratios.estimate(self._prefill_s(), self.num) if self.tells_prefill else None,
            line=self._line_found(),
            rows=tuple(self._row(point) for point in sorted(points, key=lambda point: point.draft_length or 0)),
            beyond_line=tuple(
                point.draft_length for point, takes_time in others if point.draft_length and not takes_time
            ),
        )

    def _takes_time(self, point: _Point) -> bool:
        """Whether the line of step times is above 0 there: one that falls is not, far enough out."""
        time = point.given or self._estimate(point.decode_s, "step time")
        return (time.value if time.low is None else time.low) > 0

    def _others(self) -> list[_Point]:
        """Draft lengths that have no step time of their own. One whose acceptance was never seen is left out."""
        if self.line is None:
            if self.extend_to:
                raise ConfigError(f"--extend-to {self.extend_to} needs the step times of two draft lengths, for a line")
            return []
        last = max(self.longest, self.extend_to)
        points = [self._on_line(self.line, k) for k in range(1, last + 1) if k not in self.line.draft_lengths]
        seen = [point for point in points if self.ratios.estimate(self._acceptance(point)[0], self.num)]
        if self.extend_to > self.longest and len(seen) < len(points):
            raise ConfigError(
                f"--extend-to {self.extend_to}: no draft was tried at position {self.longest}, so no rate can go on"
            )
        return seen

    def _t_ar(self) -> Quantity:
        if self.given.t_ar_s:
            return _constant(self.given.t_ar_s.value)
        if self.baseline is None:
            raise ConfigError("there is no step time without speculation; give it, such as --t-ar 19.6ms")
        return self.baseline.ratio("token_s")

    def _points(self) -> list[_Point]:
        if self.given.t_sd_s:
            return [
                _Point(k or self._only_length(), _constant(time.value), _constant(0.0), "given", given=time)
                for k, time in self.given.t_sd_s.items()
            ]
        if not self.arms:
            raise ConfigError("there is no step time with speculation; give it, such as --t-sd 25.9ms")
        return [self._measured(arm, run) for arm, run in self.arms]

    def _only_length(self) -> int | None:
        """The draft length of a step time that was given without one."""
        lengths = {len(self.given.rates)} if self.given.rates else {arm.draft_length for arm, _ in self.arms}
        if len(lengths) > 1:
            raise ConfigError("the runs have several draft lengths; say whose --t-sd is, such as --t-sd 3=25.9ms")
        return min(lengths, default=None)

    def _measured(self, arm: Arm, run: Run) -> _Point:
        step_s, length = run.step_s(), run.acceptance_length()
        prefill_s = run.prefill_s() if self.tells_prefill else _constant(0.0)
        return _Point(
            arm.draft_length,
            lambda rows: step_s(rows) - prefill_s(rows) * length(rows),
            prefill_s,
            "measured",
            ttft_s=run.ratio("ttft_s"),
            arm=arm,
            run=run,
        )

    def _prefill_s(self) -> Quantity:
        """The mean over the runs, per token."""
        each = [point.prefill_s for point in self.points]
        return lambda rows: np.mean([prefill_s(rows) for prefill_s in each], axis=0)

    def _on_line(self, line: Line, draft_length: int) -> _Point:
        weights = line.weights(draft_length)
        waits = [point.ttft_s for point in self.points if point.ttft_s]
        times = [point.given for point in self.points if point.given]
        return _Point(
            draft_length,
            _weighted(weights, [point.decode_s for point in self.points]),
            self._prefill_s(),
            "line" if min(line.draft_lengths) < draft_length < max(line.draft_lengths) else "extrapolated",
            ttft_s=_weighted(weights, waits) if waits else None,
            given=prediction.weighted_sum(weights, times) if times else None,
        )

    def _line_found(self) -> StepTimeLine | None:
        if self.line is None:
            return None
        values = [self._estimate(point.decode_s, "step time").value for point in self.points]
        return StepTimeLine(*self.line.coefficients(values), self.line.residual(values), self.line.draft_lengths)

    def _acceptance(self, point: _Point) -> tuple[Quantity, Source, Run | None]:
        """Acceptance length, where it is from, and the run that it is of."""
        if self.given.acceptance_length:
            return _constant(self.given.acceptance_length.value), "given", point.run
        k = point.draft_length
        if self.given.rates and k is not None:
            joint = prediction.joint_rates(self.given.rates)
            lengths = prediction.acceptance_lengths(joint, [k], self.given.rates[-1])
            return _constant(float(lengths[0])), "given" if k <= self.longest else "extrapolated", point.run
        if point.run:
            return point.run.acceptance_length(), "measured", point.run
        by_length = {arm.draft_length: run for arm, run in reversed(self.arms)}
        if not by_length or k is None:
            raise ConfigError("there is no acceptance; give --acceptance-length, --rates or a run")
        nearest = min((length for length in by_length if length >= k), default=self.longest)
        source: Source = "measured" if k == nearest else "shorter" if k < nearest else "extrapolated"
        return by_length[nearest].acceptance_length(None if k == nearest else k), source, by_length[nearest]

    def _row(self, point: _Point) -> Expected:
        length, source, run = self._acceptance(point)
        k, arm, decode_s, prefill_s = point.draft_length, point.arm, point.decode_s, point.prefill_s
        if source == "extrapolated" and (k or 0) > self.extend_to:
            raise ConfigError(
                f"acceptance is known up to draft length {self.longest}; --extend-to {k} goes on from there"
            )
        name = f"draft length {k}" if arm is None else arm.name

        def step_s(rows: FloatArray) -> FloatArray:
            return decode_s(rows) + prefill_s(rows) * length(rows)

        emitted = self.given.acceptance_length or self._estimate(length, f"acceptance length of {name}")
        time_s = self._estimate(step_s, f"step time of {name}")
        t_ar_s = self._estimate(self.t_ar, "step time without speculation")
        speedup = self._estimate(lambda rows: self.t_ar(rows) * length(rows) / step_s(rows), f"speed-up of {name}")
        raising = [speedup, *filter(None, (self.given.t_ar_s, self.given.acceptance_length))]
        lowering = [point.given] if point.given else []
        needed = self._break_even(decode_s, prefill_s)
        comparison = arm.comparison if arm else None
        return Expected(
            draft_length=k,
            run=arm.name if arm else None,
            acceptance_length=emitted,
            acceptance_from=source,
            step_time_s=point.given or time_s,
            step_time_from=point.source,
            speedup=prediction.with_errors_of(
                prediction.speedup(t_ar_s.value, time_s.value, emitted.value), raising=raising, lowering=lowering
            ),
            speedup_output_tps=self._output_tps(point, run, lambda rows: step_s(rows) / length(rows)),
            break_even_acceptance_length=needed,
            break_even_rate=prediction.break_even_rate(1.0, needed, k) if needed and k else None,
            measured_speedup_tpot=_estimate_of(comparison.speedup_tpot) if comparison else None,
            measured_speedup_output_tps=_estimate_of(comparison.speedup_output_tps) if comparison else None,
            num_conversations=len(arm.sums.names) if arm else None,
            num_steps=arm.sums.tally.num_steps if arm else None,
        )

    def _break_even(self, decode_s: Quantity, prefill_s: Quantity) -> float | None:
        """Without the prefill of others on both sides, which takes as long per token whatever is accepted."""
        without_s = self.ratios.estimate(lambda rows: self.t_ar(rows) - prefill_s(rows), self.num)
        with_s = self.ratios.estimate(decode_s, self.num)
        if without_s is None or with_s is None or without_s.value <= 0 or with_s.value <= 0:
            return None
        return prediction.break_even_acceptance_length(without_s.value, with_s.value)

    def _output_tps(self, point: _Point, run: Run | None, token_s: Quantity) -> Estimate | None:
        if not (self.closed_loop and self.baseline and point.ttft_s and run) or self.given.t_ar_s:
            return None
        waits = (self.baseline.ratio("ttft_s"), point.ttft_s)
        num, first = run.ratio("output_tokens"), run.ratio("first_tokens")
        slow, fast = (
            _request_token_s(wait, each, num, first) for wait, each in zip(waits, (self.t_ar, token_s), strict=True)
        )
        found = self.ratios.estimate(lambda rows: slow(rows) / fast(rows), self.num)
        given = self.given.acceptance_length
        return prediction.with_errors_of(found.value, raising=[found, *([given] if given else [])]) if found else None

    def _estimate(self, quantity: Quantity, name: str) -> Estimate:
        found = self.ratios.estimate(quantity, self.num)
        if found is None:
            raise UndefinedMetric(
                f"{name}: not known from these runs; give --acceptance-length or --rates, --t-sd, --t-ar"
            )
        return found


def _request_token_s(ttft_s: Quantity, token_s: Quantity, num: Quantity, first: Quantity) -> Quantity:
    return lambda rows: prediction.request_time_per_token_s(ttft_s(rows), token_s(rows), num(rows), first(rows))


def _constant(value: float) -> Quantity:
    return lambda rows: np.full(len(rows), value)


def _weighted(weights: FloatArray, quantities: Sequence[Quantity]) -> Quantity:
    return lambda rows: weights @ np.array([quantity(rows) for quantity in quantities])


def _estimate_of(cell: Cell) -> Estimate | None:
    return None if cell.value is None else Estimate(cell.value, cell.low, cell.high)
