"""What the demo shows: calm lines for 80 columns, in colour where a terminal can, and what it checked."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

_WIDTH = 80
_INDENT = "   "
_FEW = 4
"""Names a folder may have in a tree and still be shown whole."""


class Report:
    """Prints the story, and remembers which of its claims were false."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._steps = 0
        self.held = 0
        self.false: list[str] = []

    def title(self, text: str, below: Sequence[str]) -> None:
        """Print the headline, and lines below it."""
        self._print("", (text, "bold"))
        self._print()
        for line in below:
            self._print("", (line, "dim"))

    def step(self, text: str) -> None:
        """Begin a step."""
        self._steps += 1
        self._print()
        self._print("", (f"{self._steps}  ", "bold cyan"), (text, "bold"))

    def say(self, text: str, style: str = "") -> None:
        """Print a sentence, set in under the step."""
        for line in textwrap.wrap(text, _WIDTH - len(_INDENT)):
            self._print(_INDENT, (line, style))

    def command(self, line: str, output: str) -> None:
        """Print a command and what it printed."""
        self._print(_INDENT, ("$ ", "dim"), (line, ""))
        for each in output.splitlines():
            wrapped = textwrap.wrap(each, _WIDTH - len(_INDENT), subsequent_indent="  ", drop_whitespace=True)
            for part in [each] if len(wrapped) <= 1 else wrapped:
                self._print(_INDENT, (part, "dim"))

    def check(self, claim: str, *, holds: bool) -> None:
        """Print a claim with whether it holds; one that does not fails the demo."""
        if holds:
            self.held += 1
        else:
            self.false.append(claim)
        mark = ("✓ ", "green") if holds else ("✗ ", "bold red")
        self._print(_INDENT, mark, (claim, "" if holds else "red"))

    @contextmanager
    def progress(self, total: int) -> Iterator[Callable[[], None]]:
        """Draw a bar on a terminal, and nothing elsewhere; what is yielded moves it on by one."""
        columns = (TextColumn(" "), BarColumn(40), MofNCompleteColumn(), TimeElapsedColumn())
        hidden = not self._console.is_terminal
        with Progress(*columns, console=self._console, transient=True, disable=hidden) as progress:
            task = progress.add_task("", total=total)
            yield lambda: progress.advance(task)

    def table(self, rows: Sequence[Sequence[str]]) -> None:
        """Print rows below a head, the first column to the left and the others to the right."""
        widths = [max(map(len, column)) + 3 for column in zip(*rows, strict=True)]
        for number, (first, *others) in enumerate(rows):
            cells = [first.ljust(widths[0])]
            cells += [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
            self._print(_INDENT, ("".join(cells), "" if number else "dim"))

    def tree(self, title: str, names: Sequence[str]) -> None:
        """Print slash-separated names as a tree, of large folders the beginning."""
        self._print()
        self._print(_INDENT, (title, "bold"))
        for line in _branches([name.split("/") for name in names]):
            self._print(_INDENT, (line, "dim"))

    def end(self, lines: Sequence[str]) -> None:
        """Print what stands below all steps."""
        self._print()
        for line in lines:
            self._print("", (line, ""))

    def _print(self, indent: str = "", *parts: tuple[str, str]) -> None:
        self._console.print(Text.assemble(indent, *parts))


def files_in(folder: Path) -> list[str]:
    """Return the names of all files below a folder, slash-separated, by name."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _branches(paths: Sequence[Sequence[str]], lead: str = "") -> Iterator[str]:
    """Yield the lines of a tree; where a folder has many names, the first one and how many there are."""
    heads = list(dict.fromkeys(path[0] for path in paths))
    shown = heads if len(heads) <= _FEW or not lead else heads[:1]
    for head in shown:
        below = [path[1:] for path in paths if path[0] == head and path[1:]]
        last = head == heads[-1]
        yield f"{lead}{'└─ ' if last else '├─ '}{_short(head)}{'/' if below else ''}"
        yield from _branches(below, lead + ("   " if last else "│  "))
    if shown != heads:
        yield f"{lead}└─ … and {len(heads) - len(shown)} more"


def _short(name: str) -> str:
    """Return a name with the middle of its digest left out."""
    stem, dot, ending = name.partition(".")
    return f"{stem[:12]}…{stem[-4:]}{dot}{ending}" if len(stem) == 64 else name  # noqa: PLR2004 - a digest's digits
