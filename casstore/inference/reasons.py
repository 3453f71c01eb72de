"""Why a call is not kept, and which setting keeps it all the same; pure.

A reason is one word: the ledger counts it as ``uncached_…`` (the request passed by) or ``unstored_…`` (its
reply was not stored), and where the word is in `KEEP`, ``keep={word}`` overrules it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, Literal

from casstore.errors import ConfigError

Keep = Literal[
    "empty",
    "filtered",
    "ending",
    "form",
    "links",
    "search",
    "code",
    "mcp",
    "files",
    "images",
    "tools",
    "state",
]
"""Answers that are not stored unless asked for."""

KEEP: Final[Mapping[str, str]] = {
    "empty": "answers without content",
    "filtered": "answers that a provider's filter or guardrail withheld or changed",
    "ending": "whole answers that pause a turn, or end with a word not known here (a malformed tool call)",
    "form": "whole replies without an error in a form not known here",
    "links": "answers that hold links to content that the provider deletes",
    "search": "answers that may rest on a search or on web pages",
    "code": "answers that may rest on code that the provider runs",
    "mcp": "answers that may rest on MCP servers and connectors",
    "files": "answers about files, links and cached contents that the provider holds or fetches",
    "images": "answers of a tool that makes images",
    "tools": "answers that may rest on other tools that the provider runs",
    "state": "answers that continue a conversation, prompt or agent kept at the provider",
}
"""The words of `Keep`, each with what it stores."""

_OTHER_SWITCHES: Final[Mapping[str, str]] = {
    "stream": 'streams="record"',
    "endpoint": 'endpoints={"/the/path": "chat"}',
}


def keep_of(given: Collection[str] | str) -> frozenset[str]:
    """Return what is stored besides plain answers.

    Args:
        given: Words of `KEEP`; one word; or ``all``, which is all of them.

    Raises:
        ConfigError: There is no such word.
    """
    words = frozenset({given} if isinstance(given, str) else given)
    unknown = sorted(str(word) for word in words if word != "all" and word not in KEEP)
    if unknown:
        raise ConfigError(f"keep: no such word: {unknown[0]!r}; there are all, {', '.join(sorted(KEEP))}")
    return frozenset(KEEP) if "all" in words else words


def switch_for(reason: str) -> str:
    """Return the setting that keeps a call in spite of `reason`, as a program writes it; empty for none."""
    return f'keep={{"{reason}"}}' if reason in KEEP else _OTHER_SWITCHES.get(reason, "")
