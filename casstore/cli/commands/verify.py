"""``casstore verify``.  Floor: cli."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from casstore.cli import output
from casstore.cli.command import command, json_option
from casstore.config import format_size

if TYPE_CHECKING:
    from casstore.cli.app import Application
    from casstore.repo.verify import VerifyReport


@command(
    "verify",
    examples="""
    casstore verify
    casstore verify --json | jq -r '.failures[].name'
    """,
)
@json_option
@click.pass_context
def verify(ctx: click.Context, app: Application, *, as_json: bool) -> None:
    """Check everything stored against its digest.

    Every object, pack and segment. Lists what fails, with the reason, and exits with 1 where anything
    does. What failed counts as missing from then on: it is fetched again, from a remote that holds it, by
    the next pull. Of a bad pack, what is good of it is saved.
    """
    with app.repository() as repo, output.progress() as on_event:
        report = repo.verify(on_event=on_event)
    if as_json:
        fields = {"objects": report.objects, "packs": report.packs, "segments": report.segments}
        fields |= {"bytes": report.bytes, "lost": report.lost, "held": report.held}
        output.document(fields | {"failures": output.failure_fields(report.failures)})
    else:
        output.failures(report.failures)
        checked = f"{output.count(report.objects, 'object')} ({format_size(report.bytes)})"
        verdict = output.count(len(report.failures), "failure") if report.failures else "all good"
        packs = f"{output.count(report.packs, 'pack')}, " if report.packs else ""
        output.line(f"checked {checked}, {packs}{output.count(report.segments, 'segment')}: {verdict}")
        _note_lost(report)
    ctx.exit(1 if report.failures else 0)


def _note_lost(report: VerifyReport) -> None:
    """Say what brings back what was lost, or that nothing does."""
    output.note_steps(
        f"{output.count(report.lost, 'object')} lost",
        (report.held, "a remote holds {}: run casstore pull"),
        (report.lost - report.held, "{} known nowhere else"),
    )
