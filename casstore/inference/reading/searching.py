"""Whether an entry's request or reply says something.  Floor: inference.

One entry at a time is in memory. What is not here is not fetched: a search must not bring a whole remote.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from casstore.catalog.records import Entry
from casstore.errors import ConfigError
from casstore.inference.reading.source import Source, request_value
from casstore.inference.reading.stored import read_answer, turns_asked
from casstore.inference.reading.transcript import searched


def pattern_of(text: str) -> re.Pattern[str]:
    """Return a regular expression.

    Raises:
        ConfigError: It is none.
    """
    try:
        return re.compile(text)
    except re.error as error:
        raise ConfigError(
            f"not a regular expression: {error}; put \\ before {text[error.pos or 0 :][:1]!r}?"
        ) from error


def says(source: Source, entry: Entry, pattern: re.Pattern[str]) -> bool | None:
    """Tell whether an entry's request or reply has the pattern; None where its answer is not here.

    Args:
        source: The store.
        entry: The entry.
        pattern: What to look for, in each text by itself: a message, a call of a tool, an answer.
    """
    if any(map(pattern.search, _asked(source, entry))):
        return True
    if not source.has(entry.object):
        return None
    return any(map(pattern.search, _said(source.get(entry.object))))


def _asked(source: Source, entry: Entry) -> Iterator[str]:
    value = request_value(source, entry)
    if value is None:
        return
    turns = turns_asked(value)
    yield from searched(turns)
    if not turns:  # a function's arguments
        yield str(value.get("arguments", value))


def _said(content: bytes) -> Iterator[str]:
    answer = read_answer(content)
    if answer is None or not answer.turns:
        yield (content if answer is None else answer.body).decode("utf-8", "replace")
        return
    yield from searched(answer.turns)
