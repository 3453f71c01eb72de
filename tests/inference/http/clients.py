"""The four kinds of clients that a cache can be put before, behind one face."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any, TypeVar

import httpx
import httpx2

import casstore
from casstore.inference.cache import Cache
from tests.inference.http.replies import CHAT, CHAT_PATH, chat

T = TypeVar("T")

KINDS = ("httpx", "httpx async", "httpx2", "httpx2 async")


class Asker:
    """Asks with one kind of client, and reads the whole reply.

    Args:
        kind: One of `KINDS`.
        cache: What to put before it; None for nothing.
        rules: As for `casstore.cached`.
    """

    def __init__(self, kind: str, cache: Cache | None, **rules: Any) -> None:
        library, _, way = kind.partition(" ")
        module: Any = {"httpx": httpx, "httpx2": httpx2}[library]
        self._runner = asyncio.Runner() if way else None
        make = module.AsyncClient if way else module.Client
        self.client: Any = make(timeout=30, verify=False)  # loading certificates takes longer than a test
        if cache is not None:
            casstore.cached(self.client, cache, **rules)

    def post(self, url: str, **options: Any) -> Any:
        """Return the response to a POST."""
        return self.request("POST", url, **options)

    def request(self, method: str, url: str, **options: Any) -> Any:
        """Return the response to a request."""
        found = self.client.request(method, url, **options)
        return found if self._runner is None else self._run(found)

    def _run(self, asked: Coroutine[Any, Any, T]) -> T:
        assert self._runner is not None
        # Else what was set when the runner was made would hold.
        return self._runner.run(asked, context=copy_context())

    @property
    def asynchronous(self) -> bool:
        """Whether the client is an async one."""
        return self._runner is not None

    def pieces(self, url: str, most: int | None = None, *, raw: bool = False, **options: Any) -> list[bytes]:
        """Return a stream's body as it comes, decoded or raw; leave it after `most` pieces."""
        if self._runner is not None:
            return self._run(self._pieces(url, most, options, raw=raw))
        found: list[bytes] = []
        with self.client.stream("POST", url, **options) as response:
            for piece in response.iter_raw() if raw else response.iter_bytes():
                found.append(piece)
                if len(found) == most:
                    break
        return found

    async def _pieces(
        self, url: str, most: int | None, options: Mapping[str, Any], *, raw: bool
    ) -> list[bytes]:
        found: list[bytes] = []
        async with self.client.stream("POST", url, **options) as response:
            async for piece in response.aiter_raw() if raw else response.aiter_bytes():
                found.append(piece)
                if len(found) == most:
                    break
        return found

    def close(self) -> None:
        """Close the client."""
        if self._runner is None:
            self.client.close()
        else:
            self._runner.run(self.client.aclose())
            self._runner.close()


@contextmanager
def asking(kind: str, cache: Cache | None, **rules: Any) -> Iterator[Asker]:
    """Yield an asker that is closed with the block."""
    asker = Asker(kind, cache, **rules)
    try:
        yield asker
    finally:
        asker.close()


def ask_in_a_process(folder: str, url: str, kind: str) -> None:
    """Ask as a process of its own that waits for others; fail if there is no answer."""
    with Cache(folder) as cache, asking(kind, cache, processes=True) as asker:
        assert asker.post(url + CHAT_PATH, json=CHAT).json() == chat()
