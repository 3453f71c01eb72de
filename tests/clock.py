"""A clock that tests set forward: for this process, and for the files of remotes in folders."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

HOUR = 3600 * 1000
"""Milliseconds of an hour."""

_real = time.time_ns


class Clock:
    """Tells a time that passes only when a test says so, beside the true one."""

    def __init__(self) -> None:
        self._ahead = 0

    def now(self) -> int:
        """Return the time in nanoseconds since the Unix epoch."""
        return _real() + self._ahead

    def forward(self, hours: float, *remotes: Path) -> None:
        """Let time pass; files in the folders `remotes` keep the age they would have."""
        for remote in remotes:
            self.stamp(remote)
        self._ahead += int(hours * HOUR) * 1_000_000

    def stamp(self, remote: Path) -> None:
        """Let the files that were just written in a folder look so by this clock."""
        recent = _real() - 1800 * 1_000_000_000
        for path in remote.rglob("*.zst"):
            if self._ahead and abs(path.stat().st_mtime_ns - recent) <= 1800 * 1_000_000_000:
                os.utime(path, ns=(self.now(), self.now()))


@contextmanager
def running_clock() -> Iterator[Clock]:
    """Yield a clock that this process goes by."""
    clock = Clock()
    with mock.patch("time.time_ns", clock.now):
        yield clock
