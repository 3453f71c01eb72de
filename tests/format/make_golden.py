"""Makes the golden store of this format version: ``python -m tests.format.make_golden FOLDER``.

The store under ``golden/`` was made once and stays as it is for as long as its version can be read; this
script shows how, and says what is in it. It is run again only for a new version, into a new folder. Contents
and times are fixed; compressed bytes may differ with zstandard's version, which the format allows.
"""

from __future__ import annotations

import itertools
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from casstore.digest import Key, digest_of
from casstore.repo.repository import Repository

GOLDEN = Path(__file__).parent / "golden"

FIRST_MOMENT = 1_700_000_000_000
LONG = b"".join(b"line %07d of an object in two frames\n" % number for number in range(200)) * 720
"""5,616,000 bytes: more than one frame."""

PUT_BY_HAND = (b"put by hand\n", LONG)
REQUEST = b'{"messages":[{"content":"What is a segment?","role":"user"}],"model":"m-1"}'
RANDOM = b"".join(bytes.fromhex(digest_of(b"%d" % number)) for number in range(20))
"""640 bytes that do not compress."""


def key(name: str) -> Key:
    """Return the key that the golden store files a name under."""
    return Key(digest_of(name.encode()))


ANSWERS: dict[Key, bytes] = {
    key("plain"): b'{"text":"An immutable batch of records."}',
    key("empty"): b"",
    key("incompressible"): RANDOM,
    key("with refs"): b'{"text":"One file."}',
    key("refreshed"): b"the second answer",
    key("forgotten, then asked again"): b"a new answer",
    key("not yet in a segment"): b"only the journal knows this",
    key("large"): LONG[: 4 * 1024 * 1024],
}
"""What a reader of the whole store finds."""

FORGOTTEN = key("forgotten")
UNPUBLISHED = (key("not yet in a segment"), key("forgotten later"))
"""Keys that only the journal speaks of, so that a store that pulls from this one does not learn of it."""


def make(root: Path, remote: Path) -> None:
    """Make the golden store in a folder; `remote` is one to throw away."""
    with _ticking(), Repository.open(root) as store:
        for content in PUT_BY_HAND:
            store.put(content)
        store.put_entry(key("plain"), ANSWERS[key("plain")], labels={"model": "m-1", "cost": {"usd": 0.25}})
        store.put_entry(key("empty"), b"")
        store.put_entry(key("incompressible"), RANDOM)
        store.put_entry(key("with refs"), ANSWERS[key("with refs")], refs=[REQUEST, b"an image, say"])
        store.put_entry(key("refreshed"), b"the first answer", labels={"n": 1})
        store.put_entry(FORGOTTEN, b"nobody will see this")
        store.put_entry(key("forgotten, then asked again"), b"an old answer")
        store.put_entry(key("forgotten later"), b"seen by who pulls from here")
        store.put_entry(key("large"), ANSWERS[key("large")])
        store.push(remote.as_uri())
        store.put_entry(key("refreshed"), ANSWERS[key("refreshed")], labels={"n": 2, "é": "ü"}, replace=True)
        store.forget(FORGOTTEN)
        store.forget(key("forgotten, then asked again"))
        store.put_entry(key("forgotten, then asked again"), ANSWERS[key("forgotten, then asked again")])
        store.push(remote.as_uri())
        store.put_entry(key("not yet in a segment"), ANSWERS[key("not yet in a segment")])
        store.forget(key("forgotten later"))


@contextmanager
def _ticking() -> Iterator[None]:
    """Let a second pass with each look at the clock, from a fixed moment on."""
    moments = itertools.count(FIRST_MOMENT, 1000)
    with (
        patch("casstore.repo.local.now", lambda: next(moments)),
        patch("casstore.repo.content.now", lambda: next(moments)),
    ):
        yield


def main(target: Path) -> None:
    """Make the store, and leave out what no format governs."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "store"
        make(root, Path(folder) / "remote")
        for path in root.glob("index.sqlite*"):
            path.unlink()
        for name in ("tmp", "rebuild.lock", "index.lock"):
            path = root / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        _cut_off(root / "journal")
        shutil.copytree(root, target)


def _cut_off(journal: Path) -> None:
    """Leave the journal as a process does that is killed while it appends a line."""
    (path,) = journal.iterdir()
    content = path.read_bytes()
    path.unlink()
    (journal / "1-000000000000.log").write_bytes(content + content[:100])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
