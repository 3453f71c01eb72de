"""``casstore import``.  Floor: cli."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from casstore.cli import output
from casstore.cli.choosing import cache_of, http_of, key_options
from casstore.cli.command import command, json_option
from casstore.errors import CasstoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from casstore.cli.app import Application
    from casstore.inference.reading.taking import Taken


@command(
    "import",
    examples="""
    casstore import answers.jsonl
    casstore import tests/cassettes/*.yaml
    casstore import --namespace eval tests/cassettes/*.yaml --json | jq .skipped
    """,
)
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@key_options
@json_option
@click.pass_context
def import_(
    ctx: click.Context,
    app: Application,
    files: tuple[str, ...],
    *,
    namespace: str,
    tag: str,
    ignore_fields: tuple[str, ...],
    aliases: tuple[str, ...],
    as_json: bool,
) -> None:
    """Take in exported entries, and cassettes of vcrpy.

    FILE is what casstore export wrote, or a cassette in YAML or JSON; - is standard input. Entries keep
    their keys, and are checked against their digests. Of cassettes only what a call would have stored comes
    in, streams included, and the rest is counted with the reason; credentials never do. An entry that is
    here already stays. Exits with 1 where something could not be read.

    Namespace, tag, ignored fields and aliases are for the keys of what comes from cassettes: give those
    that the program has.
    """
    from casstore.inference.reading.taking import Taken, take_file

    taken = Taken()
    readable = [name for name in files if _is_readable(name, taken)]
    if readable:  # else no store is made for a slip of the hand
        with app.repository(create=True) as repo, cache_of(repo, namespace, aliases) as cache:
            http = http_of(cache, ignore_fields, streams=True)
            with cache.using(tag=tag):
                for name in readable:
                    with _failing(name, taken), _opened(name) as file:
                        take_file(http, repo, _shown(name), file, taken)
    _tell(taken, as_json=as_json)
    ctx.exit(1 if taken.failures else 0)


def _is_readable(name: str, taken: Taken) -> bool:
    """Tell whether a file can be opened; where it cannot, that is a failure."""
    if name == "-" or Path(name).is_fifo():  # what is opened twice is lost
        return True
    with _failing(name, taken), _opened(name):
        return True
    return False


@contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    if name == "-":
        yield sys.stdin.buffer
        return
    with Path(name).open("rb") as file:
        yield file


@contextmanager
def _failing(name: str, taken: Taken) -> Iterator[None]:
    """Count what a file cannot be read or stored for, so that what came in before is told all the same."""
    try:
        yield
    except OSError as error:
        taken.failures.append((_shown(name), error.strerror or str(error)))
    except CasstoreError as error:
        taken.failures.append((_shown(name), str(error)))


def _shown(name: str) -> str:
    return "standard input" if name == "-" else name


def _tell(taken: Taken, *, as_json: bool) -> None:
    if as_json:
        output.document(
            {
                "imported": taken.imported,
                "present": taken.present,
                "unproven": taken.unproven,
                "skipped": dict(taken.skipped),
                "failures": [{"name": name, "reason": reason} for name, reason in taken.failures],
            }
        )
        return
    for name, reason in taken.failures:
        output.note(f"{name}: {reason}")
    present = f", {taken.present:,} were here already" if taken.present else ""
    if taken.imported or present or not taken.failures:
        output.line(f"imported {output.count(taken.imported, 'entry')}{present}")
    if taken.unproven:
        its = "its request: its key is" if taken.unproven == 1 else "their requests: their keys are"
        output.line(f"{taken.unproven:,} came without {its} taken on trust")
    for reason, number in taken.skipped.most_common():
        output.line(
            f"not imported: {number:,} {reason} (the first: {output.one_line(taken.details[reason])})"
        )
