"""What is written down about the machine."""

from pathlib import Path

import pytest

from speed_bench.provenance import Gpu, gpus


def listed(folder: Path, monkeypatch: pytest.MonkeyPatch, lines: str, status: int = 0) -> tuple[Gpu, ...]:
    """What is told where `nvidia-smi` says this."""
    tool = folder / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\ncat <<'END'\n{lines}\nEND\nexit {status}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    return gpus()


def test_gpus_are_named_with_memory_and_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "NVIDIA H100 80GB HBM3, 81559, 570.86.15\nNVIDIA GB10, [N/A], 580.95.05"
    assert listed(tmp_path, monkeypatch, lines) == (
        Gpu(name="NVIDIA H100 80GB HBM3", memory_mib=81559, driver="570.86.15"),
        Gpu(name="NVIDIA GB10", memory_mib=None, driver="580.95.05"),
    )


@pytest.mark.parametrize(
    ("lines", "status"), [("No devices were found", 6), ("No devices were found", 0), ("NVIDIA-SMI has failed", 9)]
)
def test_where_there_are_none_there_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: str, status: int
) -> None:
    assert listed(tmp_path, monkeypatch, lines, status) == ()
