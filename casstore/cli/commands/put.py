"""``casstore put``.  Floor: cli."""

from __future__ import annotations

import sys
from errno import EISDIR
from pathlib import Path
from typing import TYPE_CHECKING

import click

from casstore.cli import output
from casstore.cli.command import command

if TYPE_CHECKING:
    from casstore.cli.app import Application
    from casstore.digest import Digest
    from casstore.repo.repository import Repository


@command(
    "put",
    examples="""
    casstore put report.pdf
    casstore put data/*.jsonl
    tar c data | casstore put -
    """,
)
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.pass_context
def put(ctx: click.Context, app: Application, files: tuple[str, ...]) -> None:
    """Store files, and print their digests.

    Prints DIGEST  PATH for each, as sha256sum does: where PATH has a newline or a backslash, they are
    escaped and the line begins with a backslash. FILE may be - for standard input. Objects put by hand
    are never evicted, and do not count towards the size cap; casstore delete removes them. The digest is
    the SHA-256 of the content, so the same content is stored once.
    """
    failed = False
    with app.repository(create=True) as repo:
        for file in files:
            try:
                digest = _put(repo, file)
            except OSError as error:
                output.note(f"{file}: {error.strerror}")
                failed = True
            else:
                output.file_line(file, before=f"{digest}  ")
    ctx.exit(1 if failed else 0)


def _put(repo: Repository, file: str) -> Digest:
    if file == "-":
        return repo.put(sys.stdin.buffer)
    path = Path(file)
    if file and path.is_dir():
        raise IsADirectoryError(EISDIR, f"is a folder; name files: {file.rstrip('/')}/*")
    with open(file, "rb") as stream:  # noqa: PTH123 - Path("") would be the current folder
        return repo.put(stream)
