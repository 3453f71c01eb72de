"""``casstore gc``.  Floor: cli."""

from __future__ import annotations

import shlex
from dataclasses import fields
from typing import TYPE_CHECKING

import click

from casstore.cli import output
from casstore.cli.command import check_duration, command, json_option, remote_argument
from casstore.cli.sync import REPAIR, VERBS
from casstore.config import format_size, parse_duration, resolve_remote

if TYPE_CHECKING:
    from casstore.cli.app import Application
    from casstore.repo.gc import GcReport


@command(
    "gc",
    examples="""
    casstore gc --dry-run       what would go
    casstore gc                 once a day or week, on any one machine
    casstore gc team --grace 7d
    """,
)
@remote_argument
@click.option(
    "--grace",
    metavar="TIME",
    default="24h",
    show_default=True,
    callback=check_duration,
    help="How long ago something must have been found to be garbage. Longer than the longest push: with 0s,"
    " a push that is under way may lose what it relies on.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@json_option
@click.pass_context
def gc(
    ctx: click.Context, app: Application, remote: str | None, grace: str, *, dry_run: bool, as_json: bool
) -> None:
    """Delete from a remote what nobody needs any more.

    What pushes have merged, what was forgotten or replaced, and what interrupted pushes left. It is marked
    first, and deleted by a later run, when it has been marked for long enough by the remote's clock and is
    still not needed. REMOTE is a name (see casstore remote), a URL or a path; without it, CASSTORE_REMOTE,
    else the default. Everyone may push and pull meanwhile.
    """
    with app.repository() as repo, output.progress() as on_event:
        chosen = resolve_remote(repo.config, remote)
        report = repo.gc(chosen.name, grace=parse_duration(grace), dry_run=dry_run, on_event=on_event)
    if as_json:
        told = {each.name: getattr(report, each.name) for each in fields(report)}
        output.document(
            told
            | {"dry_run": dry_run, "requests": dict.fromkeys(VERBS, 0) | dict(report.requests)}
            | {"failures": output.failure_fields(report.failures)}
        )
    else:
        output.note_failures(report.failures)
        _print(report, grace, dry_run=dry_run)
    ctx.exit(1 if report.failures or report.missing else 0)


_DONE = {"delete": "deleted", "mark": "marked", "merge": "merged"}
_FORESEEN = {"delete": "would delete", "mark": "would mark", "merge": "would merge"}


_LATER = "a casstore gc that comes {} after the mark deletes them"


def _print(report: GcReport, grace: str, *, dry_run: bool) -> None:
    say = _FORESEEN if dry_run else _DONE
    moved = report.folded or report.repacked
    if report.deleted:
        output.line(f"{say['delete']} {output.count(report.deleted, 'file')} ({format_size(report.bytes)})")
    if report.doomed:
        output.line(f"{say['mark']} {output.count(report.doomed, 'file')}: {_LATER.format(grace)}")
    if report.waiting:
        output.line(f"{output.count(report.waiting, 'file')} marked before: {_LATER.format(grace)}")
    if moved:
        what = {"segment": report.folded, "pack": report.repacked}
        told = " and ".join(output.count(number, noun) for noun, number in what.items() if number)
        verb = "to send" if dry_run else "sent"
        sent = f" ({format_size(report.moved)} {verb})" if report.moved else ""
        output.line(f"{say['merge']} {told}{sent}")
    if not (report.deleted or report.doomed or report.waiting or moved or report.missing):
        output.line(f"nothing to collect in {report.remote}")
    took = "" if dry_run else f", {report.seconds:.2f} s"
    output.line(f"{output.by_verb(report.requests)}{took}")
    _note_missing(report)


def _note_missing(report: GcReport) -> None:
    """Say what repairs a remote that lost something: until then, nothing more is marked or deleted."""
    remote = shlex.quote(report.remote)
    if report.missing:
        output.note_steps(
            f"{output.count(report.missing, 'object')} needed and not in {report.remote}",
            (report.here, f"{{}} here: run casstore push {remote}"),
            (
                report.missing - report.here,
                f"{{}} not here: where they are, run casstore gc {remote} and then casstore push {remote}",
            ),
        )
    elif report.failures:
        output.note(REPAIR.format(remote))
