"""One process at a time for one key: locks of files in the store's folder.  Floor: inference.

A lock belongs to an open file, so the system ends it with its process, however that ends. It knows keys, and
nothing of what is done in a turn. Unix alone has these locks; elsewhere every process has its turn at once.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from itertools import chain, repeat
from pathlib import Path
from typing import Final

from casstore.digest import Key

try:
    import fcntl
except ImportError:  # not on Unix
    fcntl = None  # type: ignore[assignment]

FOLDER: Final = "flights"
"""The folder in the store where the files are."""

PATIENCE: Final = 600.0
"""Seconds to wait for another process, which is what the SDKs wait for a reply; then this one asks, too."""

_STEPS: Final = (0.005, 0.01, 0.02, 0.05, 0.1)
"""Seconds between two tries; the last one repeats."""

_held: set[int] = set()


class Turn:
    """A turn that was taken."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor
        _held.add(descriptor)

    def end(self) -> None:
        """Let the next process have its turn."""
        if self._descriptor not in _held:  # the process was forked: the turn is the parent's
            return
        _held.discard(self._descriptor)
        self._path.unlink(missing_ok=True)  # while it is locked: who opened it before sees that it is gone
        os.close(self._descriptor)


class Turns:
    """The turns of one store.

    Args:
        folder: The store's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER

    def try_take(self, key: Key) -> Turn | None:
        """Return a turn for `key`; None while another process has it.

        Raises:
            OSError: The folder cannot be written, or has no locks.
        """
        if fcntl is None:
            return None
        self._folder.mkdir(mode=0o700, exist_ok=True)
        path = self._folder / f"{key}.lock"
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            taken = _is_at(path, descriptor)
        except BlockingIOError:
            taken = False
        except BaseException:
            os.close(descriptor)
            raise
        if not taken:
            os.close(descriptor)
            return None
        return Turn(path, descriptor)

    def take(self, key: Key, patience: float = PATIENCE) -> Turn | None:
        """Return a turn for `key`, after waiting for it; None where that took too long.

        Raises:
            OSError: The folder cannot be written, or has no locks.
        """
        until = time.monotonic() + patience
        for pause in pauses():
            turn = self.try_take(key)
            if turn is not None or time.monotonic() >= until or fcntl is None:
                return turn
            time.sleep(pause)
        return None


def pauses() -> Iterator[float]:
    """Yield the seconds between two tries, without end."""
    return chain(_STEPS, repeat(_STEPS[-1]))


def _is_at(path: Path, descriptor: int) -> bool:
    """Tell whether the file that was locked is still the one at `path`."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    here = os.fstat(descriptor)
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)


def _close_in_child() -> None:
    """Close what the parent holds: a lock would live on as long as the child."""
    for descriptor in list(_held):
        os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)
