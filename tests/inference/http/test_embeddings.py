"""Embeddings: whole, or looked up input by input."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

import casstore
from casstore.errors import FormatError
from casstore.inference.cache import Cache
from casstore.inference.http import embeddings
from casstore.inference.http.exchange import HttpRequest
from tests.credentials import SECRET
from tests.inference.http.clients import KINDS, asking
from tests.inference.http.loopback import Arrived, Canned, Loopback
from tests.inference.http.replies import JSON, canned

PATH = "/v1/embeddings"


class Embedder(Loopback):
    """Answers with a vector that tells its input."""

    def take(self, request: Arrived) -> Canned:
        """Note a request, and return its embeddings."""
        canned_one, body = super().take(request), json.loads(request.body)
        encoded = body.get("encoding_format") == "base64"
        return canned(reply(body["input"], encoded=encoded)) if canned_one.status == 200 else canned_one


def vector(text: Any, *, encoded: bool) -> Any:
    """Return the embedding of a text, as an array, or as the base64 of one."""
    numbers = [float(len(text)), float(hash(str(text)) % 97)]
    return base64.b64encode(struct.pack("<2f", *numbers)).decode() if encoded else numbers


def reply(inputs: Any, *, encoded: bool = False) -> JSON:
    """Return the reply to inputs."""
    inputs = inputs if isinstance(inputs, list) else [inputs]
    data = [
        {"object": "embedding", "index": place, "embedding": vector(each, encoded=encoded)}
        for place, each in enumerate(inputs)
    ]
    used = sum(len(each) for each in inputs) + 1
    usage = {"prompt_tokens": used, "total_tokens": used}
    return {"object": "list", "data": data, "model": "embed-1", "usage": usage}


@pytest.fixture
def embedder(loopback: Loopback) -> Loopback:
    """Return a server of embeddings."""
    loopback.__class__ = Embedder
    return loopback


def inputs_seen(embedder: Loopback) -> list[Any]:
    """Return what was asked, request by request."""
    return [json.loads(seen.body)["input"] for seen in embedder.seen]


@pytest.mark.parametrize("kind", KINDS)
def test_only_inputs_that_are_new_are_asked(kind: str, cache: Cache, embedder: Loopback) -> None:
    """And the reply to all is as it would have been."""
    url = embedder.url + PATH
    with asking(kind, cache, split_embeddings=True) as asker:
        first = asker.post(url, json={"model": "m", "input": ["a", "bb"]})
        second = asker.post(url, json={"model": "m", "input": ["ccc", "a", "ccc", "bb"]})
        third = asker.post(url, json={"model": "m", "input": ["bb", "ccc"]})
        single = asker.post(url, json={"model": "m", "input": ["a"]})
        other = asker.post(url, json={"model": "m", "input": ["a", "bb"], "dimensions": 2})
    assert inputs_seen(embedder) == [["a", "bb"], ["ccc"], ["a", "bb"]]
    assert first.json() == other.json() == reply(["a", "bb"])
    assert second.json()["data"] == reply(["ccc", "a", "ccc", "bb"])["data"]
    assert third.json()["data"] == reply(["bb", "ccc"])["data"]
    assert single.json()["data"] == reply(["a"])["data"]
    states = [each.headers["x-casstore"] for each in (first, second, third, single, other)]
    assert states == ["miss", "miss", "hit", "hit", "miss"]
    assert (cache.stats().calls, cache.stats().hits) == (3, 2)


def test_tokens_are_counted_once(cache: Cache, embedder: Loopback) -> None:
    """What is shared out among inputs adds up to what was told."""
    with asking("httpx", cache, split_embeddings=True) as asker:
        body = {"model": "m", "input": ["a", "bb", "ccccc"]}
        told = asker.post(embedder.url + PATH, json=body).json()["usage"]
        again = asker.post(embedder.url + PATH, json=body).json()["usage"]
    assert told == again == {"prompt_tokens": 9, "total_tokens": 9}
    assert cache.stats().input_spent == cache.stats().input_saved == 9


@pytest.mark.parametrize("status", [400, 429, 500])
def test_an_error_is_given_on(status: int, cache: Cache, embedder: Loopback) -> None:
    """Nothing is stored."""
    with asking("httpx2", cache, split_embeddings=True) as asker:
        asker.post(embedder.url + PATH, json={"model": "m", "input": ["a", "b"]})
        embedder.script.append(canned({"error": {"message": "no"}}, status))
        found = asker.post(embedder.url + PATH, json={"model": "m", "input": ["a", "c"]})
        assert (found.status_code, found.json()["error"]["message"]) == (status, "no")
        assert len(list(cache.repository.entries())) == 2  # type: ignore[union-attr]  # a Repository


def test_a_split_needs_no_network_offline_when_all_is_there(cache: Cache, embedder: Loopback) -> None:
    """And says so when it is not."""
    with asking("httpx", cache, split_embeddings=True) as asker:
        asker.post(embedder.url + PATH, json={"model": "m", "input": ["a", "b"]})
        with cache.using(mode="offline"):
            found = asker.post(embedder.url + PATH, json={"model": "m", "input": ["b", "a"]})
            assert found.headers["x-casstore"] == "hit"
            assert (
                asker.post(embedder.url + PATH, json={"model": "m", "input": ["b", "c"]}).status_code == 504
            )
    assert embedder.calls == 1


def test_embeddings_are_not_split_unless_asked_to(cache: Cache, embedder: Loopback) -> None:
    """A list is one request."""
    with asking("httpx", cache) as asker:
        asker.post(embedder.url + PATH, json={"model": "m", "input": ["a", "b"]})
        asker.post(embedder.url + PATH, json={"model": "m", "input": ["a"]})
    assert embedder.calls == 2


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("options", [{}, {"encoding_format": "float"}])
def test_the_sdk_reads_base64_and_arrays(
    split: bool, options: dict[str, Any], cache: Cache, embedder: Loopback
) -> None:
    """It asks for base64 by itself; of a split reply, too."""
    client = openai.OpenAI(base_url=embedder.url + "/v1", api_key=SECRET)
    with casstore.cached(client, cache, split_embeddings=split):
        found = [client.embeddings.create(model="m", input=["a", "bb"], **options) for _ in range(2)]
        if split:
            found.append(client.embeddings.create(model="m", input=["bb", "a"], **options))
            found[2].data.reverse()
    expected = [vector("a", encoded=False), vector("bb", encoded=False)]
    assert [[each.embedding for each in one.data] for one in found] == [expected] * len(found)
    assert embedder.calls == 1


TEXTS = st.lists(st.text("ab é\n☃", min_size=1, max_size=6), min_size=2, max_size=8)
TOKENS = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=4), min_size=2, max_size=8)


@given(TEXTS | TOKENS, st.data())
def test_apart_and_together_again(inputs: list[Any], data: st.DataObject) -> None:
    """Whatever the inputs, and their order in the reply: the parts make the whole again, in order."""
    body = json.dumps({"model": "m", "input": inputs}).encode()
    request = HttpRequest.of("POST", "https://host.example" + PATH, {}, body)
    requests = embeddings.split(request)
    assert [json.loads(each.body)["input"] for each in requests] == [[each] for each in inputs]
    whole = reply(inputs)
    shuffled = {**whole, "data": data.draw(st.permutations(whole["data"]))}
    parts = embeddings.parts(json.dumps(shuffled).encode(), [embeddings.weight(each) for each in requests])
    assert json.loads(embeddings.joined(parts)) == whole
    chosen = data.draw(st.lists(st.integers(0, len(inputs) - 1), min_size=1))
    assert json.loads(embeddings.subset(request, chosen).body)["input"] == [inputs[index] for index in chosen]
    some = json.loads(embeddings.joined([parts[index] for index in chosen]))
    assert [each["embedding"] for each in some["data"]] == [whole["data"][i]["embedding"] for i in chosen]


@pytest.mark.parametrize("inputs", ["text", [], ["one"], [1, 2, 3], ["text", [1]]])
def test_what_is_not_several_inputs_is_not_split(inputs: Any) -> None:
    """A text, one text, or the tokens of one."""
    body = json.dumps({"model": "m", "input": inputs}).encode()
    assert embeddings.split(HttpRequest.of("POST", "https://host.example" + PATH, {}, body)) == ()


@pytest.mark.parametrize("data", [None, [], [{"index": 0}], [{"index": 0}, {"index": 0}], [1, 2]])
def test_a_reply_that_does_not_fit_is_refused(data: Any) -> None:
    """It is given on whole, and nothing is stored."""
    with pytest.raises(FormatError):
        embeddings.parts(json.dumps({"data": data}).encode(), [1, 1])
