"""Frameworks over an SDK's HTTP client: the cache stands before its transport, and they need no adapter."""

from __future__ import annotations

import asyncio
from typing import Any

import openai

from casstore import Cache, cached
from tests.credentials import SECRET
from tests.inference.provider import Provider
from tests.inference.sdks.loading import QUIET, sdk

pytestmark = QUIET


def client(provider: Provider) -> openai.OpenAI:
    """Return a client that the loopback provider answers."""
    return openai.OpenAI(base_url=f"{provider.url}/v1", api_key=SECRET)


def test_chat_openai(cache: Cache, provider: Provider) -> None:
    """A ChatOpenAI of LangChain's, sync and async, asks once."""
    langchain_openai = sdk("langchain_openai")
    model = langchain_openai.ChatOpenAI(model="gpt-4o", base_url=f"{provider.url}/v1", api_key=SECRET)
    cached(model, cache)
    assert [model.invoke("hi").content for _ in range(2)] == ["you said: hi"] * 2
    assert asyncio.run(model.ainvoke("hi")).content == "you said: hi"
    assert provider.calls == 1


def test_a_chat_openai_beside_a_cached_one_stays_as_it_was(cache: Cache, provider: Provider) -> None:
    """LangChain lets models at one address share an HTTP client; the cache is before one model alone."""
    langchain_openai = sdk("langchain_openai")
    mine, other = (
        langchain_openai.ChatOpenAI(model="gpt-4o", base_url=f"{provider.url}/v1", api_key=SECRET)
        for _ in range(2)
    )
    cached(mine, cache)
    for model in (mine, other, mine, other):
        assert model.invoke("hi").content == "you said: hi"
    assert provider.calls == 3


def test_instructor(cache: Cache, provider: Provider) -> None:
    """An instructor over a cached client asks once, and validates each time."""
    instructor, pydantic = sdk("instructor"), sdk("pydantic")
    wanted = pydantic.create_model("look_up", word=(str, ...))
    asks = instructor.from_openai(cached(client(provider), cache))
    provider.script.append("tool")
    messages = [{"role": "user", "content": "look it up"}]
    made = [
        asks.chat.completions.create(model="gpt-4o", messages=messages, response_model=wanted, max_retries=0)
        for _ in range(2)
    ]
    assert [each.word for each in made] == ["x", "x"]
    assert provider.calls == 1


def test_llama_index(cache: Cache, provider: Provider) -> None:
    """A model of LlamaIndex's over a client with the cache before it asks once, sync and async."""
    llama = sdk("llama_index.llms.openai")
    model = llama.OpenAI(model="gpt-4o", api_base=f"{provider.url}/v1", api_key=SECRET)
    cached(model._get_client(), cache)
    cached(model._get_aclient(), cache)
    assert [str(model.complete("hi")) for _ in range(2)] == ["you said: hi"] * 2
    assert str(asyncio.run(model.acomplete("hi"))) == "you said: hi"
    assert provider.calls == 1


def test_pydantic_ai(cache: Cache, provider: Provider) -> None:
    """An agent of pydantic-ai's over a cached model asks once."""
    ai, models = sdk("pydantic_ai"), sdk("pydantic_ai.models.openai")
    providers = sdk("pydantic_ai.providers.openai")
    endpoint = providers.OpenAIProvider(base_url=f"{provider.url}/v1", api_key=SECRET)
    agent: Any = ai.Agent(cached(models.OpenAIChatModel("gpt-4o", provider=endpoint), cache))
    assert [agent.run_sync("hi").output for _ in range(2)] == ["you said: hi"] * 2
    assert provider.calls == 1


def test_inspect_ai(cache: Cache, provider: Provider) -> None:
    """A model of inspect's over a client with the cache before it asks once."""
    models = sdk("inspect_ai.model")
    model = models.get_model(
        "openai/gpt-4o", base_url=f"{provider.url}/v1", api_key=SECRET, responses_api=False
    )
    cached(model.api.client, cache)

    async def run() -> list[str]:
        return [(await model.generate("hi")).completion for _ in range(2)]

    assert asyncio.run(run()) == ["you said: hi"] * 2
    assert provider.calls == 1
