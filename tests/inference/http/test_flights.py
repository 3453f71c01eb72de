"""Identical calls at one moment: one is made, for threads, tasks and processes."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import httpx2
import openai
import pytest

import casstore
from casstore.digest import Key
from casstore.inference.cache import Cache
from casstore.inference.http.turns import Turns
from tests.children import fork
from tests.inference.http.clients import ask_in_a_process, asking
from tests.inference.http.loopback import Canned, Loopback
from tests.inference.http.moments import held, until, waiting
from tests.inference.http.replies import CHAT, CHAT_PATH, canned, chat

MANY = 1000


def test_a_thousand_tasks_make_one_call(cache: Cache, loopback: Loopback) -> None:
    """Of the OpenAI client; all get equal answers."""
    go = threading.Event()
    loopback.reply = held(go)

    async def ask_all() -> list[Any]:
        async with openai.AsyncOpenAI(base_url=loopback.url + "/v1", api_key="none", max_retries=0) as client:
            casstore.cached(client, cache)
            calls = [asyncio.create_task(client.chat.completions.create(**CHAT)) for _ in range(MANY)]
            await asyncio.to_thread(until, waiting(cache.async_http_flights, MANY - 1))
            go.set()
            return await asyncio.gather(*calls)

    answers = asyncio.run(ask_all())
    assert loopback.calls == 1
    assert len({answer.to_json() for answer in answers}) == 1
    assert (cache.stats().calls, cache.stats().hits) == (1, MANY - 1)


def test_threads_make_one_call(cache: Cache, loopback: Loopback) -> None:
    """Whichever library they use."""
    go = threading.Event()
    loopback.reply = held(go)
    kinds = ["httpx", "httpx2"] * 8

    def ask(kind: str) -> bytes:
        with asking(kind, cache) as asker:
            content: bytes = asker.post(loopback.url + CHAT_PATH, json=CHAT).content
            return content

    with ThreadPoolExecutor(len(kinds)) as pool:
        answers = [pool.submit(ask, kind) for kind in kinds]
        until(waiting(cache.http_flights, len(kinds) - 1))
        go.set()
    assert len({answer.result() for answer in answers}) == 1
    assert loopback.calls == 1


def test_a_cancelled_leader_frees_the_others(cache: Cache, loopback: Loopback) -> None:
    """The next one leads; all but the cancelled get the answer."""
    never, loopback.reply = threading.Event(), canned(chat())
    loopback.script.append(held(never))

    async def ask_all() -> list[Any]:
        async with httpx2.AsyncClient(verify=False) as client:
            casstore.cached(client, cache)
            calls = [asyncio.create_task(client.post(loopback.url + CHAT_PATH, json=CHAT)) for _ in range(50)]
            await asyncio.to_thread(until, waiting(cache.async_http_flights, 49))
            await asyncio.to_thread(until, lambda: loopback.calls == 1)
            calls[0].cancel()
            return await asyncio.gather(*calls, return_exceptions=True)

    first, *others = asyncio.run(ask_all())
    never.set()
    assert isinstance(first, asyncio.CancelledError)
    assert {other.json()["id"] for other in others} == {"chatcmpl-1"}
    assert loopback.calls == 2


def test_an_error_is_shared(cache: Cache, loopback: Loopback) -> None:
    """Asking again at once would only add to a provider's trouble."""
    go = threading.Event()
    loopback.reply = Canned(429, (("content-type", "application/json"),), b"{}", hold=go)

    def ask() -> int:
        with asking("httpx", cache) as asker:
            status: int = asker.post(loopback.url + CHAT_PATH, json=CHAT).status_code
            return status

    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(ask) for _ in range(4)]
        until(waiting(cache.http_flights, 3))
        go.set()
    assert [answer.result() for answer in answers] == [429] * 4
    assert loopback.calls == 1
    assert cache.stats().hits == 0


@pytest.mark.parametrize("way", ["", " async"])
def test_what_may_be_due_to_who_asks_is_not_shared(way: str, cache: Cache, loopback: Loopback) -> None:
    """Another key may have an answer where one that is wrong has none."""
    go = threading.Event()
    loopback.script.append(Canned(401, (("content-type", "application/json"),), b"{}", hold=go))
    loopback.reply = canned(chat())
    statuses = together(cache, loopback, go, ["httpx" + way, "httpx2" + way])
    assert sorted(statuses) == [200, 401]
    assert loopback.calls == 2


@pytest.mark.parametrize("way", ["", " async"])
def test_an_error_of_another_library_is_not_shared(way: str, cache: Cache, loopback: Loopback) -> None:
    """A program that uses one does not know the errors of the other; it asks itself."""
    go = threading.Event()
    loopback.script.append(Canned(200, hold=go, cut=True))
    loopback.reply = canned(chat())
    first, second = together(cache, loopback, go, ["httpx" + way, "httpx2" + way])
    assert isinstance(first, httpx.RemoteProtocolError)
    assert second == 200


def together(cache: Cache, loopback: Loopback, go: threading.Event, kinds: list[str]) -> list[Any]:
    """Ask with clients of some kinds, in this order, at one moment; return their statuses or errors."""
    flights: Any = cache.async_http_flights if "async" in kinds[0] else cache.http_flights

    def ask(kind: str) -> int | Exception:
        with asking(kind, cache) as asker:
            try:
                status: int = asker.post(loopback.url + CHAT_PATH, json=CHAT).status_code
            except Exception as error:  # noqa: BLE001 — whatever it is, it is looked at
                return error
            return status

    with ThreadPoolExecutor(len(kinds)) as pool:
        answers = []
        for count, kind in enumerate(kinds):
            answers.append(pool.submit(ask, kind))
            until(waiting(flights, count))
        go.set()
    return [answer.result() for answer in answers]


@pytest.mark.parametrize("kind", ["httpx", "httpx2 async"])
def test_processes_make_one_call_where_asked_to(kind: str, folder: Path, loopback: Loopback) -> None:
    """And one that is killed in its turn frees the others."""
    context = multiprocessing.get_context("spawn")
    never = threading.Event()
    loopback.script.append(held(never))
    loopback.reply = canned(chat())
    Cache(folder).close()
    leader = context.Process(target=ask_in_a_process, args=(str(folder), loopback.url, kind), daemon=True)
    leader.start()
    until(lambda: loopback.calls == 1)
    others = [
        context.Process(target=ask_in_a_process, args=(str(folder), loopback.url, kind), daemon=True)
        for _ in range(3)
    ]
    for other in others:
        other.start()
    time.sleep(0.3)  # enough for them to ask, if they were not to wait
    assert loopback.calls == 1
    assert leader.pid is not None
    os.kill(leader.pid, signal.SIGKILL)
    for process in (leader, *others):
        process.join(60)
    never.set()
    assert [other.exitcode for other in others] == [0, 0, 0]
    assert loopback.calls == 2
    assert list((folder / "flights").iterdir()) == []


def test_a_turn_is_one_processs(tmp_path: Path) -> None:
    """A key's, not a store's; and it can be had again."""
    turns, key = Turns(tmp_path), Key("0" * 64)
    turn = turns.try_take(key)
    assert turn is not None
    assert turns.try_take(key) is None
    assert turns.take(key, patience=0.02) is None
    other = turns.try_take(Key("1" * 64))
    assert other is not None
    turn.end()
    again = turns.take(key)
    assert again is not None
    again.end()
    other.end()


def test_a_forked_child_does_not_hold_its_parents_turn(tmp_path: Path) -> None:
    """However long it lives."""
    turns, key = Turns(tmp_path), Key("0" * 64)
    turn = turns.try_take(key)
    assert turn is not None
    child = fork(lambda: time.sleep(30))
    try:
        turn.end()
        again = turns.try_take(key)
        assert again is not None
        again.end()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_folder_that_cannot_be_written_means_no_turns(
    cache: Cache, loopback: Loopback, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Calls go on, with one warning."""
    (folder / "flights").write_text("no folder")
    loopback.reply = canned(chat())
    for kind in ("httpx", "httpx2 async"):
        with asking(kind, cache, processes=True) as asker, cache.using(tag=kind):
            assert asker.post(loopback.url + CHAT_PATH, json=CHAT).json() == chat()
    assert len(caplog.records) == 1


def test_streams_are_read_at_once_without_waiting(cache: Cache, loopback: Loopback) -> None:
    """A program that reads two alike at once would wait for itself."""
    loopback.reply = Canned(200, (("content-type", "text/event-stream"),), pieces=(b"data: {}\n\n",))
    with httpx2.Client(verify=False) as client:
        casstore.cached(client, cache, streams="record")
        body = {**CHAT, "stream": True}
        with (
            client.stream("POST", loopback.url + CHAT_PATH, json=body) as one,
            client.stream("POST", loopback.url + CHAT_PATH, json=body) as two,
        ):
            assert (one.read(), two.read()) == (b"data: {}\n\n",) * 2
    assert loopback.calls == 2
