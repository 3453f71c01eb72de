"""What a call costs: a dated table of list prices, which the user can override.  Floor: inference.

A price holds for exactly the models and hosts it names. There is no matching by prefix: a snapshot, a
fine-tune or another region may cost something else, and no price is better than a wrong one. Knows nothing of
stores.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from casstore.errors import ConfigError, malformed
from casstore.inference.types import Request, Response, Usage

PRICES_VARIABLE: Final = "CASSTORE_PRICES"
"""The environment variable that names a price file of the user's own."""

_BUILT_IN = Path(__file__).with_name("prices.toml")
_MILLION = 1_000_000
_RATES = ("input", "output", "cached", "written", "written_long")


@dataclass(frozen=True, slots=True)
class Price:
    """Prices of a model in USD per million tokens; None where the rate is not known.

    Attributes:
        input: Tokens read.
        output: Tokens written, hidden reasoning included.
        cached: Tokens read from the provider's prompt cache.
        written: Tokens written into the provider's prompt cache.
        written_long: The same, for an hour.
        up_to: The largest input, in tokens, that these prices hold for; None for any.
    """

    input: float
    output: float
    cached: float | None = None
    written: float | None = None
    written_long: float | None = None
    up_to: int | None = None

    def of(self, usage: Usage) -> float | None:
        """Return the price of `usage` in USD; None where a rate it needs is not known."""
        if self.up_to is not None and usage.input > self.up_to:
            return None
        parts = (
            (usage.input - usage.cached - usage.written, self.input),
            (usage.output, self.output),
            (usage.cached, self.cached),
            (usage.written - usage.written_long, self.written),
            (usage.written_long, self.written_long),
        )
        total = 0.0
        for tokens, rate in parts:
            if tokens and rate is None:
                return None
            total += tokens * (rate or 0.0)
        return total / _MILLION


@dataclass(frozen=True, slots=True)
class _Row:
    provider: str | None
    hosts: frozenset[str] | None
    models: frozenset[str]
    price: Price

    def holds_for(self, provider: str, host: str, model: str) -> bool:
        return (
            model in self.models
            and (self.provider is None or self.provider == provider)
            and (self.hosts is None or host in self.hosts)
        )


class Prices:
    """A price table: the user's rows, then those of the file `CASSTORE_PRICES` names, then the built-in ones.

    Args:
        prices: ``{"my-model": {"input": 1.0, "output": 2.0, "cached": 0.1}}``, for any host; or the path of a
            TOML file with ``[[price]]`` tables as in the built-in one. USD per million tokens.

    Raises:
        ConfigError: The prices, or a file, cannot be read.
    """

    def __init__(self, prices: Mapping[str, Mapping[str, float]] | str | Path | None = None) -> None:
        self._own: tuple[_Row, ...] = ()
        if isinstance(prices, (str, Path)):
            self._own = _load(Path(prices))
        elif prices is not None:
            self._own = tuple(_row({"models": [model], **rates}, model) for model, rates in prices.items())

    def cost(self, request: Request, response: Response) -> float | None:
        """Return what a call cost in USD; None where that is not known for sure.

        The model that the reply names is priced, or the one asked for where the reply's is not in the table.
        """
        if not response.list_price or (not response.usage.input and not response.usage.output):
            return None
        for model in dict.fromkeys((response.model, request.model)):
            price = self.find(request.provider, request.host, model)
            if price is not None:
                return price.of(response.usage)
        return None

    def find(self, provider: str, host: str, model: str) -> Price | None:
        """Return the price of exactly this model at this host."""
        for rows in (self._own, _from_environment(os.environ.get(PRICES_VARIABLE)), _built_in()):
            for row in rows:
                if row.holds_for(provider, host, model):
                    return row.price
        return None


def built_in_date() -> str:
    """Return the day on which the built-in prices were read, as ``YYYY-MM-DD``."""
    return str(_toml(_BUILT_IN)["date"])


@cache
def _built_in() -> tuple[_Row, ...]:
    return _load(_BUILT_IN)


@cache
def _from_environment(path: str | None) -> tuple[_Row, ...]:
    return _load(Path(path)) if path else ()


def _load(path: Path) -> tuple[_Row, ...]:
    tables = _toml(path).get("price", [])
    if not isinstance(tables, list):
        raise ConfigError(f"{path}: prices stand in [[price]] tables")
    return tuple(_row(table, str(path)) for table in tables)


def _toml(path: Path) -> dict[str, Any]:
    import tomllib  # a run of hits needs no prices, and should not pay for a parser

    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the price file {path}: {_trouble(error)}") from error


def _trouble(error: OSError | ValueError) -> str:
    from casstore.backends.reasons import of_os_error

    return of_os_error(error).text if isinstance(error, OSError) else malformed(error)


def _row(table: Mapping[str, Any], where: str) -> _Row:
    try:
        rates = {name: float(table[name]) for name in _RATES if name in table}
        hosts = table.get("hosts")
        return _Row(
            provider=table.get("provider"),
            hosts=None if hosts is None else frozenset(hosts),
            models=frozenset(table["models"]),
            price=Price(
                input=rates.pop("input"), output=rates.pop("output"), up_to=table.get("up_to"), **rates
            ),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{where}: a price needs models, input and output, as numbers: {malformed(error)}"
        ) from error
