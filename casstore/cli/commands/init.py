"""``casstore init``.  Floor: cli."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from casstore.cli import output
from casstore.cli.command import check_size, command
from casstore.config import format_size

if TYPE_CHECKING:
    from casstore.cli.app import Application


@command(
    "init",
    examples="""
    casstore init
    casstore init --max-size 20GiB
    casstore --store ./answers init
    """,
)
@click.option(
    "--max-size",
    callback=check_size,
    metavar="SIZE",
    help="Stored bytes to stay under: 500MB, 20GiB. At first 1GiB.",
)
def init(app: Application, max_size: str | None) -> None:
    """Make a store, or keep the one that is there.

    Running it again is safe, and changes nothing but the --max-size it is given. Other commands make the
    store themselves when they bring something into it.
    """
    with app.repository(create=True):
        pass
    if max_size is not None:
        from casstore.config.editing import set_setting

        set_setting(app.folder, "max_size", max_size)
    with app.repository() as repo:
        output.line(f"store at {repo.path}, at most {format_size(repo.config.max_size)}")
