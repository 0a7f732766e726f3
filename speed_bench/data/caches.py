"""Where this package keeps what it can make or fetch again."""

import os
from collections.abc import Mapping
from pathlib import Path


def cache_folder(name: str, environment: Mapping[str, str] = os.environ) -> Path:
    """The folder of one kind of things.

    >>> cache_folder("sources", {"XDG_CACHE_HOME": "/var/cache"}).as_posix()
    '/var/cache/speed-bench/sources'
    """
    given = environment.get("XDG_CACHE_HOME")
    return (Path(given) if given else Path.home() / ".cache") / "speed-bench" / name
