"""How an answer ended: the words of all providers, and the stops that they stand for; pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

UNFINISHED: Final = "unfinished"
"""The stop of a reply that goes on, was interrupted, or failed."""

UNKNOWN: Final = "unknown"
"""The stop of a whole reply that pauses a turn, or ends with a word that is not known here."""

BLANK: Final = ""
"""The stop of a candidate without a word for its ending: whole, as some servers send it, or going on."""

_ENDINGS: Final[Mapping[str, str]] = {
    "end": "end",
    "length": "length",
    "tool_use": "tool_use",
    "filtered": "filtered",
    "empty": "end",
    "stop": "end",
    "eos": "end",
    "eos_token": "end",
    "stop_sequence": "end",
    "end_turn": "end",
    "endoftext": "end",
    "compaction": "end",
    "complete": "end",
    "completed": "end",
    "done": "end",
    "eos_token_found": "end",
    "end_of_sequence": "end",
    "end_of_text": "end",
    "finish": "end",
    "finished": "end",
    "stop_token": "end",
    "stopped": "end",
    "success": "end",
    "succeeded": "end",
    "stop_sequence_reached": "end",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "max_tokens_reached": "length",
    "model_context_window_exceeded": "length",
    "max_length": "length",
    "model_length": "length",
    "tool_call": "tool_use",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "filtered",
    "content_filtered": "filtered",
    "guardrail_intervened": "filtered",
    "guardrails": "filtered",
    "refusal": "filtered",
    "refused": "refused",
    "sensitive": "filtered",
    "safety": "filtered",
    "recitation": "filtered",
    "language": "filtered",
    "blocklist": "filtered",
    "prohibited_content": "filtered",
    "spii": "filtered",
    "image_safety": "filtered",
    "image_prohibited_content": "filtered",
    "image_recitation": "filtered",
    "model_armor": "filtered",
    "error_toxic": "filtered",
} | dict.fromkeys(
    (
        UNFINISHED,
        "abort",
        "aborted",
        "cancelled",
        "canceled",
        "error",
        "error_limit",
        "expired",
        "failed",
        "in_progress",
        "incomplete",
        "insufficient_system_resource",
        "interrupted",
        "load",
        "network_error",
        "pending",
        "queued",
        "requires_action",
        "running",
        "timeout",
        "unload",
        "user_cancel",
    ),
    UNFINISHED,
)
"""Words for an ending, in lower case, and for none: an interruption, a failure."""


def stop_of(word: object) -> str:
    """Return the stop that a provider's word, in whatever capitals, stands for; of no word, `BLANK`."""
    if word in (None, ""):
        return BLANK
    return _ENDINGS.get(word.lower(), UNKNOWN) if isinstance(word, str) else UNKNOWN


def worst(stops: list[str], *, blank: str = "end") -> str:
    """Return, of how several candidates ended, what counts for the reply.

    Args:
        stops: Their stops.
        blank: What it stands for that no candidate has a word for its ending. Where others have one, a
            candidate without it goes on.
    """
    if BLANK in stops:
        return blank if set(stops) == {BLANK} else UNFINISHED
    for stop in (UNFINISHED, UNKNOWN, "filtered", "length", "refused", "tool_use"):
        if stop in stops:
            return stop
    return "end" if stops else UNFINISHED
