"""``casstore rebuild``.  Floor: cli."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from casstore.cli import output
from casstore.cli.command import command, json_option
from casstore.events import Warned

if TYPE_CHECKING:
    from casstore.cli.app import Application
    from casstore.events import Event


@command(
    "rebuild",
    examples="""
    casstore rebuild
    casstore rebuild --json | jq .entries
    """,
)
@json_option
@click.pass_context
def rebuild(ctx: click.Context, app: Application, *, as_json: bool) -> None:
    """Make the index anew from what is stored.

    A lost or damaged one is rebuilt unasked. Lists what could not be recovered, and exits with 1 where
    there was something. Last uses and what stats counted begin anew.
    """
    with app.repository() as repo, output.progress() as on_event:

        def draw(event: Event) -> None:
            if not isinstance(event, Warned):  # the summary, which stands below
                on_event(event)

        report = repo.rebuild(on_event=draw)
    if as_json:
        fields = {"entries": report.entries, "objects": report.objects, "absent": report.absent}
        output.document(
            fields | {"damaged": report.damaged, "failures": output.failure_fields(report.failures)}
        )
    else:
        output.failures(report.failures)
        if report.damaged:
            output.line(f"journal: {output.count(report.damaged, 'line')} could not be read")
        its = "its" if report.absent == 1 else "their"
        absent = f" ({report.absent:,} without {its} object here)" if report.absent else ""
        objects = output.count(report.objects, "object")
        output.line(f"rebuilt the index: {output.count(report.entries, 'entry')}{absent}, {objects}")
    ctx.exit(1 if report.failures or report.damaged else 0)
