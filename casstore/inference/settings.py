"""Switches by name: what may be set for each call, and in a ``with`` block.

The table of all switches is in `designs/inference.md`. This module must not import the cache or a client.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, Literal, TypedDict, Unpack

from casstore.errors import ConfigError
from casstore.inference.policy import MaxAge, Mode, overrides_of

Streams = Literal["pass", "record"]
"""Let streams pass, or store and replay them."""


class CallSettings(TypedDict, total=False):
    """What may be set for each call: by a cache, a wrapped client, a ``with`` block, an SDK's client.

    Attributes:
        mode: ``normal``, ``refresh``, ``bypass`` or ``offline``; the variable ``CASSTORE_MODE`` overrides it.
        sample: Which of several answers to one request is wanted, counted from 0.
        namespace: Keeps answers of different projects or experiments apart.
        max_age: The oldest answer accepted, in seconds or as a time span; judged when reading.
        tag: Keeps calls apart that a program tells apart.
    """

    mode: str | Mode | None
    sample: int | None
    namespace: str | None
    max_age: MaxAge
    tag: str | None


CALL_SETTINGS: Final = tuple(CallSettings.__annotations__)
"""Names of the switches of a call."""

_blocks: ContextVar[Mapping[int, Mapping[str, Any]]] = ContextVar("casstore_using", default={})  # noqa: B039 — never changed, always replaced


def checked(**given: Unpack[CallSettings]) -> dict[str, Any]:
    """Return the settings that are given, checked.

    Raises:
        ConfigError: One is wrong.
    """
    return overrides_of(**given)


def in_block(cache: object) -> Mapping[str, Any] | None:
    """Return what the ``with`` blocks around the caller set for `cache`; None outside of one."""
    return _blocks.get().get(id(cache))


@contextmanager
def block(cache: object, overrides: Mapping[str, Any]) -> Iterator[None]:
    """Override settings of `cache` for a ``with`` block; those of an outer block hold on."""
    outer = _blocks.get()
    token = _blocks.set({**outer, id(cache): {**outer.get(id(cache), {}), **overrides}})
    try:
        yield
    finally:
        _blocks.reset(token)


def streams_of(streams: object, record_streams: object = None) -> Streams | None:
    """Return what becomes of streams; None where nothing is given.

    Args:
        streams: ``pass``, ``record`` or None.
        record_streams: The older name: True for ``record``, False for ``pass``.

    Raises:
        ConfigError: `streams` is something else, or the two contradict each other.
    """
    if streams not in (None, "pass", "record"):
        raise ConfigError(f"streams is 'pass' or 'record', not {streams!r}")
    if record_streams is None:
        return streams
    older: Streams = "record" if record_streams else "pass"
    if streams not in (None, older):
        raise ConfigError(f"streams={streams!r} and record_streams={record_streams!r} contradict each other")
    warn_deprecated(f"record_streams={record_streams!r} is deprecated: use streams={older!r}")
    return older


def warn_deprecated(message: str) -> None:
    """Warn of a deprecated name at the line outside of casstore that uses it."""
    level, frame = 2, sys._getframe(1)  # noqa: SLF001 — as `warnings` itself does; Python 3.12 has a parameter for it
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith("casstore."):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, DeprecationWarning, stacklevel=level)
