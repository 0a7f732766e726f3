"""A cell of a sweep in a process of its own, on whichever machine.

    python -m speed_bench.sweep.cell_process

It reads a `CellJob` on standard input and tells what comes of it on standard output (`cell_messages`).
When its input closes it stops as a run does that is interrupted, its engine too.
"""

import os
import pickle
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from types import FrameType
from typing import IO, Any

from speed_bench.errors import SpeedBenchError
from speed_bench.runner.messages import LENGTH_BYTES, HasFailed, packed
from speed_bench.runner.outcomes import Ended
from speed_bench.sweep.cell_messages import CellJob, HasBegun, IsOver, failure
from speed_bench.sweep.one import run_cell
from speed_bench.sweep.remote_process import LET_GO, STOP_S
from speed_bench.types import Outcome


class _Teller:
    """An observer of the run who says that it has begun: the rest is in its folder."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out

    def tell(self, message: Any) -> None:
        self._out.write(packed(message))
        self._out.flush()

    def begin(self, arm: str, num_turns: int, earlier: Sequence[Outcome]) -> None:
        """See `benchmark.Observer`."""
        self.tell(HasBegun(num_turns))

    def outcome(self, turn: Ended) -> None:
        """See `benchmark.Observer`."""

    def end(self) -> None:
        """See `benchmark.Observer`."""


class _Watch(threading.Thread):
    """Waits for the input to close, then stops the run; later, the process."""

    def __init__(self, stdin: IO[bytes]) -> None:
        super().__init__(daemon=True)
        self._stdin = stdin
        self.orphaned = False
        """Whether nobody is left who looks after the folder."""

    def run(self) -> None:
        self.orphaned = not self._stdin.read().endswith(LET_GO)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(STOP_S)
        os._exit(1)


def main() -> int:
    """Run the cell until it ends, or nobody wants it any more."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints does not get in between
    signal.pthread_sigmask(
        signal.SIG_UNBLOCK, {signal.SIGINT}
    )  # Ray's workers block it, and engines would inherit that
    signal.signal(signal.SIGTERM, _interrupt)
    length = int.from_bytes(sys.stdin.buffer.read(LENGTH_BYTES), "little")
    job: CellJob = pickle.loads(sys.stdin.buffer.read(length))  # noqa: S301  (from a process of our own)
    watch = _Watch(sys.stdin.buffer)
    watch.start()
    teller = _Teller(out)
    try:
        run_cell(job.cell, job.sweep, teller)
    except KeyboardInterrupt:
        return 130
    except SpeedBenchError as error:
        teller.tell(failure(error))
        return 2
    except Exception:  # a fault of ours goes to who can show it
        teller.tell(HasFailed(None, traceback.format_exc()))
        return 1
    finally:
        if watch.orphaned:
            shutil.rmtree(job.sweep, ignore_errors=True)
    teller.tell(IsOver())
    return 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
