"""``casstore evict``.  Floor: cli."""

from __future__ import annotations

from typing import TYPE_CHECKING

from casstore.cli import output
from casstore.cli.command import command, json_option
from casstore.config import format_size

if TYPE_CHECKING:
    from casstore.cli.app import Application


@command(
    "evict",
    examples="""
    casstore config set max_size 500MB && casstore evict
    """,
)
@json_option
def evict(app: Application, *, as_json: bool) -> None:
    """Bring the store under its size cap now.

    Puts do so by themselves. What was used least recently goes first, what a remote holds before what is
    only here, and what was put by hand never. A pack is rewritten without what goes once that is half of it.
    """
    with app.repository() as repo, output.progress() as on_event:
        report = repo.evict(on_event=on_event)
    if as_json:
        output.document({"objects": report.objects, "bytes": report.bytes, "entries": report.entries})
        return
    lost = f"; {output.count(report.entries, 'entry')} of no remote went with them" if report.entries else ""
    output.line(f"evicted {output.count(report.objects, 'object')} ({format_size(report.bytes)}){lost}")
