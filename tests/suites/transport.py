"""What a cache must do before the clients of every HTTP library, as one class of tests.

A test class for one library inherits `TransportSuite` and names one of `tests.inference.http.clients.KINDS`.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
import zlib
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import pytest

from casstore.inference.cache import Cache
from casstore.inference.types import Usage
from tests.credentials import SECRET
from tests.inference.http.clients import Asker, asking
from tests.inference.http.loopback import Canned, Loopback
from tests.inference.http.moments import held, until, waiting
from tests.inference.http.replies import CHAT, CHAT_PATH, JSON, canned, chat, chat_events, sse, stream

KEYS = {
    "authorization": f"Bearer {SECRET}",
    "x-api-key": SECRET,
    "cookie": f"session={SECRET}",
    "openai-organization": SECRET,
}
STREAMED: JSON = {**CHAT, "stream": True}
PIECES = [sse(event) for event in chat_events("h", "i")]

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


class TransportSuite:
    """What holds for every library, sync or async."""

    kind: ClassVar[str]
    """The kind of client: one of `tests.inference.http.clients.KINDS`."""

    refuses_false_encodings: ClassVar[bool] = False
    """Whether the library itself raises where a body is not encoded as its header says."""

    asks_for_encodings: ClassVar[bool] = True
    """Whether the library asks for encoded bodies unless it is told otherwise."""

    refuses_two_credentials: ClassVar[bool] = False
    """Whether the library itself raises where both a URL and a header hold credentials."""

    following: ClassVar[dict[str, Any]] = {}
    """What has the library follow redirects."""

    @pytest.fixture
    def asker(self, cache: Cache) -> Iterator[Asker]:
        """Yield a client with a cache that records streams before it."""
        with asking(self.kind, cache, streams="record") as made:
            yield made

    @pytest.fixture
    def url(self, loopback: Loopback) -> str:
        """Return where chats are asked; the server answers them."""
        loopback.reply = canned(chat(), set_cookie="a=1", x_request_id=SECRET, openai_organization=SECRET)
        return loopback.url + CHAT_PATH

    def test_a_second_call_is_a_hit(self, asker: Asker, loopback: Loopback, url: str) -> None:
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

    @pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503, 529])
    def test_an_error_is_given_on_and_not_stored(
        self, status: int, asker: Asker, loopback: Loopback, url: str, cache: Cache
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

    def test_what_has_no_key_passes_unchanged(
        self, asker: Asker, loopback: Loopback, url: str, cache: Cache
    ) -> None:
        """And is counted, with the reason and what it used."""
        body = {**CHAT, "web_search_options": {"x": 1}}
        for _ in range(2):
            found = asker.post(url, json=body, headers=KEYS)
            assert found.content == loopback.reply.body
            assert "x-casstore" not in found.headers
        assert asker.request("GET", loopback.url + "/v1/models").status_code == 200
        assert cache.reasons() == {"uncached_search": 2, "uncached_endpoint": 1}
        assert (cache.stats().calls, cache.stats().uncached, cache.stats().input_spent) == (2, 2, 10)
        if self.asks_for_encodings:
            assert loopback.seen[0].headers["accept-encoding"].startswith("gzip")

    @pytest.mark.parametrize(
        "pairing", ["gzip", "deflate", "header without encoding", "encoding without header"]
    )
    def test_encoded_bodies_are_decoded_once(
        self, pairing: str, asker: Asker, loopback: Loopback, url: str
    ) -> None:
        """A hit is never said to be encoded; a body that is not what its header says passes as it is."""
        body = json.dumps(chat()).encode()
        wire = {"gzip": gzip.compress(body), "deflate": zlib.compress(body)}.get(pairing, body)
        told = {"encoding without header": ()}.get(
            pairing, (("content-encoding", pairing.split(maxsplit=1)[0]),)
        )
        if pairing.startswith("header"):
            told = (("content-encoding", "gzip"),)
        if pairing.startswith("encoding"):
            wire = gzip.compress(body)
        loopback.reply = Canned(200, (("content-type", "application/json"), *told), wire)
        if pairing.startswith("header") and self.refuses_false_encodings:
            with pytest.raises(Exception, match=r"(?i)decode|encoding"):
                asker.post(url, json=CHAT)
            return
        first, second = asker.post(url, json=CHAT), asker.post(url, json=CHAT)
        expected = wire if pairing.startswith("encoding") else body
        assert (first.content, second.content) == (expected, expected)
        assert "content-encoding" not in second.headers
        assert loopback.calls == (2 if pairing.startswith("encoding") else 1)

    def test_an_encoding_that_is_not_known_passes_as_it_is(
        self, asker: Asker, loopback: Loopback, url: str
    ) -> None:
        """It is not stored, and the client does with it what it would."""
        told = (("content-type", "application/json"), ("content-encoding", "x-mine"))
        loopback.reply = Canned(200, told, b"\x00\x01")
        for _ in range(2):
            assert asker.post(url, json=CHAT).content == b"\x00\x01"
        assert loopback.calls == 2

    def test_settings_of_a_call_stand_in_its_headers(
        self, asker: Asker, loopback: Loopback, url: str
    ) -> None:
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

    def test_a_setting_that_has_no_meaning_is_told(self, asker: Asker, loopback: Loopback, url: str) -> None:
        """At once, and nothing is asked."""
        found = asker.post(url, json=CHAT, headers={"x-casstore-mode": "fast"})
        assert (found.status_code, found.headers["x-should-retry"]) == (400, "false")
        assert "no such mode" in found.json()["error"]["message"]
        assert loopback.calls == 0

    def test_a_block_sets_what_holds_for_its_calls(
        self, asker: Asker, loopback: Loopback, url: str, cache: Cache
    ) -> None:
        """As for every other client of the cache."""
        with cache.using(sample=1, tag="t"):
            asker.post(url, json=CHAT)
            assert asker.post(url, json=CHAT).headers["x-casstore"] == "hit"
        assert asker.post(url, json=CHAT).headers["x-casstore"] == "miss"
        assert loopback.calls == 2

    def test_refresh_replaces_and_bypass_leaves_alone(
        self, asker: Asker, loopback: Loopback, url: str, cache: Cache
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
        self, asker: Asker, loopback: Loopback, url: str, cache: Cache
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
        self, asker: Asker, loopback: Loopback, url: str, cache: Cache
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

    @pytest.mark.parametrize("trouble", ["cut", "error", "left", "no end"])
    def test_a_stream_that_is_not_whole_is_not_stored(
        self, trouble: str, asker: Asker, loopback: Loopback, url: str, cache: Cache
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
                with pytest.raises(
                    Exception, match=r"(?i)peer|closed|incomplete|protocol|read|premature|payload|chunk"
                ):
                    asker.pieces(url, json=STREAMED)
            else:
                asker.pieces(url, json=STREAMED, most=1 if trouble == "left" else None)
        assert loopback.calls == 2
        assert sum(cache.reasons().values()) == 2
        assert list(cache.repository.entries()) == []  # type: ignore[union-attr]  # the fixture's is a Repository

    def test_a_reader_that_stops_after_the_last_event_has_it_stored(
        self, asker: Asker, loopback: Loopback, url: str
    ) -> None:
        """As the OpenAI client does."""
        loopback.reply = stream(*PIECES, b": comment\n\n", pause=0.02)
        asker.pieces(url, json=STREAMED, most=len(PIECES))
        assert b"".join(asker.pieces(url, json=STREAMED)) == b"".join(PIECES)
        assert loopback.calls == 1

    def test_streams_pass_unless_they_are_to_be_recorded(
        self, cache: Cache, loopback: Loopback, url: str
    ) -> None:
        """Unchanged, but counted, with what they used."""
        loopback.reply = stream(*PIECES)
        with asking(self.kind, cache) as asker:
            for _ in range(2):
                assert b"".join(asker.pieces(url, json=STREAMED)) == b"".join(PIECES)
        assert loopback.calls == 2
        assert cache.reasons() == {"uncached_stream": 2}
        assert (cache.stats().uncached, cache.stats().input_spent, cache.stats().reasoning_spent) == (
            2,
            10,
            2,
        )

    def test_a_stream_where_none_was_asked_for_is_given_on(
        self, asker: Asker, loopback: Loopback, url: str
    ) -> None:
        """It is read by the program, and not before, and never stored."""
        loopback.reply = stream(*PIECES)
        for _ in range(2):
            assert asker.post(url, json=CHAT).content == b"".join(PIECES)
        assert loopback.calls == 2

    def test_requests_are_stored_beside_replies(self, asker: Asker, cache: Cache, url: str) -> None:
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

    def test_hosts_that_share_an_address_share_no_answer(
        self, asker: Asker, loopback: Loopback, url: str
    ) -> None:
        """The header tells a gateway which of them is meant."""
        hosts = ("a.example", "b.example", "A.example")
        keys = [
            asker.post(url, json=CHAT, headers={"host": each}).headers["x-casstore-key"] for each in hosts
        ]
        assert keys[0] == keys[2] != keys[1]
        assert loopback.calls == 2

    @pytest.mark.parametrize("stored", [True, False])
    def test_no_credential_is_kept_of_any_place(
        self, stored: bool, asker: Asker, cache: Cache, loopback: Loopback
    ) -> None:
        """Of a URL, its query, headers, or the body's fields; of an answer or of a refusal."""
        loopback.reply = canned(chat(), 200 if stored else 401, set_cookie=SECRET, x_request_id=SECRET)
        named = ("authorization", "api-key", "x-api-key", "x-goog-api-key", "x-amz-security-token", "cookie")
        own = ("proxy-authorization", "openai-organization", "x-anything", "anthropic-organization-id")
        url = loopback.url.replace("://", f"://user:{SECRET}@") + CHAT_PATH + "?" + QUERY.format(SECRET)
        headers = dict.fromkeys((*named, *own), SECRET)
        if self.refuses_two_credentials:
            del headers["authorization"]
        for body in (EVERYWHERE, {**EVERYWHERE, "stream": True}, {**EVERYWHERE, "background": True}):
            asker.post(url, json={**CHAT, **body}, headers=headers)
        cache.flush()
        assert loopback.calls == 3
        assert loopback.seen[0].headers["x-api-key"] == SECRET
        assert len(list(cache.repository.entries())) == stored  # type: ignore[union-attr]  # a Repository

    def test_a_large_image_is_stored_once(self, asker: Asker, cache: Cache, url: str) -> None:
        """However many questions there are about it."""
        image = "data:image/png;base64," + "QUJD" * 8000
        for question in ("what", "where"):
            content = [{"type": "text", "text": question}, {"type": "image_url", "image_url": {"url": image}}]
            asker.post(url, json={**CHAT, "messages": [{"role": "user", "content": content}]})
        repository: Any = cache.repository
        sizes = [info.size for info in repository.objects()]
        assert sizes.count(24000) == 1
        assert max(sizes) == 24000

    def test_what_a_programs_own_body_raises_is_raised(
        self, asker: Asker, loopback: Loopback, url: str
    ) -> None:
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

    def test_a_broken_store_is_no_store(
        self, tmp_path: Path, loopback: Loopback, url: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """With one warning, and every answer."""
        (tmp_path / "store").write_text("no folder")
        loopback.reply = canned(chat())
        with (
            Cache(tmp_path / "store", memory=0) as cache,
            asking(self.kind, cache, streams="record") as asker,
        ):
            for _ in range(2):
                assert asker.post(url, json=CHAT).json() == chat()
            loopback.reply = stream(*PIECES)
            assert b"".join(asker.pieces(url, json=STREAMED)) == b"".join(PIECES)
        assert len(caplog.records) == 1

    def test_a_fault_of_the_cache_itself_is_survived(
        self, cache: Cache, loopback: Loopback, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Wherever it is: the provider's answer gets through."""

        def fail(*args: object, **kwargs: object) -> None:
            raise RuntimeError("a fault")

        for name in ("open", "keep"):
            with monkeypatch.context() as patch, asking(self.kind, cache) as asker:
                patch.setattr(f"casstore.inference.http.core.HttpCache.{name}", fail)
                assert asker.post(url, json=CHAT).json() == chat()
        loopback.reply = stream(*PIECES)
        with monkeypatch.context() as patch, asking(self.kind, cache, streams="record") as asker:
            patch.setattr("casstore.inference.http.streams.StreamWatch.feed", fail)
            assert b"".join(asker.pieces(url, json=STREAMED)) == b"".join(PIECES)
        assert cache.reasons() == {"unstored_encoding": 1}

    def test_usage_is_counted_by_provider_and_model(self, asker: Asker, cache: Cache, url: str) -> None:
        """In this process and in the store."""
        for _ in range(3):
            asker.post(url, json=CHAT)
        saved = cache.stats_by_model()["openai", "gpt-4o"]
        expected = Usage(10, 6, 4, 2)
        assert (saved.calls, saved.hits) == (1, 2)
        assert (
            Usage(saved.input_saved, saved.output_saved, saved.cached_saved, saved.reasoning_saved)
            == expected
        )
        cache.flush()
        assert cache.savings().input_saved == 10

    def test_the_first_piece_comes_before_the_last_is_sent(
        self, asker: Asker, loopback: Loopback, url: str
    ) -> None:
        """A stream is passed on as it comes, recorded or not."""
        go, over = threading.Event(), threading.Event()

        def sent() -> Iterator[bytes]:
            yield PIECES[0]
            go.wait(60)
            over.set()
            yield from PIECES[1:]

        pieces: Any = sent()
        loopback.reply = Canned(200, (("content-type", "text/event-stream"),), pieces=pieces)
        assert asker.pieces(url, json=STREAMED, most=1) == [PIECES[0]]
        assert not over.is_set()
        go.set()

    def test_identical_calls_at_one_moment_are_one(self, cache: Cache, loopback: Loopback, url: str) -> None:
        """Of clients of one library, each in a thread of its own."""
        go = threading.Event()
        loopback.reply = held(go)

        def ask() -> Any:
            with asking(self.kind, cache) as asker:
                return asker.post(url, json=CHAT).content

        flights = cache.async_http_flights if "async" in self.kind or self.kind == "aiohttp" else None
        with ThreadPoolExecutor(4) as pool:
            answers = [pool.submit(ask) for _ in range(4)]
            until(waiting(flights or cache.http_flights, 3))
            go.set()
        assert [json.loads(answer.result()) for answer in answers] == [chat()] * 4
        assert loopback.calls == 1
        assert cache.stats().hits == 3

    @pytest.mark.parametrize("trouble", ["refused", "timeout", "cut"])
    def test_what_the_library_raises_is_raised(
        self, trouble: str, cache: Cache, loopback: Loopback, url: str
    ) -> None:
        """The same as without a cache, and nothing is stored."""
        never = threading.Event()
        loopback.reply = {"timeout": held(never), "cut": Canned(pieces=(b"{",), cut=True)}.get(
            trouble, loopback.reply
        )
        target = "http://127.0.0.1:9" + CHAT_PATH if trouble == "refused" else url
        options = {"timeout": 0.2} if trouble == "timeout" else {}
        raised = []
        for before in (None, cache):
            with asking(self.kind, before) as asker, pytest.raises(Exception) as error:  # noqa: PT011 — compared
                asker.post(target, json=CHAT, **options)
            raised.append(type(error.value))
        never.set()
        assert raised[0] is raised[1]
        assert list(cache.repository.entries()) == []  # type: ignore[union-attr]  # a Repository

    def test_each_step_of_a_redirect_is_asked(self, asker: Asker, loopback: Loopback, url: str) -> None:
        """The redirect itself is not stored; the answer at its end is."""
        away = Canned(307, (("location", CHAT_PATH),))
        for calls in (2, 3):
            loopback.script.append(away)
            found = asker.post(loopback.url + "/old" + CHAT_PATH, json=CHAT, **self.following)
            assert (found.status_code, found.json(), loopback.calls) == (200, chat(), calls)
        assert found.headers["x-casstore"] == "hit"


class AsyncTransportSuite(TransportSuite):
    """What holds for every library of asyncio's."""

    def test_a_cancelled_leader_frees_the_others(
        self, asker: Any, cache: Cache, loopback: Loopback, url: str
    ) -> None:
        """The next one leads; all but the cancelled get the answer."""
        never = threading.Event()
        loopback.script.append(held(never))

        async def ask_all() -> list[Any]:
            calls = [asyncio.create_task(asker.request_async("POST", url, json=CHAT)) for _ in range(20)]
            await asyncio.to_thread(until, waiting(cache.async_http_flights, 19))
            await asyncio.to_thread(until, lambda: loopback.calls == 1)
            calls[0].cancel()
            return await asyncio.gather(*calls, return_exceptions=True)

        first, *others = asker.run(ask_all())
        never.set()
        assert isinstance(first, asyncio.CancelledError)
        assert {other.json()["id"] for other in others} == {"chatcmpl-1"}
        assert loopback.calls == 2
