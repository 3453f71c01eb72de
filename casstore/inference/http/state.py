"""Whether a request leans on what a provider holds or does besides the model; pure.

Such an answer may be another one tomorrow though the request is the same: an earlier conversation, an
uploaded file, a search of the web, code that is run. It is not stored unless the cache's ``keep`` says so.
Knows bodies, and nothing of keys.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from casstore.inference.http.survey import Survey

_FIELDS: Final[Mapping[str, str]] = {
    "previous_response_id": "state",
    "previous_interaction_id": "state",
    "agent_id": "state",
    "conversation": "state",
    "conversation_id": "state",
    "container": "code",
    "mcp_servers": "mcp",
    "connectors": "search",  # Cohere's, which search the web or a company's documents
    "web_search_options": "search",
    "search_parameters": "search",
    "search_settings": "search",
    "compound_custom": "search",
    "plugins": "search",
    "data_sources": "search",
    "cachedContent": "files",
    "cached_content": "files",
}
"""Top-level fields that lean on state wherever they are set, and the reason each stands for."""

_FIELD_NAMES: Final = frozenset(_FIELDS)

_TOOL_WORDS: Final[tuple[tuple[str, str], ...]] = (
    ("filesearch", "files"),
    ("documentlibrary", "files"),
    ("collections", "files"),
    ("retrieval", "files"),
    ("codeexecution", "code"),
    ("codeinterpreter", "code"),
    ("shell", "code"),
    ("imagegeneration", "images"),
    ("mcp", "mcp"),
    ("connector", "mcp"),
    ("browser", "search"),
    ("grounding", "search"),
    ("maps", "search"),
    ("search", "search"),
    ("urlcontext", "search"),
    ("visitwebsite", "search"),
    ("webfetch", "search"),
)
"""Words in the names of tools that a provider runs itself, without underscores; the first one counts."""

_GRAPH: Final = "graph"
"""The type of Writer's tool over documents that were uploaded."""

_LOCAL_TOOLS: Final = ("function", "custom", "local_shell")
"""Types of tools that the program runs."""

_TOOL_SEARCH: Final = "tool_search"
"""How types begin of tools that search the request's own list of tools: all they read is in the key."""

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

_MODEL_WORDS: Final[tuple[tuple[str, str], ...]] = (
    ("-search-", "search"),
    ("-search", "search"),
    (":online", "search"),
    ("compound", "search"),
    ("sonar", "search"),
    ("deep-research", "search"),
    (":prompt%2F", "state"),
)
"""Parts of the names of models that search by themselves, and of Bedrock's prompts, which are kept there."""


@dataclass(frozen=True, slots=True)
class Leaning:
    """A part of a request that leans on a provider's state.

    Attributes:
        reason: A word of `casstore.inference.reasons.KEEP`.
        what: The part, for a person.
        overruled: Whether ``keep`` may overrule it: the reply to a request in the background is no answer.
    """

    reason: str
    what: str
    overruled: bool = True


def leans_on(
    body: Mapping[str, Any],
    seen: Survey,
    model: str,
    *,
    keep: Collection[str] = (),
    runs: bool = True,
) -> Leaning | None:
    """Return which part of a request leans on a provider's state; None where none does.

    Args:
        body: The parsed body.
        seen: What there is in it, or in more than it.
        model: The model asked for.
        keep: Reasons that are overruled.
        runs: Whether the model runs: a count of tokens and a vector use no tool.
    """
    for found in _leanings(body, seen, model, runs=runs):
        if found.reason not in keep or not found.overruled:
            return found
    return None


def _leanings(body: Mapping[str, Any], seen: Survey, model: str, *, runs: bool) -> Iterator[Leaning]:
    if body.get("background") is True:  # of an image it is a colour
        yield Leaning("state", "background", overruled=False)
    for name in sorted(_FIELD_NAMES.intersection(body)):
        if _is_set(body[name]):
            yield Leaning(_FIELDS[name], name)
    if isinstance(body.get("prompt"), dict):  # a prompt kept at the provider
        yield Leaning("state", "prompt")
    if runs and "tools" in seen.words:
        for tool in _tools(body):
            yield from remote_in(tool)
    reason = _model_reason(model) if runs else None
    if reason is not None:
        yield Leaning(reason, f"model {model}")
    if not _MARKS.isdisjoint(seen.words):
        yield from _kept_in(body)


def field_in(description: str, keep: Collection[str] = ()) -> Leaning | None:
    """Return a field that leans on a provider's state and is set in a description, JSON or Python's, or None.

    A description is a text, so a field of any depth counts: what passes by needlessly is only asked again.

    Args:
        description: The settings of a model.
        keep: Reasons that are overruled.
    """
    for found in _SET_FIELD.finditer(description):
        leaning = _leaning_of(found[1])
        if leaning.reason not in keep or not leaning.overruled:
            return leaning
    return None


def _leaning_of(name: str) -> Leaning:
    if name == "background":
        return Leaning("state", name, overruled=False)
    return Leaning(_FIELDS.get(name) or ("files" if name in _FILE_FIELDS else _reason_of_tool(name)), name)


@lru_cache(maxsize=256)
def _model_reason(model: str) -> str | None:
    return next((reason for word, reason in _MODEL_WORDS if word in model), None)


def _is_set(value: object) -> bool:
    return bool(value) or value == {}  # options that are all left at their defaults


def _tools(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for holder in (body, body.get("toolConfig")):  # the second is Bedrock's
        tools = holder.get("tools") if isinstance(holder, dict) else None
        if isinstance(tools, list):
            yield from (tool for tool in tools if isinstance(tool, dict))


def remote_in(tool: Mapping[str, Any]) -> Iterator[Leaning]:
    """Yield what a tool, or an object that holds several, has the provider run."""
    kind = tool.get("type")
    if isinstance(kind, str):
        if _is_remote(kind, tool):
            yield Leaning(_reason_of_tool(kind), f"tool {kind}")
    elif not tool.keys() & _LOCAL_MARKS:
        for name in tool.keys() - _LOCAL_FIELDS:  # Google lets one object hold several tools
            yield _system_tool(name, tool[name])


def _is_remote(kind: str, tool: Mapping[str, Any]) -> bool:
    if kind in _LOCAL_TOOLS or kind.startswith(_TOOL_SEARCH):
        return False
    if kind == "shell":  # OpenAI's runs where its environment says
        environment = tool.get("environment")
        return not (isinstance(environment, dict) and environment.get("type") == "local")
    return kind == _GRAPH or _reason_of_tool(kind) != "tools"


def _system_tool(name: str, value: object) -> Leaning:
    named = value.get("name") if name == "systemTool" and isinstance(value, dict) else None  # Bedrock's
    return Leaning(_reason_of_tool(named if isinstance(named, str) else name), f"tool {named or name}")


@lru_cache(maxsize=256)
def _reason_of_tool(kind: str) -> str:
    plain = kind.lower().replace("_", "").replace("-", "")
    if plain == _GRAPH:
        return "files"
    return next((reason for word, reason in _TOOL_WORDS if word in plain), "tools")


def _kept_in(value: object) -> Iterator[Leaning]:
    """Yield the fields, at any depth, that name something kept at the provider."""
    if isinstance(value, dict):
        if value.get("type") == "item_reference":
            yield Leaning("state", "item_reference")
        for name, item in value.items():
            if _is_reference(name, item):
                yield Leaning("state" if name == "audio" else "files", name)
            yield from _kept_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from _kept_in(item)


def _is_reference(name: str, item: object) -> bool:
    if name == "audio":  # what the model said in an earlier turn
        return isinstance(item, dict) and isinstance(item.get("id"), str) and item["id"] != ""
    if name not in _FILE_FIELDS or not item:
        return False
    # A tool may have a parameter called file_id: its description is an object and names no file.
    return isinstance(item, (str, list)) or (
        isinstance(item, dict) and name == "s3Location" and "uri" in item
    )
