"""One exchange from beginning to end, for asyncio.  Floor: inference.

The steps are `HttpCache`'s; those that may block run in a thread, and what is at hand does without. Like
that, it knows no HTTP library.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from casstore.inference.asynchronous import fly
from casstore.inference.flight import Errors
from casstore.inference.http.core import Ask, HttpCache, Opaque, Opened, Outcome
from casstore.inference.http.exchange import HttpReply
from casstore.inference.http.turns import PATIENCE, Turn, Turns, pauses

AsyncSend = Callable[[Ask], Awaitable[HttpReply | Opaque]]


async def obtain(
    http: HttpCache, opened: Opened, send: AsyncSend, errors: Errors = Exception
) -> HttpReply | Opaque:
    """Return the reply to a request that is no stream, once `HttpCache.begin` gave nothing.

    Raises:
        Exception: What `send` raises, here or, if it is one of `errors`, in an identical call under way.
    """

    async def lead() -> Outcome:
        async with _turn(http, opened):
            found = await asyncio.to_thread(http.look, opened)
            return found if isinstance(found, Outcome) else await _ask(http, found, send)

    outcome, own = await fly(http.cache.async_http_flights, opened.call.flight, lead, errors)
    if not own and outcome.shared is None:
        outcome, own = await lead(), True
    return http.given(opened, outcome, own=own)


async def _ask(http: HttpCache, ask: Ask, send: AsyncSend) -> Outcome:
    refused = http.refused(ask)
    if refused is not None:
        return Outcome(refused, refused)
    started = time.perf_counter()
    sent = await send(ask)
    seconds = time.perf_counter() - started
    if isinstance(sent, Opaque):
        return http.opaque(ask, sent)
    kept = await asyncio.to_thread(http.guard.attempt, "keep a reply", http.keep, ask, sent, seconds)
    if kept is None and ask.body is not None:  # the reply is to a part of what was wanted
        return await _ask(http, Ask(ask.opened), send)
    return kept or Outcome(sent)


@asynccontextmanager
async def _turn(http: HttpCache, opened: Opened) -> AsyncIterator[None]:
    turns = http.turns(opened)
    turn = None if turns is None else await _taken(http, turns, opened)
    try:
        yield
    finally:
        if turn is not None:
            http.cache.guard.attempt("end a turn", turn.end)


async def _taken(http: HttpCache, turns: Turns, opened: Opened) -> Turn | None:
    """Return a turn after waiting for it, without a thread: those may all be needed to store answers."""
    until = time.monotonic() + PATIENCE
    faults = http.cache.guard.faults
    for pause in pauses():
        turn = http.cache.guard.attempt("wait for its turn", turns.try_take, opened.material.key)
        if turn is not None or http.cache.guard.faults > faults or time.monotonic() >= until:
            return turn
        await asyncio.sleep(pause)
    return None
