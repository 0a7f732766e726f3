"""What this machine says it used while something was measured: energy of GPUs and processors, memory of GPUs.

A meter that is not there, that may not be read, or that fails in between gives no value, and a reason. It never fails
what is measured, nor holds it up: a thread of its own reads every second, and sleeps meanwhile.
"""

import ipaddress
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NoReturn, Protocol, Self

from speed_bench.meters import nvml, rapl
from speed_bench.meters.absent import NoMeter
from speed_bench.records import Energy

__all__ = ["Meters", "is_this_machine", "metered"]

INTERVAL_S: Final = 1.0
PATIENCE_S: Final = 10.0
"""A driver that takes longer to open, or for a last reading, is left to itself."""


class Meter(Protocol):
    """One quantity of `Energy`."""

    @property
    def total(self) -> float:
        """Its value, from the first reading to the last one."""

    def read(self, at_s: float) -> None:
        """Read it now. Raises whatever a driver raises."""


class Meters:
    """A context manager around what is measured. Made by `metered`."""

    def __init__(
        self,
        gpus: Callable[[], nvml.Gpus],
        packages: Callable[[], rapl.Packages],
        *,
        interval_s: float,
        patience_s: float,
    ) -> None:
        self.reasons: dict[str, str] = {}
        """Why a quantity of `Energy` has no value, by its name."""
        self.failures: list[str] = []
        """A sentence for each meter that was there and stopped: the user is to know."""
        self._open_gpus, self._open_packages = gpus, packages
        self._interval_s, self._patience_s = interval_s, patience_s
        self._meters: dict[str, Meter] = {}
        self._gpus: nvml.Gpus | None = None
        self._first_s = self._last_s = 0.0
        self._opened, self._ending = threading.Event(), threading.Event()
        self._given_up = False
        self._thread = threading.Thread(target=self._watch, name="meters", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._opened.wait(self._patience_s):
            self._ending.set()
            self._give_up()
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def energy(self) -> Energy | None:
        """What was used since the beginning. Ends the measurement, if it still goes on. None: there is no meter."""
        self._end()
        if self._given_up or not self._meters:
            return None
        totals = {name: meter.total for name, meter in self._meters.items()}
        memory = totals.get("peak_gpu_memory_bytes")
        return Energy(
            gpu_j=totals.get("gpu_j"),
            cpu_j=totals.get("cpu_j"),
            peak_gpu_memory_bytes=None if memory is None else int(memory),
            num_gpus=self._gpus.num if self._gpus else 0,
            span_s=self._last_s - self._first_s,
        )

    def _end(self) -> None:
        if self._ending.is_set():
            return
        self._ending.set()
        self._thread.join(self._patience_s)
        if self._thread.is_alive():
            self._give_up()

    def _give_up(self) -> None:
        self._given_up = True
        why = f"a driver did not answer for {self._patience_s:g} s"
        self.reasons = dict.fromkeys(_NAMES, why)
        self.failures.append(f"energy is not measured: {why}")

    def _watch(self) -> None:
        """All there is to do with drivers, on a thread of its own."""
        self._open()
        self._first_s = self._read()
        self._opened.set()
        while not self._ending.wait(self._interval_s):
            self._read()
        self._last_s = self._read()
        if self._gpus:
            try:
                self._gpus.close()
            except Exception as error:
                self.failures.append(f"the GPU driver could not be let go of: {error}")

    def _open(self) -> None:
        try:
            self._gpus = self._open_gpus()
            self._meters |= {"gpu_j": self._gpus.energy, "peak_gpu_memory_bytes": self._gpus.memory}
        except Exception as error:
            self.reasons |= dict.fromkeys(("gpu_j", "peak_gpu_memory_bytes"), _sentence(error))
        try:
            self._meters["cpu_j"] = self._open_packages()
        except Exception as error:
            self.reasons["cpu_j"] = _sentence(error)

    def _read(self) -> float:
        """A reading of everything; when it was begun."""
        at_s = time.monotonic()
        for name, meter in list(self._meters.items()):
            try:
                meter.read(at_s)
            except Exception as error:
                del self._meters[name]
                self.reasons[name] = _sentence(error)
                if self._opened.is_set():
                    self.failures.append(f"{_NAMES[name]} is not measured any more: {_sentence(error)}")
        return at_s


_NAMES: Final = {
    "gpu_j": "the energy of the GPUs",
    "peak_gpu_memory_bytes": "the memory of the GPUs",
    "cpu_j": "the energy of the processors",
}


def metered(
    gpus: Sequence[str] | None = None,
    *,
    on_this_machine: bool = True,
    rapl_root: Path = rapl.ROOT,
    interval_s: float = INTERVAL_S,
    patience_s: float = PATIENCE_S,
) -> Meters:
    """The meters of this machine, or none for an engine on another one.

    `gpus` are named as in `CUDA_VISIBLE_DEVICES`, which is asked where they are not given; without it, all are counted.

    >>> with metered(on_this_machine=False) as meters:
    ...     pass
    >>> meters.energy(), meters.reasons["cpu_j"]
    (None, 'the engine runs on another machine')
    """

    def open_gpus() -> nvml.Gpus:
        return nvml.gpus(nvml.named_in(os.environ) if gpus is None else gpus)

    def open_packages() -> rapl.Packages:
        return rapl.packages(rapl_root)

    here = (open_gpus, open_packages) if on_this_machine else (_elsewhere, _elsewhere)
    return Meters(*here, interval_s=interval_s, patience_s=patience_s)


def is_this_machine(host: str) -> bool:
    """Whether a server at `host` runs here, as far as its address says: a tunnel looks the same.

    >>> is_this_machine("127.0.0.1"), is_this_machine("localhost"), is_this_machine("gpu-node")
    (True, True, False)
    """
    if host in ("localhost", socket.gethostname()):
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _elsewhere() -> NoReturn:
    raise NoMeter("the engine runs on another machine")


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
