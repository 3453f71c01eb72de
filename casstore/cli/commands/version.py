"""``casstore version``.  Floor: cli."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from casstore import __version__
from casstore.cli import output
from casstore.cli.command import command, json_option

if TYPE_CHECKING:
    from casstore.cli.app import Application


@command(
    "version",
    examples="""
    casstore version
    casstore version --json
    """,
)
@json_option
def version(app: Application, *, as_json: bool) -> None:
    """Print the version, and where the store is."""
    fields = {
        "casstore": __version__,
        "python": platform.python_version(),
        "store": str(app.folder),
    }
    if as_json:
        output.document(fields)
    else:
        output.line(f"casstore {fields['casstore']} (Python {fields['python']}), store at {fields['store']}")
