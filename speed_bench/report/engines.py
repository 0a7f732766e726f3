"""What can be measured: the engines, and which way of drafting each of them has."""

from collections.abc import Iterator, Mapping

from rich.table import Table

from speed_bench.algorithms import ALGORITHMS
from speed_bench.engines import ENGINES, Dialect, dialect

NOT_THERE = "–"


def dialects() -> dict[str, Dialect]:
    """All of them, by name."""
    return {name: dialect(name) for name in ENGINES}


def table(versions: Mapping[str, str | None]) -> Table:
    """For a terminal: what is installed here, what each engine has, how to install it."""
    shown = Table("engine", "installed", "algorithms", "install")
    for name, speaks in dialects().items():
        version = versions[name] or ("yes" if not speaks.DISTRIBUTIONS else "no")
        shown.add_row(name, version, ", ".join(speaks.ALGORITHMS), speaks.INSTALL.replace("[", "\\["))
    return shown


def markdown() -> Iterator[str]:
    """The lines of the table of algorithms and engines: each cell as the engine spells it, and how it was checked.

    A dash means that the pair is not wired, and refused.
    """
    known = dialects()
    yield f"| `--algorithm` | {' | '.join(known)} |"
    yield f"|---|{'---|' * len(known)}"
    for algorithm in ALGORITHMS:
        cells = []
        for speaks in known.values():
            wired = speaks.ALGORITHMS.get(algorithm)
            cells.append(NOT_THERE if wired is None else f"`{wired.spelling}` · {wired.checked}")
        yield f"| `{algorithm}` | {' | '.join(cells)} |"
