"""What the tests of the HTTP layer share: a server on loopback, and a search of stores for credentials."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from casstore.inference.http.patching import uninstall
from tests.inference.http.loopback import Loopback, running_loopback

SECRET = "sk-secret-0123456789abcdef"
"""In whatever place a test puts a credential, it puts this one."""


@pytest.fixture
def loopback() -> Iterator[Loopback]:
    """Yield a server of the test's own."""
    with running_loopback() as server:
        yield server


@pytest.fixture(autouse=True)
def _libraries_as_they_were() -> Iterator[None]:
    """Leave httpx and httpx2 as they were, whatever a test did."""
    yield
    uninstall()


@pytest.fixture(autouse=True)
def _no_credential_is_stored(tmp_path: Path) -> Iterator[None]:
    """After each test, look for the credential in every byte of its stores, compressed or not."""
    yield
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert SECRET.encode() not in plain(path.read_bytes()), f"a credential in {path}"


def plain(content: bytes) -> bytes:
    """Return the content of a file together with what its zstd frames hold."""
    found, rest = content, content
    while rest.startswith(b"\x28\xb5\x2f\xfd"):
        decompressor = zstandard.ZstdDecompressor().decompressobj()
        try:
            found += decompressor.decompress(rest)
        except zstandard.ZstdError:  # a frame with a dictionary, or a file cut on purpose
            break
        rest = decompressor.unused_data
    return found
