"""Where a call of litellm or DSPy goes, if it does not say so itself; pure but for the environment.

Floor: inference. Both take base URLs from the environment and leave them out of their keys; two servers that
serve one model name would share answers. This module knows names of variables, and no SDK.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from casstore.inference.http.endpoints import alias_of
from casstore.inference.http.exchange import join_host

_NO_ALIASES: Final[Mapping[str, str]] = {}

_HOSTS: Final[Mapping[str, str]] = {
    "openai": "api.openai.com",
    "anthropic": "api.anthropic.com",
    "gemini": "generativelanguage.googleapis.com",
    "mistral": "api.mistral.ai",
    "groq": "api.groq.com",
    "deepseek": "api.deepseek.com",
    "xai": "api.x.ai",
    "openrouter": "openrouter.ai",
}
"""By provider, the host that answers where nothing says otherwise; for prices and labels."""

_REGIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "bedrock": ("AWS_REGION_NAME", "AWS_REGION", "AWS_DEFAULT_REGION"),
    "vertex_ai": ("VERTEXAI_PROJECT", "VERTEXAI_LOCATION"),
    "azure": ("AZURE_API_VERSION",),
}
"""By provider, what else of the environment chooses who answers."""


def provider_in(model: str, named: object = None) -> str:
    """Return the provider that the caller or a model's name tells; OpenAI's models need not tell it."""
    if isinstance(named, str) and named:
        return named
    return model.partition("/")[0] if "/" in model else "openai"


def address_of(
    provider: str, arguments: Mapping[str, Any], aliases: Mapping[str, str] = _NO_ALIASES
) -> dict[str, str]:
    """Return what chooses who answers a call, from its arguments or else from the environment.

    Args:
        provider: The provider's name.
        arguments: The arguments of the call.
        aliases: Hosts, or patterns of hosts, to be taken for another host.
    """
    given = arguments.get("api_base") or arguments.get("base_url")
    name = provider.upper().replace("-", "_")
    bases = () if isinstance(given, str) and given else (f"{name}_BASE_URL", f"{name}_API_BASE")
    variables = (*bases, *_REGIONS.get(provider, ()))
    found = {variable: os.environ[variable] for variable in variables if os.environ.get(variable)}
    if not bases:
        found["base"] = str(given)
    return {variable: _aliased(without_credentials(value), aliases) for variable, value in found.items()}


def _aliased(url: str, aliases: Mapping[str, str]) -> str:
    parts = urlsplit(url)
    if not aliases or not parts.netloc:
        return url
    host = join_host(parts.scheme, parts.hostname or "", parts.port)
    return parts._replace(netloc=alias_of(host, aliases)).geturl()


def without_credentials(url: str) -> str:
    """Return a URL without the user, password and query that may stand in it; other text as it is."""
    parts = urlsplit(url)
    if not parts.scheme or not parts.netloc:
        return url
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl().rstrip("/")


def host_of(provider: str, address: Mapping[str, str], aliases: Mapping[str, str] = _NO_ALIASES) -> str:
    """Return the host that answers; empty where it is not known.

    Args:
        provider: The provider's name.
        address: What `address_of` gave for the same aliases.
        aliases: As for `address_of`.
    """
    for value in address.values():
        parts = urlsplit(value)
        if parts.netloc:
            return join_host(parts.scheme, parts.hostname or "", parts.port)
    return alias_of(_HOSTS.get(provider, ""), aliases)


def plain(value: Any) -> Any:
    """Return an argument as JSON, where it is a model of pydantic's or such a class; else as it is."""
    if isinstance(value, type) and hasattr(value, "model_json_schema"):
        return {"name": value.__name__, "schema": value.model_json_schema()}
    if hasattr(value, "model_dump"):
        return plain(value.model_dump(mode="json", exclude_none=True))
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value
