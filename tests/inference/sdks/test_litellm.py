"""litellm's cache: our key, sync and async, completions and embeddings, over real HTTP on loopback."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from casstore import Cache
from casstore.errors import ConfigError, OfflineMissError
from tests.credentials import SECRET
from tests.inference.http.loopback import Canned, Loopback
from tests.inference.http.replies import chat
from tests.inference.sdks.loading import QUIET, sdk

litellm: Any
CasstoreCache: Any
adapter: Any
pytestmark = QUIET
LONG = [{"role": "user" if turn % 2 == 0 else "assistant", "content": f"turn {turn}"} for turn in range(7)]


@pytest.fixture(scope="module", autouse=True)
def _loaded() -> None:
    """Load litellm for these tests alone: it takes longer than all other SDKs."""
    global litellm, CasstoreCache, adapter  # noqa: PLW0603 - as an import at the top would
    litellm = sdk("litellm")
    from casstore.inference.adapters import litellm as adapter
    from casstore.litellm import CasstoreCache


@pytest.fixture(autouse=True)
def _kept(_loaded: None, cache: Cache) -> Iterator[None]:
    """Have litellm keep its replies in the cache; leave it as it was."""
    litellm.cache = _made(cache)
    yield
    litellm.cache = None


def _made(cache: Cache, **more: Any) -> Any:
    try:
        return CasstoreCache(cache, **more)
    except ConfigError as error:  # some versions cannot answer from any cache, and say so
        pytest.skip(str(error))


def ask(loopback: Loopback, **more: Any) -> dict[str, Any]:
    """Return the arguments of a completion, and have it answered."""
    loopback.reply = Canned(body=json.dumps(chat("hello")).encode())
    given = {"model": "openai/gpt-4o", "messages": LONG, "api_key": SECRET, "api_base": f"{loopback.url}/v1"}
    return given | more


def needs_async_embeddings() -> None:
    """Skip a test where this litellm mixes up inputs, so that its async embeddings pass by."""
    if "aembedding" not in litellm.cache.supported_call_types:
        pytest.skip("this version of litellm mixes up the inputs of async embeddings")


def test_async_embeddings_that_litellm_would_mix_up_pass(loopback: Loopback) -> None:
    """Whatever the version, each input gets its own vector."""

    async def run() -> list[float]:
        await settled(litellm.aembedding(**embed(loopback, ["bb"])))
        reply = await settled(litellm.aembedding(**embed(loopback, ["a", "bb", "ccc"])))
        return [each["embedding"][0] for each in reply.data]

    if "aembedding" in litellm.cache.supported_call_types:
        pytest.skip("this version of litellm asks for what misses alone")
    assert asyncio.run(run()) == [1.0, 2.0, 3.0]


async def settled(call: Any) -> Any:
    """Return what a call gives, once what litellm does after it is done."""
    result = await call
    for _ in range(100):
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if not [task for task in others if "cache" in str(task.get_coro())]:
            break
        await asyncio.sleep(0.02)
    return result


def text(reply: Any) -> Any:
    """Return a completion's text."""
    return reply.choices[0].message.content


def test_long_conversations_are_kept_and_shared_with_async_calls(loopback: Loopback, cache: Cache) -> None:
    """Seven messages are no reason to ask again, nor is another kind of call."""
    first = litellm.completion(**ask(loopback))
    second = litellm.completion(**ask(loopback))
    third = asyncio.run(litellm.acompletion(**ask(loopback)))
    assert text(first) == text(second) == text(third) == "hello"
    assert second.usage.total_tokens == first.usage.total_tokens
    assert loopback.calls == 1
    assert (cache.stats().calls, cache.stats().hits) == (1, 2)


def test_the_order_of_arguments_does_not_count(loopback: Loopback) -> None:
    """The same arguments in another order are the same call, and a key of another user's as well."""
    given = ask(loopback, temperature=0.1, max_tokens=5)
    litellm.completion(**given)
    litellm.completion(**dict(reversed(given.items())))
    litellm.completion(
        **given | {"api_key": "another", "user": "u", "metadata": {"run": 1}, "num_retries": 1}
    )
    assert loopback.calls == 1


@pytest.mark.parametrize(
    "other",
    [
        {"extra_body": {"top_k": 5}},
        {"temperature": 0.5},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]},
        {"model": "openai/gpt-4o-mini"},
        {"response_format": {"type": "json_object"}},
        {"extra_headers": {"openai-beta": "x=v2"}},
        {"litellm_credential_name": "another-server"},
    ],
)
def test_what_may_change_the_answer_is_in_the_key(loopback: Loopback, other: dict[str, Any]) -> None:
    """The extra body, and whatever else is sent, makes another call."""
    litellm.completion(**ask(loopback))
    litellm.completion(**ask(loopback, **other))
    assert loopback.calls == 2


def test_the_address_is_in_the_key(loopback: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another base URL is another server, given as an argument or by the environment."""
    litellm.completion(**ask(loopback))
    litellm.completion(**ask(loopback, api_base=f"{loopback.url}/other/v1"))
    without = ask(loopback)
    del without["api_base"]
    for path in ("one", "two"):
        monkeypatch.setenv("OPENAI_API_BASE", f"{loopback.url}/{path}")
        litellm.completion(**without)
    assert loopback.calls == 4


def test_the_version_of_azures_api_is_in_the_key(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given by the environment, and also where the address is an argument."""
    asked = {"model": "azure/gpt-4o", "messages": LONG, "api_base": "https://mine.openai.azure.com"}
    keys = set()
    for version in ("2025-01-01", "2026-01-01"):
        monkeypatch.setenv("AZURE_API_VERSION", version)
        keys.add(_made(cache).get_cache_key(**asked))
    assert len(keys) == 2


def test_sync_embeddings_are_kept_whole(loopback: Loopback) -> None:
    """A second request for the same inputs is a hit with equal vectors."""
    given = embed(loopback, ["a", "b"])
    first, second = litellm.embedding(**given), litellm.embedding(**given)
    assert [each["embedding"] for each in second.data] == [each["embedding"] for each in first.data]
    assert loopback.calls == 1


def embed(loopback: Loopback, inputs: list[str]) -> dict[str, Any]:
    """Return the arguments of an embedding request, and have it answered."""
    data = [
        {"object": "embedding", "index": at, "embedding": [float(len(one)), 0.5]}
        for at, one in enumerate(inputs)
    ]
    usage = {"prompt_tokens": 4, "total_tokens": 4}
    body = {"object": "list", "model": "text-embedding-3-small", "data": data, "usage": usage}
    loopback.reply = Canned(body=json.dumps(body).encode())
    common = {"api_key": SECRET, "api_base": f"{loopback.url}/v1", "encoding_format": "float"}
    return {"model": "openai/text-embedding-3-small", "input": inputs, **common}


def test_async_embeddings_are_kept_input_by_input(loopback: Loopback) -> None:
    """Of three inputs, the two that are stored are not asked for again; the order is kept."""
    needs_async_embeddings()

    async def run() -> list[Any]:
        await settled(litellm.aembedding(**embed(loopback, ["a", "bb"])))
        embed(loopback, ["ccc"])
        given = embed(loopback, ["ccc"]) | {"input": ["bb", "ccc", "a"]}
        reply = await settled(litellm.aembedding(**given))
        again = await settled(litellm.aembedding(**given))
        return [[each["embedding"][0] for each in one.data] for one in (reply, again)]

    assert asyncio.run(run()) == [[2.0, 3.0, 1.0]] * 2
    assert loopback.calls == 2
    assert json.loads(loopback.seen[1].body)["input"] == ["ccc"]


def test_one_input_asked_sync_and_async_is_two_entries(loopback: Loopback) -> None:
    """The two have forms that cannot be taken for each other."""
    given = embed(loopback, ["a"])
    asyncio.run(settled(litellm.aembedding(**given)))
    assert litellm.embedding(**given).data[0]["embedding"] == [1.0, 0.5]
    assert litellm.embedding(**given | {"input": "a"}).data[0]["embedding"] == [1.0, 0.5]


@pytest.mark.parametrize(("stop", "calls"), [("length", 1), ("content_filter", 2)])
def test_what_a_limit_cut_is_stored_and_what_a_filter_cut_is_not(
    loopback: Loopback, stop: str, calls: int
) -> None:
    """The policy is the one that holds over HTTP."""
    given = ask(loopback)
    loopback.script.append(Canned(body=json.dumps(chat("par", stop)).encode()))
    litellm.completion(**given)
    assert text(litellm.completion(**given)) == ("par" if calls == 1 else "hello")
    assert loopback.calls == calls


def test_an_error_is_raised_and_not_stored(loopback: Loopback) -> None:
    """The next call asks again."""
    given = ask(loopback, num_retries=0, max_retries=0)
    loopback.script.append(Canned(status=400, body=b'{"error": {"message": "no"}}'))
    with pytest.raises(litellm.BadRequestError):
        litellm.completion(**given)
    assert text(litellm.completion(**given)) == "hello"


EVENTS = (
    b"".join(
        b"data: %s\n\n"
        % json.dumps(
            {
                "id": "c",
                "object": "chat.completion.chunk",
                "created": 1,
                "model": "gpt-4o",
                "choices": [{"index": 0, "delta": delta, "finish_reason": stop}],
            }
        ).encode()
        for delta, stop in (({"role": "assistant", "content": "hello"}, None), ({}, "stop"))
    )
    + b"data: [DONE]\n\n"
)


@pytest.mark.parametrize(("streams", "calls"), [("pass", 2), ("record", 1)])
def test_streams_pass_unless_they_are_asked_for(
    loopback: Loopback, cache: Cache, streams: str, calls: int
) -> None:
    """Recorded, a stream is replayed with the same text; and a call without a stream never gets it."""
    litellm.cache = _made(cache, streams=streams)
    given = ask(loopback, stream=True)
    loopback.reply = Canned(headers=[("content-type", "text/event-stream")], body=EVENTS)
    texts = [
        "".join(each.choices[0].delta.content or "" for each in litellm.completion(**given)) for _ in "ab"
    ]
    assert texts == ["hello"] * 2
    assert loopback.calls == calls
    litellm.completion(**ask(loopback))
    assert loopback.calls == calls + 1


def test_streams_are_recorded_as_the_cache_says(folder: Path, loopback: Loopback) -> None:
    """What `Cache` is told holds for litellm without a word more."""
    with Cache(folder, streams="record") as cache:
        litellm.cache = _made(cache)
        given = ask(loopback, stream=True)
        loopback.reply = Canned(headers=[("content-type", "text/event-stream")], body=EVENTS)
        for _ in range(2):
            list(litellm.completion(**given))
        assert loopback.calls == 1


def test_a_host_may_be_taken_for_another(folder: Path, loopback: Loopback) -> None:
    """Two names of one server share replies, where the cache is told so."""
    other = loopback.url.replace("127.0.0.1", "localhost")
    with Cache(folder, aliases={"127.0.0.1:*": "server", "localhost:*": "server"}) as cache:
        litellm.cache = _made(cache)
        litellm.completion(**ask(loopback))
        litellm.completion(**ask(loopback, api_base=f"{other}/v1"))
        assert loopback.calls == 1


def test_offline_a_miss_is_an_error(loopback: Loopback, cache: Cache) -> None:
    """Offline nothing is asked, sync or async."""
    given = ask(loopback)
    with cache.using(mode="offline"):
        with pytest.raises(OfflineMissError):
            litellm.completion(**given)
        with pytest.raises(OfflineMissError):
            asyncio.run(litellm.acompletion(**given))
    assert loopback.calls == 0


@pytest.mark.parametrize(
    "more",
    [
        {"web_search_options": {}},
        {"extra_body": {"search_parameters": {"mode": "on"}}},
        {"tools": [{"type": "web_search_preview"}]},
    ],
)
def test_what_leans_on_the_provider_passes(loopback: Loopback, cache: Cache, more: dict[str, Any]) -> None:
    """A search may find something else tomorrow; each call is counted once."""
    for _ in range(2):
        litellm.completion(**ask(loopback, allowed_openai_params=["web_search_options"], **more))
    assert loopback.calls == 2
    assert cache.reasons() == {"uncached_search": 2}


def test_what_has_no_key_passes(loopback: Loopback, cache: Cache) -> None:
    """An argument that is no JSON makes a call that is answered and not stored."""
    told = _made(cache)
    assert told.get_cache_key(model="gpt-4o", messages=LONG, strange=object()) == ""
    assert cache.reasons() == {"uncached_json": 1}


def test_a_litellm_that_cannot_answer_from_a_cache_is_refused(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package that is missing is named, under whichever name litellm has the module that needs it."""
    asked = []

    def load(name: str) -> None:
        asked.append(name)
        raise ModuleNotFoundError(name="litellm.llms" if len(asked) == 1 else "fastapi")

    monkeypatch.setattr(adapter, "import_module", load)
    with pytest.raises(ConfigError, match=r"needs fastapi .* 'casstore\[litellm\]'"):
        CasstoreCache(cache)
    assert len(asked) == 2
