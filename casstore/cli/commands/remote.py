"""``casstore remote add|list|remove``.  Floor: cli."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from casstore.cli import output
from casstore.cli.command import Group, command, json_option
from casstore.config import Config

if TYPE_CHECKING:
    from casstore.cli.app import Application

EXAMPLES = """
casstore remote add team s3://bucket/llm
casstore remote add disk /mnt/team/casstore
casstore remote list
"""


@click.group("remote", cls=Group, examples=EXAMPLES)
def remote() -> None:
    """Name the stores to push to and pull from.

    Buckets, folders that are shared, anything that fsspec opens.
    """


@command(
    "add",
    examples="""
    casstore remote add team s3://bucket/llm
    casstore remote add team s3://bucket/llm --region eu-west-1 --profile lab
    casstore remote add minio s3://bucket --endpoint http://localhost:9000
    casstore remote add disk /mnt/team/casstore --default
    """,
)
@click.argument("name")
@click.argument("url")
@click.option("--endpoint", metavar="URL", help="An S3 service other than Amazon's.")
@click.option("--region", metavar="REGION", help="The region of the bucket.")
@click.option("--profile", metavar="PROFILE", help="The section of ~/.aws/config and ~/.aws/credentials.")
@click.option("--default", is_flag=True, help="Use it where no remote is named; the first one is anyway.")
def add(
    app: Application,
    name: str,
    url: str,
    *,
    endpoint: str | None,
    region: str | None,
    profile: str | None,
    default: bool,
) -> None:
    """Name a remote; nothing is sent there yet.

    URL is s3://bucket/prefix (with --endpoint for other services than Amazon's), a path, or any to which
    fsspec can write; an http:// URL is refused. Credentials are never stored: they come from
    AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, ~/.aws, or the machine's role, when they are needed.
    """
    from casstore.config.editing import add_remote

    with app.repository(create=True):
        added = add_remote(
            app.folder, name, url, endpoint=endpoint, region=region, profile=profile, default=default
        )
    output.line(f"added {added.name} ({added.url})")


@command(
    "list",
    examples="""
    casstore remote list
    casstore remote list --json | jq -r '.[].url'
    """,
)
@json_option
def list_(app: Application, *, as_json: bool) -> None:
    """List the remotes: NAME, URL, and which one is the default."""
    config = Config.load(app.folder)
    if as_json:
        output.document(
            [
                asdict(each) | {"is_default": each.name == config.default_remote}
                for each in config.remotes.values()
            ]
        )
    elif config.remotes:
        rows = [
            [each.name, each.url, "default" if each.name == config.default_remote else ""]
            for each in config.remotes.values()
        ]
        output.table(rows)


@command(
    "remove",
    examples="""
    casstore remote remove disk
    """,
)
@click.argument("name")
def remove(app: Application, name: str) -> None:
    """Take a remote out of the settings; what it stores stays there."""
    from casstore.config.editing import remove_remote

    with app.repository():
        remove_remote(app.folder, name)
    output.line(f"removed {name}")


for _command in (add, list_, remove):
    remote.add_command(_command)
