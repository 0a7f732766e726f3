"""Our metric modules in the cache where `evaluate.load` looks up bare names.

    <HF_MODULES_CACHE>/evaluate_modules/metrics/evaluate-<kind>--<name>/<version>/<name>.py

A version is the sha256 of the code. `evaluate` takes the version whose code was written last, so one is kept. It is
written beside its place and renamed into it; whatever is removed is renamed away first: no half of a module can be
found. A version whose name is not the sha256 of its code was edited: it is left alone unless forced.
"""

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from speed_bench.cache_folders import aside, cache, clear, discard, writing
from speed_bench.errors import CacheError
from speed_bench.metric_files import MetricModule

Change = Literal["installed", "updated", "unchanged", "removed", "absent", "kept"]

_NAME_LENGTH: Final = 64
"""`evaluate` takes every entry with a name of this length for a version."""
_NOT_CODE: Final = {"__init__.py", "__pycache__"}
_LOCK_TIMEOUT_S: Final = 30


@dataclass(frozen=True, slots=True)
class Place:
    """What the cache holds of one module."""

    module: MetricModule
    folder: Path
    versions: tuple[Path, ...]
    """The one that `evaluate` takes first."""
    edited: tuple[Path, ...]
    """Those that hold something we did not put there."""
    unfinished: tuple[Path, ...]
    """Those without code; one of them is enough to make `evaluate.load` fail."""

    @property
    def version(self) -> str | None:
        """What `evaluate.load` would import, None without any."""
        return self.versions[0].name if self.versions else None

    @property
    def current(self) -> bool:
        """Whether `evaluate.load` gives the code of this package, and can give no other."""
        return [path.name for path in self.versions] == [self.module.sha256] and not self.edited + self.unfinished


def modules_folder(env: Mapping[str, str]) -> Path:
    """Where `evaluate` keeps modules, from the same variables in the same way as `evaluate.config`.

    >>> modules_folder({"HF_HOME": "/hf"}).as_posix()
    '/hf/modules/evaluate_modules/metrics'
    >>> modules_folder({"HF_HOME": "/hf", "HF_MODULES_CACHE": "/m"}).as_posix()
    '/m/evaluate_modules/metrics'
    """
    return Path(cache(env, "HF_MODULES_CACHE", "modules")) / "evaluate_modules" / "metrics"


def module_folder(module: MetricModule, folder: Path) -> Path:
    """Where the versions of one module are."""
    return folder / f"evaluate-{module.kind}--{module.name}"


def look(module: MetricModule, folder: Path) -> Place:
    """What the cache at `folder` holds of a module. Raises CacheError if it cannot be read."""
    home = module_folder(module, folder)
    try:
        versions = sorted(_versions(home), key=lambda path: (_written_at(path, module.name), path.name), reverse=True)
        edited = tuple(path for path in versions if not _is_ours(path, module.name))
        unfinished = tuple(path for path in versions if not (path / f"{module.name}.py").is_file())
    except OSError as error:
        raise CacheError(f"{home} cannot be read: {error.strerror}; {_FIX}") from error
    return Place(module, home, tuple(versions), edited, unfinished)


def install(modules: Sequence[MetricModule], folder: Path, *, force: bool = False) -> list[tuple[MetricModule, Change]]:
    """Make every module current. A module with an edited version is `kept` unless forced; `current` ones cost no write.

    Raises CacheError if the cache cannot be read or written; then each module is as it was or whole.
    """
    if all(look(module, folder).current for module in modules):
        return [(module, "unchanged") for module in modules]
    with writing(folder, _LOCK_TIMEOUT_S, _FIX):
        return [(module, _install(look(module, folder), force=force)) for module in modules]


def remove(modules: Sequence[MetricModule], folder: Path, *, force: bool = False) -> list[tuple[MetricModule, Change]]:
    """Undo `install`: every version of every module but edited ones, which are `kept` unless forced."""
    if not any(look(module, folder).folder.exists() for module in modules):
        return [(module, "absent") for module in modules]
    with writing(folder, _LOCK_TIMEOUT_S, _FIX):
        return [(module, _remove(look(module, folder), force=force)) for module in modules]


_FIX: Final = "make room or rights, or set HF_MODULES_CACHE to a folder that can be written"


def _install(place: Place, *, force: bool) -> Change:
    if place.current:
        return "unchanged"
    if place.edited and not force:
        return "kept"
    target, name = place.folder / place.module.sha256, place.module.name
    for package in reversed((place.folder, *place.folder.parents[:3])):
        package.mkdir(exist_ok=True)
        (package / "__init__.py").touch()  # as evaluate does
    try:
        if target not in place.versions or target in place.edited + place.unfinished:
            new = aside(place.folder)
            (new / "__init__.py").touch()
            (new / f"{name}.py").write_bytes(place.module.code)
            if target in place.versions:
                discard(target, place.folder)
            new.rename(target)
        for version in place.versions:
            if version != target:
                discard(version, place.folder)
    finally:
        clear(place.folder)
    return "updated" if place.versions else "installed"


def _remove(place: Place, *, force: bool) -> Change:
    for version in place.versions:
        if force or version not in place.edited:
            discard(version, place.folder)
    clear(place.folder)
    if place.edited and not force:
        return "kept"
    if place.folder.exists() and {path.name for path in place.folder.iterdir()} <= _NOT_CODE:
        shutil.rmtree(place.folder)
    return "removed" if place.versions else "absent"


def _versions(home: Path) -> list[Path]:
    return [path for path in home.iterdir() if len(path.name) == _NAME_LENGTH] if home.exists() else []


def _written_at(version: Path, name: str) -> float:
    code = version / f"{name}.py"
    return code.stat().st_mtime if code.is_file() else 0.0


def _is_ours(version: Path, name: str) -> bool:
    """Whether we made a version and nobody changed it since; it may be unfinished."""
    if version.is_symlink() or not version.is_dir():
        return False
    files = {path.name: path for path in version.iterdir() if path.name not in _NOT_CODE}
    code = files.pop(f"{name}.py", None)
    return not files and (code is None or hashlib.sha256(code.read_bytes()).hexdigest() == version.name)
