"""Who takes which conversation next: tickets, each drawn once, by whichever stream is free first."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol


class Tickets(Protocol):
    """Numbers of tasks."""

    def draw(self, leaving: int = 0) -> int | None:
        """The next one; None when no more are left than are to be left for others."""


class OwnTickets:
    """Of a client that serves them alone.

    >>> tickets = OwnTickets(range(2))
    >>> tickets.draw(), tickets.draw(), tickets.draw()
    (0, 1, None)
    """

    def __init__(self, numbers: Iterable[int]) -> None:
        self._numbers = iter(numbers)

    def draw(self, leaving: int = 0) -> int | None:  # there are no others
        return next(self._numbers, None)


class SharedTickets:
    """Of several processes of one machine: a counter in a file, under the system's lock.

    With shares of its own, the worker whose answers happen to be short would idle at the end while others still had a
    queue.
    """

    WIDTH = 8

    def __init__(self, path: Path, num_tickets: int) -> None:
        self._file = os.open(path, os.O_RDWR)
        self._num_tickets = num_tickets

    @classmethod
    def make(cls, path: Path) -> None:
        """Put the counter there, at 0."""
        path.write_bytes(bytes(cls.WIDTH))

    def draw(self, leaving: int = 0) -> int | None:
        import fcntl

        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            number = int.from_bytes(os.pread(self._file, self.WIDTH, 0), "little")
            if number + leaving >= self._num_tickets:
                return None
            os.pwrite(self._file, (number + 1).to_bytes(self.WIDTH, "little"), 0)
            return number
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """No more tickets are drawn."""
        os.close(self._file)
