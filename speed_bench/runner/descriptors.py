"""Open files: every stream is one, and systems allow few unless they are asked for more."""

import sys

from speed_bench.errors import ConfigError

SPARE = 64
"""Besides the streams: journals, the engine's log and pipes, what Python has open."""
PER_WORKER = 4
"""What a process that is spoken with takes."""


def require(num_streams: int, num_workers: int = 1) -> None:
    """See to it that this process may have so many streams open, or have them open in so many workers.

    Raises ConfigError where the system does not allow it.
    """
    if sys.platform == "win32":
        return
    import resource

    wanted = max(-(-num_streams // num_workers), PER_WORKER * num_workers) + SPARE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        if hard != resource.RLIM_INFINITY and hard < wanted:
            each = f" in each of {num_workers} workers" if num_workers > 1 else ""
            raise ConfigError(
                f"{num_streams} streams need {wanted} open files{each}, and this system allows {hard} (ulimit -Hn); "
                "lower --concurrency, or raise the limit"
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
