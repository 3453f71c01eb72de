"""`casstore.install()` before SDKs whose clients stand on other libraries than httpx."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import boto3
import pytest
from botocore.config import Config

import casstore
from casstore import Cache
from tests.credentials import SECRET
from tests.inference.http.loopback import Canned, Loopback
from tests.inference.http.replies import chat, gemini
from tests.inference.provider import Provider
from tests.inference.sdks.loading import QUIET, sdk

pytestmark = QUIET

OURS = ("127.0.0.1:*",)


def test_the_async_client_of_google_over_aiohttp(cache: Cache, loopback: Loopback) -> None:
    """It takes aiohttp where that is installed, as it is beside casstore; sync calls share the entry."""
    genai = sdk("google.genai")
    loopback.reply = Canned(body=json.dumps(gemini()).encode())
    options = {"base_url": loopback.url}

    async def ask() -> str:
        client = genai.Client(api_key=SECRET, http_options=options)
        assert client._api_client._use_aiohttp(), "this version of google-genai takes no aiohttp"
        found = await client.aio.models.generate_content(model="gemini-x", contents="hello")
        await client.aio.aclose()
        client.close()
        return str(found.text)

    with casstore.installed(cache, hosts=OURS):
        texts = [asyncio.run(ask()) for _ in range(2)]
        with genai.Client(api_key=SECRET, http_options=options) as client:
            texts.append(client.models.generate_content(model="gemini-x", contents="hello").text)
    assert len(set(texts)) == 1
    assert (loopback.calls, cache.stats().hits) == (1, 2)


def test_async_calls_of_litellm_over_aiohttp(cache: Cache, loopback: Loopback) -> None:
    """Its own transport for httpx stands on aiohttp; sync and async calls share the entry."""
    litellm = sdk("litellm")
    loopback.reply = Canned(body=json.dumps(chat("hello")).encode())
    given: dict[str, Any] = {
        "model": "openai/gpt-4o",
        "messages": [{"role": "user", "content": "hello"}],
        "api_key": SECRET,
        "api_base": f"{loopback.url}/v1",
    }

    async def ask() -> str:
        found = await litellm.acompletion(**given)
        return str(found.choices[0].message.content)

    with casstore.installed(cache, hosts=OURS):
        assert [asyncio.run(ask()) for _ in range(2)] == ["hello"] * 2
        assert litellm.completion(**given).choices[0].message.content == "hello"
    assert (loopback.calls, cache.stats().hits) == (1, 2)
    assert cache.reasons() == {}


@pytest.mark.parametrize("own", [False, True], ids=["installed", "installed and cached"])
def test_clients_of_boto3_made_before(own: bool, cache: Cache, provider: Provider) -> None:
    """A call is taken up once, by the client's own cache where it has one; other services are let alone."""
    client = boto3.client(
        "bedrock-runtime",
        region_name="us-east-1",
        endpoint_url=provider.url,
        aws_access_key_id="AKIDEXAMPLE",
        aws_secret_access_key=SECRET,
        config=Config(retries={"total_max_attempts": 1}),
    )
    if own:
        casstore.cached(client, cache)
    asked = {"modelId": "amazon.nova-micro-v1:0", "messages": [{"role": "user", "content": [{"text": "hi"}]}]}
    with casstore.installed(cache, hosts=OURS):
        found = [client.converse(**asked)["ResponseMetadata"]["HTTPHeaders"] for _ in range(2)]
    assert [each["x-casstore"] for each in found] == ["miss", "hit"]
    assert (provider.calls, cache.stats().calls, cache.stats().hits) == (1, 1, 1)
    assert cache.reasons() == {}
    assert "x-casstore" not in client.converse(**asked)["ResponseMetadata"]["HTTPHeaders"] or own


def test_streams_of_boto3(cache: Cache, provider: Provider) -> None:
    """Recorded and replayed event by event."""
    client = boto3.client(
        "bedrock-runtime",
        region_name="us-east-1",
        endpoint_url=provider.url,
        aws_access_key_id="AKIDEXAMPLE",
        aws_secret_access_key=SECRET,
    )
    asked = {"modelId": "amazon.nova-micro-v1:0", "messages": [{"role": "user", "content": [{"text": "hi"}]}]}
    with casstore.installed(cache, hosts=OURS, streams="record"):
        events = [list(client.converse_stream(**asked)["stream"]) for _ in range(2)]
    assert events[0] == events[1] != []
    assert (provider.calls, cache.stats().hits) == (1, 1)
