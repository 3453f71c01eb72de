"""The kinds of clients that a cache can be put before, behind one face."""

from __future__ import annotations

import asyncio
import json as json_text
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import aiohttp
import httpx
import httpx2
import requests
import urllib3

import casstore
from casstore.inference.cache import Cache
from tests.inference.http.replies import CHAT, CHAT_PATH, chat

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Got:
    """A response that was read whole."""

    status_code: int
    headers: Mapping[str, str]
    content: bytes

    def json(self) -> Any:
        """Return what its JSON says."""
        return json_text.loads(self.content)


class Asker:
    """Asks with a client of one library, and reads the whole reply.

    Args:
        kind: One of `KINDS`.
        cache: What to put before it; None for nothing.
        rules: As for `casstore.cached`.
    """

    asynchronous: ClassVar[bool] = False
    client: Any

    def __init__(self, kind: str, cache: Cache | None, **rules: Any) -> None:
        self.client = self.make(kind)
        if cache is not None:
            casstore.cached(self.client, cache, **rules)

    def make(self, kind: str) -> Any:
        """Return a client."""
        raise NotImplementedError

    def post(self, url: str, **options: Any) -> Any:
        """Return the response to a POST."""
        return self.request("POST", url, **options)

    def request(self, method: str, url: str, **options: Any) -> Any:
        """Return the response to a request: ``json`` or ``content`` is its body, ``headers`` its headers."""
        raise NotImplementedError

    def pieces(self, url: str, most: int | None = None, **options: Any) -> list[bytes]:
        """Return a stream's body as it comes, decoded; leave it after `most` pieces."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the client."""
        raise NotImplementedError


def _some(pieces: Iterator[bytes], most: int | None) -> list[bytes]:
    found: list[bytes] = []
    for piece in pieces:
        found.append(piece)
        if len(found) == most:
            break
    return found


class HttpxAsker(Asker):
    """Of httpx or httpx2."""

    def make(self, kind: str) -> Any:
        module: Any = {"httpx": httpx, "httpx2": httpx2}[kind]
        return module.Client(timeout=30, verify=False)  # loading certificates takes longer than a test

    def request(self, method: str, url: str, **options: Any) -> Any:
        return self.client.request(method, url, **options)

    def pieces(self, url: str, most: int | None = None, *, raw: bool = False, **options: Any) -> list[bytes]:
        """Do what `Asker.pieces` does; `raw`, without a decoding."""
        with self.client.stream("POST", url, **options) as response:
            return _some(response.iter_raw() if raw else response.iter_bytes(), most)

    def close(self) -> None:
        self.client.close()


class RequestsAsker(Asker):
    """Of requests."""

    def make(self, kind: str) -> Any:
        return requests.Session()

    def request(self, method: str, url: str, **options: Any) -> Any:
        return self.client.request(method, url, **_data(options), timeout=options.get("timeout", 30))

    def pieces(self, url: str, most: int | None = None, **options: Any) -> list[bytes]:
        with self.client.post(url, stream=True, timeout=30, **_data(options)) as response:
            return _some(response.iter_content(None), most)

    def close(self) -> None:
        self.client.close()


def _data(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options as requests and aiohttp name them."""
    named = {"content": "data"}
    return {named.get(name, name): value for name, value in options.items() if name != "timeout"}


class Urllib3Asker(Asker):
    """Of urllib3."""

    def make(self, kind: str) -> Any:
        return urllib3.PoolManager(retries=urllib3.Retry(None, connect=0, read=0, other=0, redirect=3))

    def request(self, method: str, url: str, **options: Any) -> Any:
        response = self._open(method, url, options)
        return Got(response.status, response.headers, response.data)

    def _open(self, method: str, url: str, options: Mapping[str, Any], **more: Any) -> Any:
        options = {"timeout": 30, **options}
        if "content" in options:
            options["body"] = options.pop("content")
        return self.client.request(method, url, **options, **more)

    def pieces(self, url: str, most: int | None = None, **options: Any) -> list[bytes]:
        response = self._open("POST", url, options, preload_content=False)
        try:
            return _some(response.stream(None), most)
        finally:
            response.close()

    def close(self) -> None:
        self.client.clear()


class AsyncAsker(Asker):
    """Of an async library, on an event loop of its own."""

    asynchronous = True

    def __init__(self, kind: str, cache: Cache | None, **rules: Any) -> None:
        self._runner = asyncio.Runner()
        super().__init__(kind, cache, **rules)

    def run(self, asked: Coroutine[Any, Any, T]) -> T:
        """Return what a coroutine gives."""
        # Else what was set when the runner was made would hold.
        return self._runner.run(asked, context=copy_context())

    def request(self, method: str, url: str, **options: Any) -> Any:
        return self.run(self.request_async(method, url, **options))

    async def request_async(self, method: str, url: str, **options: Any) -> Any:
        """Return the response to a request."""
        raise NotImplementedError

    def close(self) -> None:
        self._runner.run(self._close())
        self._runner.close()

    async def _close(self) -> None:
        raise NotImplementedError


class AsyncHttpxAsker(AsyncAsker):
    """Of httpx or httpx2."""

    def make(self, kind: str) -> Any:
        module: Any = {"httpx async": httpx, "httpx2 async": httpx2}[kind]
        return module.AsyncClient(timeout=30, verify=False)

    async def request_async(self, method: str, url: str, **options: Any) -> Any:
        return await self.client.request(method, url, **options)

    def pieces(self, url: str, most: int | None = None, *, raw: bool = False, **options: Any) -> list[bytes]:
        """Do what `Asker.pieces` does; `raw`, without a decoding."""
        return self.run(self._pieces(url, most, options, raw=raw))

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

    async def _close(self) -> None:
        await self.client.aclose()


class AiohttpAsker(AsyncAsker):
    """Of aiohttp."""

    def make(self, kind: str) -> Any:
        return self.run(self._make())

    async def _make(self) -> Any:
        return aiohttp.ClientSession()

    async def request_async(self, method: str, url: str, **options: Any) -> Any:
        seconds = aiohttp.ClientTimeout(total=None, sock_read=options.pop("timeout", 30))
        async with self.client.request(method, url, timeout=seconds, **_data(options)) as response:
            return Got(response.status, response.headers, await response.read())

    def pieces(self, url: str, most: int | None = None, **options: Any) -> list[bytes]:
        return self.run(self._pieces(url, most, options))

    async def _pieces(self, url: str, most: int | None, options: Mapping[str, Any]) -> list[bytes]:
        found: list[bytes] = []
        async with self.client.post(url, **_data(options)) as response:
            async for piece in response.content.iter_any():
                found.append(piece)
                if len(found) == most:
                    break
        return found

    async def _close(self) -> None:
        await self.client.close()


ASKERS: dict[str, Callable[..., Asker]] = {
    "httpx": HttpxAsker,
    "httpx async": AsyncHttpxAsker,
    "httpx2": HttpxAsker,
    "httpx2 async": AsyncHttpxAsker,
    "aiohttp": AiohttpAsker,
    "requests": RequestsAsker,
    "urllib3": Urllib3Asker,
}

KINDS = tuple(ASKERS)
"""All of them."""

HTTPX = KINDS[:4]
"""Those of httpx and httpx2."""


@contextmanager
def asking(kind: str, cache: Cache | None, **rules: Any) -> Iterator[Any]:
    """Yield an asker that is closed with the block."""
    asker = ASKERS[kind](kind, cache, **rules)
    try:
        yield asker
    finally:
        asker.close()


def ask_in_a_process(folder: str, url: str, kind: str) -> None:
    """Ask as a process of its own that waits for others; fail if there is no answer."""
    with Cache(folder) as cache, asking(kind, cache, processes=True) as asker:
        assert asker.post(url + CHAT_PATH, json=CHAT).json() == chat()
