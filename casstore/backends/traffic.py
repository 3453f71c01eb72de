"""Whether what is being sent is casstore's own business.

A cache that is installed before every client of a process must not take up two kinds of requests: those to
casstore's own remotes, and those that a cache before one client has taken up already and now sends on. Both
are sent within `ours`, which new tasks and fsspec's own event loop inherit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, TypeVar

T = TypeVar("T")

_sending: Final[ContextVar[bool]] = ContextVar("casstore_sending", default=False)

is_ours = _sending.get
"""Tell whether the code that runs now sends a request of casstore's own."""


@contextmanager
def ours() -> Iterator[None]:
    """Mark what the block sends, here and in tasks that it starts, as casstore's own."""
    token = _sending.set(True)
    try:
        yield
    finally:
        _sending.reset(token)


def drawn(make: Callable[[], Iterable[T]]) -> Iterator[T]:
    """Yield what `make` gives, marked as casstore's own while it is fetched, and not while it is used."""
    with ours():
        found = iter(make())
    while True:
        with ours():
            try:
                each = next(found)
            except StopIteration:
                return
        yield each
