"""The forms in which a person has a request at hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from google import genai
from google.genai.types import HttpOptions
from mistralai.client import Mistral

from casstore.errors import ConfigError
from casstore.inference.http.exchange import HttpRequest
from casstore.inference.http.material import Material, material
from casstore.inference.reading.asked import StoredForm, parse_request, read_request
from tests.credentials import SECRET
from tests.inference.reading.asking import URL, asking

CHAT: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}


def key(request: object) -> str:
    """Return the key of a request."""
    if isinstance(request, StoredForm):
        return request.key
    assert isinstance(request, HttpRequest)
    found = material(request)
    assert isinstance(found, Material), found
    return found.key


class Sent(Exception):  # noqa: N818 — it carries what was sent, and is no error
    """What an SDK would have sent."""


def sent(make: Any, call: Any) -> HttpRequest:
    """Return what an SDK sends."""

    def handle(request: httpx2.Request) -> httpx2.Response:
        raised = HttpRequest.of(
            request.method, str(request.url), request.headers.multi_items(), request.content
        )
        raise Sent(raised)

    client = make(
        api_key=SECRET, max_retries=0, http_client=httpx2.Client(transport=httpx2.MockTransport(handle))
    )
    with client:
        try:
            call(client)
        except Exception as error:  # noqa: BLE001 — SDKs wrap what their transport raises in errors of their own
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, Sent):
                cause = cause.__cause__ or cause.__context__
            assert cause is not None
            found: HttpRequest = cause.args[0]
            return found
    raise AssertionError("nothing was sent")


def test_an_http_request_may_have_its_body_as_json_or_text() -> None:
    """The key is the one of the request itself."""
    headers = {"Content-Type": "application/json", "anthropic-beta": ["a", "b"]}
    as_json = read_request({"method": "post", "url": URL, "headers": headers, "body": CHAT})
    as_text = read_request({"url": URL, "headers": headers, "body": json.dumps(CHAT)})
    expected = asking(headers={"anthropic-beta": "a, b"})
    assert key(as_json) == key(as_text) == key(expected)


def test_a_stored_request_has_the_key_of_its_entry() -> None:
    """So what casstore show --json prints can be asked about."""
    found = material(asking())
    assert isinstance(found, Material)
    assert read_request(json.loads(found.canonical)) == StoredForm(found.key, json.loads(found.canonical))


def _mistral(*, api_key: str, http_client: httpx2.Client, **_: Any) -> Mistral:
    return Mistral(api_key=api_key, client=http_client)


def _google(*, api_key: str, http_client: httpx2.Client, **_: Any) -> genai.Client:
    return genai.Client(api_key=api_key, http_options=HttpOptions(httpx_client=http_client))


GENERATED: dict[str, Any] = {
    "model": "gemini-x",
    "contents": [{"role": "user", "parts": [{"text": "hello"}]}],
    "generationConfig": {"temperature": 0},
}
EMBEDDED: dict[str, Any] = {
    "model": "gemini-x",
    "requests": [{"model": "models/gemini-x", "content": {"role": "user", "parts": [{"text": "hello"}]}}],
}


@pytest.mark.parametrize(
    ("body", "call"),
    [
        (
            GENERATED,
            lambda c: c.models.generate_content(
                model="gemini-x", contents="hello", config={"temperature": 0}
            ),
        ),
        (EMBEDDED, lambda c: c.models.embed_content(model="gemini-x", contents="hello")),
    ],
)
def test_of_google_the_body_is_given_as_it_is_sent(body: dict[str, Any], call: Any) -> None:
    """With the model beside it; the SDK makes another thing of its parameters."""
    asked = sent(_google, call)
    version = asked.path.split("/")[1]
    url = f"https://generativelanguage.googleapis.com/{version}"
    assert key(read_request(body, "google", url)) == key(asked)


@pytest.mark.parametrize(
    ("make", "provider", "call", "parameters"),
    [
        (openai.OpenAI, "openai", lambda c: c.chat.completions.create(**CHAT), CHAT),
        (
            openai.OpenAI,
            "openai",
            lambda c: c.chat.completions.create(
                **CHAT, extra_body={"x": 1}, extra_query={"v": "2"}, timeout=3
            ),
            {**CHAT, "extra_body": {"x": 1}, "extra_query": {"v": "2"}, "timeout": 3},
        ),
        (
            openai.OpenAI,
            "openai",
            lambda c: c.responses.create(model="gpt-4o", input="hello"),
            {"model": "gpt-4o", "input": "hello"},
        ),
        (
            openai.OpenAI,
            "openai",
            lambda c: c.embeddings.create(model="text-embedding-3-small", input="hello"),
            {"model": "text-embedding-3-small", "input": "hello"},
        ),
        (
            anthropic.Anthropic,
            "anthropic",
            lambda c: c.messages.create(**CHAT, max_tokens=5),
            {**CHAT, "max_tokens": 5},
        ),
        (
            anthropic.Anthropic,
            "anthropic",
            lambda c: c.beta.messages.create(**CHAT, max_tokens=5, betas=["b1", "b2"]),
            {**CHAT, "max_tokens": 5, "betas": ["b1", "b2"]},
        ),
        (_mistral, "mistral", lambda c: c.chat.complete(**CHAT), CHAT),
        (
            _mistral,
            "mistral",
            lambda c: c.embeddings.create(model="mistral-embed", inputs=["hello"]),
            {"model": "mistral-embed", "inputs": ["hello"]},
        ),
    ],
)
def test_the_parameters_of_a_call_have_the_key_that_the_sdk_gives_it(
    make: Any, provider: str, call: Any, parameters: dict[str, Any]
) -> None:
    """With the real SDKs, which add headers, queries and fields of their own."""
    assert key(read_request(parameters, provider)) == key(sent(make, call))


@pytest.mark.parametrize(
    ("provider", "url", "parameters", "where"),
    [
        ("openai", "http://localhost:8000/v1", CHAT, "localhost:8000/v1/chat/completions"),
        ("openai", "http://localhost:8000/my/v1/responses", CHAT, "localhost:8000/my/v1/responses"),
        ("mistral", None, CHAT, "api.mistral.ai/v1/chat/completions"),
        ("cohere", None, CHAT, "api.cohere.com/v2/chat"),
        ("ollama", None, CHAT, "localhost:11434/api/chat"),
        (
            "google",
            "https://generativelanguage.googleapis.com/v1beta",
            {"model": "gemini-2.5-pro", "contents": []},
            "generativelanguage.googleapis.com/v1beta/models/gemini-2.5-pro:generateContent",
        ),
        (
            "bedrock",
            "https://bedrock-runtime.eu-west-1.amazonaws.com",
            {"modelId": "a.b:0", "messages": []},
            "bedrock-runtime.eu-west-1.amazonaws.com/model/a.b:0/converse",
        ),
    ],
)
def test_a_provider_has_its_own_paths(
    provider: str, url: str | None, parameters: dict[str, Any], where: str
) -> None:
    """Below the base URL that the SDK was given, or its own; a URL of an endpoint is taken as it is."""
    found = read_request(parameters, provider, url)
    assert isinstance(found, HttpRequest)
    assert found.host + found.path == where


@pytest.mark.parametrize(
    ("value", "provider", "told"),
    [
        (CHAT, None, "name the provider"),
        ({"url": "api.openai.com/v1"}, None, "begins with https://"),
        ({"url": "ftp://api.openai.com/v1"}, None, "begins with https://"),
        ({"url": "https://[::1"}, None, "begins with https://"),
        ({"url": URL, "headers": ["a"]}, None, "headers are an object"),
        ({"url": URL, "body_base64": "!"}, None, "no base64"),
        (CHAT, "nobody", "choose one of openai, anthropic"),
        (CHAT, "azure", "--url"),
        ({"model": "gemini-x", "contents": [{"parts": []}]}, "google", "--url, like https"),
        ({"model": "gemini-x", "contents": "hello"}, "google", "as Google's REST API takes it"),
        ({"model": "gemini-x", "contents": ["hello"]}, "google", "as Google's REST API takes it"),
        ({"model": "gemini-x", "contents": [], "config": {}}, "google", "as Google's REST API takes it"),
        ({"casstore": 9, "kind": "http"}, None, "not known"),
    ],
)
def test_what_is_no_request_is_told(value: dict[str, Any], provider: str | None, told: str) -> None:
    """With what to do."""
    with pytest.raises(ConfigError, match=told):
        read_request(value, provider)


@pytest.mark.parametrize("url", ["ftp://x", "x", "api.openai.com/v1", "https://", "https://[::1"])
def test_a_client_s_url_is_one_over_http(url: str) -> None:
    """No request goes anywhere else, so a key for another URL would be of no use."""
    with pytest.raises(ConfigError, match="begins with https:// or http:// and a host"):
        read_request(CHAT, "openai", url)


@pytest.mark.parametrize("text", [b"{", b"[]", b"[" * 100_000, b"\xff"])
def test_a_file_holds_one_json_object(text: bytes, tmp_path: Path) -> None:
    """Anything else is a clear error."""
    with pytest.raises(ConfigError, match="one JSON object"):
        parse_request(text)
