"""The command line in a folder of its own: 80 columns, no colours, a store that nobody else uses."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from casstore.cli.root import root
from casstore.digest import Key, digest_of
from casstore.repo.repository import Repository
from tests.credentials import no_credential_is_stored

__all__ = ["no_credential_is_stored"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run printed."""

    stdout: str
    stderr: str
    raw: bytes

    def json(self) -> Any:
        """Return the one JSON document of the output; there must be nothing else."""
        return json.loads(self.stdout)


Run = Callable[..., Outcome]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Enter an empty folder, where ``store`` is the store; time is told in UTC."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CASSTORE_DIR", str(tmp_path / "store"))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield tmp_path
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def casstore(home: Path) -> Run:
    """Return a function that runs a command line, and expects the exit code `code`."""
    assert home.is_dir()

    def run(*args: str, code: int = 0, stdin: bytes | None = None) -> Outcome:
        result = CliRunner().invoke(root, args, input=stdin, prog_name="casstore", catch_exceptions=False)
        assert result.exit_code == code, result.output
        return Outcome(result.stdout, result.stderr, result.stdout_bytes)

    return run


def request_of(number: int) -> bytes:
    """Return a stored request."""
    body = {"model": "m-1", "messages": [{"role": "user", "content": f"question {number}"}]}
    return json.dumps({"provider": "openai", "body": body}).encode()


def add_entry(number: int, *, model: str = "m-1", store: str | None = None, **labels: Any) -> Key:
    """Put an answer into a store as the inference layer does, and return its key."""
    request = request_of(number)
    head = {"casstore": 1, "kind": "response", "text": f"answer {number}", "model": model}
    content = json.dumps(head).encode() + b'\n{"id": "reply"}'
    key = Key(digest_of(request))
    with Repository.open(store) as repo:
        repo.put_entry(key, content, labels={"model": model, "provider": "openai", **labels}, refs=[request])
    return key
