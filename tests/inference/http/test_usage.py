"""What each provider tells of tokens, in replies and in streams, and what the ledger makes of it."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest

from casstore.inference.cache import Cache
from casstore.inference.http.core import Opened
from casstore.inference.http.exchange import HttpReply, HttpRequest
from casstore.inference.http.followers import FOLLOWERS
from casstore.inference.http.framing import framing_for
from casstore.inference.http.replies import read
from casstore.inference.http.streams import StreamWatch
from casstore.inference.http.tap import Tap
from casstore.inference.types import Usage
from tests.inference.http.replies import CHAT, CHAT_PATH, chat, chat_events, sse

JSON = dict[str, Any]


def completion(**usage: Any) -> JSON:
    """Return a chat completion with a usage."""
    return {**chat(), "usage": usage}


@pytest.mark.parametrize(
    ("wire", "reply", "usage"),
    [
        (
            "chat",
            completion(
                prompt_tokens=9, completion_tokens=4, completion_tokens_details={"reasoning_tokens": 3}
            ),
            Usage(input=9, output=4, reasoning=3),
        ),
        (
            "chat",  # xAI
            completion(
                prompt_tokens=9,
                completion_tokens=4,
                total_tokens=20,
                completion_tokens_details={"reasoning_tokens": 7},
            ),
            Usage(input=9, output=11, reasoning=7),
        ),
        (
            "chat",  # DeepSeek
            completion(
                prompt_tokens=9, completion_tokens=4, prompt_cache_hit_tokens=8, prompt_cache_miss_tokens=1
            ),
            Usage(input=9, output=4, cached=8),
        ),
        ("chat", completion(prompt_tokens=9, cached_tokens=8), Usage(input=9, cached=8)),  # Moonshot
        (
            "responses",
            {
                "status": "completed",
                "output": [],
                "usage": {
                    "input_tokens": 9,
                    "output_tokens": 4,
                    "input_tokens_details": {"cached_tokens": 8},
                    "output_tokens_details": {"reasoning_tokens": 3},
                },
            },
            Usage(input=9, output=4, cached=8, reasoning=3),
        ),
        (
            "messages",
            {
                "content": [],
                "usage": {
                    "input_tokens": 1,
                    "cache_read_input_tokens": 8,
                    "cache_creation_input_tokens": 5,
                    "output_tokens": 4,
                },
            },
            Usage(input=14, output=4, cached=8, written=5),
        ),
        (
            "gemini",
            {
                "candidates": [],
                "usageMetadata": {
                    "promptTokenCount": 9,
                    "cachedContentTokenCount": 8,
                    "candidatesTokenCount": 4,
                    "thoughtsTokenCount": 3,
                },
            },
            Usage(input=9, output=7, cached=8, reasoning=3),
        ),
        (
            "converse",
            {
                "output": {"message": {"content": []}},
                "usage": {"inputTokens": 1, "outputTokens": 4, "cacheReadInputTokens": 8},
            },
            Usage(input=9, output=4, cached=8),
        ),
        ("vectors", {"data": [1], "usage": {"prompt_tokens": 9}}, Usage(input=9)),
        ("vectors", {"data": [1], "usage": {"total_tokens": 9}}, Usage(input=9)),  # Voyage
        ("vectors", {"embedding": {}, "usageMetadata": {"promptTokenCount": 9}}, Usage(input=9)),  # Gemini
        ("vectors", {"embeddings": [1], "meta": {"billed_units": {"input_tokens": 9}}}, Usage(input=9)),
        ("vectors", {"embedding": [1], "inputTextTokenCount": 9}, Usage(input=9)),
    ],
)
def test_each_provider_has_its_own_words_for_tokens(wire: str, reply: JSON, usage: Usage) -> None:
    """Cached ones are part of those read, reasoning of those written, whoever counts otherwise."""
    assert read(wire, reply).response.usage == usage


def followed(wire: str, *events: JSON) -> Usage:
    """Return what a stream's events tell."""
    follower = FOLLOWERS[wire]()
    for event in events:
        follower.add(event)
    return follower.reading().response.usage


def test_groq_tells_it_in_a_field_of_its_own() -> None:
    """In a stream's last event."""
    last = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    told = {**last, "x_groq": {"usage": {"prompt_tokens": 9, "completion_tokens": 4}}}
    assert followed("chat", told) == Usage(input=9, output=4)


def test_gemini_may_tell_it_after_the_end() -> None:
    """The last count is the count."""
    end = {"candidates": [{"content": {"parts": [{"text": "hi"}]}, "finishReason": "STOP"}]}
    late = {"usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 4}}
    assert followed("gemini", end, late) == Usage(input=9, output=4)


def test_bedrock_tells_it_beside_the_models_own_events() -> None:
    """What came from its prompt cache included."""
    metrics = {"inputTokenCount": 1, "outputTokenCount": 4, "cacheReadInputTokenCount": 8}
    inner = {"outputText": "hi", "completionReason": "FINISH", "amazon-bedrock-invocationMetrics": metrics}
    event = {"chunk": {"bytes": b64encode(json.dumps(inner).encode()).decode()}}
    assert followed("invoke", event) == Usage(input=9, output=4, cached=8)


def test_the_ledger_adds_what_streams_report(cache: Cache) -> None:
    """Whether they are recorded or only pass by."""
    for rules, reason in (({"streams": "record"}, {}), ({}, {"uncached_stream": 1})):
        http = cache.http(**rules)
        body = json.dumps({**CHAT, "stream": True, "n": len(rules)}).encode()
        found = http.open(HttpRequest.of("POST", f"https://api.openai.com{CHAT_PATH}", (), body))
        assert not isinstance(found, HttpReply)
        tap = Tap(http, found, 200, {"content-type": "text/event-stream"}, 0.0)
        tap.feed(sse(*chat_events("Hel", "lo")))
        tap.end()
        tap.close()
        assert isinstance(found, Opened) is bool(rules)
        assert cache.reasons() == reason
    total = cache.stats()
    assert (total.calls, total.input_spent, total.output_spent) == (2, 10, 6)
    assert (total.cached_spent, total.reasoning_spent) == (4, 2)


def test_tokens_written_into_a_providers_cache_are_counted(cache: Cache) -> None:
    """They are dearer than others."""
    http = cache.http()
    usage = {"input_tokens": 1, "cache_creation_input_tokens": 5, "output_tokens": 4}
    reply = {
        "type": "message",
        "content": [{"type": "text", "text": "hi"}],
        "stop_reason": "end_turn",
        "usage": usage,
    }
    request = HttpRequest.of("POST", "https://api.anthropic.com/v1/messages", (), json.dumps(CHAT).encode())
    for _ in range(2):
        opened = http.open(request)
        assert isinstance(opened, Opened)
        http.run(
            opened, lambda _: HttpReply(200, {"content-type": "application/json"}, json.dumps(reply).encode())
        )
    assert (cache.stats().written_spent, cache.stats().written_saved) == (5, 5)


def test_a_stream_that_tells_nothing_counts_no_tokens() -> None:
    """Nothing is made up."""
    framing = framing_for("text/event-stream")
    assert framing is not None
    watch = StreamWatch("chat", framing)
    watch.feed(sse(*chat_events("hi", usage=False)))
    assert watch.reading().response.usage == Usage()
