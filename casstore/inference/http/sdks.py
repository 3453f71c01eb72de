"""The cache before the client of an SDK, which keeps all its defaults.

Most SDKs' clients hold a client of httpx or httpx2, and that one its transports: one by default, and one for
each proxy. The transports are wrapped where they are; so timeouts, proxies, certificates, connection limits
and retries stay as they were. No SDK is imported: it is known by the name of its package.
"""

from __future__ import annotations

import atexit
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from casstore.errors import ConfigError
from casstore.inference.http.native import LIBRARIES, loaded
from casstore.inference.http.transport import CacheTransport, wrapped

if TYPE_CHECKING:
    from casstore.inference.cache import Cache
    from casstore.inference.http.core import HttpCache

C = TypeVar("C")

_PATHS: Final[Mapping[str, tuple[str, ...]]] = {
    "openai": ("_client",),
    "anthropic": ("_client",),
    "groq": ("_client",),
    "google": ("_api_client._httpx_client", "_api_client._async_httpx_client"),
    "mistralai": ("sdk_configuration.client", "sdk_configuration.async_client"),
    "langchain_openai": ("root_client._client", "root_async_client._client"),
    "pydantic_ai": ("client._client",),
}
"""By package, where its clients hold those of httpx or httpx2."""

_lock = threading.Lock()
_default: list[Cache] = []


def default_cache() -> Cache:
    """Return the cache of programs that name none: over the user's own store, closed at their end."""
    with _lock:
        if not _default:
            from casstore.inference.cache import Cache

            _default.append(Cache())
            atexit.register(_default[0].close)
        return _default[0]


def cached(client: C, cache: Cache | None = None, **rules: Any) -> C:
    """Put a cache before a client's transports, and return the client.

    Args:
        client: A client, sync or async, of OpenAI, Azure, Anthropic (also on Bedrock), google-genai, Mistral
            or Groq; a ``ChatOpenAI``; a model or provider of pydantic-ai over one of these; a client of
            httpx or httpx2, a session of aiohttp or requests, a pool or pool manager of urllib3. Its copies
            share its transports. Doing it again sets another cache or rules.
            Of Bedrock: a client of boto3, a ``ChatBedrockConverse``, or a ``boto3.Session``, for all clients
            that it makes from then on.
        cache: Where replies are kept; by default a cache over the user's own store.
        rules: The fields of `casstore.inference.http.material.Rules`: ``streams="record"`` and so on.

    Raises:
        ConfigError: The client is of none of these, or a rule is wrong.
    """
    http = (default_cache() if cache is None else cache).http(**rules)
    attached = _attaching(client)
    if attached is not None:
        attached(http)
        return client
    for each in _http_clients(client):
        _wrap(http, each)
    if hasattr(client, "_api_client"):
        _reach_aiohttp(http, client._api_client)  # noqa: SLF001 — no other way in
    return client


def transport(inner: C, cache: Cache | None = None, **rules: Any) -> C:
    """Return a transport of httpx or httpx2 with a cache before it, for a client that is made with it.

    A client that is given a transport does not read proxies from the environment; `cached` keeps them.

    Args:
        inner: The transport that asks the provider, sync or async.
        cache: Where replies are kept; by default a cache over the user's own store.
        rules: As for `cached`.

    Raises:
        ConfigError: It is no such transport, or a rule is wrong.
    """
    http = (default_cache() if cache is None else cache).http(**rules)
    shell: C = wrapped(http, inner)
    return shell


def _attaching(client: object) -> Callable[[HttpCache], None] | None:
    """Return what puts a cache before a client of another library than httpx; None for one of httpx."""
    packages = {kind.__module__.partition(".")[0] for kind in type(client).__mro__}
    if "langchain_aws" in packages or packages & {"boto3", "botocore"}:
        from casstore.inference.adapters import boto

        target = getattr(client, "client", None) if "langchain_aws" in packages else client
        return partial(_attach, boto.attach, target)
    if "aiohttp" in packages and hasattr(client, "_request"):
        from casstore.inference.http.drivers import aiohttp

        return partial(_attach, aiohttp.attach, client)
    if packages & {"requests", "urllib3"}:
        from casstore.inference.http.drivers import urllib3

        return partial(_attach, urllib3.attach, client)
    return None


def _attach(attach: Callable[[HttpCache, Any], None], client: Any, http: HttpCache) -> None:
    attach(http, client)


def _http_clients(client: object) -> Iterator[Any]:
    packages = [kind.__module__.partition(".")[0] for kind in type(client).__mro__]
    package = next((each for each in packages if each in _PATHS), None)
    if package is not None:
        if package == "langchain_openai":
            _unshare(client)
        found = [_at(client, path) for path in _PATHS[package]]
        if not any(map(_is_http, found)):
            raise ConfigError(f"no client of httpx or httpx2 in this {type(client).__name__}")
        yield from filter(_is_http, found)
    elif _is_http(client):
        yield client
    else:
        raise ConfigError(f"not a client that a cache can be put before: {type(client).__name__}")


def _unshare(model: Any) -> None:
    """Give a model's clients an HTTP client each: LangChain lets all models at one address share one."""
    for sdk in (model.root_client, model.root_async_client):
        http: Any = getattr(sdk, "_client", None)
        if _is_http(http) and not isinstance(http._transport, CacheTransport):  # noqa: SLF001 — as below
            sdk._client = copy(http)  # noqa: SLF001 — likewise
            # Without the SDK's own class, which closes the connections of both when one of them is collected.
            sdk._client.__class__ = _plain_class(type(http))  # noqa: SLF001 — likewise


def _plain_class(kind: type[Any]) -> type[Any]:
    return next(each for each in kind.__mro__ if each.__module__.partition(".")[0] in LIBRARIES)


def _is_http(thing: object) -> bool:
    try:
        loaded(thing)
    except ConfigError:
        return False
    return hasattr(thing, "_transport")


def _at(thing: Any, path: str) -> Any:
    for name in path.split("."):
        thing = getattr(thing, name, None)
    return thing


def _reach_aiohttp(http: HttpCache, api: Any) -> None:
    """Put the cache before the sessions of aiohttp that google-genai uses where aiohttp is installed.

    Where a cache cannot be put before them, the client is told to use httpx.
    """
    from casstore.inference.http.drivers.aiohttp import attach, has_middlewares

    aiohttp = sys.modules.get("aiohttp")
    get = getattr(api._get_aiohttp_session, "casstore_original", api._get_aiohttp_session)  # noqa: SLF001 — see below
    authorizes = getattr(api, "_use_google_auth_async", _never)
    if aiohttp is None or not has_middlewares(aiohttp.ClientSession) or authorizes():
        api._use_aiohttp = _never  # noqa: SLF001 — no other way in
        return

    async def session() -> Any:
        found = await get()
        attach(http, found)
        return found

    session.casstore_original = get  # type: ignore[attr-defined]  # a mark of our own
    api._get_aiohttp_session = session  # noqa: SLF001 — it makes one for each event loop


def _never() -> bool:
    return False


def _wrap(http: HttpCache, client: Any) -> None:
    client._transport = wrapped(http, client._transport)  # noqa: SLF001 — a client cannot be told otherwise
    client._mounts = {  # noqa: SLF001 — likewise
        pattern: None if mounted is None else wrapped(http, mounted)
        for pattern, mounted in client._mounts.items()  # noqa: SLF001 — likewise
    }
    make = getattr(client, "_inner_client_cls", None)
    if make is not None:  # google-genai's async client makes one for each event loop
        client._inner_client_cls = _wrapping(http, make)  # noqa: SLF001 — likewise


def _wrapping(http: HttpCache, make: Callable[..., Any]) -> Callable[..., Any]:
    plain = getattr(make, "casstore_make", make)

    def made(**arguments: Any) -> Any:
        client = plain(**arguments)
        _wrap(http, client)
        return client

    made.casstore_make = plain  # type: ignore[attr-defined]  # a mark of our own
    return made
