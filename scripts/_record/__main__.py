"""Record a run of the demo as an SVG picture of a terminal."""

from __future__ import annotations

import itertools
import os
import pty
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI
from rich.text import Text

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "designs" / "demo.svg"
COLUMNS = 84
LAST = "What is there now"
"""The step before which the picture ends: what follows is a long tree of files."""

FORMAT = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, monospace; font-size: {char_height}px;
  line-height: {line_height}px; }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: system-ui, sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
"""rich's template (`rich._export_format.CONSOLE_SVG_FORMAT`) with the fonts of the reader's machine."""


def recorded(command: list[str]) -> str:
    """Run a command on a terminal of its own, and return what it printed, colours included.

    Raises:
        CalledProcessError: The command failed.
    """
    master, terminal = pty.openpty()
    env = {**os.environ, "COLUMNS": str(COLUMNS), "LINES": "60", "TERM": "xterm-256color"}
    with subprocess.Popen(command, stdout=terminal, stderr=terminal, cwd=ROOT, env=env) as process:
        os.close(terminal)
        pieces = []
        while piece := _read(master):
            pieces.append(piece)
            sys.stdout.buffer.write(piece)
            sys.stdout.flush()
    os.close(master)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return b"".join(pieces).decode()


def _read(master: int) -> bytes:
    try:
        return os.read(master, 65536)
    except OSError:  # Linux reports EIO once the last process on the terminal has ended
        return b""


def shown(session: str) -> list[str]:
    """Return the lines that stay on the screen, up to `LAST`; progress bars are left out."""
    lines = [line.rpartition("\r")[2] for line in session.replace("\r\n", "\n").split("\n")]
    colours_only = [re.sub(r"\x1b\[[0-9;?]*[A-LN-Za-ln-z]", "", line) for line in lines]
    kept = [
        line for line in itertools.takewhile(lambda line: LAST not in line, colours_only) if "━" not in line
    ]
    return kept[:-1]


def picture(lines: list[str]) -> str:
    """Return an SVG of a terminal that shows `lines`."""
    console = Console(
        record=True, width=COLUMNS, file=StringIO(), force_terminal=True, color_system="truecolor"
    )
    for line in ["$ scripts/demo", *lines]:
        console.print(Text.from_ansi(line))
    return console.export_svg(
        title="scripts/demo", theme=DIMMED_MONOKAI, code_format=FORMAT, unique_id="demo"
    )


if __name__ == "__main__":
    PICTURE.write_text(picture(shown(recorded(["scripts/demo"]))), encoding="utf-8")
    print(f"wrote {PICTURE.relative_to(ROOT)}")
