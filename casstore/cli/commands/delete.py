"""``casstore delete``.  Floor: cli."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from casstore.cli import output
from casstore.cli.command import command, read_digests

if TYPE_CHECKING:
    from casstore.cli.app import Application
    from casstore.digest import Digest


@command(
    "delete",
    examples="""
    casstore delete 2c26...e7ae
    casstore delete --force 2c26...e7ae
    casstore ls --objects
    """,
)
@click.argument("digests", metavar="DIGEST...", nargs=-1, required=True, callback=read_digests)
@click.option("--force", is_flag=True, help="Remove it even if it is known to be only here.")
def delete(app: Application, digests: list[Digest], *, force: bool) -> None:
    """Remove objects from this store alone.

    Only those that a remote is known to hold, unless forced. This is how to be rid of what was put by
    hand. Remotes keep what they have. To end an entry for everyone, see casstore forget.
    """
    with app.repository() as repo:
        for digest in digests:
            repo.delete(digest, force=force)
            output.line(f"deleted {digest}")
