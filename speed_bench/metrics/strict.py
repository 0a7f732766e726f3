"""A mixin for `evaluate` modules: what is added is checked before `evaluate` casts it."""

from collections.abc import Callable
from typing import Any, ClassVar


class Strict:
    """Goes before `evaluate.Metric` or `evaluate.Comparison` in the bases of a module.

    `compute(predictions=…)` of `evaluate` adds its input as a batch, so what is refused here is refused
    on every way in, and nothing of a refused batch is kept.
    """

    check: ClassVar[Callable[..., object]]
    """Takes the features of the module by name, one value per request; raises for one that cannot be."""

    def add_batch(self, **batch: Any) -> None:
        """Add the inputs of several requests."""
        self.check(**{name: batch.get(name) for name in self._feature_names()})  # type: ignore[attr-defined]
        super().add_batch(**batch)  # type: ignore[misc]

    def add(self, *, prediction: Any = None, **one: Any) -> None:
        """Add the input of one request."""
        given = {"predictions": prediction, **one}
        self.check(**{name: [given.get(name)] for name in self._feature_names()})  # type: ignore[attr-defined]
        super().add(prediction=prediction, **one)  # type: ignore[misc]
