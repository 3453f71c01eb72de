"""``casstore show``.  Floor: cli."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING

import click

from casstore.cli import output
from casstore.cli.command import command, json_option
from casstore.cli.commands.ls import entry_fields
from casstore.cli.content import ABSENT, Content, read_content
from casstore.config import format_size
from casstore.digest import Digest, Key
from casstore.errors import BackendError, NotFoundError

if TYPE_CHECKING:
    from casstore.catalog.records import Entry
    from casstore.cli.app import Application
    from casstore.repo.repository import Repository


@command(
    "show",
    examples="""
    casstore show 1f3a9c0b2d4e
    casstore show 1f3a --json | jq .request.body.messages
    """,
)
@click.argument("key")
@json_option
def show(app: Application, key: str, *, as_json: bool) -> None:
    """Show an entry: labels, request, response.

    The request is shown where it was stored. KEY may be its first digits, four at least, as long as no
    other key starts alike. A response that is not here is fetched from the remote that is known to hold
    it.
    """
    with app.repository() as repo:
        entry = repo.entry(repo.resolve(key.lower()))
        request = _request(repo, entry)
        response = _response(repo, entry.key)
    if as_json:
        output.document(
            entry_fields(entry, response.size if response is not ABSENT else None)
            | {"request": request.value, "response": response.value, "response_kind": response.kind}
        )
    else:
        _print(entry, request, response)


def _request(repo: Repository, entry: Entry) -> Content:
    """Return the stored request: the object whose digest is the key."""
    digest = Digest(entry.key)
    return read_content(repo.get(digest)) if digest in entry.refs and repo.has(digest) else ABSENT


def _response(repo: Repository, key: Key) -> Content:
    try:
        return read_content(repo.read_entry(key)[1])
    except (NotFoundError, BackendError) as error:
        output.note(f"the response is not here: {error}")
        return ABSENT


def _print(entry: Entry, request: Content, response: Content) -> None:
    size = "" if response is ABSENT else f"  ({format_size(response.size)})"
    output.line(f"key         {entry.key}")
    output.line(f"object      {entry.object}{size}")
    output.line(f"created     {output.moment(entry.created)}")
    output.line(f"generation  {entry.generation}")
    for name, value in sorted(entry.labels.items()):
        output.line(f"{name:<10}  {value if isinstance(value, str) else json.dumps(value)}")
    for title, content in (("request", request), ("response", response)):
        if content is not ABSENT:
            output.line(f"\n{title}\n{textwrap.indent(str(content), '  ')}")
