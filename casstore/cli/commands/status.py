"""``casstore status``.  Floor: cli."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from casstore.cli import output
from casstore.cli.command import command, json_option, remote_argument
from casstore.cli.sync import code_of, plan_fields, print_direction
from casstore.config import resolve_remote

if TYPE_CHECKING:
    from casstore.cli.app import Application


@command(
    "status",
    examples="""
    casstore status
    casstore status team
    casstore status --json | jq .push.bytes
    """,
)
@remote_argument
@json_option
@click.pass_context
def status(ctx: click.Context, app: Application, remote: str | None, *, as_json: bool) -> None:
    """Say what a push and a pull would move.

    And the requests and bytes it would take. REMOTE is a name (see casstore remote), a URL or a path;
    without it, CASSTORE_REMOTE, else the default. Nothing is moved.

    Exits with 1 where the remote has a segment that cannot be read, or lacks what a pull should bring.
    """
    with app.repository() as repo:
        chosen = resolve_remote(repo.config, remote)
        found = repo.status(chosen.name)
    if as_json:
        failed = {"failures": output.failure_fields(found.failures)}
        plans = {"push": plan_fields(found.push), "pull": plan_fields(found.pull)}
        output.document({"remote": chosen.name} | plans | failed)
        ctx.exit(code_of(found.push, found.pull))
    output.note_failures(found.failures)
    url = "" if chosen.url == chosen.name else f" ({chosen.url})"
    output.line(f"remote  {chosen.name}{url}")
    print_direction(found.push)
    print_direction(found.pull)
    ctx.exit(code_of(found.push, found.pull))
