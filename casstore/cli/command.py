"""What all commands share: examples in their help, ``--store``, ``--json``, checked values.  Floor: cli.

Knows no command.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from string import hexdigits
from typing import Any, TypeVar

import click

from casstore.cli.app import Application
from casstore.config import parse_duration, parse_size
from casstore.digest import DIGEST_DIGITS, Digest, parse_digest
from casstore.errors import ConfigError, FormatError

USAGE = 2
"""The exit code of a mistake in usage."""

SHORTENED = 4
"""Digits that are meant for a digest, and not for the name of a file or a typo."""

Function = Callable[..., None]
C = TypeVar("C", bound=click.Command)


class Examples:
    """A mixin for click commands whose help ends in examples."""

    examples: str

    def format_epilog(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples as they are, without wrapping."""
        with formatter.section("Examples"):
            for line in self.examples.splitlines():
                formatter.write(f"{'':>{formatter.current_indent}}{line}\n" if line else "\n")


class Command(Examples, click.Command):
    """One command of casstore."""

    def __init__(self, *args: Any, examples: str, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.examples = textwrap.dedent(examples).strip("\n")


class Group(Examples, click.Group):
    """A command that holds commands, listed in the order in which they were added."""

    def __init__(self, *args: Any, examples: str, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.examples = textwrap.dedent(examples).strip("\n")

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take the arguments; with none at all, show the help, and end as with a mistake in usage."""
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help(), err=True)
            ctx.exit(USAGE)
        return super().parse_args(ctx, args)

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Return the commands as they were added, which is the order to learn them in."""
        return list(self.commands)


def check_size(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """Return an option such as ``1GiB`` as it was written, if it is a size: a click callback."""
    try:
        if value is not None:
            parse_size(value)
    except ConfigError as error:
        raise click.BadParameter(str(error)) from None
    return value


def check_duration(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    """Return an option such as ``24h`` as it was written, if it is a duration: a click callback."""
    try:
        parse_duration(value)
    except ConfigError as error:
        raise click.BadParameter(str(error)) from None
    return value


def read_digest(_ctx: click.Context, _param: click.Parameter, value: str) -> Digest:
    """Return a digest in lower case: a click callback."""
    return _digest(value)


def read_digests(_ctx: click.Context, _param: click.Parameter, value: tuple[str, ...]) -> list[Digest]:
    """Return digests in lower case: a click callback."""
    return [_digest(text) for text in value]


def _digest(text: str) -> Digest:
    if SHORTENED <= len(text) < DIGEST_DIGITS and set(text.lower()) <= set(hexdigits):
        raise click.BadParameter(
            f"{text} has {len(text)} digits, and a digest {DIGEST_DIGITS}: give all of them; only the KEY of"
            " casstore show may be shortened"
        )
    try:
        return parse_digest(text.lower())
    except FormatError as error:
        raise click.BadParameter(str(error)) from None


def command(name: str, *, examples: str) -> Callable[[Function], Command]:
    """Make a function of an `Application` and its options a command; its docstring is the help."""

    def make(function: Function) -> Command:
        decorated = _store_option(click.pass_obj(function))
        return click.command(name, cls=Command, examples=examples)(decorated)

    return make


def _choose_store(ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    if value:
        ctx.ensure_object(Application).store = value


_store_option = click.option(
    "--store",
    metavar="FOLDER",
    expose_value=False,
    callback=_choose_store,
    help="The store to use; may also stand before the command.",
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")

remote_argument = click.argument("remote", required=False)
