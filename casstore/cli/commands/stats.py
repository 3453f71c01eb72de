"""``casstore stats``.  Floor: cli."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from casstore.cli import output
from casstore.cli.command import command, json_option
from casstore.config import format_size

if TYPE_CHECKING:
    from collections.abc import Mapping

    from casstore.cli.app import Application
    from casstore.inference.ledger import Savings
    from casstore.repo.repository import Sizes

_HEAD = ["model", "calls", "hits", "tokens saved", "money saved", "time saved"]


@command(
    "stats",
    examples="""
    casstore stats
    casstore stats --json | jq .total.money_saved
    """,
)
@json_option
def stats(app: Application, *, as_json: bool) -> None:
    """Say what the store holds, and what it saved, by model.

    Counted on this machine since the store was made. Money is in USD, for the hits whose price is known;
    a + says that there were others.
    """
    from casstore.inference.ledger import by_model, total

    with app.repository() as repo:
        sizes, tallies = repo.sizes(), repo.tallies()
    models = by_model(tallies)
    if as_json:
        rows = [
            {"provider": provider, "model": model} | asdict(savings)
            for (provider, model), savings in models.items()
        ]
        output.document(asdict(sizes) | {"total": asdict(total(tallies)), "models": rows})
    else:
        _print_sizes(sizes)
        if models:
            output.line()
            _print_savings(models, total(tallies))


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


def _row(title: str, savings: Savings) -> list[str]:
    more = "+" if savings.unpriced_hits else ""
    priced = savings.hits > savings.unpriced_hits or not savings.hits
    return [
        title,
        f"{savings.calls:,}",
        f"{savings.hits:,}",
        f"{savings.input_saved + savings.output_saved:,}",
        f"${savings.money_saved:,.4f}{more}" if priced else "unknown",
        output.duration(savings.seconds_saved),
    ]
