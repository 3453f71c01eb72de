"""Which HTTP requests share a key, and which have none."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import pytest

from casstore.digest import Digest, digest_of
from casstore.inference.http.endpoints import AZURE_RESOURCES, BEDROCK_REGIONS
from casstore.inference.http.exchange import HttpRequest
from casstore.inference.http.holes import filled
from casstore.inference.http.material import Material, Passed, Rules, material
from casstore.inference.policy import Settings
from casstore.inference.reasons import keep_of
from tests.credentials import SECRET
from tests.inference.http.replies import CHAT, JSON

OPENAI = "https://api.openai.com/v1/chat/completions"
ANTHROPIC = "https://api.anthropic.com/v1/messages"
GEMINI = "https://generativelanguage.googleapis.com/v1beta/models/gemini-x:generateContent"
BEDROCK = "https://bedrock-runtime.us-east-1.amazonaws.com/model/vendor.model-v1%3A0/converse"
AZURE = "https://mine.openai.azure.com/openai/deployments/gpt/chat/completions?api-version=1"


def asked(
    url: str = OPENAI, body: Any = CHAT, headers: Mapping[str, str] | None = None, method: str = "POST"
) -> HttpRequest:
    """Return a request with a JSON body."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return HttpRequest.of(method, url, {"content-type": "application/json", **(headers or {})}, content)


def key(*arguments: Any, **more: Any) -> str:
    """Return a request's key."""
    found = material(asked(*arguments, **more))
    assert isinstance(found, Material), found
    return found.key


def told(request: HttpRequest, **rules: Any) -> JSON:
    """Return a request's material, parsed."""
    found = material(request, Rules(**rules))
    assert isinstance(found, Material), found
    assert str(digest_of(found.canonical)) == found.key
    value: JSON = json.loads(found.canonical)
    return value


def passed(request: HttpRequest, **rules: Any) -> str:
    """Return why a request passes by."""
    found = material(request, Rules(**rules))
    assert isinstance(found, Passed), found
    return found.reason


NEVER = {
    "authorization": f"Bearer {SECRET}",
    "api-key": SECRET,
    "x-api-key": SECRET,
    "x-goog-api-key": SECRET,
    "cookie": SECRET,
    "openai-organization": "org",
    "user-agent": "x/1",
    "x-stainless-retry-count": "2",
    "x-goog-api-client": "gl/1",
    "amz-sdk-request": "attempt=1",
    "x-amz-date": "20260101T000000Z",
    "traceparent": "00-1-2-3",
    "idempotency-key": "stainless-1",
    "accept-encoding": "gzip",
    "content-length": "12",
    "x-request-id": "7",
}


@pytest.mark.parametrize("name", NEVER)
def test_headers_that_say_who_asks_are_not_in_the_key(name: str) -> None:
    """Nor are those that say with what, when, or how often."""
    assert key(headers={name: NEVER[name]}) == key()


@pytest.mark.parametrize(
    ("url", "header"),
    [
        (ANTHROPIC, "anthropic-version"),
        (ANTHROPIC, "anthropic-beta"),
        (BEDROCK, "x-amzn-bedrock-guardrailidentifier"),
        (BEDROCK, "x-amzn-bedrock-guardrailversion"),
    ],
)
def test_headers_that_choose_a_service_are_in_the_key(url: str, header: str) -> None:
    """Another version, beta or guardrail may give another answer."""
    assert len({key(url), key(url, headers={header: "1"}), key(url, headers={header: "2"})}) == 3


def test_the_body_is_compared_as_json() -> None:
    """Order, blanks and escapes are no difference; a parameter nobody knows is one."""
    spelled = b'{ "messages":[{"content":"\\u0068ello","role":"user"}], "model":"gpt-4o" }'
    assert key(body=spelled) == key()
    assert key(body={**CHAT, "invented_tomorrow": 1}) != key()


def test_integers_are_compared_exactly() -> None:
    """Two integers that are one as doubles are two seeds."""
    assert key(body={**CHAT, "seed": 2**70}) != key(body={**CHAT, "seed": 2**70 + 1})


def test_volatile_fields_are_not_in_the_key() -> None:
    """They say who asks or what to log."""
    assert key(body={**CHAT, "user": "me", "metadata": {"run": 1}}) == key()


@pytest.mark.parametrize(
    "url",
    [
        "https://api.openai.com:8443/v1/chat/completions",
        "https://proxy.example/v1/chat/completions",
        "https://api.openai.com/v2/chat/completions",
        "https://api.openai.com/v1/chat/completions?api-version=2",
    ],
)
def test_host_port_path_and_query_are_in_the_key(url: str) -> None:
    """Two endpoints may serve one model's name."""
    assert key(url) != key()


def test_the_schemes_own_port_is_no_other() -> None:
    """It may stand in the URL or not."""
    assert key("https://api.openai.com:443/v1/chat/completions") == key()


@pytest.mark.parametrize(
    ("named", "host"),
    [
        ("model-a.example", "model-a.example"),
        ("Model-A.example:443", "model-a.example"),
        ("model-a.example:8080", "model-a.example:8080"),
        ("api.openai.com", "api.openai.com"),
        ("", "api.openai.com"),
        ("[::1", "[::1"),
    ],
)
def test_the_host_that_a_request_names_is_in_the_key(named: str, host: str) -> None:
    """One address may serve many: a gateway tells them apart by the header alone."""
    assert told(asked(headers={"Host": named}))["host"] == host


def test_bytes_that_are_no_text_do_not_become_one_character() -> None:
    """Two paths stay two; a query of that kind passes by."""
    assert key(OPENAI.replace("v1", "%FE")) != key(OPENAI.replace("v1", "%FF"))
    assert key(OPENAI.replace("v1", "%C3%A9")) == key(OPENAI.replace("v1", "é"))
    assert passed(asked(f"{OPENAI}?version=%FF")) == "json"


@pytest.mark.parametrize(
    "query",
    [f"key={SECRET}", f"api_key={SECRET}", "X-Amz-Credential=A", "X-Amz-Signature=B", "x-goog-signature=C"],
)
def test_a_credential_in_the_query_is_nowhere(query: str) -> None:
    """Gemini takes its key there, and signed URLs their signature."""
    request = asked(f"{GEMINI}?{query}", {"contents": []})
    assert told(request)["query"] == {}


def test_a_path_is_compared_unquoted() -> None:
    """One SDK quotes a colon, another does not; a quoted slash stays one."""
    other = BEDROCK.replace("%3A", ":")
    assert key(BEDROCK) == key(other)
    assert key(BEDROCK.replace("vendor.", "vendor%2F")) != key(BEDROCK.replace("vendor.", "vendor/"))


def test_the_model_in_the_path_is_told_to_the_ledger() -> None:
    """Gemini, Bedrock and Azure have it there."""
    models = []
    for url in (GEMINI, BEDROCK, AZURE):
        found = material(asked(url, {"contents": [], "messages": []}))
        assert isinstance(found, Material)
        models.append((found.subject.request.provider, found.subject.request.model))
    assert models == [("google", "gemini-x"), ("bedrock", "vendor.model-v1:0"), ("azure", "gpt")]


def test_aliases_make_resources_and_regions_one() -> None:
    """Where the user says that they are."""
    azure = [AZURE, AZURE.replace("mine", "yours")]
    bedrock = [BEDROCK, BEDROCK.replace("us-east-1", "eu-west-1")]
    for urls, aliases in ((azure, AZURE_RESOURCES), (bedrock, BEDROCK_REGIONS)):
        assert len({key(url) for url in urls}) == 2
        together = [material(asked(url), aliases=aliases) for url in urls]
        assert len({found.key for found in together if isinstance(found, Material)}) == 1


def test_settings_are_in_the_key() -> None:
    """Namespace, sample and tag keep answers apart; mode and age do not."""
    one = material(asked(), settings=Settings(max_age=3))
    many = [Settings(namespace="a"), Settings(sample=1), Settings(tag="a"), Settings(tag="b")]
    found = [material(asked(), settings=settings) for settings in many]
    keys = {each.key for each in found if isinstance(each, Material)}
    assert isinstance(one, Material)
    assert one.key == key()
    assert len(keys | {one.key}) == 5


def test_fields_can_be_ignored_by_name() -> None:
    """At the top, or within an object."""
    rules = {"ignore_fields": frozenset({"run", "extra.id"})}
    one = asked(body={**CHAT, "run": 1, "extra": {"id": 1, "kept": 1}})
    two = asked(body={**CHAT, "run": 2, "extra": {"id": 2, "kept": 1}})
    three = asked(body={**CHAT, "run": 2, "extra": {"id": 2, "kept": 2}})
    assert told(one, **rules) == told(two, **rules) != told(three, **rules)


def test_a_hook_changes_the_material_or_lets_a_request_pass() -> None:
    """The user's word is the last one."""
    assert told(asked(), key_hook=lambda value: {**value, "mine": 1})["mine"] == 1
    assert passed(asked(), key_hook=lambda value: None) == "hook"


def test_a_body_that_is_no_json_goes_by_its_bytes() -> None:
    """It is told by its digest, and not stored."""
    one, two = told(asked(body=b"{broken")), told(asked(body=b"{broken "))
    assert one["bytes"] == digest_of(b"{broken") != two["bytes"]


@pytest.mark.parametrize("text", ['{"x": NaN}', '{"x": Infinity}', '"\\ud800"'])
def test_json_that_is_none_shares_no_key(text: str) -> None:
    """What has no canonical form goes by its bytes, or passes."""
    found = material(asked(body=text.encode()))
    assert isinstance(found, Passed) or "bytes" in json.loads(found.canonical)


def multipart(
    boundary: str, audio: bytes = b"\x00audio", prompt: str = "names", **fields: str
) -> HttpRequest:
    """Return a transcription's request."""
    lines = []
    for name, value in {"model": "whisper-1", "prompt": prompt, **fields}.items():
        lines.append(f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode())
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n'
    lines.append(head.encode() + b"Content-Type: audio/wav\r\n\r\n" + audio)
    body = b"\r\n".join([*lines, f"--{boundary}--\r\n".encode()])
    kind = {"content-type": f"multipart/form-data; boundary={boundary}"}
    return HttpRequest.of("POST", "https://api.openai.com/v1/audio/transcriptions", kind, body)


def test_a_multipart_body_goes_by_its_parts() -> None:
    """Its boundary is random; its file is an object of its own."""
    found = material(multipart("one"))
    assert isinstance(found, Material)
    assert told(multipart("one")) == told(multipart("two"))
    assert found.objects == (b"\x00audio",)
    assert found.subject.request.model == "whisper-1"
    keys = [told(multipart("one", audio=b"\x01")), told(multipart("one", prompt="other"))]
    assert told(multipart("one")) not in keys


def test_a_large_base64_part_is_an_object_of_its_own() -> None:
    """The request names its digest, and can be put together again."""
    image = bytes(range(256)) * 80
    url = "data:image/png;base64," + base64.b64encode(image).decode()
    body = {"model": "m", "messages": [{"role": "user", "content": [{"image_url": {"url": url}}]}]}
    found = material(asked(body=body))
    assert isinstance(found, Material)
    assert found.objects == (image,)
    assert len(found.canonical) < 1000
    value = json.loads(found.canonical)
    assert filled(value["body"], value["holes"], {digest_of(image): image}.__getitem__) == body
    assert {Digest(hole["object"]) for hole in value["holes"]} == {digest_of(image)}


def test_a_hole_cannot_be_forged() -> None:
    """A body that looks like one with a hole has another key."""
    image = base64.b64encode(bytes(30000)).decode()
    whole = told(asked(body={"data": image}))
    assert key(body=whole["body"]) != key(body={"data": image})
    assert key(body={**whole["body"], "holes": whole["holes"]}) != key(body={"data": image})


def test_text_that_only_looks_like_base64_stays() -> None:
    """What encoding would not give again is no base64."""
    text = "QQ=" + "A" * 20000
    assert told(asked(body={"model": "m", "text": text}))["body"]["text"] == text


@pytest.mark.parametrize(
    "body",
    [
        {"api_key": SECRET},
        {"extra": {"apiKey": SECRET}},
        {"tools": [{"type": "function", "headers": {"X-Custom": SECRET}}]},
        {"dataset": {"authentication": {"type": "api_key", "key": SECRET}}},
        {"Authorization": f"Bearer {SECRET}"},
        {"client_secret": SECRET},
        {"token": SECRET},
        {"subscription-key": SECRET},
        {"options": [{"password": SECRET}]},
        {"pass-word": SECRET},
    ],
)
def test_a_secret_in_the_body_is_told_by_its_digest(body: JSON) -> None:
    """It is not stored, and two secrets still have two keys."""
    value = told(asked(body={**CHAT, **body}))
    assert SECRET not in json.dumps(value)
    assert value["holes"]
    other = json.loads(json.dumps(body).replace(SECRET, "another"))
    assert key(body={**CHAT, **other}) != key(body={**CHAT, **body})


def test_what_is_no_secret_stays_readable() -> None:
    """Limits, tokens of logit biases, and a tool's parameter called key."""
    body = {
        **CHAT,
        "max_tokens": 5,
        "stop": ["token"],
        "tools": [{"type": "function", "function": {"parameters": {"key": {"type": "string"}}}}],
    }
    assert told(asked(body=body))["body"] == body


RESPONSES = "https://api.openai.com/v1/responses"
WRITER = "https://api.writer.com/v1/chat"
PROMPT = "arn%3Aaws%3Abedrock%3Ax%3A1%3Aprompt%2FP"

STATE: list[tuple[str, str, JSON]] = [
    ("search", OPENAI, {"web_search_options": {"size": 1}}),
    ("search", OPENAI, {"web_search_options": {}}),
    ("state", OPENAI, {"messages": [{"role": "assistant", "audio": {"id": "audio_1"}}]}),
    ("search", OPENAI, {"tools": [{"type": "live_search"}]}),
    ("state", "https://api.mistral.ai/v1/agents/completions", {"agent_id": "ag_1"}),
    ("state", RESPONSES, {"input": [{"type": "item_reference", "id": "rs_1"}]}),
    ("search", OPENAI, {"model": "gpt-4o-search-preview"}),
    ("search", OPENAI, {"model": "openai/gpt-4o:online"}),
    ("state", RESPONSES, {"previous_response_id": "resp_1"}),
    ("state", RESPONSES, {"conversation": "conv_1"}),
    ("state", RESPONSES, {"background": True}),
    ("state", RESPONSES, {"prompt": {"id": "pmpt_1"}}),
    ("search", RESPONSES, {"tools": [{"type": "web_search_preview"}]}),
    ("code", RESPONSES, {"tools": [{"type": "code_interpreter", "container": {}}]}),
    ("mcp", RESPONSES, {"tools": [{"type": "mcp", "server_url": "x"}]}),
    ("files", RESPONSES, {"input": [{"content": [{"file_id": "file-1"}]}]}),
    ("code", ANTHROPIC, {"container": "container_1"}),
    ("search", ANTHROPIC, {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
    ("code", ANTHROPIC, {"tools": [{"type": "code_execution_20250522", "name": "code_execution"}]}),
    ("files", ANTHROPIC, {"messages": [{"content": [{"source": {"type": "file", "file_id": "f"}}]}]}),
    ("search", GEMINI, {"tools": [{"googleSearch": {}}]}),
    ("code", GEMINI, {"tools": [{"code_execution": {}}]}),
    ("search", GEMINI, {"tools": [{"functionDeclarations": [], "googleMaps": {}}]}),
    ("tools", GEMINI, {"tools": [{"whateverComes": {}}]}),
    ("search", BEDROCK, {"toolConfig": {"tools": [{"systemTool": {"name": "nova_grounding"}}]}}),
    ("state", BEDROCK.replace("vendor.model-v1%3A0", PROMPT), {"model": ""}),
    ("files", GEMINI, {"contents": [{"parts": [{"fileData": {"fileUri": "https://x/files/1"}}]}]}),
    ("files", GEMINI, {"cachedContent": "cachedContents/1"}),
    ("search", AZURE, {"data_sources": [{"type": "azure_search"}]}),
    ("images", RESPONSES, {"tools": [{"type": "image_generation"}]}),
    ("code", RESPONSES, {"tools": [{"type": "shell"}]}),
    ("mcp", ANTHROPIC, {"mcp_servers": [{"type": "url", "url": "https://mcp.example"}]}),
    ("search", ANTHROPIC, {"tools": [{"type": "web_fetch_20250910", "name": "web_fetch"}]}),
    ("files", GEMINI, {"tools": [{"fileSearch": {"fileSearchStoreNames": ["x"]}}]}),
    ("files", WRITER, {"tools": [{"type": "graph", "function": {"graph_ids": ["g"]}}]}),
    ("search", "https://api.cohere.com/v1/chat", {"connectors": [{"id": "web-search"}]}),
]


IDS = [f"{row[0]} {row[2]}"[:60] for row in STATE]


@pytest.mark.parametrize(("reason", "url", "more"), STATE, ids=IDS)
def test_what_leans_on_the_provider_passes_by(reason: str, url: str, more: JSON) -> None:
    """An earlier conversation, a file, a search, code that is run: tomorrow's answer may be another."""
    assert passed(asked(url, {**CHAT, **more})) == reason


@pytest.mark.parametrize(("reason", "url", "more"), STATE, ids=IDS)
def test_keep_overrules_the_reason_for_which_a_request_passes_by(reason: str, url: str, more: JSON) -> None:
    """Its own word does, and no other; a response in the background is no answer, so nothing stores it."""
    request = asked(url, {**CHAT, **more})
    assert passed(request, keep=keep_of("all") - {reason}) == reason
    if "background" in more:
        assert passed(request, keep=keep_of("all")) == reason
    else:
        assert told(request, keep=frozenset({reason}))


def test_every_reason_of_a_request_must_be_overruled() -> None:
    """A search and an MCP server: each has a word."""
    request = asked(ANTHROPIC, {**CHAT, "tools": [{"type": "web_search_1"}, {"type": "mcp"}]})
    assert passed(request, keep=frozenset({"search"})) == "mcp"
    assert passed(request, keep=frozenset({"mcp"})) == "search"
    assert told(request, keep=frozenset({"mcp", "search"}))


@pytest.mark.parametrize(
    ("url", "tools"),
    [
        (RESPONSES, [{"type": "tool_search"}]),
        (RESPONSES, [{"type": "tool_search", "execution": "client"}]),
        (RESPONSES, [{"type": "shell", "environment": {"type": "local"}}]),
        (ANTHROPIC, [{"type": "tool_search_tool_bm25_20251119", "name": "tool_search_tool_bm25"}]),
        (ANTHROPIC, [{"type": "tool_search_tool_regex_20251119", "name": "tool_search_tool_regex"}]),
    ],
    ids=str,
)
def test_a_search_of_the_requests_own_tools_has_a_key(url: str, tools: list[JSON]) -> None:
    """All that is searched stands in the request; so does a tool whose place is the program."""
    assert key(url, {**CHAT, "tools": tools})
    assert passed(asked(url, {**CHAT, "tools": [*tools, {"type": "web_search"}]})) == "search"


def test_a_count_of_tokens_uses_no_tool() -> None:
    """No model runs, so no search does."""
    url = ANTHROPIC + "/count_tokens"
    assert key(url, {**CHAT, "tools": [{"type": "web_search_20250305", "name": "web_search"}]})


def test_a_tool_of_the_programs_own_is_no_state() -> None:
    """Whatever its name and its parameters are called."""
    tool = {"name": "web_search", "parameters": {"properties": {"file_id": {"type": "string"}}}}
    assert key(body={**CHAT, "tools": [{"type": "function", "function": tool}]})
    assert key(ANTHROPIC, {**CHAT, "tools": [{"name": "get_page", "input_schema": {"file_id": {}}}]})
    assert key(GEMINI, {**CHAT, "tools": [{"functionDeclarations": [{"name": "google_search"}]}]})
    assert key(BEDROCK, {**CHAT, "toolConfig": {"tools": [{"toolSpec": {}}, {"cachePoint": {}}]}})
    assert key(body={**CHAT, "audio": {"voice": "alloy", "format": "wav"}})


def test_the_background_of_an_image_is_no_state() -> None:
    """That of a response is one."""
    assert key("https://api.openai.com/v1/images/generations", {"prompt": "x", "background": "opaque"})


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/models"),
        ("POST", "/v1/files"),
        ("POST", "/v1/batches"),
        ("POST", "/v1/threads/t/runs"),
        ("GET", "/v1/responses/resp_1"),
        ("POST", "/v1/responses/resp_1/cancel"),
        ("DELETE", "/v1/chat/completions"),
        ("GET", "/v1/chat/completions"),
    ],
)
def test_an_endpoint_that_is_not_known_passes_by(method: str, path: str) -> None:
    """It may change something, or tell of what changes."""
    assert passed(asked("https://api.openai.com" + path, method=method)) == "endpoint"


def test_an_endpoint_can_be_made_known() -> None:
    """For a gateway with paths of its own."""
    request = asked("https://gateway.example/ask")
    assert passed(request) == "endpoint"
    for like in ("chat/completions", "chat"):
        assert told(request, endpoints={"/ask": like})["path"] == "/ask"
    assert told(request, endpoints={"ask": "messages", "/ask": "chat"})["path"] == "/ask"


def test_a_stream_passes_by_unless_it_is_to_be_recorded() -> None:
    """And never has the key of the request without one."""
    request = asked(body={**CHAT, "stream": True})
    assert passed(request) == "stream"
    assert told(request, streams="record") != told(asked(), streams="record")


def test_a_body_that_is_encoded_passes_by() -> None:
    """What cannot be read may ask for anything."""
    assert passed(asked(headers={"content-encoding": "gzip"})) == "encoded"
