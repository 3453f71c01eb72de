"""What a JSON value holds at any depth, seen in one walk; pure.  Floor: inference.

Most requests hold no large part, no secret, and nothing that a provider keeps. The names of their fields show
that, which are few however long the texts are; so who looks for such things looks here first.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from casstore.values import quick_value


@quick_value(frozen=True, slots=True)
class Survey:
    """What there is in a JSON value.

    Attributes:
        words: The names of all fields, and what those called ``type`` say.
        longest: Characters of the longest text.
        floats: Whether any number has a fraction or an exponent, as far as its type tells.
    """

    words: AbstractSet[str]
    longest: int
    floats: bool


def survey(value: object) -> Survey:
    """Return what there is in a JSON value."""
    words: set[str] = set()
    longest, floats = 0, False
    pending = [value]
    for item in pending:  # which grows meanwhile
        if isinstance(item, str):
            if len(item) > longest:  # noqa: PLR1730 — `max` takes four times as long
                longest = len(item)
        elif isinstance(item, dict):
            words.update(map(str, item))
            pending += item.values()
            kind = item.get("type")
            if isinstance(kind, str):
                words.add(kind)
        elif isinstance(item, list):
            pending += item
        elif isinstance(item, float):
            floats = True
    return Survey(words, longest, floats)
