"""``casstore ls``.  Floor: cli."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from casstore.cli import output
from casstore.cli.choosing import choosing_options, chosen_of, found_in
from casstore.cli.command import command, json_option
from casstore.config import format_size

if TYPE_CHECKING:
    import re
    from collections.abc import Iterator

    from casstore.catalog.listed import HeldObject
    from casstore.catalog.records import Entry
    from casstore.cli.app import Application

_WIDEST = len("1023.9 MiB")
_ROWS = 500
"""Rows that are printed at once, with columns of the same width."""
_SHORT = 12  # of a key's hex digits: enough to tell 10^6 entries apart


@command(
    "ls",
    examples="""
    casstore ls
    casstore ls --model gpt-4o-mini --since 7d --long
    casstore ls --grep 'capital of France' --since 7d
    casstore ls --json | jq -r '.[] | select(.labels.cost > 0.01) | .key'
    casstore ls --objects
    """,
)
@click.option("-l", "--long", is_flag=True, help="Whole keys and digests, provider and generation.")
@choosing_options
@click.option("--objects", is_flag=True, help="List the objects that are here instead, and why each is kept.")
@json_option
def ls(
    app: Application,
    *,
    long: bool,
    provider: str | None,
    model: str | None,
    since: int | None,
    grep: re.Pattern[str] | None,
    objects: bool,
    as_json: bool,
) -> None:
    """List the entries, the oldest first.

    KEY, when it was created, size, model; with --long then provider, generation, DIGEST of the answer. The
    size is that of the answer, and - where it is not here but at a remote. --grep looks into what was said
    and asked, as far as that is here, and lists each entry as soon as it is found.

    With --objects: DIGEST, last use, size, stored size, loose or pack, and why it is kept: entry (its
    answer), put (by hand), dictionary (of a pack), ref (of an entry, as its request is), or nothing.
    """
    if objects and (provider or model or since is not None or grep or long):
        raise click.UsageError(
            "--objects lists no entries: leave out the options that choose them, and --long"
        )
    with app.repository() as repo:
        if objects:
            _list_objects(repo.held_objects(), as_json=as_json)
            return
        entries = found_in(repo, chosen_of(provider, model, since), grep)
        if as_json:
            output.documents(entry_fields(entry, size) for entry, size in entries)
        else:
            _print(entries, long=long, at_once=grep is not None)


def _print(entries: Iterator[tuple[Entry, int | None]], *, long: bool, at_once: bool) -> None:
    row = _long_row if long else _short_row
    while some := list(islice(entries, 1 if at_once else _ROWS)):
        output.table([row(entry, size) for entry, size in some], right=[2])


def entry_fields(entry: Entry, size: int | None) -> dict[str, Any]:
    """Return the JSON of an entry; `size` is that of its object, None where that is not here."""
    return {
        "key": entry.key,
        "object": entry.object,
        "size": size,
        "generation": entry.generation,
        "created": entry.created,
        "labels": dict(entry.labels),
        "refs": list(entry.refs),
    }


def _short_row(entry: Entry, size: int | None) -> list[str]:
    model = str(entry.labels.get("model", "-"))
    return [entry.key[:_SHORT], output.moment(entry.created), _size(size), model]


def _long_row(entry: Entry, size: int | None) -> list[str]:
    provider = str(entry.labels.get("provider", "-"))
    _, created, shown, model = _short_row(entry, size)
    return [entry.key, created, shown, model, provider, str(entry.generation), entry.object]


def _size(size: int | None) -> str:
    return ("-" if size is None else format_size(size)).rjust(_WIDEST)


def _list_objects(objects: Iterator[HeldObject], *, as_json: bool) -> None:
    if as_json:
        output.documents(map(_object_fields, objects))
        return
    while some := list(islice(objects, _ROWS)):
        output.table([_object_row(held) for held in some])


def _object_fields(held: HeldObject) -> dict[str, Any]:
    return {
        "digest": held.digest,
        "size": held.size,
        "stored": held.stored,
        "used": held.used,
        "pack": held.pack,
        "why": list(held.why),
    }


def _object_row(held: HeldObject) -> list[str]:
    where = "loose" if held.pack is None else "pack"
    why = ", ".join(held.why) or "nothing"
    return [held.digest, output.moment(held.used), _size(held.size), _size(held.stored), where.ljust(5), why]
