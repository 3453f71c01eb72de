"""Where two JSON values differ, told by JSON paths (RFC 9535); pure.  Floor: inference.

Knows JSON, and nothing of requests.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

What = Literal["changed", "added", "removed"]

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_AROUND: Final = 30
"""Characters shown before and after the place where two texts part."""

_SHOWN: Final = 120
"""Characters of any other value that are shown."""

_LEAST: Final = 0.1
"""What a text that was changed costs at least: the other's characters are all, or nearly all, in it."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One place where a request is not as the stored one.

    Attributes:
        path: Where: ``$.body.messages[1].content``.
        what: ``changed``; ``added`` where only the new request has something there, ``removed`` where only
            the stored one has.
        stored: What the stored request has there.
        asked: What the new request has there.
        at: Of two texts, the number of characters that are alike before they part; None for anything else.
    """

    path: str
    what: What
    stored: Any = None
    asked: Any = None
    at: int | None = None

    def __str__(self) -> str:
        if self.what == "added":
            return f"{self.path}: only asked: {_short(self.asked)}"
        if self.what == "removed":
            return f"{self.path}: only stored: {_short(self.stored)}"
        if self.at is None:
            return f"{self.path}: stored {_short(self.stored)}, asked {_short(self.asked)}"
        stored, asked = _around(self.stored, self.at), _around(self.asked, self.at)
        return f"{self.path}: from character {self.at} on: stored {stored}, asked {asked}"

    @property
    def weight(self) -> float:
        """How far apart the two are: 1, and less for texts that are partly alike."""
        if self.at is None:
            return 1.0
        longer, shorter = sorted((self.stored, self.asked), key=len, reverse=True)
        alike = self.at + _common_end(longer[self.at :], shorter[self.at :])
        return max(_LEAST, 1 - alike / len(longer))


def differences(stored: Any, asked: Any, path: str = "$") -> list[Difference]:
    """Return where two values differ, in the order of the places.

    Of lists, equal elements at the beginning and at the end are taken for the same, so that an element put
    in does not move the others.

    Args:
        stored: The one value, of types that JSON has.
        asked: The other.
        path: The path of both.
    """
    try:
        return list(_differences(stored, asked, path))
    except RecursionError:
        return [Difference(path, "changed", stored, asked)]


def _differences(stored: Any, asked: Any, path: str) -> Iterator[Difference]:
    if type(stored) is dict and type(asked) is dict:
        for name in dict.fromkeys((*stored, *asked)):
            yield from _member(stored, asked, name, path + _step(name))
    elif type(stored) is list and type(asked) is list:
        yield from _elements(stored, asked, path)
    elif type(stored) is str and type(asked) is str and stored != asked:
        yield Difference(path, "changed", stored, asked, _common_start(stored, asked))
    elif not _same(stored, asked):
        yield Difference(path, "changed", stored, asked)


def _member(stored: dict[str, Any], asked: dict[str, Any], name: str, path: str) -> Iterator[Difference]:
    if name not in asked:
        yield Difference(path, "removed", stored=stored[name])
    elif name not in stored:
        yield Difference(path, "added", asked=asked[name])
    else:
        yield from _differences(stored[name], asked[name], path)


def _elements(stored: list[Any], asked: list[Any], path: str) -> Iterator[Difference]:
    shorter = min(len(stored), len(asked))
    first = next((index for index in range(shorter) if not _same(stored[index], asked[index])), shorter)
    rest = shorter - first
    last = next((back for back in range(rest) if not _same(stored[-1 - back], asked[-1 - back])), rest)
    old, new = stored[first : len(stored) - last], asked[first : len(asked) - last]
    for index, (one, other) in enumerate(zip(old, new, strict=False), first):
        yield from _differences(one, other, f"{path}[{index}]")
    for index, value in enumerate(old[len(new) :], first + len(new)):
        yield Difference(f"{path}[{index}]", "removed", stored=value)
    for index, value in enumerate(new[len(old) :], first + len(old)):
        yield Difference(f"{path}[{index}]", "added", asked=value)


def _same(one: Any, other: Any) -> bool:
    """Tell whether two values are the same JSON: to Python, ``1`` and ``true`` are equal."""
    if type(one) is not type(other):
        return False
    if type(one) is dict:
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    if type(one) is list:
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def _step(name: str) -> str:
    """Return the step of a path to a member, in brackets where the name is not plain."""
    if _NAME.fullmatch(name):
        return f".{name}"
    return "['" + json.dumps(name, ensure_ascii=False)[1:-1].replace('\\"', '"').replace("'", "\\'") + "']"


def _common_start(one: str, other: str) -> int:
    low, high = 0, min(len(one), len(other))
    while low < high:  # halves, as comparing slices is far faster than characters
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _common_end(one: str, other: str) -> int:
    return _common_start(one[::-1], other[::-1])


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(text):,} characters)"


def _around(text: str, at: int) -> str:
    start, end = max(0, at - _AROUND), at + _AROUND
    shown = json.dumps(text[start:end], ensure_ascii=False)[1:-1]
    return f'"{"…" if start else ""}{shown}{"…" if end < len(text) else ""}"'
