"""Meters: RAPL on a tree of files as Linux has it, NVML through the real binding and a library that a test compiles."""

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from speed_bench.meters import metered
from speed_bench.meters.absent import NoMeter
from speed_bench.meters.nvml import chosen
from speed_bench.meters.rapl import packages
from speed_bench.records import Energy

RANGE_UJ = 262_143_328_850
UUIDS = ("GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", "GPU-89aabbcc-0000-4106-c12f-20bd9faed9f6")


def zone(root: Path, folder: str, name: str, energy_uj: int) -> Path:
    """One zone of the power capping framework; what it used may be written anew with `set_uj`."""
    path = root / folder
    path.mkdir(parents=True)
    (path / "name").write_text(f"{name}\n")
    (path / "max_energy_range_uj").write_text(f"{RANGE_UJ}\n")
    set_uj(path, energy_uj)
    return path


def set_uj(path: Path, energy_uj: int) -> None:
    (path / "new").write_text(f"{energy_uj}\n")
    (path / "new").replace(path / "energy_uj")  # at once, as a counter changes


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    """A machine with two packages, a part of one of them, and the whole platform."""
    zone(tmp_path, "intel-rapl:0", "package-0", 1_000_000)
    zone(tmp_path, "intel-rapl:0:0", "core", 1)
    zone(tmp_path, "intel-rapl:1", "package-1", RANGE_UJ - 500_000)
    zone(tmp_path, "intel-rapl:2", "psys", 5)
    zone(tmp_path, "intel-rapl-mmio:0", "package-0", 7)
    return tmp_path


def test_the_packages_are_added_up_and_neither_their_parts_nor_the_platform(sysfs: Path) -> None:
    found = packages(sysfs)
    found.read(0.0)
    set_uj(sysfs / "intel-rapl:0", 3_500_000)
    set_uj(sysfs / "intel-rapl:0:0", 90_000_000)
    set_uj(sysfs / "intel-rapl:1", RANGE_UJ - 250_000)
    set_uj(sysfs / "intel-rapl:2", 90_000_000)
    set_uj(sysfs / "intel-rapl-mmio:0", 90_000_000)
    found.read(1.0)
    assert found.total == pytest.approx(2.5 + 0.25)


def test_a_counter_that_begins_again_at_0_loses_nothing_however_often(sysfs: Path) -> None:
    found = packages(sysfs)
    found.read(0.0)
    for reading in (250_000, RANGE_UJ - 100_000, 400_000):
        set_uj(sysfs / "intel-rapl:1", reading)
        found.read(1.0)
    assert found.total == pytest.approx((750_000 + (RANGE_UJ - 350_000) + 500_000) / 1e6)


def test_what_was_used_inside_the_block_is_what_is_told(sysfs: Path) -> None:
    with metered([], rapl_root=sysfs, interval_s=0.001) as meters:
        set_uj(sysfs / "intel-rapl:0", 4_000_000)
    set_uj(sysfs / "intel-rapl:0", 9_000_000)
    energy = meters.energy()
    assert energy == Energy(None, pytest.approx(3.0), None, num_gpus=0, span_s=energy.span_s)
    assert energy.span_s > 0
    assert meters.failures == []
    assert set(meters.reasons) == {"gpu_j", "peak_gpu_memory_bytes"}


def test_asking_ends_the_measurement(sysfs: Path) -> None:
    with metered([], rapl_root=sysfs, interval_s=0.001) as meters:
        first = meters.energy()
        set_uj(sysfs / "intel-rapl:0", 9_000_000)
    assert first == meters.energy()
    assert first.cpu_j == 0.0


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without the rights of root, where we have them."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that others may read, as the one of the system is."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_a_counter_for_root_alone_is_a_meter_that_is_absent(open_folder: Path) -> None:
    zone(open_folder, "intel-rapl:0", "package-0", 1)
    closed = zone(open_folder, "intel-rapl:1", "package-1", 1) / "energy_uj"
    closed.chmod(0o400 if os.geteuid() == 0 else 0)
    with as_nobody(), metered([], rapl_root=open_folder) as meters:
        pass
    assert meters.energy() is None
    assert meters.reasons["cpu_j"] == f"{closed} cannot be read: Permission denied"
    assert meters.failures == [], "it was never there"


@pytest.mark.parametrize("spoilt", ["energy_uj", "max_energy_range_uj"])
def test_a_counter_that_is_no_number_is_absent(sysfs: Path, spoilt: str) -> None:
    (sysfs / "intel-rapl:1" / spoilt).write_text("-12\n")
    with pytest.raises(NoMeter, match=f"{spoilt} holds no number: '-12'"):
        packages(sysfs)


def test_a_machine_without_packages_says_so(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "psys", 5)
    for root in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(NoMeter, match="has no processor package"):
            packages(root)


def test_a_counter_that_goes_away_takes_its_value_with_it_and_says_so(sysfs: Path) -> None:
    with metered([], rapl_root=sysfs, interval_s=60.0) as meters:
        (sysfs / "intel-rapl:1" / "energy_uj").unlink()
    assert meters.energy() is None, "a sum without it would be too small"
    [failure] = meters.failures
    assert failure.startswith("the energy of the processors is not measured any more: [Errno 2]")
    assert "intel-rapl:1/energy_uj" in meters.reasons["cpu_j"]


@pytest.mark.parametrize("when", ["opening", "the last reading"])
def test_a_driver_that_does_not_answer_holds_nothing_up(sysfs: Path, when: str) -> None:
    counter = sysfs / "intel-rapl:1" / "energy_uj"

    def silence() -> None:
        counter.unlink()
        os.mkfifo(counter)  # whoever opens it waits

    if when == "opening":
        silence()
    with metered([], rapl_root=sysfs, interval_s=60.0, patience_s=0.05) as meters:
        if when == "the last reading":
            silence()
    assert meters.energy() is None
    assert meters.failures == ["energy is not measured: a driver did not answer for 0.05 s"]
    assert meters.reasons["cpu_j"] == "a driver did not answer for 0.05 s"
    [thread] = [each for each in threading.enumerate() if each.name == "meters"]
    while thread.is_alive():  # let it go, however often it asks
        answered = os.open(counter, os.O_RDWR | os.O_NONBLOCK)
        os.write(answered, b"1\n")
        os.close(answered)
        thread.join(0.01)
    assert meters.energy() is None, "what it began late is no measurement of the whole"


def test_an_engine_elsewhere_has_no_meter_here(sysfs: Path) -> None:
    with metered(rapl_root=sysfs, on_this_machine=False) as meters:
        pass
    assert meters.energy() is None
    assert set(meters.reasons.values()) == {"the engine runs on another machine"}


@pytest.mark.parametrize(
    ("named", "found"),
    [
        (["1", "0"], [1, 0]),
        (["0", "0"], [0]),
        (["1", "2", "0"], [1]),
        (["-1", "0"], []),
        ([UUIDS[1], "0"], [1, 0]),
        (["GPU-8932"], [0]),
        (["GPU-89"], []),
        (["GPU-ff", "0"], []),
        ([], []),
    ],
)
def test_gpus_are_named_by_the_rules_of_cuda(named: list[str], found: list[int]) -> None:
    assert chosen(named, UUIDS) == found


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a libnvidia-ml.so.1 that the binding loads."""
    pytest.importorskip("pynvml")
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("tcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("no C compiler here")
    folder = tmp_path_factory.mktemp("nvml")
    source = Path(__file__).parent.parent / "nvml.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", folder / "libnvidia-ml.so.1", source], check=True)
    return folder


BEGIN = """
import dataclasses, os, time
from pathlib import Path
import orjson
from speed_bench.meters import metered, nvml
state = Path(os.environ["FAKE_NVML"])
def put(gpu, **numbers):
    for name, number in numbers.items():
        (state / "new").write_text(str(number))
        (state / "new").replace(state / str(gpu) / name)
def measured():
    return metered(rapl_root=state / "nowhere", interval_s=60.0)
def tell(*values):
    print(orjson.dumps(values).decode())
"""


class Machine:
    """A machine with GPUs, as programs see it that run on it."""

    def __init__(self, library: Path, state: Path) -> None:
        self.library, self.state = library, state

    def gpu(self, number: int, **numbers: int) -> None:
        folder = self.state / str(number)
        folder.mkdir()
        (folder / "uuid").write_text(UUIDS[number])
        for name, value in numbers.items():
            (folder / name).write_text(str(value))

    def run(self, code: str, **environment: str) -> list[Any]:
        """What a new interpreter tells that runs `code`."""
        inherited = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
        env = {**inherited, "LD_LIBRARY_PATH": str(self.library), "FAKE_NVML": str(self.state), **environment}
        done = subprocess.run([sys.executable, "-c", BEGIN + code], env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return list(orjson.loads(done.stdout))

    @property
    def opened(self) -> int:
        return int((self.state / "opened").read_text())


@pytest.fixture
def machine(library: Path, tmp_path: Path) -> Machine:
    return Machine(library, tmp_path)


WHILE_MEASURED = """
with measured() as meters:
    put(0, energy=10_002_500, used=7 << 30)
    put(1, energy=20_001_500, used=1 << 30)
tell(meters.energy(), meters.reasons, meters.failures)
"""


def test_gpus_that_count_their_energy_are_differenced_and_added_up(machine: Machine) -> None:
    machine.gpu(0, energy=10_000_000, power=1, used=4 << 30)
    machine.gpu(1, energy=20_000_000, power=1, used=2 << 30)
    energy, reasons, failures = machine.run(WHILE_MEASURED)
    assert (energy["gpu_j"], energy["num_gpus"], energy["cpu_j"]) == (4.0, 2, None)
    assert energy["peak_gpu_memory_bytes"] == 8 << 30
    assert set(reasons) == {"cpu_j"}
    assert failures == []
    assert machine.opened == 0, "it is let go of"


@pytest.mark.parametrize(("visible", "joules"), [("1", 1.5), (UUIDS[0][:12], 2.5), ("MIG-part", 1.5), ("", None)])
def test_only_the_gpus_that_are_visible_are_counted(machine: Machine, visible: str, joules: float | None) -> None:
    machine.gpu(0, energy=10_000_000, used=0)
    machine.gpu(1, energy=20_000_000, used=0)
    (machine.state / "mig").mkdir()
    (machine.state / "mig" / "MIG-part").write_text("1")
    energy, reasons, _ = machine.run(WHILE_MEASURED, CUDA_VISIBLE_DEVICES=visible)
    assert (energy and energy["gpu_j"]) == joules
    assert reasons.get("gpu_j") == (None if joules else "no GPU is visible here")
    assert machine.opened == 0


def test_power_alone_is_integrated_and_the_highest_sum_of_memory_is_kept(machine: Machine) -> None:
    machine.gpu(0, power=100_000, used=10)
    machine.gpu(1, energy=1_000, used=1)
    joules, peak, num = machine.run(
        """
gpus = nvml.gpus(None)
readings = (0.0, 100_000, 1_000, (10, 1)), (1.0, 300_000, 4_000, (1, 5)), (3.0, 0, 9_000, (2, 2))
for at_s, power, energy, used in readings:
    put(0, power=power, used=used[0])
    put(1, energy=energy, used=used[1])
    gpus.energy.read(at_s)
    gpus.memory.read(at_s)
tell(gpus.energy.total, gpus.memory.total, gpus.num)
"""
    )
    assert joules == pytest.approx(200 * 1 + 150 * 2 + 8)
    assert peak == 11, "not the sum of the peaks, which is 15"
    assert num == 2


def test_what_happens_in_between_is_seen(machine: Machine) -> None:
    machine.gpu(0, energy=1, used=3)
    energy, failures = machine.run(
        """
with metered(rapl_root=state / "nowhere", interval_s=0.002) as meters:
    put(0, used=9)
    while (state / "0" / "used.told").read_text() != "9":
        time.sleep(0.002)
    put(0, used=2)
tell(meters.energy(), meters.failures)
"""
    )
    assert energy["peak_gpu_memory_bytes"] == 9
    assert failures == []


def test_a_gpu_that_is_lost_takes_the_energy_of_all_with_it_and_says_so(machine: Machine) -> None:
    machine.gpu(0, energy=10_000_000, used=6)
    machine.gpu(1, energy=20_000_000, used=5)
    energy, reasons, failures = machine.run(
        """
with measured() as meters:
    put(0, energy=10_009_000)
    put(1, energy="lost")
tell(meters.energy(), meters.reasons, meters.failures)
"""
    )
    assert (energy["gpu_j"], energy["peak_gpu_memory_bytes"], energy["num_gpus"]) == (None, 11, 2)
    assert reasons["gpu_j"] == "GPU is lost"
    assert failures == ["the energy of the GPUs is not measured any more: GPU is lost"]


def test_a_counter_that_is_set_back_is_no_energy(machine: Machine) -> None:
    machine.gpu(0, energy=10_000_000)
    energy, reasons, failures = machine.run(
        """
with measured() as meters:
    put(0, energy=5)
tell(meters.energy(), meters.reasons, meters.failures)
"""
    )
    assert energy is None
    assert reasons["gpu_j"] == "the energy counter of a GPU was set back"
    assert reasons["peak_gpu_memory_bytes"] == "Not Supported"
    assert len(failures) == 1, "its memory was never told"


@pytest.mark.parametrize("missing", ["package", "gpu"])
def test_without_the_package_or_a_gpu_there_is_a_reason(machine: Machine, missing: str) -> None:
    hide = "import sys; sys.modules['pynvml'] = None\n" if missing == "package" else ""
    energy, reasons = machine.run(hide + "with measured() as meters: pass\ntell(meters.energy(), meters.reasons)")
    assert energy is None
    told = {
        "package": "nvidia-ml-py is not installed; pip install 'speed-bench[energy]'",
        "gpu": "this machine has no GPU that its driver knows",
    }
    assert reasons["gpu_j"] == reasons["peak_gpu_memory_bytes"] == told[missing]
