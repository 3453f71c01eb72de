"""Transports for httpx and httpx2, which are alike: thin shells around `HttpCache`.  Floor: inference.

Each library has its own classes, and transports and streams must be of them; so they are made, once, for each
library. Nothing here imports one: whoever has a transport has loaded it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Self

from casstore.inference.http.controls import marked
from casstore.inference.http.core import Ask, HttpCache, Opaque, Opened
from casstore.inference.http.exchange import HttpReply
from casstore.inference.http.material import Passed
from casstore.inference.http.native import (
    SEEN,
    Library,
    loaded,
    native_miss,
    native_reply,
    read_reply,
    to_send,
    unreadable,
    values_of,
)
from casstore.inference.http.stored import StoredReply
from casstore.inference.http.tap import Tap

Inner = Callable[[Any], Any]


def handle(http: HttpCache, library: Library, native: Any, inner: Inner) -> Any:
    """Return the response to a request of a sync client.

    Args:
        http: The cache.
        library: The library that `native` is of.
        native: The request.
        inner: Asks the provider.
    """
    if SEEN in native.extensions:
        return inner(native)
    request = http.guard.attempt("read a request", values_of, native)
    if request is not None and http.knows(request) is not None:
        # Not under the guard: what a program's own body raises is the program's.
        request = request.with_body(native.read())
    found = None if request is None else http.guard.attempt("read a request", http.open, request)
    if found is None:
        return inner(to_send(library, native))
    if isinstance(found, HttpReply):
        return native_reply(library, found)
    if isinstance(found, Passed):
        return _passed(http, library, native, found, inner)
    if found.subject.streams:
        return _streamed(http, library, native, found, inner)
    return _whole(http, library, native, found, inner)


def _whole(http: HttpCache, library: Library, native: Any, opened: Opened, inner: Inner) -> Any:
    held = http.begin(opened)
    if held is not None:
        return native_reply(library, held)
    sent: list[Any] = []

    def send(ask: Ask) -> HttpReply | Opaque:
        response = inner(to_send(library, native, cached=True, body=ask.body))
        if unreadable(response):
            return Opaque(response)
        try:
            raw = b"".join(response.stream)
        finally:
            response.close()
        sent.append(response)
        return read_reply(library, response, raw)

    reply = http.obtain(opened, send, library.module.HTTPError)
    if isinstance(reply, Opaque):
        return reply.native
    return native_miss(library, reply, sent)


def _passed(http: HttpCache, library: Library, native: Any, passed: Passed, inner: Inner) -> Any:
    started = time.perf_counter()
    response = inner(to_send(library, native))
    tap = http.guard.attempt("count", _tap, http, passed, response, started)
    if tap is not None:
        response.stream = library.tapped(response.stream, tap)
    return response


def _streamed(http: HttpCache, library: Library, native: Any, opened: Opened, inner: Inner) -> Any:
    given = http.replayed(opened)
    if isinstance(given, HttpReply):
        return native_reply(library, given)
    if given is not None:
        return library.replay(given, paced=http.rules.paced)
    started = time.perf_counter()
    response = inner(to_send(library, native, cached=True, streams=True))
    tap = http.guard.attempt("record", _tap, http, opened, response, started)
    if tap is not None:
        _mark(response, opened)
        response.stream = library.tapped(response.stream, tap)
    return response


def _tap(http: HttpCache, about: Opened | Passed, response: Any, started: float) -> Tap | None:
    """Return what watches a response; None where there is nothing to see."""
    if isinstance(about, Passed) and (about.subject is None or about.reason == "bypass"):
        http.count_passed(about)
        return None
    return Tap(http, about, response.status_code, dict(response.headers), started)


def _mark(response: Any, opened: Opened) -> None:
    response.headers.update(marked({}, "miss", opened.material.key))


async def handle_async(http: HttpCache, library: Library, native: Any, inner: Inner) -> Any:
    """Return the response to a request of an async client; see `handle`."""
    if SEEN in native.extensions:
        return await inner(native)
    opened = await _opened_async(http, native) if _in_asyncio(http) else None
    if opened is None:
        return await inner(to_send(library, native))
    if isinstance(opened, HttpReply):
        return native_reply(library, opened)
    if isinstance(opened, Passed):
        return await _passed_async(http, library, native, opened, inner)
    take = _streamed_async if opened.subject.streams else _whole_async
    return await take(http, library, native, opened, inner)


async def _opened_async(http: HttpCache, native: Any) -> Opened | Passed | HttpReply | None:
    request = http.guard.attempt("read a request", values_of, native)
    if request is None:
        return None
    if http.knows(request) is not None:
        request = request.with_body(await native.aread())
    return http.guard.attempt("read a request", http.open, request)


def _in_asyncio(http: HttpCache) -> bool:
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        http.guard.warn("loop", "calls of an event loop that is not asyncio's are not cached")
        return False
    return True


async def _whole_async(http: HttpCache, library: Library, native: Any, opened: Opened, inner: Inner) -> Any:
    held = http.begin(opened)
    if held is not None:
        return native_reply(library, held)
    from casstore.inference.http.asynchronous import obtain

    sent: list[Any] = []

    async def send(ask: Ask) -> HttpReply | Opaque:
        response = await inner(to_send(library, native, cached=True, body=ask.body))
        if unreadable(response):
            return Opaque(response)
        try:
            raw = b"".join([piece async for piece in response.stream])
        finally:
            await response.aclose()
        sent.append(response)
        return read_reply(library, response, raw)

    reply = await obtain(http, opened, send, library.module.HTTPError)
    if isinstance(reply, Opaque):
        return reply.native
    return native_miss(library, reply, sent)


async def _passed_async(http: HttpCache, library: Library, native: Any, passed: Passed, inner: Inner) -> Any:
    started = time.perf_counter()
    response = await inner(to_send(library, native))
    tap = http.guard.attempt("count", _tap, http, passed, response, started)
    if tap is not None:
        response.stream = library.async_tapped(response.stream, tap)
    return response


async def _streamed_async(
    http: HttpCache, library: Library, native: Any, opened: Opened, inner: Inner
) -> Any:
    import asyncio

    given: StoredReply | HttpReply | None = http.replayed_at_hand(opened)
    if given is None:
        given = await asyncio.to_thread(http.replayed, opened)
    if isinstance(given, HttpReply):
        return native_reply(library, given)
    if given is not None:
        return library.replay_async(given, paced=http.rules.paced)
    started = time.perf_counter()
    response = await inner(to_send(library, native, cached=True, streams=True))
    tap = http.guard.attempt("record", _tap, http, opened, response, started)
    if tap is not None:
        _mark(response, opened)
        response.stream = library.async_tapped(response.stream, tap)
    return response


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
        return handle(self.casstore_http, library, request, self.casstore_inner.handle_request)

    async def handle_async_request(self: Any, request: Any) -> Any:
        inner = self.casstore_inner.handle_async_request
        return await handle_async(self.casstore_http, library, request, inner)

    return (
        type("CacheTransport", (_Shell, library.module.BaseTransport), {"handle_request": handle_request}),
        type(
            "AsyncCacheTransport",
            (_AsyncShell, library.module.AsyncBaseTransport),
            {"handle_async_request": handle_async_request},
        ),
    )
