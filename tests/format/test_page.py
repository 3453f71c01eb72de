"""What designs/format.md shows: its example of a pack, and its commands for reading by hand."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from casstore.digest import digest_of
from casstore.store.codec import Codec
from casstore.store.pack import PackWriter
from tests.format.make_golden_packs import ANSWERS, GOLDEN, SECOND
from tests.format.reader import read_store, read_table

PAGE = Path(__file__).parents[2] / "designs" / "format.md"

needs_tools = pytest.mark.skipif(
    not all(map(shutil.which, ("bash", "zstd", "jq", "dd", "od"))), reason="a tool is not there"
)


def block(begin: str) -> str:
    """Return the indented block of the page that holds a text, its indentation taken off."""
    (found,) = (
        each for each in re.findall(r"(?:^    .*\n)+", PAGE.read_text(), re.MULTILINE) if begin in each
    )
    return "".join(f"{line[4:]}\n" for line in found.splitlines())


def bash(script: str, **values: object) -> str:
    """Run a script in the golden store, and return what it prints."""
    begin = "".join(f"{name}={value}\n" for name, value in values.items())
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", begin + script],
        cwd=GOLDEN,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout


def test_the_pack_on_the_page_is_the_one_that_is_written() -> None:
    """Every byte that the page shows stands in the pack of its example, and so does its name."""
    file = io.BytesIO()
    writer = PackWriter(file, Codec())
    for content in (b"hello\n", b"world\n"):
        writer.add(digest_of(content), content)
    pack = writer.finish()
    stored = file.getvalue()
    text = PAGE.read_text()
    assert f"{len(stored)} bytes; its name is `{pack.digest[:8]}…`" in text
    table, end = read_table(stored)
    assert (table, end) == (json.loads(block('{"lengths":[15,15]').replace("\n", "")), 30)
    shown = re.findall(r"^ *(\d+)  ((?:[0-9a-f]{2} ?)+)", block("of 154 bytes"), re.MULTILINE)
    assert [int(offset) for offset, _ in shown] == [0, 15, 30, 34, 38, 184, 188]
    for offset, digits in shown:
        expected = bytes.fromhex(digits)
        assert stored[int(offset) :][: len(expected)] == expected


@needs_tools
def test_the_commands_on_the_page_read_a_pack(tmp_path: Path) -> None:
    """Name, table of contents, dictionary, all contents and one object of a pack come out by hand."""
    reading = read_store(GOLDEN)
    answer = next(iter(SECOND.values()))
    digest = digest_of(answer)
    name = bash(block('select(.kind == "pack"'), object=digest).strip()
    names = [each for each, table in reading.packs.items() if digest in table["objects"]]
    assert name in names
    table = reading.packs[name]
    path = f"packs/{name[0]}/{name[1]}/{name}.zst"
    dictionary = table["dictionary"]
    script = block("tail -c $((length + 8))")
    script = re.sub(r" #.*", "", script).replace("PACK", path)
    script = script.replace(
        "objects/8/9/89324a86….zst", f"objects/{dictionary[0]}/{dictionary[1]}/{dictionary}.zst"
    )
    script = script.replace("table.json", f"{tmp_path}/table.json")
    script = re.sub(r"> dictionary", f"> {tmp_path}/dictionary", script)
    script = re.sub(r"-D dictionary", f"-D {tmp_path}/dictionary", script)
    first, second, rest = bash(script).split("\n", 2)
    assert first == f"{name}  {path}"
    assert second == dictionary
    assert rest.encode() == b"".join(reading.objects[each] for each in table["objects"])
    script = block("dd if=PACK").replace("PACK", path).replace("table.json", f"{tmp_path}/table.json")
    script = script.replace("-D dictionary", f"-D {tmp_path}/dictionary")
    assert bash(script, object=digest) == f"{hashlib.sha256(answer).hexdigest()}  -\n"


@needs_tools
def test_the_commands_on_the_page_read_the_manifest() -> None:
    """Segments, merged ones too, decode to their records; a loose object's file to its content."""
    script = block('select(.kind == "entry")').splitlines()[0]
    entries = [json.loads(line) for line in bash(script).splitlines()]
    assert {entry["key"] for entry in entries} >= set(map(str, ANSWERS))
    (path,) = (path for path in (GOLDEN / "objects").rglob("*.zst") if path.stat().st_size < 1000)
    assert bash(f"zstd -dcq {path} | sha256sum")[:64] == path.name[:64]
