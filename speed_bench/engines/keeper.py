"""Keeps an engine that does not know us: a script of its own, which starts it and dies with it, and it with us.

    python keeper.py ENGINE ARGUMENT…

The engine gets a session of its own. It is ended, with every process of that session's group, when we are asked
to end (SIGTERM, SIGINT) and when the pipe on our standard input closes, which happens when the runner dies in any
way. If we are killed, it is killed too, on Linux, and its children are its own to end. Our exit code is the engine's.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

PR_SET_PDEATHSIG = 1
GRACE_S = 4.0
"""Between asking the engine to end and insisting; shorter than the runner's own patience with us."""
POLL_S = 0.1
NOT_STARTED = 127
"""Our exit code then, as a shell's."""


def _die_with_keeper() -> None:
    """In the child, before the engine starts: be killed when the keeper is."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _signal_group(pid: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _end(engine: subprocess.Popen[bytes]) -> None:
    """Ask the whole group, wait for its leader, insist."""
    _signal_group(engine.pid, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_S
    while engine.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    _signal_group(engine.pid, signal.SIGKILL)


def main() -> int:
    """Start the engine and wait for it."""
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.set())

    def watch() -> None:
        while os.read(0, 4096):
            pass
        ending.set()

    try:
        engine = subprocess.Popen(
            sys.argv[1:], stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=_die_with_keeper
        )
    except OSError as error:
        sys.stderr.write(f"{sys.argv[1]} cannot be started: {error.strerror}\n")
        return NOT_STARTED
    threading.Thread(target=watch, daemon=True).start()
    while engine.poll() is None:
        if ending.wait(POLL_S):
            _end(engine)
    _signal_group(engine.pid, signal.SIGKILL)  # what it left behind
    return 128 - engine.returncode if engine.returncode < 0 else engine.returncode


if __name__ == "__main__":
    sys.exit(main())
