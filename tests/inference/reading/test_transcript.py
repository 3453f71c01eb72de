"""Requests and replies of every provider as turns of a conversation."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casstore.inference.http.framing import framing_for
from casstore.inference.http.judge import judge, judge_stream
from casstore.inference.http.material import Material, Rules, material
from casstore.inference.http.stored import encode
from casstore.inference.http.streams import StreamWatch
from casstore.inference.reading.cassettes import exchange_of
from casstore.inference.reading.stored import read_answer, turns_asked
from casstore.inference.reading.transcript import (
    Turn,
    options_of,
    searched,
    text_of,
    turns_of_reply,
    turns_of_request,
)
from casstore.inference.reading.wholes import whole
from tests.inference.reading.sample import interactions

IMAGE = "iVBORw0KGgo" * 40


def shown(turns: list[Turn]) -> list[tuple[str, ...]]:
    """Return turns, a part each: role, kind, name and text."""
    return [(turn.role, part.kind, part.name, part.text) for turn in turns for part in turn.parts]


ASKED: list[tuple[dict[str, Any], list[tuple[str, ...]]]] = [
    (
        {
            "messages": [
                {"role": "developer", "content": "be brief"},
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "what is this"},
                        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{IMAGE}"}},
                    ],
                },
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"id": "1", "function": {"name": "look", "arguments": '{"at": 1}'}}],
                },
                {"role": "tool", "tool_call_id": "1", "content": "a cat"},
            ]
        },
        [
            ("system", "text", "", "be brief"),
            ("user", "text", "", "what is this"),
            ("user", "media", "", "image/png, 330 bytes"),
            ("assistant", "call", "look", '{"at": 1}'),
            ("tool", "result", "1", "a cat"),
        ],
    ),
    (
        {
            "system": [{"type": "text", "text": "be brief"}],
            "messages": [
                {"role": "user", "content": "hello"},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "hm", "signature": "x"},
                        {"type": "tool_use", "id": "t", "name": "look", "input": {"at": 1}},
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "tool_result",
                            "tool_use_id": "t",
                            "content": [{"type": "text", "text": "ok"}],
                        }
                    ],
                },
            ],
        },
        [
            ("system", "text", "", "be brief"),
            ("user", "text", "", "hello"),
            ("assistant", "thinking", "", "hm"),
            ("assistant", "call", "look", '{"at": 1}'),
            ("user", "result", "t", "ok"),
        ],
    ),
    (
        {
            "instructions": "be brief",
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": "hello"}]},
                {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
                {"type": "function_call", "name": "look", "arguments": "{}", "call_id": "c"},
                {"type": "function_call_output", "call_id": "c", "output": "ok"},
            ],
        },
        [
            ("system", "text", "", "be brief"),
            ("user", "text", "", "hello"),
            ("assistant", "thinking", "", "hm"),
            ("assistant", "call", "look", "{}"),
            ("tool", "result", "c", "ok"),
        ],
    ),
    (
        {
            "systemInstruction": {"parts": [{"text": "be brief"}]},
            "contents": [
                {
                    "role": "user",
                    "parts": [{"text": "hello"}, {"inlineData": {"mimeType": "a/b", "data": IMAGE}}],
                },
                {"role": "model", "parts": [{"functionCall": {"name": "look", "args": {"at": 1}}}]},
                {"role": "user", "parts": [{"functionResponse": {"name": "look", "response": {"is": 2}}}]},
            ],
        },
        [
            ("system", "text", "", "be brief"),
            ("user", "text", "", "hello"),
            ("user", "media", "", "a/b, 330 bytes"),
            ("assistant", "call", "look", '{"at": 1}'),
            ("user", "result", "look", '{"is": 2}'),
        ],
    ),
    (
        {
            "system": [{"text": "be brief"}],
            "messages": [
                {"role": "user", "content": [{"text": "hello"}]},
                {
                    "role": "assistant",
                    "content": [{"toolUse": {"name": "look", "input": {}, "toolUseId": "t"}}],
                },
                {
                    "role": "user",
                    "content": [{"toolResult": {"toolUseId": "t", "content": [{"text": "ok"}]}}],
                },
            ],
        },
        [
            ("system", "text", "", "be brief"),
            ("user", "text", "", "hello"),
            ("assistant", "call", "look", "{}"),
            ("user", "result", "t", "ok"),
        ],
    ),
    ({"prompt": "once upon"}, [("user", "text", "", "once upon")]),
    ({"input": ["a", "b"]}, [("user", "text", "", "a"), ("user", "text", "", "b")]),
    ({"input": [1, 2, 3]}, [("user", "other", "tokens", "3 tokens")]),
    ({"messages": [{"role": "user", "content": [{"type": "odd"}]}]}, [("user", "other", "odd", "")]),
    ({"messages": "nonsense", "system": 7}, [("user", "text", "", "nonsense")]),
]


@pytest.mark.parametrize(("body", "turns"), ASKED)
def test_a_request_of_any_provider_is_turns(body: dict[str, Any], turns: list[tuple[str, ...]]) -> None:
    """Text, thinking, calls and results are read; media is named, and so is what is not known."""
    assert shown(turns_of_request(body)) == turns


def test_options_are_what_is_no_conversation() -> None:
    """Tools by their names."""
    tools = [{"type": "function", "function": {"name": "look"}}, {"name": "ask"}, {"type": "web_search"}]
    body = {"model": "m", "messages": [], "tools": tools, "temperature": 0}
    assert options_of(body) == {"model": "m", "tools": ["look", "ask", "web_search"], "temperature": 0}


@pytest.mark.parametrize(
    ("reply", "turns"),
    [
        ("plain text", [("assistant", "text", "", "plain text")]),
        (
            {"data": [{"embedding": [0.1]}, {"embedding": [0.2]}]},
            [("assistant", "other", "vector", "2 vectors")],
        ),
        ({"choices": [{"text": " there"}]}, [("assistant", "text", "", " there")]),
        (
            {"choices": [{"message": {"content": "a"}}, {"message": {"content": "b"}}]},
            [("assistant", "text", "", "a"), ("assistant", "text", "", "b")],
        ),
        (
            {"message": {"role": "assistant", "content": "hi"}, "done": True},
            [("assistant", "text", "", "hi")],
        ),
        ({"results": [{"outputText": "hi"}]}, [("assistant", "text", "", "hi")]),
        ({"input_tokens": 4}, []),
        (None, []),
    ],
)
def test_a_reply_of_any_provider_is_turns(reply: object, turns: list[tuple[str, ...]]) -> None:
    """Of several candidates, a turn each."""
    assert shown(turns_of_reply(reply)) == turns


def test_a_stream_with_calls_of_tools_is_put_together() -> None:
    """Names and arguments come in pieces, several calls at once."""
    pieces = [
        {"index": 0, "id": "a", "function": {"name": "look", "arguments": ""}},
        {"index": 1, "id": "b", "function": {"name": "ask", "arguments": "{"}},
        {"index": 0, "function": {"arguments": '{"at":'}},
        {"index": 1, "function": {"arguments": "}"}},
        {"index": 0, "function": {"arguments": " 1}"}},
    ]
    events = [{"choices": [{"index": 0, "delta": {"tool_calls": [piece]}}]} for piece in pieces]
    assert shown(turns_of_reply(whole(events))) == [
        ("assistant", "call", "look", '{"at": 1}'),
        ("assistant", "call", "ask", "{}"),
    ]


@pytest.mark.parametrize("events", [[], [{"odd": 1}], [{"choices": 7}], [{"type": "message_start"}]])
def test_a_stream_that_is_not_understood_is_none(events: list[Any]) -> None:
    """Instead of an error."""
    assert whole(events) is None


NAMES = st.sampled_from(
    [
        "messages",
        "role",
        "content",
        "parts",
        "text",
        "type",
        "tool_calls",
        "function",
        "name",
        "arguments",
        "input",
        "choices",
        "message",
        "candidates",
        "output",
        "system",
        "contents",
        "delta",
        "index",
        "done",
        "toolUse",
        "image",
        "source",
        "chunk",
        "bytes",
        "functionCall",
        "tools",
        "data",
        "embedding",
        "response",
        "event",
    ]
)
WORDS = st.sampled_from(
    ["text", "tool_use", "message_start", "response.completed", "content-delta", "data:x,y", ""]
)
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=25,
)


@given(st.dictionaries(NAMES, ANY, max_size=6))
def test_json_that_no_provider_writes_is_no_error(value: dict[str, Any]) -> None:
    """What is in a store may come from anywhere."""
    for turns in (turns_of_request(value), turns_of_reply(value), turns_of_reply(whole([value]))):
        assert all(isinstance(each, str) for each in [text_of(turns), *searched(turns)])
    assert isinstance(options_of(value), dict)


def test_json_nested_beyond_measure_is_no_error() -> None:
    """It says nothing."""
    deep: Any = "hello"
    for _ in range(5000):
        deep = [deep]
    assert turns_of_request({"messages": [{"content": deep}]}) == []
    assert turns_of_reply({"content": deep}) == []


@pytest.mark.skipif(not interactions(), reason="the sample of real exchanges is not here")
def test_real_exchanges_are_read() -> None:
    """Of every provider: what the judge read as the answer's text is among the turns, streams included."""
    read = 0
    for number, interaction in enumerate(interactions()):
        found = taken(interaction)
        if found is None:
            continue
        text, stop, asked, said = found
        assert asked, number
        assert text in text_of(said), number
        if stop == "tool_use":
            assert any(part.kind == "call" for turn in said for part in turn.parts), number
        assert all(isinstance(each, str) for each in searched([*asked, *said]))
        read += 1
    assert read == 54


def taken(interaction: dict[str, Any]) -> tuple[str, str, list[Turn], list[Turn]] | None:
    """Return a real exchange as it is read from a store: text, stop, and turns; None if it is not stored."""
    recorded = exchange_of(interaction)
    found = material(recorded.request, Rules(streams="record"))
    if not isinstance(found, Material):
        return None
    reply = recorded.reply
    framing = framing_for(reply.content_type) if found.subject.streams else None
    if framing is None:
        verdict = judge(found.subject, reply)
    else:
        watch = StreamWatch(found.subject.endpoint.wire, framing)
        watch.feed(reply.body)
        watch.end()
        verdict = judge_stream(reply.status, watch)
    if verdict.reason is not None:
        return None
    answer = read_answer(encode(reply, verdict.response))
    assert answer is not None
    asked = turns_asked(json.loads(found.canonical))
    return verdict.response.text, verdict.response.stop_reason, asked, answer.turns
