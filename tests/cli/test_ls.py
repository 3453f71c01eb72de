"""``casstore ls``."""

from __future__ import annotations

import re

from tests.cli.conftest import Run, add_entry

MOMENT = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"


def test_ls_lists_entries_the_oldest_first(casstore: Run) -> None:
    """The first digits of the key, when, how large, and the model."""
    first, second = add_entry(1), add_entry(2, model="model-two")
    lines = casstore("ls").stdout.splitlines()
    size = len(b'{"casstore": 1, "kind": "response", "text": "answer 1", "model": "m-1"}\n{"id": "reply"}')
    assert re.fullmatch(rf"{first[:12]}  {MOMENT}  +{size} B  m-1", lines[0])
    assert re.fullmatch(rf"{second[:12]}  {MOMENT}  +{size + 6} B  model-two", lines[1])


def test_ls_long_has_whole_keys_and_digests(casstore: Run) -> None:
    """Also provider and generation."""
    key = add_entry(1)
    entry = casstore("ls", "--json").json()[0]
    (line,) = casstore("ls", "--long").stdout.splitlines()
    assert re.fullmatch(rf"{key}  {MOMENT}  \d+ B  m-1  openai  0  {entry['object']}", line)


def test_ls_keeps_to_a_model(casstore: Run) -> None:
    """The name must be the whole name."""
    add_entry(1, model="m-1")
    key = add_entry(2, model="m-12")
    assert [entry["key"] for entry in casstore("ls", "--model", "m-12", "--json").json()] == [key]


def test_ls_json_has_stable_fields(casstore: Run) -> None:
    """One array; the refs lead to the request."""
    key = add_entry(1, cost=0.5)
    (entry,) = casstore("ls", "--json").json()
    assert set(entry) == {"key", "object", "size", "generation", "created", "labels", "refs"}
    assert (entry["key"], entry["generation"], entry["refs"]) == (key, 0, [key])
    assert entry["labels"] == {"model": "m-1", "provider": "openai", "cost": 0.5}


def test_ls_of_an_empty_store_is_empty(casstore: Run) -> None:
    """No line for people, an empty array for programs."""
    casstore("init")
    assert casstore("ls").stdout == ""
    assert casstore("ls", "--json").json() == []
    assert casstore("ls", "--objects").stdout == ""


def test_ls_objects_lists_what_was_put_by_hand(casstore: Run) -> None:
    """And not the objects of entries."""
    add_entry(1)
    digest = casstore("put", "-", stdin=b"hello\n").stdout.split()[0]
    assert re.fullmatch(rf"{digest}  {MOMENT}  6 B  \d+ B\n", casstore("ls", "--objects").stdout)
    (info,) = casstore("ls", "--objects", "--json").json()
    assert set(info) == {"digest", "size", "stored", "used"}
    assert (info["digest"], info["size"]) == (digest, 6)


def test_ls_objects_takes_no_filter_of_entries(casstore: Run) -> None:
    """A mistake in usage."""
    for option in (["--long"], ["--model", "m"], ["--since", "1h"], ["--grep", "x"]):
        told = casstore("ls", "--objects", *option, code=2).stderr
        assert told.startswith("casstore: --objects lists no entries: leave out the options that choose them")


def test_ls_shows_no_control_characters_of_an_entry(casstore: Run) -> None:
    """A label that came from elsewhere can neither steer the terminal nor forge a line."""
    add_entry(1, model="evil\x1b[2J\nforged\u202e")
    (line,) = casstore("ls").stdout.splitlines()
    assert line.endswith("evil\\x1b[2J forged\\u202e")


def test_ls_without_a_store_makes_none(casstore: Run) -> None:
    """It says how to begin one."""
    told = casstore("--store", "typo", "ls", code=1).stderr
    assert "there is no store at" in told
    assert "casstore init" in told
    casstore("--store", "typo", "ls", code=1)
