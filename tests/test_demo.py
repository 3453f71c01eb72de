"""The demo, run as its users run it and within this process, with few documents and hardly a delay."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from click.testing import CliRunner

from casstore.cli.root import root
from scripts._demo import __main__ as demo
from scripts._demo import pipeline
from scripts._demo.documents import documents
from scripts._demo.processes import Processes, Run
from scripts._demo.provider import extract

_ROOT = Path(__file__).parent.parent
_SMALL = ("--documents", "2", "--delay", "0.01")
_RUN = re.compile(r"^   (\d+) calls?, (\d+) hits, [\d.]+ s, (\S+)$", re.MULTILINE)


def run(*options: str, code: int = 0) -> str:
    """Run the demo, and return what it printed on both streams."""
    command = [sys.executable, "-m", "scripts._demo", *_SMALL, *options]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return what runs the demo in this process, with all that it would start; and returns what it printed.

    Most of the time that a process of its own takes is for importing OpenAI's SDK.
    """

    def follow(processes: Processes, command: list[str], advance: Callable[[], None]) -> dict[str, int]:
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as said:
            for name, value in processes._env.items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", command[2:])
            pipeline.main()
        lines = [json.loads(line) for line in said.getvalue().splitlines()]
        for _ in lines[:-1]:
            advance()
        last: dict[str, int] = lines[-1]
        return last

    def casstore(processes: Processes, who: str, *arguments: str) -> str:
        env = processes._env | {"CASSTORE_DIR": str(processes.folder / who)}
        done = CliRunner().invoke(root, arguments, prog_name="casstore", env=env)
        assert done.exit_code == 0, done.output
        return done.output

    def run_here(*options: str, code: int = 0) -> str:
        assert demo.main([*_SMALL, *options]) == code
        return capsys.readouterr().out

    monkeypatch.setattr(Processes, "_follow", follow)
    monkeypatch.setattr(Processes, "casstore", casstore)
    return run_here


def test_all_calls_are_paid_once_by_the_whole_team(tmp_path: Path, here: Callable[..., str]) -> None:
    """The first run pays for every call, and no later one for any: yours, a colleague's, or another demo's.

    With --skip-cache every run pays, also where the stores are kept, and nothing is shared.
    """
    keep = ("--keep", str(tmp_path / "kept"))
    printed = run(*keep)
    runs = [(int(calls), int(hits)) for calls, hits, _ in _RUN.findall(printed)]
    prices = [price for _, _, price in _RUN.findall(printed)]
    assert runs == [(8, 0), (0, 8), (0, 8)]
    assert float(prices[0].removeprefix("$")) > 0
    assert prices[1:] == ["$0.0000", "$0.0000"]
    assert "All 4 claims were checked, and hold." in printed
    assert "Simulated  the provider" in printed
    assert [calls for calls, _, _ in _RUN.findall(here(*keep))] == ["0", "0", "0"]
    skipped = here(*keep, "--skip-cache")
    assert [calls for calls, _, _ in _RUN.findall(skipped)] == ["8", "8"]
    assert "casstore push" not in skipped


@pytest.mark.parametrize(
    ("provider", "wanted"),
    [
        ("openai", "OPENAI_API_KEY"),
        ("anthropic", "ANTHROPIC_API_KEY"),
        ("bedrock", "AWS_ACCESS_KEY_ID"),
    ],
)
def test_a_real_provider_without_a_key_is_refused(provider: str, wanted: str) -> None:
    """Before anything is started, one line says which variable is missing."""
    printed = run("--provider", provider, code=1)
    assert printed.startswith(f"scripts/demo: --provider {provider} needs ")
    assert wanted in printed
    assert printed.count("\n") == 1


def test_a_claim_that_does_not_hold_fails_the_demo(
    monkeypatch: pytest.MonkeyPatch, here: Callable[..., str]
) -> None:
    """The demo exits with 1 where a second run made a call, whatever the ledger says of it."""
    honest = Processes.pipeline
    runs: list[Run] = []

    def dishonest(processes: Processes, who: str, advance: Callable[[], None]) -> Run:
        runs.append(honest(processes, who, advance))
        return runs[-1] if len(runs) == 1 else replace(runs[-1], answered=1)

    monkeypatch.setattr(Processes, "pipeline", dishonest)
    assert "2 of 4 claims did not hold." in here(code=1)


def test_the_documents_are_many_and_long_enough() -> None:
    """The demo reads at least fifteen different texts, which makes sixty calls."""
    read = documents(18)
    assert len({document.text for document in read}) == 18
    assert min(len(document.text) for document in read) > 500


def test_answers_are_sentences_of_the_text() -> None:
    """The simulated provider makes nothing up, and answers alike each time."""
    text = documents(18)[-1].text
    answer = extract("Name the risks.", text)
    flat = " ".join(text.split())
    assert answer.splitlines()
    assert all(line.removeprefix("- ") in flat for line in answer.splitlines())
    assert extract("Name the risks.", text) == answer
