"""Options that choose entries, and those that make keys, for the commands that share them.  Floor: cli.

Knows no command.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from casstore.cli import output
from casstore.errors import ConfigError

if TYPE_CHECKING:
    import re
    from collections.abc import Iterator

    from casstore.catalog.records import Entry
    from casstore.inference.cache import Cache
    from casstore.inference.http.core import HttpCache
    from casstore.inference.reading.source import Chosen
    from casstore.repo.repository import Repository

F = TypeVar("F", bound=Callable[..., Any])


def _since(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    from casstore.inference.reading.source import parse_since

    try:
        return parse_since(value)
    except ConfigError as error:
        raise click.BadParameter(str(error)) from None


def _pattern(_ctx: click.Context, _param: click.Parameter, value: str | None) -> re.Pattern[str] | None:
    if value is None:
        return None
    from casstore.inference.reading.searching import pattern_of

    try:
        return pattern_of(value)
    except ConfigError as error:
        raise click.BadParameter(str(error)) from None


def choosing_options(function: F) -> F:
    """Add ``--provider``, ``--model``, ``--since`` and ``--grep`` to a command."""
    for add in (
        click.option(
            "--grep",
            metavar="REGEX",
            callback=_pattern,
            help="Only entries whose request or reply has this in its text.",
        ),
        click.option(
            "--since",
            metavar="WHEN",
            callback=_since,
            help="Only entries since then: 12h, 7d, 2026-11-23, 2026-11-23T14:05.",
        ),
        click.option("-m", "--model", metavar="MODEL", help="Only answers of this model."),
        click.option("-p", "--provider", metavar="NAME", help="Only answers of this provider."),
    ):
        function = add(function)
    return function


def chosen_of(provider: str | None, model: str | None, since: int | None) -> Chosen:
    """Return what the options choose."""
    from casstore.inference.reading.source import Chosen

    return Chosen(provider, model, since)


def found_in(
    repo: Repository, chosen: Chosen, pattern: re.Pattern[str] | None
) -> Iterator[tuple[Entry, int | None]]:
    """Yield the entries that are meant with the sizes of their objects, the oldest first, each at once.

    Tells at the end how many could not be searched, as they are not here.
    """
    from casstore.inference.reading.searching import says

    unsearched = 0
    for entry, size in repo.entries_by_age():
        if not chosen.has(entry):
            continue
        said = True if pattern is None else says(repo, entry, pattern)
        unsearched += said is None
        if said:
            yield entry, size
    if unsearched:
        output.note(
            f"{output.count(unsearched, 'entry')} could not be searched, as the answer is not here; "
            "casstore pull brings it"
        )


def key_options(function: F) -> F:
    """Add to a command what a program may set for its keys."""
    for add in (
        click.option(
            "--alias",
            "aliases",
            metavar="HOST=HOST",
            multiple=True,
            help="A host to be taken for another, as in Cache(aliases=...).",
        ),
        click.option(
            "--ignore-field",
            "ignore_fields",
            metavar="NAME",
            multiple=True,
            help="A field of the body that is not in the key.",
        ),
        click.option("--tag", metavar="TAG", default="", help="The tag that the program set."),
        click.option("--namespace", metavar="NAME", default="", help="The namespace that the program set."),
    ):
        function = add(function)
    return function


def cache_of(repo: Repository, namespace: str, aliases: tuple[str, ...]) -> Cache:
    """Return a cache over a store, with what the options set."""
    from casstore.inference.cache import Cache

    pairs = [alias.partition("=") for alias in aliases]
    if not all(host and other for host, _, other in pairs):
        raise click.UsageError("an alias is HOST=HOST")
    return Cache(repo, namespace=namespace, aliases={host: other for host, _, other in pairs}, memory=0)


def http_of(cache: Cache, ignore_fields: tuple[str, ...], *, streams: bool) -> HttpCache:
    """Return the cache for requests over HTTP, with what the options set."""
    return cache.http(ignore_fields=ignore_fields, streams="record" if streams else "pass")
