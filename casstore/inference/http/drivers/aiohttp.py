"""The driver for aiohttp, from 3.12 on: a middleware of its client.

It sees each request as it will be sent, and each step of a redirect. aiohttp decodes what it reads, unless
the session was made with ``auto_decompress=False``.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
import weakref
from collections.abc import Awaitable, Callable, Mapping
from functools import wraps
from types import SimpleNamespace
from typing import Any, Final

from casstore.backends.traffic import is_ours
from casstore.errors import ConfigError, FormatError
from casstore.inference.flight import Errors
from casstore.inference.http.controls import KEY_HEADER, STATE_HEADER, outgoing
from casstore.inference.http.core import HttpCache, Opaque
from casstore.inference.http.exchange import (
    ENCODING_HEADERS,
    HttpReply,
    HttpRequest,
    lower,
    undone,
)
from casstore.inference.http.flow import handle_async
from casstore.inference.http.native import pieces
from casstore.inference.http.stored import StoredReply
from casstore.inference.http.tap import Tap

Request = Callable[..., Awaitable[Any]]

_READS: Final = ("read", "readany", "readline", "readuntil", "readchunk", "readexactly")
"""The methods by which a body is waited for."""


def has_middlewares(session: type[Any]) -> bool:
    """Tell whether a class of sessions is of a version that can be driven."""
    return "middlewares" in inspect.signature(session._request).parameters  # noqa: SLF001 — no public way to ask


class AiohttpDriver:
    """See `casstore.inference.http.flow.AsyncDriver`."""

    @property
    def errors(self) -> Errors:
        """What aiohttp raises."""
        return (sys.modules["aiohttp"].ClientError, asyncio.TimeoutError)

    def values_of(self, native: Any) -> HttpRequest:
        """Return a request as a value, without its body."""
        return HttpRequest.of(native.method, str(native.url), native.headers.items())

    async def body_of(self, native: Any) -> bytes:
        """Return a request's body."""
        body = native.body
        if isinstance(body, (bytes, bytearray)):
            return bytes(body)
        content: bytes = await body.as_bytes()
        return content

    async def to_send(
        self, native: Any, *, cached: bool = False, streams: bool = False, body: bytes | None = None
    ) -> Any:
        """Change a request to what is to be sent on, and return it; it is this call's own."""
        changed = outgoing(native.headers.items(), cached=cached, streams=streams)
        if changed is not None:
            native.headers = type(native.headers)(changed)
        if body is not None:
            await native.update_body(body)
        return native

    async def read(self, response: Any) -> HttpReply | Opaque:
        """Return a response as a value; as it came, where its body is not what its headers say."""
        headers, maybe = lower(response.headers.items()), _decodes(response)
        try:
            raw = await response.content.read()
        except BaseException:
            response.close()
            raise
        response.release()
        try:
            plain, body = undone(headers, raw, maybe=maybe)
        except FormatError:
            return Opaque(_refilled(response, response.headers, raw))
        return HttpReply(response.status, plain, body)

    def given(self, native: Any, reply: HttpReply, sent: Any) -> Any:
        """Return a reply as a response; one that was asked for here has the headers it came with."""
        if sent is None:
            return _made(native, reply)
        left_out = ENCODING_HEADERS | {STATE_HEADER, KEY_HEADER}
        pairs = [(name, value) for name, value in sent.headers.items() if name.lower() not in left_out]
        pairs += [(name, reply.headers[name]) for name in (STATE_HEADER, KEY_HEADER) if name in reply.headers]
        return _refilled(sent, [*pairs, ("Content-Length", str(len(reply.body)))], reply.body)

    def head(self, response: Any) -> tuple[int, dict[str, str]]:
        """Return status and headers; of a body that aiohttp decodes they tell of no encoding."""
        headers = lower(response.headers.items())
        if _decodes(response) and headers.get("content-encoding", "") in ("gzip", "x-gzip", "deflate"):
            del headers["content-encoding"]
        return response.status, headers

    def mark(self, response: Any, headers: Mapping[str, str]) -> None:
        """Add headers to a response."""
        _head(response, [*response.headers.items(), *headers.items()])

    def watch(self, response: Any, tap: Tap) -> None:
        """Have a response's body watched."""
        _watch(response, tap)

    def replay(self, native: Any, stored: StoredReply, *, paced: bool) -> Any:
        """Return the response that plays a stored stream."""
        response = _made(native, stored.reply)
        if paced:
            response.content = _reader(native.session, None)
            player = asyncio.get_running_loop().create_task(_play(response.content, stored))
            response.casstore_player = player  # or it may be collected while it plays
        return response


_HTTP: Final = "casstore_http"
"""The attribute of a session that tells which cache is before it."""

DRIVER: Final = AiohttpDriver()


def _decodes(response: Any) -> bool:
    session = response._session  # noqa: SLF001 — nothing public tells
    return session is None or bool(session.auto_decompress)


class _NoProtocol:
    """What a `StreamReader` asks of a connection, where there is none."""

    connected = True

    def pause_reading(self) -> None:
        """Go on."""

    def resume_reading(self, *_: Any, **__: Any) -> None:
        """Go on."""


def _reader(session: Any, body: bytes | None) -> Any:
    """Return a reader that holds `body`; one that is still to be filled for None."""
    limit = max(getattr(session, "_read_bufsize", 0), len(body or b""), 2**16)
    loop = asyncio.get_running_loop()
    reader = sys.modules["aiohttp"].StreamReader(_NoProtocol(), limit, loop=loop)
    if body is not None:
        if body:
            reader.feed_data(body)
        reader.feed_eof()
    return reader


def _head(response: Any, pairs: Any) -> None:
    multidict = sys.modules["multidict"]
    made = multidict.CIMultiDict(pairs)
    response._headers = multidict.CIMultiDictProxy(made)  # noqa: SLF001 — a response cannot be told otherwise
    response._raw_headers = tuple(  # noqa: SLF001 — likewise
        (name.encode("utf-8", "surrogateescape"), value.encode("utf-8", "surrogateescape"))
        for name, value in made.items()
    )
    response._cache.pop("headers", None)  # noqa: SLF001 — likewise


def _refilled(response: Any, pairs: Any, body: bytes) -> Any:
    """Return a response that was read, with a body that is still to be read."""
    session = response._session  # noqa: SLF001 — as above
    _head(response, pairs.items() if hasattr(pairs, "items") else pairs)
    response.content = _reader(session, body)
    response._body = None  # noqa: SLF001 — likewise
    response._released = False  # noqa: SLF001 — likewise
    return response


def _made(native: Any, reply: HttpReply) -> Any:
    """Return a response for a request that was not sent."""
    aiohttp = sys.modules["aiohttp"]
    kind = native.response_class
    more = {}
    if "stream_writer" in inspect.signature(kind).parameters:
        more["stream_writer"] = SimpleNamespace(output_size=0)
    response = kind(
        native.method, native.original_url, writer=None, continue100=None, timer=None,
        request_info=native.request_info, traces=[], loop=native.loop, session=native.session, **more,
    )  # fmt: skip
    response.version, response.status = aiohttp.HttpVersion11, reply.status
    response.reason = _reason(reply.status)
    _head(response, [*reply.headers.items(), ("content-length", str(len(reply.body)))])
    response.content = _reader(native.session, reply.body)
    return response


def _reason(status: int) -> str:
    from http.client import responses

    return responses.get(status, "")


async def _play(reader: Any, stored: StoredReply) -> None:
    """Feed a stored stream in its pieces, each after its pause."""
    for seconds, piece in pieces(stored):
        await asyncio.sleep(seconds)
        if piece:
            reader.feed_data(piece)
    reader.feed_eof()


def _watch(response: Any, tap: Tap) -> None:
    """Have `tap` see what is read of a response, and closed before the end is told.

    The reader gets a class of its own, so that it stays the one that the connection fills; each byte leaves
    it by `_read_nowait_chunk`.
    """
    reader = response.content
    kind = type(reader)
    ending: list[asyncio.Future[None]] = []

    def close() -> asyncio.Future[None]:
        if not ending:
            ending.append(asyncio.get_running_loop().run_in_executor(None, tap.close))
        return ending[0]

    def taken(self: Any, n: int) -> bytes:
        piece: bytes = kind._read_nowait_chunk(self, n)  # noqa: SLF001 — nothing else sees every byte
        tap.feed(piece)
        return piece

    def ended(name: str) -> Callable[..., Awaitable[Any]]:
        original = getattr(kind, name)

        @wraps(original)
        async def read(self: Any, *args: Any, **kwargs: Any) -> Any:
            found = await original(self, *args, **kwargs)
            if self.at_eof() and self.exception() is None and not ending:
                tap.end()
                await asyncio.shield(close())
            return found

        return read

    if not reader.at_eof():
        methods = {name: ended(name) for name in _READS if hasattr(kind, name)}
        reader.__class__ = type(
            kind.__name__, (kind,), {"__slots__": (), "_read_nowait_chunk": taken, **methods}
        )
    else:  # it has no body
        tap.end()
        close()
    _closing(response, close)


def _closing(response: Any, close: Callable[[], Awaitable[Any]]) -> None:
    """Have a body that is left closed, too; who leaves a block waits for that."""
    kind = type(response)

    def left(name: str) -> Callable[[Any], Any]:
        original = getattr(kind, name)

        @wraps(original)
        def leave(self: Any) -> Any:
            result = original(self)
            if not self._loop.is_closed():
                close()
            return result

        return leave

    async def wait_for_close(self: Any) -> None:
        await kind.wait_for_close(self)
        await asyncio.shield(close())

    members = {"close": left("close"), "release": left("release"), "wait_for_close": wait_for_close}
    response.__class__ = type(kind.__name__, (kind,), members)


def answering(original: Request, cache_for: Callable[[Any], HttpCache | None]) -> Request:
    """Return `ClientSession._request` with a cache before it.

    Args:
        original: The function, which takes the session first.
        cache_for: Returns the cache for a URL; None to let a request pass.
    """

    async def middleware(native: Any, handler: Request) -> Any:
        http = cache_for(native.url)
        return await (handler(native) if http is None else handle_async(http, DRIVER, native, handler))

    @wraps(original)
    async def request(session: Any, *args: Any, **kwargs: Any) -> Any:
        if not is_ours():
            given = kwargs.get("middlewares")
            # The last, so that it sees what the others make of a request.
            kwargs["middlewares"] = (*(session._middlewares if given is None else given), middleware)  # noqa: SLF001
        return await original(session, *args, **kwargs)

    return request


def attach(http: HttpCache, session: Any) -> None:
    """Put a cache before a session.

    Raises:
        ConfigError: It is of a version without middlewares.
    """
    if getattr(session, _HTTP, None) is http:
        return
    if not has_middlewares(type(session)):
        raise ConfigError(
            f"aiohttp {sys.modules['aiohttp'].__version__} has no client middlewares, by which a cache is put"
            " before it: install aiohttp 3.12 or newer"
        )
    answered = answering(type(session)._request, lambda _: http)  # noqa: SLF001 — all requests pass it
    held = weakref.ref(session)

    async def request(*args: Any, **kwargs: Any) -> Any:
        return await answered(held(), *args, **kwargs)

    # Past `__setattr__`, which warns in development mode.
    object.__setattr__(session, "_request", request)
    object.__setattr__(session, _HTTP, http)
