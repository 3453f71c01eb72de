"""``casstore pull``.  Floor: cli."""

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
    "pull",
    examples="""
    casstore pull
    casstore pull team --dry-run
    casstore pull --manifest-only
    casstore pull --again        after files of the remote were restored
    casstore pull file:///mnt/team --json | jq .objects
    """,
)
@remote_argument
@click.option(
    "--manifest-only", is_flag=True, help="Learn of the entries; fetch an object when it is first used."
)
@click.option("--again", is_flag=True, help="Try again what was missing or damaged there, and is restored.")
@click.option("-n", "--dry-run", is_flag=True, help="Say what would move, and move nothing.")
@json_option
@click.pass_context
def pull(
    ctx: click.Context,
    app: Application,
    remote: str | None,
    *,
    manifest_only: bool,
    again: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Bring what is new at a remote into this store.

    REMOTE is a name (see casstore remote), a URL or a path; without it, CASSTORE_REMOTE, else the
    default. A pull that was stopped anywhere is completed by the next one. Nothing new costs one request.

    What the remote does not hold as it said is asked for no more, unless --again says so. It is told, and
    the exit code is 1, at each run until it is here.
    """
    if dry_run and again:
        raise click.UsageError(
            "--again forgets what the remote was found to lack, so it goes with no --dry-run"
        )
    with app.repository_for(remote) as repo:
        chosen = resolve_remote(repo.config, remote)
        if dry_run:
            print_plan(ctx, repo.plan_pull(chosen.name, manifest_only=manifest_only), as_json=as_json)
        with output.progress() as on_event:
            report = repo.pull(chosen.name, manifest_only=manifest_only, again=again, on_event=on_event)
    finish(ctx, report, as_json=as_json)
