"""Progress events: what long operations tell a caller while they run.  Floor: errors, digest, config.

An operation takes one callable, ``on_event``, and calls it with frozen values of the types below, from any
of its threads but never from two at once. Libraries never print; the command line draws these.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Started:
    """An operation begins; the totals are what its plan predicts.

    Attributes:
        operation: ``push``, ``pull``, ``verify``, ``rebuild``, ``repack`` or ``evict``.
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
