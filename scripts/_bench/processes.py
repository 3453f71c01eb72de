"""What a program costs from its start to its end: time, processor time, peak memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_LAUNCHER = Path(__file__).with_name("launcher.py")
_KEPT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR")
"""The variables that a measured program sees besides its own: no settings of the machine's user."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a program cost.

    Attributes:
        seconds: From its start to its end.
        cpu: Processor seconds, of user and system, its children included.
        memory: Peak resident memory in bytes, of the largest of its processes.
        output: What it printed.
    """

    seconds: float
    cpu: float
    memory: int
    output: str = ""


class ProgramError(Exception):
    """A measured program failed; the message has the end of what it said."""


def measure(command: Sequence[str | Path], environment: Mapping[str, str], folder: Path) -> Cost:
    """Run a program and return what it cost.

    Args:
        command: The program and its arguments.
        environment: Its variables, besides the few that every program needs.
        folder: Its working directory, and its home.

    Raises:
        ProgramError: It ended with another status than 0.
    """
    own = {name: os.environ[name] for name in _KEPT if name in os.environ}
    with tempfile.NamedTemporaryFile(prefix="casstore-cost-") as result:
        launcher = [sys.executable, "-I", "-S", str(_LAUNCHER), result.name]
        done = subprocess.run(
            [*launcher, *map(str, command)],
            env={**own, "HOME": str(folder), **environment},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            said = (done.stdout + done.stderr)[-2000:]
            raise ProgramError(f"{' '.join(map(str, command))}: {done.returncode}\n{said}")
        return Cost(**json.load(result), output=done.stdout)
