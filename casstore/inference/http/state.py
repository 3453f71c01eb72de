"""Whether a request leans on what a provider holds or does besides the model; pure.  Floor: inference.

Such an answer may be another one tomorrow though the request is the same: an earlier conversation, an
uploaded file, a search of the web, code that is run. It is not stored. Knows bodies, and nothing of keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

from casstore.inference.http.survey import Survey

_FIELDS: Final = frozenset(
    {
        "previous_response_id",
        "previous_interaction_id",
        "agent_id",
        "conversation",
        "conversation_id",
        "container",
        "mcp_servers",
        "web_search_options",
        "search_parameters",
        "search_settings",
        "compound_custom",
        "plugins",
        "data_sources",
        "connectors",
        "cachedContent",
        "cached_content",
    }
)
"""Top-level fields that lean on state wherever they are set."""

_TOOL_WORDS: Final = (
    "browser",
    "code_execution",
    "code_interpreter",
    "connector",
    "image_generation",
    "mcp",
    "retrieval",
    "search",
    "shell",
    "web_fetch",
)
"""Words in the types of tools that a provider runs itself."""

_LOCAL_TOOLS: Final = ("function", "custom", "local_shell")
"""Types of tools that the program runs."""

_LOCAL_MARKS: Final = frozenset({"name", "function", "input_schema", "toolSpec"})
"""Fields of a tool without a type, as Anthropic and Bedrock have them, that the program runs."""

_LOCAL_FIELDS: Final = frozenset(
    {"functionDeclarations", "function_declarations", "computerUse", "computer_use", "cachePoint"}
)
"""All that an object may hold which describes tools that the program runs, as Google has them."""

_FILE_FIELDS: Final = ("file_id", "fileId", "fileUri", "file_uri", "vector_store_ids", "s3Location", "gcsUri")
_KEPT_ITEMS: Final = ("item_reference", "audio")
_MARKS: Final = frozenset({*_FILE_FIELDS, *_KEPT_ITEMS})
"""At least one of these words is in a body that names something kept at the provider."""

_GOOGLE_TOOLS: Final = (
    "code_execution",
    "google_maps",
    "google_search",
    "google_search_retrieval",
    "url_context",
)
_SET_FIELD: Final = re.compile(
    rf"""['"]({"|".join(sorted((*_FIELDS, *_FILE_FIELDS, *_GOOGLE_TOOLS, "background")))})['"]\s*[:,]"""
    r"""(?!\s*(?:None|null|[Ff]alse|\[\]|''|""))"""
)
"""Where a description of a model's settings sets one of these: ``"name": value`` or ``('name', value)``."""

_MODEL_WORDS: Final = ("-search-", "-search", ":online", "compound", "sonar", "deep-research", ":prompt%2F")
"""Parts of the names of models that search by themselves, and of Bedrock's prompts, which are kept there."""


def leans_on(body: Mapping[str, Any], seen: Survey, model: str) -> str | None:
    """Return which part of a request leans on a provider's state; None where none does.

    Args:
        body: The parsed body.
        seen: What there is in it, or in more than it.
        model: The model asked for.
    """
    leaning = [name for name in _FIELDS.intersection(body) if _is_set(body[name])]
    if leaning or body.get("background") is True:  # of an image it is a colour
        return min(leaning, default="background")
    if isinstance(body.get("prompt"), dict):  # a prompt kept at the provider
        return "prompt"
    tool = next(filter(is_remote, _tools(body)), None) if "tools" in seen.words else None
    if tool is not None:
        return f"tool {_title(tool)}"
    if _searches(model):
        return f"model {model}"
    return None if _MARKS.isdisjoint(seen.words) else next(_kept_in(body), None)


def field_in(description: str) -> str | None:
    """Return a field that leans on a provider's state and is set in a description, JSON or Python's, or None.

    A description is a text, so a field of any depth counts: what passes by needlessly is only asked again.
    """
    found = _SET_FIELD.search(description)
    return None if found is None else found[1]


@lru_cache(maxsize=256)
def _searches(model: str) -> bool:
    return any(word in model for word in _MODEL_WORDS)


def _is_set(value: object) -> bool:
    return bool(value) or value == {}  # options that are all left at their defaults


def _tools(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for holder in (body, body.get("toolConfig")):  # the second is Bedrock's
        tools = holder.get("tools") if isinstance(holder, dict) else None
        if isinstance(tools, list):
            yield from (tool for tool in tools if isinstance(tool, dict))


def is_remote(tool: Mapping[str, Any]) -> bool:
    """Tell whether a tool is one that the provider runs itself."""
    kind = tool.get("type")
    if isinstance(kind, str):
        return kind not in _LOCAL_TOOLS and any(word in kind.lower() for word in _TOOL_WORDS)
    if tool.keys() & _LOCAL_MARKS:
        return False
    return not tool.keys() <= _LOCAL_FIELDS  # Google lets one object hold several tools


def _title(tool: Mapping[str, Any]) -> str:
    kind = tool.get("type")
    return kind if isinstance(kind, str) else next(iter(tool), "")


def _kept_in(value: object) -> Iterator[str]:
    """Yield the names of fields, at any depth, that name something kept at the provider."""
    if isinstance(value, dict):
        if value.get("type") == "item_reference":
            yield "item_reference"
        yield from (name for name, item in value.items() if _is_reference(name, item))
        for item in value.values():
            yield from _kept_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from _kept_in(item)


def _is_reference(name: str, item: object) -> bool:
    if name == "audio":  # what the model said in an earlier turn
        return isinstance(item, dict) and isinstance(item.get("id"), str)
    if name not in _FILE_FIELDS or not item:
        return False
    # A tool may have a parameter called file_id: its description is an object and names no file.
    return isinstance(item, (str, list)) or (
        isinstance(item, dict) and name == "s3Location" and "uri" in item
    )
