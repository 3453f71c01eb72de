"""The transports before clients of httpx and httpx2, sync and async, over real HTTP."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Self

import httpx
import httpx2
import pytest

import casstore
from casstore.inference.cache import Cache
from casstore.inference.types import Usage
from tests.credentials import SECRET
from tests.inference.http.clients import KINDS, Asker, asking
from tests.inference.http.loopback import Canned, Loopback
from tests.inference.http.replies import CHAT, CHAT_PATH, JSON, canned, chat, chat_events, sse, stream

KEYS = {
    "authorization": f"Bearer {SECRET}",
    "x-api-key": SECRET,
    "cookie": f"session={SECRET}",
    "openai-organization": SECRET,
}
STREAMED: JSON = {**CHAT, "stream": True}
PIECES = [sse(event) for event in chat_events("h", "i")]


@pytest.fixture(params=KINDS)
def asker(request: pytest.FixtureRequest, cache: Cache) -> Iterator[Asker]:
    """Yield each kind of client, with a cache that records streams before it."""
    with asking(request.param, cache, streams="record") as made:
        yield made


@pytest.fixture
def url(loopback: Loopback) -> str:
    """Return where chats are asked; the server answers them."""
    loopback.reply = canned(chat(), set_cookie="a=1", x_request_id=SECRET, openai_organization=SECRET)
    return loopback.url + CHAT_PATH


def test_a_second_call_is_a_hit(asker: Asker, loopback: Loopback, url: str) -> None:
    """With the same bytes, and marked as one."""
    miss = asker.post(url, json=CHAT, headers=KEYS)
    hit = asker.post(url, json=CHAT, headers=KEYS)
    assert (loopback.calls, hit.status_code, hit.content) == (1, 200, miss.content)
    assert (miss.headers["x-casstore"], hit.headers["x-casstore"]) == ("miss", "hit")
    assert miss.headers["x-casstore-key"] == hit.headers["x-casstore-key"]
    assert hit.headers["content-type"] == miss.headers["content-type"]
    assert "x-request-id" in miss.headers
    assert "x-request-id" not in hit.headers
    assert "set-cookie" not in hit.headers


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


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503, 529])
def test_an_error_is_given_on_and_not_stored(
    status: int, asker: Asker, loopback: Loopback, url: str, cache: Cache
) -> None:
    """With its body and its headers."""
    loopback.reply = canned({"error": {"message": "no"}}, status, retry_after="1")
    for _ in range(2):
        found = asker.post(url, json=CHAT)
        assert (found.status_code, found.json(), found.headers["retry-after"]) == (
            status,
            {"error": {"message": "no"}},
            "1",
        )
    assert loopback.calls == 2
    assert cache.reasons() == {"unstored_status": 2}


def test_what_has_no_key_passes_unchanged(asker: Asker, loopback: Loopback, url: str, cache: Cache) -> None:
    """And is counted, with the reason and what it used."""
    body = {**CHAT, "web_search_options": {"x": 1}}
    for _ in range(2):
        found = asker.post(url, json=body, headers=KEYS)
        assert found.content == loopback.reply.body
        assert "x-casstore" not in found.headers
    assert asker.request("GET", loopback.url + "/v1/models").status_code == 200
    assert cache.reasons() == {"uncached_search": 2, "uncached_endpoint": 1}
    assert (cache.stats().calls, cache.stats().uncached, cache.stats().input_spent) == (2, 2, 10)
    assert loopback.seen[0].headers["accept-encoding"].startswith("gzip")


@pytest.mark.parametrize("pairing", ["gzip", "deflate", "header without encoding", "encoding without header"])
def test_encoded_bodies_are_decoded_once(pairing: str, asker: Asker, loopback: Loopback, url: str) -> None:
    """A hit is never said to be encoded; a body that is not what its header says passes as it is."""
    body = json.dumps(chat()).encode()
    wire = {"gzip": gzip.compress(body), "deflate": zlib.compress(body)}.get(pairing, body)
    told = {"encoding without header": ()}.get(pairing, (("content-encoding", pairing.split(maxsplit=1)[0]),))
    if pairing.startswith("header"):
        told = (("content-encoding", "gzip"),)
    if pairing.startswith("encoding"):
        wire = gzip.compress(body)
    loopback.reply = Canned(200, (("content-type", "application/json"), *told), wire)
    first, second = asker.post(url, json=CHAT), asker.post(url, json=CHAT)
    expected = wire if pairing.startswith("encoding") else body
    assert (first.content, second.content) == (expected, expected)
    assert "content-encoding" not in second.headers
    assert loopback.calls == (2 if pairing.startswith("encoding") else 1)


def test_an_encoding_that_is_not_known_passes_as_it_is(asker: Asker, loopback: Loopback, url: str) -> None:
    """It is not stored, and the client does with it what it would."""
    told = (("content-type", "application/json"), ("content-encoding", "x-mine"))
    loopback.reply = Canned(200, told, b"\x00\x01")
    for _ in range(2):
        assert asker.post(url, json=CHAT).content == b"\x00\x01"
    assert loopback.calls == 2


def test_settings_of_a_call_stand_in_its_headers(asker: Asker, loopback: Loopback, url: str) -> None:
    """They are not sent on."""
    for headers in (
        {"x-casstore-sample": "0"},
        {"X-Casstore-Sample": "3"},
        {"x-casstore-tag": "a"},
        {"x-casstore-namespace": "n"},
        {"x-casstore-mode": "refresh"},
        {"x-casstore-mode": "bypass"},
        {"x-casstore-max-age": "0"},
    ):
        asker.post(url, json=CHAT, headers=headers)
    assert loopback.calls == 7
    assert not [name for seen in loopback.seen for name in seen.headers if name.startswith("x-casstore")]
    assert asker.post(url, json=CHAT, headers={"x-casstore-sample": "3"}).headers["x-casstore"] == "hit"


def test_a_setting_that_has_no_meaning_is_told(asker: Asker, loopback: Loopback, url: str) -> None:
    """At once, and nothing is asked."""
    found = asker.post(url, json=CHAT, headers={"x-casstore-mode": "fast"})
    assert (found.status_code, found.headers["x-should-retry"]) == (400, "false")
    assert "no such mode" in found.json()["error"]["message"]
    assert loopback.calls == 0


def test_a_block_sets_what_holds_for_its_calls(
    asker: Asker, loopback: Loopback, url: str, cache: Cache
) -> None:
    """As for every other client of the cache."""
    with cache.using(sample=1, tag="t"):
        asker.post(url, json=CHAT)
        assert asker.post(url, json=CHAT).headers["x-casstore"] == "hit"
    assert asker.post(url, json=CHAT).headers["x-casstore"] == "miss"
    assert loopback.calls == 2


def test_refresh_replaces_and_bypass_leaves_alone(
    asker: Asker, loopback: Loopback, url: str, cache: Cache
) -> None:
    """And bypass counts nothing."""
    asker.post(url, json=CHAT)
    loopback.reply = canned(chat("new"))
    with cache.using(mode="bypass"):
        assert "x-casstore" not in asker.post(url, json=CHAT).headers
    assert b"new" not in asker.post(url, json=CHAT).content
    with cache.using(mode="refresh"):
        asker.post(url, json=CHAT)
    assert b"new" in asker.post(url, json=CHAT).content
    assert cache.stats().calls == 2


def test_a_miss_in_offline_is_an_answer_of_its_own(
    asker: Asker, loopback: Loopback, url: str, cache: Cache
) -> None:
    """Nothing is sent, whatever the request; a hit needs no network."""
    asker.post(url, json=CHAT)
    with cache.using(mode="offline"):
        assert asker.post(url, json=CHAT).headers["x-casstore"] == "hit"
        for body in ({**CHAT, "seed": 1}, {**CHAT, "background": True}, STREAMED):
            found = asker.post(url, json=body)
            assert (found.status_code, found.headers["x-should-retry"]) == (504, "false")
            assert "offline" in found.json()["error"]["message"]
        assert asker.request("GET", loopback.url + "/v1/models").status_code == 504
    assert loopback.calls == 1


def test_a_stream_is_passed_on_as_it_comes_and_replayed(
    asker: Asker, loopback: Loopback, url: str, cache: Cache
) -> None:
    """Byte for byte; and a request without a stream never gets it."""
    loopback.script.append(stream(*PIECES, pause=0.01))
    first = asker.pieces(url, json=STREAMED)
    again = asker.pieces(url, json=STREAMED)
    assert len(first) > 1
    assert b"".join(first) == b"".join(again) == b"".join(PIECES)
    assert loopback.calls == 1
    assert asker.post(url, json=CHAT).headers["content-type"] == "application/json"
    assert cache.stats().input_spent == 10
    assert (cache.stats().hits, cache.stats().cached_saved, cache.stats().reasoning_saved) == (1, 2, 1)


def test_a_stream_can_be_replayed_at_its_pace(cache: Cache, loopback: Loopback, url: str) -> None:
    """In the pieces it came in."""
    loopback.script.append(stream(*PIECES, pause=0.01))
    for kind in KINDS:
        with asking(kind, cache, streams="record", paced=True) as asker:
            assert len(asker.pieces(url, json=STREAMED)) == len(PIECES)
    assert loopback.calls == 1


@pytest.mark.parametrize("trouble", ["cut", "error", "left", "no end"])
def test_a_stream_that_is_not_whole_is_not_stored(
    trouble: str, asker: Asker, loopback: Loopback, url: str, cache: Cache
) -> None:
    """Cut by the network, failed, or left by its reader."""
    error = sse({"error": {"message": "no"}})
    bad = {
        "cut": stream(*PIECES[:-1], cut=True),
        "error": stream(PIECES[0], error, *PIECES[1:]),
        "left": stream(*PIECES, pause=0.02),
        "no end": stream(*PIECES[:-1]),
    }[trouble]
    loopback.reply = bad
    for _ in range(2):
        if trouble == "cut":
            with pytest.raises(Exception, match=r"(?i)peer|closed|incomplete|protocol|read"):
                asker.pieces(url, json=STREAMED)
        else:
            asker.pieces(url, json=STREAMED, most=1 if trouble == "left" else None)
    assert loopback.calls == 2
    assert sum(cache.reasons().values()) == 2
    assert list(cache.repository.entries()) == []  # type: ignore[union-attr]  # the fixture's is a Repository


def test_a_reader_that_stops_after_the_last_event_has_it_stored(
    asker: Asker, loopback: Loopback, url: str
) -> None:
    """As the OpenAI client does."""
    loopback.reply = stream(*PIECES, b": comment\n\n", pause=0.02)
    asker.pieces(url, json=STREAMED, most=len(PIECES))
    assert b"".join(asker.pieces(url, json=STREAMED)) == b"".join(PIECES)
    assert loopback.calls == 1


def test_streams_pass_unless_they_are_to_be_recorded(cache: Cache, loopback: Loopback, url: str) -> None:
    """Unchanged, but counted, with what they used."""
    loopback.reply = stream(*PIECES)
    with asking("httpx2", cache) as asker:
        for _ in range(2):
            assert b"".join(asker.pieces(url, json=STREAMED)) == b"".join(PIECES)
    assert loopback.calls == 2
    assert cache.reasons() == {"uncached_stream": 2}
    assert (cache.stats().uncached, cache.stats().input_spent, cache.stats().reasoning_spent) == (2, 10, 2)


def test_a_stream_where_none_was_asked_for_is_given_on(asker: Asker, loopback: Loopback, url: str) -> None:
    """It is read by the program, and not before, and never stored."""
    loopback.reply = stream(*PIECES)
    for _ in range(2):
        assert asker.post(url, json=CHAT).content == b"".join(PIECES)
    assert loopback.calls == 2


def test_requests_are_stored_beside_replies(asker: Asker, cache: Cache, url: str) -> None:
    """The digest of the stored request is the key; labels tell the rest."""
    key = asker.post(url, json=CHAT, headers=KEYS).headers["x-casstore-key"]
    repository: Any = cache.repository
    entry = repository.entry(key)
    assert entry.refs == (key,)
    assert json.loads(repository.get(key))["body"] == CHAT
    assert entry.labels["kind"] == "http"
    assert (entry.labels["provider"], entry.labels["path"]) == ("openai", CHAT_PATH)
    assert entry.labels["usage"] == {"input": 5, "output": 3, "cached": 2, "reasoning": 1}
    head, _, body = repository.get(entry.object).partition(b"\n")
    assert json.loads(head)["headers"] == {"content-type": "application/json"}
    assert json.loads(body) == chat()


def test_hosts_that_share_an_address_share_no_answer(asker: Asker, loopback: Loopback, url: str) -> None:
    """The header tells a gateway which of them is meant."""
    hosts = ("a.example", "b.example", "A.example")
    keys = [asker.post(url, json=CHAT, headers={"host": each}).headers["x-casstore-key"] for each in hosts]
    assert keys[0] == keys[2] != keys[1]
    assert loopback.calls == 2


EVERYWHERE: JSON = {
    "api_key": SECRET,
    "metadata": {"authorization": SECRET},
    "tools": [{"type": "function", "function": {"name": "f"}, "headers": {"x-anything": SECRET}}],
    "extra": [{"credentials": {"user": SECRET}, "nested": {"client_secret": SECRET, "Password": SECRET}}],
}
"""A body with credentials wherever a field tells of one."""

QUERY = (
    "key={0}&api_key={0}&access_token={0}&sig={0}&X-Amz-Credential={0}&x-goog-signature={0}&code_secret={0}"
)


@pytest.mark.parametrize("stored", [True, False])
def test_no_credential_is_kept_of_any_place(
    stored: bool, asker: Asker, cache: Cache, loopback: Loopback
) -> None:
    """Of a URL, its query, headers, or the body's fields; of an answer or of a refusal."""
    loopback.reply = canned(chat(), 200 if stored else 401, set_cookie=SECRET, x_request_id=SECRET)
    named = ("authorization", "api-key", "x-api-key", "x-goog-api-key", "x-amz-security-token", "cookie")
    own = ("proxy-authorization", "openai-organization", "x-anything", "anthropic-organization-id")
    url = loopback.url.replace("://", f"://user:{SECRET}@") + CHAT_PATH + "?" + QUERY.format(SECRET)
    for body in (EVERYWHERE, {**EVERYWHERE, "stream": True}, {**EVERYWHERE, "background": True}):
        asker.post(url, json={**CHAT, **body}, headers=dict.fromkeys((*named, *own), SECRET))
    cache.flush()
    assert loopback.calls == 3
    assert loopback.seen[0].headers["x-api-key"] == SECRET
    assert len(list(cache.repository.entries())) == stored  # type: ignore[union-attr]  # a Repository


def test_requests_need_not_be_stored(cache: Cache, url: str) -> None:
    """For those who do not want them in a bucket."""
    with asking("httpx", cache, keep_requests=False) as asker:
        key = asker.post(url, json=CHAT).headers["x-casstore-key"]
    assert cache.repository.entry(key).refs == ()  # type: ignore[union-attr]  # a Repository


def test_a_large_image_is_stored_once(asker: Asker, cache: Cache, url: str) -> None:
    """However many questions there are about it."""
    image = "data:image/png;base64," + "QUJD" * 8000
    for question in ("what", "where"):
        content = [{"type": "text", "text": question}, {"type": "image_url", "image_url": {"url": image}}]
        asker.post(url, json={**CHAT, "messages": [{"role": "user", "content": content}]})
    repository: Any = cache.repository
    sizes = [info.size for info in repository.objects()]
    assert sizes.count(24000) == 1
    assert max(sizes) == 24000


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


def test_what_a_programs_own_body_raises_is_raised(asker: Asker, loopback: Loopback, url: str) -> None:
    """It is no fault of the cache."""

    def broken() -> Iterator[bytes]:
        yield b'{"model":'
        raise LookupError("the program's own")

    async def broken_async() -> AsyncIterator[bytes]:
        for piece in broken():
            yield piece

    with pytest.raises(LookupError, match="the program's own"):
        asker.post(url, content=broken_async() if asker.asynchronous else broken())
    assert loopback.calls == 0


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


@pytest.mark.parametrize("kind", KINDS)
def test_a_broken_store_is_no_store(
    kind: str, tmp_path: Path, loopback: Loopback, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With one warning, and every answer."""
    (tmp_path / "store").write_text("no folder")
    loopback.reply = canned(chat())
    with Cache(tmp_path / "store", memory=0) as cache, asking(kind, cache, streams="record") as asker:
        for _ in range(2):
            assert asker.post(url, json=CHAT).json() == chat()
        loopback.reply = stream(*PIECES)
        assert b"".join(asker.pieces(url, json=STREAMED)) == b"".join(PIECES)
    assert len(caplog.records) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_of_the_cache_itself_is_survived(
    kind: str, cache: Cache, loopback: Loopback, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it is: the provider's answer gets through."""

    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("a fault")

    for name in ("open", "keep"):
        with monkeypatch.context() as patch, asking(kind, cache) as asker:
            patch.setattr(f"casstore.inference.http.core.HttpCache.{name}", fail)
            assert asker.post(url, json=CHAT).json() == chat()
    loopback.reply = stream(*PIECES)
    with monkeypatch.context() as patch, asking(kind, cache, streams="record") as asker:
        patch.setattr("casstore.inference.http.streams.StreamWatch.feed", fail)
        assert b"".join(asker.pieces(url, json=STREAMED)) == b"".join(PIECES)
    assert cache.reasons() == {"unstored_encoding": 1}


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


def test_usage_is_counted_by_provider_and_model(asker: Asker, cache: Cache, url: str) -> None:
    """In this process and in the store."""
    for _ in range(3):
        asker.post(url, json=CHAT)
    saved = cache.stats_by_model()["openai", "gpt-4o"]
    expected = Usage(10, 6, 4, 2)
    assert (saved.calls, saved.hits) == (1, 2)
    assert Usage(saved.input_saved, saved.output_saved, saved.cached_saved, saved.reasoning_saved) == expected
    cache.flush()
    assert cache.savings().input_saved == 10
