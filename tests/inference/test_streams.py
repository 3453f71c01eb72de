"""Streams: passed through, or recorded once complete and replayed chunk by chunk."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from casstore.inference.cache import Cache
from casstore.inference.types import Chunk
from tests.inference.fakes import HELLO, AsyncFakeClient, DictStore, FakeClient


def events(chunks: list[Chunk]) -> list[tuple[str, Any]]:
    """Return what a program sees of a stream, whoever paid for it."""
    return [(chunk.text, chunk.raw) for chunk in chunks]


def test_streams_pass_through_uncached(cache: Cache) -> None:
    """By default a stream is the provider's each time, and is counted."""
    client = FakeClient()
    cached = cache.wrap(client)
    texts = ["".join(chunk.text for chunk in cached.stream(HELLO)) for _ in range(2)]
    assert texts == ["streamed1", "streamed2"]
    assert (cache.stats().calls, cache.stats().output_spent) == (2, 40)


@pytest.mark.parametrize("memory", [0, 1 << 20])
def test_a_recorded_stream_is_replayed_chunk_by_chunk(folder: Path, memory: int) -> None:
    """The replay has the same events in the same order, and ends with the whole answer, as a hit."""
    client = FakeClient()
    with Cache(folder, streams="record") as cache:
        first = list(cache.wrap(client).stream(HELLO))
    with Cache(folder, streams="record", memory=memory) as cache:
        for _ in range(2):
            again = list(cache.wrap(client).stream(HELLO))
            assert events(again) == events(first)
            assert again[-1].response is not None
            assert (again[-1].response.text, again[-1].response.hit) == ("streamed 1", True)
        assert cache.stats().hits == 2
    assert len(client.calls) == 1


def test_a_stream_left_early_is_not_stored() -> None:
    """Whoever stops reading before the end has not seen the answer; it is not kept for others."""
    store = DictStore()
    cached = Cache(store, streams="record").wrap(FakeClient())
    stream = cached.stream(HELLO)
    assert next(stream).text == "streamed"
    stream.close()  # type: ignore[attr-defined]  # it is a generator
    assert not store.held


def test_a_stream_cut_short_is_not_stored() -> None:
    """Without its last event a stream is no answer."""

    class Cut(FakeClient):
        def stream(self, *_args: object, **_more: object) -> Iterator[Chunk]:
            yield Chunk("half", {})

    store = DictStore()
    chunks = list(Cache(store, streams="record").wrap(Cut()).stream(HELLO))
    assert [chunk.text for chunk in chunks] == ["half"]
    assert not store.held


def test_a_stream_that_fails_is_not_stored() -> None:
    """An error inside a stream reaches the caller, and nothing is kept."""

    class Failing(FakeClient):
        def stream(self, *_args: object, **_more: object) -> Iterator[Chunk]:
            yield Chunk("half", {})
            raise RuntimeError("overloaded")

    store = DictStore()
    with pytest.raises(RuntimeError, match="overloaded"):
        list(Cache(store, streams="record").wrap(Failing()).stream(HELLO))
    assert not store.held


def test_a_stream_and_an_answer_are_kept_apart(folder: Path) -> None:
    """The request of a stream is another request."""
    client = FakeClient()
    with Cache(folder, streams="record") as cache:
        cached = cache.wrap(client)
        list(cached.stream(HELLO))
        assert not cached.converse(HELLO).hit
        assert list(cached.stream(HELLO))[-1].response


def test_a_damaged_recording_is_a_miss() -> None:
    """A recording whose events cannot be read is not begun."""
    store = DictStore()
    client = FakeClient()
    list(Cache(store, streams="record").wrap(client).stream(HELLO))
    ((key, (_, content)),) = store.held.items()
    store.put_entry(key, content + b"\n{not an event", replace=True)
    chunks = list(Cache(store, streams="record").wrap(client).stream(HELLO))
    assert chunks[-1].response is not None
    assert not chunks[-1].response.hit


def test_async_streams(folder: Path) -> None:
    """The async client records and replays alike."""
    client = AsyncFakeClient()

    async def collect(cache: Cache) -> list[Chunk]:
        return [chunk async for chunk in cache.wrap(client).stream(HELLO)]

    with Cache(folder, streams="record") as cache:
        first = asyncio.run(collect(cache))
    with Cache(folder, streams="record") as cache:
        again = asyncio.run(collect(cache))
    assert events(again) == events(first)
    assert again[-1].response is not None
    assert again[-1].response.hit
    assert len(client.calls) == 1
