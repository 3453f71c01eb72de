"""``casstore export`` and ``casstore import``."""

from __future__ import annotations

import itertools
import json
import os
import re
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from casstore.errors import BackendError
from casstore.repo.repository import Repository
from tests.cli.conftest import Run, add_entry
from tests.cli.exchanges import add_exchange
from tests.inference.http.replies import chat
from tests.inference.reading.test_cassettes import cassette, interaction


def lines(text: str) -> list[dict[str, Any]]:
    """Return JSON Lines."""
    return [json.loads(line) for line in text.splitlines()]


def test_export_writes_a_line_an_entry(casstore: Run) -> None:
    """Request, reply, text, usage and labels, the oldest entry first."""
    first, second = add_exchange("one", "eins"), add_exchange("two", "zwei")
    found = lines(casstore("export").stdout)
    assert [line["key"] for line in found] == [first, second]
    assert [line["text"] for line in found] == ["eins", "zwei"]
    assert found[0]["request"]["body"]["messages"] == [{"role": "user", "content": "one"}]
    assert found[0]["reply"] == chat("eins")
    assert found[0]["usage"] == {"input": 5, "output": 3, "cached": 2, "reasoning": 1}


def test_export_has_the_filters_of_ls(casstore: Run) -> None:
    """All of them together."""
    add_exchange("one", "eins", url="https://api.mistral.ai/v1/chat/completions")
    add_exchange("one", "eins", model="o3")
    key = add_exchange("one", "zwei")
    args = ["--provider", "openai", "--model", "gpt-4o", "--since", "1h", "--grep", "^zw"]
    assert [line["key"] for line in lines(casstore("export", *args).stdout)] == [key]
    assert casstore("export", "--grep", "drei").stdout == ""


def test_what_was_exported_comes_back_into_another_store(casstore: Run) -> None:
    """Under the same keys; what is there already stays."""
    keys = {add_exchange("one", "eins"), add_exchange("two", "zwei"), add_entry(1)}
    assert casstore("export", "-o", "e.jsonl").stdout == "wrote 3 entries to e.jsonl\n"
    assert casstore("--store", "other", "import", "e.jsonl").stdout == "imported 3 entries\n"
    with Repository.open() as one, Repository.open("other") as two:
        assert {entry.key for entry in two.entries()} == keys
        for key in keys:
            (a, content), (b, again) = one.read_entry(key), two.read_entry(key)
            assert (content, a.created, a.labels, a.refs) == (again, b.created, b.labels, b.refs)
    again_told = casstore("--store", "other", "import", "e.jsonl").stdout
    assert again_told == "imported 0 entries, 3 were here already\n"
    assert casstore("--store", "other", "export").stdout.count("\n") == 3


def test_the_answer_that_was_first_given_stands_for_all(casstore: Run) -> None:
    """It is imported in one place, while another has a later one; once they meet, both have the first."""
    key = add_exchange("one", "eins")
    casstore("export", "-o", "e.jsonl")
    with Repository.open() as here, Repository.open("later") as later:
        first = here.entry(key)
        later.put_entry(key, b"later", created=first.created + 1)
    casstore("--store", "importing", "import", "e.jsonl")
    for name in ("later", "importing", "later"):
        casstore("--store", name, "push", "./team")
        casstore("--store", name, "pull", "./team")
    for name in ("later", "importing"):
        with Repository.open(name) as store:
            assert store.entry(key) == first


def test_import_reads_standard_input(casstore: Run) -> None:
    """As casstore export | ssh ... casstore import - does."""
    add_exchange("one", "eins")
    written = casstore("export").raw
    assert casstore("--store", "other", "import", "-", stdin=written).stdout == "imported 1 entry\n"


def test_import_reads_a_pipe_once(casstore: Run, home: Path) -> None:
    """Whoever writes into it is not cut off by a first look at it."""
    add_exchange("one", "eins")
    written = casstore("export").raw
    os.mkfifo(home / "pipe")
    writer = threading.Thread(target=(home / "pipe").write_bytes, args=[written], daemon=True)
    writer.start()
    assert casstore("--store", "other", "import", "pipe").stdout == "imported 1 entry\n"
    writer.join()


def test_import_refuses_what_was_changed_and_takes_the_rest(casstore: Run) -> None:
    """It names the line, and exits with 1."""
    add_exchange("one", "eins")
    add_exchange("two", "zwei")
    first, second = casstore("export").stdout.splitlines()
    Path("e.jsonl").write_text(f"{first.replace('eins', 'null')}\n\nnonsense\n{second}\n", "utf-8")
    told = casstore("--store", "other", "import", "e.jsonl", code=1)
    assert told.stdout == "imported 1 entry\n"
    one, three = told.stderr.splitlines()
    assert one.startswith("casstore: e.jsonl: line 1: the answer to ")
    assert three.startswith("casstore: e.jsonl: line 3: not JSON")


def test_import_says_which_keys_are_taken_on_trust(casstore: Run) -> None:
    """Those without their request."""
    with Repository.open() as repo:
        repo.put_entry(add_entry(1), b"{}", labels={}, replace=True)
    casstore("export", "-o", "e.jsonl")
    told = casstore("--store", "other", "import", "e.jsonl").stdout
    assert told == "imported 1 entry\n1 came without its request: its key is taken on trust\n"


def test_import_takes_cassettes(casstore: Run) -> None:
    """Several at once; what a call would not have stored is counted with the reason."""
    Path("cassette.yaml").write_bytes(cassette(interaction(), interaction(status=500)))
    Path("cassette.json").write_text(
        json.dumps({"interactions": [interaction(body="{}")], "version": 1}), "utf-8"
    )
    told = casstore("import", "cassette.yaml", "cassette.json").stdout
    assert told == "imported 2 entries\nnot imported: 1 status (the first: the status is 500)\n"
    fields = casstore("import", "cassette.yaml", "no-such.yaml", "--json", code=1).json()
    assert fields == {
        "imported": 0,
        "present": 1,
        "unproven": 0,
        "skipped": {"status": 1},
        "failures": [{"name": "no-such.yaml", "reason": "No such file or directory"}],
    }


def test_import_gives_cassettes_the_keys_of_a_program_s_settings(casstore: Run) -> None:
    """The namespace and the tag are in the keys, and in the labels."""
    Path("cassette.yaml").write_bytes(cassette(interaction()))
    for options in ([], ["--namespace", "n"], ["--tag", "t"], ["--alias", "api.openai.com=proxy"]):
        assert casstore("import", *options, "cassette.yaml").stdout == "imported 1 entry\n"
    labels = [entry["labels"] for entry in casstore("ls", "--json").json()]
    assert [label.get("namespace") or label.get("tag") or label["host"] for label in labels] == [
        *("api.openai.com", "n", "t", "proxy")
    ]


def test_import_of_what_is_no_recording_is_one_line(casstore: Run) -> None:
    """And exit code 1."""
    Path("x.txt").write_text("hello", "utf-8")
    told = casstore("import", "x.txt", code=1)
    accepted = "casstore import reads what casstore export wrote, and cassettes of vcrpy in YAML or JSON"
    assert told.stderr == f"casstore: x.txt: it has no interactions; {accepted}\n"
    assert told.stdout == ""


@pytest.mark.parametrize("yaml", [True, False])
@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "it is empty; "),
        (b" \n", "it is empty; "),
        (b"\x89PNG\r\n\x00\x00", "it is not text; "),
        (b"\xff\xfe", "it is not text; "),
        (b'{"interactions": [\n{"request": 7]}', "it is no JSON: .*line 2 column 14"),
        (b'{"a": 1}', "it has no interactions; "),
        (b"a,b\n1,2\n", "it has no interactions; "),
        (b'{"casstore": 1, "kind": "entry"\n', "not JSON: .*column "),
    ],
)
def test_import_names_the_file_and_what_is_wrong(
    casstore: Run, monkeypatch: pytest.MonkeyPatch, content: bytes, told: str, *, yaml: bool
) -> None:
    """Whether PyYAML is there or not, which would not help; and the next file is taken."""
    if not yaml:
        monkeypatch.setitem(sys.modules, "yaml", None)
    Path("broken").write_bytes(content)
    Path("cassette.json").write_text(json.dumps({"interactions": [interaction(body="{}")]}), "utf-8")
    found = casstore("import", "broken", "cassette.json", code=1)
    assert re.search(rf"^casstore: broken:( line 1:)? {told}", found.stderr)
    assert "PyYAML" not in found.stderr
    assert found.stdout == "imported 1 entry\n"


def test_import_of_yaml_without_pyyaml_names_the_file(casstore: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the others are taken."""
    monkeypatch.setitem(sys.modules, "yaml", None)
    Path("a.yaml").write_bytes(b"interactions: []")
    Path("cassette.json").write_text(json.dumps({"interactions": [interaction(body="{}")]}), "utf-8")
    found = casstore("import", "a.yaml", "cassette.json", code=1)
    assert found.stderr.startswith("casstore: a.yaml: a cassette in YAML needs PyYAML")
    assert found.stdout == "imported 1 entry\n"


def test_import_of_no_file_makes_no_store(casstore: Run) -> None:
    """A name that was mistyped, or is a folder's, leaves nothing behind."""
    told = casstore("import", "nofile", ".", code=1)
    assert told.stderr == "casstore: nofile: No such file or directory\ncasstore: .: Is a directory\n"
    assert told.stdout == ""
    assert not Path("store").exists()


def test_import_that_ends_early_says_what_came_in(casstore: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk is full, say."""
    add_entry(1)
    add_entry(2)
    casstore("export", "-o", "e.jsonl")
    put, calls = Repository.put_entry, itertools.count()

    def full(self: Repository, *args: Any, **more: Any) -> Any:
        if next(calls):
            raise BackendError("cannot write: no space left", transient=False)
        return put(self, *args, **more)

    monkeypatch.setattr(Repository, "put_entry", full)
    told = casstore("--store", "other", "import", "e.jsonl", code=1)
    assert (told.stdout, told.stderr) == (
        "imported 1 entry\n",
        "casstore: e.jsonl: cannot write: no space left\n",
    )


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_export_into_a_folder_says_so(casstore: Run, home: Path, force: list[str]) -> None:
    """Whether it is there or not; and one that is missing is named."""
    add_entry(1)
    (home / "folder").mkdir()
    for name in ("folder", "folder/", "none/"):
        told = casstore("export", "-o", name, *force, code=1).stderr
        assert told == f"casstore: {name} is the name of a folder: -o takes that of a file\n"
    told = casstore("export", "-o", "none/e.jsonl", *force, code=1).stderr
    assert told == "casstore: there is no folder none to write to; make it first\n"
    assert {path.name for path in home.iterdir()} == {"folder", "store"}


def test_export_leaves_a_file_alone_without_force(casstore: Run) -> None:
    """And leaves no unfinished one."""
    add_entry(1)
    Path("e.jsonl").write_text("mine", "utf-8")
    assert "--force" in casstore("export", "-o", "e.jsonl", code=1).stderr
    assert Path("e.jsonl").read_text("utf-8") == "mine"
    casstore("export", "-o", "e.jsonl", "--force")
    assert len(lines(Path("e.jsonl").read_text("utf-8"))) == 1
    assert [path.name for path in Path().glob("*e.jsonl*")] == ["e.jsonl"]
    assert "needs -o FILE" in casstore("export", "--json", code=2).stderr


def test_export_says_what_is_nowhere_to_be_had(casstore: Run) -> None:
    """And exits with 1."""
    add_entry(1)
    digest = casstore("ls", "--json").json()[0]["object"]
    casstore("delete", "--force", digest)
    add_entry(2)
    told = casstore("export", "-o", "e.jsonl", "--json", code=1)
    assert (told.json()["entries"], told.json()["left"]) == (1, 1)
    assert "nowhere to be had" in told.stderr
