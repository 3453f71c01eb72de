"""The cache: the face that programs use of the inference layer.  Floor: inference.

It holds what is set once (the tiers, the ledger, the prices, the calls under way) and hands out clients and
functions that use it. What happens to a single call stands in `casstore.inference.clients`.
"""

from __future__ import annotations

import inspect
import os
import weakref
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Self, TypeVar, Unpack, overload

from casstore.errors import ConfigError
from casstore.inference import call_log
from casstore.inference.clients import CachedClient, Outcome
from casstore.inference.flight import Flights
from casstore.inference.guard import Guard
from casstore.inference.ledger import Ledger
from casstore.inference.pickling import arrived, check_pickles, open_arrived, portable
from casstore.inference.policy import MaxAge, Mode, Settings, effective
from casstore.inference.reasons import Keep, keep_of
from casstore.inference.recorded import UsageOnHit
from casstore.inference.settings import (
    CallSettings,
    Streams,
    block,
    checked,
    in_block,
    streams_of,
    warn_deprecated,
)
from casstore.inference.tiers import EntryStore, Tiers
from casstore.inference.types import AsyncClient, Client, Request, Response
from casstore.repo.repository import Repository

if TYPE_CHECKING:  # loaded when they are used: a process that only hits needs none of them
    from casstore.digest import Key
    from casstore.inference.asynchronous import AsyncCachedClient
    from casstore.inference.http.core import HttpCache
    from casstore.inference.http.core import Outcome as HttpOutcome
    from casstore.inference.memoize import Returned
    from casstore.inference.prices import Prices
    from casstore.inference.pushing import Push, Pusher
    from casstore.inference.reading.explain import Explained, Explanation
    from casstore.inference.savings import Savings

P = ParamSpec("P")
T = TypeVar("T")

MEMORY = 64 * 1024 * 1024
"""Bytes of answers held in memory by default."""


class Cache:
    """Keeps the answers of models, and the results of functions, in a repository.

    Whatever goes wrong with the repository, calls go on without it; the logger ``casstore`` warns once.

    A cache pickles as the arguments it was made with. The copy opens the store when it is first used, in the
    process where it arrived, with counters, memory and calls under way of its own.

    Args:
        repository: A repository; or the path of one, or None for the default one, closed with the cache.
        mode: ``normal``, ``refresh``, ``bypass`` or ``offline``; the variable ``CASSTORE_MODE`` overrides it.
        sample: Which of several answers to one request is wanted, counted from 0.
        namespace: Keeps answers of different projects or experiments apart.
        max_age: The oldest answer accepted, judged when reading.
        tag: Keeps calls apart that a program tells apart.
        remote: Name or URL of the remote to push to; None for the configured one.
        push: Push new answers at ``exit``, or in the ``background``; None leaves it to ``casstore push``.
        memory: Bytes of answers to hold in memory; 0 for none.
        prices: Prices of your own; see `casstore.inference.prices.Prices`.
        keep_requests: Store the canonical request beside each answer, as an object whose digest is the key;
            by default those of SDKs and frameworks, and not those of casstore's own clients.
        usage_on_hit: Tell no usage and no cost on a hit (``zero``), or the first call's (``original``); by
            default casstore's own clients and DSPy tell ``zero``, and what SDKs get is as it came.
        keep: Reasons for not storing that are overruled: ``{"empty", "filtered", "search", "code", "mcp",
            "files", "images", ...}``, or ``all``; see `casstore.inference.reasons.KEEP`.
        aliases: Hosts to be taken for another host in keys: ``{"proxy.local": "api.openai.com"}``.
        streams: Store streams, too, and replay them (``record``), or let them ``pass``.
        endpoints: More ends of paths whose replies are stored, each with the known end, or the form of
            bodies, that it is like: ``{"/my/path": "chat"}``.
        record_streams: Deprecated: the older name of `streams`.

    Raises:
        ConfigError: A setting is wrong, or the store is on a network file system.
    """

    def __init__(
        self,
        repository: EntryStore | str | Path | None = None,
        *,
        mode: str | Mode = Mode.NORMAL,
        sample: int = 0,
        namespace: str = "",
        max_age: MaxAge = None,
        tag: str = "",
        remote: str | None = None,
        push: Push | None = None,
        memory: int = MEMORY,
        prices: Mapping[str, Mapping[str, float]] | str | Path | None = None,
        keep_requests: bool | None = None,
        usage_on_hit: UsageOnHit | None = None,
        keep: Collection[Keep | Literal["all"]] | Keep | Literal["all"] = (),
        aliases: Mapping[str, str] | None = None,
        streams: Streams | None = None,
        endpoints: Mapping[str, str] | None = None,
        record_streams: bool | None = None,
    ) -> None:
        streams = streams_of(streams, record_streams)
        record_streams = None  # so that a copy in another process does not warn again
        self._given = portable(locals())
        mine = checked(mode=mode, sample=sample, namespace=namespace, max_age=max_age, tag=tag)
        self._settings = Settings(**mine)
        effective(self._settings)  # a wrong CASSTORE_MODE is told now, not at the first call
        self._prices: Prices | None = None if prices is None else _prices(prices)
        self.told_usage_on_hit = usage_on_hit
        self.usage_on_hit: UsageOnHit = usage_on_hit or "zero"
        self.keep = keep_of(keep)
        self.endpoints = dict(endpoints or {})
        self.aliases = dict(aliases or {})
        self.streams: Streams = streams or "pass"
        self.guard = Guard()
        self._log = call_log.asked_for()
        self._memory = memory
        self.keep_requests = keep_requests
        self._owns_repository = repository is None or isinstance(repository, (str, Path))
        self.repository = self._opened(repository)
        self._push = push
        self._remote = remote
        self._begin()
        _CACHES.add(self)

    def _begin(self) -> None:
        """Make what belongs to one process; a forked child does it again, as locks do not survive a fork."""
        self._pusher: Pusher | None = None
        if self._push is not None and self.repository is not None:
            from casstore.inference.pushing import Pusher

            self._pusher = Pusher(self.repository, self._remote, self._push, self.guard)
        self.tiers = Tiers(
            self.repository,
            self.guard,
            memory=self._memory,
            keep_requests=bool(self.keep_requests),
            on_stored=self._pusher.notice if self._pusher else _nothing,
        )
        self._ledger = Ledger()
        # Threads and event loops never wait for each other: a thread waiting on its own loop would stop both.
        self.flights: Flights[Outcome] = Flights()
        self.async_flights: Flights[Outcome] = Flights()
        self.function_flights: Flights[Returned[Any]] = Flights()
        self.async_function_flights: Flights[Returned[Any]] = Flights()
        self.http_flights: Flights[HttpOutcome] = Flights()
        self.async_http_flights: Flights[HttpOutcome] = Flights()

    def _opened(self, repository: EntryStore | str | Path | None) -> EntryStore | None:
        if repository is None or isinstance(repository, (str, Path)):
            try:
                return Repository.open(repository)
            except ConfigError:
                raise
            except Exception as fault:  # noqa: BLE001 — as in Guard: no fault of the store may stop the program
                self.guard.fault("open its store", fault)
                return None
        return repository

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle as the arguments.

        Raises:
            pickle.PicklingError: An argument cannot be pickled; the message names it.
        """
        check_pickles("Cache", self._given)
        return arrived, (type(self), self._given)

    if not TYPE_CHECKING:  # type checkers would take any name for an attribute

        def __getattr__(self, name: str) -> Any:
            """Open a cache that was unpickled; Python calls this only for an attribute that is not set."""
            if not name.startswith("__"):
                open_arrived(self)
                if name in self.__dict__:
                    return self.__dict__[name]
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def record_streams(self) -> bool:
        """Deprecated: the older name of `streams`."""
        warn_deprecated("record_streams is deprecated: use streams")
        return self.streams == "record"

    @record_streams.setter
    def record_streams(self, record: bool) -> None:
        self.streams = streams_of(None, record) or "pass"

    @overload
    def wrap(self, client: Client, **settings: Unpack[CallSettings]) -> CachedClient: ...

    @overload
    def wrap(self, client: AsyncClient, **settings: Unpack[CallSettings]) -> AsyncCachedClient: ...

    def wrap(
        self, client: Client | AsyncClient, **settings: Unpack[CallSettings]
    ) -> CachedClient | AsyncCachedClient:
        """Return `client` with its answers kept; what is given here overrides the cache's settings.

        Wrapping costs nothing: wrap once for each sample, say, where threads ask for several.

        Args:
            client: A client of casstore's, or one of your own with the same methods.
            settings: `mode`, `sample`, `namespace`, `max_age` and `tag`; see
                `casstore.inference.settings.CallSettings`.

        Raises:
            ConfigError: A setting is wrong.
        """
        overrides = checked(**settings)
        if inspect.iscoroutinefunction(client.converse):
            from casstore.inference.asynchronous import AsyncCachedClient

            return AsyncCachedClient(self, client, overrides)  # type: ignore[arg-type]  # only an AsyncClient's converse is a coroutine function
        return CachedClient(self, client, overrides)  # type: ignore[arg-type]  # and a Client's is not

    def using(self, **settings: Unpack[CallSettings]) -> AbstractContextManager[None]:
        """Override settings for the calls made in a ``with`` block.

        The block's settings reach asyncio tasks started in it, but not other threads, which start without
        them: give those a client of their own from `wrap`.

        Args:
            settings: As for `wrap`.

        Raises:
            ConfigError: A setting is wrong.
        """
        return block(self, checked(**settings))

    @overload
    def memoize(self, function: Callable[P, T]) -> Callable[P, T]: ...

    @overload
    def memoize(
        self, *, version: str = "", name: str | None = None
    ) -> Callable[[Callable[P, T]], Callable[P, T]]: ...

    def memoize(
        self, function: Callable[..., Any] | None = None, *, version: str = "", name: str | None = None
    ) -> Callable[..., Any]:
        """Keep the results of a function, or coroutine function, whose arguments and result are JSON.

        ``1`` and ``1.0`` are one argument, as are a list and a tuple: arguments are compared as JSON. A
        result that JSON would change (a tuple, a key that is no text) is not kept. Exceptions are not kept.

        Args:
            function: The function, where the decorator stands alone: ``@cache.memoize``.
            version: Change it when the function's meaning changes.
            name: Its name in keys; by default its module and qualified name.
        """
        from casstore.inference.memoize import Memo, memoized

        def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
            memo = Memo(self, function, name, version)
            if inspect.iscoroutinefunction(function):
                from casstore.inference import asynchronous

                return asynchronous.memoized(function, self, memo)
            return memoized(function, self, memo)

        return decorate if function is None else decorate(function)

    def http(self, **rules: Any) -> HttpCache:
        """Return this cache for requests over HTTP; see `casstore.cached` and `casstore.install`.

        What the cache sets for streams and requests holds there, unless a rule says otherwise.

        Args:
            rules: The fields of `casstore.inference.http.material.Rules`, and the settings of a call, as for
                `wrap`.

        Raises:
            ConfigError: There is no such rule, it has a wrong value, or the cache has a setting that cannot
                hold over HTTP.
        """
        from casstore.inference.http.doors import HTTP, http_cache

        return http_cache(self, HTTP, rules)

    def explain(
        self,
        request: Mapping[str, Any] | Explained,
        *,
        provider: str | None = None,
        url: str | None = None,
        **rules: Any,
    ) -> Explanation:
        """Return whether a request would hit, miss or pass by, and for a miss the nearest one that is stored.

        Args:
            request: A request, or JSON that `casstore.inference.reading.asked.read_request` takes.
            provider: Where that is the parameters of an SDK's call, whose SDK.
            url: The base URL that the SDK was given, if any.
            rules: What the program gives `http`, `casstore.cached` or `casstore.install`.

        Raises:
            ConfigError: It is no request, a rule is wrong, or the store cannot be read.
        """
        from casstore.inference.http.doors import ANY, http_cache
        from casstore.inference.reading.asked import read_request
        from casstore.inference.reading.explain import explain

        asked = read_request(request, provider, url) if isinstance(request, Mapping) else request
        return explain(http_cache(self, ANY, rules), asked)

    def reasons(self) -> dict[str, int]:
        """Return how often, in this process, a request passed by or a reply was not stored, by reason."""
        return self._ledger.reasons()

    def stats(self) -> Savings:
        """Return what was spent and saved through this cache, in this process."""
        return self._ledger.total()

    def stats_by_model(self) -> dict[tuple[str, str], Savings]:
        """Return what `stats` does, by provider and model."""
        return self._ledger.by_model()

    def savings(self) -> Savings:
        """Return what the store's ledger says: spent and saved with this store, by all processes and days."""
        from casstore.inference.savings import total

        tallies = self.repository and self.guard.attempt("read its ledger", self.repository.tallies)
        return total(tallies or ())

    def forget(self, key: Key) -> None:
        """End the answer stored for `key` (`Response.key`): here at once, for others with the next push."""
        self.tiers.forget(key)

    def flush(self) -> None:
        """Write what is batched in memory."""
        if self.repository is not None:
            self.guard.attempt("flush", self.repository.flush)

    def close(self) -> None:
        """Push what is due, flush, and close the repository if the cache opened it."""
        if self._pusher is not None:
            self._pusher.close()
        self.flush()
        if self._owns_repository and self.repository is not None:
            self.guard.attempt("close", self.repository.close)

    def settings(self, overrides: Mapping[str, Any]) -> Settings:
        """Return what holds for a call now; first comes the environment, then `using`, `wrap`, the cache."""
        settings = self._settings
        inner = in_block(self)
        if inner:
            settings = replace(settings, **{**overrides, **inner})
        elif overrides:
            settings = replace(settings, **overrides)
        return effective(settings)

    def cost(self, request: Request, response: Response) -> float | None:
        """Return what a call cost in USD; None where its price is not known."""
        if self._prices is None:
            self._prices = _prices(None)
        try:
            return self._prices.cost(request, response)
        except ConfigError as fault:  # the variable's file: the answer is here already, and paid for
            self.guard.warn("prices", "calls have no price: %s", fault)
            return None

    def count(
        self,
        provider: str,
        model: str,
        counts: Mapping[str, float],
        *,
        stored: bool = True,
        key: Key | None = None,
        why: str = "",
    ) -> None:
        """Add to the ledger of this process and, unless the store is bypassed, to the store's.

        The call's key, and why it has none or its answer is not kept (a counter's name), are for its line.
        """
        self._ledger.add(provider, model, counts)
        if stored:
            self.tiers.tally(provider, model, counts)
        if self._log is not None:
            self.tell(provider, model, {**counts, why: 1} if why else counts, key)

    def tell(self, provider: str, model: str, counts: Mapping[str, float], key: Key | None = None) -> None:
        """Print a call's line, where ``CASSTORE_LOG`` asks for it, and count nothing."""
        if self._log is not None:
            self._log(provider, model, counts, key)


_CACHES: weakref.WeakSet[Cache] = weakref.WeakSet()


def _begin_again() -> None:
    for cache in list(_CACHES):
        cache._begin()  # noqa: SLF001 — the module's own class


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_again)


def _prices(given: Mapping[str, Mapping[str, float]] | str | Path | None) -> Prices:
    from casstore.inference.prices import Prices

    return Prices(given)


def _nothing() -> None:
    pass
