"""What can go wrong, as a tree.

    SpeedBenchError              a sentence for the user: what, which, what to do; the CLI prints it and exits 2
    ├── ConfigError              a flag, key, protocol, engine, algorithm, category or file that cannot be used
    ├── DataError                rows that are missing, malformed or filtered away
    ├── ModelError               a model file that is missing, truncated or of another format
    ├── TokenError               prompt ids that would differ from the engine's own
    ├── EngineError              the engine did not start, died, or said something that cannot be true
    │   └── RequestFailed        one request failed; recorded as a Failure, the run goes on
    │       └── Refused          the server answered, with an HTTP status that is not 200
    ├── RunFolderError           a run folder in use, of another config, unreadable or on a full disk
    ├── CacheError               a Hugging Face cache that cannot be read or written
    ├── HubError                 the Hugging Face Hub does not answer, or refuses
    ├── MetricInputError         a value given to a metric that cannot be; the message names request and position
    └── UndefinedMetric          a value that does not exist for this input (never 0)

Anything else that escapes is a fault of ours and keeps its traceback.
"""

import difflib
import errno
from collections.abc import Iterable
from pathlib import Path


class SpeedBenchError(Exception):
    """Base of every error whose message is meant for the user."""


class ConfigError(SpeedBenchError):
    """A setting that cannot be used; the message names it and the nearest valid one."""


class DataError(SpeedBenchError):
    """Rows that are missing, malformed or filtered away."""


class ModelError(SpeedBenchError):
    """A model file that is missing, truncated or of another format."""


class TokenError(SpeedBenchError):
    """Prompt ids that differ from the engine's own, or a tokenizer that cannot be built."""


class EngineError(SpeedBenchError):
    """The engine did not start, died, or answered something that cannot be true."""


class RequestFailed(EngineError):
    """One request failed. The runner records it as a `Failure` and goes on.

    The sentence may hold what a server said: it is made one line of at most 500 characters, none of which a terminal
    obeys.

    >>> str(RequestFailed("it says:\\n\\x1b[2J gone"))
    'it says: [2J gone'
    """

    def __init__(self, sentence: str) -> None:
        printable = "".join(each if each.isprintable() else " " for each in sentence[:4096])
        super().__init__(" ".join(printable.split())[:500])


class Refused(RequestFailed):
    """The server answered a request with an HTTP status that is not 200."""

    def __init__(self, sentence: str, status: int) -> None:
        super().__init__(sentence)
        self.status = status


class ClientError(SpeedBenchError):
    """A worker process of our own client that is gone."""


class RunFolderError(SpeedBenchError):
    """A run folder that is in use, holds another config, cannot be read or cannot be written."""


class MetricInputError(SpeedBenchError, ValueError):
    """A value given to a metric that cannot be: of another type, out of range, of another shape."""


class CacheError(SpeedBenchError):
    """A Hugging Face cache that is in use, cannot be read or cannot be written."""


class HubError(SpeedBenchError):
    """The Hugging Face Hub does not answer, refuses, or holds what is not ours to replace."""


class UndefinedMetric(SpeedBenchError, ValueError):
    """A metric that has no value for this input, such as a mean over no steps."""


def unwritable(path: Path, error: OSError) -> RunFolderError:
    """What to raise when a file of a run folder cannot be written: the cause, and that nothing is lost."""
    return RunFolderError(f"{path} cannot be written: {cause(error)}; make room or rights, then finish with --resume")


def cause(error: OSError) -> str:
    """Why a file cannot be written, in words.

    >>> cause(OSError(errno.ENOSPC, "No space left on device"))
    'there is no room left'
    """
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return "there is no room left" if full else str(error.strerror)


def unknown(kind: str, name: object, known: Iterable[str], *, plural: str | None = None) -> str:
    """A sentence for a name that is not known, with the nearest one that is.

    >>> unknown("engine", "lama-cpp", ["llama-cpp", "vllm"])
    "unknown engine 'lama-cpp'; did you mean 'llama-cpp'? engines: llama-cpp, vllm"
    """
    names = sorted(known)
    near = [] if "/" in str(name) else difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)  # a path is no slip
    hint = f"did you mean '{near[0]}'? " if near else ""
    return f"unknown {kind} '{name}'; {hint}{plural or kind + 's'}: {', '.join(names)}"


def brief(value: object, most: int = 120) -> str:
    """A value as it would be written, of a long one the beginning.

    >>> brief([1, "a"]), brief("a" * 999, 4)
    ("[1, 'a']", "'aaa…")
    """
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}…"
