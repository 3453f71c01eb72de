"""The reference in ``designs/cli.md``: what every command's help says.

    python -m tests.cli.reference

writes it anew; a test checks that it is current.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from casstore.cli.root import root

DOCUMENT = Path(__file__).parents[2] / "designs" / "cli.md"
BEGIN = "<!-- The reference: written by python -m tests.cli.reference -->\n"


def commands(command: click.Command = root, *names: str) -> Iterator[tuple[str, click.Command]]:
    """Yield every command with its full name, groups before what they hold."""
    path = (*names, command.name or "")
    yield " ".join(path), command
    if isinstance(command, click.Group):
        for each in command.commands.values():
            yield from commands(each, *path)


def help_of(name: str, command: click.Command) -> str:
    """Return the help of a command as an 80-column terminal shows it."""
    parent = click.Context(root, info_name=name.rpartition(" ")[0]) if " " in name else None
    context = click.Context(command, parent, info_name=name.rpartition(" ")[2], terminal_width=80)
    context.help_option_names = ["-h", "--help"]
    return command.get_help(context)


def reference() -> str:
    """Return the generated part of the document."""
    sections = (f"### {name}\n\n```text\n{help_of(name, command)}\n```\n" for name, command in commands())
    return BEGIN + "\n" + "\n".join(sections)


def written() -> tuple[str, str]:
    """Return the document's two parts: the one written by people, and the reference."""
    prose, begin, generated = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
    return prose, begin + generated


if __name__ == "__main__":
    DOCUMENT.write_text(written()[0] + reference(), encoding="utf-8")
