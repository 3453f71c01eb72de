"""Messages of casstore are its own: no exception's name and no repr of one gets into them."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

import casstore
from casstore.errors import FormatError, NotFoundError, OfflineMissError, malformed

SOURCES = sorted(Path(casstore.__file__).parent.rglob("*.py"))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (KeyError("size"), "size is missing"),
        (KeyError(), "a part is missing"),
        (IndexError("list index out of range"), "it ends too early"),
        (TypeError("'int' object is not subscriptable"), "a part has another type than expected"),
        (AttributeError("'str' object has no attribute 'get'"), "a part has another type than expected"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), "its text is not UTF-8"),
        (RecursionError("maximum recursion depth exceeded"), "it is nested too deeply"),
        (ValueError(), "a value is not what it should be"),
        (FormatError("not a digest"), "not a digest"),
        (NotFoundError("nothing there"), "nothing there"),
    ],
)
def test_malformed_data_in_words(error: Exception, words: str) -> None:
    """What reading malformed data raises is told without Python's words."""
    assert malformed(error) == words


def test_parsers_say_where() -> None:
    """A parser's sentence has the place, and is kept."""
    with pytest.raises(ValueError, match="line 1") as caught:
        json.loads("[1,")
    assert "line 1 column 4" in malformed(caught.value)
    with pytest.raises(ValueError, match="line 1") as caught:
        orjson.loads(b"[1,")
    assert "line 1 column 4" in malformed(caught.value)


@pytest.mark.parametrize("kind", [NotFoundError, OfflineMissError])
def test_an_error_without_a_message_says_what_it_means(kind: type[Exception]) -> None:
    """An error raised without words has those of its class's description, not its name."""
    assert kind.__name__ not in str(kind())
    assert str(kind()).endswith(".")


def test_no_message_shows_an_exceptions_class_or_repr() -> None:
    """In no handler is a caught exception formatted by its repr, or by its class's name."""
    assert len(SOURCES) > 100
    assert [f"{path}:{line}" for path in SOURCES for line in _leaks(ast.parse(path.read_text("utf-8")))] == []


def test_the_search_for_leaks_finds_them() -> None:
    """Each form is found in code that has it."""
    leaks = """
try: pass
except OSError as error: raise RuntimeError(f"{error!r}")
except ValueError as error: print(f"{type(error).__name__}: {error}")
except KeyError as error: print(repr(error), error.__class__.__name__)
"""
    assert list(_leaks(ast.parse(leaks))) == [3, 4, 5, 5]


def _leaks(tree: ast.AST) -> Iterator[int]:
    for handler in ast.walk(tree):
        if isinstance(handler, ast.ExceptHandler) and handler.name:
            shown = (node for node in ast.walk(handler) if _shows(node, handler.name))
            yield from sorted(getattr(node, "lineno", 0) for node in shown)


def _shows(node: ast.AST, name: str) -> bool:
    """Tell whether `node` makes text of the repr or of the class of the exception called `name`."""
    if isinstance(node, ast.FormattedValue):
        return node.conversion == ord("r") and _is(node.value, name)
    if isinstance(node, ast.Call):
        return _is(node.func, "repr") and _is(node.args[0], name)
    if not isinstance(node, ast.Attribute) or node.attr != "__name__":
        return False
    of = node.value
    if isinstance(of, ast.Call):
        return bool(of.args) and _is(of.args[0], name)
    return isinstance(of, ast.Attribute) and of.attr == "__class__" and _is(of.value, name)


def _is(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name
