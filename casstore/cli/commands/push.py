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
    casstore push --json | jq .requests
    """,
)
@remote_argument
@click.option("-n", "--dry-run", is_flag=True, help="Say what would move, and move nothing.")
@json_option
@click.pass_context
def push(ctx: click.Context, app: Application, remote: str | None, *, dry_run: bool, as_json: bool) -> None:
    """Send what is new here to a remote.

    REMOTE is a name (see casstore remote), a URL or a path; without it, CASSTORE_REMOTE, else the
    default. A push that was stopped anywhere is completed by the next one. Nothing new costs one request.
    """
    with app.repository() as repo:
        chosen = resolve_remote(repo.config, remote)
        if dry_run:
            print_plan(ctx, repo.plan_push(chosen.name), as_json=as_json)
        with output.progress() as on_event:
            report = repo.push(chosen.name, on_event=on_event)
    finish(ctx, report, as_json=as_json)
