"""Additive counters, collected in memory.  Floor: catalog.

A hit adds to two ledgers, its process's and its store's. So adding is putting aside, and what was put aside
is summed later, much of it at once.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Hashable, Mapping
from typing import Generic, TypeVar

W = TypeVar("W", bound=Hashable)

SUM_AT = 256
"""How much is put aside before it is summed."""

Sums = dict[W, dict[str, float]]


class Counters(Generic[W]):
    """Sums by name, for each of those that are counted."""

    def __init__(self) -> None:
        self._added: deque[tuple[W, Mapping[str, float]]] = deque()
        self._sums: Sums[W] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return how many are counted; those that were put aside pass for one, until they are summed."""
        return len(self._sums) + bool(self._added)

    def add(self, who: W, counts: Mapping[str, float]) -> None:
        """Add to the counters of `who`; nobody is waited for, but once in a while for who sums."""
        self._added.append((who, dict(counts)))
        if len(self._added) >= SUM_AT:
            self.sums()

    def sums(self) -> Sums[W]:
        """Return the sums so far."""
        with self._lock:
            self._sum()
            return {who: dict(known) for who, known in self._sums.items()}

    def take(self) -> Sums[W]:
        """Return the sums so far, and begin again."""
        with self._lock:
            self._sum()
            taken, self._sums = self._sums, {}
            return taken

    def _sum(self) -> None:
        while self._added:  # others may add meanwhile, but nobody else takes away
            who, counts = self._added.popleft()
            known = self._sums.setdefault(who, {})
            for name, value in counts.items():
                known[name] = known.get(name, 0) + value
