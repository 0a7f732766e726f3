"""An edition's rows in the cache where `load_dataset("speed-bench", …)` looks up the bare name.

    <HF_DATASETS_CACHE>/speed-bench/<config>/<version>/<hash>/{dataset_info.json, speed-bench-test.arrow}

datasets takes the version that was changed last, and fails if one has no `dataset_info.json`; so one is kept, whole.
The hash is of everything that the edition's manifest vouches for, the same for all its configs: then datasets refuses
a call without a config by naming those that there are; else it would take any. Rows of another edition, and what
another program put under the name, are left alone unless forced.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import filelock

from speed_bench.cache_folders import aside, cache, clear, discard, writing
from speed_bench.data import cached
from speed_bench.data.cached import Contents
from speed_bench.data.configs import NUM_ROWS, QUALITATIVE, Chosen, choose
from speed_bench.data.editions import folder_of, load, read_manifest
from speed_bench.data.schema import require_name
from speed_bench.errors import CacheError, DataError

Change = Literal["installed", "updated", "unchanged", "removed", "absent", "kept"]

DEFAULT_EDITION: Final = "open"
_LOCK_TIMEOUT_S: Final = 30
_FIX: Final = "make room or rights, or set HF_DATASETS_CACHE to a folder that can be written"


@dataclass(frozen=True, slots=True)
class Version:
    """A prepared dataset in the cache."""

    path: Path
    contents: Contents | None
    """None for one that another program made."""
    intact: bool
    """Whether it is ours and its rows are those that were written."""


@dataclass(frozen=True, slots=True)
class Place:
    """What the cache holds of one config."""

    config: str
    folder: Path
    versions: tuple[Version, ...]
    """The one that datasets takes first."""
    unfinished: tuple[Path, ...]
    """Those that another program began; one of them is enough to make every load of the config fail."""

    @property
    def current(self) -> bool:
        """Whether `load_dataset` gives rows of ours as they were written, and can give no other."""
        return len(self.versions) == 1 and self.versions[0].intact and not self.unfinished

    def holds(self, edition: Chosen) -> bool:
        """Whether `load_dataset` gives the rows of this edition, and can give no other."""
        return self.current and self.versions[0].path == _version_folder(edition, self.config, self.folder.parent)

    def foreign(self, edition: Chosen) -> bool:
        """Whether it holds what an edition must not replace: rows of another one, or not ours at all.

        Another version of the same name makes way; other rows under the same name and version are another edition.
        """
        return any(each.contents is None or _another(each.contents, edition) for each in self.versions)


def data_folder(env: Mapping[str, str]) -> Path:
    """Where datasets keeps what is loaded as "speed-bench".

    >>> data_folder({"HF_HOME": "/hf"}).as_posix()
    '/hf/datasets/speed-bench'
    """
    return Path(cache(env, "HF_DATASETS_CACHE", "datasets")).expanduser() / cached.NAME


def default() -> Chosen | None:
    """What is installed where no edition is asked for: the bundled one, as soon as it has all of `qualitative`."""
    known = read_manifest(folder_of(DEFAULT_EDITION))["configs"]
    return choose(DEFAULT_EDITION) if QUALITATIVE in known else None


def installed_of(edition: str, home: Path) -> Chosen:
    """What a check of an edition is about: those of the published configs that it has, and what is installed of it.

    Raises ConfigError or DataError as `choose` does, where that is nothing.
    """
    manifest = read_manifest(folder_of(edition))
    held = [
        place.config
        for place in look(home)
        if any(each.contents and each.contents.edition == manifest["edition"] for each in place.versions)
    ]
    return choose(edition, [config for config in (*NUM_ROWS, *held) if config in manifest["configs"]])


def look(home: Path, configs: Sequence[str] = ()) -> list[Place]:
    """What the cache at `home` holds of these configs, or of every one.

    Raises CacheError if it cannot be read, ConfigError for a name that leads out of it.
    """
    for config in configs:
        require_name(config)
    try:
        names = configs or [path.name for path in sorted(home.glob("[!.]*")) if path.is_dir()]
        places = [_look(home / name) for name in names]
    except OSError as error:
        raise CacheError(f"{home} cannot be read: {error.strerror}; {_FIX}") from error
    return places if configs else [place for place in places if place.versions or place.unfinished]


def install(edition: Chosen, home: Path, *, force: bool = False) -> list[tuple[str, Change]]:
    """Make `load_dataset("speed-bench", config)` give the rows of this edition, for each config that was chosen.

    Every row is verified against the manifest before anything is replaced. A config that holds something else than an
    earlier state of the same edition is `kept` unless forced. Raises DataError for rows that are not those of the
    manifest, ConfigError without pyarrow, CacheError if the cache cannot be read or written; then each config is as it
    was, or whole.
    """
    if all(place.holds(edition) for place in look(home, tuple(edition.configs))):
        return [(config, "unchanged") for config in edition.configs]
    with writing(home, _LOCK_TIMEOUT_S, _FIX):
        try:
            clear(home)
            places = look(home, tuple(edition.configs))
            staged = {
                place.config: _stage(edition, place.config, home)
                for place in places
                if not place.holds(edition) and (force or not place.foreign(edition))
            }
            return [(place.config, _install(edition, place, staged.get(place.config))) for place in places]
        finally:
            clear(home)


def remove(home: Path, configs: Sequence[str] = (), *, force: bool = False) -> list[tuple[str, Change]]:
    """Undo `install`, for these configs or for all. What is not ours is `kept` unless forced."""
    places = look(home, configs)
    if not any(place.folder.exists() for place in places):
        return [(place.config, "absent") for place in places]
    with writing(home, _LOCK_TIMEOUT_S, _FIX):
        try:
            return [(place.config, _remove(place, force=force)) for place in look(home, configs)]
        finally:
            clear(home)


def _another(contents: Contents, edition: Chosen) -> bool:
    if (contents.edition, contents.version) == (edition.name, edition.version):
        return contents.manifest_sha256 != edition.configs.get(contents.config)
    return contents.edition != edition.name


def _version_folder(edition: Chosen, config: str, home: Path) -> Path:
    return home / config / cached.version_of(edition.version) / edition.sha256


def _stage(edition: Chosen, config: str, home: Path) -> Path:
    """The verified rows of a config, aside."""
    dataset = load(str(edition.folder), config)
    if dataset.manifest_sha256 != edition.configs[config]:
        raise DataError(f"{edition.folder} was changed while it was being installed; try again")
    new = aside(home)
    cached.write(dataset, edition.manifest, new)
    return new


def _install(edition: Chosen, place: Place, staged: Path | None) -> Change:
    home, target = place.folder.parent, _version_folder(edition, place.config, place.folder.parent)
    _drop_unfinished(place)
    if staged is None:
        return "unchanged" if place.holds(edition) else "kept"
    if target.exists():
        discard(target, home)
    target.parent.mkdir(parents=True, exist_ok=True)
    staged.rename(target)
    for version in place.versions:
        if version.path != target:
            discard(version.path, home)
    _drop_empty(place)
    return "updated" if place.versions else "installed"


def _remove(place: Place, *, force: bool) -> Change:
    _drop_unfinished(place)
    kept = [version for version in place.versions if version.contents is None and not force]
    for version in place.versions:
        if version not in kept:
            discard(version.path, place.folder.parent)
    _drop_empty(place)
    return "kept" if kept else "removed" if place.versions or place.unfinished else "absent"


def _look(folder: Path) -> Place:
    paths = [path for path in folder.glob("*/*") if path.is_dir()]  # as datasets looks
    whole = [path for path in paths if (path / cached.INFO_FILE).is_file() and not path.name.endswith(_INCOMPLETE)]
    whole.sort(key=lambda path: (path.stat().st_mtime, str(path)), reverse=True)
    return Place(
        folder.name,
        folder,
        tuple(_version(path) for path in whole),
        tuple(path for path in paths if path not in whole),
    )


def _version(path: Path) -> Version:
    contents = cached.read(path)
    return Version(path, contents, contents is not None and cached.intact(path, contents))


_INCOMPLETE: Final = ".incomplete"


def _drop_unfinished(place: Place) -> None:
    """Remove what a program that was killed had begun. Raises CacheError if one is still at work."""
    for path in place.unfinished:
        lock = path.with_name(f"{path.name.removesuffix(_INCOMPLETE)}_builder.lock")
        try:
            with filelock.FileLock(lock, timeout=0):  # which datasets holds while it prepares
                discard(path, place.folder.parent)
        except filelock.Timeout as error:
            raise CacheError(f"{path} is being written by another program; try again when it is done") from error


def _drop_empty(place: Place) -> None:
    """Remove folders of versions, and of the config, that hold nothing but the locks of datasets."""
    for folder in (*place.folder.glob("*"), place.folder):
        if folder.is_dir() and not any(path.is_dir() for path in folder.iterdir()):
            shutil.rmtree(folder)
