"""``casstore show`` and ``casstore forget``."""

from __future__ import annotations

import json
import re

import pytest

from casstore.digest import Key
from casstore.repo.repository import Repository
from tests.cli.conftest import Run, add_entry, request_of
from tests.cli.exchanges import add_exchange
from tests.inference.reading.test_cassettes import cassette, streamed


def put(content: bytes) -> Key:
    """Store an entry without a request."""
    key = Key("ab" * 32)
    with Repository.open() as repo:
        repo.put_entry(key, content)
    return key


def test_show_tells_labels_request_and_response(casstore: Run) -> None:
    """As a conversation."""
    key = add_entry(1, cost=0.5, usage={"input": 9})
    entry = casstore("ls", "--json").json()[0]
    assert casstore("show", key).stdout.split("\n", 3)[3] == (
        """\
generation  0
cost        0.5
model       m-1
provider    openai
usage       {"input": 9}

request
  model: m-1

  user
    question 1

response
  assistant
    answer 1
"""
    )
    shown = casstore("show", key).stdout
    assert shown.startswith(
        f"key         {key}\nobject      {entry['object']}  ({entry['size']} B)\ncreated     "
    )


@pytest.mark.parametrize(
    ("answered", "told"), [("m-1-0613", "m-1, answered by m-1-0613"), ("m-1", "m-1"), ("", "m-1")]
)
def test_show_names_the_model_that_answered_beside_the_one_asked(
    casstore: Run, answered: str, told: str
) -> None:
    """Where it has another name; JSON has the labels as they are."""
    key = add_entry(1, answered_by=answered)
    shown = casstore("show", key).stdout
    assert f"\nmodel       {told}\n" in shown
    assert "answered_by" not in shown
    assert casstore("show", key, "--json").json()["labels"]["answered_by"] == answered


def test_show_tells_a_conversation_of_any_provider(casstore: Run) -> None:
    """Options, calls of tools, images by their size; nothing steers the terminal."""
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{'iVBORw0KGgo' * 4000}"}}
    question = [{"type": "text", "text": "what is \x1b[2J this?"}, image]
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": question}]
    tools = [{"type": "function", "function": {"name": "look", "parameters": {}}}]
    key = add_exchange("", "a cat", messages=messages, tools=tools, temperature=0)
    shown = casstore("show", key).stdout.partition("\nrequest\n")[2]
    assert re.sub(r"object [0-9a-f]{12}", "object …", shown) == (
        """\
  POST api.openai.com/v1/chat/completions
  model: gpt-4o
  temperature: 0
  tools: ["look"]

  system
    be brief

  user
    what is \\x1b[2J this?
    (image/png, (33,000 bytes, object …))

response
  assistant
    a cat
"""
    )


def test_show_puts_a_stream_together(casstore: Run) -> None:
    """As a conversation, and as stored on request."""
    casstore("import", "-", stdin=cassette(streamed("Hel", "lo")))
    key = casstore("ls", "--json").json()[0]["key"]
    assert casstore("show", key).stdout.endswith("\nresponse\n  assistant\n    Hello\n")
    raw = casstore("show", key, "--raw").stdout
    assert "data: " in raw
    assert '"delta"' in raw


def test_show_json_has_stable_fields(casstore: Run) -> None:
    """Those of ls, with the request and the response as JSON where they are."""
    key = add_entry(1)
    shown, listed = casstore("show", key, "--json").json(), casstore("ls", "--json").json()[0]
    assert shown == listed | {
        "request": json.loads(request_of(1)),
        "response": [
            {"casstore": 1, "kind": "response", "text": "answer 1", "model": "m-1"},
            {"id": "reply"},
        ],
        "response_kind": "lines",
        "asked": [{"role": "user", "parts": [{"kind": "text", "text": "question 1", "name": ""}]}],
        "said": [{"role": "assistant", "parts": [{"kind": "text", "text": "answer 1", "name": ""}]}],
    }


@pytest.mark.parametrize(
    ("content", "kind", "value", "shown"),
    [
        (b'{"a": [1, 2.5]}', "json", {"a": [1, 2.5]}, '  {\n    "a": [\n      1,\n      2.5\n    ]\n  }\n'),
        ("grüße\n".encode(), "text", "grüße\n", "  grüße\n\n"),
        (b'{"a": 1}\n\x1b[2J', "lines", [{"a": 1}, "\x1b[2J"], '  {\n    "a": 1\n  }\n  \\x1b[2J\n'),
        (b"\xff\x00", "binary", None, "  (2 bytes that are no text; casstore cat writes them)\n"),
        (b"nul\x00", "binary", None, "  (4 bytes that are no text; casstore cat writes them)\n"),
        (b"[" * 100_000, "text", "[" * 100_000, f"  {'[' * 100_000}\n"),
    ],
)
def test_show_reads_whatever_is_stored(
    casstore: Run, content: bytes, kind: str, value: object, shown: str
) -> None:
    """JSON, text and JSON Lines are shown, other bytes are not, and none steers the terminal."""
    key = put(content)
    fields = casstore("show", key, "--json").json()
    assert (fields["response_kind"], fields["response"], fields["request"]) == (kind, value, None)
    assert casstore("show", key).stdout.partition("\nresponse\n")[2] == shown


def test_show_takes_the_beginning_of_a_key(casstore: Run) -> None:
    """At least four digits, in any case; an unknown one, or none at all, fails in one line."""
    key = put(b"{}")
    assert casstore("show", "ABAB", "--json").json()["key"] == key
    assert casstore("show", "cdcd", code=1).stderr.startswith("casstore: no ")
    assert casstore("show", "ab", code=1).stderr.startswith("casstore: not a key")
    assert casstore("show", "../x", code=1).stderr.startswith("casstore: not a key")


def test_show_of_an_object_s_digest_says_what_it_is(casstore: Run) -> None:
    """Both are 64 digits, and ``ls --long`` shows both."""
    put(b"{}")
    digest = casstore("ls", "--json").json()[0]["object"]
    told = casstore("show", digest, code=1).stderr
    assert told.startswith(
        f"casstore: {digest} is the digest of an object, not a key: casstore cat prints it"
    )
    told = casstore("show", "0" * 64, code=1).stderr
    assert told == f"casstore: no entry has a key that begins with {'0' * 64}\n"


def test_show_fetches_the_response_from_a_remote(casstore: Run) -> None:
    """An entry known by its manifest alone is whole again."""
    key = add_entry(1)
    casstore("push", "./remote")
    casstore("--store", "other", "pull", "./remote", "--manifest-only")
    assert casstore("--store", "other", "ls", "--json").json()[0]["size"] is None
    assert casstore("--store", "other", "show", key, "--json").json()["response_kind"] == "lines"


def test_show_without_the_response_says_so(casstore: Run) -> None:
    """The rest of the entry is shown all the same."""
    key = put(b"{}")
    digest = casstore("ls", "--json").json()[0]["object"]
    casstore("delete", "--force", digest)
    outcome = casstore("show", key)
    assert outcome.stderr.startswith("casstore: the response is not here: ")
    assert "\nresponse" not in outcome.stdout
    assert casstore("show", key, "--json").json()["response_kind"] == "absent"


def test_forget_ends_entries(casstore: Run) -> None:
    """By the beginning of their keys; nothing is forgotten unless every one is found."""
    one, two, three = (add_entry(number) for number in range(3))
    casstore("forget", one[:10], "0" * 64, code=1)
    assert len(casstore("ls", "--json").json()) == 3
    assert casstore("forget", one[:10], two).stdout == f"forgot {one}\nforgot {two}\n"
    assert [entry["key"] for entry in casstore("ls", "--json").json()] == [three]
