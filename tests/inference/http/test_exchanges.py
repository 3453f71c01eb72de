"""Recorded exchanges with real providers, served again as they were recorded."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anthropic
import groq
import openai
import pytest
from anthropic.types import Message, RawMessageStreamEvent
from groq.types.chat import ChatCompletion as GroqCompletion
from groq.types.chat import ChatCompletionChunk as GroqChunk
from openai.types import Completion, CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent

import casstore
from casstore.inference.cache import Cache
from tests.credentials import SECRET
from tests.inference.http.clients import KINDS, asking
from tests.inference.http.loopback import Canned, Loopback

SAMPLE = Path(__file__).parents[4] / "shared" / "data" / "http_exchanges_sample.jsonl.gz"

pytestmark = pytest.mark.skipif(
    not SAMPLE.exists(), reason=f"the sample of real exchanges is not at {SAMPLE}"
)

Row = dict[str, Any]

ROWS: list[Row] = (
    [json.loads(line) for line in gzip.decompress(SAMPLE.read_bytes()).splitlines()]
    if SAMPLE.exists()
    else []
)

NOT_STORED = {
    "2fcd256722bf2d1c": "uncached_state",
    "1488d84a9ed94b3b": "uncached_state",
    "f41a80da252222c6": "uncached_state",
    "9e7ce4bba6649d9d": "uncached_endpoint",
    "29b9725638df725a": "uncached_endpoint",
    "9e866a6389da0871": "unstored_error",
    "2fc2ab039b359299": "unstored_filtered",
}
"""The successes that are not stored: by a guardrail, by a limit that was not asked for, and so on."""

CREDENTIALS = {
    "authorization": f"Bearer {SECRET}",
    "api-key": SECRET,
    "x-api-key": SECRET,
    "x-goog-api-key": SECRET,
    "x-amz-security-token": SECRET,
}


def content(row: Row, side: str) -> bytes:
    """Return a body as it went over the wire."""
    text, form = row[f"{side}_body"], row[f"{side}_body_encoding"]
    if text is None:
        return b""
    return base64.b64decode(text) if form.endswith("base64") else text.encode()


def recorded(row: Row) -> Canned:
    """Return the reply as it was; a header that the recorder left on a decoded body is taken off."""
    body = content(row, "response")
    headers = dict(row["response_headers"])
    if not body.startswith(b"\x1f\x8b"):
        headers.pop("content-encoding", None)
    pieces = [body[at : at + 97] for at in range(0, len(body), 97)] if row["streaming"] else ()
    return Canned(row["status"], list(headers.items()), b"" if pieces else body, pieces)


def expected(row: Row) -> bytes:
    """Return the body that a program gets."""
    body = content(row, "response")
    return gzip.decompress(body) if body.startswith(b"\x1f\x8b") else body


def reason(row: Row) -> str | None:
    """Return why the reply to a request is not stored; None for one that is."""
    return "unstored_status" if row["status"] != 200 else NOT_STORED.get(row["id"])


def asked(row: Row, url: str) -> dict[str, Any]:
    """Return a request as it was, to our server, with credentials again."""
    parts = urlsplit(row["url"])
    target = url + parts.path + (f"?{parts.query}" if parts.query else "")
    ours = ("host", "content-length", "connection", "accept-encoding")
    headers = {name: value for name, value in row["request_headers"].items() if name not in ours}
    return {"url": target, "headers": {**headers, **CREDENTIALS}, "content": content(row, "request")}


def test_the_sample_is_whole() -> None:
    """Every row named above is there."""
    assert len(ROWS) == 70
    assert set(NOT_STORED) <= {row["id"] for row in ROWS}


@pytest.mark.parametrize("number", range(len(ROWS)), ids=[f"{row['id'][:6]} {row['why']}" for row in ROWS])
def test_each_exchange_is_stored_or_passes(number: int, cache: Cache, loopback: Loopback) -> None:
    """A miss and then a hit with equal bytes, by whatever client; or what was recorded, each time."""
    row = ROWS[number]
    loopback.reply = recorded(row)
    why = reason(row)
    for turn in range(2):
        with asking(KINDS[(number + turn) % len(KINDS)], cache, streams="record") as asker:
            found = asker.post(**asked(row, loopback.url))
        assert (found.status_code, found.content) == (row["status"], expected(row))
        assert found.headers.get("content-type") == row["response_headers"].get("content-type")
        if why is None:
            assert found.headers["x-casstore"] == ("hit" if turn else "miss")
    assert loopback.calls == (1 if why is None else 2)
    assert cache.reasons() == ({} if why is None else {why: 2})
    entries = list(cache.repository.entries())  # type: ignore[union-attr]  # the fixture's is a Repository
    assert len(entries) == (1 if why is None else 0)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 529])
def test_errors_are_never_stored(status: int, cache: Cache, loopback: Loopback) -> None:
    """With the bodies of good answers, for every request of the sample that can be stored."""
    rows = [row for row in ROWS if reason(row) is None and not row["streaming"]]
    with asking("httpx", cache) as asker:
        for row in rows:
            loopback.script.append(Canned(status, (("content-type", "application/json"),), expected(row)))
            assert asker.post(**asked(row, loopback.url)).status_code == status
    assert loopback.calls == len(rows)
    assert list(cache.repository.entries()) == []  # type: ignore[union-attr]  # see above


def test_hits_tell_what_the_first_calls_used(cache: Cache, loopback: Loopback) -> None:
    """As the replies say it, streams' included."""
    rows = [row for row in ROWS if row["provider"] in ("bedrock", "google", "cohere", "ollama")]
    for row in [row for row in rows if reason(row) is None]:
        loopback.reply = recorded(row)
        for _ in range(2):
            with asking("httpx2", cache, streams="record") as asker:
                asker.post(**asked(row, loopback.url))
    stats = cache.stats()
    assert stats.hits == stats.calls == 12
    assert stats.input_saved == stats.input_spent > 2000
    assert stats.reasoning_saved == 570 + 171 + 48 + 72
    assert stats.cached_saved == 208


def _openai(url: str) -> Any:
    return openai.OpenAI(base_url=url, api_key=SECRET, max_retries=0)


def _azure(url: str) -> Any:
    return openai.AzureOpenAI(base_url=url, api_key=SECRET, api_version="1", max_retries=0)


def _anthropic(url: str) -> Any:
    return anthropic.Anthropic(base_url=url, api_key=SECRET, max_retries=0)


def _groq(url: str) -> Any:
    return groq.Groq(base_url=url, api_key=SECRET, max_retries=0)


SDKS: dict[str, tuple[Callable[[str], Any], dict[str, Any], dict[str, Any]]] = {
    "openai": (
        _openai,
        {
            "chat/completions": ChatCompletion,
            "v1/completions": Completion,
            "v1/responses": Response,
            "v1/embeddings": CreateEmbeddingResponse,
        },
        {
            "chat/completions": openai.Stream[ChatCompletionChunk],
            "v1/responses": openai.Stream[ResponseStreamEvent],
        },
    ),
    "azure": (_azure, {"chat/completions": ChatCompletion}, {}),
    "openrouter": (_openai, {}, {"chat/completions": openai.Stream[ChatCompletionChunk]}),
    "anthropic": (
        _anthropic,
        {"v1/messages": Message},
        {"v1/messages": anthropic.Stream[RawMessageStreamEvent]},
    ),
    "groq": (_groq, {"chat/completions": GroqCompletion}, {"chat/completions": groq.Stream[GroqChunk]}),
}


def _with_an_sdk() -> list[Row]:
    return [
        row
        for row in ROWS
        if reason(row) is None
        and row["provider"] in SDKS
        and any(
            urlsplit(row["url"]).path.endswith(end) for table in SDKS[row["provider"]][1:] for end in table
        )
    ]


@pytest.mark.parametrize("row", _with_an_sdk(), ids=lambda row: f"{row['id'][:6]} {row['why']}")
def test_sdks_make_equal_objects_of_hits(row: Row, cache: Cache, loopback: Loopback) -> None:
    """Of a reply, and of each event of a stream."""
    make, whole, streams = SDKS[row["provider"]]
    parts = urlsplit(row["url"])
    end = "/".join(parts.path.split("/")[-2:])
    loopback.reply = recorded(row)
    query = dict(pair.split("=") for pair in parts.query.split("&") if pair)
    made: list[list[Any]] = []
    for _ in range(2):
        client = casstore.cached(make(loopback.url), cache, streams="record")
        body = json.loads(content(row, "request"))
        options: dict[str, Any] = {"body": body, "options": {"params": query}, "cast_to": object}
        if row["streaming"]:
            found = client.post(parts.path, **options, stream=True, stream_cls=streams[end])
            made.append([event.model_dump(warnings=False) for event in found])
        else:
            found = client.post(parts.path, **{**options, "cast_to": whole[end]})
            made.append([found.model_dump(warnings=False)])
        client.close()
    assert made[0] == made[1] != []
    assert loopback.calls == 1
