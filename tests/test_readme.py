"""The README, run: its blocks in their order, in a clean folder, by two people who share a bucket.

Python blocks are run as programs; one that begins with ``# NAME.py`` is saved under that name, and a later
block must run it. Console blocks hold commands after ``$`` and what they print, where ``…`` stands for
anything. The models are the loopback provider of the tests, the bucket is on the tests' S3 server.
"""

from __future__ import annotations

import inspect
import itertools
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import metadata
from pathlib import Path

import pytest
from click.testing import CliRunner

from casstore.cli.root import root
from casstore.inference.cache import Cache
from tests.conftest import Bucket
from tests.credentials import SECRET, no_credential_is_stored
from tests.inference.provider import running_provider
from tests.s3 import Server

__all__ = ["no_credential_is_stored"]

_ROOT = Path(__file__).parent.parent
_README = (_ROOT / "README.md").read_text("utf-8")
_BLOCK = re.compile(
    r"(?:^<!-- as: (?P<who>\w+) -->\n\n)?^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)
_PROGRAM = re.compile(r"# (\w+\.py)\n")
_KEYS = {"OPENAI_API_KEY": SECRET, "ANTHROPIC_API_KEY": SECRET}


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of the README."""

    kind: str
    text: str
    who: str

    @property
    def program(self) -> str | None:
        """The name it is to be saved under."""
        found = _PROGRAM.match(self.text)
        return found[1] if found and self.kind == "python" else None

    def steps(self) -> list[tuple[str, str]]:
        """Return the commands of a console block, each with what it should print."""
        parts = re.split(r"^\$ (.*)\n", self.text, flags=re.MULTILINE)
        assert parts[0] == "", f"a console block begins with a command: {self.text}"
        return list(zip(parts[1::2], parts[2::2], strict=True))


def blocks() -> list[Block]:
    """Return all blocks of the README."""
    found = [Block(each["kind"], each["text"], each["who"] or "you") for each in _BLOCK.finditer(_README)]
    assert 2 * len(found) == len(re.findall(r"^\s*```", _README, re.MULTILINE)), "a block was not recognised"
    return found


@dataclass(frozen=True, slots=True)
class Reader:
    """Somebody who does what the README says.

    Attributes:
        folder: Where they work.
        env: Their environment, with a home of their own.
    """

    folder: Path
    env: Mapping[str, str]

    def run(self, *command: str) -> str:
        """Run a command, which must succeed, and return what it prints."""
        done = subprocess.run(
            command, cwd=self.folder, env=self.env, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def save(self, name: str, text: str) -> None:
        """Write a program."""
        (self.folder / name).write_text(text, "utf-8")


@pytest.fixture
def readers(tmp_path: Path, bucket: Bucket, s3_server: Server) -> Iterator[dict[str, Reader]]:
    """Yield two readers in one folder, with one bucket; one of them has keys for the providers."""
    assert bucket.endpoint == s3_server.endpoint
    named = re.search(r"s3://(\w+)/", _README)
    assert named, "the README pushes to a bucket"
    s3_server._send("PUT", f"/{named[1]}", unlogged=True)
    folder = tmp_path / "work"
    folder.mkdir()
    with running_provider() as provider:
        common = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "OPENAI_BASE_URL": f"{provider.url}/v1",
            "ANTHROPIC_BASE_URL": provider.url,
            "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": provider.url,
        }
        you = {**os.environ, **common, **_home(tmp_path / "you"), **_KEYS}
        colleague = {**os.environ, **common, **_home(tmp_path / "colleague")}
        yield {"you": Reader(folder, you), "colleague": Reader(folder, colleague)}


def test_every_block_runs(readers: dict[str, Reader]) -> None:
    """Every block of the README runs as it stands there, and prints what stands there."""
    saved: set[str] = set()
    commands: list[str] = []
    for block in blocks():
        reader = readers[block.who]
        if block.program:
            reader.save(block.program, block.text)
            saved.add(block.program)
        elif block.kind == "python":
            reader.run("python", "-W", "error", "-c", block.text)
        elif block.kind == "console":
            for command, expected in block.steps():
                _compare(command, expected, reader.run("bash", "-c", command))
                commands.append(command)
        else:
            assert block.text in (_setup(), _install()), f"nothing runs this block:\n{block.text}"
    assert all(any(name in command for command in commands) for name in saved), "a program is never run"


def test_the_two_commands_are_scripts_and_ci_runs_the_tests_by_the_same() -> None:
    """The commands that set everything up exist, and CI's test command is the README's."""
    commands = [shlex.split(line, comments=True)[0] for line in _setup().splitlines()]
    assert commands == ["scripts/demo", "scripts/test"]
    for command in commands:
        assert os.access(_ROOT / command, os.X_OK)
        subprocess.run(["bash", "-n", _ROOT / command], check=True)
    ran = (_ROOT / ".ci" / "run").read_text("utf-8").splitlines()
    assert any("scripts/test" in line.split() for line in ran if not line.startswith("#"))


def test_what_is_to_be_installed_exists() -> None:
    """The extras that the README installs are casstore's, and the Python it asks for is enough."""
    about = metadata("casstore")
    named = re.search(r"SDK you use: (.*)\.\n", _README)
    assert named
    extras = set(re.findall(r"`(\w+)`", named[1]))
    assert extras == {"openai", "anthropic", "bedrock"}
    assert extras <= set(about.get_all("Provides-Extra") or ())
    assert shlex.split(_install())[-1] in {f".[{extra}]" for extra in extras}
    assert f"Python {about['Requires-Python'].removeprefix('>=')}" in _README


def test_commands_in_the_text_exist() -> None:
    """Every casstore command named in a sentence is one, and its options are its own."""
    commands = [shlex.split(text)[1:] for text in _inline() if text.startswith("casstore ")]
    assert len(commands) > 3
    for command in commands:
        words = list(itertools.takewhile(str.islower, command))
        shown = CliRunner().invoke(root, [*words[:2], "--help"], prog_name="casstore")
        if shown.exit_code:
            shown = CliRunner().invoke(root, [*words[:1], "--help"], prog_name="casstore")
        assert shown.exit_code == 0, command
        assert all(option in shown.output for option in command if option.startswith("-")), command


def test_arguments_in_the_text_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cache built in a sentence can be built, and every argument named there is one."""
    monkeypatch.chdir(tmp_path)
    caches = [text for text in _inline() if text.startswith("Cache(")]
    assert len(caches) > 2
    for text in caches:
        eval(text, {"Cache": Cache}).close()
    named = {found[1] for text in _inline() if (found := re.match(r"([a-z]\w*)=", text))}
    known = {*inspect.signature(Cache).parameters, *inspect.signature(Cache.wrap).parameters}
    assert named
    assert named <= known


def test_links_lead_somewhere() -> None:
    """Every file that the README links to or names as a script is there."""
    files = re.findall(r"\]\(([^):]+)\)", _README) + re.findall(r"`(scripts/\w+)", _README)
    assert files
    assert [name for name in files if not (_ROOT / name).exists()] == []


def _home(folder: Path) -> dict[str, str]:
    folder.mkdir()
    return {"HOME": str(folder), "XDG_CACHE_HOME": str(folder / ".cache")}


def _inline() -> list[str]:
    """Return the code that stands in sentences."""
    return re.findall(r"(?<!`)`([^`\n]+)`(?!`)", _BLOCK.sub("", _README))


def _setup() -> str:
    return _scripts()[0]


def _install() -> str:
    return _scripts()[1]


def _scripts() -> list[str]:
    return [block.text for block in blocks() if block.kind == "sh"]


def _compare(command: str, expected: str, printed: str) -> None:
    pattern = ".*?".join(re.escape(part) for part in expected.strip().split("…"))
    assert re.fullmatch(pattern, printed.strip(), re.DOTALL), (
        f"$ {command}\nshould print\n{expected}\nand printed\n{printed}"
    )
