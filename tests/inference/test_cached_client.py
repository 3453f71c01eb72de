"""The cached client: misses, hits, modes, samples, ages, truncations, and what an entry tells."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from casstore.digest import digest_of
from casstore.errors import ConfigError, OfflineMissError
from casstore.inference import tiers
from casstore.inference.cache import Cache
from casstore.inference.types import NO_USAGE, Response, TruncatedError, Usage
from casstore.repo.repository import Repository
from tests.inference.fakes import HELLO, USAGE, AsyncFakeClient, DictStore, FakeClient, answered


def test_first_a_miss_then_a_hit(cache: Cache) -> None:
    """The second call asks nobody, and gives the same text, marked as a hit."""
    client = FakeClient()
    cached = cache.wrap(client)
    first = cached.converse(HELLO, temperature=0.5)
    second = cached.converse(HELLO, temperature=0.5)
    assert (first.text, first.hit, second.text, second.hit) == ("answer 1", False, "answer 1", True)
    assert len(client.calls) == 1
    assert first.key == second.key
    assert first.key


def test_a_hit_costs_nothing_and_tells_the_original(folder: Path) -> None:
    """Usage and cost of a hit are zero; the first call's stay known."""
    prices = {"fake-1": {"input": 10.0, "output": 100.0, "cached": 1.0}}
    with Cache(folder, prices=prices) as cache:
        cached = cache.wrap(FakeClient())
        first, second = cached.converse(HELLO), cached.converse(HELLO)
    assert first.cost == pytest.approx((60 * 10 + 40 * 1 + 20 * 100) / 1e6)
    assert (second.usage, second.cost, second.seconds) == (NO_USAGE, 0.0, 0.0)
    assert second.original is not None
    assert (second.original.usage, second.original.cost) == (USAGE, first.cost)
    assert second.original.seconds == pytest.approx(first.seconds, abs=1e-6)


def test_usage_on_hit_may_be_the_original(folder: Path) -> None:
    """A program that budgets by usage may see the first call's."""
    with Cache(folder, usage_on_hit="original") as cache:
        cached = cache.wrap(FakeClient())
        cached.converse(HELLO)
        assert cached.converse(HELLO).usage == USAGE


@pytest.mark.parametrize("memory", [0, 1 << 20])
def test_a_stored_answer_is_whole(folder: Path, memory: int) -> None:
    """Text, stop, model and the provider's raw reply come back from another process' cache as they were."""
    text = 'two lines\nand "quotes", é, 😀, \x00 and a lone \ud800'
    with Cache(folder) as cache:
        first = cache.wrap(FakeClient(answer=lambda _b, _n: answered(text))).converse(HELLO)
    with Cache(folder, memory=memory) as cache:
        cached = cache.wrap(FakeClient())
        for _ in range(2):
            again = cached.converse(HELLO)
            assert again.hit
            assert (again.text, again.stop_reason, again.model) == (text, "end", "fake-1")
            assert again.raw == first.raw == {"text": text, "id": "reply-1"}


def test_a_raw_reply_is_nobodys_to_change(cache: Cache) -> None:
    """Who changes the raw reply changes it for themselves."""
    cached = cache.wrap(FakeClient())
    cached.converse(HELLO).raw["text"] = "changed"
    cached.converse(HELLO).raw["text"] = "changed"
    assert cached.converse(HELLO).raw["text"] == "answer 1"


def test_messages_system_and_every_option_count(cache: Cache) -> None:
    """Another question is another call, whatever makes it another."""
    client = FakeClient()
    cached = cache.wrap(client)
    cached.converse(HELLO)
    cached.converse(HELLO, system="be brief")
    cached.converse(HELLO, temperature=0)
    cached.converse([*HELLO, *HELLO])
    cache.wrap(replace(client, host="other.example")).converse(HELLO)
    cache.wrap(replace(client, model="fake-2")).converse(HELLO)
    assert len(client.calls) == 6  # the copies share the list of calls


def test_options_of_any_name_reach_the_provider(cache: Cache) -> None:
    """The cache takes no option for itself: mode, sample and the like are the provider's to have."""
    client = FakeClient()
    cache.wrap(client).converse(HELLO, mode="fast", sample=3, namespace="n", max_age=1, key="k")
    sent = client.calls[0]
    assert (sent["mode"], sent["sample"], sent["namespace"], sent["max_age"]) == ("fast", 3, "n", 1)


def test_refresh_replaces_the_answer(folder: Path) -> None:
    """A refresh calls, and what it gets is the answer from then on, for other processes too."""
    client = FakeClient()
    with Cache(folder) as cache:
        cached = cache.wrap(client)
        assert cached.converse(HELLO).text == "answer 1"
        with cache.using(mode="refresh"):
            fresh = cached.converse(HELLO)
        assert (fresh.text, fresh.hit) == ("answer 2", False)
        assert cached.converse(HELLO).text == "answer 2"
    with Cache(folder) as cache:
        assert cache.wrap(client).converse(HELLO).text == "answer 2"
    assert len(client.calls) == 2


def test_bypass_neither_reads_nor_writes() -> None:
    """With bypass the store is not touched at all, not even to count."""
    store = DictStore()
    client = FakeClient()
    cache = Cache(store, mode="bypass")
    assert [cache.wrap(client).converse(HELLO).hit for _ in range(2)] == [False, False]
    assert (len(client.calls), store.did, store.counted) == (2, [], {})
    assert cache.stats().calls == 2


def test_offline_gives_hits_and_refuses_misses(folder: Path) -> None:
    """Offline, what is stored is given, and nothing is ever called."""
    client = FakeClient()
    with Cache(folder) as cache:
        cache.wrap(client).converse(HELLO)
    with Cache(folder, mode="offline") as cache:
        assert cache.wrap(client).converse(HELLO).text == "answer 1"
        with pytest.raises(OfflineMissError, match="offline"):
            cache.wrap(client).converse(HELLO, seed=1)
        with pytest.raises(OfflineMissError):
            cache.wrap(client).converse(HELLO, odd=object())
        with pytest.raises(OfflineMissError):
            next(cache.wrap(client).stream(HELLO))
    assert len(client.calls) == 1


def test_the_environment_beats_the_program(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CASSTORE_MODE overrides the cache's mode, the client's and the block's; a wrong one is told at once."""
    client = FakeClient()
    with Cache(folder, mode="normal") as cache:
        cached = cache.wrap(client, mode="normal")
        cached.converse(HELLO)
        monkeypatch.setenv("CASSTORE_MODE", "bypass")
        with cache.using(mode="offline"):
            assert not cached.converse(HELLO).hit
    monkeypatch.setenv("CASSTORE_MODE", "sometimes")
    with pytest.raises(ConfigError, match="sometimes"):
        Cache(folder)


def test_settings_of_block_client_and_cache(cache: Cache) -> None:
    """The block overrides the client, which overrides the cache; blocks nest, and end."""
    client = FakeClient()
    plain, second = cache.wrap(client), cache.wrap(client, sample=1)
    plain.converse(HELLO)
    assert not second.converse(HELLO).hit
    with cache.using(sample=0):
        assert second.converse(HELLO).text == "answer 1"
        with cache.using(namespace="n"):
            assert not second.converse(HELLO).hit
        assert second.converse(HELLO).text == "answer 1"
    assert second.converse(HELLO).text == "answer 2"


def test_a_block_changes_its_own_cache_alone(folder: Path, tmp_path: Path) -> None:
    """Two caches in one program do not share a block's settings."""
    with Cache(folder) as one, Cache(tmp_path / "other") as other:
        client = FakeClient()
        other.wrap(client).converse(HELLO)
        with one.using(mode="bypass"):
            assert other.wrap(client).converse(HELLO).hit


def test_samples_are_answers_of_their_own(cache: Cache) -> None:
    """Five samples of one question are five calls, and five different hits ever after."""
    client = FakeClient()
    texts = [[cache.wrap(client, sample=n).converse(HELLO).text for n in range(5)] for _ in range(2)]
    assert texts[0] == texts[1] == [f"answer {n}" for n in range(1, 6)]


def test_namespaces_are_kept_apart(folder: Path) -> None:
    """A namespace sees its own answers."""
    client = FakeClient()
    with Cache(folder, namespace="a") as cache:
        cache.wrap(client).converse(HELLO)
    with Cache(folder, namespace="b") as cache:
        assert not cache.wrap(client).converse(HELLO).hit


@pytest.mark.parametrize("memory", [0, 1 << 20])
def test_an_answer_too_old_is_asked_again_and_replaced(
    folder: Path, memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The age is judged when reading: an old answer is a miss for who minds, and a hit for who does not."""
    client = FakeClient()
    with Cache(folder, memory=memory) as cache:
        cached = cache.wrap(client)
        cached.converse(HELLO)
        assert cache.wrap(client, max_age=timedelta(hours=1)).converse(HELLO).hit
        later = time.time() + 7200
        monkeypatch.setattr("casstore.inference.tiers.time.time", lambda: later)
        assert cached.converse(HELLO).text == "answer 1"
        assert cache.wrap(client, max_age=3600).converse(HELLO).text == "answer 2"
    with Cache(folder) as cache:
        assert cache.wrap(client).converse(HELLO).text == "answer 2"


@pytest.mark.parametrize("wrong", [{"max_age": -1}, {"sample": -1}, {"sample": 0.5}, {"mode": "no"}])
def test_wrong_settings_are_refused(cache: Cache, wrong: dict[str, object]) -> None:
    """A setting that makes no sense is told where it is given."""
    with pytest.raises(ConfigError):
        cache.wrap(FakeClient(), **wrong)  # type: ignore[call-overload]  # wrong on purpose


def test_a_truncated_answer_is_raised_again_on_a_hit(cache: Cache) -> None:
    """With the limit in the request, a truncation is an answer, and behaves on a hit as it did at first."""
    client = FakeClient(answer=lambda _b, _n: answered("half", stop="length"))
    cached = cache.wrap(client)
    for hit in (False, True):
        with pytest.raises(TruncatedError) as raised:
            cached.converse(HELLO, max_tokens=1)
        assert (raised.value.response.text, raised.value.response.hit) == ("half", hit)
    assert len(client.calls) == 1
    returning = cache.wrap(replace(client, truncated="return"))
    assert returning.converse(HELLO, max_tokens=1).truncated


def test_a_truncation_by_a_limit_nobody_set_is_stored(cache: Cache) -> None:
    """Asked again, the provider's default limit would cut it off again."""
    client = FakeClient(answer=lambda _b, _n: answered("half", stop="length"), truncated="return")
    cached = cache.wrap(client)
    assert [cached.converse(HELLO).hit for _ in range(2)] == [False, True]


@pytest.mark.parametrize(("text", "stop"), [("", "end"), ("no", "filtered")])
def test_empty_and_filtered_answers_are_asked_again(folder: Path, text: str, stop: str) -> None:
    """They are given to the caller and not stored, unless the cache is asked to."""
    client = FakeClient(answer=lambda _b, _n: answered(text, stop=stop))
    with Cache(folder) as cache:
        assert [cache.wrap(client).converse(HELLO).hit for _ in range(2)] == [False, False]
    with Cache(folder, keep={"empty", "filtered"}) as cache:
        assert [cache.wrap(client).converse(HELLO).hit for _ in range(2)] == [False, True]


def test_an_error_is_not_an_answer(cache: Cache) -> None:
    """The provider's error reaches the caller as it is, and the next call asks again."""
    failures = [RuntimeError("429"), RuntimeError("529")]

    def answer(_body: object, _number: int) -> object:
        if failures:
            raise failures.pop(0)
        return answered("at last")

    cached = cache.wrap(FakeClient(answer=answer))  # type: ignore[arg-type]  # it raises before it returns
    for text in ("429", "529"):
        with pytest.raises(RuntimeError, match=text):
            cached.converse(HELLO)
    assert cached.converse(HELLO).text == "at last"


def test_a_request_that_is_no_json_passes_through(cache: Cache, caplog: pytest.LogCaptureFixture) -> None:
    """It is answered, counted, told once, and never shares an answer."""
    client = FakeClient()
    cached = cache.wrap(client)
    texts = [cached.converse(HELLO, odd=float("nan")).text for _ in range(3)]
    assert texts == ["answer 1", "answer 2", "answer 3"]
    assert cache.stats().uncached == 3
    assert len(caplog.records) == 1
    assert "is not cached" in caplog.text


def test_an_entry_says_by_whom_and_how_dear(folder: Path) -> None:
    """The labels that `ls` and `stats` read have the names that the design gives them."""
    prices = {"fake-1": {"input": 1, "output": 1, "cached": 1}}
    with Cache(folder, prices=prices, namespace="team") as cache:
        response = cache.wrap(FakeClient(), sample=2).converse(HELLO)
    assert response.key
    with Repository.open(folder) as repository:
        labels = dict(repository.entry(response.key).labels)
    assert labels.pop("seconds") == pytest.approx(response.seconds, abs=1e-6)
    assert labels == {
        "kind": "response",
        "provider": "openai",
        "host": "api.example",
        "model": "fake-1",
        "answered_by": "fake-1",
        "stop": "end",
        "usage": {"input": 100, "output": 20, "cached": 40, "reasoning": 5},
        "cost": response.cost,
        "namespace": "team",
        "sample": 2,
    }


def test_the_object_is_json_lines(folder: Path) -> None:
    """Line one is what the program sees; line two is the provider's reply."""
    with Cache(folder) as cache:
        response = cache.wrap(FakeClient()).converse(HELLO)
    assert response.key
    with Repository.open(folder) as repository:
        _, content = repository.read_entry(response.key)
    head, reply = map(json.loads, content.split(b"\n"))
    assert head == {
        "casstore": 1,
        "kind": "response",
        "text": "answer 1",
        "stop": "end",
        "model": "fake-1",
        "usage": {"input": 100, "output": 20, "cached": 40, "reasoning": 5},
    }
    assert reply == response.raw


def test_the_canonical_request_is_stored_where_asked(folder: Path) -> None:
    """With keep_requests, the key is the digest of an object: the question itself."""
    with Cache(folder, keep_requests=True) as cache:
        response = cache.wrap(FakeClient()).converse(HELLO, system="be brief")
    assert response.key
    with Repository.open(folder) as repository:
        entry = repository.entry(response.key)
        question = repository.get(entry.refs[0])
    assert [str(ref) for ref in entry.refs] == [str(digest_of(question))] == [str(response.key)]
    assert json.loads(question)["body"]["system"] == "be brief"


def test_another_process_first_answer_stands() -> None:
    """Who asked at the same moment as another gets their own answer once, and the team's ever after."""
    store = DictStore()
    one, other = Cache(store), Cache(store)
    client = FakeClient()
    late = FakeClient(answer=lambda _b, _n: _meanwhile())

    def _meanwhile() -> Response:
        one.wrap(client).converse(HELLO)
        return answered("late")

    cached = other.wrap(late)
    assert cached.converse(HELLO).text == "late"
    assert cached.converse(HELLO).text == "answer 1"


def test_forget_ends_an_answer(cache: Cache) -> None:
    """A forgotten answer is asked again, though memory held it."""
    cached = cache.wrap(FakeClient())
    key = cached.converse(HELLO).key
    assert key
    cache.forget(key)
    assert cached.converse(HELLO).text == "answer 2"


def test_memory_answers_without_the_store() -> None:
    """An answer used before in this process is not read again; memory is bounded."""
    store = DictStore()
    cached = Cache(store).wrap(FakeClient())
    for _ in range(5):
        cached.converse(HELLO)
    assert store.did.count("read") == 1
    small = Cache(store, memory=10).wrap(FakeClient())
    for _ in range(5):
        small.converse(HELLO)
    assert store.did.count("read") == 6


def test_a_local_hit_of_a_task_takes_no_thread(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the store has at hand is read on the event loop; changing threads would take ten times as long."""
    with Cache(folder) as cache:
        cache.wrap(FakeClient()).converse(HELLO)

    def refuse(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(asyncio, "to_thread", refuse)
    with Cache(folder, memory=0) as cache:
        assert asyncio.run(cache.wrap(AsyncFakeClient()).converse(HELLO)).hit


def test_a_slow_store_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a look that took long, the next ones are made where waiting does no harm, for a while."""
    peeked = []

    class Peeking(DictStore):
        def peek_entry(self, key: str) -> None:
            peeked.append(key)

    cached = Cache(Peeking(), memory=0).wrap(FakeClient())
    monkeypatch.setattr(tiers, "LONG", -1.0)
    for _ in range(3):
        cached.converse(HELLO)
    assert len(peeked) == 1
    monkeypatch.setattr(tiers, "LONG", 1000.0)
    monkeypatch.setattr(tiers, "PAUSE", 0.0)
    cached = Cache(Peeking(), memory=0).wrap(FakeClient())
    for _ in range(3):
        cached.converse(HELLO)
    assert len(peeked) == 4


def test_a_cached_client_is_a_client(cache: Cache) -> None:
    """It can be wrapped again, and tells of itself what the wrapped one does."""
    client = FakeClient()
    twice = cache.wrap(cache.wrap(client))
    assert (twice.provider, twice.host, twice.model, twice.truncated) == (
        "openai",
        "api.example",
        "fake-1",
        "raise",
    )
    assert twice.request(HELLO, None, {}) == client.request(HELLO, None, {})
    assert [twice.converse(HELLO).text for _ in range(2)] == ["answer 1"] * 2


def test_stats_tell_of_this_process_and_savings_of_the_store(folder: Path) -> None:
    """Calls and hits, tokens, money and seconds, spent and saved."""
    prices = {"fake-1": {"input": 1.0, "output": 1.0, "cached": 1.0}}
    for _ in range(2):
        with Cache(folder, prices=prices) as cache:
            cached = cache.wrap(FakeClient())
            for _ in range(3):
                cached.converse(HELLO)
            stats = cache.stats()
    assert (stats.calls, stats.hits, stats.input_spent, stats.input_saved) == (0, 3, 0, 300)
    with Cache(folder) as cache:
        savings = cache.savings()
    assert (savings.calls, savings.hits) == (1, 5)
    assert (savings.output_spent, savings.output_saved) == (20, 100)
    assert (savings.cached_saved, savings.reasoning_saved) == (200, 25)
    assert savings.money_spent == pytest.approx(120 / 1e6)
    assert savings.money_saved == pytest.approx(5 * 120 / 1e6)
    assert savings.seconds_saved > 0
    assert (savings.unpriced_calls, savings.unpriced_hits) == (0, 0)


def test_a_model_without_a_price_has_no_cost(cache: Cache) -> None:
    """Tokens are counted, money is not made up."""
    cached = cache.wrap(FakeClient())
    first, second = cached.converse(HELLO), cached.converse(HELLO)
    assert first.cost is None
    assert second.original is not None
    assert second.original.cost is None
    stats = cache.stats()
    assert (stats.unpriced_calls, stats.unpriced_hits, stats.money_spent, stats.money_saved) == (1, 1, 0, 0)


def test_credentials_are_neither_in_key_nor_store(folder: Path) -> None:
    """A header with a secret changes nothing that is stored."""
    secret = "sk-very-secret"

    class Secretive(FakeClient):
        def request(self, *args: object, **more: object) -> object:  # type: ignore[override]  # narrowed on purpose
            plain = super().request(*args, **more)  # type: ignore[arg-type]  # passed on as it came
            return replace(plain, headers={"authorization": secret}, query={"api_key": secret})

    with Cache(folder, keep_requests=True) as cache:
        secretive = cache.wrap(Secretive()).converse(HELLO)  # type: ignore[call-overload]  # see above
        assert secretive.key == cache.wrap(FakeClient()).converse(HELLO).key
    with Repository.open(folder) as repository:
        kept = b"".join(repository.get(each.digest) for each in repository.objects())
        labels = [entry.labels for entry in repository.entries()]
    assert secret.encode() not in kept
    assert secret not in str(labels)


def test_usage_counts_are_checked_when_read(folder: Path) -> None:
    """Labels and counts of a stranger's entry are taken for what they are, or for nothing."""
    with Cache(folder) as cache:
        key = cache.wrap(FakeClient()).converse(HELLO).key
    assert key
    head: dict[str, Any] = {"casstore": 1, "kind": "response", "text": "t", "stop": "end", "model": "m"}
    head["usage"] = {"input": "many", "output": 7, "evil": 1}
    with Repository.open(folder) as repository:
        content = json.dumps(head).encode() + b"\n"
        repository.put_entry(key, content, labels={"cost": "free", "seconds": True}, replace=True)
    with Cache(folder) as cache:
        hit = cache.wrap(FakeClient()).converse(HELLO)
    assert hit.original is not None
    assert (hit.original.usage, hit.original.cost, hit.original.seconds) == (Usage(output=7), None, 0.0)
    assert hit.raw is None
