"""The ledger: additive counters with stable names."""

from __future__ import annotations

from casstore.inference import savings
from casstore.inference.cache import Cache
from casstore.inference.savings import Savings
from tests.inference.fakes import HELLO, DictStore, FakeClient


def test_names_are_stable() -> None:
    """What is written into stores has the names that the design gives."""
    store = DictStore()
    prices = {"fake-1": {"input": 1, "output": 1, "cached": 1}}
    priced, unpriced = FakeClient(), FakeClient(model="fake-2")
    with Cache(store, prices=prices) as cache:
        for client in (priced, unpriced):
            for _ in range(2):
                cache.wrap(client).converse(HELLO)
            cache.wrap(client).converse(HELLO, odd=object())
        cache.memoize(name="f")(lambda: 1)()
    tokens = {
        f"{what}_{how}" for what in ("input", "output", "cached", "reasoning") for how in ("spent", "saved")
    }
    always = {"calls", "hits", "uncached", "seconds_spent", "seconds_saved"} | tokens
    names: dict[tuple[str, str], set[str]] = {}
    for provider, model, name in store.counted:
        names.setdefault((provider, model), set()).add(name)
    assert names == {
        ("openai", "fake-1"): always | {"money_spent", "money_saved"},
        ("openai", "fake-2"): always | {"unpriced_calls", "unpriced_hits"},
        ("function", "f"): {"calls", "seconds_spent"},
    }


def test_a_stores_ledger_is_summed() -> None:
    """By model and all in all; a counter of a newer version is passed over."""
    store = DictStore()
    store.tally("p", "a", {"calls": 2, "money_spent": 0.5, "a_counter_of_tomorrow": 9})
    store.tally("p", "a", {"calls": 1})
    store.tally("p", "b", {"hits": 4, "money_saved": 0.25})
    by_model = savings.by_model(store.tallies())
    assert by_model == {
        ("p", "a"): Savings(calls=3, money_spent=0.5),
        ("p", "b"): Savings(hits=4, money_saved=0.25),
    }
    total = savings.total(store.tallies())
    assert total == Savings(calls=3, hits=4, money_spent=0.5, money_saved=0.25)
    assert isinstance(total.calls, int)
