"""The memory tier: the answers used last, decoded, within a bound of bytes.  Floor: inference.

Knows nothing of what it holds but a size and an age. Entries of other processes reach it only through the
store, so an answer refreshed elsewhere is seen here once this one has left.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Generic, TypeVar

from casstore.digest import Key
from casstore.values import quick_value

T = TypeVar("T")

OVERHEAD = 1024
"""Bytes counted for each answer besides its content: the decoded values, the key, the links."""


@quick_value(frozen=True, slots=True)
class Held(Generic[T]):
    """A decoded answer.

    Attributes:
        answer: The answer itself; never changed by anybody.
        created: When it was stored, in milliseconds since the Unix epoch.
        size: Bytes of its content.
    """

    answer: T
    created: int
    size: int


class Memory(Generic[T]):
    """Answers by key, the least recently used leaving first.

    Args:
        limit: Bytes to hold; 0 holds nothing.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._held: OrderedDict[Key, Held[T]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Key) -> Held[T] | None:
        """Return what is held for `key`, as the most recently used."""
        with self._lock:
            held = self._held.get(key)
            if held is not None:
                self._held.move_to_end(key)
            return held

    def add(self, key: Key, held: Held[T]) -> None:
        """Hold an answer, in place of an older one for `key`; one larger than the bound is not held."""
        cost = held.size + OVERHEAD
        if cost > self._limit:
            if self._held:
                self.discard(key)
            return
        with self._lock:
            self._drop(key)
            self._held[key] = held
            self._size += cost
            while self._size > self._limit:
                self._drop(next(iter(self._held)))

    def discard(self, key: Key) -> None:
        """Forget what is held for `key`."""
        with self._lock:
            self._drop(key)

    def _drop(self, key: Key) -> None:
        held = self._held.pop(key, None)
        if held is not None:
            self._size -= held.size + OVERHEAD

    def __len__(self) -> int:
        return len(self._held)
