"""Which replies are stored."""

from __future__ import annotations

import base64
import binascii
import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casstore.errors import ConfigError
from casstore.inference.http.exchange import HttpReply, HttpRequest
from casstore.inference.http.framing import AwsEvents, ServerSentEvents, framing_for
from casstore.inference.http.judge import Verdict, judge, judge_stream
from casstore.inference.http.material import Material, Rules, Subject, material
from casstore.inference.http.streams import StreamWatch
from casstore.inference.reasons import Keep, keep_of
from casstore.inference.types import Usage
from tests.inference.http.replies import CHAT, JSON, chat, chat_events, converse, gemini, message, sse

BASE = "https://host.example"
PATHS = {
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "responses": "/v1/responses",
    "messages": "/v1/messages",
    "gemini": "/v1/models/m:generateContent",
    "gemini stream": "/v1/models/m:streamGenerateContent",
    "converse": "/model/m/converse",
    "converse stream": "/model/m/converse-stream",
    "invoke": "/model/m/invoke",
    "invoke stream": "/model/m/invoke-with-response-stream",
    "cohere": "/v2/chat",
    "chat v1": "/v1/chat",
    "complete": "/v1/complete",
    "compact": "/v1/responses/compact",
    "input tokens": "/v1/responses/input_tokens",
    "ollama": "/api/chat",
    "embeddings": "/v1/embeddings",
    "images": "/v1/images/generations",
    "speech": "/v1/audio/speech",
    "transcript": "/v1/audio/transcriptions",
}


def subject(wire: str, **body: Any) -> Subject:
    """Return what a request to an endpoint is about."""
    content = json.dumps({**CHAT, **body}).encode()
    found = material(HttpRequest.of("POST", BASE + PATHS[wire], {}, content), Rules(streams="record"))
    assert isinstance(found, Material)
    return found.subject


def verdict(
    wire: str, reply: JSON | bytes, status: int = 200, kind: str = "application/json", **body: Any
) -> Verdict:
    """Return what is decided of a reply."""
    content = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
    return judge(subject(wire, **body), HttpReply(status, {"content-type": kind}, content))


FILTERED: JSON = {"reason": "content_filter"}


def refusal(stop: str = "stop") -> JSON:
    """Return a chat completion in which the model itself refuses."""
    choice = {"message": {"content": None, "refusal": "I will not."}, "finish_reason": stop, "index": 0}
    return chat() | {"choices": [choice]}


RESPONSE: JSON = {
    "object": "response",
    "status": "completed",
    "model": "gpt-x",
    "output": [{"type": "message", "content": [{"type": "output_text", "text": "hi"}]}],
    "usage": {
        "input_tokens": 5,
        "output_tokens": 3,
        "input_tokens_details": {"cached_tokens": 2},
        "output_tokens_details": {"reasoning_tokens": 1},
    },
}
OLLAMA: JSON = {"model": "m", "message": {"content": "hi"}, "done": True, "done_reason": "stop"}

COHERE_V1: JSON = {
    "text": "hi",
    "finish_reason": "COMPLETE",
    "meta": {"tokens": {"input_tokens": 5, "output_tokens": 3}},
}
JURASSIC: JSON = {"completions": [{"data": {"text": "hi"}, "finishReason": {"reason": "endoftext"}}]}
COMPACTED: JSON = {
    "object": "response.compaction",
    "output": [{"type": "compaction", "encrypted_content": "gAAA"}],
    "usage": {"input_tokens": 5, "output_tokens": 3},
}
SNOWFLAKE: JSON = {
    "choices": [
        {
            "finish_reason": "",
            "message": {
                "content": "4",
                "refusal": "",
                "audio": {"data": "", "id": ""},
                "function_call": {"name": "", "arguments": ""},
            },
        }
    ]
}
TITAN: JSON = {"outputText": "hi", "tokenCount": 3, "completionReason": "FINISH"}
COHERE: JSON = {
    "finish_reason": "COMPLETE",
    "message": {"content": [{"text": "hi"}]},
    "usage": {"cached_tokens": 2, "tokens": {"input_tokens": 5, "output_tokens": 3}},
}

STORED: list[tuple[str, JSON, str, Usage]] = [
    ("chat", chat(), "end", Usage(5, 3, 2, 1)),
    ("chat", chat("", "tool_calls"), "tool_use", Usage(5, 3, 2, 1)),
    ("responses", RESPONSE, "end", Usage(5, 3, 2, 1)),
    ("responses", RESPONSE | {"output": [{"type": "function_call"}]}, "tool_use", Usage(5, 3, 2, 1)),
    ("messages", message(), "end", Usage(5, 3)),
    ("gemini", gemini(), "end", Usage(5, 5, 0, 2)),
    ("converse", converse(), "end", Usage(5, 3)),
    ("invoke", message(), "end", Usage(5, 3)),
    (
        "invoke",
        {"inputTextTokenCount": 5, "results": [TITAN]},
        "end",
        Usage(5, 3),
    ),
    (
        "invoke",
        {"generation": "hi", "prompt_token_count": 5, "generation_token_count": 3, "stop_reason": "stop"},
        "end",
        Usage(5, 3),
    ),
    ("invoke", {"outputs": [{"text": "hi", "stop_reason": "stop"}]}, "end", Usage()),
    ("invoke", {"embedding": [0.1], "inputTextTokenCount": 5}, "end", Usage(5)),
    ("completions", {"choices": [{"text": "hi", "finish_reason": "stop"}]}, "end", Usage()),
    (
        "cohere",
        COHERE,
        "end",
        Usage(5, 3, 2),
    ),
    ("ollama", OLLAMA | {"prompt_eval_count": 5, "eval_count": 3}, "end", Usage(5, 3)),
    ("embeddings", {"data": [{"embedding": "AAAA"}], "usage": {"prompt_tokens": 5}}, "end", Usage(5)),
    ("images", {"data": [{"b64_json": "AAAA"}]}, "end", Usage()),
    ("chat", refusal(), "refused", Usage(5, 3, 2, 1)),
    ("chat", SNOWFLAKE, "end", Usage()),
    ("chat", chat("hi", None), "end", Usage(5, 3, 2, 1)),
    ("completions", {"choices": [{"text": "hi", "log_probs": None}]}, "end", Usage()),
    ("responses", RESPONSE | {"status": "complete"}, "end", Usage(5, 3, 2, 1)),
    (
        "responses",
        RESPONSE | {"output": [{"type": "message", "content": [{"type": "refusal", "refusal": "no"}]}]},
        "refused",
        Usage(5, 3, 2, 1),
    ),
    ("responses", RESPONSE | {"output": [{"type": "tool_search_call"}]}, "end", Usage(5, 3, 2, 1)),
    (
        "responses",
        RESPONSE | {"output": [{"type": "tool_search_call", "execution": "client"}]},
        "tool_use",
        Usage(5, 3, 2, 1),
    ),
    ("compact", COMPACTED, "end", Usage(5, 3)),
    ("input tokens", {"object": "response.input_tokens", "input_tokens": 18}, "end", Usage()),
    ("chat v1", COHERE_V1, "end", Usage(5, 3)),
    ("chat v1", COHERE_V1 | {"text": "", "tool_calls": [{"name": "f"}]}, "tool_use", Usage(5, 3)),
    ("chat v1", chat(), "end", Usage(5, 3, 2, 1)),
    ("complete", {"completion": " hi", "stop_reason": "stop_sequence"}, "end", Usage()),
    ("invoke", {"completion": " hi", "stop_reason": "stop_sequence"}, "end", Usage()),
    ("invoke", JURASSIC, "end", Usage()),
    ("invoke", {"choices": [{"text": "hi", "stop_reason": "stop"}]}, "end", Usage()),
    ("invoke", {"choices": [{"message": {"content": "hi"}, "stop_reason": "stop"}]}, "end", Usage()),
    ("invoke", COHERE_V1 | {"meta": None}, "end", Usage()),
    ("invoke", {"images": ["AAAA"], "error": None}, "end", Usage()),
    ("invoke", {"results": [{"index": 0, "relevance_score": 0.5}]}, "end", Usage()),
    ("transcript", {"text": "hi"}, "end", Usage()),
]  # fmt: skip


@pytest.mark.parametrize(("wire", "reply", "stop", "usage"), STORED, ids=[row[0] for row in STORED])
def test_a_complete_answer_is_stored(wire: str, reply: JSON, stop: str, usage: Usage) -> None:
    """And its usage is read, that of caches and of reasoning included."""
    found = verdict(wire, reply)
    assert (found.reason, found.response.stop_reason, found.response.usage) == (None, stop, usage)


@pytest.mark.parametrize("status", [202, 204, 301, 400, 401, 403, 404, 408, 409, 413, 429, 500, 503, 529])
def test_any_status_but_success_is_not_stored(status: int) -> None:
    """Whatever the body says."""
    assert verdict("chat", chat(), status).reason == "status"


def test_created_is_a_success() -> None:
    """Some servers answer so."""
    assert verdict("chat", chat(), 201).reason is None


NOT_STORED: list[tuple[str, str, JSON | bytes]] = [
    ("error", "chat", {"error": {"message": "no"}}),
    ("error", "messages", {"type": "error", "error": {}}),
    ("form", "chat", b"<html>"),
    ("form", "chat", b"[]"),
    ("form", "chat", {"choices": "none"}),
    ("form", "invoke", {"something": "new"}),
    ("empty", "chat", chat("")),
    ("empty", "chat", chat() | {"choices": []}),
    ("empty", "messages", message("")),
    ("empty", "responses", RESPONSE | {"output": [{"type": "reasoning"}]}),
    ("empty", "embeddings", {"data": []}),
    ("empty", "ollama", OLLAMA | {"message": {"content": ""}}),
    ("filtered", "chat", chat("hm", "content_filter")),
    ("filtered", "messages", message("no", "refusal")),
    ("filtered", "gemini", gemini(stop="SAFETY")),
    ("filtered", "gemini", {"promptFeedback": {"blockReason": "OTHER"}}),
    ("filtered", "converse", converse(stop="guardrail_intervened")),
    ("filtered", "responses", RESPONSE | {"status": "incomplete", "incomplete_details": FILTERED}),
    ("filtered", "chat", refusal("content_filter")),
    ("ending", "chat", chat("hm", "a new word")),
    ("ending", "gemini", gemini(stop="MALFORMED_FUNCTION_CALL")),
    ("ending", "gemini", gemini(stop="UNEXPECTED_TOOL_CALL")),
    ("ending", "converse", converse(stop="malformed_model_output")),
    ("empty", "chat", chat("", "")),
    ("unfinished", "chat", chat("hm", "error")),
    ("ending", "messages", message("hm", "pause_turn")),
    ("unfinished", "responses", RESPONSE | {"status": "in_progress"}),
    ("unfinished", "responses", RESPONSE | {"status": "failed"}),
    ("unfinished", "responses", RESPONSE | {"status": "queued", "output": []}),
    ("unfinished", "gemini", gemini(stop="")),
    ("unfinished", "chat v1", COHERE_V1 | {"finish_reason": "ERROR"}),
    ("unfinished", "chat", chat("hm", "abort")),
    ("unfinished", "ollama", OLLAMA | {"done": False}),
    ("links", "images", {"data": [{"url": "https://expires.example/1"}]}),
]


@pytest.mark.parametrize(("reason", "wire", "reply"), NOT_STORED)
def test_what_is_no_whole_answer_is_not_stored(reason: str, wire: str, reply: JSON | bytes) -> None:
    """An error within a success, nothing, what was filtered, what goes on, what expires."""
    assert verdict(wire, reply).reason == reason


@pytest.mark.parametrize("limit", [{}, {"max_tokens": 9}], ids=["no limit", "limit"])
@pytest.mark.parametrize(
    ("wire", "reply"),
    [
        ("chat", chat(stop="length")),
        ("completions", {"choices": [{"text": "hi", "finish_reason": "length"}]}),
        ("messages", message(stop="max_tokens")),
        ("messages", message(stop="model_context_window_exceeded")),
        ("gemini", gemini(stop="MAX_TOKENS")),
        ("converse", converse(stop="max_tokens")),
        ("ollama", OLLAMA | {"done_reason": "length"}),
        ("invoke", {"completion": "hi", "stop_reason": "max_tokens"}),
        (
            "responses",
            RESPONSE | {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
        ),
    ],
)
def test_a_truncation_is_stored(wire: str, reply: JSON, limit: JSON) -> None:
    """Asked again it would be cut off again, by the limit of the request or by the provider's own."""
    found = verdict(wire, reply, **limit)
    assert (found.reason, found.response.stop_reason) == (None, "length")


KEPT: list[tuple[Keep, str, JSON | bytes, str]] = [
    ("filtered", "chat", chat("hm", "content_filter"), "application/json"),
    ("empty", "chat", chat(""), "application/json"),
    ("ending", "gemini", gemini(stop="UNEXPECTED_TOOL_CALL"), "application/json"),
    ("ending", "messages", message("hm", "pause_turn"), "application/json"),
    ("links", "images", {"data": [{"url": "https://expires.example/1"}]}, "application/json"),
    ("form", "chat", {"contentType": "application/json"}, "application/json"),
    ("form", "chat", b"method=POST", "text/plain"),
]


@pytest.mark.parametrize(("reason", "wire", "reply", "kind"), KEPT)
def test_each_reason_can_be_overruled(reason: Keep, wire: str, reply: JSON | bytes, kind: str) -> None:
    """By its own word in the cache's `keep`, or by all of them, and by no other."""
    content = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
    told = HttpReply(200, {"content-type": kind}, content)
    assert judge(subject(wire), told).reason == reason
    assert judge(subject(wire), told, keep_of("all") - {reason}).reason == reason
    assert judge(subject(wire), told, {reason}).reason is None


NEVER: list[tuple[str, str, JSON | bytes, str]] = [
    ("error", "chat", {"error": {"message": "no"}}, "application/json"),
    ("unfinished", "responses", RESPONSE | {"status": "queued", "output": []}, "application/json"),
    ("unfinished", "responses", RESPONSE | {"status": "in_progress"}, "application/json"),
    ("unfinished", "chat", chat("hm", "error"), "application/json"),
    ("form", "chat", b"<html>log in</html>", "text/html"),
    ("form", "chat", b"  <!doctype html>", "text/plain"),
    ("form", "chat", {"detail": "not found"}, "application/json"),
    ("form", "chat", {"status": "pending"}, "application/json"),
    ("form", "chat", b"", "application/json"),
]


@pytest.mark.parametrize(("reason", "wire", "reply", "kind"), NEVER)
def test_what_is_no_answer_is_stored_by_no_switch(
    reason: str, wire: str, reply: JSON | bytes, kind: str
) -> None:
    """An error, an answer that goes on, a page in place of an answer."""
    content = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
    assert (
        judge(subject(wire), HttpReply(200, {"content-type": kind}, content), keep_of("all")).reason == reason
    )


def test_a_word_that_no_reason_has_is_told() -> None:
    """With those that there are; one word stands for itself."""
    assert keep_of("search") == {"search"}
    with pytest.raises(ConfigError, match=r"'web'; there are all, code, "):
        keep_of({"search", "web"})


def test_audio_is_judged_by_its_type() -> None:
    """It is no JSON."""
    assert verdict("speech", b"ID3", kind="audio/mpeg").reason is None
    assert verdict("speech", b"", kind="audio/mpeg").reason == "empty"
    assert verdict("speech", b"<html>", kind="text/html").reason == "form"


def aws(name: str, payload: JSON, kind: str = "event") -> bytes:
    """Return a message of an AWS event stream."""
    headers = b""
    what = ":exception-type" if kind == "exception" else ":event-type"
    for title, value in ((what, name), (":message-type", kind)):
        headers += (
            bytes([len(title)]) + title.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
        )
    content = json.dumps(payload).encode()
    prelude = struct.pack(">II", 16 + len(headers) + len(content), len(headers))
    rest = prelude + struct.pack(">I", binascii.crc32(prelude)) + headers + content
    return rest + struct.pack(">I", binascii.crc32(rest))


def invoked(inner: JSON) -> bytes:
    """Return a chunk of an invocation's stream."""
    return aws("chunk", {"bytes": base64.b64encode(json.dumps(inner).encode()).decode()})


START = {"type": "message_start", "message": message("") | {"usage": {"input_tokens": 5}}}
DELTA = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "hi"}}
STOP = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}}
METRICS = {"amazon-bedrock-invocationMetrics": {"inputTokenCount": 5, "outputTokenCount": 3}}
NDJSON, AWS = "application/x-ndjson", "application/vnd.amazon.eventstream"
SSE = "text/event-stream"

COMPLETED: JSON = {"type": "response.completed", "response": RESPONSE}


def lines(event: JSON) -> bytes:
    """Return an event of NDJSON."""
    return json.dumps(event).encode() + b"\n"


STREAMS: list[tuple[str, str, list[bytes]]] = [
    ("chat", SSE, [sse(event) for event in chat_events("h", "i")]),
    ("chat", SSE, [sse(event, newline="\r\n") for event in chat_events("h", "i")]),
    ("messages", SSE, [sse(e, named=True) for e in (START, DELTA, STOP, {"type": "message_stop"})]),
    ("responses", SSE, [sse({"type": "response.created"}), sse(COMPLETED)]),
    ("gemini stream", SSE, [sse(gemini(stop="")), sse(gemini())]),
    ("gemini stream", "application/json", [b"[", json.dumps(gemini()).encode(), b"]"]),
    ("ollama", NDJSON, [lines(OLLAMA | {"done": False}), lines(OLLAMA)]),
    (
        "converse stream",
        AWS,
        [
            aws("contentBlockDelta", {"delta": {"text": "hi"}}),
            aws("messageStop", {"stopReason": "end_turn"}),
            aws("metadata", {"usage": {"inputTokens": 5, "outputTokens": 3}}),
        ],
    ),
    ("invoke stream", AWS, [invoked(e) for e in (START, DELTA, STOP, {"type": "message_stop"} | METRICS)]),
    ("invoke stream", AWS, [invoked({"outputText": "hi", "completionReason": "FINISH"} | METRICS)]),
    (
        "cohere",
        SSE,
        [
            sse({"type": "content-delta", "delta": {"message": {"content": {"text": "hi"}}}}),
            sse({"type": "message-end", "delta": {"finish_reason": "COMPLETE"}}),
        ],
    ),
    ("completions", SSE, [sse({"choices": [{"text": "hi", "finish_reason": "stop"}]}), sse("[DONE]")]),
    ("completions", SSE, [sse({"choices": [{"text": "hi"}]}), sse("[DONE]")]),
    ("chat", SSE, [sse({"choices": [{"index": 0, "delta": {"content": "hi"}}]}), sse("[DONE]")]),
    ("chat v1", SSE, [sse(event) for event in chat_events("h", "i")[:-1]]),
    (
        "chat v1",
        NDJSON,
        [
            lines({"event_type": "stream-start", "is_finished": False}),
            lines({"event_type": "text-generation", "text": "hi"}),
            lines({"event_type": "stream-end", "finish_reason": "COMPLETE", "response": COHERE_V1}),
        ],
    ),
    (
        "complete",
        SSE,
        [
            sse({"type": "completion", "completion": "h", "stop_reason": None}, named=True),
            sse({"type": "completion", "completion": "i", "stop_reason": "stop_sequence"}, named=True),
        ],
    ),
    (
        "invoke stream",  # of Claude's text completions
        AWS,
        [
            invoked({"type": "completion", "completion": "hi", "stop_reason": None}),
            invoked({"type": "completion", "completion": "", "stop_reason": "stop_sequence"} | METRICS),
        ],
    ),
    (
        "invoke stream",  # of Amazon's own models
        AWS,
        [
            invoked({"contentBlockDelta": {"delta": {"text": "hi"}}}),
            invoked({"messageStop": {"stopReason": "end_turn"}}),
            invoked({"metadata": {}} | METRICS),
        ],
    ),
    (
        "transcript",
        SSE,
        [
            sse({"type": "transcript.text.delta", "delta": "hi"}),
            sse({"type": "transcript.text.done", "text": "hi"}),
        ],
    ),
]  # fmt: skip
IDS = [f"{row[0]}, {row[1]}" for row in STREAMS]


def watched(wire: str, kind: str, pieces: list[bytes], *, end: bool = True) -> Verdict:
    """Return what is decided of a stream that comes in `pieces`."""
    framing = framing_for(kind)
    assert framing is not None
    about = subject(wire, stream=True)
    watch = StreamWatch(about.endpoint.wire, framing)
    for piece in pieces:
        watch.feed(piece)
    if end:
        watch.end()
    return judge_stream(200, watch)


@pytest.mark.parametrize(("wire", "kind", "pieces"), STREAMS, ids=IDS)
def test_a_stream_is_stored_once_its_last_event_was_seen(wire: str, kind: str, pieces: list[bytes]) -> None:
    """However its bytes are cut; and not before."""
    whole = b"".join(pieces)
    found = watched(wire, kind, [whole[at : at + 1] for at in range(len(whole))])
    assert (found.reason, found.response.text.replace("hihi", "hi")) == (None, "hi")
    assert watched(wire, kind, [whole]) == found
    assert watched(wire, kind, pieces[:-1], end=False).reason == "cut"


def test_an_image_that_came_in_parts_is_stored_once_it_is_whole() -> None:
    """With what it used."""
    part = sse({"type": "image_generation.partial_image", "b64_json": "QQ=="})
    usage = {"input_tokens": 5, "output_tokens": 3}
    whole = sse({"type": "image_generation.completed", "b64_json": "QUE=", "usage": usage})
    found = watched("images", SSE, [part, whole], end=False)
    assert (found.reason, found.response.usage) == (None, Usage(5, 3))
    assert watched("images", SSE, [part]).reason == "cut"


CHOICE: JSON = {"message": {"content": "x"}, "delta": {"content": "x"}, "text": "x"}
CANDIDATE: JSON = {"content": {"parts": [{"text": "x"}]}}


@pytest.mark.parametrize(
    ("second", "reason"),
    [("stop", None), ("length", None), (None, "unfinished"), ("a new word", "ending")],
)
@pytest.mark.parametrize("wire", ["chat", "completions", "gemini"])
def test_of_several_candidates_the_one_that_ended_worst_counts(
    wire: str, second: str | None, reason: str | None
) -> None:
    """Of a reply, and of a stream in which they end one after the other."""
    google = wire == "gemini"
    name, field = ("finishReason", "candidates") if google else ("finish_reason", "choices")
    word = "MAX_TOKENS" if google and second == "length" else second
    ends = [
        {**(CANDIDATE if google else CHOICE), "index": at, name: each}
        for at, each in enumerate(("stop", word))
    ]
    assert verdict(wire, {field: ends}).reason == reason
    begun = [{field: [{**each, name: None}]} for each in ends]
    for order in (ends, ends[::-1]):
        events = [sse(each) for each in (*begun, *({field: [each]} for each in order))]
        found = watched(
            "gemini stream" if google else wire, SSE, [*events, *([] if google else [sse("[DONE]")])]
        )
        assert found.reason == ("cut" if google and reason == "unfinished" else reason)


@pytest.mark.parametrize("place", range(3))
def test_an_error_in_a_stream_is_for_ever(place: int) -> None:
    """Though an ending follows."""
    events = [sse(event) for event in chat_events("hi")]
    events.insert(place, b'event: error\ndata: {"error": {"message": "no"}}\n\n')
    assert watched("chat", SSE, events).reason == "error"
    exception = aws("throttlingException", {"message": "no"}, "exception")
    assert watched("converse stream", AWS, [exception, *STREAMS[7][2]]).reason == "error"


def test_a_reader_may_stop_after_the_last_event_and_not_before() -> None:
    """The OpenAI client does not read to the end of the body."""
    pieces = [sse(event) for event in chat_events("hi")]
    assert watched("chat", SSE, pieces, end=False).reason is None
    assert watched("chat", SSE, pieces[:-1], end=False).reason == "cut"
    converse_pieces = STREAMS[7][2]
    assert watched("converse stream", AWS, converse_pieces[:-1], end=False).reason == "cut"
    assert watched("converse stream", AWS, converse_pieces[:-1], end=True).reason is None


def test_a_damaged_stream_is_not_stored() -> None:
    """A checksum that is wrong, a line that is no JSON, or nested without end."""
    whole = b"".join(STREAMS[7][2])
    assert watched("converse stream", AWS, [whole[:60] + b"x" + whole[61:]]).reason == "error"
    assert watched("chat", SSE, [b"data: {broken\n\n", sse("[DONE]")]).reason == "error"
    deep = b"[" * 100_000
    assert watched("chat", SSE, [b"data: " + deep + b"\n\n", sse("[DONE]")]).reason == "error"
    assert watched("gemini stream", "application/json", [deep]).reason == "error"
    assert watched("chat", SSE, [b'event: error\ndata: "no"\n\n', sse("[DONE]")]).reason == "error"


def test_what_a_stream_used_is_read() -> None:
    """That of caches and reasoning included, and of a stream that is not stored."""
    pieces = [sse(event) for event in chat_events("hi")]
    assert watched("chat", SSE, pieces).response.usage == Usage(5, 3, 2, 1)
    assert watched("messages", SSE, STREAMS[2][2]).response.usage == Usage(5, 3)
    for wire, kind, pieces in STREAMS:
        if wire == "invoke stream":
            assert watched(wire, kind, pieces).response.usage == Usage(5, 3)


ROWS = st.lists(
    st.tuples(st.sampled_from(["\n", "\r\n", "\r"]), st.text("ab: é", max_size=5)), min_size=1, max_size=8
)


@given(ROWS, st.data())
def test_cuts_do_not_change_events(rows: list[tuple[str, str]], data: st.DataObject) -> None:
    """SSE gives the same events whole and in any pieces, whatever its lines end with."""
    whole = "".join(f"data: {text}{end}{end}" for end, text in rows).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    one, many = ServerSentEvents(), ServerSentEvents()
    expected = [*one.feed(whole), *one.end()]
    assert [event for piece in pieces for event in many.feed(piece)] + list(many.end()) == expected
    assert [event.data.decode() for event in expected] == [text for _, text in rows]


@given(st.binary(max_size=200))
def test_bytes_that_are_no_event_stream_are_refused_or_waited_for(noise: bytes) -> None:
    """Nothing else is raised."""
    watch = StreamWatch("converse", AwsEvents())
    watch.feed(noise)
    watch.end()
    assert not watch.complete
