"""The driver for urllib3, and so for requests and all others that stand on it.

The seam is `HTTPConnectionPool.urlopen`, which every request of urllib3 passes, with its retries inside. Of a
redirect that a pool manager or requests follows, each step passes it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import Any, Final
from urllib.parse import urlsplit

from casstore.errors import ConfigError, FormatError
from casstore.inference.flight import Errors
from casstore.inference.http.controls import KEY_HEADER, STATE_HEADER, outgoing
from casstore.inference.http.core import HttpCache, Opaque
from casstore.inference.http.drivers.urllib3_bodies import Body, FailedBody, Watched, made, play
from casstore.inference.http.exchange import (
    ENCODING_HEADERS,
    HttpReply,
    HttpRequest,
    join_host,
    lower,
    undone,
)
from casstore.inference.http.flow import handle
from casstore.inference.http.stored import StoredReply
from casstore.inference.http.tap import Tap

_POOLS: Final = ("get_connection_with_tls_context", "get_connection")
"""What an adapter of requests is asked for a pool, in its newer and in its older versions."""

Urlopen = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Call:
    """A call of `urlopen`.

    Attributes:
        pool: The pool.
        method: The method.
        url: The path and query; all of the URL for a pool that is a proxy's.
        body: The body, in any form that urllib3 takes.
        headers: The headers; None for those of the pool.
        options: All other arguments.
    """

    pool: Any
    method: str
    url: str
    body: Any = field(default=None, repr=False)
    headers: Any = field(default=None, repr=False)
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The headers as they will be sent."""
        headers = self.pool.headers if self.headers is None else self.headers
        return [(_text(name), _text(value)) for name, value in headers.items()]

    @property
    def address(self) -> str:
        """The whole URL."""
        if not self.url.startswith("/"):
            return self.url
        return f"{self.pool.scheme}://{join_host(self.pool.scheme, self.pool.host, self.pool.port)}{self.url}"

    @property
    def preloads(self) -> bool:
        """Whether the body is read before the response is given."""
        return bool(self.options.get("preload_content", True))


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


class Urllib3Driver:
    """See `casstore.inference.http.flow.Driver`."""

    @property
    def errors(self) -> Errors:
        """What urllib3 raises."""
        errors: Errors = sys.modules["urllib3"].exceptions.HTTPError
        return errors

    def values_of(self, native: Call) -> HttpRequest:
        """Return a request as a value, without its body."""
        return HttpRequest.of(native.method, native.address, native.pairs)

    def body_of(self, native: Call) -> bytes:
        """Return a request's body; one that can be read once is kept in `native`."""
        body = native.body
        if isinstance(body, str):
            return body.encode()
        if body is None or isinstance(body, (bytes, bytearray, memoryview)):
            return bytes(body or b"")
        content = _read(body)
        object.__setattr__(native, "body", content)  # a value otherwise: nothing else sees it
        return content

    def to_send(
        self, native: Call, *, cached: bool = False, streams: bool = False, body: bytes | None = None
    ) -> Call:
        """Return the request to send on."""
        pairs = native.pairs
        changed = outgoing(pairs, cached=cached, streams=streams)
        if body is not None:
            native = replace(native, body=body)
            changed = [pair for pair in (changed or pairs) if pair[0].lower() != "content-length"]
        return native if changed is None else replace(native, headers=_like(native, changed))

    def read(self, response: Any) -> HttpReply | Opaque:
        """Return a response as a value; as it came, where its body is not what its headers say."""
        headers = lower(response.headers.items())
        preloaded = getattr(response, "_body", None)
        try:
            raw = response.read(decode_content=False) if preloaded is None else preloaded
        except self.errors as error:
            # Raised by a read, as without a cache: requests turns what `urlopen` raises into another error.
            return Opaque(made(response.status, response.headers, FailedBody(error), response, _UNREAD))
        finally:
            response.release_conn()
        try:
            plain, body = undone(headers, raw, maybe=preloaded is not None)
        except FormatError:
            return Opaque(made(response.status, response.headers, Body(raw), response, _UNREAD))
        return HttpReply(response.status, plain, body)

    def given(self, native: Call, reply: HttpReply, sent: Any) -> Any:
        """Return a reply as a response; one that was asked for here has the headers it came with."""
        if sent is None:
            return made(reply.status, reply.headers, Body(reply.body), None, native.options)
        left_out = ENCODING_HEADERS | {STATE_HEADER, KEY_HEADER}
        headers = type(sent.headers)()
        for name, value in sent.headers.items():
            if name.lower() not in left_out:
                headers.add(name, value)
        for name in (STATE_HEADER, KEY_HEADER):
            if name in reply.headers:
                headers[name] = reply.headers[name]
        return made(reply.status, headers, Body(reply.body), sent, native.options)

    def head(self, response: Any) -> tuple[int, dict[str, str]]:
        """Return status and headers; those of a body that was read tell of no encoding."""
        headers = lower(response.headers.items())
        if getattr(response, "_body", None) is not None:
            headers = {name: value for name, value in headers.items() if name not in ENCODING_HEADERS}
        return response.status, headers

    def mark(self, response: Any, headers: Mapping[str, str]) -> None:
        """Add headers to a response."""
        for name, value in headers.items():
            response.headers[name] = value

    def watch(self, response: Any, tap: Tap) -> None:
        """Have a response's body watched."""
        body = getattr(response, "_body", None)
        if body is None:
            Watched(response, tap)
        else:
            tap.feed(body)
            tap.end()
            tap.close()

    def replay(self, native: Call, stored: StoredReply, *, paced: bool) -> Any:
        """Return the response that plays a stored stream."""
        response = self.given(native, stored.reply, None)
        if paced:
            play(response, stored)
        return response


DRIVER: Final = Urllib3Driver()

_UNREAD: Final[Mapping[str, Any]] = {"preload_content": False}


def _read(body: Any) -> bytes:
    if hasattr(body, "read"):
        content = body.read()
        return content.encode() if isinstance(content, str) else bytes(content)
    return b"".join(piece.encode() if isinstance(piece, str) else bytes(piece) for piece in body)


def _like(native: Call, pairs: list[tuple[str, str]]) -> Any:
    headers = native.pool.headers if native.headers is None else native.headers
    changed = type(headers)() if hasattr(headers, "add") else {}
    for name, value in pairs:
        if hasattr(changed, "add"):
            changed.add(name, value)
        else:
            changed[name] = value
    return changed


def answering(original: Urlopen, cache_for: Callable[[str], HttpCache | None]) -> Urlopen:
    """Return `HTTPConnectionPool.urlopen` with a cache before it.

    Args:
        original: The function, which takes the pool first.
        cache_for: Returns the cache for a host; None to let a request pass.
    """

    @wraps(original)
    def urlopen(
        pool: Any, method: str, url: str, body: Any = None, headers: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        options = {**dict(zip(_POSITIONAL, args, strict=False)), **kwargs}
        call = Call(pool, method, url, body, headers, options)
        parts = urlsplit(call.address)
        http = cache_for(join_host(parts.scheme, parts.hostname or "", parts.port))
        if http is None:
            return original(pool, method, url, body, headers, **options)
        return handle(http, DRIVER, call, lambda sent: _open(original, sent))

    return urlopen


_POSITIONAL: Final = (
    "retries",
    "redirect",
    "assert_same_host",
    "timeout",
    "pool_timeout",
    "release_conn",
    "chunked",
    "body_pos",
)
"""The further arguments of `urlopen`, in their order; the rest go by name."""


def _open(original: Urlopen, call: Call) -> Any:
    return original(call.pool, call.method, call.url, call.body, call.headers, **call.options)


def attach(http: HttpCache, client: Any) -> None:
    """Put a cache before a session of requests, or before a pool or pool manager of urllib3.

    Raises:
        ConfigError: It is none of these.
    """
    if hasattr(client, "adapters"):
        adapters = [each for each in client.adapters.values() if hasattr(each, "poolmanager")]
        if not adapters:
            raise ConfigError(f"no adapter over urllib3 in this {type(client).__name__}")
        for adapter in adapters:
            for name in _POOLS:
                _wrap(http, adapter, name)
    elif hasattr(client, "connection_from_host"):
        _wrap(http, client, "connection_from_host")
    elif hasattr(client, "urlopen"):
        _before(http, client)
    else:
        raise ConfigError(f"neither a session of requests nor a pool of urllib3: {type(client).__name__}")


def _wrap(http: HttpCache, owner: Any, name: str) -> None:
    """Put the cache before the pools that a method of `owner` gives."""
    found = getattr(owner, name, None)
    if found is None:
        return
    original = getattr(found, "casstore_original", found)

    def pool_of(*args: Any, **kwargs: Any) -> Any:
        return _before(http, original(*args, **kwargs))

    pool_of.casstore_original = original  # type: ignore[attr-defined]  # a mark of our own
    setattr(owner, name, pool_of)


def _before(http: HttpCache, pool: Any) -> Any:
    original = type(pool).urlopen
    answered = answering(original, lambda _: http)
    pool.urlopen = lambda *args, **kwargs: answered(pool, *args, **kwargs)
    return pool
