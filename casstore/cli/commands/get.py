"""``casstore get``.  Floor: cli."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from casstore.cli import output
from casstore.cli.command import command, read_digest

if TYPE_CHECKING:
    from casstore.cli.app import Application
    from casstore.digest import Digest


@command(
    "get",
    examples="""
    casstore get 2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae
    casstore get 2c26...e7ae -o report.pdf
    casstore get 2c26...e7ae -o - | tar x
    """,
)
@click.argument("digest", callback=read_digest)
@click.option(
    "-o",
    "--output",
    "target",
    metavar="FILE",
    help="Where to write it: a file, a folder that is there, or - for standard output. [default: DIGEST, in"
    " this folder]",
)
@click.option("-f", "--force", is_flag=True, help="Replace a file that is there.")
def get(app: Application, digest: Digest, target: str | None, *, force: bool) -> None:
    """Write an object to a file.

    It is checked against its digest. The file appears whole or not at all, and its name is printed, escaped
    as casstore put does. A file that is there is left alone, and that is an error, unless --force is given.
    """
    with app.repository() as repo:
        if target == "-":
            for piece in repo.stream(digest):
                output.raw(piece)
            return
        path = output.writable(_path(target, digest), force=force)
        repo.export(digest, path)
        output.file_line(str(path))


def _path(target: str | None, digest: Digest) -> Path:
    """Return the file to write: in a folder that is there, or is meant by a slash at the end, the digest."""
    path = Path(target or digest)
    if path.is_dir() or (target or "").endswith("/"):
        path = path / digest
    return path
