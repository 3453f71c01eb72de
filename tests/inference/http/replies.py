"""Small requests and replies in the forms of the providers, for the tests of the HTTP layer."""

from __future__ import annotations

import json
from typing import Any

from tests.inference.http.loopback import Canned

JSON = dict[str, Any]

CHAT: JSON = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}
CHAT_PATH = "/v1/chat/completions"


def chat(text: str = "hi", stop: str | None = "stop", **more: Any) -> JSON:
    """Return a chat completion."""
    message = {"role": "assistant", "content": text}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-4o-2024-08-06",
        "choices": [{"index": 0, "message": message, "finish_reason": stop}],
        "usage": {
            "prompt_tokens": 5,
            "completion_tokens": 3,
            "total_tokens": 8,
            "prompt_tokens_details": {"cached_tokens": 2},
            "completion_tokens_details": {"reasoning_tokens": 1},
        },
        **more,
    }


def message(text: str = "hi", stop: str = "end_turn") -> JSON:
    """Return an Anthropic message."""
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-x",
        "content": [{"type": "text", "text": text}],
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": {"input_tokens": 5, "output_tokens": 3},
    }


def gemini(text: str = "hi", stop: str = "STOP") -> JSON:
    """Return a reply of Gemini."""
    return {
        "candidates": [
            {"content": {"parts": [{"text": text}], "role": "model"}, "finishReason": stop, "index": 0}
        ],
        "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 3, "thoughtsTokenCount": 2},
        "modelVersion": "gemini-x",
    }


def converse(text: str = "hi", stop: str = "end_turn") -> JSON:
    """Return a reply of Bedrock's converse."""
    return {
        "output": {"message": {"role": "assistant", "content": [{"text": text}]}},
        "stopReason": stop,
        "usage": {"inputTokens": 5, "outputTokens": 3, "totalTokens": 8},
        "metrics": {"latencyMs": 1},
    }


def canned(value: JSON, status: int = 200, **headers: str) -> Canned:
    """Return a reply with a JSON body."""
    pairs = [("content-type", "application/json"), *((k.replace("_", "-"), v) for k, v in headers.items())]
    return Canned(status, pairs, json.dumps(value).encode())


def sse(*events: JSON | str, newline: str = "\n", named: bool = False) -> bytes:
    """Return events as a stream."""
    lines = []
    for event in events:
        name = f"event: {event['type']}{newline}" if named and isinstance(event, dict) else ""
        data = event if isinstance(event, str) else json.dumps(event)
        lines.append(f"{name}data: {data}{newline}{newline}")
    return "".join(lines).encode()


def chat_events(*words: str, stop: str = "stop", usage: bool = True) -> list[JSON | str]:
    """Return the events of a chat completion's stream."""
    base = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-x"}
    deltas: list[JSON] = [{"content": word} for word in words]
    events: list[JSON | str] = [
        {**base, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas
    ]
    events.append({**base, "choices": [{"index": 0, "delta": {}, "finish_reason": stop}]})
    if usage:
        events.append({**base, "choices": [], "usage": chat()["usage"]})
    return [*events, "[DONE]"]


def stream(*pieces: bytes, cut: bool = False, pause: float = 0.0, kind: str = "text/event-stream") -> Canned:
    """Return a reply that comes in pieces."""
    return Canned(200, [("content-type", kind)], pieces=pieces, cut=cut, pause=pause)
