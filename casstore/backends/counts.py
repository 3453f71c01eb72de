"""Counting requests by verb.  Floor: backends.

Counters are shared by threads and survive a fork: one lock for all of them, which no child inherits locked.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from types import MappingProxyType

VERBS = ("GET", "PUT", "LIST", "HEAD", "DELETE", "POST")

_lock = threading.Lock()
os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


class RequestCounter:
    """How many requests of each verb a backend sent."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts = dict.fromkeys(VERBS, 0)

    def add(self, verb: str) -> None:
        """Count one request."""
        with _lock:
            self._counts[verb] = self._counts.get(verb, 0) + 1

    def snapshot(self) -> Mapping[str, int]:
        """Return the counts of now, which later requests do not change; verbs never sent are absent."""
        with _lock:
            return MappingProxyType({verb: count for verb, count in self._counts.items() if count})
