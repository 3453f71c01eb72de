"""Requests and replies of every provider as turns of a conversation; pure.  Floor: inference.

For people and for searching. The forms are told by their fields, whoever the provider: what holds text is
read, what holds an image or a sound is named with its size, and what is not known is named.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

Kind = Literal["text", "thinking", "call", "result", "media", "other"]

_SPOKEN: Final = frozenset(
    {"messages", "system", "contents", "systemInstruction", "system_instruction", "input", "instructions"}
    | {"prompt", "inputText", "texts", "query", "documents", "message", "content", "parts"}
)
"""Fields of a request's body that hold what was said; all others are options."""

_SYSTEM: Final = ("system", "instructions", "systemInstruction", "system_instruction")

_MEDIA: Final = (
    *("image", "image_url", "input_image", "inlineData", "inline_data", "input_audio", "audio", "video"),
    *("document", "file", "input_file", "fileData", "file_data", "source"),
)
"""Types of blocks, or fields of them, that hold or name something that is no text."""

_FAULTS: Final = (AttributeError, IndexError, KeyError, RecursionError, TypeError, ValueError)
"""What comes of JSON that is not as any provider writes it."""

_TEXT_FIELDS: Final = ("text", "outputText", "generation", "completion", "refusal", "transcript")


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a turn.

    Attributes:
        kind: ``text``, ``thinking``, ``call`` (of a tool), ``result`` (of a tool), ``media`` (named, and not
            shown) or ``other``.
        text: The text; of a call its arguments as JSON; of media what it is.
        name: The tool's name, or the type of something that is not known.
    """

    kind: Kind
    text: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side said.

    Attributes:
        role: ``system``, ``user``, ``assistant``, ``tool``, or the provider's own word.
        parts: Its parts, in their order.
    """

    role: str
    parts: tuple[Part, ...]

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {"role": self.role, "parts": [asdict(part) for part in self.parts]}


def turns_of_request(body: Mapping[str, Any]) -> list[Turn]:
    """Return what a request's body says; nothing where it is of no form that is known."""
    try:
        return _request_turns(body)
    except _FAULTS:
        return []


def _request_turns(body: Mapping[str, Any]) -> list[Turn]:
    found = [_turn("system", body[name]) for name in _SYSTEM if body.get(name)]
    for name in ("messages", "contents"):
        found += _turns(body.get(name), "user")
    found += _inputs(body.get("input"))
    for name in ("prompt", "inputText", "texts", "query", "documents", "message", "content"):
        if body.get(name):
            found.append(_turn("user", body[name]))
    return [turn for turn in found if turn.parts]


def turns_of_reply(reply: object) -> list[Turn]:
    """Return what a reply says: JSON of whatever provider, or text; of several candidates, a turn each.

    Nothing where it is of no form that is known.
    """
    if isinstance(reply, str):
        return [Turn("assistant", (Part("text", reply),))] if reply else []
    if not isinstance(reply, Mapping):
        return []
    try:
        found = [turn for turn in _reply_turns(reply) if turn.parts]
        return found or [turn for turn in [Turn("assistant", tuple(_vectors(reply)))] if turn.parts]
    except _FAULTS:
        return []


def text_of(turns: list[Turn]) -> str:
    """Return the text of turns, thinking left out: what a person would read aloud."""
    return "\n".join(part.text for turn in turns for part in turn.parts if part.kind == "text")


def searched(turns: list[Turn]) -> Iterator[str]:
    """Yield all texts of turns, with the names and arguments of calls."""
    for turn in turns:
        for part in turn.parts:
            yield f"{part.name} {part.text}" if part.name else part.text


def options_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a request's body that are no conversation; of tools, the names."""
    found = {name: item for name, item in body.items() if name not in _SPOKEN}
    for name in ("tools", "functions"):
        if isinstance(found.get(name), list):
            found[name] = [_tool_name(tool) for tool in found[name]]
    return found


def _tool_name(tool: object) -> str:
    if not isinstance(tool, Mapping):
        return str(tool)
    inner = next(
        (tool[name] for name in ("function", "toolSpec") if isinstance(tool.get(name), Mapping)), tool
    )
    declared = tool.get("functionDeclarations")
    if isinstance(declared, list):
        return ", ".join(_tool_name(each) for each in declared)
    return str(inner.get("name") or tool.get("type") or next(iter(tool), ""))


def _reply_turns(reply: Mapping[str, Any]) -> Iterator[Turn]:
    for choice in _list(reply.get("choices")):
        yield _turn("assistant", choice.get("message") or choice)
    for candidate in _list(reply.get("candidates")):
        yield _turn("assistant", candidate.get("content") or {})
    output = reply.get("output")
    if isinstance(output, Mapping):
        yield _turn("assistant", output.get("message") or output)
    else:
        yield from _inputs(output, "assistant")
    yield from _other_turns(reply)


def _other_turns(reply: Mapping[str, Any]) -> Iterator[Turn]:
    if isinstance(reply.get("message"), Mapping):
        yield _turn("assistant", reply["message"])
    for name in ("results", "generations", "outputs"):
        for each in _list(reply.get(name)):
            yield _turn("assistant", each)
    if "content" in reply:
        yield _turn("assistant", {"content": reply["content"]})
    for name in ("response", *_TEXT_FIELDS):
        if isinstance(reply.get(name), str):
            yield Turn("assistant", (Part("text", reply[name]),))


def _turns(messages: object, role: str) -> list[Turn]:
    if isinstance(messages, str):
        return [_turn(role, messages)]
    return [_turn(role, message) for message in _list(messages)]


def _inputs(given: object, role: str = "user") -> list[Turn]:
    """Return the turns of a list of items as of OpenAI's responses, or of the texts to be embedded."""
    if isinstance(given, list) and all(isinstance(each, Mapping) for each in given):
        return [_item(each, role) for each in given]
    return [] if given is None else [_turn(role, given)]


def _item(item: Mapping[str, Any], role: str) -> Turn:
    if "content" in item or "role" in item:
        return _turn(role, item)
    kind = str(item.get("type", ""))
    if kind.endswith("_output"):
        return Turn("tool", (Part("result", _flat(item.get("output")), str(item.get("call_id", ""))),))
    return Turn("assistant" if kind else role, tuple(_block(item)))


def _turn(role: str, message: object) -> Turn:
    """Return a message of any form as a turn."""
    if not isinstance(message, Mapping):
        return Turn(role, tuple(_parts(message)))
    told = message.get("role")
    role = {"model": "assistant", "developer": "system"}.get(str(told), str(told)) if told else role
    parts: list[Part] = []
    thought = message.get("reasoning_content") or message.get("reasoning") or message.get("thinking")
    if isinstance(thought, str) and thought:
        parts.append(Part("thinking", thought))
    body = next((message[name] for name in ("content", "parts") if name in message), None)
    if role == "tool" or told == "function":
        parts.append(
            Part("result", _flat(body), str(message.get("name") or message.get("tool_call_id") or ""))
        )
    else:
        parts += _parts(body)
        parts += [Part("text", message[name]) for name in _TEXT_FIELDS if isinstance(message.get(name), str)]
    for call in _list(message.get("tool_calls")):
        parts.append(_call(call.get("function") or call))
    if isinstance(message.get("function_call"), Mapping):
        parts.append(_call(message["function_call"]))
    return Turn(role, tuple(part for part in parts if part.text or part.name))


def _parts(content: object) -> Iterator[Part]:
    if isinstance(content, str):
        if content:
            yield Part("text", content)
    elif isinstance(content, Mapping):
        yield from _block(content)
    elif isinstance(content, list):
        if content and all(isinstance(each, int) for each in content):
            yield Part("other", f"{len(content):,} tokens", "tokens")
            return
        for each in content:
            yield from _parts(each)


def _block(block: Mapping[str, Any]) -> Iterator[Part]:
    """Yield the parts in one block of content."""
    kind = str(block.get("type", ""))
    part = _of_tool(block, kind)
    if part is not None:
        yield part
        return
    thought = _thought(block, kind)
    if thought is not None:
        yield Part("thinking", thought)
        return
    text = next((block[name] for name in _TEXT_FIELDS if isinstance(block.get(name), str)), None)
    if text is not None:
        yield Part("text", text)
    elif "parts" in block or "content" in block:
        yield from _parts(block.get("parts", block.get("content")))
    elif kind in _MEDIA or any(name in block for name in _MEDIA):
        yield Part("media", _media(block))
    elif block:
        yield Part("other", "", kind or ", ".join(map(str, block)))


def _of_tool(block: Mapping[str, Any], kind: str) -> Part | None:
    if kind == "tool_use" or kind.endswith("_call"):
        return _call(block)
    if kind == "tool_result":
        return Part("result", _flat(block.get("content")), str(block.get("tool_use_id", "")))
    for name in ("toolUse", "functionCall", "function_call"):
        if isinstance(block.get(name), Mapping):
            return _call(block[name])
    for name in ("toolResult", "functionResponse", "function_response"):
        inner = block.get(name)
        if isinstance(inner, Mapping):
            told = str(inner.get("name") or inner.get("toolUseId") or "")
            return Part("result", _flat(inner.get("content", inner.get("response"))), told)
    return None


def _thought(block: Mapping[str, Any], kind: str) -> str | None:
    if kind == "thinking" or block.get("thought") is True:
        return str(block.get("thinking") or block.get("text") or "")
    if kind == "reasoning":
        return "\n".join(str(each.get("text", "")) for each in _list(block.get("summary")))
    reasoning = block.get("reasoningContent")
    if isinstance(reasoning, Mapping):
        inner = reasoning.get("reasoningText", reasoning)
        return str(inner.get("text", "")) if isinstance(inner, Mapping) else ""
    return None


def _call(call: Mapping[str, Any]) -> Part:
    arguments = next((call[name] for name in ("arguments", "input", "args", "action") if name in call), "")
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return Part("call", text, str(call.get("name") or call.get("type") or ""))


def _flat(content: object) -> str:
    """Return the content of a tool's result as text."""
    if isinstance(content, str):
        return content
    texts = [part.text for part in _parts(content) if part.kind in ("text", "media") and part.text]
    return "\n".join(texts) if texts else json.dumps(content, ensure_ascii=False)


def _media(block: Mapping[str, Any]) -> str:
    """Return what an image or a sound is: its type, and how long its base64 or what its address is."""
    words: list[str] = []
    for value in _strings({name: item for name, item in block.items() if name != "type"}, 0):
        if value.startswith("data:"):
            head, _, rest = value.partition(",")
            words.append(
                head.removeprefix("data:").removesuffix(";base64")
                + (f", {rest}" if rest.startswith("(") else _size(rest))
            )
        elif len(value) > 200:  # noqa: PLR2004 — longer than any type, name or address
            words.append(_size(value).removeprefix(", "))
        else:
            words.append(value)
    return ", ".join(dict.fromkeys(words))


def _size(base64: str) -> str:
    return f", {len(base64) * 3 // 4:,} bytes" if base64 else ""


def _strings(value: object, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif depth < 5:  # noqa: PLR2004 — deeper than any provider's
        items = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
        for item in items:
            yield from _strings(item, depth + 1)


def _vectors(reply: Mapping[str, Any]) -> Iterator[Part]:
    """Name what a reply without words holds: vectors, images."""
    found = reply.get("data") or reply.get("embeddings") or reply.get("embedding")
    if isinstance(found, list) and found:
        each = "vector" if "embedding" in str(reply)[:4000] else "image"
        number = 1 if isinstance(found[0], (int, float)) else len(found)
        yield Part("other", f"{number:,} {each}{'' if number == 1 else 's'}", each)


def _list(value: object) -> list[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []
