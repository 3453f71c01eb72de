"""The examples, run as their readers run them, without a key."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
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
    environment = os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "DSPY_CACHEDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, _FOLDER / f"{name}.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    first, second, counted = done.stdout.splitlines()[-3:]
    assert first == second == "Blue light is scattered most by the air."
    assert counted == "1 call, 1 hit"
