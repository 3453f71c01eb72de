"""The search for a credential: it finds one wherever a store may have put it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from casstore.repo.repository import Repository
from casstore.store.dictionaries import TRAINED_ON
from tests.credentials import SECRET, leaks
from tests.stores import MIB, answer, key, noise

HIDDEN = f"{__doc__} {SECRET[10:]}, {SECRET[:20]}, {SECRET}, and more words that compress. {__doc__}".encode()
"""What has the credential in it, so that none can be seen once it is compressed."""


def _alone(store: Repository) -> None:
    store.put(HIDDEN)


def _in_frames(store: Repository) -> None:
    store.put(bytes(5 * MIB) + HIDDEN)


def _packed(store: Repository) -> None:
    store.put(HIDDEN)
    store.put(b"another")
    assert store.repack().packs == 1


def _packed_with_a_dictionary(store: Repository) -> None:
    for number in range(2 * TRAINED_ON):
        store.put_entry(key(number), answer(number) * 3 + noise(8, number))
    store.put_entry(key(-1), answer(-1) * 3 + HIDDEN)
    assert store.repack().packs == 1
    assert store.local.index.dictionaries()


@pytest.mark.parametrize("put", [_alone, _in_frames, _packed, _packed_with_a_dictionary])
def test_a_credential_is_found(folder: Path, put: Callable[[Repository], None]) -> None:
    """In a file of its own, behind many frames, in a pack, in a pack with a dictionary."""
    with Repository.open(folder) as store:
        store.put(b"nothing of it")
        assert leaks(folder) == []
        put(store)
    (path,) = leaks(folder)
    assert SECRET.encode() not in path.read_bytes()


def test_a_credential_in_the_index_is_found(folder: Path) -> None:
    """Labels are not compressed there; they are so in a segment."""
    with Repository.open(folder) as store:
        store.put_entry(key(0), b"answer", labels={"by": SECRET})
    assert folder / "index.sqlite" in leaks(folder)


def test_a_credential_is_found_in_what_was_damaged(folder: Path) -> None:
    """A bad frame hides nothing that stands behind it, and a pack without its table none of its frames."""
    with Repository.open(folder) as store:
        store.put_entry(key(0), noise(50), created=1)
        store.put_entry(key(1), HIDDEN)
        store.repack()
    (path,) = leaks(folder)
    path.write_bytes(path.read_bytes()[10:-10])
    assert leaks(folder) == [path]
