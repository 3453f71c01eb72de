"""Where a cache is put before every client of a library: which attribute of which module.

A seam is known by the module that has it, so that it can be changed as soon as that module is loaded. Each
change is noted, and can be undone. None of the libraries is imported here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import partial, wraps
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from casstore.inference.http.exchange import join_host
from casstore.inference.http.flow import handle, handle_async
from casstore.inference.http.native import library_called

if TYPE_CHECKING:
    from casstore.inference.http.core import HttpCache

CacheFor = Callable[[str], "HttpCache | None"]
"""Returns the cache for a host, with its port unless that is the scheme's own; None to let a request pass."""

_ORIGINAL: Final = "casstore_original"

_changed: list[tuple[Any, str]] = []


def replace(owner: Any, name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Replace a function of a class or module by what `make` makes of it, once."""
    original = owner.__dict__[name]
    if not hasattr(original, _ORIGINAL):
        made = make(original)
        made.__dict__[_ORIGINAL] = original
        setattr(owner, name, made)
        _changed.append((owner, name))


def restore() -> None:
    """Leave every library as it was."""
    while _changed:
        owner, name = _changed.pop()
        original = getattr(owner.__dict__[name], _ORIGINAL, None)
        if original is not None:
            setattr(owner, name, original)


def _httpx(module: ModuleType, cache_for: CacheFor) -> None:
    library = library_called(module.__name__)

    def http_for(request: Any) -> HttpCache | None:
        url = request.url
        return cache_for(join_host(url.scheme, url.host, url.port))

    def sync(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def handle_request(self: Any, request: Any) -> Any:
            http = http_for(request)
            if http is None:
                return original(self, request)
            return handle(http, library.driver, request, partial(original, self))

        return handle_request

    def asynchronous(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        async def handle_async_request(self: Any, request: Any) -> Any:
            http = http_for(request)
            if http is None:
                return await original(self, request)
            return await handle_async(http, library.async_driver, request, partial(original, self))

        return handle_async_request

    replace(module.HTTPTransport, "handle_request", sync)
    replace(module.AsyncHTTPTransport, "handle_async_request", asynchronous)


def _aiohttp(module: ModuleType, cache_for: CacheFor) -> None:
    from casstore.inference.http.drivers.aiohttp import answering, has_middlewares

    def http_for(url: Any) -> HttpCache | None:
        return cache_for(join_host(url.scheme, url.host or "", url.port))

    if has_middlewares(module.ClientSession):
        replace(module.ClientSession, "_request", lambda original: answering(original, http_for))


def _urllib3(module: ModuleType, cache_for: CacheFor) -> None:
    from casstore.inference.http.drivers.urllib3 import answering

    replace(module.HTTPConnectionPool, "urlopen", lambda original: answering(original, cache_for))


def _botocore(module: ModuleType, cache_for: CacheFor) -> None:
    from casstore.inference.adapters.boto import answering

    def http_for(url: str) -> HttpCache | None:
        parts = urlsplit(url)
        return cache_for(join_host(parts.scheme, parts.hostname or "", parts.port))

    replace(module.BaseClient, "_make_request", lambda original: answering(original, http_for))


SEAMS: Final[Mapping[str, Callable[[ModuleType, CacheFor], None]]] = {
    "httpx": _httpx,
    "httpx2": _httpx,
    "aiohttp.client": _aiohttp,
    "urllib3.connectionpool": _urllib3,
    "botocore.client": _botocore,
}
"""By module, what puts a cache there."""

_REACHED: Final[Mapping[str, str]] = {
    "httpx": "httpx",
    "httpx2": "httpx2",
    "aiohttp": "aiohttp.client",
    "requests": "urllib3.connectionpool",
    "urllib3": "urllib3.connectionpool",
    "botocore": "botocore.client",
}
"""By library, the module with the seam through which its requests go."""


def reached() -> dict[str, str]:
    """Return the libraries that are loaded and have a cache before their clients, with their versions."""
    modules = {getattr(owner, "__module__", "").partition(".")[0] for owner, _ in _changed}
    return {
        name: str(getattr(sys.modules[name], "__version__", ""))
        for name, seam in _REACHED.items()
        if name in sys.modules and seam.partition(".")[0] in modules
    }
