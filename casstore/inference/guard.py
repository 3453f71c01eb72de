"""The one seam where a failing store becomes no store.  Floor: inference.

Whatever breaks below (a full disk, a locked index, an unreachable remote, a damaged object), the model's
answer must reach the caller. So every use of the store by the inference layer goes through a `Guard`: a fault
is counted, told once, and taken for "nothing there".

A store that keeps callers waiting before it fails (a locked index, a dead mount) is left alone for a while.
One that fails at once costs nothing and is asked again each time, as are its other objects.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from casstore.errors import NotFoundError

T = TypeVar("T")
P = ParamSpec("P")

SLOW = 1.0
"""Seconds from which a fault is a slow one."""

PATIENCE = 2
"""Slow faults without a success between them, after which the store is left alone."""

REST = 30.0
"""Seconds for which it is left alone."""

LOGGER = "casstore"


class Guard:
    """Calls the store, and survives it.

    Args:
        clock: Seconds, from any start; for tests.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told: set[str] = set()
        self._slow_faults = 0
        self._rests_until = 0.0
        self.faults = 0

    def attempt(self, what: str, action: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """Return what `action` gives; None where nothing is there, it fails, or the store is left alone."""
        started = self._clock()
        if started < self._rests_until:
            return None
        try:
            result = action(*args, **kwargs)
        except NotFoundError:
            result = None
        except Exception as fault:  # noqa: BLE001 — whatever the store raises, the model's answer must get through
            self.fault(what, fault)
            self._rest_if_slow(started)
            return None
        self._slow_faults = 0
        return result

    @property
    def rests(self) -> bool:
        """Whether the store is left alone now."""
        return self._rests_until > 0 and self._clock() < self._rests_until

    def warn(self, topic: str, message: str, *args: object) -> None:
        """Tell a person of `message`, once for each `topic`."""
        if topic not in self._told:
            self._told.add(topic)
            import logging  # it costs a process 5 ms, and only a warning needs it

            logging.getLogger(LOGGER).warning(message, *args)

    def fault(self, what: str, fault: Exception) -> None:
        """Count a fault, and tell of the first one."""
        self.faults += 1
        from casstore.backends.reasons import words  # a store that works needs none

        if "store" not in self._told:
            self.warn("store", "the cache cannot %s (%s); calls go on without it", what, words(fault))
            import logging

            logging.getLogger(LOGGER).debug("the fault in full", exc_info=fault)

    def _rest_if_slow(self, started: float) -> None:
        now = self._clock()
        if now - started >= SLOW:
            self._slow_faults += 1
            if self._slow_faults >= PATIENCE:
                self._rests_until = now + REST
