"""Stored answers of every kind, read for a person: what was said.  Floor: inference.

It knows the forms in which casstore's layers store answers. What is of no such form stays bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from casstore.errors import FormatError
from casstore.inference.http.exchange import media_type
from casstore.inference.reading.transcript import Turn, turns_of_reply, turns_of_request
from casstore.inference.reading.wholes import events_of, whole
from casstore.inference.recorded import FORMAT

KINDS: Final = frozenset({"http", "response", "stream", "call"})
"""Kinds of answers that casstore stores."""


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """A stored answer.

    Attributes:
        kind: One of `KINDS`.
        head: Its first line, parsed.
        body: What follows: the provider's own bytes.
        value: The reply as JSON, put together where it is a stream; or text; None for other bytes.
    """

    kind: str
    head: Mapping[str, Any]
    body: bytes = field(repr=False)
    value: Any = field(repr=False)

    @property
    def turns(self) -> list[Turn]:
        """What it says."""
        if self.kind == "call":
            return []
        return turns_of_reply(self.value) or turns_of_reply(self.head.get("text"))


def read_answer(content: bytes) -> StoredAnswer | None:
    """Return the answer stored as `content`; None where it is of no form that casstore's layers store."""
    line, newline, body = content.partition(b"\n")
    head = _json(line)
    if not newline or not isinstance(head, dict) or head.get("casstore") != FORMAT:
        return None
    kind = head.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        return None
    return StoredAnswer(kind, head, body, _value(kind, head, body))


def _value(kind: str, head: Mapping[str, Any], body: bytes) -> Any:
    if kind == "stream":
        lines = map(_json, body.split(b"\n"))
        raw = [each["raw"] for each in lines if isinstance(each, dict) and isinstance(each.get("raw"), dict)]
        return whole(raw) or head.get("text")
    if kind != "http":
        return _json_or_text(body) if body else head.get("text")
    headers = head.get("headers")
    told = media_type(headers) if isinstance(headers, dict) else ""
    if "json" in told and "stream" not in told and "ndjson" not in told:
        found = _json_or_text(body)
        if not isinstance(found, list):
            return found
    events = events_of(body, told)
    put_together = whole(events) if events else None
    return put_together if put_together is not None else _json_or_text(body)


def _json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _json_or_text(body: bytes) -> Any:
    value = _json(body)
    if value is not None:
        return value
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return None
    return None if "\x00" in text else text


def turns_asked(request: Mapping[str, Any]) -> list[Turn]:
    """Return what a stored request says."""
    return turns_of_request(body_of(request))


def body_of(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body of a stored request, in which large parts and secrets are named where they were.

    A multipart body is given as an object of its fields.
    """
    holes = request.get("holes")
    if isinstance(request.get("parts"), list):
        return {str(each.get("name", "")): _part(each) for each in request["parts"] if isinstance(each, dict)}
    body = request.get("body")
    if not isinstance(body, dict):
        return {}
    if isinstance(holes, list) and holes:
        body = json.loads(json.dumps(body))
        for hole in holes:
            if isinstance(hole, dict):
                _name_hole(body, hole)
    return body


def _part(part: Mapping[str, Any]) -> str:
    if "text" in part:
        return str(part["text"])
    return _named(part, str(part.get("filename", "")))


def _named(hole: Mapping[str, Any], before: str) -> str:
    if "secret" in hole:
        return "(a secret, which is not stored)"
    size = hole.get("size")
    told = f"{size:,} bytes" if isinstance(size, int) else "bytes"
    return f"{before}({told}, object {str(hole.get('object', ''))[:12]})"


def _name_hole(body: Any, hole: Mapping[str, Any]) -> None:
    *path, last = [_plain(step) for step in str(hole.get("at", "")).split("/")[1:]] or [""]
    try:
        for step in path:
            body = body[int(step) if isinstance(body, list) else step]
        place: Any = int(last) if isinstance(body, list) else last
        body[place] = _named(hole, str(body[place]))
    except (FormatError, KeyError, IndexError, TypeError, ValueError):
        return


def _plain(step: str) -> str:
    return step.replace("~1", "/").replace("~0", "~")
