"""Transports for httpx and httpx2, which are alike: thin shells around `HttpCache`.  Floor: inference.

Each library has its own classes, and transports and streams must be of them; so the shells are made, once, from
the library's module. No HTTP library is imported here: whoever has a transport has loaded it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any, Final

from casstore.errors import ConfigError, FormatError
from casstore.inference.http.controls import BAD_REQUEST, PREFIX, outgoing, overrides_in, refusal
from casstore.inference.http.core import Ask, HttpCache, Opaque, Opened
from casstore.inference.http.endpoints import endpoint_at
from casstore.inference.http.exchange import (
    ENCODING_HEADERS,
    HttpReply,
    HttpRequest,
    decoded,
    join_host,
    lower,
    media_type,
    plain_path,
)
from casstore.inference.http.material import Passed
from casstore.inference.http.stored import StoredReply

LIBRARIES: Final = ("httpx", "httpx2")

SEEN: Final = "casstore"
"""Name of the extension that marks a request which a shell has sent on, so that no second one takes it up."""


@dataclass(frozen=True, slots=True)
class Shells:
    """What is made for one HTTP library.

    Attributes:
        library: Its module.
        transport: The sync transport's class: ``transport(http, inner)``.
        async_transport: The async transport's class.
    """

    library: ModuleType
    transport: type[Any]
    async_transport: type[Any]


@lru_cache(maxsize=len(LIBRARIES))
def shells_for(name: str) -> Shells:
    """Return the shells for ``httpx`` or ``httpx2``, which must be loaded."""
    library = sys.modules[name]

    class CacheTransport(_Sync, library.BaseTransport):  # type: ignore[name-defined,misc]  # a class known when the library is
        """Gives stored replies, and lets another transport ask for the rest."""

        _library = library

    class AsyncCacheTransport(_Async, library.AsyncBaseTransport):  # type: ignore[name-defined,misc]  # likewise
        """Gives stored replies, and lets another transport ask for the rest."""

        _library = library

    return Shells(library, CacheTransport, AsyncCacheTransport)


def library_of(thing: object) -> str:
    """Return the name of the HTTP library that a client or transport belongs to.

    Raises:
        ConfigError: It belongs to none that is known.
    """
    for kind in type(thing).__mro__:
        name = kind.__module__.partition(".")[0]
        if name in LIBRARIES:
            return name
    raise ConfigError(f"neither of httpx nor of httpx2: {type(thing).__name__}")
