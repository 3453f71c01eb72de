"""``casstore config get|set|unset|list``.  Floor: cli."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from casstore.cli import output
from casstore.cli.command import Group, command, json_option

if TYPE_CHECKING:
    from casstore.cli.app import Application
    from casstore.config.editing import Setting

HELP = """
Read and change the settings of the store.

They stand in its config.toml:

\b
max_size        stored bytes to stay under: 1GiB, 500MB
level           zstd level of new objects, 1 to 19
durable         true: writes reach the disk before they count as done
allow_network   true: use the store on a network file system; one host only
default_remote  the remote to use where none is named
remotes.NAME.*  url, endpoint, region, profile: see casstore remote
"""

EXAMPLES = """
casstore config list
casstore config set max_size 20GiB
casstore config get max_size
"""


@click.group("config", cls=Group, help=HELP, examples=EXAMPLES)
def config() -> None:
    """Take nothing: the commands below do the work."""


@command(
    "get",
    examples="""
    casstore config get max_size
    casstore config get remotes.team.url
    """,
)
@click.argument("name")
@json_option
def get(app: Application, name: str, *, as_json: bool) -> None:
    """Print the value of a setting, or its default."""
    from casstore.config.editing import get_setting

    setting = get_setting(app.folder, name)
    if as_json:
        output.document(_fields(setting))
    else:
        output.line(setting.text)


@command(
    "set",
    examples="""
    casstore config set max_size 20GiB
    casstore config set level 9
    casstore config set default_remote team
    """,
)
@click.argument("name")
@click.argument("value")
def set_(app: Application, name: str, value: str) -> None:
    """Change a setting.

    The rest of the file stays as it is, comments included.
    """
    from casstore.config.editing import set_setting

    set_setting(app.settings_folder(create=True), name, value)


@command(
    "unset",
    examples="""
    casstore config unset max_size
    casstore config unset remotes.team.profile
    """,
)
@click.argument("name")
def unset(app: Application, name: str) -> None:
    """Let the default of a setting hold again."""
    from casstore.config.editing import unset_setting

    unset_setting(app.settings_folder(), name)


@command(
    "list",
    examples="""
    casstore config list
    casstore config list --json | jq -r '.[] | select(.is_default | not) | .name'
    """,
)
@json_option
def list_(app: Application, *, as_json: bool) -> None:
    """List the settings in force: NAME=VALUE, defaults included."""
    from casstore.config.editing import list_settings

    settings = list_settings(app.folder)
    if as_json:
        output.document([_fields(setting) for setting in settings])
        return
    for setting in settings:
        output.line(f"{setting.name}={setting.text}")


def _fields(setting: Setting) -> dict[str, Any]:
    return {"name": setting.name, "value": setting.value, "is_default": setting.is_default}


for _command in (get, set_, unset, list_):
    config.add_command(_command)
