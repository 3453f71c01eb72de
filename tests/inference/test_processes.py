"""Processes: what an import loads, what a fork leaves, what a second process finds."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import threading
from pathlib import Path

from casstore.inference.cache import Cache
from tests.inference.fakes import HELLO, FakeClient

HEAVY = "openai anthropic boto3 botocore asyncio click rich fsspec s3fs httpx logging tomllib"

HIT = f"""
import sys
from casstore.inference.cache import Cache
from casstore.inference.adapters.openai import OpenAIClient
from casstore.inference.adapters.anthropic import AnthropicClient
with Cache(sys.argv[1], mode="offline") as cache:
    client = cache.wrap(OpenAIClient("gpt-4o", base_url="https://api.example/v1"))
    print(client.converse([{{"role": "user", "content": "hello"}}]).text)
print([name for name in {HEAVY.split()} if name in sys.modules])
"""


def test_a_hit_loads_no_sdk_and_needs_no_credentials(folder: Path) -> None:
    """A fresh process that only hits loads neither SDK nor asyncio nor anything else slow to import."""

    class Stored(FakeClient):
        def converse(self, *args: object, **more: object) -> object:  # type: ignore[override]  # passed on
            return super().converse(*args, **more)  # type: ignore[arg-type]  # as it came

    with Cache(folder) as cache:
        stored = Stored(host="api.example", model="gpt-4o")
        cache.wrap(stored).converse(HELLO)  # type: ignore[call-overload]  # see above
    command = [sys.executable, "-W", "error", "-c", HIT, str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout == "answer 1\n[]\n"


def _child(cache: Cache, results: multiprocessing.SimpleQueue[tuple[str, bool, int]]) -> None:
    client = FakeClient(answer=None)
    response = cache.wrap(client).converse(HELLO)
    other = cache.wrap(client).converse(HELLO, seed=1)
    results.put((response.text, response.hit, cache.stats().calls))
    assert other.text


def test_a_forked_child_goes_on(folder: Path) -> None:
    """A lock held and a call under way in the parent at the moment of the fork stop nobody in the child."""
    context = multiprocessing.get_context("fork")
    with Cache(folder) as cache:
        cache.wrap(FakeClient()).converse(HELLO)
        results = context.SimpleQueue()
        cache.flights.join(
            cache.wrap(FakeClient())._open(HELLO, None, {"seed": 1})[1].flight, threading.get_ident() + 1
        )
        with cache.tiers._memory._lock, cache._ledger._counters._lock, cache.flights._lock:
            child = context.Process(target=_child, args=(cache, results), daemon=True)
            child.start()
        child.join(30)
        assert child.exitcode == 0
        assert results.get() == ("answer 1", True, 1)
