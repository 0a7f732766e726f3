"""The energy of the processor packages, as Linux passes it on from the processors of Intel and AMD (RAPL).

/sys/class/powercap/intel-rapl:<n>/name                   package-<n>, or a part of the machine such as psys
/sys/class/powercap/intel-rapl:<n>/energy_uj              a counter in microjoules, often for root alone
/sys/class/powercap/intel-rapl:<n>/max_energy_range_uj    where it begins again at 0
"""

from pathlib import Path
from typing import Final

from speed_bench.meters.absent import NoMeter

ROOT: Final = Path("/sys/class/powercap")


class Packages:
    """The counters of all packages, read together."""

    def __init__(self, zones: list[Path]) -> None:
        self._zones = zones
        self._ranges = [_number(zone / "max_energy_range_uj") for zone in zones]
        self._last: list[int] | None = None
        self._num_uj = 0

    def read(self, at_s: float) -> None:
        """Add what was used since the last reading. Raises OSError or ValueError for a counter that cannot be read."""
        now = [_number(zone / "energy_uj") for zone in self._zones]
        then = self._last or now
        self._num_uj += sum(map(added_uj, then, now, self._ranges))
        self._last = now

    @property
    def total(self) -> float:
        """Joules from the first reading to the last one."""
        return self._num_uj / 1e6


def added_uj(then: int, now: int, range_uj: int) -> int:
    """What a counter grew by between two readings, of which it began again at most once: every 20 minutes at 200 W.

    >>> added_uj(100, 250, 1000), added_uj(900, 50, 1000)
    (150, 150)
    """
    return now - then if now >= then else now - then + range_uj


def packages(root: Path = ROOT) -> Packages:
    """The packages of this machine: `psys`, which holds them, and the parts that they hold are left out.

    Raises NoMeter where there are none, or where one cannot be read: a sum without it would be too small.
    """
    try:
        zones = [zone for zone in sorted(root.glob("intel-rapl:*")) if _text(zone / "name").startswith("package")]
        if not zones:
            raise NoMeter(f"{root} has no processor package")
        found = Packages(zones)
        for zone in zones:
            _number(zone / "energy_uj")
    except OSError as error:
        raise NoMeter(f"{error.filename} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise NoMeter(str(error)) from error
    return found


def _text(path: Path) -> str:
    return path.read_text(encoding="ascii", errors="replace").strip()


def _number(path: Path) -> int:
    text = _text(path)
    if not text.isdecimal():
        raise ValueError(f"{path} holds no number: '{text[:40]}'")
    return int(text)
