"""Whether a request leans on what a provider holds or does besides the model; pure.  Floor: inference.

Such an answer may be another one tomorrow though the request is the same: an earlier conversation, an
uploaded file, a search of the web, code that is run. It is not stored. Knows bodies, and nothing of keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

_FIELDS: Final = frozenset(
    {
        "previous_response_id",
        "previous_interaction_id",
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
    "code_execution",
    "code_interpreter",
    "codeexecution",
    "file_search",
    "filesearch",
    "googlemaps",
    "google_maps",
    "googlesearch",
    "google_search",
    "enterprisewebsearch",
    "mcp",
    "retrieval",
    "tool_search",
    "urlcontext",
    "url_context",
    "web_fetch",
    "web_search",
    "x_search",
    "browser_search",
    "image_generation",
    "connector",
    "shell",
)
"""Words in the names or types of tools that a provider runs itself."""

_LOCAL_TOOLS: Final = ("function", "custom", "local_shell")
"""Types of tools that the program runs."""

_FILE_FIELDS: Final = ("file_id", "fileId", "fileUri", "file_uri", "vector_store_ids", "s3Location", "gcsUri")
_FILE_MARKS: Final = tuple(f'"{name}"'.encode() for name in _FILE_FIELDS)

_MODEL_WORDS: Final = ("-search-", "-search", ":online", "compound", "sonar", "deep-research")
"""Parts of the names of models that search by themselves."""


def leans_on(body: Mapping[str, Any], raw: bytes, model: str) -> str | None:
    """Return which part of a request leans on a provider's state; None where none does.

    Args:
        body: The parsed body.
        raw: The same, as bytes.
        model: The model asked for.
    """
    leaning = [name for name in _FIELDS.intersection(body) if body[name]]
    if leaning or body.get("background") is True:  # of an image it is a colour
        return min(leaning, default="background")
    if isinstance(body.get("prompt"), dict):  # a prompt kept at the provider
        return "prompt"
    tool = next((tool for tool in _tools(body) if _is_remote(tool)), None)
    if tool is not None:
        return f"tool {_title(tool)}"
    if _searches(model):
        return f"model {model}"
    for mark in _FILE_MARKS:
        if mark in raw:
            return _file_in(body)
    return None


@lru_cache(maxsize=256)
def _searches(model: str) -> bool:
    return any(word in model for word in _MODEL_WORDS)


def _tools(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    tools = body.get("tools")
    if isinstance(tools, list):
        yield from (tool for tool in tools if isinstance(tool, dict))


def _is_remote(tool: Mapping[str, Any]) -> bool:
    kind = tool.get("type")
    if isinstance(kind, str):
        return kind not in _LOCAL_TOOLS and any(word in kind.lower() for word in _TOOL_WORDS)
    return any(word == name.lower() or name.lower().startswith(word) for name in tool for word in _TOOL_WORDS)


def _title(tool: Mapping[str, Any]) -> str:
    kind = tool.get("type")
    return kind if isinstance(kind, str) else next(iter(tool), "")


def _file_in(value: object) -> str | None:
    """Return the name of the first field, at any depth, that names a file kept elsewhere."""
    return next(_files_in(value), None)


def _files_in(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (name for name, item in value.items() if _is_reference(name, item))
        for item in value.values():
            yield from _files_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from _files_in(item)


def _is_reference(name: str, item: object) -> bool:
    if name not in _FILE_FIELDS or not item:
        return False
    # A tool may have a parameter called file_id: its description is an object and names no file.
    return isinstance(item, (str, list)) or (
        isinstance(item, dict) and name == "s3Location" and "uri" in item
    )
