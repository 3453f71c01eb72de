"""``casstore explain``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run, add_entry
from tests.cli.exchanges import add_exchange
from tests.credentials import SECRET
from tests.inference.reading.asking import URL


def call(question: str, **more: Any) -> dict[str, Any]:
    """Return the parameters of an SDK's call."""
    return {"model": "gpt-4o", "messages": [{"role": "user", "content": question}], **more}


def write(value: object) -> str:
    """Write a request into a file, and return its name."""
    Path("request.json").write_text(json.dumps(value), "utf-8")
    return "request.json"


def test_explain_tells_a_hit_and_what_its_key_is_made_of(casstore: Run) -> None:
    """Of an HTTP request, of an SDK's call, and of what show prints."""
    key = add_exchange("hello", "hi")
    request = {"url": URL, "headers": {"Authorization": SECRET}, "body": call("hello")}
    told = casstore("explain", write(request))
    assert told.stdout.startswith(f"hit\nkey: {key}\nnot in the key: header authorization\ncreated: ")
    assert '\n  path       "/v1/chat/completions"\n' in told.stdout
    assert SECRET not in told.stdout + told.stderr
    assert casstore("explain", "--provider", "openai", write(call("hello"))).stdout.startswith("hit\n")
    stored = casstore("show", key, "--json").json()["request"]
    assert casstore("explain", "-", stdin=json.dumps(stored).encode()).stdout.startswith("hit\n")


def test_explain_tells_a_miss_and_the_nearest_request(casstore: Run) -> None:
    """With the paths at which it differs."""
    key = add_exchange("hello", "hi", temperature=0)
    told = casstore("explain", "--provider", "openai", write(call("hello", temperature=1, top_p=0.5))).stdout
    assert told.startswith("miss: nothing is stored for this key\nkey: ")
    assert f"\nnearest: {key} (1 stored request compared)\n" in told
    assert "\n  $.body.temperature: stored 0, asked 1\n  $.body.top_p: only asked: 0.5\n" in told


def test_explain_json_tells_differences(casstore: Run) -> None:
    """Whole, for programs."""
    key = add_exchange("hello", "hi")
    found = casstore("explain", "--provider", "openai", write(call("hallo")), "--json").json()
    assert (found["state"], found["reason"], found["compared"], found["unread"]) == ("miss", "absent", 1, 0)
    assert found["material"]["body"] == call("hallo")
    assert found["nearest"]["key"] == key
    assert found["nearest"]["differences"] == [
        {
            "path": "$.body.messages[0].content",
            "what": "changed",
            "stored": "hello",
            "asked": "hallo",
            "at": 1,
        }
    ]


def test_explain_tells_why_a_request_passes_by(casstore: Run) -> None:
    """And how it would not."""
    casstore("init")
    name = write(call("hello", stream=True))
    told = casstore("explain", "--provider", "openai", name)
    assert told.stdout == "passed: streams are not recorded\n"
    assert "--streams" in told.stderr
    assert casstore("explain", "--provider", "openai", "--streams", name).stdout.startswith("miss")


@pytest.mark.parametrize(
    "options",
    [
        ["--namespace", "mine"],
        ["--sample", "1"],
        ["--tag", "mine"],
        ["--alias", "api.openai.com=mine"],
        ["--ignore-field", "model"],
    ],
)
def test_explain_takes_what_a_program_sets(casstore: Run, options: list[str]) -> None:
    """All of it is in the key."""
    add_exchange("hello", "hi")
    assert casstore("explain", "-p", "openai", *options, write(call("hello"))).stdout.startswith("miss")


def test_explain_says_what_a_request_is(casstore: Run) -> None:
    """Where it was given something else."""
    add_entry(1)
    assert "name the provider" in casstore("explain", write(call("hello")), code=1).stderr
    told = casstore("explain", "-", stdin=b"nonsense", code=1).stderr
    assert told.startswith("casstore: standard input: a request is one JSON object, and this is no JSON: ")
    Path("list.json").write_text("[]", "utf-8")
    told = casstore("explain", "list.json", code=1).stderr
    assert told == "casstore: list.json: a request is one JSON object\n"
    assert "no-such.json" in casstore("explain", "no-such.json", code=1).stderr
    assert "HOST=HOST" in casstore("explain", "--alias", "x", write(call("hello")), code=2).stderr


def test_explain_shows_no_control_characters_of_a_stored_request(casstore: Run) -> None:
    """What came from elsewhere does not steer the terminal."""
    add_exchange("\x1b[2J\u202e", "hi")
    told = casstore("explain", "-p", "openai", write(call("x"))).stdout
    assert "\x1b" not in told
    assert "\u202e" not in told
