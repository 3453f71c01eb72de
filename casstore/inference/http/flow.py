"""One exchange, for any HTTP library: what a driver asks for, in which order.

A driver says how its library spells requests and replies; `Driver` and `AsyncDriver` list what is needed. The
flow decides what is answered, sent, recorded or passed, by `HttpCache`. It knows no HTTP library.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from casstore.backends.traffic import is_ours, ours
from casstore.inference.flight import Errors
from casstore.inference.http.controls import marked
from casstore.inference.http.core import Ask, HttpCache, Opaque, Opened
from casstore.inference.http.exchange import HttpReply, HttpRequest, decodes, media_type
from casstore.inference.http.material import Passed
from casstore.inference.http.stored import StoredReply
from casstore.inference.http.tap import Tap

Inner = Callable[[Any], Any]
AsyncInner = Callable[[Any], Awaitable[Any]]


class _Spelling(Protocol):
    """What every driver says of its library's requests and replies."""

    @property
    def errors(self) -> Errors:
        """What the library raises."""

    def values_of(self, native: Any) -> HttpRequest:
        """Return a request as a value, without its body."""

    def given(self, native: Any, reply: HttpReply, sent: Any) -> Any:
        """Return a reply as a response to `native`, its body still to be read.

        Args:
            native: The request.
            reply: The reply.
            sent: The library's response that it was read from; None where there is none.
        """

    def head(self, response: Any) -> tuple[int, dict[str, str]]:
        """Return status and headers, by lower-case name, of the body as it will be watched."""

    def mark(self, response: Any, headers: Mapping[str, str]) -> None:
        """Add headers to a response."""

    def watch(self, response: Any, tap: Tap) -> None:
        """Have a response's body watched."""

    def replay(self, native: Any, stored: StoredReply, *, paced: bool) -> Any:
        """Return the response that plays a stored stream, with its pauses if `paced`."""


class Driver(_Spelling, Protocol):
    """How a sync library spells requests and replies."""

    def body_of(self, native: Any) -> bytes:
        """Return a request's body, which can still be sent."""

    def to_send(
        self, native: Any, *, cached: bool = False, streams: bool = False, body: bytes | None = None
    ) -> Any:
        """Return the request to send on: without the cache's own headers.

        Args:
            native: The request of the program.
            cached: The reply may be stored.
            streams: The reply is a stream.
            body: Another body; None for the request's own.
        """

    def read(self, response: Any) -> HttpReply | Opaque:
        """Read a response whole, close it, and return it as a value; as it came, where it cannot be read."""


class AsyncDriver(_Spelling, Protocol):
    """The same for an asyncio library."""

    async def body_of(self, native: Any) -> bytes:
        """See `Driver.body_of`."""

    async def to_send(
        self, native: Any, *, cached: bool = False, streams: bool = False, body: bytes | None = None
    ) -> Any:
        """See `Driver.to_send`."""

    async def read(self, response: Any) -> HttpReply | Opaque:
        """See `Driver.read`."""


def handle(http: HttpCache, driver: Driver, native: Any, inner: Inner) -> Any:
    """Return the response to a request of a sync client.

    Args:
        http: The cache.
        driver: That of the library that `native` is of.
        native: The request.
        inner: Asks the provider.
    """
    if is_ours():  # another cache has taken it up, or it goes to a remote
        return inner(native)
    request = http.guard.attempt("read a request", driver.values_of, native)
    if request is not None and http.knows(request) is not None:
        # Not under the guard: what a program's own body raises is the program's.
        request = request.with_body(driver.body_of(native))
    found = None if request is None else http.guard.attempt("read a request", http.open, request)
    if found is None:
        return _sent(driver.to_send(native), inner)
    if isinstance(found, HttpReply):
        return driver.given(native, found, None)
    if isinstance(found, Passed):
        return _passed(http, driver, native, found, inner)
    if found.subject.streams:
        return _streamed(http, driver, native, found, inner)
    return _whole(http, driver, native, found, inner)


def _sent(native: Any, inner: Inner) -> Any:
    with ours():
        return inner(native)


def _whole(http: HttpCache, driver: Driver, native: Any, opened: Opened, inner: Inner) -> Any:
    held = http.begin(opened)
    if held is not None:
        return driver.given(native, held, None)
    sent: list[Any] = []

    def send(ask: Ask) -> HttpReply | Opaque:
        response = _sent(driver.to_send(native, cached=True, body=ask.body), inner)
        if unreadable(driver, response):
            return Opaque(response)
        sent[:] = [response]
        return driver.read(response)

    reply = http.obtain(opened, send, driver.errors)
    return _answer(driver, native, reply, sent)


def _answer(driver: _Spelling, native: Any, reply: HttpReply | Opaque, sent: list[Any]) -> Any:
    if isinstance(reply, Opaque):
        return reply.native
    asked_here = bool(sent) and reply.headers.get("x-casstore") == "miss"
    return driver.given(native, reply, sent[-1] if asked_here else None)


def unreadable(driver: _Spelling, response: Any) -> bool:
    """Tell whether a response to a request for no stream is to be given on as it comes."""
    headers = driver.head(response)[1]
    return media_type(headers) == "text/event-stream" or not decodes(headers.get("content-encoding", ""))


def _passed(http: HttpCache, driver: Driver, native: Any, passed: Passed, inner: Inner) -> Any:
    started = time.perf_counter()
    response = _sent(driver.to_send(native), inner)
    http.guard.attempt("count", _watch, http, driver, passed, response, started)
    return response


def _streamed(http: HttpCache, driver: Driver, native: Any, opened: Opened, inner: Inner) -> Any:
    stored = http.replayed(opened)
    if stored is not None:
        return _played(http, driver, native, stored)
    started = time.perf_counter()
    response = _sent(driver.to_send(native, cached=True, streams=True), inner)
    http.guard.attempt("record", _watch, http, driver, opened, response, started)
    return response


def _played(http: HttpCache, driver: _Spelling, native: Any, stored: StoredReply | HttpReply) -> Any:
    if isinstance(stored, HttpReply):
        return driver.given(native, stored, None)
    return driver.replay(native, stored, paced=http.rules.paced and bool(stored.pace))


def _watch(http: HttpCache, driver: _Spelling, about: Opened | Passed, response: Any, started: float) -> None:
    """Have a response watched, where there is something to see."""
    if isinstance(about, Passed) and (about.subject is None or about.reason == "bypass"):
        http.count_passed(about)
        return
    tap = Tap(http, about, *driver.head(response), started)
    if isinstance(about, Opened):
        driver.mark(response, marked({}, "miss", about.material.key))
    driver.watch(response, tap)


async def handle_async(http: HttpCache, driver: AsyncDriver, native: Any, inner: AsyncInner) -> Any:
    """Return the response to a request of an async client; see `handle`."""
    if is_ours():
        return await inner(native)
    found = await _opened_async(http, driver, native) if _in_asyncio(http) else None
    if found is None:
        return await _sent_async(await driver.to_send(native), inner)
    if isinstance(found, HttpReply):
        return driver.given(native, found, None)
    if isinstance(found, Passed):
        return await _passed_async(http, driver, native, found, inner)
    take = _streamed_async if found.subject.streams else _whole_async
    return await take(http, driver, native, found, inner)


async def _opened_async(
    http: HttpCache, driver: AsyncDriver, native: Any
) -> Opened | Passed | HttpReply | None:
    request = http.guard.attempt("read a request", driver.values_of, native)
    if request is None:
        return None
    if http.knows(request) is not None:
        request = request.with_body(await driver.body_of(native))
    return http.guard.attempt("read a request", http.open, request)


def _in_asyncio(http: HttpCache) -> bool:
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        http.guard.warn("loop", "calls of an event loop that is not asyncio's are not cached")
        return False
    return True


async def _sent_async(native: Any, inner: AsyncInner) -> Any:
    with ours():
        return await inner(native)


async def _whole_async(
    http: HttpCache, driver: AsyncDriver, native: Any, opened: Opened, inner: AsyncInner
) -> Any:
    held = http.begin(opened)
    if held is not None:
        return driver.given(native, held, None)
    from casstore.inference.http.asynchronous import obtain

    sent: list[Any] = []

    async def send(ask: Ask) -> HttpReply | Opaque:
        response = await _sent_async(await driver.to_send(native, cached=True, body=ask.body), inner)
        if unreadable(driver, response):
            return Opaque(response)
        sent[:] = [response]
        return await driver.read(response)

    reply = await obtain(http, opened, send, driver.errors)
    return _answer(driver, native, reply, sent)


async def _passed_async(
    http: HttpCache, driver: AsyncDriver, native: Any, passed: Passed, inner: AsyncInner
) -> Any:
    started = time.perf_counter()
    response = await _sent_async(await driver.to_send(native), inner)
    http.guard.attempt("count", _watch, http, driver, passed, response, started)
    return response


async def _streamed_async(
    http: HttpCache, driver: AsyncDriver, native: Any, opened: Opened, inner: AsyncInner
) -> Any:
    import asyncio

    stored: StoredReply | HttpReply | None = http.replayed_at_hand(opened)
    if stored is None:
        stored = await asyncio.to_thread(http.replayed, opened)
    if stored is not None:
        return _played(http, driver, native, stored)
    started = time.perf_counter()
    response = await _sent_async(await driver.to_send(native, cached=True, streams=True), inner)
    http.guard.attempt("record", _watch, http, driver, opened, response, started)
    return response
