"""Sizes as people write them: ``1GiB``, ``500 MB``, ``1073741824``.  Floor: config.

Knows nothing of settings or files.
"""

from __future__ import annotations

import re

from casstore.errors import ConfigError

_SIZE = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?)\s*(?P<unit>[a-z]*)", re.IGNORECASE)
_LETTERS = "kmgtp"
_UNITS = (
    {"": 1, "b": 1}
    | {f"{letter}ib": 1 << 10 * power for power, letter in enumerate(_LETTERS, 1)}
    | {letter: 1 << 10 * power for power, letter in enumerate(_LETTERS, 1)}
    | {f"{letter}b": 10 ** (3 * power) for power, letter in enumerate(_LETTERS, 1)}
)
_MAX = (1 << 63) - 1  # what SQLite and struct can hold


def parse_size(text: str) -> int:
    """Return the bytes that `text` means.

    Units are binary with an ``i`` or alone (``KiB MiB GiB TiB PiB``, ``K M G T P``) and decimal otherwise
    (``kB MB GB TB PB``); case and spaces do not matter; no unit means bytes.

    Raises:
        ConfigError: `text` is no such size.
    """
    found = _SIZE.fullmatch(text.strip())
    unit = _UNITS.get(found["unit"].lower()) if found else None
    if not found or unit is None:
        raise ConfigError(f"not a size: {text!r}; write a number and a unit: 1GiB, 500MB, 1073741824")
    number = found["number"]
    size = int(number) * unit if number.isdigit() else int(float(number) * unit)
    if size > _MAX:
        raise ConfigError(f"too large a size: {text!r}; the most is {_MAX} bytes (8 EiB)")
    return size


def format_size(size: int) -> str:
    """Return `size` bytes for people, in binary units: ``0 B``, ``1.0 KiB``, ``1.5 GiB``."""
    if size < 1024:  # noqa: PLR2004 - bytes in the first binary unit
        return f"{size} B"
    value, unit = size / 1024, "KiB"
    for larger in ("MiB", "GiB", "TiB", "PiB", "EiB"):
        if round(value, 1) < 1024:  # noqa: PLR2004 - as above
            break
        value, unit = value / 1024, larger
    return f"{value:.1f} {unit}"
