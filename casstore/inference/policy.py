"""Decisions, without any I/O: which mode holds, and which answers are kept.  Floor: inference.

Pure functions over values, so that the sync and the async clients decide alike.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum
from typing import Any, Final

from casstore.errors import ConfigError
from casstore.inference.types import Response

MODE_VARIABLE: Final = "CASSTORE_MODE"
"""The environment variable that overrides every mode set in a program."""

MaxAge = float | timedelta | None
"""Seconds, or a time span; None for any age."""


class Mode(Enum):
    """How a cache is used."""

    NORMAL = "normal"
    """Read, call on a miss, store."""
    REFRESH = "refresh"
    """Do not read; call, and replace what is stored."""
    BYPASS = "bypass"
    """Neither read nor write: as if there were no cache."""
    OFFLINE = "offline"
    """Read; a miss is an error, and nothing is called."""


_MODES = {mode.value: mode for mode in Mode}
_NO_TEXT: Final = frozenset({"tool_use", "filtered", "refused"})
"""How answers end that are whole without a text."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What may change from call to call.

    Attributes:
        mode: How the cache is used.
        sample: Which of several answers to one request is wanted.
        namespace: Keeps answers of different projects apart.
        max_age: Oldest answer accepted, in seconds; None for any.
        tag: Keeps calls apart that a program tells apart: the name of an experiment, say.
    """

    mode: Mode = Mode.NORMAL
    sample: int = 0
    namespace: str = ""
    max_age: float | None = None
    tag: str = ""


def parse_mode(text: str | Mode) -> Mode:
    """Return the mode called `text`.

    Raises:
        ConfigError: There is no such mode.
    """
    if isinstance(text, Mode):
        return text
    mode = _MODES.get(text.strip().lower())
    if mode is None:
        raise ConfigError(f"no such mode: {text[:40]!r}; choose one of {', '.join(_MODES)}")
    return mode


def effective(settings: Settings) -> Settings:
    """Return `settings`, with the mode that the environment orders, if it does.

    Raises:
        ConfigError: The environment orders a mode that does not exist.
    """
    ordered = os.environ.get(MODE_VARIABLE)
    if not ordered:
        return settings
    mode = parse_mode(ordered)
    return settings if mode is settings.mode else replace(settings, mode=mode)


def why_not_stored(response: Response, keep: Collection[str], *, content: bool = False) -> str | None:
    """Return why a complete answer is not stored, as a word of `casstore.inference.reasons.KEEP`, or None.

    An answer that a token limit cut off is stored: asked again, it would be cut off again. So is the model's
    own refusal, which is an answer; what a provider's filter withheld is not.

    Args:
        response: The answer.
        keep: Reasons that are overruled.
        content: The answer holds something besides text and tool calls: an image, vectors.
    """
    stop = response.stop_reason
    if stop == "filtered" and "filtered" not in keep:
        return "filtered"
    if not content and not response.text.strip() and stop not in _NO_TEXT and "empty" not in keep:
        return "empty"
    return None


def overrides_of(
    mode: str | Mode | None = None,
    sample: int | None = None,
    namespace: str | None = None,
    max_age: MaxAge = None,
    tag: str | None = None,
) -> dict[str, Any]:
    """Return the settings that are given, checked.

    Raises:
        ConfigError: One is wrong.
    """
    given: dict[str, Any] = {}
    if mode is not None:
        given["mode"] = parse_mode(mode)
    if sample is not None:
        if sample < 0 or sample != int(sample):
            raise ConfigError(f"a sample index counts from 0: {sample}")
        given["sample"] = int(sample)
    if namespace is not None:
        given["namespace"] = namespace
    if max_age is not None:
        given["max_age"] = seconds_of(max_age)
    if tag is not None:
        given["tag"] = tag
    return given


def seconds_of(max_age: MaxAge) -> float | None:
    """Return an age in seconds.

    Raises:
        ConfigError: It is none.
    """
    seconds = max_age.total_seconds() if isinstance(max_age, timedelta) else max_age
    if seconds is not None and not seconds >= 0:
        raise ConfigError(f"a maximum age is a number of seconds, 0 or more: {max_age!r}")
    return seconds
