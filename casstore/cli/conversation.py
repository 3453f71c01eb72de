"""Requests and replies of models, for a person to read.  Floor: cli.

Knows turns, and no provider.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from casstore.inference.reading.stored import StoredAnswer
    from casstore.inference.reading.transcript import Part, Turn

_SHOWN = 300
"""Characters of an option that are shown; a schema has more, and --raw shows it."""


def request_lines(value: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a stored request: where it went, its options, its turns."""
    from casstore.inference.reading.stored import body_of
    from casstore.inference.reading.transcript import options_of, turns_of_request

    body = body_of(value)
    if "path" in value:
        yield f"{value.get('method', 'POST')} {value.get('host', '')}{value['path']}"
    options = {**_mapping(value.get("query")), **_mapping(value.get("headers")), **options_of(body)}
    for name, option in sorted(options.items()):
        yield f"{name}: {_short(option)}"
    yield from turn_lines(turns_of_request(body))


def answer_lines(answer: StoredAnswer) -> Iterator[str]:
    """Yield the lines of a stored answer: its turns, or its JSON where it has none."""
    turns = answer.turns
    if turns:
        yield from turn_lines(turns)
    elif answer.value is None:
        yield f"({len(answer.body):,} bytes that are no text; casstore cat writes them)"
    else:
        yield json.dumps(answer.value, indent=2, ensure_ascii=False)


def turn_lines(turns: Iterable[Turn]) -> Iterator[str]:
    """Yield the lines of turns, each under its role."""
    for turn in turns:
        yield ""
        yield turn.role
        for part in turn.parts:
            yield textwrap.indent(_shown(part), "  ")


def _shown(part: Part) -> str:
    if part.kind == "text":
        return part.text
    if part.kind == "thinking":
        return f"(thinking) {part.text}"
    if part.kind == "call":
        return f"calls {part.name} {part.text}".rstrip()
    if part.kind == "result":
        return f"result of {part.name}:\n{textwrap.indent(part.text, '  ')}"
    return f"({', '.join(filter(None, [part.name, part.text]))})"


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(text):,} characters)"
