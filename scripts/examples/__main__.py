"""Runs an example by its name: python3 scripts/examples openai_sdk; without one, says which there are."""

from __future__ import annotations

import ast
import runpy
import sys
from pathlib import Path

_FOLDER = Path(__file__).parent
_EXTRAS = {
    "bedrock": "bedrock",
    "dspy_program": "dspy",
    "inspect_model": "inspect",
    "instructor_sdk": "instructor",
    "langchain_chat": "langchain",
    "litellm_sdk": "litellm",
    "llama_index_llm": "llama-index",
    "openai_sdk": "openai",
    "pydantic_agent": "pydantic-ai",
}
"""The extra of casstore that brings what an example needs."""


def main() -> int:
    """Run the example that the arguments name."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in _EXTRAS:
        print("usage: python3 scripts/examples NAME", *map(_line, sorted(_EXTRAS)), sep="\n", file=sys.stderr)
        return 2
    try:
        runpy.run_path(str(_FOLDER / f"{name}.py"), run_name="__main__")
    except ModuleNotFoundError as error:
        install = f"python3 -m pip install '.[{_EXTRAS[name]}]'"
        print(f"{name} needs {error.name}, which is not installed: {install}", file=sys.stderr)
        return 1
    return 0


def _line(name: str) -> str:
    """Return an example's name and the first line of what it says of itself."""
    module = ast.parse((_FOLDER / f"{name}.py").read_text(encoding="utf-8"))
    return f"  {name:<16} {ast.get_docstring(module)}"


sys.exit(main())
