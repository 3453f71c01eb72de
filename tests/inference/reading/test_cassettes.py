"""Cassettes of vcrpy, taken into a store."""

from __future__ import annotations

import io
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
import vcr
import yaml

from casstore.errors import ConfigError, FormatError
from casstore.inference.cache import Cache
from casstore.inference.reading import cassettes
from casstore.inference.reading.cassettes import exchange_of, read_cassette
from casstore.inference.reading.taking import Taken, take_file
from casstore.repo.repository import Repository
from tests.credentials import SECRET, leaks
from tests.inference.http.loopback import running_loopback
from tests.inference.http.replies import CHAT, CHAT_PATH, canned, chat, chat_events, sse, stream
from tests.inference.reading.sample import interactions

HEADERS = {"authorization": f"Bearer {SECRET}", "x-api-key": SECRET, "cookie": f"session={SECRET}"}


def taken(cache: Cache, content: bytes, name: str = "cassette") -> Taken:
    """Take a file in, and return what became of it."""
    found = Taken()
    assert isinstance(cache.repository, Repository)
    take_file(cache.http(streams="record"), cache.repository, name, io.BytesIO(content), found)
    return found


def cassette(*found: dict[str, Any]) -> bytes:
    """Return interactions as vcrpy writes them."""
    return yaml.dump({"interactions": list(found), "version": 1}).encode()


def interaction(reply: Any = None, status: int = 200, **request: Any) -> dict[str, Any]:
    """Return a recorded chat completion."""
    return {
        "request": {
            "method": "POST",
            "uri": f"https://api.openai.com{CHAT_PATH}",
            "headers": {name: [value] for name, value in HEADERS.items()},
            "body": json.dumps(CHAT),
            **request,
        },
        "response": {
            "status": {"code": status, "message": "OK"},
            "headers": {"content-type": ["application/json"], "set-cookie": [SECRET]},
            "body": {"string": json.dumps(chat() if reply is None else reply)},
        },
    }


def streamed(*words: str) -> dict[str, Any]:
    """Return a recorded stream."""
    found = interaction(body=json.dumps({**CHAT, "stream": True}))
    response = {
        "headers": {"content-type": ["text/event-stream"]},
        "body": {"string": sse(*chat_events(*words))},
    }
    return found | {"response": found["response"] | response}


@pytest.mark.parametrize("serializer", ["yaml", "json"])
def test_what_vcrpy_recorded_is_a_hit(cache: Cache, tmp_path: Path, serializer: str) -> None:
    """By the real vcrpy, over real HTTP: a reply, a gzipped one, a stream; an error stays out."""
    path = tmp_path / "cassette"
    recorder = vcr.VCR(serializer=serializer, decode_compressed_response=False)
    bodies = [{**CHAT, "n": number} for number in range(3)] + [{**CHAT, "stream": True}]
    with running_loopback() as server:
        server.script += [canned(chat(str(number))) for number in range(2)]
        server.script += [canned(chat(), 429), stream(sse(*chat_events("Hel", "lo")))]
        url = f"{server.url}{CHAT_PATH}?api-key={SECRET}"
        with recorder.use_cassette(str(path)), httpx.Client() as client:
            answers = [client.post(url, json=body, headers=HEADERS) for body in bodies]
        arrived = server.calls
        assert SECRET in path.read_text("utf-8")
        found = taken(cache, path.read_bytes())
        path.unlink()
        assert (found.imported, found.skipped, found.failures) == (3, Counter(status=1), [])
        with httpx.Client(transport=_cached(cache)) as client:
            for body, answer in zip(bodies, answers, strict=True):
                if answer.status_code == 200:
                    again = client.post(url, json=body, headers=HEADERS)
                    assert again.headers["x-casstore"] == "hit"
                    assert again.content == answer.content
        assert server.calls == arrived


def _cached(cache: Cache) -> httpx.BaseTransport:
    from casstore.inference.http.transport import wrapped

    transport: httpx.BaseTransport = wrapped(cache.http(streams="record"), httpx.HTTPTransport())
    return transport


def test_no_credential_comes_in(cache: Cache, folder: Path) -> None:
    """Not from headers, cookies or the query."""
    uri = f"https://api.openai.com{CHAT_PATH}?api_key={SECRET}&key={SECRET}"
    assert taken(cache, cassette(interaction(uri=uri))).imported == 1
    cache.flush()
    assert leaks(folder) == []


def test_only_what_a_call_would_store_comes_in(cache: Cache) -> None:
    """The rest is counted, with the reason and a word on the first."""
    found = taken(
        cache,
        cassette(
            interaction(),
            interaction(),
            interaction(status=500),
            interaction({"error": {"message": "no"}}),
            interaction(body=json.dumps({**CHAT, "previous_response_id": "r"})),
            interaction(uri="https://api.openai.com/v1/files"),
            interaction(body=json.dumps({**CHAT, "n": 2}), method="GET"),
            interaction(chat(stop="length"), body=json.dumps({**CHAT, "n": 3})),
        ),
    )
    assert (found.imported, found.present) == (2, 1)
    assert found.skipped == {"status": 1, "error": 1, "state": 1, "endpoint": 2}
    assert found.details["status"] == "the status is 500"


def test_an_entry_that_is_here_stays(cache: Cache) -> None:
    """The first answer is the team's."""
    assert taken(cache, cassette(interaction(chat("first")))).imported == 1
    assert taken(cache, cassette(interaction(chat("second")))).present == 1
    assert isinstance(cache.repository, Repository)
    (entry,) = cache.repository.entries()
    assert b"first" in cache.repository.read_entry(entry.key)[1]
    assert (entry.labels["provider"], entry.labels["model"]) == ("openai", "gpt-4o")


@pytest.mark.parametrize(
    ("date", "created"),
    [("Tue, 12 Nov 2024 08:00:00 GMT", 1_731_398_400_000), ("yesterday", None), ("", None)],
)
def test_an_entry_has_the_time_that_its_reply_tells(cache: Cache, date: str, created: int | None) -> None:
    """So its age is its age; where the reply tells none, it is the time of the import."""
    started = time.time() * 1000
    recorded = interaction()
    recorded["response"]["headers"]["date"] = [date]
    assert taken(cache, cassette(recorded)).imported == 1
    assert isinstance(cache.repository, Repository)
    (entry,) = cache.repository.entries()
    assert entry.created == created if created else entry.created >= int(started)


@pytest.mark.skipif(not interactions(), reason="the sample of real exchanges is not here")
def test_real_recordings_come_in(cache: Cache) -> None:
    """Of every provider, streams and headers of encodings that were undone included."""
    found = taken(cache, cassette(*interactions(authorization=SECRET)))
    assert (found.imported + found.present, found.failures) == (54, [])
    assert found.skipped == {
        "status": 9,
        "endpoint": 2,
        "state": 3,
        "error": 1,
        "filtered": 1,
    }
    assert taken(cache, cassette(*interactions())).imported == 0


def test_older_and_other_forms_are_read() -> None:
    """Of vcrpy's stub for httpx, of Python 2, and bodies that were parsed."""
    body = {
        "content": json.dumps(chat()),
        "headers": {"Content-Type": "application/json"},
        "status_code": 200,
    }
    assert exchange_of({**interaction(), "response": body}).reply.status == 200
    old = b"interactions: [{request: {uri: !!python/unicode 'http://a/'}}]"
    assert read_cassette(old) == [{"request": {"uri": "http://a/"}}]
    parsed = interaction(body=None, parsed_body=CHAT)
    assert json.loads(exchange_of(parsed).request.body) == CHAT


def bomb(levels: int = 12) -> bytes:
    """Return YAML of a few lines that stands for 10 to the power of `levels` values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, levels)]
    return "\n".join([*lines, f"interactions: *a{levels - 1}"]).encode()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"- 1", "no interactions"),
        (b"interactions: 7", "no interactions"),
        (b"{}", "no interactions"),
        (b"interactions: [", "read safely"),
        (b"\x00\x01", "not text"),
        (b"interactions: !!python/object/apply:os.system ['touch hacked']", "read safely"),
        (b"interactions: !!python/name:os.system", "read safely"),
        (b"interactions: [2001-99-99]", "read safely"),
        (b"interactions: &a [*a]", "holds itself"),
        (b"interactions: " + b"[" * 100 + b"]" * 100, "64 levels deep"),
        (b"interactions: " + b"[" * 100_000, "64 levels deep|nesting depth"),  # some PyYAML refuse it first
        (b'{"interactions": ' + b"[" * 100_000, "too deeply"),
        (bomb(), "20,000 values"),
        (b"interactions: [" + b"1," * 20_001 + b"]", "20,000 values"),
    ],
)
def test_a_hostile_cassette_is_a_clear_error(
    content: bytes, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is run, and memory and depth are bounded."""
    assert cassettes.NODES <= 2_000_000
    monkeypatch.setattr(cassettes, "NODES", 20_000)
    with pytest.raises(FormatError, match=told):
        read_cassette(content)
    assert not list(tmp_path.iterdir())


def test_a_cassette_is_not_read_beyond_its_largest_size(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told how large one may be."""
    monkeypatch.setattr(cassettes, "LARGEST", 1000)
    found = taken(cache, cassette(interaction(), interaction()))
    assert found.imported == 0
    ((name, told),) = found.failures
    assert name == "cassette"
    assert "1,000 are read at most" in told


@pytest.mark.parametrize(
    "broken",
    [
        7,
        {},
        {"request": {}, "response": {}},
        {"request": {"uri": "https://[", "method": "POST"}, "response": {"status": {"code": 200}}},
        {"request": {"uri": "https://a/", "body": 7}, "response": {"status": {"code": 200}}},
        {"request": {"uri": "https://a/"}, "response": {"status": "fine"}},
        {
            "request": {"uri": "https://a/"},
            "response": {"status": {"code": 200}, "body": {"base64_string": "A"}},
        },
    ],
)
def test_one_broken_interaction_does_not_keep_the_others_out(cache: Cache, broken: Any) -> None:
    """It is named by its place."""
    found = taken(cache, cassette(broken, interaction()), "some.yaml")
    assert found.imported == 1
    assert [name for name, _ in found.failures] == ["some.yaml: interaction 1"]


def test_a_body_in_an_encoding_that_is_not_known_is_told() -> None:
    """Unless the recorder undid it and left the header, as most do."""
    headers = {"content-encoding": ["br"], "content-type": ["application/json"]}
    reply = interaction()["response"] | {"headers": headers}
    assert exchange_of({**interaction(), "response": reply}).reply.headers == {
        "content-type": "application/json"
    }
    with pytest.raises(FormatError, match="encoded"):
        exchange_of({**interaction(), "response": reply | {"body": {"string": b"\x8b\xff"}}})


def test_without_pyyaml_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON cassettes need nothing."""
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(ConfigError, match=r"pip install 'casstore\[cassettes\]'"):
        read_cassette(b"interactions: []")
    assert read_cassette(b'{"interactions": []}') == []
