"""Which provider and which endpoint a request is for; pure.  Floor: inference.

An endpoint is known by the end of its path, since base URLs differ. What is no known endpoint is never
stored: most other requests change something at the provider. This module knows no bodies but a field or two.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, Final, Literal

from casstore.errors import ConfigError

Streams = Literal["no", "field", "default", "always"]
"""Whether an endpoint streams: never, where ``stream`` is true, unless ``stream`` is false, or always."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What is asked of a provider.

    Attributes:
        wire: The form of body and reply: a name that `casstore.inference.http.replies` reads.
        streams: When it streams.
        runs: Whether a model runs, and with it the tools of a request: not where tokens are counted.
    """

    wire: str
    streams: Streams = "no"
    runs: bool = True


_CHAT = Endpoint("chat", "field")
_MESSAGES = Endpoint("messages", "field")
_ANY = Endpoint("any", runs=False)
_VECTORS = Endpoint("vectors", runs=False)

ENDPOINTS: Final[Mapping[str, Endpoint]] = {
    "chat/completions": _CHAT,
    "fim/completions": _CHAT,
    "completions": Endpoint("completions", "field"),
    "responses": Endpoint("responses", "field"),
    "responses/compact": Endpoint("responses"),
    "responses/input_tokens": _ANY,
    "embeddings": _VECTORS,
    "moderations": _ANY,
    "images/generations": Endpoint("images", "field"),
    "images/edits": Endpoint("images", "field"),
    "audio/speech": Endpoint("speech"),
    "audio/transcriptions": Endpoint("transcript", "field"),
    "audio/translations": Endpoint("transcript", "field"),
    "v1/messages": _MESSAGES,
    "v1/complete": Endpoint("complete", "field"),
    "messages/count_tokens": _ANY,
    ":generateContent": Endpoint("gemini"),
    ":streamGenerateContent": Endpoint("gemini", "always"),
    ":embedContent": _VECTORS,
    ":batchEmbedContents": _VECTORS,
    ":countTokens": _ANY,
    ":rawPredict": _MESSAGES,
    ":streamRawPredict": Endpoint("messages", "always"),
    "model/converse": Endpoint("converse"),
    "model/converse-stream": Endpoint("converse", "always"),
    "model/invoke": Endpoint("invoke"),
    "model/invoke-with-response-stream": Endpoint("invoke", "always"),
    "model/count-tokens": _ANY,
    "v1/chat": Endpoint("chat v1", "field"),
    "v2/chat": Endpoint("cohere", "field"),
    "v1/embed": _VECTORS,
    "v2/embed": _VECTORS,
    "v1/rerank": _ANY,
    "v2/rerank": _ANY,
    "api/chat": Endpoint("ollama", "default"),
    "api/generate": Endpoint("ollama", "default"),
    "api/embed": _VECTORS,
    "api/embeddings": _VECTORS,
}
"""By the end of a path: its last segment, its last two, a colon and an action, or Bedrock's action."""

_HOSTS: Final[Mapping[str, str]] = {
    "api.openai.com": "openai",
    "eu.api.openai.com": "openai",
    "us.api.openai.com": "openai",
    "api.anthropic.com": "anthropic",
    "generativelanguage.googleapis.com": "google",
    "aiplatform.googleapis.com": "google-vertex",
    "api.mistral.ai": "mistral",
    "codestral.mistral.ai": "mistral",
    "api.groq.com": "groq",
    "api.cohere.com": "cohere",
    "api.cohere.ai": "cohere",
    "openrouter.ai": "openrouter",
    "api.deepseek.com": "deepseek",
    "api.x.ai": "xai",
    "api.together.xyz": "together",
    "api.together.ai": "together",
    "api.fireworks.ai": "fireworks",
    "api.cerebras.ai": "cerebras",
    "api.perplexity.ai": "perplexity",
    "router.huggingface.co": "huggingface",
    "api.voyageai.com": "voyage",
    "api.writer.com": "writer",
}

_HOST_PATTERNS: Final = (
    ("*.openai.azure.com", "azure"),
    ("*.services.ai.azure.com", "azure"),
    ("*.cognitiveservices.azure.com", "azure"),
    ("bedrock-runtime*.amazonaws.com", "bedrock"),
    ("bedrock-runtime*.amazonaws.com.cn", "bedrock"),
    ("*-aiplatform.googleapis.com", "google-vertex"),
    ("*.snowflakecomputing.com", "snowflake"),
)

KNOWN_HOSTS: Final = (*_HOSTS, *(pattern for pattern, _ in _HOST_PATTERNS))
"""Hosts, and patterns of hosts, of providers that `casstore.install` answers for."""

AZURE_RESOURCES: Final[Mapping[str, str]] = {"*.openai.azure.com": "azure"}
"""For `Cache(aliases=...)`: all Azure resources are one, where deployments of one name hold one model."""

BEDROCK_REGIONS: Final[Mapping[str, str]] = {"bedrock-runtime.*.amazonaws.com": "bedrock"}
"""For `Cache(aliases=...)`: all Bedrock regions are one."""

_FAMILIES: Final[Mapping[str, str]] = {
    "messages": "anthropic",
    "gemini": "google",
    "converse": "bedrock",
    "invoke": "bedrock",
    "cohere": "cohere",
    "chat v1": "cohere",
    "complete": "anthropic",
    "ollama": "ollama",
}

_MODEL_IN_PATH = re.compile(r"/(?:models?|deployments)/([^/]+?)(?::[A-Za-z]+)?(?:/|$)")


@lru_cache(maxsize=256)
def known_endpoint(path: str) -> Endpoint | None:
    """Return the endpoint at `path`; None where there is none whose replies may be stored."""
    return ENDPOINTS.get(ending(path)[0]) or ENDPOINTS.get(ending(path)[1])


def ending(path: str) -> tuple[str, str]:
    """Return the two ends of `path` that may name an endpoint, the longer one first."""
    segments = path.rstrip("/").split("/")
    last = segments[-1]
    if ":" in last and not last.startswith(":"):
        return ":" + last.rpartition(":")[2], ""
    if segments[1:2] == ["model"] or "model" in segments[-3:-2]:
        return f"model/{last}", ""
    return "/".join(segments[-2:]), last


def endpoint_at(path: str, more: Mapping[str, str] | None = None) -> Endpoint | None:
    """Return the endpoint at `path`, those that the user named included.

    Args:
        path: The path of a request.
        more: Ends of paths, and the endpoint (a key of `ENDPOINTS` or a wire) that each is like.
    """
    if more:
        end = max(filter(path.endswith, more), key=len, default=None)
        if end is not None:
            return like(more[end])
    return known_endpoint(path)


def like(name: str) -> Endpoint | None:
    """Return the endpoint called `name`: an end of a path (``chat/completions``) or a wire (``chat``)."""
    return ENDPOINTS.get(name) or next((each for each in ENDPOINTS.values() if each.wire == name), None)


def endpoints_of(given: Mapping[str, str]) -> dict[str, str]:
    """Return ends of paths, each with the endpoint that it is like, checked.

    Raises:
        ConfigError: There is no such endpoint.
    """
    for end, name in given.items():
        if not end.strip("/"):
            raise ConfigError(f"endpoints: {end!r} is no end of a path")
        if like(name) is None:
            wires = sorted({each.wire for each in ENDPOINTS.values()})
            raise ConfigError(f"endpoints: no such endpoint: {name!r}; there are {', '.join(wires)}")
    return dict(given)


def streaming(endpoint: Endpoint, body: object) -> bool:
    """Tell whether a request asks for a stream."""
    asked = body.get("stream") if isinstance(body, dict) else None
    if endpoint.streams == "field":
        return bool(asked)
    return endpoint.streams == "always" or (endpoint.streams == "default" and asked is not False)


def provider_of(host: str, wire: str) -> str:
    """Return the name of who answers at `host`; of an unknown host, that of the wire's inventor."""
    return _known_provider(host) or _FAMILIES.get(wire, "openai")


@lru_cache(maxsize=256)
def _known_provider(host: str) -> str | None:
    found = _HOSTS.get(host)
    if found is not None:
        return found
    return next((name for pattern, name in _HOST_PATTERNS if fnmatchcase(host, pattern)), None)


def host_in(host: str, patterns: tuple[str, ...]) -> bool:
    """Tell whether `host` is among hosts and patterns of hosts."""
    return host in patterns or _matches(host, patterns)


@lru_cache(maxsize=256)
def _matches(host: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(host, pattern) for pattern in patterns)


def alias_of(host: str, aliases: Mapping[str, str]) -> str:
    """Return the host that `host` is to be taken for; aliases may be patterns."""
    if host in aliases:
        return aliases[host]
    return next((name for pattern, name in aliases.items() if fnmatchcase(host, pattern)), host)


def model_of(path: str, body: object) -> str:
    """Return the model a request is for, from its body or its path; empty where neither tells."""
    named = body.get("model") if isinstance(body, dict) else None
    return named if isinstance(named, str) and named else _model_in(path)


@lru_cache(maxsize=256)
def _model_in(path: str) -> str:
    found = _MODEL_IN_PATH.search(path)
    return found[1] if found else ""


def volatile_family(wire: str, body: Mapping[str, Any]) -> str:
    """Return the name under which `casstore.inference.request.VOLATILE` lists a wire's volatile fields."""
    if wire == "invoke":
        return "anthropic" if "anthropic_version" in body else ""
    if wire == "chat v1":  # Writer's is OpenAI's chat, and has its fields
        return "openai" if "messages" in body else "cohere"
    return _FAMILIES.get(wire, "openai")
