"""A search for a credential in all that a test left behind, compressed or not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from casstore.errors import IntegrityError
from casstore.store.layout import PACKS
from casstore.store.pack import read_contents

SECRET = "sk-secret-0123456789abcdef"
"""In whatever place a test puts a credential, it puts this one."""

_FRAME = b"\x28\xb5\x2f\xfd"


@pytest.fixture(autouse=True)
def no_credential_is_stored(tmp_path: Path) -> Iterator[None]:
    """After each test, look for the credential in every byte of its stores and of what it wrote besides.

    Not in files called cassettes, which tests hand in with all that was recorded.
    """
    yield
    assert leaks(tmp_path) == []


def leaks(folder: Path) -> list[Path]:
    """Return the files below a folder that hold the credential."""
    paths = (path for path in folder.rglob("*") if "cassette" not in path.name and path.is_file())
    return [path for path in paths if SECRET.encode() in plain(path)]


def plain(path: Path) -> bytes:
    """Return the content of a file together with what its zstd frames hold."""
    content = path.read_bytes()
    dictionary = _dictionary(path)
    return content + b"".join(_frames(content, dictionary))


def _frames(content: bytes, dictionary: zstandard.ZstdCompressionDict | None = None) -> Iterator[bytes]:
    # From one beginning of a frame to the next: so what stands behind a frame cut on purpose is seen, too.
    for found in re.finditer(re.escape(_FRAME), content):
        decompressor = zstandard.ZstdDecompressor(dict_data=dictionary).decompressobj()
        try:
            yield decompressor.decompress(content[found.start() :])
        except zstandard.ZstdError:
            continue


def _dictionary(path: Path) -> zstandard.ZstdCompressionDict | None:
    """Return what the frames of a pack need."""
    if path.parent.parent.parent.name != PACKS:
        return None
    try:
        digest = read_contents(path).dictionary
    except IntegrityError:  # a pack cut on purpose
        return None
    if digest is None:
        return None
    (stored,) = path.parents[3].glob(f"objects/*/*/{digest}.zst")
    return zstandard.ZstdCompressionDict(b"".join(_frames(stored.read_bytes())))
