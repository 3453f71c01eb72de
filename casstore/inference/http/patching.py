"""A cache before every client that a program makes, by patching the HTTP libraries.

Only the functions by which they send change (`casstore.inference.http.seams`), and only requests to hosts of
known providers are taken up. A library that is not loaded yet is patched when it is, so that nothing is
loaded that the program does not load itself.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from importlib.abc import Loader
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import TYPE_CHECKING, Any, Self

from casstore.inference.http.core import HttpCache
from casstore.inference.http.endpoints import KNOWN_HOSTS, host_in
from casstore.inference.http.sdks import default_cache
from casstore.inference.http.seams import SEAMS, reached, restore

if TYPE_CHECKING:
    from casstore.inference.cache import Cache


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
    """Answer from a cache for every client in this process, made before or after.

    Reached are clients of httpx, httpx2, aiohttp (from 3.12 on), urllib3, requests and, for Bedrock, boto3. A
    second call sets another cache, hosts or rules.

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


class Installation:
    """A cache before every client for a ``with`` block, and a report of what it reaches."""

    def __init__(self, make: Callable[[], Installed]) -> None:
        self._make = make
        self._made: list[Installed] = []

    @property
    def reached(self) -> dict[str, str]:
        """The libraries that are loaded and have a cache before their clients, with their versions."""
        return reached()

    def __enter__(self) -> Self:
        made = self._make()
        with _lock:
            self._made.append(made)
            _stack.append(made)
            _patch()
        return self

    def __exit__(self, *_: object) -> None:
        with _lock:
            made = self._made.pop()
            if made in _stack:
                _stack.remove(made)
            if not _stack:
                _restore()


def installed(
    cache: Cache | None = None, *, hosts: Collection[str] = KNOWN_HOSTS, **rules: Any
) -> Installation:
    """Do what `install` does for a ``with`` block, in all threads; then what was before holds again.

    What is returned tells at any time which libraries are reached, also without a block:
    ``casstore.installed().reached``.

    Raises:
        ConfigError: A rule is wrong; raised as the block is entered.
    """
    return Installation(lambda: _made(cache, hosts, rules))


def _made(cache: Cache | None, hosts: Collection[str], rules: dict[str, Any]) -> Installed:
    return Installed((default_cache() if cache is None else cache).http(**rules), tuple(hosts))


def _cache_for(host: str) -> HttpCache | None:
    """Return the cache that requests to a host are for; None where there is none."""
    active = _stack[-1:]
    return active[0].http if active and host_in(host, active[0].hosts) else None


def _patch() -> None:
    for name, patch in SEAMS.items():
        if name in sys.modules:
            patch(sys.modules[name], _cache_for)
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def _restore() -> None:
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Finder)]
    restore()


class _Finder:
    """Has a library patched when it is loaded."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return how to load a library; None for anything else."""
        spec = PathFinder.find_spec(name, path, target) if name in SEAMS else None
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
                SEAMS[module.__name__](module, _cache_for)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
