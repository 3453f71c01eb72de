"""A cache before every client that a program makes, by patching the HTTP libraries.  Floor: inference.

Only their transport classes change, and only requests to hosts of known providers are taken up. A library
that is not loaded yet is patched when it is, so that nothing is loaded that the program does not load itself.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial, wraps
from importlib.abc import Loader
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from casstore.inference.http.core import HttpCache
from casstore.inference.http.endpoints import KNOWN_HOSTS, host_in
from casstore.inference.http.exchange import join_host
from casstore.inference.http.native import LIBRARIES, library_called
from casstore.inference.http.sdks import default_cache
from casstore.inference.http.transport import handle, handle_async

if TYPE_CHECKING:
    from casstore.inference.cache import Cache

_ORIGINAL: Final = "casstore_original"


@dataclass(frozen=True, slots=True)
class Installed:
    """What is installed.

    Attributes:
        http: The cache.
        hosts: Hosts, and patterns of hosts, whose requests are taken up.
    """

    http: HttpCache
    hosts: tuple[str, ...]


_lock = threading.RLock()
_stack: list[Installed] = []


def install(cache: Cache | None = None, *, hosts: Collection[str] = KNOWN_HOSTS, **rules: Any) -> None:
    """Answer from a cache for every client of httpx and httpx2 in this process, made before or after.

    A second call sets another cache, hosts or rules. Clients over other libraries (aiohttp) are not reached.

    Args:
        cache: Where replies are kept; by default a cache over the user's own store.
        hosts: Hosts, and patterns of hosts (``*.example.com``, with a port that is not the scheme's own).
        rules: The fields of `casstore.inference.http.material.Rules`: ``streams="record"`` and so on.

    Raises:
        ConfigError: A rule is wrong.
    """
    made = _made(cache, hosts, rules)
    with _lock:
        _stack[:] = [made]
        _patch()


def uninstall() -> None:
    """Leave the libraries as they were."""
    with _lock:
        _stack.clear()
        _restore()


@contextmanager
def installed(
    cache: Cache | None = None, *, hosts: Collection[str] = KNOWN_HOSTS, **rules: Any
) -> Iterator[None]:
    """Do what `install` does for a ``with`` block, in all threads; then what was before holds again.

    Raises:
        ConfigError: A rule is wrong.
    """
    made = _made(cache, hosts, rules)
    with _lock:
        _stack.append(made)
        _patch()
    try:
        yield
    finally:
        with _lock:
            if made in _stack:
                _stack.remove(made)
            if not _stack:
                _restore()


def _made(cache: Cache | None, hosts: Collection[str], rules: dict[str, Any]) -> Installed:
    return Installed((default_cache() if cache is None else cache).http(**rules), tuple(hosts))


def _taken_up(request: Any) -> HttpCache | None:
    """Return the cache that a request is for; None for one that is nobody's."""
    active = _stack[-1:]
    url = request.url
    if not active or not host_in(join_host(url.scheme, url.host, url.port), active[0].hosts):
        return None
    return active[0].http


def _patch() -> None:
    for name in LIBRARIES:
        if name in sys.modules:
            _patch_library(sys.modules[name])
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def _patch_library(module: ModuleType) -> None:
    library = library_called(module.__name__)

    def sync(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def handle_request(self: Any, request: Any) -> Any:
            http = _taken_up(request)
            if http is None:
                return original(self, request)
            return handle(http, library, request, partial(original, self))

        return handle_request

    def asynchronous(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        async def handle_async_request(self: Any, request: Any) -> Any:
            http = _taken_up(request)
            if http is None:
                return await original(self, request)
            return await handle_async(http, library, request, partial(original, self))

        return handle_async_request

    _replace(module.HTTPTransport, "handle_request", sync)
    _replace(module.AsyncHTTPTransport, "handle_async_request", asynchronous)


def _replace(owner: type[Any], name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    original = owner.__dict__[name]
    if not hasattr(original, _ORIGINAL):
        made = make(original)
        setattr(made, _ORIGINAL, original)
        setattr(owner, name, made)


def _restore() -> None:
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Finder)]
    for name in LIBRARIES:
        module = sys.modules.get(name)
        if module is not None:
            _restore_one(module.HTTPTransport, "handle_request")
            _restore_one(module.AsyncHTTPTransport, "handle_async_request")


def _restore_one(owner: type[Any], name: str) -> None:
    original = getattr(owner.__dict__[name], _ORIGINAL, None)
    if original is not None:
        setattr(owner, name, original)


class _Finder:
    """Has a library patched when it is loaded."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return how to load a library; None for anything else."""
        spec = PathFinder.find_spec(name, path, target) if name in LIBRARIES else None
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(Loader):
    """Loads a library as another loader does, and patches it."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Return the module to fill."""
        created: ModuleType | None = self._inner.create_module(spec)
        return created

    def exec_module(self, module: ModuleType) -> None:
        """Fill it."""
        self._inner.exec_module(module)
        with _lock:
            if _stack:
                _patch_library(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
