"""What was measured, and on what: an explicit record of known fields.

Nothing here names a person, a host or a path; secrets cannot enter because no field takes them.
"""

import hashlib
import os
import platform
import struct
import subprocess
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict

from speed_bench.checkpoints import Checkpoint


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class DataFacts(_Record):
    """Which prompts."""

    edition: str
    version: str
    config: str
    manifest_sha256: str
    num_conversations: int


class ModelFacts(_Record):
    """Which model; told apart by its hash, whatever it is called. What is not known, as of a served one, is None."""

    file: str
    """Of a GGUF model, its file's name; else its repository, its folder's name, or the name it is served under."""
    sha256: str | None
    """Of a GGUF file."""
    num_bytes: int | None
    revision: str | None = None
    """The commit of a repository."""
    sampled_sha256: str | None = None
    """Of a folder: over names, sizes and the first and last MiB of its files."""


class TokenizerFacts(_Record):
    """Which tokenizer; told apart by what it makes of `tokens.PROBES`."""

    template_sha256: str
    vocab_size: int
    probes_sha256: str


class Gpu(_Record):
    """An accelerator."""

    name: str
    memory_mib: int | None
    driver: str


class Hardware(_Record):
    """The machine that the client runs on; the engine too, unless it is attached or launched elsewhere."""

    cpu: str
    num_cores: int | None
    num_threads: int | None
    memory_bytes: int
    system: str
    release: str
    machine: str
    gpus: tuple[Gpu, ...] = ()

    @property
    def kind(self) -> str:
        """What speed depends on most, in words: its processor, and its accelerators with their drivers."""
        gpus = Counter(f"{gpu.name} ({gpu.memory_mib or '?'} MiB, driver {gpu.driver})" for gpu in self.gpus)
        return ", ".join([self.cpu, *(f"{num} x {gpu}" for gpu, num in gpus.items())])


class Provenance(_Record):
    """Everything that a number depends on besides the config."""

    model: ModelFacts
    draft: ModelFacts | None
    tokenizer: TokenizerFacts
    data: DataFacts
    engine_version: str | None
    versions: dict[str, str]
    """Of Python, speed-bench and what it measures with."""
    hardware: Hardware
    schedule_sha256: str | None = None
    """Of the times at which the conversations of an open loop begin, as little-endian 64-bit floats; a trace is known
    by it."""


def schedule_sha256(times_s: Sequence[float] | None) -> str | None:
    """The record of when conversations begin; None in a closed loop."""
    return None if times_s is None else hashlib.sha256(struct.pack(f"<{len(times_s)}d", *times_s)).hexdigest()


def model_facts(path: Path, sha256: str) -> ModelFacts:
    """The record of one model file."""
    return ModelFacts(file=path.name, sha256=sha256, num_bytes=path.stat().st_size)


def checkpoint_facts(checkpoint: Checkpoint) -> ModelFacts:
    """The record of a repository, or of a folder by its own name."""
    is_folder = checkpoint.sampled_sha256 is not None
    return ModelFacts(
        file=Path(checkpoint.name).name if is_folder else checkpoint.name,
        sha256=None,
        num_bytes=checkpoint.num_bytes,
        revision=checkpoint.revision,
        sampled_sha256=checkpoint.sampled_sha256,
    )


def hardware() -> Hardware:
    """Of this machine."""
    return Hardware(
        cpu=_cpu_name(),
        num_cores=psutil.cpu_count(logical=False),
        num_threads=psutil.cpu_count(),
        memory_bytes=psutil.virtual_memory().total,
        system=platform.system(),
        release=platform.release(),
        machine=platform.machine(),
        gpus=gpus(),
    )


def gpus() -> tuple[Gpu, ...]:
    """Of this machine, as NVIDIA's own tool lists them; none where it is not there."""
    query = ("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits")
    try:
        listed = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    rows = [[cell.strip() for cell in line.split(",")] for line in listed.splitlines() if line.count(",") == 2]
    return tuple(
        Gpu(name=name, memory_mib=int(memory) if memory.isdecimal() else None, driver=driver)
        for name, memory, driver in rows
    )


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Of Python and of those packages that are installed here."""
    found = {"python": platform.python_version()}
    for name in ("speed-bench", *packages):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def boot_id() -> str | None:
    """Changes with every start of the machine; None where it is not told."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else None


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or os.environ.get("PROCESSOR_IDENTIFIER", "") or platform.machine()
