"""The drivers for httpx and httpx2: their requests and responses as values, and back.

The two libraries are alike in all that is used here. Neither is imported: its module is looked up once
something of it turns up. This module knows nothing of keys or stores.
"""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from functools import lru_cache
from itertools import pairwise
from types import ModuleType
from typing import Any, Final

from casstore.errors import ConfigError, FormatError
from casstore.inference.flight import Errors
from casstore.inference.http.controls import KEY_HEADER, STATE_HEADER, outgoing
from casstore.inference.http.core import Opaque
from casstore.inference.http.exchange import (
    ENCODING_HEADERS,
    HttpReply,
    HttpRequest,
    decoded,
    join_host,
    lower,
    named_host,
    plain_path,
)
from casstore.inference.http.stored import StoredReply
from casstore.inference.http.tap import Tap

LIBRARIES: Final = ("httpx", "httpx2")


class _Spelling:
    """What the drivers for sync and async clients of a library have in common.

    Args:
        module: The library.
        base: The library's class of streams.
        tapped: What makes a stream that is watched.
        paced: What makes a stream that is played with its pauses.
    """

    def __init__(self, module: ModuleType, base: type[Any], tapped: type[Any], paced: type[Any]) -> None:
        self.module = module
        self.errors: Errors = module.HTTPError
        self._tapped: Any = type(tapped.__name__.strip("_"), (tapped, base), {})
        self._paced: Any = type(paced.__name__.strip("_"), (paced, base), {})

    def values_of(self, native: Any) -> HttpRequest:
        """Return a request as a value, without its body."""
        url = native.url
        path, _, query = url.raw_path.decode("ascii", "replace").partition("?")
        headers = _texts(native.headers.raw)
        host = named_host(url.scheme, join_host(url.scheme, url.host, url.port), headers)
        return HttpRequest(native.method.upper(), host, plain_path(path), query, headers)

    def outgoing(self, native: Any, *, cached: bool, streams: bool, body: bytes | None) -> Any:
        """Return the request to send on; see `casstore.inference.http.flow.Driver.to_send`."""
        pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in native.headers.raw]
        changed = outgoing(pairs, cached=cached, streams=streams)
        content: dict[str, Any] = {"stream": native.stream}
        if body is not None:
            changed = [pair for pair in (changed or pairs) if pair[0].lower() != "content-length"]
            content = {"content": body}
        headers = native.headers
        if changed is not None:  # as bytes: the libraries take no text beyond ASCII, and send any byte
            headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in changed]
        return self.module.Request(
            native.method, native.url, headers=headers, extensions=native.extensions, **content
        )

    def valued(self, response: Any, raw: bytes) -> HttpReply | Opaque:
        """Return a response whose body was read, as it came, as a value."""
        headers = lower(response.headers.multi_items())
        try:
            plain, body = decoded(headers, raw)
        except FormatError:
            stream = self.module.ByteStream(raw)
            return Opaque(self.module.Response(response.status_code, headers=response.headers, stream=stream))
        return HttpReply(response.status_code, plain, body)

    def given(self, _native: Any, reply: HttpReply, sent: Any) -> Any:
        """Return a reply as a response; one that was asked for here has the headers it came with."""
        if sent is None:
            return self._unread(
                reply, [(name.encode(), text.encode()) for name, text in reply.headers.items()]
            )
        left_out = ENCODING_HEADERS | {STATE_HEADER, KEY_HEADER}
        pairs = [pair for pair in sent.headers.raw if pair[0].lower().decode("latin-1") not in left_out]
        told = (STATE_HEADER, KEY_HEADER)
        pairs += [(name.encode(), reply.headers[name].encode()) for name in told if name in reply.headers]
        return self._unread(reply, pairs, extensions=sent.extensions)

    def _unread(self, reply: HttpReply, headers: list[tuple[bytes, bytes]], **more: Any) -> Any:
        """Return a response whose body is still to be read, as a transport's is.

        One made with its content is closed already: it has no `elapsed`, and its raw bytes cannot be had.
        """
        headers = [*headers, (b"content-length", b"%d" % len(reply.body))]
        stream = self.module.ByteStream(reply.body)
        return self.module.Response(reply.status, headers=headers, stream=stream, **more)

    def head(self, response: Any) -> tuple[int, dict[str, str]]:
        """Return status and headers."""
        return response.status_code, dict(response.headers)

    def mark(self, response: Any, headers: Mapping[str, str]) -> None:
        """Add headers to a response."""
        response.headers.update(headers)

    def watch(self, response: Any, tap: Tap) -> None:
        """Have a response's body watched."""
        response.stream = self._tapped(response.stream, tap)

    def replay(self, _native: Any, stored: StoredReply, *, paced: bool) -> Any:
        """Return the response that plays a stored stream."""
        if not paced:
            return self.given(None, stored.reply, None)
        reply, stream = stored.reply, self._paced(stored)
        return self.module.Response(reply.status, headers=dict(reply.headers), stream=stream)


class SyncDriver(_Spelling):
    """The driver of a library's sync clients.

    Args:
        module: The library.
    """

    def __init__(self, module: ModuleType) -> None:
        super().__init__(module, module.SyncByteStream, _Tapped, _Paced)

    def body_of(self, native: Any) -> bytes:
        """Return a request's body."""
        body: bytes = native.read()
        return body

    def to_send(
        self, native: Any, *, cached: bool = False, streams: bool = False, body: bytes | None = None
    ) -> Any:
        """Return the request to send on."""
        return self.outgoing(native, cached=cached, streams=streams, body=body)

    def read(self, response: Any) -> HttpReply | Opaque:
        """Return a response as a value; as it came, where its body is not what its headers say."""
        try:
            raw = b"".join(response.stream)
        finally:
            response.close()
        return self.valued(response, raw)


class AsyncDriver(_Spelling):
    """The driver of a library's async clients.

    Args:
        module: The library.
    """

    def __init__(self, module: ModuleType) -> None:
        super().__init__(module, module.AsyncByteStream, _AsyncTapped, _AsyncPaced)

    async def body_of(self, native: Any) -> bytes:
        """Return a request's body."""
        body: bytes = await native.aread()
        return body

    async def to_send(
        self, native: Any, *, cached: bool = False, streams: bool = False, body: bytes | None = None
    ) -> Any:
        """Return the request to send on."""
        return self.outgoing(native, cached=cached, streams=streams, body=body)

    async def read(self, response: Any) -> HttpReply | Opaque:
        """Return a response as a value; as it came, where its body is not what its headers say."""
        try:
            raw = b"".join([piece async for piece in response.stream])
        finally:
            await response.aclose()
        return self.valued(response, raw)


class Library:
    """One of the two libraries, and what has to be made of its classes.

    Attributes:
        module: The library.
        driver: The driver of its sync clients.
        async_driver: The driver of its async clients.
        shells: The transports made for it; see `casstore.inference.http.transport`.
    """

    def __init__(self, module: ModuleType) -> None:
        self.module = module
        self.driver = SyncDriver(module)
        self.async_driver = AsyncDriver(module)
        self.shells: tuple[type[Any], type[Any]] | None = None


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


def _texts(raw: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return headers as text, by lower-case name."""
    found = {name.lower().decode("latin-1"): value.decode("latin-1") for name, value in raw}
    if len(found) < len(raw):  # a name stands there twice
        return lower((name.decode("latin-1"), value.decode("latin-1")) for name, value in raw)
    return found
