"""A program that uses the public API as users do. Type checkers read it; a test runs it.

`scripts/check` gives it to mypy and to pyright, both in strict mode. `assert_type` holds the types that an
editor shows.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, assert_type

from casstore import (
    AsyncCachedClient,
    Cache,
    CachedClient,
    Chunk,
    ConfigError,
    Message,
    NotFoundError,
    Repository,
    Request,
    Response,
    Savings,
    Usage,
    cached,
    install,
    uninstall,
)
from casstore.digest import Key


class Echo:
    """A user's own client: it answers with the last message."""

    provider = "echo"
    host = "localhost"
    model = "echo-1"
    truncated: Literal["raise", "return"] = "return"

    def request(
        self,
        messages: Sequence[Message],
        system: str | Sequence[Mapping[str, Any]] | None,
        options: Mapping[str, Any],
        *,
        stream: bool = False,
    ) -> Request:
        """Return the request that `converse` sends."""
        body = {"messages": list(messages), "system": system, "stream": stream, **options}
        return Request(self.provider, self.host, "/echo", self.model, body)

    def converse(
        self,
        messages: Sequence[Message],
        *,
        system: str | Sequence[Mapping[str, Any]] | None = None,
        **options: Any,
    ) -> Response:
        """Return the last message."""
        return Response(str(messages[-1]["content"]), "end", Usage(input=3, output=3), self.model)

    def stream(
        self,
        messages: Sequence[Message],
        *,
        system: str | Sequence[Mapping[str, Any]] | None = None,
        **options: Any,
    ) -> Iterator[Chunk]:
        """Return the last message in one piece."""
        response = self.converse(messages, system=system, **options)
        yield Chunk(response.text, response=response)


class AsyncEcho(Echo):
    """The same for asyncio."""

    async def converse(  # type: ignore[override]
        self,
        messages: Sequence[Message],
        *,
        system: str | Sequence[Mapping[str, Any]] | None = None,
        **options: Any,
    ) -> Response:
        """Return the last message."""
        return Echo.converse(self, messages, system=system, **options)

    async def stream(  # type: ignore[override]
        self,
        messages: Sequence[Message],
        *,
        system: str | Sequence[Mapping[str, Any]] | None = None,
        **options: Any,
    ) -> AsyncIterator[Chunk]:
        """Return the last message in one piece."""
        response = await self.converse(messages, system=system, **options)
        yield Chunk(response.text, response=response)


HELLO: list[Message] = [{"role": "user", "content": "hello"}]


def ask(cache: Cache) -> Response:
    """Ask through a cached client."""
    client = cache.wrap(Echo(), sample=0)
    assert_type(client, CachedClient)
    answer = client.converse(HELLO, system="Repeat.", temperature=0)
    assert_type(answer, Response)
    assert_type(answer.text, str)
    assert_type(answer.cost, float | None)
    for chunk in client.stream(HELLO):
        assert_type(chunk.text, str)
    return answer


async def ask_async(cache: Cache) -> Response:
    """Ask through a cached client for asyncio."""
    client = cache.wrap(AsyncEcho())
    assert_type(client, AsyncCachedClient)
    async for chunk in client.stream(HELLO):
        assert_type(chunk, Chunk)
    return await client.converse(HELLO, system="Repeat.", temperature=0)


def count_words(cache: Cache) -> int:
    """Call a memoized function: its signature and its result keep their types."""

    @cache.memoize(version="1")
    def words(text: str, *, least: int = 1) -> list[str]:
        return [word for word in text.split() if len(word) >= least]

    found = words("what is kept", least=2)
    assert_type(found, list[str])
    return len(found)


def put_and_get(folder: Path) -> bytes:
    """Use the store alone."""
    with Repository.open(folder) as repository:
        digest = repository.put(b"any bytes")
        content = repository.get(digest)
        assert_type(content, bytes)
        try:
            repository.read_entry(Key("0" * 64))
        except NotFoundError as error:
            assert_type(error, NotFoundError)
        for entry in repository.entries():
            assert_type(entry.labels, Mapping[str, Any])
    return content


def before_an_sdk(cache: Cache) -> None:
    """`cached` returns what it was given: an editor still shows the SDK's own client."""
    client = Sdk()
    with suppress(ConfigError):  # there is no HTTP client inside it
        assert_type(cached(client, cache=cache), Sdk)
    install(cache=cache)
    uninstall()


class Sdk:
    """A class that stands for the client of an SDK."""


def main(folder: Path) -> tuple[Response, Response, int, bytes, Savings]:
    """Run all of it."""
    with Cache(folder, mode="normal", streams="record") as cache:
        before_an_sdk(cache)
        first, again = ask(cache), asyncio.run(ask_async(cache))
        with cache.using(mode="refresh"):
            ask(cache)
        words = count_words(cache)
        savings = cache.stats()
        assert_type(savings.hits, int)
    return first, again, words, put_and_get(folder), savings
