"""``casstore put``."""

from __future__ import annotations

import os
import subprocess
import threading
from hashlib import sha256
from pathlib import Path

from tests.cli.conftest import Run

HELLO = sha256(b"hello\n").hexdigest()


def test_put_prints_what_sha256sum_would(casstore: Run, home: Path) -> None:
    """DIGEST, two spaces, PATH; names are bytes and need be no text."""
    (home / "a.txt").write_bytes(b"hello\n")
    odd = os.fsdecode(b"b \xff.txt")
    Path(odd).write_bytes(b"hello\n")
    assert casstore("put", "a.txt", odd).raw == f"{HELLO}  a.txt\n{HELLO}  ".encode() + b"b \xff.txt\n"


def test_put_escapes_a_name_that_is_no_line(casstore: Run, home: Path) -> None:
    """Each file is one line, which sha256sum reads back."""
    for name in ("two\nlines", "back\\slash", "return\r", "plain"):
        (home / name).write_bytes(b"hello\n")
    printed = casstore("put", "two\nlines", "back\\slash", "return\r", "plain").raw
    assert printed.split(b"\n") == [
        f"\\{HELLO}  two\\nlines".encode(),
        f"\\{HELLO}  back\\\\slash".encode(),
        f"\\{HELLO}  return\\r".encode(),
        f"{HELLO}  plain".encode(),
        b"",
    ]
    # coreutils before 9 does not know the escape of a carriage return
    (home / "sums").write_bytes(b"".join(row for row in printed.splitlines(True) if b"return" not in row))
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "sums"], check=True, cwd=home)


def test_a_name_that_is_no_line_forges_no_note(casstore: Run) -> None:
    """A failure is one line on standard error, whatever the name."""
    told = casstore("put", "no\ncasstore: forged", code=1).stderr
    assert told == "casstore: no\\ncasstore: forged: No such file or directory\n"


def test_put_reads_standard_input(casstore: Run) -> None:
    """Byte for byte, whatever the bytes."""
    content = bytes(range(256)) * 1000
    digest = sha256(content).hexdigest()
    assert casstore("put", "-", stdin=content).stdout == f"{digest}  -\n"
    assert casstore("cat", digest).raw == content


def test_put_reads_a_pipe(casstore: Run, home: Path) -> None:
    """What can be read only once, as a shell's ``<(...)``."""
    os.mkfifo(home / "pipe")
    writer = threading.Thread(target=(home / "pipe").write_bytes, args=(b"hello\n",))
    writer.start()
    assert casstore("put", "pipe").stdout == f"{HELLO}  pipe\n"
    writer.join()


def test_put_goes_on_after_a_file_that_fails(casstore: Run, home: Path) -> None:
    """Each failure is a line; the others are stored; the exit code tells."""
    (home / "a.txt").write_bytes(b"hello\n")
    (home / "folder").mkdir()
    outcome = casstore("put", "nowhere", "folder/", "a.txt", code=1)
    assert outcome.stdout == f"{HELLO}  a.txt\n"
    assert outcome.stderr == (
        "casstore: nowhere: No such file or directory\ncasstore: folder/: is a folder; name files: folder/*\n"
    )


def test_put_wants_a_file(casstore: Run) -> None:
    """Nothing to put is a mistake in usage."""
    told = casstore("put", code=2).stderr
    assert told == "casstore: Missing argument 'FILE...'; see casstore put --help\n"
