"""Transports for httpx and httpx2, which are alike: thin shells around `HttpCache`.

Each library has its own classes, and transports and streams must be of them; so they are made, once, for each
library. Nothing here imports one: whoever has a transport has loaded it.
"""

from __future__ import annotations

from typing import Any, Self

from casstore.inference.http.core import HttpCache
from casstore.inference.http.flow import handle, handle_async
from casstore.inference.http.native import Library, loaded


class CacheTransport:
    """What is common to the transports made here: another transport inside, and its attributes."""

    casstore_inner: Any
    casstore_http: HttpCache

    def __getattr__(self, name: str) -> Any:
        if name.startswith("casstore_"):
            raise AttributeError(name)
        return getattr(self.casstore_inner, name)


class _Shell(CacheTransport):
    """What is common to the sync ones: the inner transport is entered, left and closed with them."""

    def __enter__(self) -> Self:
        self.casstore_inner.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self.casstore_inner.__exit__(*exc)

    def close(self) -> None:
        self.casstore_inner.close()


class _AsyncShell(CacheTransport):
    """The same for the async ones."""

    async def __aenter__(self) -> Self:
        await self.casstore_inner.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.casstore_inner.__aexit__(*exc)

    async def aclose(self) -> None:
        await self.casstore_inner.aclose()


def wrapped(http: HttpCache, inner: Any) -> Any:
    """Return a transport of httpx or httpx2 with the cache before it, of the same library and kind.

    Args:
        http: The cache.
        inner: The transport that asks the provider; one with a cache before it gets this one instead.

    Raises:
        ConfigError: It is no transport of a library that is known.
    """
    if isinstance(inner, CacheTransport):
        inner = inner.casstore_inner
    library = loaded(inner)
    asynchronous = hasattr(inner, "handle_async_request")
    shell = _shells(library)[asynchronous]()
    shell.casstore_inner, shell.casstore_http = inner, http
    return shell


def _shells(library: Library) -> tuple[type[Any], type[Any]]:
    if library.shells is None:
        library.shells = _made(library)
    return library.shells


def _made(library: Library) -> tuple[type[Any], type[Any]]:
    def handle_request(self: Any, request: Any) -> Any:
        return handle(self.casstore_http, library.driver, request, self.casstore_inner.handle_request)

    async def handle_async_request(self: Any, request: Any) -> Any:
        inner = self.casstore_inner.handle_async_request
        return await handle_async(self.casstore_http, library.async_driver, request, inner)

    return (
        type("CacheTransport", (_Shell, library.module.BaseTransport), {"handle_request": handle_request}),
        type(
            "AsyncCacheTransport",
            (_AsyncShell, library.module.AsyncBaseTransport),
            {"handle_async_request": handle_async_request},
        ),
    )
