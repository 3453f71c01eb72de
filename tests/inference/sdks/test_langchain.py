"""LangChain's cache, with a real model over real HTTP on loopback."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from casstore import Cache, cached
from casstore.errors import ConfigError, FormatError, OfflineMissError
from tests.credentials import SECRET
from tests.inference.provider import Provider
from tests.inference.sdks.loading import QUIET, sdk

core = sdk("langchain_core")
langchain_openai = sdk("langchain_openai")

from langchain_core.globals import set_llm_cache  # noqa: E402 — only where it is installed
from langchain_core.messages import AIMessage  # noqa: E402
from langchain_core.outputs import ChatGeneration, Generation  # noqa: E402

from casstore.inference.adapters.langchain import loaded  # noqa: E402
from casstore.langchain import CasstoreCache  # noqa: E402

pytestmark = QUIET
TOOL = {"name": "look_up", "parameters": {"type": "object", "properties": {"word": {"type": "string"}}}}


@pytest.fixture
def chat(cache: Cache, provider: Provider) -> Iterator[Any]:
    """Yield a model whose answers LangChain keeps in the cache."""
    set_llm_cache(CasstoreCache(cache))
    yield model(provider)
    set_llm_cache(None)


def model(provider: Provider, **more: Any) -> Any:
    """Return a model that the loopback provider answers for."""
    return langchain_openai.ChatOpenAI(model="gpt-4o", base_url=f"{provider.url}/v1", api_key=SECRET, **more)


def test_a_second_call_is_a_hit_with_its_usage(chat: Any, cache: Cache, provider: Provider) -> None:
    """Text, usage and the provider's words survive; sync and async share the answer."""
    first, second = chat.invoke("hello"), chat.invoke("hello")
    third = asyncio.run(chat.ainvoke("hello"))
    assert [each.content for each in (second, third)] == [first.content] * 2
    assert second.usage_metadata["input_tokens"] == first.usage_metadata["input_tokens"]
    assert second.response_metadata == first.response_metadata
    assert provider.calls == 1
    assert (cache.stats().calls, cache.stats().hits, cache.stats().reasoning_saved) == (1, 2, 6)


@pytest.mark.parametrize("settings", [{"streams": "record"}, {"aliases": {"a": "b"}}])
def test_settings_that_langchain_cannot_honour_are_refused(folder: Path, settings: dict[str, Any]) -> None:
    """They would be ignored, so the cache is not made."""
    with Cache(folder, **settings) as cache, pytest.raises(ConfigError, match="cannot hold for LangChain"):
        CasstoreCache(cache)


def test_tool_calls_survive(chat: Any, provider: Provider) -> None:
    """An answer that calls a tool calls it from the store as well."""
    provider.script.append("tool")
    asks = chat.bind_tools([{"type": "function", "function": TOOL}])
    first, second = asks.invoke("look it up"), asks.invoke("look it up")
    assert second.tool_calls == first.tool_calls
    assert second.tool_calls[0]["args"] == {"word": "x"}
    assert provider.calls == 1


@pytest.mark.parametrize(
    ("reason", "more"),
    [
        ("search", {"tools": [{"type": "web_search"}]}),
        ("search", {"tools": [{"google_search": {}}]}),
        ("state", {"previous_response_id": "resp_1"}),
        ("search", {"web_search_options": {}}),
        ("state", {"conversation": "conv_1"}),
        ("code", {"container": {"id": "c"}}),
        ("state", {"background": True}),
    ],
    ids=str,
)
def test_what_leans_on_the_provider_passes(
    chat: Any, cache: Cache, reason: str, more: dict[str, Any]
) -> None:
    """A tool that it runs, an earlier answer that it keeps; each call is counted once, under its reason."""
    kept = CasstoreCache(cache)
    described = chat._get_llm_string(**more)
    assert kept.lookup("hello", described) is None
    kept.update("hello", described, [ChatGeneration(message=AIMessage("hi"))])
    assert kept.lookup("hello", described) is None
    assert cache.reasons() == {f"uncached_{reason}": 2}


@pytest.mark.parametrize(
    ("keep", "more", "kept"),
    [
        ({"search"}, {"web_search_options": {}}, True),
        ({"search"}, {"tools": [{"type": "web_search"}]}, True),
        ({"search"}, {"tools": [{"type": "mcp"}, {"type": "web_search"}]}, False),
        ("all", {"tools": [{"type": "mcp"}], "container": {"id": "c"}}, True),
        ("all", {"background": True}, False),
    ],
    ids=str,
)
def test_a_reason_can_be_overruled(
    chat: Any, folder: Path, keep: Any, more: dict[str, Any], kept: bool
) -> None:
    """Each reason that a description has must be; an answer in the background is none."""
    with Cache(folder, keep=keep) as cache:
        answers = CasstoreCache(cache)
        described = chat._get_llm_string(**more)
        answers.update("hello", described, [ChatGeneration(message=AIMessage("hi"))])
        assert (answers.lookup("hello", described) is not None) is kept


@pytest.mark.parametrize(
    "more", [{"background": False}, {"conversation": None}, {"stop": ["container"]}], ids=str
)
def test_what_is_not_set_leans_on_nothing(chat: Any, cache: Cache, more: dict[str, Any]) -> None:
    """A field without a value, and a word that is no field, keep no call from the store."""
    kept = CasstoreCache(cache)
    described = chat._get_llm_string(**more)
    kept.update("hello", described, [ChatGeneration(message=AIMessage("hi"))])
    assert kept.lookup("hello", described) is not None


def test_settings_and_servers_are_in_the_key(chat: Any, provider: Provider) -> None:
    """Another temperature, prompt or server is another call."""
    chat.invoke("hello")
    chat.invoke("hullo")
    model(provider, temperature=0.5).invoke("hello")
    langchain_openai.ChatOpenAI(model="gpt-4o", base_url=f"{provider.url}/other", api_key=SECRET)
    assert provider.calls == 3


def test_clear_forgets_what_langchain_stored_and_nothing_else(
    chat: Any, cache: Cache, provider: Provider
) -> None:
    """After `clear` the model is asked again; other answers in the store stay."""
    kept = cached(model(provider, cache=False), cache)
    kept.invoke("other")
    chat.invoke("hello")
    CasstoreCache(cache).clear()
    chat.invoke("hello")
    kept.invoke("other")
    assert provider.calls == 3


@pytest.mark.parametrize("outcome", ["filtered", "empty"])
def test_answers_that_are_not_whole_are_not_stored(chat: Any, provider: Provider, outcome: str) -> None:
    """The same answers pass by as over HTTP."""
    provider.script.append(outcome)
    chat.invoke("hello there")
    assert chat.invoke("hello there").content == "you said: hello there"
    assert provider.calls == 2


@pytest.mark.parametrize("limit", [{"max_tokens": 2}, {}], ids=["limit", "no limit"])
def test_a_truncation_is_stored(cache: Cache, provider: Provider, chat: Any, limit: dict[str, int]) -> None:
    """With a token limit in the model's settings or without one, the cut answer is the answer."""
    provider.script.append("truncated")
    limited = model(provider, **limit)
    assert limited.invoke("hello").content == limited.invoke("hello").content
    assert provider.calls == 1


def test_offline_a_miss_is_an_error(chat: Any, cache: Cache, provider: Provider) -> None:
    """Offline nothing is asked, sync or async."""
    with cache.using(mode="offline"):
        with pytest.raises(OfflineMissError):
            chat.invoke("hello")
        with pytest.raises(OfflineMissError):
            asyncio.run(chat.ainvoke("hello"))
    assert provider.calls == 0


def test_samples_are_answers_of_their_own(chat: Any, cache: Cache, provider: Provider) -> None:
    """The n-th answer to one prompt has a key of its own."""
    for _ in range(2):
        for sample in range(3):
            with cache.using(sample=sample):
                chat.invoke("hello")
    assert provider.calls == 3


def test_settings_that_cannot_be_described_are_not_cached(
    cache: Cache, caplog: pytest.LogCaptureFixture
) -> None:
    """An object that prints as its address says nothing of what is in it, so such calls share nothing."""
    told = CasstoreCache(cache)
    answer = [ChatGeneration(message=AIMessage(content="hi"))]
    for _ in range(2):
        told.update("prompt", "<thing object at 0x7f00aa>", answer)
    assert told.lookup("prompt", "<thing object at 0x7f00aa>") is None
    assert len(caplog.records) == 1


def test_async_forms_do_what_the_others_do(cache: Cache) -> None:
    """`aupdate`, `alookup` and `aclear` work on the same answers."""
    told = CasstoreCache(cache)
    answer = [Generation(text="hi", generation_info={"finish_reason": "stop"})]

    async def run() -> list[Any]:
        await told.aupdate("p", "llm", answer)
        found = await told.alookup("p", "llm")
        await told.aclear()
        return [found, await told.alookup("p", "llm")]

    assert asyncio.run(run()) == [answer, None]


@pytest.mark.parametrize(
    "body",
    [
        b"no json",
        b'{"generations": [{"type": "Path", "text": "x", "info": null}]}',
        b'{"generations": [{"type": "ChatGeneration", "text": "", "info": {}, "message": {"type": "X"}}]}',
    ],
)
def test_only_known_classes_are_read(body: bytes) -> None:
    """Nothing stored chooses what is made of it."""
    with pytest.raises(FormatError):
        loaded(body)


def test_a_broken_store_warns_once_and_answers_come(
    tmp_path: Path, provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a store, LangChain works as without a cache."""
    (tmp_path / "file").write_bytes(b"in the way")
    caplog.set_level(logging.WARNING)
    with Cache(tmp_path / "file" / "store", memory=0) as cache:
        set_llm_cache(CasstoreCache(cache))
        try:
            assert [model(provider).invoke("hi").content for _ in range(2)] == ["you said: hi"] * 2
        finally:
            set_llm_cache(None)
    assert provider.calls == 2
    assert len([each for each in caplog.records if each.name == "casstore"]) == 1
