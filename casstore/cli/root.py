"""The root command: which commands there are, and how a run ends.  Floor: cli.

Exit codes: 0 done, 1 failed, 2 usage; 130 interrupted, 141 nobody reads the output any more.
"""

from __future__ import annotations

import gc
import os
import sys
from io import TextIOWrapper
from typing import Any, NoReturn

import click

from casstore import __version__
from casstore.cli import output
from casstore.cli.app import Application
from casstore.cli.command import USAGE, Group
from casstore.cli.commands.cat import cat
from casstore.cli.commands.config import config
from casstore.cli.commands.delete import delete
from casstore.cli.commands.evict import evict
from casstore.cli.commands.explain import explain
from casstore.cli.commands.export import export
from casstore.cli.commands.forget import forget
from casstore.cli.commands.gc import gc as collect
from casstore.cli.commands.get import get
from casstore.cli.commands.import_ import import_
from casstore.cli.commands.init import init
from casstore.cli.commands.ls import ls
from casstore.cli.commands.pull import pull
from casstore.cli.commands.push import push
from casstore.cli.commands.put import put
from casstore.cli.commands.rebuild import rebuild
from casstore.cli.commands.remote import remote
from casstore.cli.commands.repack import repack
from casstore.cli.commands.show import show
from casstore.cli.commands.stats import stats
from casstore.cli.commands.status import status
from casstore.cli.commands.verify import verify
from casstore.cli.commands.version import version
from casstore.config import STORE_VARIABLE
from casstore.errors import CasstoreError

FAILED, INTERRUPTED, UNREAD = 1, 130, 141

GARBAGE_AT = 50_000
"""Objects made before Python looks for cycles among them; with its own 700, that is a seventh of a sync."""

EXAMPLES = """
casstore remote add team s3://bucket/llm   name the team's bucket, once
casstore pull                              have what colleagues have
casstore ls                                what is here
casstore stats                             what it saved
casstore push                              share it

Shell completion, in what bash reads (others: zsh_source, fish_source):
eval "$(_CASSTORE_COMPLETE=bash_source casstore)"
"""


class _UnreadError(Exception):
    """Nobody reads the output any more."""


class Root(Group):
    """The root command, which turns every end of a run into an exit code and at most one line."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was named."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:  # which click would end with 1, as a failure
            raise _UnreadError from error

    def main(self, *args: Any, **extra: Any) -> NoReturn:
        """Run, and exit."""
        extra["standalone_mode"] = False
        try:
            code = super().main(*args, **extra)
            if sys.stdout is not None:  # closed by the shell: casstore ls >&-
                sys.stdout.flush()
        except (_UnreadError, BrokenPipeError):
            code = _close_output()
        except click.UsageError as error:
            code = _usage(error)
        except click.ClickException as error:
            code = _failed(error.format_message())
        except (click.Abort, KeyboardInterrupt):
            output.note("interrupted; what was done is kept, and the same command again does the rest")
            code = INTERRUPTED
        except CasstoreError as error:
            code = _failed(str(error))
        except OSError as error:
            told = error.strerror or str(error)
            code = _failed(f"{error.filename}: {told}" if error.filename else told)
        sys.exit(code if isinstance(code, int) else 0)


def _failed(message: str) -> int:
    output.note(" ".join(message.split()))
    return FAILED


def _usage(error: click.UsageError) -> int:
    path = error.ctx.command_path if error.ctx else "casstore"
    told = " ".join(error.format_message().split()).rstrip(".")
    output.note(f"{told} See {path} --help" if told.endswith(("?", "?)")) else f"{told}; see {path} --help")
    return USAGE


def _close_output() -> int:
    """Give up standard output quietly: the interpreter would complain when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return UNREAD


@click.group(
    "casstore", cls=Root, examples=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.option(
    "--store",
    metavar="FOLDER",
    envvar=STORE_VARIABLE,
    show_envvar=True,
    help="The store to use; otherwise casstore in the user's cache folder.",
)
@click.version_option(__version__, prog_name="casstore", message="%(prog)s %(version)s")
@click.pass_context
def root(ctx: click.Context, store: str | None) -> None:
    """Keep LLM answers, and share them with a team.

    Any bytes, in fact: stored once, checked whenever they are read, shared through a bucket or a folder.
    """
    ctx.obj = Application(store)


for _command in (
    *(init, put, get, cat, ls, show, explain, export, import_, forget, delete),
    *(status, push, pull, collect, remote),
    *(stats, verify, evict, repack, rebuild, config, version),
):
    root.add_command(_command)


def main() -> NoReturn:
    """Run the command line on this process' arguments, and exit."""
    gc.set_threshold(GARBAGE_AT)
    if isinstance(sys.stdout, TextIOWrapper):  # an output that cannot show a character shows its number
        sys.stdout.reconfigure(errors="backslashreplace")
    root.main(prog_name="casstore")
