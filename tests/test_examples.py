"""The examples, run as their readers run them, without a key."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

_FOLDER = Path(__file__).parent.parent / "scripts" / "examples"
_NEEDS = {
    "bedrock": "boto3",
    "dspy_program": "dspy",
    "inspect_model": "inspect_ai",
    "instructor_sdk": "instructor",
    "langchain_chat": "langchain_openai",
    "litellm_sdk": "litellm",
    "llama_index_llm": "llama_index",
    "openai_sdk": "openai",
    "pydantic_agent": "pydantic_ai",
}


@pytest.mark.parametrize("name", sorted(path.stem for path in _FOLDER.glob("[a-z]*.py")))
def test_an_example_asks_once(name: str, tmp_path: Path) -> None:
    """Each example prints the same answer twice, of which one was asked for."""
    if importlib.util.find_spec(_NEEDS[name]) is None:
        pytest.skip(f"{_NEEDS[name]} is not installed")
    done = _run(name, cwd=tmp_path, LITELLM_LOCAL_MODEL_COST_MAP="True", DSPY_CACHEDIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    first, second, counted = done.stdout.splitlines()[-3:]
    assert first == second == "Blue light is scattered most by the air."
    assert counted == "1 call, 1 hit"


def test_an_example_whose_package_is_missing_says_what_to_install(tmp_path: Path) -> None:
    """In one line, with the extra that brings it, which is one of casstore's."""
    extras = tomllib.loads((_FOLDER.parent.parent / "pyproject.toml").read_text("utf-8"))["project"]
    for name, package in _NEEDS.items():
        (tmp_path / f"{package}.py").write_text(f"raise ModuleNotFoundError(name='{package}')", "utf-8")
        done = _run(name, cwd=tmp_path, PYTHONPATH=str(tmp_path))
        (tmp_path / f"{package}.py").unlink()
        found = re.fullmatch(
            rf"{name} needs {package}, which is not installed: python3 -m pip install '\.\[(.+)\]'\n",
            done.stderr,
        )
        assert (done.returncode, done.stdout) == (1, "")
        assert found is not None, done.stderr
        assert found[1] in extras["optional-dependencies"]
        assert f"| [{name}]({name}.py) | `{found[1]}` |" in (_FOLDER / "README.md").read_text("utf-8")


def test_without_a_name_the_examples_are_listed(tmp_path: Path) -> None:
    """Each with what it says of itself; a name that is none lists them, too."""
    for arguments in ((), ("nothing",)):
        done = _run(*arguments, cwd=tmp_path)
        assert done.returncode == 2
        assert [line.split()[0] for line in done.stderr.splitlines()[1:]] == sorted(_NEEDS)


def _run(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, _FOLDER, *arguments],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
