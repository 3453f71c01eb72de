"""``casstore stats``.  Floor: cli."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from casstore.cli import output
from casstore.cli.command import command, json_option
from casstore.config import format_size

if TYPE_CHECKING:
    from collections.abc import Mapping

    from casstore.cli.app import Application
    from casstore.inference.savings import Savings
    from casstore.repo.repository import Sizes

_COUNTED = ("input", "cached", "output", "reasoning")
_TOKENS = ["model", "tokens", "read", "cached", "written", "reasoning"]
_HEAD = ["model", "calls", "hits", "tokens saved", "money saved", "time saved"]


@command(
    "stats",
    examples="""
    casstore stats
    casstore stats --tokens
    casstore stats --json | jq .total.money_saved
    """,
)
@click.option("--tokens", is_flag=True, help="Also the tokens, by model.")
@json_option
def stats(app: Application, *, tokens: bool, as_json: bool) -> None:
    """Say what the store holds, and what it saved, by model.

    Counted on this machine since the store was made. Money is in USD, for the hits whose price is known;
    a + says that there were others, and unknown that there were only those. Then why calls had no key, and
    why answers were not kept. Of the tokens read, some came from the provider's prompt cache; of those
    written, some were reasoning.
    """
    from casstore.inference.savings import by_model, reasons, total

    with app.repository() as repo:
        sizes, tallies = repo.sizes(), repo.tallies()
    models = by_model(tallies)
    if as_json:
        rows = [
            {"provider": provider, "model": model} | asdict(savings)
            for (provider, model), savings in models.items()
        ]
        output.document(
            asdict(sizes) | {"total": asdict(total(tallies)), "models": rows, "reasons": reasons(tallies)}
        )
    else:
        _print_sizes(sizes)
        if models:
            output.line()
            _print_savings(models, total(tallies))
            if tokens:
                _print_tokens(models)
            _print_reasons(reasons(tallies))


def _print_sizes(sizes: Sizes) -> None:
    output.line(f"entries  {sizes.entries:,}")
    output.line(f"objects  {sizes.objects:,}, {format_size(sizes.size)}, put by hand: {sizes.kept_objects:,}")
    if sizes.packs:
        output.line(f"packs    {sizes.packs:,}, {format_size(sizes.packs_stored)}")
    governed = sizes.stored - sizes.kept_stored
    share = f"{governed / sizes.max_size:.0%} of the {format_size(sizes.max_size)} cap"
    by_hand = f", and {format_size(sizes.kept_stored)} put by hand" if sizes.kept_stored else ""
    output.line(f"stored   {format_size(governed)}, {share}{by_hand}")


def _print_savings(models: Mapping[tuple[str, str], Savings], total: Savings) -> None:
    rows = [_HEAD, *(_row(f"{provider}/{model}", savings) for (provider, model), savings in models.items())]
    if len(models) > 1:
        rows.append(_row("all", total))
    output.table(rows, right=[1, 2, 3, 4, 5])
    if total.unpriced_hits:
        without = output.count(total.unpriced_hits, "hit")
        output.line(f"+ and unknown: {without} whose price is not known; see Cache(prices=...)")


def _print_tokens(models: Mapping[tuple[str, str], Savings]) -> None:
    rows = [_TOKENS]
    for (provider, model), savings in models.items():
        for how in ("spent", "saved"):
            counts = [getattr(savings, f"{name}_{how}") for name in _COUNTED]
            if any(counts):
                rows.append([f"{provider}/{model}", how, *(f"{number:,}" for number in counts)])
    if len(rows) > 1:
        output.line()
        output.table(rows, right=[2, 3, 4, 5])


def _print_reasons(reasons: Mapping[str, int]) -> None:
    told = {
        "no key": _with_prefix(reasons, "uncached_"),
        "not kept": _with_prefix(reasons, "unstored_"),
    }
    if any(told.values()):
        output.line()
    for title, counts in told.items():
        if counts:
            output.line(f"{title:<8}  {', '.join(counts)}")


def _with_prefix(reasons: Mapping[str, int], prefix: str) -> list[str]:
    found = sorted((-number, name) for name, number in reasons.items() if name.startswith(prefix))
    return [f"{name.removeprefix(prefix)} {-number:,}" for number, name in found]


def _row(title: str, savings: Savings) -> list[str]:
    return [
        title,
        f"{savings.calls:,}",
        f"{savings.hits:,}",
        f"{savings.input_saved + savings.output_saved:,}",
        _money(savings),
        output.duration(savings.seconds_saved),
    ]


def _money(savings: Savings) -> str:
    """Return the USD saved; what rounds to nothing is not shown as nothing."""
    shown = f"${savings.money_saved:,.4f}"
    is_nothing = shown == "$0.0000"
    if savings.unpriced_hits:
        return "unknown" if is_nothing else f"{shown}+"
    return "<$0.0001" if is_nothing and savings.money_saved else shown
