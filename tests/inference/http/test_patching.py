"""A cache before all clients of a process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import botocore.client
import httpx
import httpx2
import openai
import pytest
import urllib3

import casstore
from casstore.inference.cache import Cache
from tests.conftest import Bucket
from tests.credentials import SECRET
from tests.inference.http.clients import KINDS, asking
from tests.inference.http.loopback import Loopback
from tests.inference.http.replies import CHAT, CHAT_PATH, canned, chat

OURS = ("127.0.0.1:*",)

CLASSES: list[tuple[Any, str]] = [
    (httpx.HTTPTransport, "handle_request"),
    (httpx.AsyncHTTPTransport, "handle_async_request"),
    (httpx2.HTTPTransport, "handle_request"),
    (httpx2.AsyncHTTPTransport, "handle_async_request"),
    (aiohttp.ClientSession, "_request"),
    (urllib3.HTTPConnectionPool, "urlopen"),
    (botocore.client.BaseClient, "_make_request"),
]


@pytest.fixture
def url(loopback: Loopback) -> str:
    """Return where chats are asked; the server answers them."""
    loopback.reply = canned(chat())
    return loopback.url + CHAT_PATH


@pytest.mark.parametrize("kind", KINDS)
def test_clients_made_before_and_after_are_answered(
    kind: str, cache: Cache, loopback: Loopback, url: str
) -> None:
    """And no more once it is over."""
    with asking(kind, None) as before:
        with casstore.installed(cache, hosts=OURS):
            assert before.post(url, json=CHAT).headers["x-casstore"] == "miss"
            with asking(kind, None) as after:
                assert after.post(url, json=CHAT).headers["x-casstore"] == "hit"
        assert "x-casstore" not in before.post(url, json=CHAT).headers
    assert loopback.calls == 2


def test_other_hosts_are_left_alone(cache: Cache, url: str) -> None:
    """By default all but the known providers'."""
    casstore.install(cache)
    with asking("httpx", None) as asker:
        assert "x-casstore" not in asker.post(url, json=CHAT).headers
    casstore.install(cache, hosts=OURS)
    with asking("httpx", None) as asker:
        assert asker.post(url, json=CHAT).headers["x-casstore"] == "miss"


def test_known_hosts_are_taken_up(cache: Cache) -> None:
    """Those of the providers, in every region and resource: nothing is sent."""
    hosts = [
        "https://api.openai.com/v1/chat/completions",
        "https://api.anthropic.com/v1/messages",
        "https://mine.openai.azure.com/openai/deployments/x/chat/completions",
        "https://bedrock-runtime.eu-central-1.amazonaws.com/model/x/converse",
        "https://generativelanguage.googleapis.com/v1beta/models/x:generateContent",
        "https://europe-west1-aiplatform.googleapis.com/v1/models/x:generateContent",
        "https://api.groq.com/openai/v1/chat/completions",
        "https://api.mistral.ai/v1/chat/completions",
    ]
    with casstore.installed(cache), cache.using(mode="offline"), httpx2.Client() as client:
        assert [client.post(host, json=CHAT).status_code for host in hosts] == [504] * len(hosts)


def test_nothing_is_left_behind(cache: Cache) -> None:
    """The classes are as they were, however often it was done."""
    before = [owner.__dict__[name] for owner, name in CLASSES]
    finders = list(sys.meta_path)
    casstore.install(cache)
    casstore.install(cache)
    with casstore.installed(cache):
        assert not set(before) & {owner.__dict__[name] for owner, name in CLASSES}
    assert not set(before) & {owner.__dict__[name] for owner, name in CLASSES}
    casstore.uninstall()
    casstore.uninstall()
    assert [owner.__dict__[name] for owner, name in CLASSES] == before
    assert sys.meta_path == finders


def test_blocks_nest(cache: Cache, tmp_path: Path, url: str) -> None:
    """The inner one answers, then the outer one again."""
    with Cache(tmp_path / "inner") as inner, asking("httpx2", None) as asker:
        with casstore.installed(cache, hosts=OURS):
            with casstore.installed(inner, hosts=OURS):
                asker.post(url, json=CHAT)
            assert (inner.stats().calls, cache.stats().calls) == (1, 0)
            asker.post(url, json=CHAT)
        assert (inner.stats().calls, cache.stats().calls) == (1, 1)


def test_a_client_with_a_cache_of_its_own_keeps_it(
    cache: Cache, tmp_path: Path, loopback: Loopback, url: str
) -> None:
    """A request is taken up once."""
    with Cache(tmp_path / "own") as own, asking("httpx", own) as asker, casstore.installed(cache, hosts=OURS):
        asker.post(url, json=CHAT)
        assert asker.post(url, json=CHAT).headers["x-casstore"] == "hit"
        assert (own.stats().calls, cache.stats().calls) == (1, 0)
    assert loopback.calls == 1


def test_an_sdk_that_was_never_told(cache: Cache, loopback: Loopback, url: str) -> None:
    """The program makes its client elsewhere."""
    casstore.install(cache, hosts=OURS)
    with openai.OpenAI(base_url=url.removesuffix("/chat/completions"), api_key=SECRET) as client:
        answers = [client.chat.completions.create(**CHAT) for _ in range(2)]
    assert answers[0] == answers[1]
    assert loopback.calls == 1


def test_what_is_reached_can_be_asked(cache: Cache) -> None:
    """With versions; nothing is reached before and after."""
    assert casstore.installed().reached == {}
    with casstore.installed(cache) as installation:
        found = installation.reached
    assert set(found) == {"httpx", "httpx2", "aiohttp", "requests", "urllib3", "botocore"}
    assert found["aiohttp"] == aiohttp.__version__
    assert casstore.installed().reached == {}


def test_requests_to_a_remote_are_no_calls(
    cache: Cache, bucket: Bucket, loopback: Loopback, url: str
) -> None:
    """What casstore sends to S3 over aiohttp is neither stored nor counted, whatever the hosts."""
    with casstore.installed(cache, hosts=("*",)), asking("aiohttp", None) as asker:
        asker.post(url, json=CHAT)
        repository: Any = cache.repository
        assert repository.push(bucket.url).objects
        assert asker.post(url, json=CHAT).headers["x-casstore"] == "hit"
    assert cache.reasons() == {}
    assert (cache.stats().calls, cache.stats().hits, loopback.calls) == (1, 1, 1)


LATER = """
import sys
import casstore
cache = casstore.Cache(sys.argv[1])
casstore.install(cache, hosts=("127.0.0.1:*",))
assert not {"httpx", "httpx2", "aiohttp", "requests", "urllib3", "botocore"} & set(sys.modules)
import httpx2
for _ in range(2):
    found = httpx2.post(sys.argv[2], json={"model": "m", "messages": []})
assert found.headers["x-casstore"] == "hit", found.headers
assert "httpx" not in sys.modules
import httpx
assert httpx.post(sys.argv[2], json={"model": "m", "messages": []}).headers["x-casstore"] == "hit"
import requests
assert requests.post(sys.argv[2], json={"model": "m", "messages": []}).headers["x-casstore"] == "hit"
import asyncio, aiohttp
async def ask():
    async with aiohttp.ClientSession() as session:
        async with session.post(sys.argv[2], json={"model": "m", "messages": []}) as found:
            await found.read()
            return found.headers["x-casstore"]
assert asyncio.run(ask()) == "hit"
casstore.uninstall()
assert "x-casstore" not in httpx.post(sys.argv[2], json={"model": "m", "messages": []}).headers
cache.close()
"""


def test_a_library_that_is_loaded_later_is_patched_then(folder: Path, loopback: Loopback, url: str) -> None:
    """And installing loads none."""
    subprocess.run([sys.executable, "-W", "error", "-c", LATER, str(folder), url], check=True)
    assert loopback.calls == 2
