"""``casstore ls``."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest

from casstore.catalog import listing
from casstore.catalog.index import put_claim
from casstore.catalog.records import Claim, Entry
from casstore.catalog.rows import claim_from
from casstore.digest import Digest, Key, digest_of
from casstore.repo.repository import Repository
from tests.cli.conftest import Run, add_entry
from tests.cli.exchanges import add_exchange
from tests.inference.reading.test_cassettes import cassette, streamed

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
    assert re.fullmatch(rf"{key}  {MOMENT}  +\d+ B  m-1  openai  0  {entry['object']}", line)


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


def test_ls_objects_says_where_each_lies_and_why_it_is_kept(casstore: Run) -> None:
    """Loose, and put by hand, an entry's answer, or its request."""
    key = add_entry(1)
    (entry,) = casstore("ls", "--json").json()
    digest = casstore("put", "-", stdin=b"hello\n").stdout.split()[0]
    rows = {row.split()[0]: row for row in casstore("ls", "--objects").stdout.splitlines()}
    assert re.fullmatch(rf"{digest}  {MOMENT}  +6 B  +\d+ B  loose  put", rows[digest])
    assert rows[entry["object"]].endswith("  loose  entry")
    assert rows[key].endswith("  loose  ref")
    infos = {info["digest"]: info for info in casstore("ls", "--objects", "--json").json()}
    assert set(infos) == {digest, entry["object"], key}
    assert set(infos[digest]) == {"digest", "size", "stored", "used", "pack", "why"}
    assert (infos[digest]["size"], infos[digest]["pack"], infos[digest]["why"]) == (6, None, ["put"])


def test_ls_objects_lists_what_a_colleague_pulled(casstore: Run) -> None:
    """In packs, dictionaries included; what somebody else put by hand is kept for nothing here."""
    for number in range(300):
        add_entry(number)
    digest = casstore("put", "-", stdin=b"hello\n").stdout.split()[0]
    casstore("push", "./remote")
    casstore("--store", "other", "pull", "./remote")
    infos = {
        info["digest"]: info for info in casstore("--store", "other", "ls", "--objects", "--json").json()
    }
    assert infos[digest]["why"] == []
    reasons = Counter(tuple(info["why"]) for info in infos.values())
    assert (reasons["entry",], reasons["ref",]) == (300, 300)
    packed = [info for info in infos.values() if info["pack"]]
    assert len(packed) >= 600
    told = casstore("--store", "other", "ls", "--objects").stdout
    assert len(told.splitlines()) == len(infos)
    assert "  pack   entry\n" in told
    assert "  nothing\n" in told


def test_ls_of_many_entries_begins_after_a_page(casstore: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first row costs a page of rows, however many there are; all come once, the oldest first."""
    casstore("init")
    read: list[Claim] = []

    def counted(row: Any) -> Claim:
        read.append(claim_from(row))
        return read[-1]

    monkeypatch.setattr(listing, "claim_from", counted)
    with Repository.open() as repo:
        claims = [
            Entry(Key(digest_of(b"%d" % number)), Digest("0" * 64), 0, (number * 7919) % 2503 + 1, {}, ())
            for number in range(2503)
        ]
        with repo.local.index.writing() as connection:
            for claim in claims:
                put_claim(connection, claim)
        rows = repo.entries_by_age()
        assert (next(rows)[0].created, len(read)) == (1, 1000)
        assert [entry.created for entry, _ in rows] == list(range(2, 2504))
        assert len(read) == 2503


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


def test_ls_searches_what_was_asked_and_said(casstore: Run) -> None:
    """By a regular expression, in the text and not in its JSON; rows come as they are found."""
    first = add_exchange("What is the capital of France?", "It is Paris,\nof course: ça va.")
    second = add_exchange("And of Italy?", "Rome.")
    for pattern, keys in (
        ("capital of (France|Spain)", [first]),
        ("Paris,\nof", [first]),
        ("ça", [first]),
        ("^Rome", [second]),
        (r"[.?]$", [first, second]),
        ("chat.completion", []),
    ):
        assert [row.split()[0] for row in casstore("ls", "--grep", pattern).stdout.splitlines()] == [
            key[:12] for key in keys
        ]
        assert [entry["key"] for entry in casstore("ls", "--grep", pattern, "--json").json()] == keys


def test_ls_searches_streams_and_calls_of_tools(casstore: Run) -> None:
    """A word that came in two pieces is one."""
    casstore("import", "-", stdin=cassette(streamed("Hel", "lo")))
    call = {"id": "c", "type": "function", "function": {"name": "look_up", "arguments": '{"city": "Rome"}'}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    choices = [{"index": 0, "message": message, "finish_reason": "tool_calls"}]
    add_exchange("hi", "", reply={"choices": choices})
    assert len(casstore("ls", "--grep", "^Hello$").stdout.splitlines()) == 1
    assert len(casstore("ls", "--grep", "look_up .*Rome").stdout.splitlines()) == 1


def test_ls_keeps_to_a_provider_and_a_time(casstore: Run) -> None:
    """A time ago, or a date."""
    add_exchange("one", "eins", url="https://api.mistral.ai/v1/chat/completions")
    key = add_exchange("one", "eins")
    assert [entry["key"] for entry in casstore("ls", "--provider", "openai", "--json").json()] == [key]
    assert len(casstore("ls", "--since", "90s").stdout.splitlines()) == 2
    assert len(casstore("ls", "--since", "2026-01-01").stdout.splitlines()) == 2
    assert casstore("ls", "--since", "2999-01-01T12:00").stdout == ""
    assert "neither a time ago" in casstore("ls", "--since", "yesterday", code=2).stderr
    assert "not a regular expression" in casstore("ls", "--grep", "(", code=2).stderr


def test_ls_does_not_fetch_what_it_searches(casstore: Run) -> None:
    """It says how many answers are not here; their requests came with the manifest, or did not."""
    add_exchange("one", "eins")
    casstore("push", "./remote")
    casstore("--store", "other", "pull", "./remote", "--manifest-only")
    told = casstore("--store", "other", "ls", "--grep", "eins")
    assert told.stdout == ""
    assert told.stderr.startswith("casstore: 1 entry could not be searched, as the answer is not here; ")
    assert casstore("--store", "other", "ls", "--json").json()[0]["size"] is None
