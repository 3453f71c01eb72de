"""``casstore export``.  Floor: cli."""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from casstore.cli import output
from casstore.cli.choosing import choosing_options, chosen_of, found_in
from casstore.cli.command import command, json_option
from casstore.errors import BackendError, NotFoundError

if TYPE_CHECKING:
    import re
    from collections.abc import Iterator

    from casstore.catalog.records import Entry
    from casstore.cli.app import Application
    from casstore.digest import Digest
    from casstore.repo.repository import Repository


@command(
    "export",
    examples="""
    casstore export -o answers.jsonl
    casstore export --model gpt-4o-mini --since 7d | jq -r .text
    casstore export --grep 'capital of' -o capitals.jsonl
    """,
)
@choosing_options
@click.option("-o", "--output", "target", metavar="FILE", help="Where to write. [default: standard output]")
@click.option("-f", "--force", is_flag=True, help="Replace a file that is there.")
@json_option
@click.pass_context
def export(
    ctx: click.Context,
    app: Application,
    *,
    provider: str | None,
    model: str | None,
    since: int | None,
    grep: re.Pattern[str] | None,
    target: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Write entries as JSON Lines.

    A line an entry, the oldest first: request, reply, text, usage, labels, and all that casstore import
    needs to take it back and prove it. Answers that are not here are fetched from the remote that is known
    to hold them; exits with 1 where one cannot be. A file appears whole or not at all; --json says what was
    written, and needs one.
    """
    if as_json and target is None:
        raise click.UsageError("--json needs -o FILE, as standard output has the entries")
    counts = {"entries": 0, "bytes": 0, "left": 0}
    with app.repository() as repo, _opened(target, force=force) as file:
        for entry, _ in found_in(repo, chosen_of(provider, model, since), grep):
            line = _line(repo, entry)
            if line is None:
                counts["left"] += 1
                continue
            file.write(line)
            counts["entries"] += 1
            counts["bytes"] += len(line)
    if as_json:
        output.document({"file": target, **counts})
    elif target is not None:
        output.line(f"wrote {output.count(counts['entries'], 'entry')} to {output.escaped_name(target)}")
    if counts["left"]:
        left = output.count(counts["left"], "entry")
        output.note(
            f"left out {left}, whose answer is nowhere to be had; casstore pull may bring it,"
            " with --again what was restored at the remote"
        )
    ctx.exit(1 if counts["left"] else 0)


def _line(repo: Repository, entry: Entry) -> bytes | None:
    from casstore.inference.reading.lines import to_line

    try:
        content = repo.read_entry(entry.key)[1]
    except (NotFoundError, BackendError):
        return None
    refs: dict[Digest, bytes] = {}
    for digest in entry.refs:
        try:
            refs[digest] = repo.get(digest)
        except (NotFoundError, BackendError) as error:
            output.note(f"{entry.key}: without a part of its request: {error}")
    value: dict[str, Any] = to_line(entry, content, refs)
    return json.dumps(value).encode() + b"\n"


@contextmanager
def _opened(target: str | None, *, force: bool) -> Iterator[BinaryIO]:
    """Yield where to write: standard output, or a file that takes its name when it is whole."""
    if target is None or target == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(target)
    if path.is_dir() or target.endswith("/"):
        raise click.ClickException(f"{target} is the name of a folder: -o takes that of a file")
    path = output.writable(path, force=force)
    temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
