"""Caches before clients of each HTTP library, over real HTTP: the suite, and what holds for some alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Self

import httpx
import httpx2
import pytest

import casstore
from casstore.inference.cache import Cache
from tests.credentials import SECRET
from tests.inference.http.clients import HTTPX, KINDS, Asker, asking
from tests.inference.http.loopback import Canned, Loopback
from tests.inference.http.replies import CHAT, CHAT_PATH, JSON, canned, chat, stream
from tests.suites.transport import KEYS, PIECES, STREAMED, AsyncTransportSuite, TransportSuite


@pytest.fixture(params=HTTPX)
def asker(request: pytest.FixtureRequest, cache: Cache) -> Iterator[Asker]:
    """Yield each kind of client, with a cache that records streams before it."""
    with asking(request.param, cache, streams="record") as made:
        yield made


@pytest.fixture
def url(loopback: Loopback) -> str:
    """Return where chats are asked; the server answers them."""
    loopback.reply = canned(chat(), set_cookie="a=1", x_request_id=SECRET, openai_organization=SECRET)
    return loopback.url + CHAT_PATH


class TestHttpx(TransportSuite):
    """Over httpx."""

    kind = "httpx"
    following: ClassVar = {"follow_redirects": True}


class TestAsyncHttpx(AsyncTransportSuite):
    """Over httpx, with asyncio."""

    kind = "httpx async"
    following: ClassVar = {"follow_redirects": True}


class TestHttpx2(TransportSuite):
    """Over httpx2."""

    kind = "httpx2"
    following: ClassVar = {"follow_redirects": True}


class TestAsyncHttpx2(AsyncTransportSuite):
    """Over httpx2, with asyncio."""

    kind = "httpx2 async"
    following: ClassVar = {"follow_redirects": True}


class TestAiohttp(AsyncTransportSuite):
    """Over aiohttp."""

    kind = "aiohttp"
    refuses_two_credentials = True
    refuses_false_encodings = True


class TestRequests(TransportSuite):
    """Over requests."""

    kind = "requests"


class TestUrllib3(TransportSuite):
    """Over urllib3."""

    kind = "urllib3"
    refuses_false_encodings = True
    asks_for_encodings = False


@pytest.mark.parametrize("writer", KINDS)
def test_what_one_kind_wrote_the_others_hit(writer: str, cache: Cache, loopback: Loopback, url: str) -> None:
    """Sync or async, httpx or httpx2, with any key."""
    with asking(writer, cache) as first:
        first.post(url, json=CHAT, headers=KEYS)
    for kind in KINDS:
        with asking(kind, cache) as other:
            found = other.post(url, content=json.dumps(CHAT, indent=1), headers={"x-api-key": "another"})
            assert found.headers["x-casstore"] == "hit"
    assert loopback.calls == 1


def test_an_entry_outlives_its_process(folder: Path, loopback: Loopback, url: str) -> None:
    """Another cache over the same store reads it."""
    with Cache(folder) as cache, asking("httpx", cache) as asker:
        first = asker.post(url, json=CHAT)
    with Cache(folder) as cache, asking("httpx2", cache) as asker:
        assert asker.post(url, json=CHAT).content == first.content
        assert cache.stats().input_saved == 5
    assert loopback.calls == 1


@pytest.mark.parametrize("asked", [CHAT, STREAMED], ids=["whole", "stream"])
def test_a_local_hit_of_a_task_takes_no_thread(
    folder: Path, loopback: Loopback, url: str, asked: JSON, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the store has at hand is read on the event loop."""
    if asked is STREAMED:
        loopback.reply = stream(*PIECES)
    with Cache(folder) as cache, asking("httpx", cache, streams="record") as asker:
        asker.post(url, json=asked)

    def refuse(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(asyncio, "to_thread", refuse)
    with Cache(folder, memory=0) as cache, asking("httpx async", cache, streams="record") as asker:
        assert asker.post(url, json=asked).headers["x-casstore"] == "hit"


def test_a_stream_can_be_replayed_at_its_pace(cache: Cache, loopback: Loopback, url: str) -> None:
    """In the pieces it came in."""
    loopback.script.append(stream(*PIECES, pause=0.01))
    for kind in KINDS:
        with asking(kind, cache, streams="record", paced=True) as asker:
            assert len(asker.pieces(url, json=STREAMED)) == len(PIECES)
    assert loopback.calls == 1


def test_requests_need_not_be_stored(cache: Cache, url: str) -> None:
    """For those who do not want them in a bucket."""
    with asking("httpx", cache, keep_requests=False) as asker:
        key = asker.post(url, json=CHAT).headers["x-casstore-key"]
    assert cache.repository.entry(key).refs == ()  # type: ignore[union-attr]  # a Repository


def test_a_response_is_read_as_any_other(asker: Asker, url: str) -> None:
    """Its time is told, and its bytes can be had raw, of a miss and of a hit."""
    for _ in range(2):
        found = asker.post(url, json=CHAT)
        assert found.elapsed.total_seconds() > 0
        assert found.num_bytes_downloaded == len(found.content) == int(found.headers["content-length"])
    assert b"".join(asker.pieces(url, raw=True, json=CHAT)) == found.content


def test_headers_need_not_be_ascii(asker: Asker, loopback: Loopback, url: str) -> None:
    """Neither a request's nor a reply's; they go through as the bytes they are."""
    told = [("content-type", "application/json; note=\xe9"), ("x-note", "\xe9")]
    loopback.reply = Canned(200, told, loopback.reply.body)
    for _ in range(2):
        found = asker.post(url, json=CHAT, headers={b"x-title": "é".encode()})
        assert found.headers["content-type"] == told[0][1]
    assert loopback.calls == 1
    assert loopback.seen[0].headers["x-title"] == "é".encode().decode("latin-1")


def test_a_text_that_was_left_is_not_stored(cache: Cache, loopback: Loopback) -> None:
    """Where a stream was asked for and something else came, its end must have been seen."""
    url = loopback.url + "/v1/audio/transcriptions"
    fields: dict[str, Any] = {"files": {"file": b"x"}, "data": {"stream": "true", "response_format": "text"}}
    loopback.reply = stream(b"one ", b"two ", b"three", pause=0.02, kind="text/plain")
    with asking("httpx", cache, streams="record") as asker:
        assert len(asker.pieces(url, most=1, **fields)) == 1
        assert cache.reasons() == {"unstored_cut": 1}
        assert b"".join(asker.pieces(url, **fields)) == b"one two three"
        assert b"".join(asker.pieces(url, **fields)) == b"one two three"
    assert loopback.calls == 2


@pytest.mark.parametrize("module", [httpx, httpx2])
def test_a_transport_is_entered_and_left_with_the_client(module: Any, cache: Cache) -> None:
    """As it would be without a cache before it."""
    done: list[str] = []

    class Own(module.MockTransport):  # type: ignore[misc]  # of either library
        def __enter__(self) -> Self:
            done.append("enter")
            return self

        def __exit__(self, *_: object) -> None:
            done.append("exit")

        async def __aenter__(self) -> Self:
            return self.__enter__()

        async def __aexit__(self, *_: object) -> None:
            self.__exit__()

    async def use() -> None:
        async with casstore.cached(module.AsyncClient(transport=Own(lambda _: None)), cache):
            done.append("use")

    with casstore.cached(module.Client(transport=Own(lambda _: None)), cache):
        done.append("use")
    asyncio.run(use())
    assert done == ["enter", "use", "exit"] * 2


def test_an_answer_that_is_damaged_in_the_store_is_asked_again(
    folder: Path, loopback: Loopback, url: str
) -> None:
    """What fails its check is a miss."""
    with Cache(folder) as cache, asking("httpx", cache) as asker:
        key = asker.post(url, json=CHAT).headers["x-casstore-key"]
        repository: Any = cache.repository
        repository.put_entry(key, b'{"casstore":1,"kind":"http","status":200}\n', replace=True)
    with Cache(folder) as cache, asking("httpx", cache) as asker:
        assert asker.post(url, json=CHAT).json() == chat()
        assert asker.post(url, json=CHAT).headers["x-casstore"] == "hit"
    assert loopback.calls == 2
