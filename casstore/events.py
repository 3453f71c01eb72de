"""Progress events: what long operations tell a caller while they run.  Floor: errors, digest, config.

An operation takes one callable, ``on_event``, and calls it with frozen values of the types below, from any
of its threads but never from two at once. Libraries never print; the command line draws these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Started:
    """An operation begins; the totals are what its plan predicts.

    Attributes:
        operation: ``push``, ``pull``, ``verify``, ``rebuild``, ``repack``, ``evict`` or ``gc``; and ``pack``,
            the making of the packs that a push sends.
        objects: Objects it will handle.
        size: Bytes it will handle.
    """

    operation: str
    objects: int
    size: int


@dataclass(frozen=True, slots=True)
class Advanced:
    """Some objects were handled since the last event."""

    operation: str
    objects: int
    size: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The operation is over."""

    operation: str


@dataclass(frozen=True, slots=True)
class Warned:
    """Something a person should know that does not stop the operation."""

    message: str


Event = Started | Advanced | Finished | Warned
OnEvent = Callable[[Event], None]
OnAdvance = Callable[[int, int], None]
"""Told of objects and bytes that were handled since it was called last."""


@contextmanager
def telling(operation: str, objects: int, size: int, on_event: OnEvent) -> Iterator[OnAdvance]:
    """Tell that an operation begins, and that it is over; yield what is to be told how far it is."""
    on_event(Started(operation, objects, size))
    try:
        yield lambda objects, size: on_event(Advanced(operation, objects, size))
    finally:
        on_event(Finished(operation))
