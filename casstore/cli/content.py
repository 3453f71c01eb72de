"""What stored bytes are, for someone who wants to read them.  Floor: cli.

Knows JSON, JSON Lines and text; nothing of where the bytes came from.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes, read as far as they can be.

    Attributes:
        kind: ``json`` (one document), ``lines`` (a first line of JSON, then JSON or text), ``text``,
            ``binary``, or ``absent``.
        value: What to put into a JSON document: the document, a list, the text, or None.
        size: How many bytes there are.
    """

    kind: str
    value: Any
    size: int

    def __str__(self) -> str:
        if self.kind == "binary":
            return f"({self.size:,} bytes that are no text; casstore cat writes them)"
        if self.kind == "absent":
            return "(not here; casstore pull brings it)"
        parts = _text_first(self.value) if self.kind == "lines" else [self.value]
        return "\n".join(part if isinstance(part, str) else _pretty(part) for part in parts)


ABSENT = Content("absent", None, 0)


def read_content(content: bytes) -> Content:
    """Return what `content` is."""
    size = len(content)
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return Content("binary", None, size)
    if "\x00" in text:
        return Content("binary", None, size)
    try:
        return Content("json", json.loads(text), size)
    except (ValueError, RecursionError):
        pass
    parts = _lines(text)
    return Content("lines", parts, size) if parts else Content("text", text, size)


def _text_first(parts: list[Any]) -> list[Any]:
    """Return the parts of a stored answer so that what a model said stands before how it said it."""
    head, *rest = parts
    text = head.get("text")
    if not isinstance(text, str):
        return parts
    return [text, "", {name: value for name, value in head.items() if name != "text"}, *rest]


def _lines(text: str) -> list[Any]:
    """Return the parts of an object whose first line is a JSON object, or nothing where it is not."""
    first, newline, rest = text.partition("\n")
    head = _json_or_text(first)
    if not newline or not isinstance(head, dict):
        return []
    document = _json_or_text(rest)
    if not isinstance(document, str):
        return [head, document]
    return [head, *map(_json_or_text, rest.splitlines())]


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
