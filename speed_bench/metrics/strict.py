"""A mixin for `evaluate` modules: what is given is checked before `evaluate` casts it."""

import inspect
from collections.abc import Callable
from typing import Any, ClassVar

from speed_bench.errors import MetricInputError, unknown


class Strict:
    """Goes before `evaluate.Metric` or `evaluate.Comparison` in the bases of a module.

    `compute(predictions=…)` of `evaluate` adds its input as a batch, so what is refused here is refused
    on every way in, and nothing of a refused batch is kept.
    """

    check: ClassVar[Callable[..., object]]
    """Takes the features of the module by name, one value per request; raises for one that cannot be."""
    function: ClassVar[Callable[..., dict[str, Any]]]
    """What the module computes: its arguments are those of the function."""

    def compute(self, **given: Any) -> Any:
        """Compute from what is given here and what was added before. An argument that there is not is named."""
        known = inspect.signature(self.function).parameters
        for name in given:
            if name not in known:
                raise MetricInputError(unknown("argument", name, known))
        return super().compute(**given)  # type: ignore[misc]

    def add_batch(self, **batch: Any) -> None:
        """Add the inputs of several requests."""
        self.check(**{name: batch.get(name) for name in self._feature_names()})  # type: ignore[attr-defined]
        super().add_batch(**batch)  # type: ignore[misc]

    def add(self, *, prediction: Any = None, **one: Any) -> None:
        """Add the input of one request."""
        given = {"predictions": prediction, **one}
        self.check(**{name: [given.get(name)] for name in self._feature_names()})  # type: ignore[attr-defined]
        super().add(prediction=prediction, **one)  # type: ignore[misc]
