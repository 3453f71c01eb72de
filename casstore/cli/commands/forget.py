"""``casstore forget``.  Floor: cli."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from casstore.cli import output
from casstore.cli.command import command

if TYPE_CHECKING:
    from casstore.cli.app import Application


@command(
    "forget",
    examples="""
    casstore forget 1f3a9c0b2d4e
    casstore forget 1f3a 77b0 && casstore push
    """,
)
@click.argument("keys", metavar="KEY...", nargs=-1, required=True)
def forget(app: Application, keys: tuple[str, ...]) -> None:
    """End entries, for everyone.

    Here at once, and for others with the next push. KEY may be its first digits, four at least, as long
    as no other key starts alike. Nothing is forgotten unless every KEY is found.
    """
    with app.repository() as repo:
        for key in [repo.resolve(key.lower()) for key in keys]:
            repo.forget(key)
            output.line(f"forgot {key}")
