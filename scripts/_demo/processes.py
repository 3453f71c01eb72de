"""The processes of the demo: the pipeline and the command line, each run as its user would run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from scripts._demo.provider import Provider

_ROOT = Path(__file__).parents[2]
_HIDDEN = ("CASSTORE_", "AWS_")
"""Prefixes of variables that would lead the demo out of its own folder and bucket."""


class DemoError(Exception):
    """The demo cannot go on; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the pipeline is to do.

    Attributes:
        provider: ``openai``, ``anthropic`` or ``bedrock``.
        model: Which of its models.
        documents: How many documents to read.
        skip_cache: Whether to do without the cache.
    """

    provider: str
    model: str
    documents: int
    skip_cache: bool


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the pipeline.

    Attributes:
        calls: Calls made of the provider, as casstore's ledger has it.
        hits: Answers given without one.
        money: USD spent; None where the model's price is not known.
        seconds: Wall time of the whole process, Python and the SDK's import included.
        answered: Calls that the simulated provider counted; None for a real one.
        reports: What the pipeline wrote.
    """

    calls: int
    hits: int
    money: float | None
    seconds: float
    answered: int | None
    reports: str

    @property
    def price(self) -> str:
        """What the run cost, for people."""
        return "unknown" if self.money is None else f"${self.money:.4f}"


class Processes:
    """Starts processes that work in the folders of the demo's people.

    Args:
        folder: Where those folders are.
        asked: What the pipeline is to do.
        simulated: The simulated provider, unless the real one is to be asked.
    """

    def __init__(self, folder: Path, asked: Asked, simulated: Provider | None) -> None:
        self.folder = folder
        self._asked = asked
        self._simulated = simulated
        self._env = environment(os.environ, asked.provider, simulated)

    def pipeline(self, who: str, advance: Callable[[], None]) -> Run:
        """Run the pipeline over somebody's store, calling `advance` at each answer.

        Raises:
            DemoError: It failed.
        """
        before = self._simulated.calls if self._simulated else 0
        out = self.folder / f"{who}.json"
        started = time.perf_counter()
        ledger = self._follow(self._command(who, out), advance)
        return Run(
            calls=ledger["calls"],
            hits=ledger["hits"],
            money=ledger["money"],
            seconds=time.perf_counter() - started,
            answered=self._simulated.calls - before if self._simulated else None,
            reports=out.read_text("utf-8"),
        )

    def casstore(self, who: str, *arguments: str) -> str:
        """Run the command line in somebody's store, and return what it prints.

        Raises:
            DemoError: It failed.
        """
        done = subprocess.run(
            [sys.executable, "-m", "casstore.cli", *arguments],
            cwd=_ROOT,
            env={**self._env, "CASSTORE_DIR": str(self.folder / who)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise DemoError(f"casstore {' '.join(arguments)} failed: {_last_line(done.stderr)}")
        return done.stdout

    def _command(self, who: str, out: Path) -> list[str]:
        asked = self._asked
        command = [sys.executable, "-m", "scripts._demo.pipeline"]
        command += ["--store", str(self.folder / who), "--out", str(out)]
        command += ["--documents", str(asked.documents)]
        command += ["--provider", asked.provider, "--model", asked.model]
        command += ["--simulated", self._simulated.host] if self._simulated else []
        command += ["--skip-cache"] if asked.skip_cache else []
        return command

    def _follow(self, command: list[str], advance: Callable[[], None]) -> dict[str, int]:
        """Run the pipeline to its end, and return its last line."""
        last: dict[str, int] = {}
        with (
            tempfile.TemporaryFile("w+") as errors,
            subprocess.Popen(
                command, cwd=_ROOT, env=self._env, stdout=subprocess.PIPE, stderr=errors, text=True
            ) as process,
        ):
            assert process.stdout is not None
            for line in process.stdout:
                last = json.loads(line)
                if "done" in last:
                    advance()
            if process.wait():
                errors.seek(0)
                raise DemoError(f"the pipeline failed: {_last_line(errors.read())}")
        return last


def environment(user: Mapping[str, str], provider: str, simulated: Provider | None) -> dict[str, str]:
    """Return the environment of the processes: the user's, led to what is simulated."""
    hidden = _HIDDEN if provider != "bedrock" else _HIDDEN[:1]
    env = {name: value for name, value in user.items() if not name.startswith(hidden)}
    env["NO_PROXY"] = ",".join(filter(None, [env.get("NO_PROXY"), "127.0.0.1"]))
    if provider != "bedrock":  # the bucket takes any credentials, and Bedrock needs the real ones
        env |= dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "demo")
        env["AWS_DEFAULT_REGION"] = "us-east-1"
    if simulated:
        env |= {"OPENAI_BASE_URL": simulated.base_url, "OPENAI_API_KEY": "demo"}
    return env


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1].removeprefix("casstore: ")
