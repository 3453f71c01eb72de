"""``casstore cat``.  Floor: cli."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from casstore.cli import output
from casstore.cli.command import command, read_digests

if TYPE_CHECKING:
    from casstore.cli.app import Application
    from casstore.digest import Digest


@command(
    "cat",
    examples="""
    casstore cat 2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae
    casstore cat 2c26...e7ae | jq .
    """,
)
@click.argument("digests", metavar="DIGEST...", nargs=-1, required=True, callback=read_digests)
def cat(app: Application, digests: list[Digest]) -> None:
    """Write objects to standard output.

    Byte for byte, each piece checked before it is written.
    """
    with app.repository() as repo:
        for digest in digests:
            for piece in repo.stream(digest):
                output.raw(piece)
