"""Streams put together: the events of a stream as one whole reply; pure.  Floor: inference.

For people and datasets, and never for a program, which gets a stream's own bytes. Which provider's events
they are is told by their form. What is not known is left out.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from casstore.errors import FormatError
from casstore.inference.http.framing import framing_for

JSON = dict[str, Any]

_FAULTS: Final = (AttributeError, FormatError, IndexError, KeyError, TypeError, ValueError, RecursionError)


def events_of(body: bytes, content_type: str) -> list[JSON] | None:
    """Return the events of a stream, as JSON; None for bytes that are no stream that is known.

    Args:
        body: The stream's bytes.
        content_type: Its media type.
    """
    framing = framing_for(content_type)
    if framing is None:
        return None
    found: list[JSON] = []
    try:
        for event in (*framing.feed(body), *framing.end()):
            if event.data.strip() == b"[DONE]":
                continue
            value = json.loads(event.data)
            if isinstance(value, dict):
                found.append({event.name: value} if event.headers else value)
    except _FAULTS:
        return found or None
    return found


def whole(events: Iterable[JSON]) -> JSON | None:
    """Return the reply that a stream's events make up; None where they are of no form that is known."""
    events = [_opened(event) for event in events]
    for fits, put_together in _FORMS:
        if any(map(fits, events)):
            try:
                return put_together(events)
            except _FAULTS:
                return None
    return None


def _opened(event: JSON) -> JSON:
    """Return an event of Bedrock's invoke as its model's maker wrote it; any other as it is."""
    chunk = event.get("chunk")
    if not isinstance(chunk, dict) or "bytes" not in chunk:
        return event
    try:
        inner = json.loads(b64decode(chunk["bytes"]))
    except _FAULTS:
        return event
    return inner if isinstance(inner, dict) else event


def _chat(events: list[JSON]) -> JSON:
    """Put together chat completions and completions, which have candidates with deltas."""
    reply: JSON = {}
    candidates: dict[int, JSON] = {}
    for event in events:
        reply.update({name: item for name, item in event.items() if name != "choices" and item is not None})
        for choice in event.get("choices") or ():
            candidate = candidates.setdefault(choice.get("index", 0), {"index": choice.get("index", 0)})
            if choice.get("finish_reason"):
                candidate["finish_reason"] = choice["finish_reason"]
            if "text" in choice:
                candidate["text"] = candidate.get("text", "") + (choice["text"] or "")
            _add(candidate.setdefault("message", {}), choice.get("delta") or {})
    for candidate in candidates.values():
        if not candidate["message"]:
            del candidate["message"]
    return {**reply, "choices": [candidates[index] for index in sorted(candidates)]}


def _add(message: JSON, delta: Mapping[str, Any]) -> None:
    """Add a delta: texts grow, lists of tool calls grow by their index, all else is set."""
    for name, item in delta.items():
        held = message.get(name)
        if isinstance(item, str) and isinstance(held, str) and name not in ("role", "id", "type"):
            message[name] = held + item
        elif name == "tool_calls" and isinstance(item, list):
            calls = message.setdefault(name, [])
            for each in item:
                _add(_call_at(calls, each.get("index", len(calls))), each)
        elif isinstance(item, dict) and isinstance(held, dict):
            _add(held, item)
        elif isinstance(item, list) and isinstance(held, list):
            held.extend(item)
        elif item is not None or held is None:
            message[name] = dict(item) if isinstance(item, dict) else item


def _call_at(calls: list[JSON], index: int) -> JSON:
    for call in calls:
        if call.get("index") == index:
            return call
    calls.append({})
    return calls[-1]


def _messages(events: list[JSON]) -> JSON:
    """Put together Anthropic's messages."""
    reply: JSON = {}
    blocks: dict[int, JSON] = {}
    for event in events:
        kind = event.get("type")
        if kind == "message_start":
            reply = dict(event["message"])
        elif kind == "content_block_start":
            blocks[event["index"]] = dict(event["content_block"])
        elif kind == "content_block_delta":
            _add_to_block(blocks.setdefault(event["index"], {"type": "text"}), event["delta"])
        elif kind == "message_delta":
            reply |= {name: item for name, item in (event.get("delta") or {}).items() if item is not None}
            reply["usage"] = {**(reply.get("usage") or {}), **(event.get("usage") or {})}
    return {**reply, "content": [_finished(blocks[index]) for index in sorted(blocks)]}


def _add_to_block(block: JSON, delta: Mapping[str, Any]) -> None:
    for name, held in (("text", "text"), ("thinking", "thinking"), ("signature", "signature")):
        if name in delta:
            block[held] = block.get(held, "") + delta[name]
    if "partial_json" in delta:
        block["partial_json"] = block.get("partial_json", "") + delta["partial_json"]
    if "citation" in delta:
        block["citations"] = [*(block.get("citations") or ()), delta["citation"]]


def _finished(block: JSON) -> JSON:
    """Return a tool's block with its input parsed."""
    written = block.pop("partial_json", None)
    if written:
        block["input"] = _parsed(written)
    return block


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _responses(events: list[JSON]) -> JSON:
    """Take OpenAI's response from its last event, which has the whole of it."""
    found = [event["response"] for event in events if isinstance(event.get("response"), dict)]
    return dict(found[-1])


def _gemini(events: list[JSON]) -> JSON:
    """Put together Gemini's candidates, whose parts come one after another."""
    reply: JSON = {}
    candidates: dict[int, JSON] = {}
    for event in events:
        reply.update({name: item for name, item in event.items() if name != "candidates"})
        for each in event.get("candidates") or ():
            candidate = candidates.setdefault(each.get("index", 0), {})
            parts = (candidate.get("content") or {}).get("parts") or []
            for part in (each.get("content") or {}).get("parts") or ():
                _add_part(parts, part)
            role = (each.get("content") or {}).get("role", "model")
            candidate.update({**each, "content": {"role": role, "parts": parts}})
    return {**reply, "candidates": [candidates[index] for index in sorted(candidates)]}


def _add_part(parts: list[JSON], part: JSON) -> None:
    last = parts[-1] if parts else {}
    plain = all(set(each) <= {"text", "thought"} for each in (part, last)) and "text" in last
    if plain and part.get("thought") == last.get("thought"):
        last["text"] += part.get("text", "")
    else:
        parts.append(dict(part))


def _converse(events: list[JSON]) -> JSON:
    """Put together Bedrock's converse."""
    reply: JSON = {}
    role = "assistant"
    blocks: dict[int, JSON] = {}
    for event in events:
        if "messageStart" in event:
            role = event["messageStart"].get("role", role)
        elif "contentBlockStart" in event:
            start = event["contentBlockStart"]
            blocks[start["contentBlockIndex"]] = {name: dict(item) for name, item in start["start"].items()}
        elif "contentBlockDelta" in event:
            delta = event["contentBlockDelta"]
            _add(blocks.setdefault(delta["contentBlockIndex"], {}), delta["delta"])
        elif "messageStop" in event:
            reply["stopReason"] = event["messageStop"].get("stopReason")
        elif "metadata" in event:
            reply |= event["metadata"]
    content = [_with_input(blocks[index]) for index in sorted(blocks)]
    return {"output": {"message": {"role": role, "content": content}}, **reply}


def _with_input(block: JSON) -> JSON:
    use = block.get("toolUse")
    if isinstance(use, dict) and isinstance(use.get("input"), str):
        use["input"] = _parsed(use["input"])
    return block


def _ollama(events: list[JSON]) -> JSON:
    """Put together Ollama's messages; the last event has the rest."""
    reply = dict(events[-1])
    if any("message" in event for event in events):
        message: JSON = {}
        for event in events:
            _add(message, event.get("message") or {})
        return {**reply, "message": message}
    return {**reply, "response": "".join(str(event.get("response", "")) for event in events)}


def _cohere(events: list[JSON]) -> JSON:
    """Put together Cohere's chat."""
    texts: list[str] = []
    calls: list[JSON] = []
    reply: JSON = {}
    for event in events:
        kind, delta = event["type"], event.get("delta") or {}
        message = delta.get("message") or {}
        if kind == "content-delta":
            texts.append(str(message["content"].get("text", "")))
        elif kind == "tool-call-start":
            calls.append(json.loads(json.dumps(message["tool_calls"])))
        elif kind == "tool-call-delta":
            _add(calls[-1], message["tool_calls"])
        elif kind == "message-end":
            reply |= {name: item for name, item in delta.items() if name != "message"}
    told: JSON = {"role": "assistant", "content": [{"type": "text", "text": "".join(texts)}] if texts else []}
    return {"message": {**told, "tool_calls": calls} if calls else told, **reply}


def _texts(events: list[JSON]) -> JSON:
    """Put together the streams of other models behind Bedrock's invoke, and of transcriptions."""
    names = ("outputText", "generation", "text", "delta")
    text = "".join(str(event[name]) for event in events for name in names if isinstance(event.get(name), str))
    return {**events[-1], "text": events[-1].get("text") or text}


def _types(*names: str) -> Callable[[JSON], bool]:
    return lambda event: str(event.get("type", "")).startswith(names)


def _fields(*names: str) -> Callable[[JSON], bool]:
    return lambda event: any(name in event for name in names)


_FORMS: Final[tuple[tuple[Callable[[JSON], bool], Callable[[list[JSON]], JSON]], ...]] = (
    (_fields("choices"), _chat),
    (_types("message_start"), _messages),
    (_types("response."), _responses),
    (_fields("candidates"), _gemini),
    (_fields("messageStart", "contentBlockDelta", "messageStop"), _converse),
    (_fields("done"), _ollama),
    (_types("message-start", "content-delta", "message-end"), _cohere),
    (_fields("outputText", "generation", "text", "delta"), _texts),
)
"""What tells whose an event is, and what puts such events together; the first form that fits is taken."""
