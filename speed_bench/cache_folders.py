"""Folders in the caches of Hugging Face, changed so that no half of anything can be found there.

What is new is written aside, in a hidden folder that no library looks into, and renamed into its place; what goes is
renamed aside first. Both are one step of the file system.
"""

import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import filelock

from speed_bench.errors import CacheError, cause

_ASIDE: Final = ".part-"


def cache(env: Mapping[str, str], variable: str, name: str) -> str:
    """A cache's folder, from the same variables in the same way as in the configuration of the libraries.

    >>> cache({"HF_HOME": "/hf"}, "HF_DATASETS_CACHE", "datasets")
    '/hf/datasets'
    >>> cache({"HF_HOME": "/hf", "HF_DATASETS_CACHE": "~/d"}, "HF_DATASETS_CACHE", "datasets")
    '~/d'
    """
    home = env.get("HF_HOME", str(Path(env.get("XDG_CACHE_HOME", "~/.cache")) / "huggingface"))
    default = os.path.join(os.path.expanduser(home), name)  # noqa: PTH111, PTH118 - their very expression
    return env.get(variable, default)


def aside(folder: Path) -> Path:
    """A new folder in this one that the libraries do not look at."""
    new = folder / f"{_ASIDE}{uuid.uuid4().hex}"
    new.mkdir()
    return new


def discard(path: Path, folder: Path) -> None:
    """Take what is at a path below `folder` out of sight at once, then remove it."""
    place = aside(folder)
    path.rename(place / path.name)
    shutil.rmtree(place)


def clear(folder: Path) -> None:
    """Remove what a change that failed or was killed left aside."""
    for path in folder.glob(f"{_ASIDE}*"):
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def writing(folder: Path, timeout_s: float, fix: str) -> Iterator[None]:
    """Hold a cache against another install; an error of the system becomes a sentence that ends in `fix`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder / ".speed-bench.lock", timeout=timeout_s):
            yield
    except filelock.Timeout as error:
        raise CacheError(f"{folder} is in use by another speed-bench install; try again when it is done") from error
    except OSError as error:
        raise CacheError(f"{folder} cannot be written: {cause(error)}; {fix}") from error
