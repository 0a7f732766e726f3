"""The energy and the memory of GPUs, by NVIDIA's management library (NVML), through the package nvidia-ml-py."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from speed_bench.meters.absent import NoMeter

VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
"""The environment variable that says which GPUs a program may use."""


class Gpus:
    """NVML, opened, and the GPUs of it that are counted."""

    def __init__(self, nvml: Any, handles: Sequence[Any]) -> None:
        self._nvml = nvml
        self.num = len(handles)
        self.energy = GpuEnergy(nvml, handles)
        self.memory = GpuMemory(nvml, handles)

    def close(self) -> None:
        """Let go of NVML."""
        self._nvml.nvmlShutdown()


class GpuEnergy:
    """What all GPUs used together."""

    def __init__(self, nvml: Any, handles: Sequence[Any]) -> None:
        self._nvml = nvml
        self._handles = handles
        self._each: list[_Counter | _Integral] = []

    def read(self, at_s: float) -> None:
        """One reading of each GPU. Raises what NVML raises, and NoMeter for a counter that was set back."""
        if not self._each:
            self._each = [self._first(handle, at_s) for handle in self._handles]
            return
        for gpu in self._each:
            gpu.read(at_s)

    def _first(self, handle: Any, at_s: float) -> "_Counter | _Integral":
        counter = _Counter(self._nvml, handle)
        try:
            counter.read(at_s)
        except (self._nvml.NVMLError_NotSupported, self._nvml.NVMLError_FunctionNotFound):
            integral = _Integral(self._nvml, handle)
            integral.read(at_s)
            return integral
        return counter

    @property
    def total(self) -> float:
        """Joules from the first reading to the last one."""
        return sum(gpu.joules for gpu in self._each)


class _Counter:
    """A GPU that counts its energy itself, in millijoules since its driver was loaded (from Volta on)."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml, self._handle = nvml, handle
        self._first: int | None = None
        self.joules = 0.0

    def read(self, at_s: float) -> None:
        now = self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)
        first = self._first = now if self._first is None else self._first
        joules = (now - first) / 1e3
        if joules < self.joules:
            raise NoMeter("the energy counter of a GPU was set back")
        self.joules = joules


class _Integral:
    """A GPU that says its power alone: taken to change evenly from one reading to the next."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml, self._handle = nvml, handle
        self._last: tuple[float, float] | None = None
        self.joules = 0.0

    def read(self, at_s: float) -> None:
        watts = self._nvml.nvmlDeviceGetPowerUsage(self._handle) / 1e3
        then_s, before = self._last or (at_s, watts)
        self.joules += (at_s - then_s) * (before + watts) / 2
        self._last = at_s, watts


class GpuMemory:
    """What was in use at once on all GPUs together, at most."""

    def __init__(self, nvml: Any, handles: Sequence[Any]) -> None:
        self._nvml, self._handles = nvml, handles
        self.total = 0
        """Bytes, the highest of the readings."""

    def read(self, at_s: float) -> None:
        """One reading of each GPU. Raises what NVML raises."""
        now = sum(self._nvml.nvmlDeviceGetMemoryInfo(handle).used for handle in self._handles)
        self.total = max(self.total, now)


def gpus(named: Sequence[str] | None) -> Gpus:
    """The GPUs that are `named` as in `CUDA_VISIBLE_DEVICES`; None: all of this machine.

    Raises NoMeter where there are none, and whatever NVML raises.
    """
    try:
        import pynvml
    except ImportError:
        raise NoMeter("nvidia-ml-py is not installed; pip install 'speed-bench[energy]'") from None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError_LibraryNotFound:
        raise NoMeter("this machine has no NVIDIA driver") from None
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        uuids = [pynvml.nvmlDeviceGetUUID(handle) for handle in handles]
        whole = None if named is None else [_of_whole_gpu(pynvml, name) for name in named]
        if not (counted := chosen(whole, uuids)):
            raise NoMeter("no GPU is visible here" if uuids else "this machine has no GPU that its driver knows")
        return Gpus(pynvml, [handles[at] for at in counted])
    except BaseException:
        pynvml.nvmlShutdown()
        raise


def _of_whole_gpu(nvml: Any, name: str) -> str:
    """The UUID of the GPU that an instance of it (MIG) belongs to; any other name as it is."""
    if name.startswith("MIG-GPU-"):
        return name.removeprefix("MIG-").partition("/")[0]
    if not name.startswith("MIG-"):
        return name
    try:
        instance = nvml.nvmlDeviceGetHandleByUUID(name)
        uuid: str = nvml.nvmlDeviceGetUUID(nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(instance))
    except nvml.NVMLError_NotFound:
        return name
    return uuid


def chosen(named: Sequence[str] | None, uuids: Sequence[str]) -> list[int]:
    """The places of the GPUs that are named, by the rules of CUDA: an index, or a UUID that may be shortened; the
    first name that fits no GPU hides all that follow.

    >>> chosen(["1", "GPU-aa", "7", "0"], ["GPU-aabb", "GPU-ccdd"]), chosen(None, ["GPU-aabb", "GPU-ccdd"])
    ([1, 0], [0, 1])
    """
    if named is None:
        return list(range(len(uuids)))
    found: dict[int, None] = {}
    for name in named:
        if name.isdecimal():
            fitting = [int(name)] if int(name) < len(uuids) else []
        else:
            fitting = [at for at, uuid in enumerate(uuids) if name.startswith("GPU-") and uuid.startswith(name)]
        if len(fitting) != 1:
            break
        found[fitting[0]] = None
    return list(found)


def named_in(environment: Mapping[str, str]) -> list[str] | None:
    """What the environment says of GPUs; None: nothing.

    >>> named_in({"CUDA_VISIBLE_DEVICES": "0, 2"}), named_in({"CUDA_VISIBLE_DEVICES": ""}), named_in({})
    (['0', '2'], [], None)
    """
    if VISIBLE not in environment:
        return None
    return [name.strip() for name in environment[VISIBLE].split(",") if name.strip()]
