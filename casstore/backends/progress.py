"""How far the file is that a thread sends or fetches, for those backends that can tell.  Floor: backends.

Who waits for a file watches its thread; whatever backend works there says how far it is, if it can. So it
takes no argument that every backend, and every wrapper of one, would have to pass on.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class Progress:
    """How far one file is; where it is sent again from its beginning, this waits until that is further.

    Attributes:
        moved: Bytes that have moved.
    """

    def __init__(self) -> None:
        self.moved = 0
        self._lock = threading.Lock()

    def reach(self, position: int) -> None:
        """Note that so many bytes have moved, of a file that moves from its beginning to its end."""
        with self._lock:
            self.moved = max(self.moved, position)

    def add(self, length: int) -> None:
        """Note that a part has moved, of a file that moves in parts."""
        with self._lock:
            self.moved += length


_watched: ContextVar[Progress | None] = ContextVar("casstore_progress", default=None)


@contextmanager
def watching(progress: Progress) -> Iterator[None]:
    """Let what this thread moves in the block be noted."""
    token = _watched.set(progress)
    try:
        yield
    finally:
        _watched.reset(token)


def watched() -> Progress | None:
    """Return where to note what this thread moves, if anybody watches."""
    return _watched.get()
