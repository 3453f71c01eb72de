"""Single flight: of identical calls at one moment, one is made and all share its result.  Floor: inference.

The first caller of a name leads; the others wait. A leader that fails with an error shares the error, since
asking again at once would only add to a provider's trouble. A leader that is stopped (cancelled, interrupted,
its generator closed) shares nothing, and the next one waiting leads instead.

This module knows threads; `casstore.inference.asynchronous` waits for the same flights from event loops.
Nothing here knows what a call is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")

Errors = type[Exception] | tuple[type[Exception], ...]
"""The errors that a caller can make something of when an identical call failed with one."""


@dataclass(slots=True, eq=False)
class Flight(Generic[T]):
    """One call under way. `landed` is set last, so whoever sees it sees the rest.

    Attributes:
        owner: The thread or task that leads; it would wait for itself forever.
        landed: The call is over.
        result: What it gave; None where it failed or was stopped.
        error: What it failed with.
        wake: What to call when it lands.
    """

    owner: int
    landed: bool = False
    result: T | None = None
    error: Exception | None = None
    wake: list[Callable[[], None]] = field(default_factory=list)

    def shared(self, errors: Errors = Exception) -> T | None:
        """Return what the leader got; None if it was stopped, or failed with none of `errors`.

        Raises:
            Exception: The error the leader failed with.
        """
        if isinstance(self.error, errors):
            raise self.error
        return self.result


class Flights(Generic[T]):
    """The calls under way, by name."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[Hashable, Flight[T]] = {}

    def join(self, name: Hashable, owner: int) -> tuple[Flight[T], bool]:
        """Return the flight called `name`, and whether the caller leads it and so must land it."""
        with self._lock:
            flight = self._flights.get(name)
            if flight is None:
                flight = self._flights[name] = Flight(owner)
                return flight, True
            return flight, False

    def land(self, name: Hashable, flight: Flight[T]) -> None:
        """End a flight: later callers start another, and those who wait go on."""
        with self._lock:
            del self._flights[name]
            flight.landed = True
            waiting = flight.wake
        for wake in waiting:
            wake()

    def on_landing(self, flight: Flight[T], wake: Callable[[], None]) -> bool:
        """Have `wake` called when `flight` lands; False if it already has, and `wake` is not called."""
        with self._lock:
            if not flight.landed:
                flight.wake.append(wake)
            return not flight.landed

    def run(self, name: Hashable, call: Callable[[], T], errors: Errors = Exception) -> tuple[T, bool]:
        """Return the result of `call`, or of an identical one under way, and whether it was the caller's own.

        Raises:
            Exception: What `call` raised, or the identical call, if it is one of `errors`.
        """
        me = threading.get_ident()
        while True:
            flight, leads = self.join(name, me)
            if leads:
                return self._lead(name, flight, call), True
            if flight.owner == me:  # a call inside itself: waiting would never end
                return call(), True
            self._wait(flight)
            result = flight.shared(errors)
            if result is not None:
                return result, False

    def _lead(self, name: Hashable, flight: Flight[T], call: Callable[[], T]) -> T:
        try:
            flight.result = call()
        except Exception as error:
            flight.error = error
            raise
        finally:
            self.land(name, flight)
        return flight.result

    def _wait(self, flight: Flight[T]) -> None:
        landed = threading.Event()
        if self.on_landing(flight, landed.set):
            landed.wait()
