"""Requests and responses of httpx and httpx2 as values, and back.  Floor: inference.

The two libraries are alike in all that is used here. Neither is imported: its module is looked up once
something of it turns up. This module knows nothing of keys or stores.
"""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator, Iterator
from functools import lru_cache
from itertools import pairwise
from types import ModuleType
from typing import Any, Final

from casstore.errors import ConfigError, FormatError
from casstore.inference.http.controls import KEY_HEADER, STATE_HEADER, outgoing
from casstore.inference.http.core import Opaque
from casstore.inference.http.exchange import (
    ENCODING_HEADERS,
    HttpReply,
    HttpRequest,
    decoded,
    decodes,
    join_host,
    lower,
    media_type,
    named_host,
    plain_path,
)
from casstore.inference.http.stored import StoredReply
from casstore.inference.http.tap import Tap

LIBRARIES: Final = ("httpx", "httpx2")

SEEN: Final = "casstore"
"""Name of the extension that marks a request which was sent on, so that no second shell takes it up."""


class Library:
    """One of the two libraries, and what has to be made of its classes.

    Attributes:
        module: The library.
        shells: The transports made for it; see `casstore.inference.http.transport`.
    """

    def __init__(self, module: ModuleType) -> None:
        self.module = module
        self.shells: tuple[type[Any], type[Any]] | None = None
        bytes_here: type[Any] = module.SyncByteStream
        bytes_there: type[Any] = module.AsyncByteStream
        self._tapped = type("TappedStream", (_Tapped, bytes_here), {})
        self._async_tapped = type("AsyncTappedStream", (_AsyncTapped, bytes_there), {})
        self._paced = type("PacedStream", (_Paced, bytes_here), {})
        self._async_paced = type("AsyncPacedStream", (_AsyncPaced, bytes_there), {})

    def tapped(self, stream: Any, tap: Tap) -> Any:
        """Return a stream that `tap` watches."""
        return self._tapped(stream, tap)

    def async_tapped(self, stream: Any, tap: Tap) -> Any:
        """Return an async stream that `tap` watches."""
        return self._async_tapped(stream, tap)

    def replay(self, stored: StoredReply, *, paced: bool) -> Any:
        """Return the response that plays a stored stream."""
        return self._replayed(stored, self._paced(stored) if paced else None)

    def replay_async(self, stored: StoredReply, *, paced: bool) -> Any:
        """Return the response that plays a stored stream to an async client."""
        return self._replayed(stored, self._async_paced(stored) if paced else None)

    def _replayed(self, stored: StoredReply, stream: Any) -> Any:
        reply = stored.reply
        if stream is None or not stored.pace:
            return native_reply(self, reply)
        return self.module.Response(reply.status, headers=dict(reply.headers), stream=stream)


class _Tapped:
    def __init__(self, stream: Any, tap: Tap) -> None:
        self._stream = stream
        self._tap = tap

    def __iter__(self) -> Iterator[bytes]:
        return self._tap.watched(self._stream)

    def close(self) -> None:
        try:
            self._stream.close()
        finally:
            self._tap.close()


class _AsyncTapped:
    def __init__(self, stream: Any, tap: Tap) -> None:
        self._stream = stream
        self._tap = tap

    async def __aiter__(self) -> AsyncIterator[bytes]:
        import asyncio

        async for piece in self._stream:
            self._tap.feed(piece)
            yield piece
        self._tap.end()
        await asyncio.to_thread(self._tap.close)

    async def aclose(self) -> None:
        import asyncio

        try:
            await self._stream.aclose()
        finally:
            await asyncio.to_thread(self._tap.close)


def pieces(stored: StoredReply) -> Iterator[tuple[float, bytes]]:
    """Yield the pieces of a stream, each after the seconds to wait for it."""
    ends = [0]
    for length, _ in stored.pace:
        ends.append(ends[-1] + length)
    for (start, end), (_, waited) in zip(pairwise(ends), stored.pace, strict=True):
        yield waited / 1000, stored.reply.body[start:end]


class _Paced:
    def __init__(self, stored: StoredReply) -> None:
        self._stored = stored

    def __iter__(self) -> Iterator[bytes]:
        for seconds, piece in pieces(self._stored):
            time.sleep(seconds)
            yield piece


class _AsyncPaced:
    def __init__(self, stored: StoredReply) -> None:
        self._stored = stored

    async def __aiter__(self) -> AsyncIterator[bytes]:
        import asyncio

        for seconds, piece in pieces(self._stored):
            await asyncio.sleep(seconds)
            yield piece


@lru_cache(maxsize=len(LIBRARIES))
def library_called(name: str) -> Library:
    """Return ``httpx`` or ``httpx2``, which must be loaded."""
    return Library(sys.modules[name])


def loaded(thing: object) -> Library:
    """Return the library that a client or transport is of.

    Raises:
        ConfigError: It is of none that is known.
    """
    # By the classes themselves: openai renames the module of those that it hands on.
    for module in filter(None, map(sys.modules.get, LIBRARIES)):
        kinds = (module.BaseTransport, module.AsyncBaseTransport, module.Client, module.AsyncClient)
        if isinstance(thing, kinds):
            return library_called(module.__name__)
    raise ConfigError(f"neither of httpx nor of httpx2: {type(thing).__name__}")


def values_of(native: Any) -> HttpRequest:
    """Return a request as a value, without its body."""
    url = native.url
    path, _, query = url.raw_path.decode("ascii", "replace").partition("?")
    headers = _texts(native.headers.raw)
    host = named_host(url.scheme, join_host(url.scheme, url.host, url.port), headers)
    return HttpRequest(native.method.upper(), host, plain_path(path), query, headers)


def _texts(raw: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return headers as text, by lower-case name."""
    found = {name.lower().decode("latin-1"): value.decode("latin-1") for name, value in raw}
    if len(found) < len(raw):  # a name stands there twice
        return lower((name.decode("latin-1"), value.decode("latin-1")) for name, value in raw)
    return found


def to_send(
    library: Library, native: Any, *, cached: bool = False, streams: bool = False, body: bytes | None = None
) -> Any:
    """Return the request to send on: without the cache's own headers, and marked as seen.

    Args:
        library: The library.
        native: The request of the program.
        cached: The reply may be stored.
        streams: The reply is a stream.
        body: Another body; None for the request's own.
    """
    pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in native.headers.raw]
    changed = outgoing(pairs, cached=cached, streams=streams)
    content: dict[str, Any] = {"stream": native.stream}
    if body is not None:
        changed = [pair for pair in (changed or pairs) if pair[0].lower() != "content-length"]
        content = {"content": body}
    headers = native.headers
    if changed is not None:  # as bytes: the libraries take no text beyond ASCII, and send any byte
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in changed]
    extensions = {**native.extensions, SEEN: True}
    return library.module.Request(
        native.method, native.url, headers=headers, extensions=extensions, **content
    )


def unreadable(response: Any) -> bool:
    """Tell whether a response to a request for no stream is to be given on as it comes."""
    headers = response.headers
    encoding = headers.get("content-encoding", "")
    return media_type(
        {"content-type": headers.get("content-type", "")}
    ) == "text/event-stream" or not decodes(encoding)


def read_reply(library: Library, response: Any, raw: bytes) -> HttpReply | Opaque:
    """Return a response as a value; as it came, where its body is not what its headers say.

    Args:
        library: The library.
        response: The response.
        raw: Its body, as it came.
    """
    headers = lower(response.headers.multi_items())
    try:
        plain, body = decoded(headers, raw)
    except FormatError:
        stream = library.module.ByteStream(raw)
        return Opaque(library.module.Response(response.status_code, headers=response.headers, stream=stream))
    return HttpReply(response.status_code, plain, body)


def native_reply(library: Library, reply: HttpReply) -> Any:
    """Return a reply as a response."""
    return _unread(library, reply, [(name.encode(), text.encode()) for name, text in reply.headers.items()])


def native_miss(library: Library, reply: HttpReply, sent: list[Any]) -> Any:
    """Return a reply as a response; one that was asked for here has the headers it came with.

    Args:
        library: The library.
        reply: The reply.
        sent: The response that was asked for here, if one was.
    """
    if not sent or reply.headers.get(STATE_HEADER) != "miss":
        return native_reply(library, reply)
    first = sent[-1]
    left_out = ENCODING_HEADERS | {STATE_HEADER, KEY_HEADER}
    pairs = [pair for pair in first.headers.raw if pair[0].lower().decode("latin-1") not in left_out]
    told = (STATE_HEADER, KEY_HEADER)
    pairs += [(name.encode(), reply.headers[name].encode()) for name in told if name in reply.headers]
    return _unread(library, reply, pairs, extensions=first.extensions)


def _unread(library: Library, reply: HttpReply, headers: list[tuple[bytes, bytes]], **more: Any) -> Any:
    """Return a response whose body is still to be read, as a transport's is.

    One made with its content is closed already: it has no `elapsed`, and its raw bytes cannot be had.
    """
    headers = [*headers, (b"content-length", b"%d" % len(reply.body))]
    stream = library.module.ByteStream(reply.body)
    return library.module.Response(reply.status, headers=headers, stream=stream, **more)
