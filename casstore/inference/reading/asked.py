"""A request that a person has at hand, as one that a key can be made of.  Floor: inference.

Three forms are understood: an HTTP request as a JSON object with ``url``, the parameters of an SDK's call,
and a request as casstore stores it. What an SDK adds of its own is added here, too. It knows neither stores
nor answers.
"""

from __future__ import annotations

import binascii
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

from casstore.digest import Key
from casstore.errors import ConfigError
from casstore.inference.adapters.anthropic import own_version
from casstore.inference.canonical import canonical
from casstore.inference.http.endpoints import endpoint_at
from casstore.inference.http.exchange import HttpRequest
from casstore.inference.recorded import to_json
from casstore.inference.request import SCHEMA, key_of

STORED_KINDS: Final = ("http", "request", "call")
"""Kinds of requests that casstore stores."""

_VERSION: Final = "anthropic-version"

_VARIABLES: Final = {"openai": "OPENAI_BASE_URL", "anthropic": "ANTHROPIC_BASE_URL"}
"""Where SDKs find a base URL that the program does not give."""

_FOR_THE_SDK: Final = frozenset({"extra_headers", "extra_query", "extra_body", "timeout"})
"""Parameters of SDKs that are no fields of the body."""

_HTTP: Final = "https:// or http:// and a host"

_IMAGES: Final = ("dall-e", "gpt-image", "chatgpt-image")


@dataclass(frozen=True, slots=True)
class StoredForm:
    """A request as casstore stores it.

    Attributes:
        key: Its key.
        value: The material of the key.
    """

    key: Key
    value: Mapping[str, Any] = field(repr=False)


def read_request(
    value: Mapping[str, Any], provider: str | None = None, url: str | None = None
) -> HttpRequest | StoredForm:
    """Return the request that a JSON object tells of.

    Args:
        value: ``{"method", "url", "headers", "body"}``, where ``body`` is JSON, or text, and may also be
            ``body_base64``; a stored request, which has ``casstore`` and ``kind``; or, where `provider` or
            `url` is given, the parameters of an SDK's call.
        provider: A key of `PROVIDERS`.
        url: The base URL that the SDK was given, or the URL of the endpoint.

    Raises:
        ConfigError: It is none of these.
    """
    if "casstore" in value and "kind" in value:
        return _stored(value)
    if provider is None and url is None:
        if "url" not in value and "uri" not in value:
            raise ConfigError(
                "no request: one over HTTP has a url; for the parameters of an SDK's call, name the provider"
            )
        return _over_http(value)
    return _of_sdk(value, provider or "openai", url)


def _stored(value: Mapping[str, Any]) -> StoredForm:
    if value["casstore"] != SCHEMA or value["kind"] not in STORED_KINDS:
        raise ConfigError(f"a stored request of a kind that is not known: {str(value['kind'])[:40]!r}")
    return StoredForm(key_of(canonical(value)), value)


def _over_http(value: Mapping[str, Any]) -> HttpRequest:
    url = value.get("url", value.get("uri"))
    if not isinstance(url, str) or not _is_http(url):
        raise ConfigError(f"the url of a request begins with {_HTTP}")
    return HttpRequest.of(str(value.get("method", "POST")), url, _headers(value.get("headers")), _body(value))


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname)


def _headers(given: object) -> list[tuple[str, str]]:
    """Return headers given as an object of texts, or of lists of texts."""
    if given is None:
        return []
    if not isinstance(given, Mapping):
        raise ConfigError("headers are an object: names and values")
    found: list[tuple[str, str]] = []
    for name, told in given.items():
        values = told if isinstance(told, list) else [told]
        found += [(str(name), str(each)) for each in values if each is not None]
    return found


def _body(value: Mapping[str, Any]) -> bytes:
    if "body_base64" in value:
        try:
            return binascii.a2b_base64(str(value["body_base64"]), strict_mode=True)
        except ValueError as error:
            raise ConfigError(f"body_base64 is no base64: {error}") from error
    body = value.get("body")
    if body is None:
        return b""
    return body.encode("utf-8", "surrogatepass") if isinstance(body, str) else to_json(body)


# The parameters of SDKs.

Fields = dict[str, Any]
Place = Callable[[Fields], str]


def _openai(fields: Fields) -> str:
    """Return the path for a call of OpenAI's SDK, told by its parameters."""
    model = str(fields.get("model", ""))
    if "messages" in fields:
        return "/chat/completions"
    if "prompt" in fields:
        return "/images/generations" if model.startswith(_IMAGES) else "/completions"
    if "voice" in fields:
        return "/audio/speech"
    if "embed" in model or "dimensions" in fields or "encoding_format" in fields:
        fields.setdefault("encoding_format", "base64")  # as the SDK does
        return "/embeddings"
    return "/responses"


def _bedrock(fields: Fields) -> str:
    return f"/model/{quote(str(fields.pop('modelId', '')), safe='')}/converse"


def _google(fields: Fields) -> str:
    """Return the path for a body as google-genai sends it, with the model beside it.

    What its calls take is another thing: texts become contents, and a ``config`` is spread over the body.
    """
    contents = fields.get("contents", [])
    if "config" in fields or not isinstance(contents, list) or not all(map(_is_content, contents)):
        raise ConfigError(
            "google-genai rewrites what it is called with: give what it sends, as Google's REST API takes it "
            '({"model": …, "contents": [{"role": "user", "parts": [{"text": …}]}], "generationConfig": {…}})'
        )
    model = str(fields.pop("model", "")).removeprefix("models/")
    action = next((word for name, word in _GOOGLE.items() if name in fields), "embedContent")
    return f"/models/{quote(model)}:{action}"


def _is_content(value: object) -> bool:
    return isinstance(value, Mapping) and "parts" in value


_GOOGLE: Final = {"contents": "generateContent", "requests": "batchEmbedContents"}


def _mistral(fields: Fields) -> str:
    """Return the path for a call of Mistral's SDK, which says so where no stream is asked for."""
    if "inputs" in fields:
        fields["input"] = fields.pop("inputs")
        return "/embeddings"
    fields.setdefault("stream", False)
    return "/chat/completions" if "messages" in fields else "/fim/completions"


def _cohere(fields: Fields) -> str:
    return "/v2/chat" if "messages" in fields else "/v2/embed"


def _ollama(fields: Fields) -> str:
    if "messages" in fields:
        return "/api/chat"
    return "/api/embed" if "input" in fields else "/api/generate"


def _anthropic(_fields: Fields) -> str:
    return "/v1/messages"


PROVIDERS: Final[Mapping[str, tuple[str, Place]]] = {
    "openai": ("https://api.openai.com/v1", _openai),
    "anthropic": ("https://api.anthropic.com", _anthropic),
    "google": ("", _google),  # its SDK's versions ask for different versions of the API
    "mistral": ("https://api.mistral.ai/v1", _mistral),
    "groq": ("https://api.groq.com/openai/v1", _openai),
    "openrouter": ("https://openrouter.ai/api/v1", _openai),
    "deepseek": ("https://api.deepseek.com/v1", _openai),
    "xai": ("https://api.x.ai/v1", _openai),
    "cohere": ("https://api.cohere.com", _cohere),
    "ollama": ("http://localhost:11434", _ollama),
    "azure": ("", _openai),
    "bedrock": ("", _bedrock),
}
"""Of each provider whose calls are understood, the base URL of its SDK, and how a call's path is found."""


def _of_sdk(value: Mapping[str, Any], provider: str, url: str | None) -> HttpRequest:
    if provider not in PROVIDERS:
        raise ConfigError(f"no such provider: {provider!r}; choose one of {', '.join(PROVIDERS)}")
    base, place = PROVIDERS[provider]
    fields = {name: item for name, item in value.items() if name not in _FOR_THE_SDK}
    fields.update(value.get("extra_body") or {})
    headers = {name.lower(): text for name, text in _headers(value.get("extra_headers"))}
    if provider == "anthropic":
        _add_version(fields, headers)
    path, query = place(fields), value.get("extra_query") or {}
    base = url or os.environ.get(_VARIABLES.get(provider, ""), base)
    if not base:
        like = ", like https://generativelanguage.googleapis.com/v1" if provider == "google" else ""
        raise ConfigError(f"{provider} has no URL that all use: give the one your client has (--url{like})")
    if not _is_http(base):
        raise ConfigError(f"the URL of {provider} begins with {_HTTP}")
    return HttpRequest.of("POST", _joined(base, path, query), headers, to_json(fields))


def _add_version(fields: Fields, headers: dict[str, str]) -> None:
    """Add what Anthropic's SDK adds: the version it asks for, which the installed one tells, and betas."""
    if _VERSION not in headers:
        headers[_VERSION] = own_version()
    betas = fields.pop("betas", None)
    if betas:
        headers["anthropic-beta"] = ",".join(map(str, betas))


def _joined(base: str, path: str, query: Mapping[str, Any]) -> str:
    parts = urlsplit(base)
    known = endpoint_at(parts.path) is not None
    whole = parts.path if known else parts.path.rstrip("/") + path
    asked = "&".join(filter(None, [parts.query, urlencode(query, doseq=True)]))
    return parts._replace(path=whole, query=asked).geturl()


def parse_request(text: bytes) -> Mapping[str, Any]:
    """Return the JSON object in a file.

    Raises:
        ConfigError: There is none.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"a request is one JSON object, and this is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise ConfigError("a request is one JSON object")
    return value
