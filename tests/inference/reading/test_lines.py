"""Entries as lines of JSON, and back."""

from __future__ import annotations

import binascii
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casstore.catalog.records import Entry
from casstore.digest import Digest, Key, digest_of
from casstore.errors import FormatError, IntegrityError
from casstore.inference.cache import Cache
from casstore.inference.http.exchange import HttpReply
from casstore.inference.reading.cassettes import Recorded
from casstore.inference.reading.lines import from_line, to_line
from casstore.inference.reading.taking import Taken, take_exchange
from casstore.inference.recorded import to_json
from casstore.repo.repository import Repository
from tests.inference.fakes import HELLO, FakeClient
from tests.inference.http.replies import chat, chat_events, sse
from tests.inference.reading.asking import answered, asking


def line_of(cache: Cache, key: Key) -> dict[str, Any]:
    """Return the line of an entry, as it is written."""
    assert isinstance(cache.repository, Repository)
    entry, content = cache.repository.read_entry(key)
    refs = {digest: cache.repository.get(digest) for digest in entry.refs}
    line: dict[str, Any] = json.loads(json.dumps(to_line(entry, content, refs)))
    return line


def stored(cache: Cache, key: Key) -> tuple[bytes, list[bytes]]:
    """Return what a store has for a key."""
    assert isinstance(cache.repository, Repository)
    entry, content = cache.repository.read_entry(key)
    return content, [cache.repository.get(digest) for digest in entry.refs]


IMAGE = binascii.b2a_base64(bytes(range(256)) * 100, newline=False).decode()


PICTURE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{IMAGE}"}}


@pytest.mark.parametrize(
    ("request_", "body", "kind"),
    [
        (asking(), json.dumps(chat()).encode(), "application/json"),
        (asking(), json.dumps(chat(), indent=2).encode(), "application/json"),
        (asking(stream=True), sse(*chat_events("Hel", "lo")), "text/event-stream"),
        (asking(messages=[{"role": "user", "content": [PICTURE]}]), to_json(chat()), "application/json"),
        (asking(url="https://api.openai.com/v1/audio/speech", voice="x"), b"\xff\x00", "audio/mpeg"),
    ],
)
def test_an_entry_comes_back_byte_for_byte(cache: Cache, request_: Any, body: bytes, kind: str) -> None:
    """Its key, its answer, its request and the large parts of that."""
    assert isinstance(cache.repository, Repository)
    recorded = Recorded(request_, HttpReply(200, {"content-type": kind}, body))
    take_exchange(cache.http(streams="record"), cache.repository, recorded, Taken())
    (entry,) = cache.repository.entries()
    line = from_line(line_of(cache, entry.key))
    content, refs = stored(cache, entry.key)
    assert (line.key, line.content, list(line.refs), line.proven) == (entry.key, content, refs, True)


def test_a_line_has_what_a_dataset_needs(cache: Cache) -> None:
    """Request, reply and usage as JSON, and the text; also of a stream, put together."""
    line = line_of(cache, answered(cache, asking("hello"), chat("Hello there")))
    assert line["text"] == "Hello there"
    assert line["usage"] == {"input": 5, "output": 3, "cached": 2, "reasoning": 1}
    assert line["request"]["body"]["messages"][0]["content"] == "hello"
    assert line["reply"]["choices"][0]["message"]["content"] == "Hello there"
    assert line["labels"]["provider"] == "openai"


def test_entries_of_casstores_own_clients_and_functions_come_back(folder: Any) -> None:
    """With and without their requests: a key without one is not proven."""
    for keep_requests in (True, False):
        with Cache(folder / str(keep_requests), keep_requests=keep_requests, streams="record") as cache:
            client = cache.wrap(FakeClient())
            client.converse(HELLO)
            list(client.stream(HELLO))
            cache.memoize(name="f")(lambda n: {"n": [n]})(1)
            assert isinstance(cache.repository, Repository)
            keys = [entry.key for entry in cache.repository.entries()]
            assert len(keys) == 3
            for key in keys:
                line = from_line(line_of(cache, key))
                assert (line.content, list(line.refs)) == stored(cache, key)
                assert line.proven is keep_requests


@given(st.binary(max_size=60), st.one_of(st.none(), st.just(b"null"), st.binary(max_size=20)))
def test_whatever_is_stored_comes_back(content: bytes, request: bytes | None) -> None:
    """Also what no layer of casstore stored."""
    key = Key("ab" * 32) if request is None else Key(digest_of(request))
    refs = {} if request is None else {Digest(key): request}
    entry = Entry(key, digest_of(content), 0, 7, {"a": 1}, tuple(refs))
    line = from_line(json.loads(json.dumps(to_line(entry, content, refs))))
    assert (line.key, line.content, line.created, line.refs) == (key, content, 7, tuple(refs.values()))


@given(st.sampled_from(["http", "response", "stream", "call"]), st.binary(max_size=60))
def test_whatever_stands_in_an_answer_comes_back(kind: str, body: bytes) -> None:
    """Of each kind that casstore stores, damaged or not."""
    content = (
        to_json({"casstore": 1, "kind": kind, "headers": {"content-type": "application/json"}}) + b"\n" + body
    )
    entry = Entry(Key("ab" * 32), digest_of(content), 0, 1, {})
    assert from_line(json.loads(json.dumps(to_line(entry, content, {})))).content == content


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"key": "0" * 64}, IntegrityError),
        ({"object": "0" * 64}, IntegrityError),
        ({"request": {"another": "request"}}, IntegrityError),
        ({"reply": {"another": "reply"}, "body": None}, IntegrityError),
        ({"parts": {"0" * 64: "AAAA"}}, IntegrityError),
        ({"key": "../../etc"}, FormatError),
        ({"casstore": 2}, FormatError),
        ({"labels": 7}, FormatError),
        ({"created": -1}, FormatError),
        ({"created": "today"}, FormatError),
        ({"parts": 7}, FormatError),
        ({"kind": "other"}, FormatError),
        ({"head": None}, FormatError),
        ({"body_base64": "!", "body": None}, FormatError),
    ],
)
def test_what_was_changed_is_refused(cache: Cache, change: dict[str, Any], error: type[Exception]) -> None:
    """A wrong digest is no damage to the store that takes it in."""
    line = line_of(cache, answered(cache, asking()))
    with pytest.raises(error):
        from_line({**line, **change})


def test_a_request_with_a_header_that_is_never_stored_is_refused() -> None:
    """Even if its digest is right: it may be a credential."""
    request = to_json({"casstore": 1, "headers": {"authorization": "Bearer x"}, "kind": "http"})
    entry = Entry(Key(digest_of(request)), digest_of(b"{}"), 0, 1, {})
    with pytest.raises(FormatError, match="never stored: 'authorization'"):
        from_line(to_line(entry, b"{}", {digest_of(request): request}))
