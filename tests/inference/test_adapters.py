"""The adapters: the real SDKs over real HTTP, against a server that speaks each provider's wire format."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import anthropic
import boto3
import botocore.config
import openai
import pytest

from casstore.errors import ConfigError
from casstore.inference.adapters.anthropic import AnthropicClient, AsyncAnthropicClient
from casstore.inference.adapters.bedrock import AsyncBedrockClient, BedrockClient
from casstore.inference.adapters.openai import AsyncOpenAIClient, OpenAIClient
from casstore.inference.cache import Cache
from casstore.inference.types import Chunk, Message, Response, Truncated, TruncatedError, Usage
from tests.credentials import SECRET
from tests.inference.provider import Provider, model_in

HI: list[Message] = [{"role": "user", "content": "hi there, you"}]
OPTIONS = {"max_tokens": 50, "temperature": 0.5}


class Desk:
    """A provider's client, sync or async, behind one face; async calls run to their end in one event loop.

    Attributes:
        name: ``openai``, ``anthropic`` or ``bedrock``.
        asynchronous: Whether the clients are async.
        provider: The server they speak to.
    """

    def __init__(self, name: str, asynchronous: bool, provider: Provider) -> None:
        self.name = name
        self.asynchronous = asynchronous
        self.provider = provider
        self._runner = asyncio.Runner()
        self._sdks: list[Any] = []

    def client(self, truncated: Truncated = "raise") -> Any:
        """Return a client over an SDK client of its own."""
        sdk, kind, model = self._made()
        self._sdks.append(sdk)
        return kind(model, sdk=sdk, truncated=truncated)

    def _made(self) -> tuple[Any, Any, str]:
        url = self.provider.url
        if self.name == "openai":
            make: Any = openai.AsyncOpenAI if self.asynchronous else openai.OpenAI
            kind: Any = AsyncOpenAIClient if self.asynchronous else OpenAIClient
            return make(api_key=SECRET, base_url=f"{url}/v1"), kind, "gpt-4o"
        if self.name == "anthropic":
            make = anthropic.AsyncAnthropic if self.asynchronous else anthropic.Anthropic
            kind = AsyncAnthropicClient if self.asynchronous else AnthropicClient
            return make(api_key=SECRET, base_url=url), kind, "claude-opus-5"
        kind = AsyncBedrockClient if self.asynchronous else BedrockClient
        return _boto(url), kind, "us.amazon.nova-lite-v1:0"

    def converse(self, client: Any, messages: Sequence[Message] = HI, **options: Any) -> Response:
        """Ask, and wait for the answer."""
        answer = client.converse(messages, **{**OPTIONS, **options})
        response: Response = self._runner.run(answer) if self.asynchronous else answer
        return response

    def stream(self, client: Any, messages: Sequence[Message] = HI, **options: Any) -> list[Chunk]:
        """Ask for a stream, and read it to its end."""
        options = {**OPTIONS, **options}

        async def collect() -> list[Chunk]:
            return [chunk async for chunk in client.stream(messages, **options)]

        return self._runner.run(collect()) if self.asynchronous else list(client.stream(messages, **options))

    def close(self) -> None:
        """Close the SDK clients in the loop they lived in."""
        for sdk in self._sdks:
            closing = sdk.close()
            if closing is not None:
                self._runner.run(closing)
        self._runner.close()


def _boto(url: str) -> Any:
    return boto3.client(
        "bedrock-runtime",
        region_name="us-east-1",
        endpoint_url=url,
        aws_access_key_id="AKIDSECRET",
        aws_secret_access_key=SECRET,
        config=botocore.config.Config(retries={"total_max_attempts": 3, "mode": "standard"}),
    )


NAMES = ["openai", "anthropic", "bedrock"]


@pytest.fixture(
    params=[(name, how) for name in NAMES for how in (False, True)],
    ids=lambda p: f"{p[0]}-{'async' if p[1] else 'sync'}",
)
def desk(request: pytest.FixtureRequest, provider: Provider) -> Iterator[Desk]:
    """Yield each provider's desk, sync and async."""
    name, asynchronous = request.param
    desk = Desk(name, asynchronous, provider)
    yield desk
    desk.close()


@pytest.fixture
def make_desk(provider: Provider) -> Iterator[Callable[[str], Desk]]:
    """Yield what makes the sync desk of a provider."""
    desks: list[Desk] = []

    def make(name: str) -> Desk:
        desks.append(Desk(name, False, provider))
        return desks[-1]

    yield make
    for each in desks:
        each.close()


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the SDKs retry without their pauses."""
    for module in (openai._base_client, anthropic._base_client):
        monkeypatch.setattr(module.BaseClient, "_calculate_retry_timeout", lambda *_a, **_k: 0.0)
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_a: 0.0)


def test_an_answer(desk: Desk, provider: Provider) -> None:
    """Text, stop, usage and the whole reply arrive."""
    response = desk.converse(desk.client())
    assert (response.text, response.stop_reason) == ("you said: hi there, you", "end")
    assert response.usage.input > 0
    assert response.usage.output > 0
    assert response.usage.cached > 0
    assert isinstance(response.raw, dict)
    assert not response.hit


def test_the_key_is_of_what_is_sent(desk: Desk, provider: Provider) -> None:
    """Path and body of the request that the cache sees are those that arrive, streaming or not."""
    client = desk.client()
    stop = "stop" if desk.name == "openai" else "stop_sequences"
    options: dict[str, Any] = {**OPTIONS, stop: ["x"]}
    desk.converse(client, system="be brief", **options)
    desk.stream(client, system="be brief", **options)
    for seen, stream in zip(provider.seen, (False, True), strict=True):
        request = client.request(HI, "be brief", options, stream=stream)
        assert json.loads(json.dumps(request.body)) == seen.body
        assert request.path == seen.path
        assert request.host == client.host == provider.url.removeprefix("http://")
        assert "secret" not in repr(request).lower()


def test_a_stream(desk: Desk, provider: Provider) -> None:
    """The pieces make the text, and the last chunk carries the whole answer with its usage."""
    chunks = desk.stream(desk.client())
    whole = chunks[-1].response
    assert whole is not None
    assert whole.text == "".join(chunk.text for chunk in chunks) == "you said: hi there, you "
    assert (whole.stop_reason, whole.usage.output > 0) == ("end", True)
    assert all(isinstance(chunk.raw, dict) for chunk in chunks[:-1])


def test_a_stream_cut_short_has_no_last_chunk(desk: Desk, provider: Provider) -> None:
    """A stream that ends without its terminal event is not taken for an answer."""
    provider.script.append("cut")
    chunks = desk.stream(desk.client())
    assert "".join(chunk.text for chunk in chunks)
    assert all(chunk.response is None for chunk in chunks)


def test_a_truncated_answer(desk: Desk, provider: Provider) -> None:
    """It is raised with what there is of it, or returned, as the client was told."""
    provider.script.extend(["truncated", "truncated"])
    with pytest.raises(TruncatedError) as raised:
        desk.converse(desk.client())
    assert raised.value.response.text == "you said:"
    assert desk.converse(desk.client("return")).truncated


@pytest.mark.parametrize(
    ("outcome", "stop"), [("filtered", "filtered"), ("tool", "tool_use"), ("empty", "end")]
)
def test_other_ends(desk: Desk, provider: Provider, outcome: str, stop: str) -> None:
    """Filtered, tool-calling and empty answers are told apart; the tool call stands in the reply."""
    provider.script.append(outcome)
    response = desk.converse(desk.client())
    assert response.stop_reason == stop
    assert ("look_up" in json.dumps(response.raw)) is (outcome == "tool")


@pytest.mark.parametrize("status", [429, 500, 529])
def test_retries_are_the_sdks(desk: Desk, provider: Provider, status: int) -> None:
    """A passing failure is retried by the SDK, and the answer arrives."""
    provider.script.append(503 if desk.name == "bedrock" and status == 529 else status)
    assert desk.converse(desk.client()).text
    assert provider.calls == 2


def test_a_refusal_is_the_sdks_error_and_is_not_cached(desk: Desk, provider: Provider, cache: Cache) -> None:
    """A 400 reaches the caller as the SDK raises it; the next call asks again."""
    provider.script.extend([400])
    client = cache.wrap(desk.client())
    with pytest.raises(Exception, match="400"):
        desk.converse(client)
    assert not desk.converse(client).hit
    assert provider.calls == 2


def test_a_hit_is_as_good_as_the_answer(desk: Desk, provider: Provider, folder: Path) -> None:
    """Through the cache, the second answer has the same text, stop and raw reply, without a call."""
    with Cache(folder) as cache:
        first = desk.converse(cache.wrap(desk.client()))
    with Cache(folder) as cache:
        second = desk.converse(cache.wrap(desk.client()))
    assert (second.hit, second.text, second.stop_reason, second.raw) == (
        True,
        first.text,
        first.stop_reason,
        first.raw,
    )
    assert provider.calls == 1


def test_a_recorded_stream_is_replayed(desk: Desk, provider: Provider, folder: Path) -> None:
    """With recording on, the second stream has the same events, without a call."""
    with Cache(folder, streams="record") as cache:
        client = cache.wrap(desk.client())
        first, second = desk.stream(client), desk.stream(client)
        provider.script.append("cut")
        desk.stream(client, seed=1) if "openai" in desk.name else None
    assert [(chunk.text, chunk.raw) for chunk in second] == [(chunk.text, chunk.raw) for chunk in first]
    assert second[-1].response is not None
    assert second[-1].response.hit


def test_filtered_and_empty_answers_are_not_kept(desk: Desk, provider: Provider, cache: Cache) -> None:
    """What the provider withheld once it may give the next time."""
    provider.script.extend(["filtered", "empty"])
    client = cache.wrap(desk.client())
    assert [desk.converse(client).hit for _ in range(4)] == [False, False, False, True]


def test_openai_takes_both_limits(make_desk: Callable[[str], Desk], provider: Provider, cache: Cache) -> None:
    """The old name and the new one; a truncation is an answer, also where the request sets no limit."""
    client = cache.wrap(make_desk("openai").client("return"))
    provider.script.extend(["truncated", "truncated", "truncated"])
    for limit in ("max_tokens", "max_completion_tokens"):
        assert [client.converse(HI, **{limit: 5}).hit for _ in range(2)] == [False, True]
    assert [client.converse(HI).hit for _ in range(2)] == [False, True]


def test_openai_usage(make_desk: Callable[[str], Desk], provider: Provider) -> None:
    """Cached and reasoning tokens are told as parts of input and output."""
    usage = make_desk("openai").client().converse(HI).usage
    assert (usage.cached, usage.reasoning) == (1, 3)


def test_openai_extra_fields_are_sent_and_keyed(make_desk: Callable[[str], Desk], provider: Provider) -> None:
    """What the SDK passes on beside its own parameters is part of the request."""
    client = make_desk("openai").client()
    options = {
        "extra_body": {"top_k": 5},
        "extra_query": {"api-version": "7"},
        "extra_headers": {"OpenAI-Beta": "b"},
        "timeout": 30,
    }
    client.converse(HI, **options)
    request = client.request(HI, None, options)
    assert provider.seen[0].body == request.body
    assert provider.seen[0].path == "/v1/chat/completions?api-version=7"
    assert (request.query, request.headers) == ({"api-version": "7"}, {"openai-beta": "b"})


def test_anthropic_usage(make_desk: Callable[[str], Desk]) -> None:
    """Input counts what was read from and written to the prompt cache."""
    response = make_desk("anthropic").client().converse(HI, max_tokens=5)
    assert response.usage == Usage(input=13, output=5, cached=2, written=4, written_long=1)


def test_the_version_in_the_key_is_the_one_sent(
    make_desk: Callable[[str], Desk], provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK's own version, or the one given; whether the SDK client is given or made late."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", SECRET)
    given = make_desk("anthropic").client()
    late = AnthropicClient("claude-opus-5", base_url=provider.url)
    pinned = AnthropicClient("claude-opus-5", base_url=provider.url, version="2023-01-01")
    versions = []
    for client in (given, late, pinned):
        headers = client.request(HI, None, {"max_tokens": 5}).headers
        client.converse(HI, max_tokens=5)
        assert headers == {"anthropic-version": provider.seen[-1].headers["anthropic-version"]}
        versions.append(headers["anthropic-version"])
    assert versions[0] == versions[1] != versions[2] == "2023-01-01"


def test_fields_unknown_to_the_sdk_are_sent(desk: Desk, provider: Provider) -> None:
    """A field that the SDK has no parameter for, such as one of tomorrow, is sent and keyed all the same."""
    if desk.name == "bedrock":
        options: dict[str, Any] = {"additionalModelRequestFields": {"top_k": 5}}
    else:
        options = {"top_k_of_tomorrow": 5}
    client = desk.client()
    desk.converse(client, **options)
    assert provider.seen[0].body == client.request(HI, None, {**OPTIONS, **options}).body


def test_anthropic_needs_a_limit(make_desk: Callable[[str], Desk], provider: Provider) -> None:
    """The option the provider requires is asked for before anything is sent."""
    with pytest.raises(ConfigError, match="max_tokens"):
        make_desk("anthropic").client().converse(HI)
    assert provider.calls == 0


def test_a_beta_is_another_key(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    """A beta header, from the call or from the environment, is in the key."""
    client = AnthropicClient("claude-opus-5", base_url=provider.url)
    request = client.request(HI, None, {"max_tokens": 5, "extra_headers": {"anthropic-beta": "b"}})
    assert request.headers["anthropic-beta"] == "b"
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", f"Anthropic-Beta: c\nAuthorization: {SECRET}")
    client = AnthropicClient("claude-opus-5", base_url=provider.url)
    headers = client.request(HI, None, {"max_tokens": 5}).headers
    assert headers["anthropic-beta"] == "c"
    assert "secret" not in str(headers)


def test_bedrock_bytes_are_keyed_as_sent(make_desk: Callable[[str], Desk], provider: Provider) -> None:
    """An image's bytes are base64 on the wire, and so in the key; the model is in the path."""
    image = {"image": {"format": "png", "source": {"bytes": b"\x89PNG"}}}
    question = [{"role": "user", "content": [image, {"text": "what is this"}]}]
    client = make_desk("bedrock").client()
    client.converse(question, max_tokens=5)
    assert provider.seen[0].body == client.request(question, None, {"max_tokens": 5}).body
    assert model_in(provider.seen[0].path) == "us.amazon.nova-lite-v1:0"


def test_two_hosts_one_model(make_desk: Callable[[str], Desk], provider: Provider, cache: Cache) -> None:
    """The same question to another server is another question."""
    one = cache.wrap(make_desk("openai").client())
    other = cache.wrap(OpenAIClient("gpt-4o", base_url="http://other.example/v1"))
    one.converse(HI)
    with cache.using(mode="offline"):
        assert one.converse(HI).hit
        with pytest.raises(KeyError):
            other.converse(HI)


def test_sdk_clients_are_made_late_and_from_the_environment(
    provider: Provider, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a key a hit is given; with one in the environment a miss is asked, at the address there."""
    monkeypatch.setenv("OPENAI_BASE_URL", f"{provider.url}/v1")
    client = cache.wrap(OpenAIClient("gpt-4o"))
    with pytest.raises(openai.OpenAIError):
        client.converse(HI)
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    assert client.converse(HI).text
    monkeypatch.delenv("OPENAI_API_KEY")
    assert cache.wrap(OpenAIClient("gpt-4o")).converse(HI).hit
    monkeypatch.setenv("ANTHROPIC_BASE_URL", provider.url)
    monkeypatch.setenv("ANTHROPIC_API_KEY", SECRET)
    assert cache.wrap(AnthropicClient("claude-opus-5")).converse(HI, max_tokens=9).text
    bedrock = BedrockClient("m", region="eu-west-1")
    assert bedrock.host == "bedrock-runtime.eu-west-1.amazonaws.com"


@pytest.mark.parametrize(
    ("make", "extra"),
    [
        (lambda: OpenAIClient("m").converse(HI), "openai"),
        (lambda: AnthropicClient("m").converse(HI, max_tokens=5), "anthropic"),
        (lambda: BedrockClient("m").converse(HI), "bedrock"),
    ],
    ids=["openai", "anthropic", "bedrock"],
)
def test_a_missing_sdk_is_named(
    make: Callable[[], object], extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the SDK the error says which extra to install."""

    def missing(name: str) -> object:
        raise ImportError(name)

    monkeypatch.setattr("casstore.inference.adapters.endpoint.import_module", missing)
    with pytest.raises(ConfigError, match=rf"casstore\[{extra}\]"):
        make()


def test_streaming_is_a_method() -> None:
    """The SDKs' own switch would make converse return something else."""
    with pytest.raises(ConfigError, match="stream"):
        OpenAIClient("m").converse(HI, stream=True)


@pytest.mark.parametrize("kind", [OpenAIClient, AnthropicClient, BedrockClient])
def test_a_wrong_word_for_truncation_is_refused(kind: Callable[..., object]) -> None:
    """There are two ways to treat a truncated answer."""
    with pytest.raises(ConfigError, match="truncated"):
        kind("m", truncated="ignore")
