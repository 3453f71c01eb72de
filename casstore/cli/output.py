"""Everything that casstore prints.  Floor: cli.

Results go to standard output; notes, progress and errors to standard error. Text that came from a store is
shown with its control characters made visible, so that nobody's answer can steer somebody's terminal.
Progress is drawn on a terminal only.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from casstore.events import Advanced, Event, Finished, Started, Warned

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from rich.progress import Progress, TaskID

    from casstore.events import OnEvent
    from casstore.repo.plan import Failure

# C0 but tab and newline, DEL, C1, and the marks that change the direction of text.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


_TOLD = 20
"""How many lines of failures are printed."""


def line(text: str = "") -> None:
    """Print one line of a result, or several."""
    click.echo(visible(text))


def file_line(file: str, *, before: str = "") -> None:
    r"""Print one line that ends in the name of a file, so that a program can read the name back.

    As GNU's sha256sum does: a name with a newline, a carriage return or a backslash is written with ``\n``,
    ``\r`` and ``\\``, and the line begins with a backslash. Every other byte of the name stays as it is.

    Args:
        file: The name.
        before: What the line has before the name.
    """
    escaped = escaped_name(file)
    mark = "" if escaped == file else "\\"
    raw(f"{mark}{before}".encode() + os.fsencode(escaped) + b"\n")


def escaped_name(file: str) -> str:
    """Return the name of a file on one line: newline, carriage return and backslash as escapes."""
    return file.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")


def raw(content: bytes) -> None:
    """Print bytes as they are, without a newline of their own."""
    click.echo(content, nl=False)


def note(text: str) -> None:
    """Tell a person something that is no result: one line on standard error."""
    click.echo(f"casstore: {one_line(text)}", err=True)


def document(value: Any) -> None:
    """Print `value` as one JSON document, in ASCII."""
    click.echo(json.dumps(value, indent=2))


def documents(values: Iterable[Any]) -> None:
    """Print an iterable as one JSON array, without holding it."""
    before = "[\n"
    for value in values:
        click.echo(before + json.dumps(value), nl=False)
        before = ",\n"
    click.echo("[]" if before == "[\n" else "\n]")


def table(rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> None:
    """Print rows in aligned columns; those numbered in `right` are aligned on the right."""
    shown = [[visible(cell).replace("\n", " ") for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    sides = [str.rjust if number in right else str.ljust for number in range(len(widths))]
    lines = [
        "  ".join(side(cell, width) for side, cell, width in zip(sides, row, widths, strict=True)).rstrip()
        for row in shown
    ]
    click.echo("\n".join(lines))


def failures(found: Iterable[Failure]) -> None:
    """Print what failed, as a result; see `failure_lines`."""
    for told in failure_lines(found):
        line(told)


def note_failures(found: Iterable[Failure]) -> None:
    """Tell a person what failed, beside a result; see `failure_lines`."""
    for told in failure_lines(found):
        note(told)


def failure_lines(found: Iterable[Failure]) -> list[str]:
    """Return what failed, a line for each reason, and not thousands: ``NAME and 41 more: REASON``."""
    names: dict[str, list[str]] = {}
    for failure in found:
        names.setdefault(failure.reason, []).append(failure.name)
    told = [
        f"{first}{f' and {len(others):,} more' if others else ''}: {reason}"
        for reason, (first, *others) in names.items()
    ]
    untold = sum(len(each) for each in list(names.values())[_TOLD:])
    return [*told[:_TOLD], f"and {count(untold, 'failure')} more; --json lists all"] if untold else told


def failure_fields(found: Iterable[Failure]) -> list[dict[str, str]]:
    """Return the JSON of what failed."""
    return [{"name": failure.name, "reason": failure.reason} for failure in found]


def one_line(text: str) -> str:
    """Return `text` with control characters, newlines included, written as escapes."""
    return visible(text).replace("\n", "\\n")


def visible(text: str) -> str:
    """Return `text` with control characters written as escapes."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def moment(milliseconds: int) -> str:
    """Return a time since the Unix epoch as local time: ``2026-11-23 14:05:00``."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(milliseconds / 1000))


def duration(seconds: float) -> str:
    """Return a time span for people: ``4.5 s``, ``12.0 min``, ``13.6 h``."""
    if seconds < 90:  # noqa: PLR2004 - a minute and a half is still told in seconds
        return f"{seconds:.1f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:,.1f} h"


def writable(path: Path, *, force: bool) -> Path:
    """Return the file to write for `path`, which is where it leads to if it is a link.

    Raises:
        click.ClickException: There is no folder for it; or something is there that is no ordinary file, or a
            file, and `force` is false.
    """
    if not path.parent.is_dir():
        raise click.ClickException(f"there is no folder {path.parent} to write to; make it first")
    if path.exists() and not path.is_file():
        raise click.ClickException(f"{path} is no ordinary file, and is not replaced; try -o - >{path}")
    if path.exists() and not force:
        raise click.ClickException(f"{path} is there already; --force replaces it")
    return path.resolve() if path.is_symlink() else path


def note_steps(what: str, *steps: tuple[int, str]) -> None:
    """Tell a person what is wrong, and of each number that is not 0 what is to be done about so many."""
    told = [step.format(f"{number:,}") for number, step in steps if number]
    if told:
        note("; ".join([what, *told]))


def count(number: int, noun: str) -> str:
    """Return ``1 object``, ``2 objects``, ``2 entries``."""
    if number == 1:
        return f"1 {noun}"
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number:,} {plural}"


def by_verb(requests: Mapping[str, int]) -> str:
    """Return requests for people: ``3 requests (1 LIST, 2 PUT)``."""
    sent = ", ".join(f"{number:,} {verb}" for verb, number in sorted(requests.items()) if number)
    return count(sum(requests.values()), "request") + (f" ({sent})" if sent else "")


@contextmanager
def progress() -> Iterator[OnEvent]:
    """Yield a callable for events: bars on a terminal, and only warnings elsewhere."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield warn
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[objects]:,}/{task.fields[all]:,} objects"),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        yield _Bars(bars)


def warn(event: Event) -> None:
    """Tell a person of a warning, and nothing of other events."""
    if isinstance(event, Warned):
        note(f"warning: {event.message}")


class _Bars:
    """Draws the events of operations, a bar each, as long as the bytes to move."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}
        self._objects: dict[str, int] = {}

    def __call__(self, event: Event) -> None:
        match event:
            case Started(operation, objects, size):
                self._objects[operation] = 0
                task = self._bars.add_task(operation, total=size, objects=0, all=objects)
                self._tasks[operation] = task
            case Advanced(operation, objects, size) if operation in self._tasks:
                self._objects[operation] += objects
                self._bars.update(self._tasks[operation], advance=size, objects=self._objects[operation])
            case Finished(operation) if operation in self._tasks:
                self._bars.remove_task(self._tasks.pop(operation))
            case Warned(message):
                self._bars.console.print(
                    f"casstore: warning: {one_line(message)}", markup=False, highlight=False
                )
