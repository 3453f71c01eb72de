"""A provider on loopback: OpenAI chat completions, Anthropic messages and Bedrock converse, over real HTTP.

It answers with an extract of what it was asked, counts calls, keeps the bodies it was sent, and fails when
told to: an error status, a truncation, a filtered answer, an empty one, a stream cut short.
"""

from __future__ import annotations

import binascii
import json
import struct
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import unquote

JSON = dict[str, Any]

OUTCOMES = ("truncated", "filtered", "empty", "tool", "cut")
"""What may be scripted in place of an HTTP status."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as it arrived."""

    path: str
    headers: Mapping[str, str]
    body: JSON


@dataclass
class Provider:
    """What the server did, and what it is to do next.

    Attributes:
        url: Where it listens.
        seen: Requests, in the order they came.
        script: For the coming requests, in order: an HTTP status to fail with, or one of `OUTCOMES`.
    """

    url: str = ""
    seen: list[Seen] = field(default_factory=list)
    script: deque[int | str] = field(default_factory=deque)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def calls(self) -> int:
        """Requests that came."""
        return len(self.seen)

    def reset(self) -> None:
        """Forget what was seen and scripted."""
        with self.lock:
            self.seen.clear()
            self.script.clear()

    def take(self, request: Seen) -> int | str:
        """Note a request, and return what to do with it."""
        with self.lock:
            self.seen.append(request)
            return self.script.popleft() if self.script else "end"


@contextmanager
def running_provider() -> Iterator[Provider]:
    """Yield a provider that listens until the block ends."""
    provider = Provider()
    handler = type("Handler", (_Handler,), {"provider": provider})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    provider.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, name="provider", daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def answer_to(body: JSON, outcome: str) -> str:
    """Return the text of the answer: the last words of what was asked."""
    if outcome in ("empty", "tool"):
        return ""
    content = body["messages"][-1]["content"]
    text = content if isinstance(content, str) else content[-1].get("text", "")
    words = f"you said: {text}".split()
    return " ".join(words[:2] if outcome == "truncated" else words)


class _Handler(BaseHTTPRequestHandler):
    provider: ClassVar[Provider]
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        outcome = self.provider.take(Seen(self.path, headers, body))
        if isinstance(outcome, int):
            self._fail(outcome)
        elif self.path.partition("?")[0].endswith("/chat/completions"):
            _chat(self, body, outcome)
        elif self.path.endswith("/messages"):
            _messages(self, body, outcome)
        elif self.path.endswith("/converse"):
            self.send(_converse(body, outcome))
        else:
            _converse_stream(self, body, outcome)

    def send(self, reply: JSON) -> None:
        self.send_bytes(json.dumps(reply).encode(), "application/json")

    def send_bytes(self, content: bytes, kind: str, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(content)))
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            self.send_header("x-amzn-errortype", "ThrottlingException")
        self.end_headers()
        self.wfile.write(content)

    def _fail(self, status: int) -> None:
        error = {"type": "overloaded_error", "message": f"scripted {status}"}
        content = json.dumps({"type": "error", "error": error, "message": f"scripted {status}"}).encode()
        self.send_bytes(content, "application/json", status)

    wbufsize = -1  # headers and body in one packet
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 — the base class names it
        """Say nothing."""


def _events(events: list[JSON], *, named: bool) -> bytes:
    lines = []
    for event in events:
        name = f"event: {event['type']}\n" if named else ""
        lines.append(f"{name}data: {json.dumps(event)}\n\n")
    return "".join(lines).encode()


def _chat_usage(body: JSON, text: str) -> JSON:
    read = len(json.dumps(body["messages"]).split())
    return {
        "prompt_tokens": read,
        "completion_tokens": len(text.split()) + 3,
        "total_tokens": read + len(text.split()) + 3,
        "prompt_tokens_details": {"cached_tokens": 1},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }


_CHAT_STOPS = {"truncated": "length", "filtered": "content_filter", "tool": "stop"}
_TOOL = {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": '{"word": "x"}'}}


def _chat(handler: _Handler, body: JSON, outcome: str) -> None:
    text = answer_to(body, outcome)
    base = {"id": "chatcmpl-1", "created": 1_700_000_000, "model": f"{body['model']}-2024-08-06"}
    stop = _CHAT_STOPS.get(outcome, "stop")
    if not body.get("stream"):
        message: JSON = {"role": "assistant", "content": text, "refusal": None, "x_extra": {"kept": True}}
        if outcome == "tool":
            message |= {"content": None, "tool_calls": [_TOOL]}
        choice = {"index": 0, "message": message, "finish_reason": stop, "logprobs": None}
        reply = {**base, "object": "chat.completion", "choices": [choice], "usage": _chat_usage(body, text)}
        handler.send(reply)
        return
    base["object"] = "chat.completion.chunk"
    deltas: list[JSON] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": word + " "} for word in text.split()]
    events = [{**base, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    if outcome == "cut":
        handler.send_bytes(_events(events, named=False), "text/event-stream")
        return
    events.append({**base, "choices": [{"index": 0, "delta": {}, "finish_reason": stop}]})
    if body.get("stream_options", {}).get("include_usage"):
        events.append({**base, "choices": [], "usage": _chat_usage(body, text)})
    handler.send_bytes(_events(events, named=False) + b"data: [DONE]\n\n", "text/event-stream")


_MESSAGE_STOPS = {"truncated": "max_tokens", "filtered": "refusal", "tool": "tool_use"}


def _messages(handler: _Handler, body: JSON, outcome: str) -> None:
    text = answer_to(body, outcome)
    stop = _MESSAGE_STOPS.get(outcome, "end_turn")
    usage = {
        "input_tokens": 7,
        "cache_read_input_tokens": 2,
        "cache_creation_input_tokens": 4,
        "cache_creation": {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 1},
        "output_tokens": len(text.split()),
        "service_tier": "standard",
    }
    message: JSON = {"id": "msg_1", "type": "message", "role": "assistant", "model": body["model"]}
    if not body.get("stream"):
        block: JSON = {"type": "text", "text": text}
        if outcome == "tool":
            block = {"type": "tool_use", "id": "toolu_1", "name": "look_up", "input": {"word": "x"}}
        ending = {"stop_reason": stop, "stop_sequence": None, "usage": usage}
        handler.send({**message, "content": [block] if outcome != "empty" else [], **ending})
        return
    started: JSON = {**message, "content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
    events: list[JSON] = [{"type": "message_start", "message": started}]
    events.append({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})
    for word in text.split():
        delta = {"type": "text_delta", "text": word + " "}
        events.append({"type": "content_block_delta", "index": 0, "delta": delta})
    if outcome != "cut":
        events.append({"type": "content_block_stop", "index": 0})
        ending = {"stop_reason": stop, "stop_sequence": None}
        events.append({"type": "message_delta", "delta": ending, "usage": {"output_tokens": 11}})
        events.append({"type": "message_stop"})
    handler.send_bytes(_events(events, named=True), "text/event-stream")


_CONVERSE_STOPS = {"truncated": "max_tokens", "filtered": "guardrail_intervened", "tool": "tool_use"}


def _converse(body: JSON, outcome: str) -> JSON:
    text = answer_to(body, outcome)
    content: list[JSON] = [{"text": text}] if text else []
    if outcome == "tool":
        content = [{"toolUse": {"toolUseId": "t1", "name": "look_up", "input": {"word": "x"}}}]
    return {
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": _CONVERSE_STOPS.get(outcome, "end_turn"),
        "usage": {"inputTokens": 9, "outputTokens": 4, "totalTokens": 15, "cacheReadInputTokens": 2},
        "metrics": {"latencyMs": 12},
    }


def _converse_stream(handler: _Handler, body: JSON, outcome: str) -> None:
    reply = _converse(body, outcome)
    frames = [_frame("messageStart", {"role": "assistant"})]
    frames += [
        _frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": word + " "}})
        for word in answer_to(body, outcome).split()
    ]
    if outcome != "cut":
        frames.append(_frame("messageStop", {"stopReason": reply["stopReason"]}))
        frames.append(_frame("metadata", {"usage": reply["usage"], "metrics": reply["metrics"]}))
    handler.send_bytes(b"".join(frames), "application/vnd.amazon.eventstream")


def _frame(event: str, payload: JSON) -> bytes:
    """Return one message of an AWS event stream: lengths, checksum, headers, payload, checksum."""
    headers = b""
    for name, value in (
        (":event-type", event),
        (":content-type", "application/json"),
        (":message-type", "event"),
    ):
        headers += (
            bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
        )
    content = json.dumps(payload).encode()
    prelude = struct.pack(">II", 16 + len(headers) + len(content), len(headers))
    message = prelude + struct.pack(">I", binascii.crc32(prelude)) + headers + content
    return message + struct.pack(">I", binascii.crc32(message))


def model_in(path: str) -> str:
    """Return the model that a Bedrock path names."""
    return unquote(path.split("/")[2])
