"""The key of a call: the digest of its canonical request.  Floor: inference.

Two calls share an answer exactly when their key material is the same JSON value. The whole body counts, minus
the few fields named in `VOLATILE`: a parameter invented tomorrow is in the key by itself. This module decides
what is asked; it knows nothing of answers, stores or modes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from casstore.digest import Key, digest_of
from casstore.inference.canonical import canonical
from casstore.inference.types import Request

SCHEMA = 1
"""Version of the key material; raising it gives every request a new key."""

VOLATILE: Mapping[str, frozenset[str]] = {
    "openai": frozenset(
        {
            "metadata",
            "prompt_cache_key",
            "prompt_cache_options",
            "prompt_cache_retention",
            "safety_identifier",
            "store",
            "user",
        }
    ),
    "anthropic": frozenset({"metadata"}),
    "bedrock": frozenset({"requestMetadata"}),
    "google": frozenset({"labels"}),
}
"""By provider, top-level fields of a body that say who asks or what to log, and nothing of the answer."""

KEY_HEADERS = frozenset({"anthropic-beta", "anthropic-version", "openai-beta"})
"""The only headers in a key: those that choose a version of the service. The rest may hold credentials."""

_SECRET_WORDS = ("auth", "key", "password", "secret", "sig", "token")


def service_headers(headers: Mapping[str, object]) -> dict[str, str]:
    """Return those of `headers` that belong in a key, their names in lower case."""
    named = ((name.lower(), value) for name, value in headers.items())
    return {name: value for name, value in named if name in KEY_HEADERS and isinstance(value, str)}


def open_query(query: Mapping[str, object]) -> dict[str, object]:
    """Return those of the query parameters `query` whose names do not smell of credentials."""
    return {
        name: value
        for name, value in query.items()
        if not any(word in name.lower() for word in _SECRET_WORDS)
    }


def canonical_request(
    request: Request,
    *,
    namespace: str = "",
    sample: int = 0,
    tag: str = "",
    aliases: Mapping[str, str] | None = None,
) -> bytes:
    """Return the canonical bytes that stand for a call; `key_of` gives their digest.

    Args:
        request: What is asked.
        namespace: Keeps answers of different projects or experiments apart.
        sample: Which of several answers to one request: the n-th is an answer of its own.
        tag: Keeps calls apart, too; one that is empty is not in the key.
        aliases: Hosts to be taken for another host.

    Raises:
        CanonicalError: The request is no JSON; such a call has no key.
    """
    volatile = VOLATILE.get(request.provider)
    body = request.body
    if volatile and not volatile.isdisjoint(body):
        body = {name: value for name, value in body.items() if name not in volatile}
    host = aliases.get(request.host, request.host) if aliases else request.host
    material = {
        "casstore": SCHEMA,
        "kind": "request",
        "provider": request.provider,
        "host": host,
        "path": request.path,
        "query": open_query(request.query) if request.query else {},
        "headers": service_headers(request.headers) if request.headers else {},
        "model": request.model,
        "body": body,
        "namespace": namespace,
        "sample": sample,
    }
    if tag:
        material["tag"] = tag
    return canonical(material)


def canonical_call(
    function: str,
    version: str,
    arguments: Mapping[str, Any],
    *,
    namespace: str = "",
    sample: int = 0,
    tag: str = "",
) -> bytes:
    """Return the canonical bytes that stand for a call of a memoized function.

    Raises:
        CanonicalError: An argument is no JSON; such a call has no key.
    """
    return canonical(
        {
            "casstore": SCHEMA,
            "kind": "call",
            "function": function,
            "version": version,
            "arguments": dict(arguments),
            "namespace": namespace,
            "sample": sample,
        }
        | ({"tag": tag} if tag else {})
    )


def key_of(canonical_bytes: bytes) -> Key:
    """Return the key of a call: the SHA-256 of its canonical bytes."""
    return Key(digest_of(canonical_bytes))
