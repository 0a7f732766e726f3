"""The files of our `evaluate` modules: those of the package, or of the checkout it is installed from."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

KINDS: Final = {
    "speed_bench_acceptance": "metric",
    "speed_bench_throughput": "metric",
    "speed_bench_speedup": "comparison",
}
"""What each module is to `evaluate`: a Metric or a Comparison."""


@dataclass(frozen=True, slots=True)
class MetricModule:
    """One `evaluate` module, read from its folder."""

    name: str
    kind: str
    code: bytes
    """Of `<name>.py`, the file that `evaluate.load` imports."""
    companions: tuple[tuple[str, bytes], ...]
    """The other files of its Space: card, app and requirements."""

    @property
    def sha256(self) -> str:
        """Of the code, in hex: the version of the module."""
        return hashlib.sha256(self.code).hexdigest()

    @property
    def files(self) -> dict[str, bytes]:
        """Everything that its Space holds, by file name."""
        return {f"{self.name}.py": self.code, **dict(self.companions)}


def metric_modules() -> tuple[MetricModule, ...]:
    """All modules.

    >>> [module.name for module in metric_modules()]
    ['speed_bench_acceptance', 'speed_bench_throughput', 'speed_bench_speedup']
    """
    return tuple(_read(name, kind, _root() / name) for name, kind in KINDS.items())


def _root() -> Path:
    packaged = Path(__file__).parent / "metric_modules"
    return packaged if packaged.is_dir() else Path(__file__).parent.parent / "metrics"


def _read(name: str, kind: str, folder: Path) -> MetricModule:
    others = tuple((file, (folder / file).read_bytes()) for file in ("README.md", "app.py", "requirements.txt"))
    return MetricModule(name, kind, (folder / f"{name}.py").read_bytes(), others)
