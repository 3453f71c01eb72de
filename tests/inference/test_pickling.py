"""Caches, repositories, clients and memoized functions in other processes: each pickles as its settings."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from casstore.digest import Key, digest_of
from casstore.errors import ConfigError
from casstore.inference.adapters.anthropic import AnthropicClient
from casstore.inference.adapters.bedrock import BedrockClient
from casstore.inference.adapters.openai import AsyncOpenAIClient, OpenAIClient
from casstore.inference.cache import Cache
from casstore.inference.clients import CachedClient
from casstore.inference.policy import Mode
from casstore.repo.repository import Repository
from tests.inference.fakes import HELLO, FakeClient


def ask(client: CachedClient) -> tuple[str, bool, int]:
    """Return an answer's text, whether it was a hit, and how many calls this process' cache counted."""
    response = client.converse(HELLO)
    total = client._cache.stats()
    return response.text, response.hit, total.calls


def _expect(client: CachedClient) -> None:
    assert ask(client) == ("answer 1", True, 0)


def look(cache: Cache, key: Key) -> bytes:
    """Return the answer stored for a key."""
    assert cache.repository is not None
    return cache.repository.read_entry(key)[1]


def get(store: Repository, digest: str) -> tuple[bytes, int, bool]:
    """Return an object, and the settings that the store was opened with."""
    return store.get(digest), store.max_size, store.local.durable  # type: ignore[arg-type]


def hook(fields: dict[str, Any]) -> dict[str, Any]:
    """Leave the material of a key as it is."""
    return fields


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_a_client_travels_to_a_process_pool(folder: Path, method: str) -> None:
    """A worker hits what its parent stored; its counters are its own."""
    with Cache(folder) as cache:
        client = cache.wrap(FakeClient())
        assert ask(client) == ("answer 1", False, 1)
        with ProcessPoolExecutor(1, multiprocessing.get_context(method)) as pool:
            assert pool.submit(ask, client).result() == ("answer 1", True, 0)
        assert cache.stats().hits == 0


def test_what_a_worker_stores_is_found_by_others(folder: Path) -> None:
    """A worker's answer is in the store that its parent named, and is not paid for again."""
    with Cache(folder) as cache:
        client = cache.wrap(FakeClient())
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            assert pool.submit(ask, client).result() == ("answer 1", False, 1)
        assert ask(client) == ("answer 1", True, 0)


def test_a_repository_travels_with_its_settings(tmp_path: Path) -> None:
    """The copy is the same folder with the same settings, in a process of its own or in this one."""
    with Repository.open(tmp_path / "store", durable=True, max_size=12345) as store:
        digest = store.put(b"content")
        with pickle.loads(pickle.dumps(store)) as copied:
            assert copied is not store
            assert get(copied, digest) == (b"content", 12345, True)
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            assert pool.submit(get, store, digest).result() == (b"content", 12345, True)
        assert store.get(digest) == b"content"


def test_every_setting_travels(folder: Path) -> None:
    """The copy has each argument that the cache was made with; it opens no store before its first use."""
    with Cache(
        folder, mode="refresh", namespace="n", max_age=60, keep={"empty"}, aliases={"a": "b"}
    ) as cache:
        sent = pickle.dumps(cache)
    copied = pickle.loads(sent)
    assert set(copied.__dict__) == {"_given", "_unopened"}
    with copied:
        settings = copied.settings({})
        assert (settings.mode, settings.namespace, settings.max_age) == (Mode.REFRESH, "n", 60)
        assert (copied.keep, copied.aliases) == ({"empty"}, {"a": "b"})
        assert copied.repository.path == folder
    again = pickle.loads(pickle.dumps(copied))
    assert again._given == cache._given


def test_a_relative_path_means_the_folder_it_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store is found from another working folder, also where the environment named it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CASSTORE_DIR", "named")
    with Cache("given") as given, Cache() as named:
        sent = pickle.dumps([given, named])
    monkeypatch.delenv("CASSTORE_DIR")
    monkeypatch.chdir("/")
    for copied, name in zip(pickle.loads(sent), ("given", "named"), strict=True):
        with copied:
            assert copied.repository.path == tmp_path / name


def test_the_default_store_is_that_of_the_place_of_arrival(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache made without a path opens the default store of the process it comes to."""
    with Cache() as cache:
        sent = pickle.dumps(cache)
    monkeypatch.setenv("CASSTORE_DIR", str(tmp_path / "there"))
    with pickle.loads(sent) as copied:
        assert copied.repository.path == tmp_path / "there"


def test_threads_open_a_copy_once(folder: Path) -> None:
    """Threads that use a copy at the same moment share one store."""
    with Cache(folder) as cache:
        copied = pickle.loads(pickle.dumps(cache))
    start, seen = threading.Barrier(8), []

    def use() -> None:
        start.wait()
        seen.append((copied.repository, copied.tiers))

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    copied.close()
    assert len(seen) == 8
    assert len(set(seen)) == 1


def test_a_copy_in_a_forked_child_opens(folder: Path) -> None:
    """A copy that was not used before a fork opens in the child."""
    with Cache(folder) as cache:
        cache.wrap(FakeClient()).converse(HELLO)
        copied = pickle.loads(pickle.dumps(cache)).wrap(FakeClient())
        with ProcessPoolExecutor(
            1, multiprocessing.get_context("fork"), initializer=partial(ask, copied)
        ) as pool:
            assert pool.submit(ask, copied).result() == ("answer 1", True, 0)


def test_a_wrong_setting_is_told_at_the_first_use(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What makes a cache fail where it arrives is told at each use, and no attribute is made up."""
    with Cache(folder) as cache:
        copied = pickle.loads(pickle.dumps(cache))
    monkeypatch.setenv("CASSTORE_MODE", "nonsense")
    for _ in range(2):
        with pytest.raises(ConfigError, match="nonsense"):
            copied.stats()
    monkeypatch.delenv("CASSTORE_MODE")
    assert copied.stats().calls == 0
    assert not hasattr(copied, "no_such_attribute")
    copied.close()


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_a_copied_cache_is_a_cache_of_its_own(folder: Path, duplicate: Any) -> None:
    """Frameworks that copy their settings get a cache that works, with counters of its own."""
    with Cache(folder) as cache:
        cache.wrap(FakeClient()).converse(HELLO)
        with duplicate(cache) as other:
            assert ask(other.wrap(FakeClient())) == ("answer 1", True, 0)
            assert other.stats().hits == 1
        assert cache.stats().hits == 0
        assert ask(cache.wrap(FakeClient())) == ("answer 1", True, 1)


@pytest.mark.parametrize("kind", [OpenAIClient, AsyncOpenAIClient, AnthropicClient, BedrockClient])
def test_clients_without_an_sdk_of_the_user_travel(
    cache: Cache, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that makes its SDK itself pickles, also after a call; the copy sends the same request."""
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "any")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    client = cache.wrap(kind("model"))
    client._client.connect()
    copied = pickle.loads(pickle.dumps(client))
    copied._client.connect()
    assert copied._client._sdk is not client._client._sdk
    options = {"max_tokens": 5}
    assert copied.request(HELLO, None, options) == client.request(HELLO, None, options)
    assert type(copied) is type(client)


def test_rules_travel_and_those_that_cannot_are_named(cache: Cache) -> None:
    """A function of a module travels as a key hook; for a lambda, the error names the argument."""
    copied = pickle.loads(pickle.dumps(cache.http(key_hook=hook, ignore_fields={"user"})))
    assert (copied.rules.key_hook, copied.rules.ignore_fields) == (hook, {"user"})
    script = (
        "import pickle, sys; from casstore import Cache\n"
        "with Cache(sys.argv[1]) as cache:\n"
        "    pickle.dumps(cache.http(key_hook=lambda fields: fields))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, str(cache.repository.path)],  # type: ignore[union-attr]
        capture_output=True,
        text=True,
        check=False,
    )
    assert "PicklingError: http(..., key_hook=<function <lambda>" in ran.stderr


def test_cloudpickle_sends_lambdas(cache: Cache) -> None:
    """What only cloudpickle can send is left to it."""
    copied = pickle.loads(cloudpickle.dumps(cache.http(key_hook=lambda fields: {**fields, "more": 1})))
    assert copied.rules.key_hook({}) == {"more": 1}


_MAIN = """
import pickle, subprocess, sys
import cloudpickle
from casstore import Cache

cache = Cache(sys.argv[1])

@cache.memoize
def double(x):
    print("called", x, flush=True)
    return 2 * x

@cache.memoize
async def treble(x):
    print("called", x, flush=True)
    return 3 * x

import asyncio
assert (double(4), asyncio.run(treble(5))) == (8, 15)
program = (
    "import asyncio, pickle, sys; double, treble = pickle.load(sys.stdin.buffer);"
    "print(double(4), asyncio.run(treble(5)), double(7))"
)
subprocess.run([sys.executable, "-c", program], input=cloudpickle.dumps((double, treble)), check=True)
"""


def test_a_memoized_function_of_a_script_travels_by_cloudpickle(tmp_path: Path) -> None:
    """A worker, for which the script is no module, finds the results, and makes the one that is new."""
    script = tmp_path / "script.py"
    script.write_text(_MAIN)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    ran = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "store")],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    assert ran.stdout.splitlines() == ["called 4", "called 5", "called 7", "8 15 14"]


def test_a_memoized_function_of_a_module_travels_by_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pickle sends a decorated function by its name, as it sends every function."""
    module = sys.modules[__name__]
    with Cache(folder) as cache:
        monkeypatch.setattr(module, "hook", cache.memoize(hook))
        assert pickle.loads(pickle.dumps(module.hook)) is module.hook


def test_the_answer_is_read_by_key(folder: Path) -> None:
    """A cache is an argument like any other: a worker reads from the store behind it."""
    key = Key(digest_of(b"asked"))
    with Cache(folder) as cache:
        assert cache.repository is not None
        cache.repository.put_entry(key, b"answer")
        with ProcessPoolExecutor(1, multiprocessing.get_context("forkserver")) as pool:
            assert pool.submit(look, cache, key).result() == b"answer"
