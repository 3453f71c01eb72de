"""What the demo's pipeline reads: prose that ships with Python and with this project."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

LENGTH = 8_000
"""Characters of a document that are read."""
SHORTEST = 1_000
"""Characters below which a document gives too little to ask about."""

_PROJECT = Path(__file__).parents[2]
_MODULES = (
    "argparse", "asyncio.events", "asyncio.streams", "calendar", "concurrent.futures._base", "configparser",
    "csv", "datetime", "difflib", "email.message", "ftplib", "functools", "hmac", "http.client", "imaplib",
    "logging.handlers", "mailbox", "multiprocessing.pool", "pathlib", "pickletools", "random", "sched",
    "shutil", "smtplib", "socketserver", "ssl", "statistics", "subprocess", "tarfile", "tempfile",
    "threading", "traceback", "turtle", "typing", "unittest.mock", "urllib.parse", "urllib.request",
    "zipfile",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Document:
    """A text and its name."""

    name: str
    text: str


def documents(count: int) -> list[Document]:
    """Return `count` documents: the project's designs, then the docstrings of the standard library."""
    designs = [
        Document(str(path.relative_to(_PROJECT)), path.read_text("utf-8")[:LENGTH])
        for path in sorted((_PROJECT / "designs").glob("*.md"))
        if path.stat().st_size >= SHORTEST
    ]
    return [*designs[: count // 3], *map(_module, _MODULES)][:count]


def _module(name: str) -> Document:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise LookupError(f"this Python has no source of {name}")
    tree = ast.parse(Path(spec.origin).read_text("utf-8"))
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    texts = [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, kinds)]
    return Document(name, "\n\n".join(filter(None, texts))[:LENGTH])
