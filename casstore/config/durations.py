"""Durations as people write them: ``24h``, ``90m``, ``7d``, ``0s``.  Floor: config.

Knows nothing of settings or files.
"""

from __future__ import annotations

import re

from casstore.errors import ConfigError

_DURATION = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?)\s*(?P<unit>[a-z]+)", re.IGNORECASE)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600, "w": 7 * 24 * 3600}
_MAX = 100 * 365 * 24 * 3600  # seconds; more is a mistake


def parse_duration(text: str) -> int:
    """Return the milliseconds that `text` means: a number and a unit, ``s m h d w``.

    Raises:
        ConfigError: `text` is no such duration.
    """
    found = _DURATION.fullmatch(text.strip())
    unit = _UNITS.get(found["unit"].lower()) if found else None
    if not found or unit is None:
        raise ConfigError(f"not a duration: {text!r}; write a number and a unit: 24h, 90m, 7d, 0s")
    seconds = float(found["number"]) * unit
    if seconds > _MAX:
        raise ConfigError(f"too long a duration: {text!r}; the most is 100 years")
    return round(seconds * 1000)
