"""Waiting for what happens at one moment, without a timed assertion."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from tests.inference.http.loopback import Canned
from tests.inference.http.replies import canned, chat


def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    for _ in range(6000):
        if holds():
            return
        time.sleep(0.005)
    raise AssertionError("it never held")


def held(event: threading.Event) -> Canned:
    """Return an answer that waits for `event`."""
    answer = canned(chat())
    return Canned(answer.status, answer.headers, answer.body, hold=event)


def waiting(flights: Any, count: int) -> Callable[[], bool]:
    """Return whether `count` callers wait for the one flight."""
    return lambda: any(len(flight.wake) >= count for flight in list(flights._flights.values()))
