"""A store as it is read here, and entries chosen from it.  Floor: inference.

Entries come one by one and contents are read one at a time, so a store of any size can be gone through.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol, runtime_checkable

from casstore.catalog.records import Entry
from casstore.digest import Digest, Key
from casstore.errors import ConfigError

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_SPAN: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")


@runtime_checkable
class Source(Protocol):
    """What is used of a repository."""

    def entries(self) -> Iterator[Entry]:
        """Yield every entry."""

    def entry(self, key: Key) -> Entry:
        """Return an entry; raise NotFoundError where there is none."""

    def read_entry(self, key: Key) -> tuple[Entry, bytes]:
        """Return an entry and its object."""

    def get(self, digest: Digest) -> bytes:
        """Return an object."""

    def has(self, digest: Digest) -> bool:
        """Tell whether an object is here."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which entries are meant, by their labels; what is not given holds for all.

    Attributes:
        provider: Only of this provider.
        model: Only of this model, as asked for or as the reply names it.
        since: Only those created then or later, in milliseconds since the Unix epoch.
    """

    provider: str | None = None
    model: str | None = None
    since: int | None = None

    def has(self, entry: Entry) -> bool:
        """Tell whether an entry is meant."""
        labels = entry.labels
        return (
            (self.provider is None or labels.get("provider") == self.provider)
            and (self.model is None or self.model in (labels.get("model"), labels.get("answered_by")))
            and (self.since is None or entry.created >= self.since)
        )


def parse_since(text: str, now: float | None = None) -> int:
    """Return a moment, in milliseconds since the Unix epoch.

    Args:
        text: A time ago (``90m``, ``12h``, ``7d``, ``2w``), or a date with or without a time
            (``2026-11-23``, ``2026-11-23T14:05``), local where it tells no zone.
        now: The time, in seconds since the Unix epoch; by default the clock's.

    Raises:
        ConfigError: It is neither.
    """
    span = _SPAN.fullmatch(text.strip())
    if span is not None:
        return round(((time.time() if now is None else now) - float(span[1]) * _UNITS[span[2]]) * 1000)
    try:
        return round(datetime.fromisoformat(text.strip()).astimezone().timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        raise ConfigError(f"neither a time ago (12h, 7d) nor a date (2026-11-23): {text[:40]!r}") from None


def has_request(entry: Entry) -> bool:
    """Tell whether an entry's request was stored: the object whose digest is the key."""
    return Digest(entry.key) in entry.refs


def request_bytes(source: Source, entry: Entry) -> bytes | None:
    """Return the stored request of an entry; None where it was not stored, or is not here."""
    digest = Digest(entry.key)
    return source.get(digest) if has_request(entry) and source.has(digest) else None


def request_value(source: Source, entry: Entry) -> dict[str, Any] | None:
    """Return the stored request of an entry as JSON; None where there is none that is a JSON object."""
    content = request_bytes(source, entry)
    return None if content is None else parsed(content)


def parsed(content: bytes) -> dict[str, Any] | None:
    """Return the JSON object that `content` is; None where it is none."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
