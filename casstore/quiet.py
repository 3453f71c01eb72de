"""Who ignores events, apart from the events: a process that only hits loads none.  Floor: events."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from casstore.events import Event


def ignore(event: Event) -> None:
    """Take an event and do nothing with it: the default ``on_event``."""


def unheard(objects: int, size: int) -> None:
    """Take how far something is and do nothing with it: the default ``on_advance``."""
