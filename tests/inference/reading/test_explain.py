"""Why a request hits, misses or passes by."""

from __future__ import annotations

import json
from typing import Any

import pytest

from casstore.digest import Digest
from casstore.errors import ConfigError
from casstore.inference.cache import Cache
from casstore.inference.reading import explain as explaining
from casstore.inference.reading.explain import Explanation
from casstore.repo.repository import Repository
from tests.credentials import SECRET
from tests.inference.fakes import HELLO, DictStore, FakeClient
from tests.inference.reading.asking import answered, asking


def paths(found: Explanation) -> list[str]:
    """Return where the nearest request differs."""
    assert found.nearest is not None
    return [each.path for each in found.nearest.differences]


def test_a_stored_request_is_a_hit(cache: Cache) -> None:
    """With its key, what that is made of, and its entry; nothing is counted."""
    key = answered(cache, asking())
    before = cache.stats()
    found = cache.explain(asking())
    assert (found.state, found.key) == ("hit", key)
    assert found.entry is not None
    assert found.entry.key == key
    assert found.material is not None
    assert found.material["body"]["messages"] == [{"role": "user", "content": "hello"}]
    assert cache.stats() == before


def test_a_miss_names_the_nearest_request_and_where_it_differs(cache: Cache) -> None:
    """The one with the fewest and smallest differences."""
    answered(cache, asking("something else entirely", temperature=0.5))
    near = answered(cache, asking("What is the capital of France?", temperature=0.5))
    found = cache.explain(asking("What is the capital of Italy?", temperature=1))
    assert (found.state, found.reason, found.compared) == ("miss", "absent", 2)
    assert found.nearest is not None
    assert found.nearest.entry.key == near
    assert paths(found) == ["$.body.messages[0].content", "$.body.temperature"]
    told = 'stored "What is the capital of France?", asked "What is the capital of Italy?"'
    assert str(found).splitlines()[-2:] == [
        f"  $.body.messages[0].content: from character 23 on: {told}",
        "  $.body.temperature: stored 0.5, asked 1",
    ]


def test_what_is_not_in_the_key_is_named_and_never_shown(cache: Cache) -> None:
    """Volatile fields and headers; a credential is nowhere."""
    found = cache.explain(asking(user="me", metadata={"run": "7"}))
    assert found.left_out == ("body.user", "body.metadata", "header authorization")
    assert SECRET not in repr(found) + str(found)


def test_only_the_same_provider_and_path_are_compared(cache: Cache) -> None:
    """Other endpoints, and other providers, are not near."""
    answered(cache, asking(url="https://api.mistral.ai/v1/chat/completions"))
    found = cache.explain(asking())
    assert (found.nearest, found.compared) == (None, 0)
    assert "none of this provider and path" in str(found)


def test_the_work_is_bounded(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest are compared, those of the same model first."""
    monkeypatch.setattr(explaining, "COMPARED", 3)
    keys = [
        answered(cache, asking(f"{number}", model="gpt-4o" if number < 2 else "o3")) for number in range(9)
    ]
    read: list[str] = []
    assert isinstance(cache.repository, Repository)
    get = cache.repository.get

    def counted(digest: Digest) -> bytes:
        read.append(digest)
        return get(digest)

    monkeypatch.setattr(cache.repository, "get", counted)
    found = cache.explain(asking("3", model="gpt-4o"))
    assert found.compared == len(read) == 3
    assert set(keys[:2]) < set(read)


def test_entries_without_their_request_are_told(cache: Cache) -> None:
    """They cannot be compared."""
    answered(cache, asking("one"), keep_requests=False)
    found = cache.explain(asking("two"))
    assert (found.nearest, found.unread) == (None, 1)
    assert "1 more did not store theirs (keep_requests)" in str(found)


@pytest.mark.parametrize(
    ("request_", "rules", "reason"),
    [
        (asking(stream=True), {}, "stream"),
        (asking(previous_response_id="r"), {}, "state"),
        (asking(url="https://api.openai.com/v1/files"), {}, "endpoint"),
        (asking(headers={"x-casstore-mode": "bypass"}), {}, "bypass"),
        (asking(), {"key_hook": lambda _: None}, "hook"),
    ],
)
def test_what_passes_by_says_why(cache: Cache, request_: Any, rules: dict[str, Any], reason: str) -> None:
    """In the words of the ledger."""
    found = cache.explain(request_, **rules)
    assert (found.state, found.reason, found.key) == ("passed", reason, None)
    assert found.detail


def test_the_settings_of_the_moment_hold(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sample, namespace, mode and age: by block, header and environment."""
    answered(cache, asking())
    assert cache.explain(asking(headers={"x-casstore-sample": "2"})).state == "miss"
    with cache.using(namespace="other"):
        found = cache.explain(asking())
    assert paths(found) == ["$.namespace"]
    with cache.using(max_age=0):
        assert cache.explain(asking()).reason == "age"
    monkeypatch.setenv("CASSTORE_MODE", "refresh")
    assert cache.explain(asking()).reason == "refresh"


def test_a_request_may_be_given_as_json(cache: Cache) -> None:
    """Over HTTP, or as an SDK's parameters."""
    answered(cache, asking())
    call = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}
    assert cache.explain(call, provider="openai").state == "hit"
    assert cache.explain({"url": "https://api.openai.com/v1/chat/completions", "body": call}).state == "hit"
    with pytest.raises(ConfigError, match="name the provider"):
        cache.explain(call)


def test_a_wrapped_client_explains_its_calls(folder: Any) -> None:
    """With the request that it would send, and its settings."""
    with Cache(folder, keep_requests=True) as cache:
        client = cache.wrap(FakeClient(), namespace="mine")
        key = client.converse(HELLO).key
        assert (client.explain(HELLO).state, client.explain(HELLO).key) == ("hit", key)
        assert paths(client.explain(HELLO, temperature=1)) == ["$.body.temperature"]
        assert client.explain(HELLO, stream=True).reason == "stream"
        assert client.explain(HELLO, odd=object()).reason == "json"
        with cache.using(mode="bypass"):
            assert client.explain(HELLO).reason == "bypass"


def test_a_request_that_the_other_layer_stored_is_near(folder: Any) -> None:
    """Their keys are never the same: that is told, and only what differs besides."""
    with Cache(folder, keep_requests=True) as cache:
        client = FakeClient(host="api.openai.com", model="gpt-4o")
        cache.wrap(client).converse(HELLO)
        found = cache.explain(asking())
        assert found.state == "miss"
        assert found.nearest is not None
        assert (found.nearest.other_layer, found.nearest.differences) == (True, ())
        assert "stored by the other layer" in str(found)


def test_a_function_s_stored_request_is_near_to_its_other_calls(folder: Any) -> None:
    """What casstore show --json prints of one, with an argument changed."""
    with Cache(folder, keep_requests=True) as cache:
        cache.memoize(name="f")(lambda n: n)(1)
        assert isinstance(cache.repository, Repository)
        (entry,) = cache.repository.entries()
        request = json.loads(cache.repository.get(entry.refs[0]))
        assert cache.explain(request).state == "hit"
        request["arguments"] = {"n": 2}
        assert paths(cache.explain(request)) == ["$.arguments.n"]


def test_a_store_that_cannot_be_gone_through_is_told() -> None:
    """A store of the program's own has entries, but no list of them."""
    with Cache(DictStore()) as cache, pytest.raises(ConfigError, match="no store that can be read"):
        cache.explain(asking())


def test_an_answer_that_is_elsewhere_is_a_hit_that_has_to_be_fetched(tmp_path: Any) -> None:
    """Known by the manifest alone."""
    with Cache(tmp_path / "one") as cache:
        answered(cache, asking())
        assert isinstance(cache.repository, Repository)
        cache.repository.push(str(tmp_path / "remote"))
    with Repository.open(tmp_path / "two") as repo, Cache(repo) as cache:
        repo.pull(str(tmp_path / "remote"), manifest_only=True)
        found = cache.explain(asking())
        assert (found.state, found.reason) == ("hit", "remote")
        assert "fetched from a remote" in str(found)
