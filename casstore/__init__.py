"""casstore: a content-addressed object store with sync, and a shared cache for LLM calls on top of it.

Names are loaded when they are first used, so that ``import casstore`` costs next to nothing.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

try:
    # Every store locks files, which only POSIX systems do in this way.
    import fcntl  # noqa: F401 - a store's first lock would fail with a worse message
except ImportError:
    raise ImportError(
        f"casstore runs on Linux and macOS, and this Python is for {sys.platform};"
        " on Windows, install and run it in WSL (wsl --install)"
    ) from None

if TYPE_CHECKING:
    from casstore.errors import (
        BackendError,
        CasstoreError,
        ConfigError,
        ExistsError,
        FormatError,
        IntegrityError,
        NotEnoughCopiesError,
        NotFoundError,
        OfflineMissError,
        RemoteGoneError,
    )
    from casstore.inference.adapters.anthropic import AnthropicClient, AsyncAnthropicClient
    from casstore.inference.adapters.bedrock import AsyncBedrockClient, BedrockClient
    from casstore.inference.adapters.openai import AsyncOpenAIClient, OpenAIClient
    from casstore.inference.asynchronous import AsyncCachedClient
    from casstore.inference.cache import Cache
    from casstore.inference.canonical import CanonicalError
    from casstore.inference.clients import CachedClient
    from casstore.inference.http.patching import install, installed, uninstall
    from casstore.inference.http.sdks import cached, transport
    from casstore.inference.policy import Mode
    from casstore.inference.savings import Savings
    from casstore.inference.types import (
        AsyncClient,
        Chunk,
        Client,
        Message,
        Original,
        Request,
        Response,
        TruncatedError,
        Usage,
    )
    from casstore.repo.repository import Repository

__version__ = "0.1.0"

__all__ = [
    "AnthropicClient",
    "AsyncAnthropicClient",
    "AsyncBedrockClient",
    "AsyncCachedClient",
    "AsyncClient",
    "AsyncOpenAIClient",
    "BackendError",
    "BedrockClient",
    "Cache",
    "CachedClient",
    "CanonicalError",
    "CasstoreError",
    "Chunk",
    "Client",
    "ConfigError",
    "ExistsError",
    "FormatError",
    "IntegrityError",
    "Message",
    "Mode",
    "NotEnoughCopiesError",
    "NotFoundError",
    "OfflineMissError",
    "OpenAIClient",
    "Original",
    "RemoteGoneError",
    "Repository",
    "Request",
    "Response",
    "Savings",
    "TruncatedError",
    "Usage",
    "cached",
    "install",
    "installed",
    "transport",
    "uninstall",
]

_NAMES = {
    "errors": (
        "BackendError",
        "CasstoreError",
        "ConfigError",
        "ExistsError",
        "FormatError",
        "IntegrityError",
        "NotEnoughCopiesError",
        "NotFoundError",
        "OfflineMissError",
        "RemoteGoneError",
    ),
    "inference.adapters.anthropic": ("AnthropicClient", "AsyncAnthropicClient"),
    "inference.adapters.bedrock": ("AsyncBedrockClient", "BedrockClient"),
    "inference.adapters.openai": ("AsyncOpenAIClient", "OpenAIClient"),
    "inference.asynchronous": ("AsyncCachedClient",),
    "inference.cache": ("Cache",),
    "inference.canonical": ("CanonicalError",),
    "inference.clients": ("CachedClient",),
    "inference.http.patching": ("install", "installed", "uninstall"),
    "inference.http.sdks": ("cached", "transport"),
    "inference.policy": ("Mode",),
    "inference.savings": ("Savings",),
    "inference.types": (
        "AsyncClient",
        "Chunk",
        "Client",
        "Message",
        "Original",
        "Request",
        "Response",
        "TruncatedError",
        "Usage",
    ),
    "repo.repository": ("Repository",),
}

_HOMES = {name: f"{__name__}.{module}" for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
