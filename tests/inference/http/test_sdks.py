"""The SDKs themselves, over real HTTP, with a cache before their clients.

Each is loaded by the tests that need it: `scripts/test-sdks` runs them with one SDK, old or new, at a time.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextvars import copy_context
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest

import casstore
from casstore.errors import ConfigError
from casstore.inference.cache import Cache
from casstore.inference.http import sdks
from casstore.inference.http.core import HttpCache
from casstore.inference.http.transport import CacheTransport
from tests.credentials import SECRET
from tests.inference.http.loopback import Loopback
from tests.inference.http.replies import CHAT, JSON, canned, chat, chat_events, gemini, message, sse, stream
from tests.inference.sdks.loading import QUIET, sdk

pytestmark = QUIET

TURNS: Any = CHAT["messages"]

Ask = Callable[[Any], Any]


def _chat(client: Any) -> Any:
    return client.chat.completions.create(model="gpt-4o", messages=TURNS)


def _message(client: Any) -> Any:
    return client.messages.create(model="claude-x", max_tokens=9, messages=TURNS)


def _gemini(client: Any) -> Any:
    return client.models.generate_content(model="gemini-x", contents="hello")


def _gemini_async(client: Any) -> Any:
    return client.aio.models.generate_content(model="gemini-x", contents="hello")


def _mistral(client: Any) -> Any:
    return client.chat.complete(model="mistral-x", messages=TURNS)


def _mistral_async(client: Any) -> Any:
    return client.chat.complete_async(model="mistral-x", messages=TURNS)


BEDROCK: dict[str, Any] = {
    "aws_access_key": "AKIAEXAMPLE",
    "aws_secret_key": SECRET,
    "aws_region": "us-east-1",
}


def _openai(kind: str) -> Callable[[str], Any]:
    return lambda url: getattr(sdk("openai"), kind)(base_url=url + "/v1", api_key=SECRET)


def _azure(kind: str) -> Callable[[str], Any]:
    return lambda url: getattr(sdk("openai"), kind)(azure_endpoint=url, api_key=SECRET, api_version="1")


def _anthropic(kind: str, **credentials: Any) -> Callable[[str], Any]:
    given = credentials or {"api_key": SECRET}
    return lambda url: getattr(sdk("anthropic"), kind)(base_url=url, **given)


def _groq(kind: str) -> Callable[[str], Any]:
    return lambda url: getattr(sdk("groq"), kind)(base_url=url, api_key=SECRET)


def _google(url: str) -> Any:
    return sdk("google.genai").Client(api_key=SECRET, http_options={"base_url": url})


def _mistralai(url: str) -> Any:
    return sdk("mistralai.client").Mistral(api_key=SECRET, server_url=url)


SDKS: dict[str, tuple[Callable[[str], Any], Ask, JSON]] = {
    "openai": (_openai("OpenAI"), _chat, chat()),
    "openai async": (_openai("AsyncOpenAI"), _chat, chat()),
    "azure": (_azure("AzureOpenAI"), _chat, chat()),
    "azure async": (_azure("AsyncAzureOpenAI"), _chat, chat()),
    "anthropic": (_anthropic("Anthropic"), _message, message()),
    "anthropic async": (_anthropic("AsyncAnthropic"), _message, message()),
    "anthropic on bedrock": (_anthropic("AnthropicBedrock", **BEDROCK), _message, message()),
    "anthropic on bedrock async": (_anthropic("AsyncAnthropicBedrock", **BEDROCK), _message, message()),
    "google": (_google, _gemini, gemini()),
    "google async": (_google, _gemini_async, gemini()),
    "mistral": (_mistralai, _mistral, chat()),
    "mistral async": (_mistralai, _mistral_async, chat()),
    "groq": (_groq("Groq"), _chat, chat()),
    "groq async": (_groq("AsyncGroq"), _chat, chat()),
}


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    """Yield an event loop."""
    with asyncio.Runner() as runner:
        yield runner


def settled(runner: asyncio.Runner, found: Any) -> Any:
    """Return what a call gives, awaited if it has to be."""
    if not isinstance(found, Awaitable):
        return found

    async def wait() -> Any:
        return await found

    return runner.run(wait(), context=copy_context())  # else a block's settings would not hold


def close(runner: asyncio.Runner, client: Any) -> None:
    """Close a client, of whatever kind."""
    if hasattr(client, "aio"):  # google-genai's
        client.close()
        settled(runner, client.aio.aclose())
    elif hasattr(client, "sdk_configuration"):  # Mistral's
        client.sdk_configuration.client.close()
        settled(runner, client.sdk_configuration.async_client.aclose())
    else:
        settled(runner, client.close())


@pytest.mark.parametrize("name", SDKS)
def test_a_second_call_is_a_hit_with_an_equal_object(
    name: str, cache: Cache, loopback: Loopback, runner: asyncio.Runner
) -> None:
    """In the same client, and in a new one with another key."""
    make, ask, reply = SDKS[name]
    loopback.reply = canned(reply)
    made = []
    for _ in range(2):
        client = casstore.cached(make(loopback.url), cache)
        made += [settled(runner, ask(client)), settled(runner, ask(client))]
        close(runner, client)
    exclude = {"sdk_http_response"}  # google-genai's objects hold the headers, dates and all
    assert len({each.model_dump_json(exclude=exclude) for each in made}) == 1
    assert loopback.calls == 1
    assert cache.stats().hits == 3


OFFLINE = {"google": "ServerError", "mistral": "SDKError"}
"""Whose error for our 504 is called otherwise than ``InternalServerError``."""


@pytest.mark.parametrize("name", SDKS)
def test_a_miss_in_offline_raises_at_once(
    name: str, cache: Cache, loopback: Loopback, runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With our message, and without a second try."""
    make, ask, _ = SDKS[name]
    client = casstore.cached(make(loopback.url), cache)
    asked: list[Any] = []
    refuse = HttpCache.refused

    def refused(self: HttpCache, ask: Any) -> Any:
        asked.append(ask)
        return refuse(self, ask)

    monkeypatch.setattr(HttpCache, "refused", refused)
    with cache.using(mode="offline"), pytest.raises(Exception, match="casstore is offline") as raised:
        settled(runner, ask(client))
    close(runner, client)
    kinds = {kind.__name__ for kind in type(raised.value).__mro__}
    assert OFFLINE.get(name.split(maxsplit=1)[0], "InternalServerError") in kinds
    assert (loopback.calls, len(asked)) == (0, 1)


def test_streams_of_the_openai_client(cache: Cache, loopback: Loopback) -> None:
    """It leaves the body before its end."""
    events = [sse(event) for event in chat_events("h", "i")]
    loopback.reply = stream(*events, b": bye\n\n")
    plain = SDKS["openai"][0](loopback.url)
    with casstore.cached(plain, cache, streams="record") as client:
        chats = client.chat.completions
        made = [
            [event.to_dict() for event in chats.create(model="gpt-4o", messages=TURNS, stream=True)]
            for _ in range(2)
        ]
    assert made[0] == made[1]
    assert len(made[0]) == 4
    assert loopback.calls == 1


def test_streams_of_the_anthropic_client(cache: Cache, loopback: Loopback) -> None:
    """By its helper, which puts the message together."""
    start = {"type": "message_start", "message": {**message(""), "content": []}}
    block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}}
    stop: JSON = {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn"},
        "usage": {"output_tokens": 3},
    }
    last = {"type": "message_stop"}
    ends = {"type": "content_block_stop", "index": 0}
    loopback.reply = stream(*(sse(event, named=True) for event in (start, block, delta, ends, stop, last)))
    client = casstore.cached(SDKS["anthropic"][0](loopback.url), cache, streams="record")
    texts = []
    for _ in range(2):
        with client.messages.stream(model="claude-x", max_tokens=9, messages=TURNS) as events:
            texts.append(events.get_final_text())
    client.close()
    assert texts == ["hi", "hi"]
    assert loopback.calls == 1


def test_headers_of_a_call_are_its_settings(cache: Cache, loopback: Loopback) -> None:
    """By the SDK's own `extra_headers`."""
    loopback.reply = canned(chat())
    with casstore.cached(SDKS["openai"][0](loopback.url), cache) as client:
        for sample in ("0", "1", "1"):
            client.chat.completions.create(
                model="gpt-4o", messages=TURNS, extra_headers={"x-casstore-sample": sample}
            )
        raw = client.chat.completions.with_raw_response.create(model="gpt-4o", messages=TURNS)
    assert raw.headers["x-casstore"] == "hit"
    assert loopback.calls == 2


def test_what_the_sdk_set_stays(cache: Cache) -> None:
    """Timeouts, redirects, limits, and the transports of proxies."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
        make = SDKS["openai"][0]
        plain, client = make("https://host.example"), casstore.cached(make("https://host.example"), cache)
    before, after = plain._client, client._client
    assert (before.timeout, before.follow_redirects) == (after.timeout, after.follow_redirects)
    assert [each.pattern for each in before._mounts] == [each.pattern for each in after._mounts]
    wrapped = [each for each in (after._transport, *after._mounts.values()) if each is not None]
    assert all(isinstance(each, CacheTransport) for each in wrapped)
    assert len(wrapped) > 1
    assert type(wrapped[1].casstore_inner._pool) is type(next(filter(None, before._mounts.values()))._pool)
    plain.close()
    client.close()


def test_copies_share_the_cache_and_wrapping_again_replaces_it(
    cache: Cache, tmp_path: Path, loopback: Loopback
) -> None:
    """A client is wrapped once, however often it is asked for."""
    loopback.reply = canned(chat())
    client = casstore.cached(SDKS["openai"][0](loopback.url), cache)
    _chat(client)
    _chat(client.with_options(max_retries=0))
    with Cache(tmp_path / "other") as other:
        casstore.cached(client, other)
        assert not isinstance(client._client._transport.casstore_inner, CacheTransport)
        _chat(client)
        assert other.stats().calls == 1
    client.close()
    assert loopback.calls == 2


def test_a_transport_for_a_client_of_ones_own(cache: Cache, loopback: Loopback) -> None:
    """As the SDKs take one."""
    loopback.reply = canned(chat())
    openai = sdk("openai")
    library: Any = httpx2 if issubclass(openai.DefaultHttpxClient, httpx2.Client) else httpx
    http_client = openai.DefaultHttpxClient(transport=casstore.transport(library.HTTPTransport(), cache))
    with openai.OpenAI(base_url=loopback.url + "/v1", api_key=SECRET, http_client=http_client) as client:
        assert _chat(client) == _chat(client)
    with httpx.Client(transport=casstore.transport(httpx.HTTPTransport(), cache)) as plain:
        found = plain.post(loopback.url + "/v1/chat/completions", json=CHAT)
        assert found.headers["x-casstore"] == "hit"
    assert loopback.calls == 1


def test_chat_openai_of_langchain(cache: Cache, loopback: Loopback, runner: asyncio.Runner) -> None:
    """Sync and async, wrapped or given an HTTP client, one entry."""
    loopback.reply = canned(chat())
    make, options = sdk("langchain_openai").ChatOpenAI, {"base_url": loopback.url + "/v1", "api_key": SECRET}
    model = make(model="gpt-4o", **options)
    library: Any = httpx2 if isinstance(model.root_client._client, httpx2.Client) else httpx
    casstore.cached(model, cache)
    http_client = casstore.cached(library.Client(), cache)
    given = make(model="gpt-4o", http_client=http_client, **options)
    texts = [each.invoke("hello").content for each in (model, given)]
    texts.append(settled(runner, model.ainvoke("hello")).content)
    settled(runner, model.root_async_client.close())
    model.root_client.close()
    http_client.close()
    assert texts == ["hi"] * 3
    assert loopback.calls == 1


def test_a_client_for_pydantic_ai(cache: Cache, loopback: Loopback, runner: asyncio.Runner) -> None:
    """By its `http_client`, and by its provider."""
    loopback.reply = canned(chat())

    agent = sdk("pydantic_ai").Agent
    model = sdk("pydantic_ai.models.openai").OpenAIChatModel
    provider = sdk("pydantic_ai.providers.openai").OpenAIProvider

    def ask(provider: Any) -> str:
        async def run() -> str:
            return str((await agent(model("gpt-4o", provider=provider)).run("hello")).output)

        return runner.run(run())

    kind = type(provider(base_url=loopback.url + "/v1", api_key=SECRET).client._client)
    library: Any = httpx2 if issubclass(kind, httpx2.AsyncClient) else httpx
    http_client = casstore.cached(library.AsyncClient(), cache)
    given = provider(base_url=loopback.url + "/v1", api_key=SECRET, http_client=http_client)
    own = provider(base_url=loopback.url + "/v1", api_key=SECRET)
    casstore.cached(own, cache)
    assert [ask(given), ask(given), ask(own)] == ["hi"] * 3
    settled(runner, http_client.aclose())
    settled(runner, own.client.close())
    assert loopback.calls == 1


def test_what_is_no_client_is_refused(cache: Cache) -> None:
    """With a word on why, and so is a rule that does not exist."""
    for wrong in (object(), httpx.Client):
        with pytest.raises(ConfigError, match="not a client"):
            casstore.cached(wrong, cache)
    with pytest.raises(ConfigError, match="neither of httpx"):
        casstore.transport(object(), cache)
    with httpx.Client() as client:
        wrong_rules: list[dict[str, Any]] = [
            {"stream": "record"},
            {"streams": "keep"},
            {"endpoints": {"/x": "y"}},
            {"ignore_fields": "a"},
        ]
        for rules in wrong_rules:
            with pytest.raises(ConfigError):
                casstore.cached(client, cache, **rules)


LOADED = """
import sys
import openai
client = openai.OpenAI(base_url=sys.argv[2], api_key="x")
if sys.argv[1] == "plain":
    client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hello"}])
else:
    import casstore
    cache = casstore.Cache(sys.argv[1])
    casstore.cached(client, cache)
    client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hello"}])
    assert cache.stats().hits == int(sys.argv[3])
print(sorted({name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names)))
"""


def test_a_hit_loads_nothing_but_what_the_sdk_does(folder: Path, loopback: Loopback) -> None:
    """Besides casstore, its JSON and its codec."""
    sdk("openai")
    loopback.reply = canned(chat())
    url = loopback.url + "/v1"

    def loaded(*arguments: str) -> set[str]:
        command = [sys.executable, "-W", "error", "-c", LOADED, *arguments]
        names: list[str] = eval(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        return set(names)

    without = loaded("plain", url)
    loaded(str(folder), url, "0")
    loopback.reply = canned({}, 500)
    hit = loaded(str(folder), url, "1")
    assert hit - without <= {"casstore", "orjson", "zstandard"}


def test_a_program_that_names_no_cache_has_the_users_own(
    loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One for all clients, and for what is installed."""
    monkeypatch.setattr(sdks, "_default", [])
    loopback.reply = canned(chat())
    url = loopback.url + "/v1/chat/completions"
    with httpx.Client() as one, httpx2.Client() as two:
        casstore.cached(one)
        one.post(url, json=CHAT)
        with casstore.installed(hosts=("127.0.0.1:*",)):
            assert two.post(url, json=CHAT).headers["x-casstore"] == "hit"
    cache = sdks.default_cache()
    assert cache.stats().hits == 1
    assert Path.home() in cache.repository.path.parents  # type: ignore[union-attr]  # a Repository
    cache.close()
