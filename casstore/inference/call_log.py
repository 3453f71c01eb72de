"""One line a call, for a person who watches a program: ``CASSTORE_LOG=hits``.  Floor: inference.

A line says what the counts of a call say: whether it was a hit, a miss, passed by or was refused, and what
that saved or took. It goes to standard error, whole, and whatever happens to it is no trouble of the call.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import Final

from casstore.digest import Key
from casstore.errors import ConfigError

VARIABLE: Final = "CASSTORE_LOG"
"""The environment variable that asks for the lines."""

KEY_DIGITS: Final = 12
"""Of a key: enough to tell 10^6 entries apart, and for ``casstore show``."""

_PASSED, _UNSTORED, _REFUSED = "uncached_", "unstored_", "refused_"

Tell = Callable[[str, str, Mapping[str, float], Key | None], None]


def asked_for() -> Tell | None:
    """Return what tells of a call, or None where the environment asks for nothing.

    Raises:
        ConfigError: The environment asks for what there is not.
    """
    wanted = {word.strip() for word in os.environ.get(VARIABLE, "").lower().split(",")} - {""}
    if wanted - {"hits"}:
        raise ConfigError(
            f"{VARIABLE}=hits prints a line a call; there is no {min(wanted - {'hits'})[:40]!r}"
        )
    return tell if wanted else None


def tell(provider: str, model: str, counts: Mapping[str, float], key: Key | None) -> None:
    """Print the line of a call.

    Args:
        provider: Who was asked, or would have been.
        model: For which model.
        counts: What the call adds to the ledger.
        key: Its key; None where it has none, or none is known.
    """
    try:
        sys.stderr.write(line(provider, model, counts, key))
        sys.stderr.flush()
    except (AttributeError, OSError, ValueError):  # no standard error, or one that nobody reads any more
        pass


def line(provider: str, model: str, counts: Mapping[str, float], key: Key | None) -> str:
    """Return the line of a call, with its end."""
    state, reason = _state(counts)
    who = f"{provider}/{model}" if model else provider
    told = [f"casstore: {state:<7}", _plain(who), "-" * KEY_DIGITS if key is None else key[:KEY_DIGITS]]
    spent = _spent(counts, "saved" if state == "hit" else "spent")
    return " ".join([*told, "; ".join(filter(None, [reason, spent]))]).rstrip() + "\n"


def _state(counts: Mapping[str, float]) -> tuple[str, str]:
    if counts.get("hits"):
        return "hit", ""
    for name in counts:
        if name.startswith(_PASSED):
            return "passed", name.removeprefix(_PASSED)
        if name.startswith(_REFUSED):
            return "refused", name.removeprefix(_REFUSED)
        if name.startswith(_UNSTORED):
            return "miss", f"not stored: {name.removeprefix(_UNSTORED)}"
    return ("passed", "") if counts.get("uncached") else ("miss", "")


def _spent(counts: Mapping[str, float], how: str) -> str:
    money, seconds = counts.get(f"money_{how}"), counts.get(f"seconds_{how}")
    parts = [] if money is None else [f"${money:.4f}"]
    if seconds is not None:
        parts.append(f"{seconds:.1f} s")
    return " ".join([how, ", ".join(parts)]) if parts else ""


def _plain(text: str) -> str:
    """Return `text` without characters that could steer a terminal or end the line."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape", "replace").decode() for each in text
    )
