"""``casstore ls``.  Floor: cli."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from casstore.cli import output
from casstore.cli.choosing import choosing_options, chosen_of, found_in
from casstore.cli.command import command, json_option
from casstore.config import format_size

if TYPE_CHECKING:
    import re
    from collections.abc import Iterable, Iterator, Mapping

    from casstore.catalog.listed import ObjectInfo
    from casstore.catalog.records import Entry
    from casstore.cli.app import Application
    from casstore.digest import Digest

_WIDEST = len("1023.9 MiB")
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
@click.option("--objects", is_flag=True, help="List the objects that were put by hand instead.")
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
    and asked, as far as that is here, and lists each entry as soon as it is found. With --objects: DIGEST,
    last use, size and stored size.
    """
    if objects and (provider or model or since is not None or grep or long):
        raise click.UsageError(
            "--objects lists no entries: leave out the options that choose them, and --long"
        )
    with app.repository() as repo:
        if objects:
            _list_objects([info for info in repo.objects() if info.kept], as_json=as_json)
            return
        sizes = {info.digest: info.size for info in repo.objects()}
        entries = found_in(repo, chosen_of(provider, model, since), grep)
        if as_json:
            output.documents(entry_fields(entry, sizes.get(entry.object)) for entry in entries)
        else:
            _print(entries, sizes, long=long, at_once=grep is not None)


def _print(entries: Iterator[Entry], sizes: Mapping[Digest, int], *, long: bool, at_once: bool) -> None:
    row = _long_row if long else _short_row
    if at_once:
        for entry in entries:
            key, created, size, *rest = row(entry, sizes)
            output.table([[key, created, size.rjust(_WIDEST), *rest]])
        return
    rows = [row(entry, sizes) for entry in entries]
    if rows:
        output.table(rows, right=[2])


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


def _short_row(entry: Entry, sizes: Mapping[Digest, int]) -> list[str]:
    model = str(entry.labels.get("model", "-"))
    return [entry.key[:_SHORT], output.moment(entry.created), _size(entry, sizes), model]


def _long_row(entry: Entry, sizes: Mapping[Digest, int]) -> list[str]:
    _, created, size, model = _short_row(entry, sizes)
    provider = str(entry.labels.get("provider", "-"))
    return [entry.key, created, size, model, provider, str(entry.generation), entry.object]


def _size(entry: Entry, sizes: Mapping[Digest, int]) -> str:
    size = sizes.get(entry.object)
    return "-" if size is None else format_size(size)


def _list_objects(objects: Iterable[ObjectInfo], *, as_json: bool) -> None:
    if as_json:
        output.documents(
            {"digest": info.digest, "size": info.size, "stored": info.stored, "used": info.used}
            for info in objects
        )
        return
    rows = [
        [info.digest, output.moment(info.used), format_size(info.size), format_size(info.stored)]
        for info in objects
    ]
    if rows:
        output.table(rows, right=[2, 3])
