"""A worker: a process of our own client that serves a share of a run's streams.

    python -m speed_bench.runner.worker

It is told what to do on standard input and tells what comes of it on standard output (`messages`).
It keeps every turn in a journal shard of its own as it ends. It stops when its input closes, or
with its parent.
"""

import asyncio
import os
import pickle
import signal
import sys
import time
import traceback
from contextlib import suppress
from typing import IO, Any

from speed_bench.errors import SpeedBenchError
from speed_bench.runner import event_loop
from speed_bench.runner.client import Client
from speed_bench.runner.journal import Shard
from speed_bench.runner.messages import HasFailed, HasKept, IsPrepared, Job, Start, packed, read_message
from speed_bench.runner.outcomes import Ended, ended
from speed_bench.runner.share import Session
from speed_bench.types import Outcome

TELL_EVERY_S = 0.2
PR_SET_PDEATHSIG = 1


class Teller:
    """Sends messages, and turns that were kept in one now and then."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self._kept: list[Ended] = []
        self._told_s = time.monotonic()

    def tell(self, message: Any) -> None:
        """Send it, after what was kept before it."""
        self._flush()
        self._write(message)

    def kept(self, outcome: Outcome) -> None:
        """A turn is in the journal."""
        self._kept.append(ended(outcome))
        if time.monotonic() - self._told_s >= TELL_EVERY_S:
            self._flush()

    def _flush(self) -> None:
        kept, self._kept, self._told_s = self._kept, [], time.monotonic()
        if kept:
            self._write(HasKept(tuple(kept)))

    def _write(self, message: Any) -> None:
        self._out.write(packed(message))
        self._out.flush()


async def serve(teller: Teller) -> None:
    """Do the job that comes, from its warm-up to its end; raises CancelledError if nobody wants it any more."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 24)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer)
    job: Job = await read_message(reader)
    started: asyncio.Future[Start] = loop.create_future()
    work = asyncio.create_task(_work(job, teller, started))
    listening = asyncio.create_task(_listen(reader, started))
    await asyncio.wait({work, listening}, return_when=asyncio.FIRST_COMPLETED)
    if not work.done():
        work.cancel()
    await work
    listening.cancel()


async def _work(job: Job, teller: Teller, started: "asyncio.Future[Start]") -> None:
    tokenizer = job.tokenizer.load()
    client = Client(job.target, tokenizer, job.share.slots(job.plan.config))
    with Shard(job.folder, job.share.worker) as shard:

        def keep(outcome: Outcome) -> None:
            shard.add(outcome)
            teller.kept(outcome)

        try:
            session = Session(job.plan, job.share, client, tokenizer, keep)
            await session.prepare(job.hint)
            teller.tell(IsPrepared())
            teller.tell(await session.run((await started).started_ns))
        finally:
            client.close()  # what has come is kept before the shard is closed


async def _listen(reader: asyncio.StreamReader, started: "asyncio.Future[Start]") -> None:
    """Returns when our parent has hung up, or is gone."""
    with suppress(asyncio.IncompleteReadError):
        started.set_result(await read_message(reader))
        await reader.read()


def main() -> int:
    """Serve until the job is done, or nobody wants it any more."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # for the parent, who hangs up: then we keep what has come
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints does not get in between
    teller = Teller(out)
    try:
        event_loop.run(serve(teller))
    except (asyncio.CancelledError, asyncio.IncompleteReadError, BrokenPipeError):
        return 1
    except SpeedBenchError as error:
        teller.tell(HasFailed(_sendable(error)))
        return 1
    except Exception:  # a fault of ours goes to who can show it
        teller.tell(HasFailed(None, traceback.format_exc()))
        return 1
    return 0


def _sendable(error: SpeedBenchError) -> SpeedBenchError:
    """The error, or its sentence where it cannot be pickled."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301
    except Exception:
        return SpeedBenchError(str(error))
    return error


if __name__ == "__main__":
    sys.exit(main())
