"""Prices: exactly the models named, the user's before the built-in ones, and none rather than a wrong one."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from casstore.errors import ConfigError
from casstore.inference.prices import Price, Prices, built_in_date
from casstore.inference.types import Request, Response, Usage

OPENAI = Request("openai", "api.openai.com", "/v1/chat/completions", "gpt-4o", {})
MILLION = Usage(input=1_000_000, output=1_000_000)


def test_cost_is_made_of_its_parts() -> None:
    """Cached and written tokens are part of the input, each at its own rate; reasoning is output."""
    price = Price(input=10, output=100, cached=1, written=12, written_long=20)
    usage = Usage(input=1000, output=100, cached=300, reasoning=90, written=200, written_long=50)
    expected = (500 * 10 + 100 * 100 + 300 * 1 + 150 * 12 + 50 * 20) / 1e6
    assert price.of(usage) == pytest.approx(expected)


def test_a_rate_that_is_not_known_leaves_no_price() -> None:
    """Cached tokens without a rate for them, or more input than the price holds for, have no price."""
    price = Price(input=1, output=1, up_to=1000)
    assert price.of(Usage(input=1000, output=1)) is not None
    assert price.of(Usage(input=1001, output=1)) is None
    assert price.of(Usage(input=10, output=1, cached=1)) is None


@pytest.mark.parametrize(
    ("provider", "host", "model", "dollars"),
    [
        ("openai", "api.openai.com", "gpt-4o", 12.50),
        ("openai", "api.openai.com", "gpt-4o-2024-08-06", 12.50),
        ("openai", "api.openai.com", "gpt-4o-2024-05-13", 20.00),
        ("openai", "api.openai.com", "gpt-4o-mini-2024-07-18", 0.75),
        ("anthropic", "api.anthropic.com", "claude-opus-4-5-20251101", 30.00),
        ("bedrock", "bedrock-runtime.us-east-1.amazonaws.com", "us.amazon.nova-pro-v1:0", 4.00),
        ("openai", "api.openai.com", "gpt-4o-2031-01-01", None),
        ("openai", "api.openai.com", "gpt-4o-audio-preview", None),
        ("openai", "api.openai.com", "ft:gpt-4o-2024-08-06:me::x", None),
        ("openai", "localhost:8000", "gpt-4o", None),
        ("bedrock", "bedrock-runtime.eu-central-1.amazonaws.com", "amazon.nova-pro-v1:0", None),
        ("anthropic", "api.openai.com", "gpt-4o", None),
    ],
)
def test_built_in_prices(provider: str, host: str, model: str, dollars: float | None) -> None:
    """A listed model at its provider's own host has a price; a name that only looks like one has not."""
    price = Prices().find(provider, host, model)
    assert (price and price.of(MILLION)) == (dollars and pytest.approx(dollars))


def test_the_built_in_prices_are_dated_and_whole() -> None:
    """The file says when it was read, and each of its rows makes sense."""
    assert date.fromisoformat(built_in_date()) >= date(2026, 1, 1)
    prices = Prices()
    found = prices.find("openai", "api.openai.com", "gpt-4o")
    assert found == Price(input=2.5, output=10.0, cached=1.25)


def test_the_models_of_reply_and_request() -> None:
    """The reply's model is priced; if it is not in the table, the one asked for."""
    prices = Prices()
    old = Response("", "end", MILLION, "gpt-4o-2024-05-13")
    assert prices.cost(OPENAI, old) == pytest.approx(20.0)
    assert prices.cost(OPENAI, replace(old, model="gpt-4o-2031-01-01")) == pytest.approx(12.5)
    assert prices.cost(replace(OPENAI, model="gpt-9"), replace(old, model="gpt-9")) is None


def test_no_price_where_the_bill_differs_from_the_list() -> None:
    """Another service tier, or a reply that told no usage, has no price."""
    prices = Prices()
    assert prices.cost(OPENAI, Response("", "end", MILLION, "gpt-4o", list_price=False)) is None
    assert prices.cost(OPENAI, Response("", "end", Usage(), "gpt-4o")) is None


def test_prices_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The argument comes before the variable's file, then comes the built-in table; any host is meant."""
    file = tmp_path / "prices.toml"
    file.write_text('[[price]]\nmodels = ["gpt-4o", "mine"]\ninput = 3\noutput = 4\n')
    monkeypatch.setenv("CASSTORE_PRICES", str(file))
    own = Prices({"mine": {"input": 1, "output": 1, "cached": 0.5}})
    assert own.find("any", "anywhere", "mine") == Price(1, 1, 0.5)
    assert own.find("openai", "localhost", "gpt-4o") == Price(3, 4)
    assert own.find("openai", "api.openai.com", "gpt-4o-mini") == Price(0.15, 0.6, 0.075)
    assert Prices(file).find("any", "anywhere", "mine") == Price(3, 4)


@pytest.mark.parametrize(
    "text",
    ["not toml [", "price = 3", "[[price]]\nmodels = ['m']\ninput = 1", "[[price]]\ninput = 1\noutput = 2"],
)
def test_a_price_file_that_makes_no_sense_is_refused(tmp_path: Path, text: str) -> None:
    """The user is told which file, and what a price needs."""
    file = tmp_path / "prices.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match="prices"):
        Prices(file)


def test_wrong_prices_are_refused() -> None:
    """A price is made of numbers."""
    with pytest.raises(ConfigError, match="mine"):
        Prices({"mine": {"input": "cheap", "output": 1}})  # type: ignore[dict-item]  # wrong on purpose
