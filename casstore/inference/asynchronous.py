"""Cached clients and memoized functions for asyncio: the only module here that imports it.  Floor: inference.

The store is synchronous, so steps that may block run in a thread; what it has at hand is taken at once, since
changing threads takes longer. The steps are those of the sync clients.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from casstore.inference import recorded
from casstore.inference.clients import Outcome, Steps
from casstore.inference.memoize import Memo, Returned
from casstore.inference.types import AsyncClient, Chunk, Message, Response, System, TruncatedError

if TYPE_CHECKING:
    from casstore.inference.cache import Cache
    from casstore.inference.flight import Errors, Flights

T = TypeVar("T")
P = ParamSpec("P")


async def fly(
    flights: Flights[T], name: Hashable, call: Callable[[], Awaitable[T]], errors: Errors = Exception
) -> tuple[T, bool]:
    """Return the result of `call`, or of an identical call under way, and whether it was this caller's own.

    The caller may wait for a flight that another event loop leads.

    Raises:
        Exception: What `call` raised, or the identical call, if it is one of `errors`.
    """
    me = id(asyncio.current_task())
    while True:
        flight, leads = flights.join(name, me)
        if leads:
            try:
                flight.result = await call()
            except Exception as error:
                flight.error = error
                raise
            finally:
                flights.land(name, flight)
            return flight.result, True
        if flight.owner == me:  # a call inside itself: waiting would never end
            return await call(), True
        loop = asyncio.get_running_loop()
        landed = loop.create_future()
        if flights.on_landing(flight, partial(_wake, loop, landed)):
            await landed
        result = flight.shared(errors)
        if result is not None:
            return result, False


def _wake(loop: asyncio.AbstractEventLoop, landed: asyncio.Future[None]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(_land, landed)


def _land(landed: asyncio.Future[None]) -> None:
    if not landed.done():  # the one who waited may have been cancelled
        landed.set_result(None)


class AsyncCachedClient(Steps[AsyncClient]):
    """An async client that asks the wrapped one only for what no tier holds."""

    async def converse(
        self, messages: Sequence[Message], *, system: System | None = None, **options: Any
    ) -> Response:
        """Return the model's answer, stored or new.

        Args:
            messages: The turns so far.
            system: The system prompt.
            options: Parameters for the provider; none of them is the cache's.

        Raises:
            TruncatedError: The answer was cut off, and the wrapped client raises then.
            OfflineMissError: The mode is offline and nothing is stored.
        """
        request, call = self._open(messages, system, options)
        found = self._at_hand(call)
        if found is not None:
            return self._give(request, call, found.response)

        async def obtain() -> Outcome:
            found = await asyncio.to_thread(self._find, call)
            if found is not None:
                return Outcome(found.response, found.response)
            response, seconds = await self._ask(messages, system, options)
            return await asyncio.to_thread(self._keep, request, call, response, seconds)

        if call.key is None:
            return self._give(request, call, (await obtain()).own)
        outcome, own = await fly(self._cache.async_flights, call.flight, obtain)
        return self._give(request, call, outcome.own if own else outcome.shared)

    async def stream(
        self, messages: Sequence[Message], *, system: System | None = None, **options: Any
    ) -> AsyncIterator[Chunk]:
        """Yield the answer as it is written, or, where the cache records streams, as it was written.

        Raises:
            OfflineMissError: The mode is offline and nothing is stored.
        """
        request, call = self._open(messages, system, options, stream=True)
        found = self._at_hand(call, "stream") or await asyncio.to_thread(self._find, call, "stream")
        if found is not None:
            for event in recorded.chunks_of(found):
                yield event
            self._count(request, call, found.response)
            return
        started = time.perf_counter()
        seen: list[Chunk] = []
        async for chunk in self._client.stream(messages, system=system, **options):
            if chunk.response is None:
                seen.append(chunk)
                yield chunk
                continue
            seconds = time.perf_counter() - started
            outcome = await asyncio.to_thread(self._keep, request, call, chunk.response, seconds, seen)
            self._count(request, call, outcome.own)
            yield replace(chunk, response=outcome.own)

    async def _ask(
        self, messages: Sequence[Message], system: System | None, options: Mapping[str, Any]
    ) -> tuple[Response, float]:
        self._connect()
        started = time.perf_counter()
        try:
            response = await self._client.converse(messages, system=system, **options)
        except TruncatedError as error:
            response = error.response
        return response, time.perf_counter() - started


def memoized(function: Callable[P, Awaitable[T]], cache: Cache, memo: Memo) -> Callable[P, Awaitable[T]]:
    """Return the coroutine function `function` with its results kept."""

    @wraps(function)
    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        call = memo.open(args, kwargs)
        if call is None:
            return await function(*args, **kwargs)
        content = memo.at_hand(call)
        if content is None:

            async def obtain() -> Returned[T]:
                found = await asyncio.to_thread(memo.find, call)
                if found is not None:
                    return Returned(found)
                started = time.perf_counter()
                value = await function(*args, **kwargs)
                seconds = time.perf_counter() - started
                return Returned(await asyncio.to_thread(memo.keep, call, value, seconds), value, ran=True)

            returned, own = await fly(cache.async_function_flights, call.flight, obtain)
            if own and returned.ran:
                return returned.value  # type: ignore[return-value]  # T itself may be None; `ran` says it is T
            content = returned.content
        result: T = memo.give(call, content) if content else await function(*args, **kwargs)
        return result

    return wrapper
