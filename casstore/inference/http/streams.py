"""Whether a stream came to its end, and what it said; pure.  Floor: inference.

A stream may be stored when the event was seen after which nothing comes (`FINAL`), whether or not its reader
then reads to the end of the body: the OpenAI client does not. After an event that others may follow (`ENDED`)
it may be stored only at the end of the body. An error in it is for ever.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from casstore.errors import FormatError, malformed
from casstore.inference.http.followers import ENDED, FINAL, FOLLOWERS, NO_ANSWER, RUNNING, Follower
from casstore.inference.http.framing import Event, Framing
from casstore.inference.http.replies import Reading

_DONE: Final = b"[DONE]"

_UNREADABLE: Final = (
    FormatError, AttributeError, IndexError, KeyError, RecursionError, TypeError, ValueError
)  # fmt: skip


class StreamWatch:
    """Watches a stream go by.

    Args:
        wire: The endpoint's wire.
        framing: How its events are cut.

    Attributes:
        state: `RUNNING`, `ENDED` or `FINAL`.
        trouble: Why the stream must not be stored, whatever comes; None as long as nothing says so.
    """

    def __init__(self, wire: str, framing: Framing) -> None:
        make = FOLLOWERS.get(wire)
        self._framing = framing
        self._follower: Follower | None = None if make is None else make()
        self.state = RUNNING
        self.trouble: str | None = None if make else f"streams of {wire!r} are not known"

    def feed(self, piece: bytes) -> None:
        """Take a piece of the decoded body, cut anywhere."""
        if self.trouble is None:
            self._take(lambda: self._framing.feed(piece))

    def end(self) -> None:
        """Say that the body is over."""
        if self.trouble is None:
            self._take(self._framing.end)
        if self.trouble is None and self.state == ENDED:
            self.state = FINAL

    @property
    def complete(self) -> bool:
        """Whether what came so far is a whole stream."""
        return self.trouble is None and self.state == FINAL

    def reading(self) -> Reading:
        """Return what was said so far; its usage counts though the stream is not stored."""
        return self._follower.reading() if self._follower else Reading(NO_ANSWER)

    def _take(self, events: Callable[[], Any]) -> None:
        try:
            for event in events():
                self._event(event)
        except _UNREADABLE as error:
            self.trouble = f"a stream that cannot be followed: {malformed(error)}"

    def _event(self, event: Event) -> None:
        if event.data.strip() == _DONE:
            self.state = FINAL
            return
        value = json.loads(event.data)
        if event.headers.get(":message-type", "event") != "event" or _is_error(event.name, value):
            self.trouble = "an error in the stream"
        elif isinstance(value, dict) and self._follower is not None:
            value = {event.name: value} if event.headers else value
            state = self._follower.add(value)
            self.state = state if self.state != FINAL else FINAL


def _is_error(name: str, value: object) -> bool:
    if not isinstance(value, dict):
        return name == "error"
    kind = value.get("type")
    return name == "error" or kind in ("error", "response.failed") or bool(value.get("error"))
