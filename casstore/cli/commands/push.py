"""``casstore push``.  Floor: cli."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from casstore.cli import output
from casstore.cli.command import command, json_option, remote_argument
from casstore.cli.sync import finish, print_plan
from casstore.config import resolve_remote

if TYPE_CHECKING:
    from casstore.cli.app import Application


@command(
    "push",
    examples="""
    casstore push
    casstore push team --dry-run
    casstore push s3://bucket/llm
    casstore push --anew        after the bucket was emptied
    casstore push --json | jq .requests
    """,
)
@remote_argument
@click.option("-n", "--dry-run", is_flag=True, help="Say what would move, and move nothing.")
@click.option("--anew", is_flag=True, help="Begin a remote anew that is gone, with all that is here.")
@json_option
@click.pass_context
def push(
    ctx: click.Context, app: Application, remote: str | None, *, dry_run: bool, anew: bool, as_json: bool
) -> None:
    """Send what is new here to a remote.

    REMOTE is a name (see casstore remote), a URL or a path; without it, CASSTORE_REMOTE, else the
    default. A push that was stopped anywhere is completed by the next one. Nothing new costs one request.

    Where a store was and is none, as in a folder that is not mounted, nothing is made, unless --anew says so.
    """
    if dry_run and anew:
        raise click.UsageError("--anew forgets what is known of the remote, so it goes with no --dry-run")
    with app.repository() as repo:
        chosen = resolve_remote(repo.config, remote)
        if dry_run:
            print_plan(ctx, repo.plan_push(chosen.name), as_json=as_json)
        with output.progress() as on_event:
            report = repo.push(chosen.name, anew=anew, on_event=on_event)
    finish(ctx, report, as_json=as_json)
