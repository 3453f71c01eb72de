"""Single flight: identical calls at one moment are one call, for threads and for event loops."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from casstore.inference.asynchronous import fly
from casstore.inference.cache import Cache
from casstore.inference.flight import Flights
from tests.inference.fakes import HELLO, AsyncFakeClient, DictStore, SlowClient, answered


class Stopped(BaseException):
    """A leader is stopped, as by an interrupt."""


def waiting(flights: Flights[Any], name: str, count: int) -> None:
    """Wait until `count` callers wait for the flight called `name`."""
    while len(flights._flights[name].wake) < count:
        threading.Event().wait(0.001)


def lead(flights: Flights[int], leader: Any, followers: int = 3) -> tuple[Any, list[Any], int]:
    """Run `leader` with followers that wait for it; return its future, theirs, and how often they called."""
    begun, go, calls = threading.Event(), threading.Event(), []

    def first() -> int:
        begun.set()
        assert go.wait(30)
        result: int = leader()
        return result

    def later() -> int:
        calls.append(1)
        return 7

    with ThreadPoolExecutor(followers + 1) as pool:
        led = pool.submit(flights.run, "name", first)
        assert begun.wait(30)
        others = [pool.submit(flights.run, "name", later) for _ in range(followers)]
        waiting(flights, "name", followers)
        go.set()
    return led, others, len(calls)


def test_followers_share_the_leaders_result() -> None:
    """One call, one result, and each knows whether it was its own."""
    led, others, calls = lead(Flights(), lambda: 1)
    assert led.result() == (1, True)
    assert [other.result() for other in others] == [(1, False)] * 3
    assert calls == 0


def test_followers_share_the_leaders_error() -> None:
    """An error is everybody's who waited: asking again at once would only add to the trouble."""

    def fail() -> int:
        raise RuntimeError("429")

    led, others, calls = lead(Flights(), fail)
    for future in (led, *others):
        with pytest.raises(RuntimeError, match="429"):
            future.result()
    assert calls == 0


def test_when_the_leader_is_stopped_the_next_one_leads() -> None:
    """What stops the leader alone is not shared: one of those waiting calls, and the rest share that."""

    def stop() -> int:
        raise Stopped

    led, others, calls = lead(Flights(), stop)
    with pytest.raises(Stopped):
        led.result()
    results = [other.result() for other in others]
    assert [value for value, _ in results] == [7, 7, 7]
    assert calls == [own for _, own in results].count(True) >= 1


def test_later_calls_are_calls_of_their_own() -> None:
    """A flight that landed is over."""
    flights: Flights[int] = Flights()
    assert flights.run("name", lambda: 1) == (1, True)
    assert flights.run("name", lambda: 2) == (2, True)


def test_a_call_inside_itself_does_not_wait_for_itself() -> None:
    """The thread that leads may ask the same again."""
    flights: Flights[int] = Flights()
    assert flights.run("name", lambda: flights.run("name", lambda: 5)[0] + 1) == (6, True)


def test_many_threads_make_one_call() -> None:
    """Fifty threads with one question cost one call and one lookup; all but one are hits."""
    store = DictStore()
    cache = Cache(store)
    client = SlowClient()
    cached = cache.wrap(client)
    with ThreadPoolExecutor(50) as pool:
        futures = [pool.submit(cached.converse, HELLO) for _ in range(50)]
        assert client.asked.wait(30)
        client.release.set()
    responses = [future.result() for future in futures]
    assert {response.text for response in responses} == {"answer 1"}
    assert [response.hit for response in responses].count(False) == 1
    assert len(client.calls) == 1
    stats = cache.stats()
    assert (stats.calls, stats.hits) == (1, 49)


def test_a_thousand_tasks_make_one_call() -> None:
    """A thousand concurrent identical calls cost one call and one lookup."""
    store = DictStore()
    cache = Cache(store)
    client = AsyncFakeClient()
    cached = cache.wrap(client)

    async def main() -> list[str]:
        responses = await asyncio.gather(*(cached.converse(HELLO) for _ in range(1000)))
        return [response.text for response in responses]

    assert asyncio.run(main()) == ["answer 1"] * 1000
    assert len(client.calls) == 1
    assert store.did == ["read", "put"]
    assert cache.stats().hits == 999


def test_different_calls_do_not_wait_for_each_other() -> None:
    """Other samples and other modes are other calls."""
    cache = Cache(DictStore())
    client = AsyncFakeClient()

    async def main() -> None:
        samples = [cache.wrap(client, sample=number) for number in range(3)]
        await asyncio.gather(*(each.converse(HELLO) for each in samples))
        plain, fresh = cache.wrap(client), cache.wrap(client, mode="refresh")
        await asyncio.gather(plain.converse(HELLO), fresh.converse(HELLO), fresh.converse(HELLO))

    asyncio.run(main())
    assert len(client.calls) == 4


def test_a_cancelled_leader_hands_over() -> None:
    """Cancelling the task that leads costs the others nothing but a second call."""
    cache = Cache(DictStore())
    client = AsyncFakeClient()
    client.pauses = 10_000
    cached = cache.wrap(client)

    async def main() -> list[str]:
        tasks = [asyncio.create_task(cached.converse(HELLO)) for _ in range(5)]
        for _ in range(3):  # each task begins, and asks or waits
            await asyncio.sleep(0)
        assert cache.async_flights._flights
        tasks[0].cancel()
        client.pauses = 1
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(results[0], asyncio.CancelledError)
        return [result.text for result in results if not isinstance(result, BaseException)]

    assert asyncio.run(main()) == ["answer 1"] * 4


def test_a_cancelled_follower_leaves_the_others_alone() -> None:
    """Who waits may stop waiting."""
    cache = Cache(DictStore())
    client = AsyncFakeClient()
    client.pauses = 200
    cached = cache.wrap(client)

    async def main() -> list[str]:
        tasks = [asyncio.create_task(cached.converse(HELLO)) for _ in range(3)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        return [result.text for result in results if not isinstance(result, BaseException)]

    assert asyncio.run(main()) == ["answer 1"] * 2
    assert len(client.calls) == 1


def test_an_error_is_shared_among_tasks() -> None:
    """The provider is asked once; each task gets its error, and nothing is stored."""
    store = DictStore()

    def fail(_body: object, _number: int) -> Any:
        raise RuntimeError("529")

    client = AsyncFakeClient(answer=fail)
    cached = Cache(store).wrap(client)

    async def main() -> list[Any]:
        return await asyncio.gather(*(cached.converse(HELLO) for _ in range(4)), return_exceptions=True)

    assert [str(each) for each in asyncio.run(main())] == ["529"] * 4
    assert len(client.calls) == 1
    assert not store.held


def test_event_loops_share_a_flight() -> None:
    """A task may wait for a call that another thread's event loop makes."""
    flights: Flights[int] = Flights()
    begun, go = threading.Event(), threading.Event()

    async def first() -> int:
        begun.set()
        await asyncio.to_thread(go.wait, 30)
        return 1

    async def later() -> int:
        return 2

    def run(call: Any) -> tuple[int, bool]:
        return asyncio.run(fly(flights, "name", call))

    with ThreadPoolExecutor(2) as pool:
        led = pool.submit(run, first)
        assert begun.wait(30)
        other = pool.submit(run, later)
        waiting(flights, "name", 1)
        go.set()
    assert (led.result(), other.result()) == ((1, True), (1, False))


def test_truncations_are_shared_as_truncations() -> None:
    """Those who waited for a truncated answer get it the way their client gives it."""
    client = AsyncFakeClient(truncated="return", answer=lambda _b, _n: answered("half", stop="length"))
    cached = Cache(DictStore()).wrap(client)

    async def main() -> list[bool]:
        responses = await asyncio.gather(*(cached.converse(HELLO, max_tokens=1) for _ in range(3)))
        return [response.truncated for response in responses]

    assert asyncio.run(main()) == [True] * 3
    assert len(client.calls) == 1
